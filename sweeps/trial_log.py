"""A trial's log file, with all output of its worker, and the file of its errors. Neither can make a trial fail."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import logging.handlers
import sys
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from sweeps.errors import cause_of

MOST_BYTES = 500_000
"""Largest size of a log file in bytes; a full file is kept as ``.1`` until the next one is full."""
_LONGEST = 10_000  # characters of an entry, and of the beginning and the end of a shortened error
_logger = logging.getLogger("sweeps.trial")


class TrialLog:
    """Copies the output, log records and warnings of this process to a file until `close`. A process has one at a time.

    Output of C code is not copied. If the file cannot be written, the trial goes on without it.

    Args:
        path: the file; new entries are appended.
    """

    def __init__(self, path: Path) -> None:
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
        self._handler = _Quiet(
            path, maxBytes=MOST_BYTES, backupCount=1, delay=True, encoding="utf-8", errors="backslashreplace"
        )
        self._handler.setFormatter(_Short("%(asctime)s %(levelname)s %(message)s"))
        _logger.propagate = False
        _logger.setLevel(logging.INFO)
        for logger in (logging.getLogger(), _logger):
            logger.addHandler(self._handler)
        logging.captureWarnings(True)
        self._streams = sys.stdout, sys.stderr
        sys.stdout, sys.stderr = (_Copied(stream) for stream in self._streams)

    def write(self, text: str) -> None:
        """Write an entry with its time and level."""
        _logger.info(text)

    def close(self) -> None:
        """Restore stdout, stderr and the loggers; closing twice does nothing."""
        if self._handler not in _logger.handlers:
            return
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, _Copied):
                stream.finish()
        sys.stdout, sys.stderr = self._streams
        logging.captureWarnings(False)
        for logger in (logging.getLogger(), _logger):
            logger.removeHandler(self._handler)
        with contextlib.suppress(OSError):
            self._handler.close()


class _Quiet(logging.handlers.RotatingFileHandler):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  logging defines the name
        """Do nothing: on a full disk, for example, a trial goes on without its log."""


class _Short(logging.Formatter):
    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: ARG002, N802
        """Return the time in ISO format with its offset from UTC: logs of machines in different zones are compared."""
        return datetime.fromtimestamp(record.created, UTC).astimezone().isoformat(timespec="milliseconds")

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return text if len(text) <= _LONGEST else text[:_LONGEST] + " [cut]"


class _Copied(io.TextIOBase):
    """A stream that also logs its lines."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._line = stream, ""

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._stream.fileno()

    def isatty(self) -> bool:
        return self._stream.isatty()

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError, ValueError):  # no reader, a full disk, a character that its encoding lacks
            self._stream.write(text)
        *lines, rest = (self._line + text).split("\n")
        self._line = rest[:_LONGEST]
        for line in filter(None, lines):
            _logger.info(line)
        return len(text)

    def finish(self) -> None:
        if self._line:
            _logger.info(self._line)


def read_log(path: Path) -> str:
    """Return the text of a log; empty if there is none."""
    files = (path.with_name(f"{path.name}.1"), path)
    return "".join(file.read_text(encoding="utf-8", errors="replace") for file in files if file.exists())


@dataclass(frozen=True)
class Failure:
    """An error of a trial.

    Attributes:
        time: when it happened, in ISO format with the time zone.
        error: the error with its traceback.
    """

    time: str
    error: str

    @property
    def summary(self) -> str:
        """The error's cause in one line."""
        return cause_of(self.error)


def add_failure(path: Path, error: str) -> Failure:
    """Append an error with the current time to a file. The middle of a very long error is cut out.

    Raises:
        OSError: the file cannot be written.
    """
    if len(error) > 3 * _LONGEST:
        error = f"{error[:_LONGEST]}\n[cut]\n{error[-_LONGEST:]}"
    failure = Failure(datetime.now(UTC).astimezone().isoformat(timespec="seconds"), error)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(failure)) + "\n")
    return failure


def failures(path: Path) -> list[Failure]:
    """Return the errors in a file, oldest first; an incomplete line of a killed process is left out."""
    found = []
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n") if path.exists() else ():
        with contextlib.suppress(ValueError, TypeError):
            found.append(Failure(**json.loads(line)))
    return found
