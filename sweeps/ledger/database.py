"""The database that holds the ledger, a SQLite file or PostgreSQL: reached, taken in turns, waited for."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import optuna
from optuna.exceptions import StorageInternalError
from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DatabaseError, DBAPIError, InterfaceError, OperationalError

from resnet_core.uris import with_psycopg2, without_password
from sweeps.errors import InputError, SweepError, reason_of
from sweeps.home import check_database

_T = TypeVar("_T")
RETRY_SECONDS = 60.0  # seconds that a study waits for a PostgreSQL that is away
_POSTGRES = {
    "pool_pre_ping": True,  # a connection that a restarted server has forgotten is made anew
    "connect_args": {
        "connect_timeout": 10,
        # Where the network is cut, the lock of a driver that is gone is free after a minute, and not after hours.
        **{"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3},
        "application_name": "sweeps",
    },
}


def sqlite_file(uri: str) -> Path | None:
    """Return the file of a SQLite database, or None for another kind.

    Raises:
        InputError: it is no URI of a kind that can hold a ledger.
    """
    try:
        url = make_url(uri)
    except ArgumentError:
        url = None
    if url is None or not url.database or url.drivername not in ("sqlite", "postgresql", "postgresql+psycopg2"):
        raise InputError(
            f"--ledger {without_password(uri)}: expected postgresql://USER@HOST/DATABASE or sqlite:////FILE"
        )
    return Path(url.database) if url.drivername == "sqlite" else None


def open_storage(uri: str) -> optuna.storages.RDBStorage:
    """Return Optuna's storage in a database; its tables are made where there are none.

    Raises:
        InputError: it is no URI that can hold a ledger, or what reaches PostgreSQL is not installed.
        SweepError: it cannot be reached, or is no database.
    """
    file = sqlite_file(uri)
    if file is None:
        return _postgres(uri)
    check_database(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.nullcontext() if file.exists() else _file_lock(file):
        try:
            storage = optuna.storages.RDBStorage(uri, engine_kwargs={"connect_args": {"timeout": 60}})
        except DatabaseError as error:
            if type(error.orig) is not sqlite3.DatabaseError:
                raise
            # One that is busy, say, raises another class.
            raise SweepError(f"{file}: {error.orig}; move it away, or choose another folder with --home") from error
    # With a write-ahead log, commits wait for no disk and readers for no writer; a killed process loses
    # nothing that it committed.
    event.listen(storage.engine, "connect", _write_ahead)
    storage.engine.dispose()
    return storage


def _postgres(uri: str) -> optuna.storages.RDBStorage:
    # Two drivers that begin on an empty database would make its tables at the same time.
    with _reached(uri, "ledger") as engine, engine.begin() as connection:
        _advisory_lock(connection, "tables")
        return optuna.storages.RDBStorage(with_psycopg2(uri), engine_kwargs=dict(_POSTGRES))


def check_reachable(uri: str) -> None:
    """Make sure that a database is there and lets this process in; nothing is written to it.

    Raises:
        InputError: what reaches PostgreSQL is not installed.
        SweepError: it cannot be reached, or is no database.
    """
    if not uri.startswith("postgresql"):
        check_database(Path(make_url(uri).database or ""))
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


@contextlib.contextmanager
def exclusive_transaction(storage: optuna.storages.RDBStorage, study: str) -> Iterator[Connection]:
    """Hold a study's ledger for this driver alone, whoever else reads it, for as long as the block lasts.

    It is free again however the process ends. What is written through the connection is there at the end of the
    block or not at all, and not where the turn was lost with the connection. With SQLite that is to be the last
    thing in the block: Optuna could not write meanwhile.

    Raises:
        sqlalchemy.exc.OperationalError: it was not free for a minute, or the database is away.
    """
    file = sqlite_file(storage.url)
    with _file_lock(file) if file is not None else contextlib.nullcontext(), storage.engine.begin() as connection:
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
    """Do something with the ledger; while PostgreSQL is away, try it again for a minute.

    Args:
        do: may have been done in part, or whole with the answer lost, when it is done again.
        uri: the database's.
        study: the study's name, for the message.

    Raises:
        SweepError: the database was away for a minute.
    """
    if sqlite_file(uri) is not None:
        return do()  # SQLite has waited for its locks itself
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
