"""Signals while a study runs: the first asks the study to stop, a second Ctrl-C or SIGTERM ends the process."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_WARNINGS = (signal.SIGHUP, signal.SIGUSR1)
"""Signals that a terminal sends when it is closed, and a batch system before its time limit, each perhaps twice."""


@contextmanager
def kept_from_children() -> Iterator[None]:
    """Keep the warnings from the processes that are started in the block: they must live to finish an epoch.

    A closed terminal sends its signal to all processes that were started from it, and Slurm to all of a job step.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _WARNINGS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Interrupts:
    """The signals of a launch: SIGINT (Ctrl-C), SIGTERM, and as warnings SIGHUP and SIGUSR1.

    Each asks the study to stop. The process ends at once at a SIGINT after any of them, and at a SIGTERM after a SIGINT
    or a SIGTERM, but never at a warning. Under nohup, SIGHUP stays ignored.

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
        self._ends_next = False  # whether a SIGTERM now ends the process

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Handle the signals during the block; outside of the main thread, leave them alone."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, *_WARNINGS)}
        try:
            for number, handler in before.items():
                if number not in _WARNINGS or handler is not signal.SIG_IGN:
                    signal.signal(number, self._take)
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _take(self, number: int, _frame: object) -> None:
        ends = self._ends_next or (number == signal.SIGINT and self.stop_requested)
        self.stop_requested = True
        if number in _WARNINGS:
            return
        if not ends:
            self._ends_next = True
            return
        # The process exits without cleanup, since cleanup takes long. The live view has hidden the cursor: show it.
        shown = "\x1b[?25h\n" if os.isatty(2) else ""
        with contextlib.suppress(OSError):
            os.write(2, f"{shown}stopped at once; continue with:  sweeps resume {self._name}\n".encode())
        os._exit(128 + number)
