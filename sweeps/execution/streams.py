"""The standard streams: a command or a launch ends well when they are closed, full, unread, or short of characters."""

from __future__ import annotations

import codecs
import errno
import io
import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

_PLAIN = {
    **{"…": "...", "·": "-", "–": "-", "−": "-", "×": "x", "±": "+/-", "→": "->", "←": "<-", "≤": "<=", "≥": ">="},
    **{"∞": "inf", "√": "sqrt", "²": "^2", "³": "^3", "λ": "lambda", "β": "beta", "ε": "eps", "η": "eta", "σ": "sigma"},
    **{"μ": "mu", "π": "pi", "Σ": "sum", "•": "*", "“": '"', "”": '"', "‘": "'", "’": "'"},
    **dict(zip("▁▂▃▄▅▆▇█", "_.,-~=+#", strict=True)),
}
"""What is written for the characters of this project's texts where an encoding lacks them."""
_GONE = {errno.EPIPE, errno.EIO, errno.ECONNRESET}  # the reader has left, or the terminal was closed


def _plain(error: UnicodeError) -> tuple[str, int]:
    """Replace what an encoding lacks: our own characters by similar ones, others by their numbers."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    found = error.object[error.start : error.end]
    return "".join(_PLAIN.get(char) or _escaped(char) for char in found), error.end


def _escaped(char: str) -> str:
    byte = ord(char) - 0xDC00  # how Python keeps a byte of a path that is no UTF-8
    return f"\\x{byte:02x}" if 0x80 <= byte <= 0xFF else char.encode("ascii", "backslashreplace").decode()


ERRORS = "sweeps.plain"
"""The name of the error handler of streams that replaces what their encoding lacks."""
codecs.register_error(ERRORS, _plain)


class _Output(io.FileIO):
    """A file descriptor that loses what cannot be written, instead of raising.

    Attributes:
        lost: the first error; None if everything could be written.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number, "w", closefd=False)
        self.lost: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            # None: it does not block, as a pipe of Node's, and its reader is slow.
            while (written := super().write(data)) is None:
                select.select([], [self], [])
            return written
        except OSError as error:
            self.lost = self.lost or error
            return memoryview(data).nbytes


def prepare() -> None:
    """Make the standard streams safe to use. Call this before anything opens a file.

    A closed descriptor is opened on the null device: the next file to be opened, such as a database, would otherwise
    take its number, and with it everything that is printed. Nothing that is written raises an error: a launch goes on
    when its terminal or the reader of its pipe is gone. Streams that somebody has replaced are left alone.
    """
    _open_closed()
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115  it stays open
    if sys.stdout is sys.__stdout__:
        sys.stdout = _output(1, sys.stdout)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _output(2, sys.stderr)


@contextmanager
def complete() -> Iterator[None]:
    """Give libraries in the block the streams that they take for granted, as Ray does its encoding.

    The streams of a script may be closed, or of a class of its own that can only write, such as one that copies what
    is printed to a file.
    """
    _open_closed()
    before = sys.stdout, sys.stderr
    inside = tuple(stream if isinstance(stream, io.TextIOBase) else _Complete(stream) for stream in before)
    sys.stdout, sys.stderr = inside
    try:
        yield
    finally:
        if (sys.stdout, sys.stderr) == inside:
            sys.stdout, sys.stderr = before


class _Complete(io.TextIOBase):
    """A text stream that writes to an object which may do nothing but write; to nowhere if that is None."""

    encoding = "utf-8"

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if self._stream is not None:
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        flush = getattr(self._stream, "flush", None)
        if flush is not None:
            flush()


def _open_closed() -> None:
    """Open descriptors of standard streams that are closed on the null device."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)


def _output(number: int, before: TextIO | None) -> TextIO:
    encoding = "utf-8" if before is None else before.encoding
    with_lines = number == 2 or os.isatty(number)
    written = io.BufferedWriter(_Output(number))
    return io.TextIOWrapper(written, encoding, ERRORS, line_buffering=with_lines)


def lost_output() -> OSError | None:
    """Return why results could not be written to stdout; None if they could, or if their reader wanted no more."""
    error = _lost()
    return None if error is None or error.errno in _GONE else error


def has_reader() -> bool:
    """Return whether somebody may still read stdout."""
    return _lost() is None


def _lost() -> OSError | None:
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    if not isinstance(raw, _Output):
        return None
    sys.stdout.flush()
    return raw.lost
