"""The common form of all sources: rows, each one epoch of a trial, not checked yet."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sweeps.errors import InputError


@dataclass(frozen=True)
class Row:
    """One epoch of one trial, as it stands in its source.

    Attributes:
        place: the file and the line of the row, for messages.
        values: the values that are not empty, by the name of their column or key; text if the source has only text.
    """

    place: str
    values: dict[str, Any]


@dataclass(frozen=True)
class Source:
    """The rows of a file or folder.

    Attributes:
        path: the file or folder.
        sha256: SHA-256 of the file's content; for a folder, of the names and contents of its files.
        rows: the rows in the order of the source; at least one.
        columns: names of all columns or keys, in the order of their first appearance.

    Raises:
        InputError: there is no row.
    """

    path: Path
    sha256: str
    rows: list[Row]
    columns: list[str] = field(init=False)

    def __post_init__(self) -> None:
        if not self.rows:
            raise InputError(f"{self.path}: no epoch in it; expected a line an epoch")
        object.__setattr__(self, "columns", list(dict.fromkeys(name for row in self.rows for name in row.values)))
