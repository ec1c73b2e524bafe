"""Ctrl-C and SIGTERM while a study runs: the first asks the study to stop, the second ends the process."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Interrupts:
    """The signals of a launch.

    A signal raises no KeyboardInterrupt here. While Ray starts, a KeyboardInterrupt can get lost in the code that
    Python runs around a fork, and the lock of `logging` is then never released.

    Args:
        name: the study's name, for the message at the second signal.

    Attributes:
        stop_requested: whether a signal has asked the study to stop.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self.stop_requested = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Handle both signals during the block. A nested block replaces handlers that were installed in between."""
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
        # The process exits without cleanup, since cleanup takes long. The live view has hidden the cursor: show it.
        shown = "\x1b[?25h\n" if os.isatty(2) else ""
        with contextlib.suppress(OSError):
            os.write(2, f"{shown}stopped at once; continue with:  sweeps resume {self._name}\n".encode())
        os._exit(128 + number)
