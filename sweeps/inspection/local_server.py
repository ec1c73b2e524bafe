"""What the commands share that serve something on this machine: the port, and the signals that end them."""

from __future__ import annotations

import signal
import socket
from types import FrameType
from typing import NoReturn

from sweeps.errors import InputError

HOST = "127.0.0.1"
"""Nothing is served elsewhere."""


def bound_socket(port: int) -> socket.socket:
    """Return a socket that listens on a port of 127.0.0.1; 0 takes one that is free.

    Raises:
        InputError: the port cannot be had.
    """
    taken = socket.socket()
    # A port that a server had until a moment ago may be taken; one that a server has may not.
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        taken.bind((HOST, port))
        taken.listen()
    except OSError as error:
        taken.close()
        raise InputError(f"port {port} of {HOST} cannot be had: {error.strerror}; take another with --port") from error
    return taken


def end_as_by_ctrl_c() -> None:
    """Have SIGTERM, and SIGHUP where it is not ignored, end this process as Ctrl-C does."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup has SIGHUP ignored
            signal.signal(number, _end)


def _end(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
