"""URIs of stores: as they may be shown, and as SQLAlchemy is to have them. Standard library only."""

from __future__ import annotations

import re


def with_psycopg2(uri: str) -> str:
    """Return a URI of PostgreSQL with its driver: which one a plain one means depends on SQLAlchemy's version.

    >>> with_psycopg2("postgresql://me@host/runs")
    'postgresql+psycopg2://me@host/runs'
    """
    return uri.replace("postgresql://", "postgresql+psycopg2://", 1)


def without_password(text: str) -> str:
    """Return a text with its URIs as they may be shown: what stands for a password becomes ``***``.

    >>> without_password("postgresql://me:secret@host/runs")
    'postgresql://me:***@host/runs'
    """
    # As far as the last @: a password may have characters that should have been quoted.
    text = re.sub(r"((?:[a-z][a-z0-9+.-]*://)?[^/?#\s:@]*):(?!//)\S*@", r"\1:***@", text, flags=re.IGNORECASE)
    text = text.replace("postgresql+psycopg2://", "postgresql://")  # as people write it
    return re.sub(r"([?&](?:ssl)?password=)[^&#\s]*", r"\1***", text, flags=re.IGNORECASE)
