"""URIs of stores, as they may be shown. Standard library only."""

from __future__ import annotations

import re


def without_password(text: str) -> str:
    """Return a text with its URIs as they may be shown: what stands for a password becomes ``***``.

    >>> without_password("postgresql://me:secret@host/runs")
    'postgresql://me:***@host/runs'
    """
    # As far as the last @: a password may have characters that should have been quoted.
    text = re.sub(r"([a-z][a-z0-9+.-]*://[^/?#\s:@]*):\S*@", r"\1:***@", text, flags=re.IGNORECASE)
    return re.sub(r"([?&](?:ssl)?password=)[^&#\s]*", r"\1***", text, flags=re.IGNORECASE)
