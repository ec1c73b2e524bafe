"""The database that holds the ledger, a SQLite file or PostgreSQL: connections, locks, and waiting."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import optuna
from optuna.exceptions import StorageInternalError
from sqlalchemy import Connection, Engine, create_engine, event, inspect, make_url, text
from sqlalchemy.exc import ArgumentError, DatabaseError, DBAPIError, InterfaceError, OperationalError
from sqlalchemy.pool import StaticPool

from resnet_core.paths import PathError, sqlite_path
from resnet_core.sqlite import copy_to_memory
from resnet_core.uris import with_psycopg2, without_password
from sweeps.errors import InputError, SweepError, reason_of, schema_reason
from sweeps.home import check_database, unreadable
from sweeps.ledger.optuna_internals import engine_of, uri_of

_T = TypeVar("_T")
TRIALS_TABLE = "sweeps_trials"
"""The table that is created last of those of a ledger."""
RETRY_SECONDS = 60.0
"""How long a study waits for a PostgreSQL server that cannot be reached, in seconds."""
_POSTGRES: dict[str, Any] = {
    "pool_pre_ping": True,  # a connection that a restarted server dropped is replaced
    "connect_args": {
        "connect_timeout": 10,
        # When the network is cut, the lock of a lost driver is released after a minute, and not after hours.
        **{"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3},
        "application_name": "sweeps",
    },
}


def sqlite_file(uri: str) -> Path | None:
    """Return the file of a SQLite database; None where the database is of another kind.

    Raises:
        InputError: the URI is not that of a database that can hold a ledger.
    """
    try:
        if (path := sqlite_path(uri)) is not None:
            return path
        url = make_url(uri)
    except (ArgumentError, PathError):
        url = None
    if url is None or not url.database or url.drivername not in ("postgresql", "postgresql+psycopg2"):
        raise InputError(
            f"--ledger {without_password(uri)}: expected postgresql://USER@HOST/DATABASE or sqlite:////FILE"
        )
    return None


def open_storage(uri: str) -> optuna.storages.RDBStorage:
    """Return Optuna's storage in a database; Optuna's tables are created where there are none.

    Raises:
        InputError: the URI is not that of a database that can hold a ledger, or psycopg2 is not installed.
        SweepError: the database cannot be reached, or the file is no database.
    """
    file = sqlite_file(uri)
    if file is None:
        return _postgres(uri)
    check_database(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.nullcontext() if file.exists() else _file_lock(file):
        try:
            with _same_version(uri):
                storage = optuna.storages.RDBStorage(_template(uri), engine_kwargs={"connect_args": {"timeout": 60}})
        except DatabaseError as error:
            if type(error.orig) is not sqlite3.DatabaseError:
                raise
            # Other failures, such as a busy file, raise another class.
            raise SweepError(unreadable(file, error.orig)) from error
    # With a write-ahead log, commits do not wait for the disk, and readers do not wait for writers. A killed process
    # loses nothing that it committed.
    event.listen(engine_of(storage), "connect", _write_ahead)
    engine_of(storage).dispose()
    return storage


def is_there(file: Path) -> bool:
    """Return whether the file of a ledger exists.

    Raises:
        SweepError: the folder may not be looked into, or is none.
    """
    try:
        file.stat()
        return True
    except FileNotFoundError:
        return False
    except OSError as error:
        raise SweepError(unreadable(file, error)) from error


def read_storage(uri: str) -> optuna.storages.RDBStorage:
    """Return Optuna's storage to look at: nothing is written to the database.

    That of a SQLite file is a copy of its present state, so it also works where the file may only be read.

    Raises:
        InputError: the URI is not that of a database that can hold a ledger, or psycopg2 is not installed.
        SweepError: the database cannot be read.
    """
    file = sqlite_file(uri)
    if file is None:
        return _postgres(uri, to_read=True)
    try:
        copy = copy_to_memory(file)
        engine = {"creator": lambda: copy, "poolclass": StaticPool}
        with _same_version(uri):
            return optuna.storages.RDBStorage("sqlite://", engine_kwargs=engine)
    except (OSError, sqlite3.Error, DBAPIError) as error:
        raise SweepError(unreadable(file, error)) from error


def _template(uri: str) -> str:
    """Return what Optuna makes this URI of: it replaces names in braces, such as a folder's or a password's."""
    return uri.replace("{", "{{").replace("}", "}}")


@contextlib.contextmanager
def _same_version(uri: str) -> Iterator[None]:
    """Say what to do where the tables of a ledger are of another version of Optuna."""
    try:
        yield
    except RuntimeError as error:
        if (reason := schema_reason(error, uri)) is None:
            raise
        raise SweepError(f"the ledger {without_password(uri)} cannot be used: {reason}") from error


def is_copy(storage: optuna.storages.RDBStorage) -> bool:
    """Return whether a storage is a copy in memory, as `read_storage` makes it of a file."""
    return engine_of(storage).url.database is None


def has_ledger(uri: str) -> bool:
    """Return whether there is a database with the tables of a ledger; nothing is written to it.

    Raises:
        InputError: as `read_storage`.
        SweepError: the database cannot be reached, or its folder may not be looked into.
    """
    file = sqlite_file(uri)
    if file is not None:
        return is_there(file)
    with _reached(uri, "ledger") as engine:
        return inspect(engine).has_table(TRIALS_TABLE)


def _postgres(uri: str, *, to_read: bool = False) -> optuna.storages.RDBStorage:
    if to_read:
        options = {**_POSTGRES["connect_args"], "options": "-c default_transaction_read_only=on"}
        with _reached(uri, "ledger"), _same_version(uri):
            settings = {**_POSTGRES, "connect_args": options}
            return optuna.storages.RDBStorage(
                _template(with_psycopg2(uri)), engine_kwargs=settings, skip_table_creation=True
            )
    # The lock keeps two drivers from creating the tables of an empty database at the same time.
    with _reached(uri, "ledger") as engine, engine.begin() as connection:
        _advisory_lock(connection, "tables")
        with _same_version(uri):
            return optuna.storages.RDBStorage(_template(with_psycopg2(uri)), engine_kwargs=dict(_POSTGRES))


def check_reachable(uri: str) -> None:
    """Check that a database exists and accepts this process; nothing is written to it.

    Raises:
        InputError: psycopg2, which reaches PostgreSQL, is not installed.
        SweepError: the database cannot be reached, or the file is no database.
    """
    if not uri.startswith("postgresql"):
        if (file := sqlite_path(uri)) is not None:
            check_database(file)
        return
    with _reached(uri, "database") as engine, engine.connect():
        pass


@contextlib.contextmanager
def _reached(uri: str, what: str) -> Iterator[Engine]:
    shown = f"the {what} {without_password(uri)}"
    try:
        engine = create_engine(with_psycopg2(uri), **_POSTGRES)
        yield engine
        engine.dispose()
    except ImportError as error:
        raise InputError(
            f"{shown} is reached through psycopg2, which is not installed: pip install 'resnet-sweeps[postgres]'"
        ) from error
    except (DBAPIError, StorageInternalError) as error:
        raise SweepError(f"{shown} cannot be used: {reason_of(error)}") from error


def _write_ahead(connection: sqlite3.Connection, _record: object) -> None:
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")


class WatchedFile:
    """The file of a SQLite ledger, which may be deleted while a study runs.

    Args:
        uri: URI of the database; if it is not SQLite, there is no file to watch.
        study: name of the study, for the message.
    """

    def __init__(self, uri: str, study: str) -> None:
        self._file, self._study = sqlite_file(uri), study
        self._inode = self._file.stat().st_ino if self._file is not None else None

    def check(self) -> None:
        """Check that the file was not deleted or replaced. SQLite would go on writing to the deleted file.

        Raises:
            SweepError: the file was deleted or replaced.
        """
        file = self._file
        if file is not None and (not file.exists() or file.stat().st_ino != self._inode):
            raise SweepError(
                f"the ledger {file} was deleted or exchanged while the study ran; put it back, then go on with "
                f"`sweeps resume {self._study}`"
            )


@contextlib.contextmanager
def exclusive_transaction(storage: optuna.storages.RDBStorage, study: str) -> Iterator[Connection]:
    """Lock a study's ledger for the duration of the block; other processes can still read it, but not change it.

    The lock is released even if the process is killed. Writes through the connection are committed at the end of the
    block, or not at all if the connection is lost. With SQLite such a write must be the last action in the block:
    Optuna writes through another connection, and could not write after it.

    Raises:
        sqlalchemy.exc.OperationalError: the lock was not free for a minute, or the database cannot be reached.
    """
    file = sqlite_file(uri_of(storage))
    with _file_lock(file) if file is not None else contextlib.nullcontext(), engine_of(storage).begin() as connection:
        if file is None:
            _advisory_lock(connection, study)
        yield connection


@contextlib.contextmanager
def _file_lock(database: Path) -> Iterator[None]:
    with database.with_name(f"{database.name}.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _advisory_lock(connection: Connection, name: str) -> None:
    key = int.from_bytes(hashlib.sha256(f"sweeps:{name}".encode()).digest()[:8], signed=True)
    connection.execute(text(f"SET LOCAL lock_timeout = '{RETRY_SECONDS:.0f}s'"))
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": key})


def retry_while_busy(do: Callable[[], _T], uri: str, study: str) -> _T:
    """Call ``do`` and return its answer; while PostgreSQL cannot be reached, call it again for a minute.

    Args:
        do: the function to call. When it is called again, an earlier call may have done its work partly or completely.
        uri: URI of the database.
        study: name of the study, for the message.

    Raises:
        SweepError: the database could not be reached for a minute.
    """
    if sqlite_file(uri) is not None:
        return do()  # SQLite waits for its locks itself
    wait, end = 0.5, time.monotonic() + RETRY_SECONDS
    while True:
        try:
            return do()
        except (OperationalError, InterfaceError, StorageInternalError) as error:
            if time.monotonic() + wait > end:
                raise SweepError(
                    f"the ledger {without_password(uri)} could not be used for {RETRY_SECONDS:.0f} s: "
                    f"{reason_of(error)}. When it is back, go on with `sweeps resume {study}`"
                ) from error
        time.sleep(wait)
        wait = min(2 * wait, 5.0)
