"""A trial's log: what its worker prints and logs, and its errors. Bounded in size, and never a reason to fail."""

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

from sweeps.causes import cause_of

MOST_BYTES = 500_000
"""Of a log; at twice that its older half goes."""
_LONGEST = 10_000  # characters of one entry, and of the middle that is cut out of an error
_logger = logging.getLogger("sweeps.trial")


class TrialLog:
    """Keeps what this process prints, logs and warns of in a file until it is closed; one at a time.

    What is printed and logged goes where it went before, too. What C code writes past Python is not seen.

    Args:
        path: the file; what it holds already stays.
    """

    def __init__(self, path: Path) -> None:
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
        self._handler = _Quiet(path, maxBytes=MOST_BYTES, backupCount=1, delay=True, encoding="utf-8")
        self._handler.setFormatter(_Short("%(asctime)s %(levelname)s %(message)s"))
        _logger.propagate = False
        _logger.setLevel(logging.INFO)
        for logger in (logging.getLogger(), _logger):
            logger.addHandler(self._handler)
        logging.captureWarnings(True)
        self._streams = sys.stdout, sys.stderr
        sys.stdout, sys.stderr = (_Copied(stream) for stream in self._streams)

    def write(self, text: str) -> None:
        """Write one entry."""
        _logger.info(text)

    def close(self) -> None:
        """Give everything back; closing twice does nothing."""
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
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  logging's name
        """Do nothing: a trial goes on without its log, where the disk is full, say."""


class _Short(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return text if len(text) <= _LONGEST else text[:_LONGEST] + " [cut]"


class _Copied(io.TextIOBase):
    """A stream whose lines go into the log as well."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._line = stream, ""

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._stream.fileno()

    def isatty(self) -> bool:
        return self._stream.isatty()

    def flush(self) -> None:
        self._stream.flush()

    def write(self, text: str) -> int:
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
    """Return what is kept of a log; nothing where there is none."""
    files = (path.with_name(f"{path.name}.1"), path)
    return "".join(file.read_text(encoding="utf-8", errors="replace") for file in files if file.exists())


@dataclass(frozen=True)
class Failure:
    """An error of a trial, whether or not it was started again.

    Attributes:
        time: when, in ISO format with the zone.
        error: the error, with its traceback.
    """

    time: str
    error: str

    @property
    def summary(self) -> str:
        """Its cause in one line."""
        return cause_of(self.error)


def add_failure(path: Path, error: str) -> Failure:
    """Add an error to those in a file, now; of a very long one, begin and end.

    Raises:
        OSError: it cannot be written.
    """
    if len(error) > 3 * _LONGEST:
        error = f"{error[:_LONGEST]}\n[cut]\n{error[-_LONGEST:]}"
    failure = Failure(datetime.now(UTC).astimezone().isoformat(timespec="seconds"), error)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(failure)) + "\n")
    return failure


def failures(path: Path) -> list[Failure]:
    """Return the errors in a file, oldest first; none where there is no file. A line cut off by a kill is left out."""
    found = []
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n") if path.exists() else ():
        with contextlib.suppress(ValueError, TypeError):
            found.append(Failure(**json.loads(line)))
    return found
