"""A queue on disk, a file of JSON lines, for items that cannot be written to their destination yet."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

_log = logging.getLogger(__name__)


class Spool:
    """Items in order, in a file to which lines are appended. The file exists only while items wait.

    Call ``read`` before the first ``append``: an earlier process may have left items.

    An appended item survives a kill of the process and a crash of the machine. A last line that was written only in
    part counts as not written.

    Args:
        path: the file; ``append`` creates it and its folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._length: int  # bytes of complete lines; the file may be longer after a failed write

    def read(self) -> list[dict[str, Any]]:
        """Return the items, oldest first; a damaged line is skipped with a warning."""
        data = self.path.read_bytes() if self.path.exists() else b""
        self._length = data.rfind(b"\n") + 1
        items = []
        for number, line in enumerate(data[: self._length].splitlines(), start=1):
            try:
                items.append(json.loads(line))
            except ValueError as error:
                _log.warning("%s, line %d is damaged and passed over: %s", self.path, number, error)
        return items

    def append(self, items: Iterable[dict[str, Any]]) -> None:
        """Append items of JSON values and sync them to the disk; all of them or none.

        Raises:
            OSError: the items could not be written, for example on a full disk; earlier items are unchanged.
        """
        lines = b"".join(json.dumps(item).encode() + b"\n" for item in items)
        new = not self.path.exists()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("wb" if new else "r+b", buffering=0) as file:
            if new:
                self._length = 0
            file.truncate(self._length)
            file.seek(self._length)
            written = 0
            while written < len(lines):
                written += file.write(lines[written:])
            os.fsync(file.fileno())
        if new:
            _sync_folder(self.path.parent)
        self._length += len(lines)

    def clear(self) -> None:
        """Remove all items."""
        self.path.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
