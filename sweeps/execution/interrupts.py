"""Ctrl-C and SIGTERM while a study runs: the first is taken note of, a second ends the process."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Interrupts:
    """Whether a launch was asked to finish.

    Nothing is raised where a signal arrives: a KeyboardInterrupt in the middle of Ray's start can get lost in
    what Python does around a fork, and leave the lock of `logging` held for ever.

    Args:
        name: the study's, for what is said at a second signal.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self.stop_requested = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take signals for as long as the block lasts; blocks may be nested, should others have put theirs in."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._take) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _take(self, number: int, _frame: object) -> None:
        if not self.stop_requested:
            self.stop_requested = True
            return
        # No cleaning up: that is what is being waited for. The live view had hidden the cursor.
        shown = "\x1b[?25h\n" if os.isatty(2) else ""
        with contextlib.suppress(OSError):
            os.write(2, f"{shown}stopped at once; continue with:  sweeps resume {self._name}\n".encode())
        os._exit(128 + number)
