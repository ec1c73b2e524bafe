"""Published figures as the plain rows that analysis sets beside a study."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from search_spaces.figures import published


def published_rows(study: str) -> list[dict[str, Any]]:
    """Return the published figures a study may be set beside: its own where it has the name of a published study.

    Returns:
        One row a figure, in the source's order: the fields of search_spaces.figures.Figure, ``study`` (the published
        one's name) and ``config`` (what it trains, as plain values).
    """
    found = published()
    found = [source for source in found if source.study == study] or found
    return [
        {"study": source.study, "config": source.configs[figure.run].to_dict(), **asdict(figure)}
        for source in found
        for figure in source.figures
    ]
