"""What waits to be written elsewhere, kept on disk until it is: a file of JSON lines."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

_log = logging.getLogger(__name__)


class Spool:
    """Items in the order they came, in an append-only file that is there only while something waits.

    What an earlier process left is to be read before anything is appended.

    An item that was appended survives a kill of the process and of the machine. A line that was only half
    written, which can be the last one alone, is as if it had never been appended.

    Args:
        path: the file; it and its folder are made when something is appended.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._length: int  # bytes of whole lines; what is behind them was left by a write that failed

    def read(self) -> list[dict[str, Any]]:
        """Return what waits, oldest first; a damaged line is passed over with a warning."""
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
        """Add items (plain values) behind those that wait and sync them to the disk; all of them or none.

        Raises:
            OSError: they could not be written (a full disk, say); what waited before is untouched.
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
        """Forget everything: it has been written."""
        self.path.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
