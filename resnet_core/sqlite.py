"""SQLite files, opened to look at them: nothing is written, also where nothing may be. Standard library only.

A plain read-only connection is not enough. Beside a file in WAL mode SQLite makes files that it shares with writers, it
notes in them what it reads, and a write that was cut short is undone in the file itself.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
import time
from contextlib import closing
from pathlib import Path

MAGIC = b"SQLite format 3\0"
"""The first bytes of every SQLite file."""
_WAL = 2  # the 18th byte of a file whose writers keep a write-ahead log
_TRIES = 20
_descriptors: dict[tuple[int, int], int] = {}


def header(path: Path) -> bytes:
    """Return the first 20 bytes of a file; fewer if it is shorter.

    The file stays open. Closing it would release all POSIX locks of this process on the file, including those of its
    connections. Another process might then remove the write-ahead log that they use.

    Raises:
        OSError: the file cannot be read.
    """
    found = path.stat()
    key = found.st_dev, found.st_ino
    if key not in _descriptors:
        _descriptors[key] = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # does not wait for a FIFO
    return os.pread(_descriptors[key], 20, 0)


def open_to_read(path: Path, timeout: float = 60.0) -> sqlite3.Connection:
    """Return a connection that reads a SQLite file, and writes neither to it nor beside it.

    The connection may be to a copy, in memory, of the file's present state.

    Args:
        path: the file.
        timeout: seconds to wait while a writer holds the file.

    Raises:
        OSError: the file cannot be read.
        sqlite3.Error: the file is not SQLite's, or is damaged, or was being written at each try.
    """
    path = path.resolve()
    for _ in range(_TRIES):
        if (connection := _open(path, timeout)) is not None:
            return connection
        time.sleep(0.1)
    raise sqlite3.OperationalError("it is being written, and this user cannot wait for the writer; try again")


def copy_to_memory(path: Path) -> sqlite3.Connection:
    """Return a copy, in memory, of a SQLite file's present state; any thread may use it, and it may be changed.

    Raises:
        OSError: the file cannot be read.
        sqlite3.Error: as `open_to_read`.
    """
    with closing(open_to_read(path)) as connection:
        return _in_memory(connection)


def _open(path: Path, timeout: float) -> sqlite3.Connection | None:
    """Return a connection; None if the file changed while it was copied."""
    wal, index, journal = (path.with_name(path.name + end) for end in ("-wal", "-shm", "-journal"))
    first = header(path)
    if first[: len(MAGIC)] not in (b"", MAGIC):
        raise sqlite3.DatabaseError("file is not a database")
    uses_wal = first[18:19] == bytes([_WAL])
    if not uses_wal or (wal.exists() and index.exists()):
        connection = _connect(path, "mode=ro&readonly_shm=1", timeout)
        try:
            connection.execute("SELECT 1 FROM sqlite_master").fetchone()
            return connection
        except sqlite3.OperationalError as error:
            connection.close()
            if not (uses_wal or journal.exists()) or _code(error) == sqlite3.SQLITE_BUSY:
                raise
    before = _state(path, wal, journal)
    try:
        if wal.exists() or journal.exists():
            copied = _copied(path, wal, journal)
        else:  # no process writes: such a log is there while one has the file open
            with closing(_connect(path, "immutable=1", timeout)) as connection:
                copied = _in_memory(connection)
    except (FileNotFoundError, sqlite3.DatabaseError):
        if before == _state(path, wal, journal):
            raise
        return None
    return copied if before == _state(path, wal, journal) else None


def _connect(path: Path, how: str, timeout: float) -> sqlite3.Connection:
    # as_uri quotes ?, # and %, which have a meaning in a URI.
    return sqlite3.connect(f"{path.as_uri()}?{how}", uri=True, timeout=timeout)


def _copied(*files: Path) -> sqlite3.Connection:
    """Return a copy in memory of a file and its logs; what they hold is put into the file in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="sweeps-") as folder:
        for file in files:
            if file.exists():
                shutil.copyfile(file, Path(folder) / file.name)
        with closing(sqlite3.connect(Path(folder) / files[0].name)) as connection:
            return _in_memory(connection)


def _in_memory(connection: sqlite3.Connection) -> sqlite3.Connection:
    memory = sqlite3.connect(":memory:", check_same_thread=False)
    try:
        connection.backup(memory)
    except sqlite3.Error:
        memory.close()
        raise
    return memory


def _state(*files: Path) -> list[tuple[int, int, int] | None]:
    found = [file.stat() if file.exists() else None for file in files]
    return [stat and (stat.st_ino, stat.st_size, stat.st_mtime_ns) for stat in found]


def _code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF  # errors raised by Python's module have no code
