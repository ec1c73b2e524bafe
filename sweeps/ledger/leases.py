"""Several drivers of one study: who is alive, and who runs which trial.

A driver is a home folder from which a process runs a study. Several hosts, each with its own home folder, can run one
study if all of them reach its ledger. They share its trials. If a host is lost, the others take over its trials.

How: a driver holds a lease and renews it eight times in the time that a lease lasts. If a driver's lease has expired,
the driver counts as lost, and other drivers may claim its trials. If it comes back, it notices this before it writes
anything about them. Leases and owners of trials are two tables beside Optuna's. All times are those of the database,
because clocks of hosts differ.

The cost: every change of the ledger is a transaction that excludes other drivers and reads both tables. A thread renews
the lease. A driver checks that it still owns a trial before it writes about it. A ledger without a driver, in memory or
only read, does none of that: it owns every trial. The other modules of this package use only `Transaction` and
`Drivers`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from optuna.storages import RDBStorage
from sqlalchemy import (
    Boolean,
    Column,
    ColumnElement,
    Connection,
    Engine,
    Float,
    Integer,
    MetaData,
    String,
    Table,
    delete,
    insert,
    inspect,
    literal_column,
    select,
    update,
)
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.schema import CreateTable

from sweeps.errors import InputError, SweepError
from sweeps.home import Home
from sweeps.ledger.database import (
    TRIALS_TABLE,
    WatchedFile,
    exclusive_transaction,
    is_copy,
    retry_while_busy,
    sqlite_file,
)
from sweeps.ledger.optuna_internals import engine_of, uri_of

_log = logging.getLogger(__name__)
_T = TypeVar("_T")
_LEASE = 120.0  # seconds
_tables = MetaData()
_drivers = Table(
    "sweeps_drivers",
    _tables,
    Column("study", String(128), primary_key=True),
    Column("driver", String(128), primary_key=True),
    Column("instance", String(32), nullable=False),
    Column("host", String(255), nullable=False),
    Column("process", Integer, nullable=False),
    Column("home", String(4096), nullable=False),
    Column("lease", Float, nullable=False),
    Column("stop", Boolean, nullable=False),
)
_owners = Table(
    TRIALS_TABLE,
    _tables,
    Column("study", String(128), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("driver", String(128), nullable=False),
)


@dataclass(frozen=True)
class Driver:
    """A driver of a study.

    Attributes:
        id: its name in the study.
        host: the host on which it ran last.
        process: its process ID on that host.
        home: its home folder on that host.
        alive: whether its lease is valid.
    """

    id: str
    host: str
    process: int
    home: str
    alive: bool


def create_tables(storage: RDBStorage) -> None:
    """Create the tables of drivers and owners if they do not exist."""
    engine = engine_of(storage)
    if inspect(engine).has_table(_owners.name):
        return
    if is_copy(storage):
        _tables.create_all(engine)
        return
    with exclusive_transaction(storage, "tables") as connection:
        for table in (_drivers, _owners):
            connection.execute(CreateTable(table, if_not_exists=True))


def delete_drivers(connection: Connection, study: str) -> None:
    """Delete the drivers of a study, and the owners of its trials."""
    for table in (_drivers, _owners):
        connection.execute(delete(table).where(table.c.study == study))


def drivers_of(connection: Connection, study: str) -> list[Driver]:
    """Return the drivers that a study has or had, in the order of their names."""
    columns = _drivers.c
    found = connection.execute(
        select(columns.driver, columns.host, columns.process, columns.home, columns.lease > _clock(connection.engine))
        .where(columns.study == study)
        .order_by(columns.driver)
    )
    return [Driver(row[0], row[1], row[2], row[3], bool(row[4])) for row in found]


def owners_of(connection: Connection, study: str) -> dict[int, str]:
    """Return which driver runs or ran each trial of a study, by number."""
    found = connection.execute(select(_owners.c.number, _owners.c.driver).where(_owners.c.study == study))
    return {number: driver for number, driver in found}  # noqa: C416  mypy does not see a row as a pair


def lease_seconds() -> float:
    """Return the time in seconds after which a lease expires unless renewed: SWEEPS_LEASE, else 120.

    Raises:
        InputError: SWEEPS_LEASE is no number from 1 to 86400.
    """
    given = os.environ.get("SWEEPS_LEASE", "")
    try:
        seconds = float(given or _LEASE)
    except ValueError:
        seconds = 0.0
    if not 1 <= seconds <= 86400:
        raise InputError(f"SWEEPS_LEASE={given}: expected seconds, from 1 to 86400")
    return seconds


class Lease:
    """This process's lease as a driver of a study.

    Args:
        storage: Optuna's storage that holds the ledger.
        study: name of the study.
        driver: name of the driver.
        home: its home folder.
    """

    def __init__(self, storage: RDBStorage, study: str, driver: str, home: Path) -> None:
        self.driver = driver
        self._storage, self._study, self._home = storage, study, home
        self._seconds, self._instance = lease_seconds(), secrets.token_hex(8)
        self._mutex = threading.Lock()  # guards _owned; a thread renews the lease
        self._owned: set[int] = set()
        self._renewed = 0.0
        self._replaced = False

    def acquire(self, connection: Connection) -> None:
        """Become the driver of this name; another process of this name, such as on a copied home folder, loses it."""
        began = _boot_clock()
        mine = (_drivers.c.study == self._study) & (_drivers.c.driver == self.driver)
        connection.execute(delete(_drivers).where(mine))
        connection.execute(
            insert(_drivers).values(
                study=self._study,
                driver=self.driver,
                instance=self._instance,
                host=socket.gethostname(),
                process=os.getpid(),
                home=str(self._home),
                lease=_clock(engine_of(self._storage)) + self._seconds,
                stop=False,
            )
        )
        self._owned = {number for number, owner in owners_of(connection, self._study).items() if owner == self.driver}
        self._renewed = began

    def check(self, connection: Connection) -> None:
        """Check that this process still holds the lease.

        Raises:
            SweepError: another process is the driver now.
        """
        found = connection.execute(select(_drivers.c.instance).where(self._mine)).scalar_one_or_none()
        if found != self._instance:
            self._replaced = True
            self._raise_replaced()

    def claim(self, connection: Connection, numbers: Iterable[int]) -> None:
        """Make this driver the owner of trials; any previous owner loses them."""
        wanted = sorted(numbers)
        if not wanted:
            return
        which = (_owners.c.study == self._study) & _owners.c.number.in_(wanted)
        with self._mutex:
            connection.execute(delete(_owners).where(which))
            rows = [{"study": self._study, "number": number, "driver": self.driver} for number in wanted]
            connection.execute(insert(_owners), rows)
            self._owned.update(wanted)

    def owns(self, number: int) -> bool:
        """Return whether this driver owned a trial when the lease was last renewed.

        Raises:
            SweepError: the lease could not be renewed for a while, or another process is the driver now.
        """
        if self._replaced:
            self._raise_replaced()
        # The lease may have expired, for example while the host was suspended.
        if _boot_clock() - self._renewed > self._seconds / 2:
            retry_while_busy(self.renew, uri_of(self._storage), self._study)
        return number in self._owned

    def renew(self) -> bool:
        """Renew the lease, read which trials this driver owns, and return whether it is asked to stop.

        Raises:
            SweepError: another process is the driver now.
        """
        began = _boot_clock()
        with self._mutex, self._connection() as connection:
            renewed = connection.execute(
                update(_drivers).where(self._mine).values(lease=_clock(engine_of(self._storage)) + self._seconds)
            )
            self._replaced = renewed.rowcount == 0
            if self._replaced:
                self._raise_replaced()
            stop = connection.execute(select(_drivers.c.stop).where(self._mine)).scalar_one()
            self._owned = {n for n, owner in owners_of(connection, self._study).items() if owner == self.driver}
            self._renewed = began
        return bool(stop)

    @contextlib.contextmanager
    def renewing(self, stop: Callable[[], None]) -> Iterator[None]:
        """Renew the lease during the block, then end the lease.

        Args:
            stop: called when the driver is asked to stop through the ledger.
        """
        over = threading.Event()

        def keep_renewing() -> None:
            while not over.wait(self._seconds / 8):
                try:
                    if self.renew():
                        stop()
                except SweepError:
                    return  # the study raises the same error at its next step
                except (SQLAlchemyError, OSError) as error:
                    _log.debug("the lease of driver %s could not be renewed: %s", self.driver, error)

        thread = threading.Thread(target=keep_renewing, name="lease", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join(timeout=20)
            with contextlib.suppress(SQLAlchemyError, OSError), self._connection() as connection:
                connection.execute(update(_drivers).where(self._mine).values(lease=0.0))

    @contextlib.contextmanager
    def _connection(self) -> Iterator[Connection]:
        file = sqlite_file(uri_of(self._storage))
        if file is not None and not file.exists():
            raise FileNotFoundError(f"{file} is gone")  # SQLite would create an empty file
        with engine_of(self._storage).begin() as connection:
            yield connection

    @property
    def _mine(self) -> ColumnElement[bool]:
        columns = _drivers.c
        return (columns.study == self._study) & (columns.driver == self.driver) & (columns.instance == self._instance)

    def _raise_replaced(self) -> None:
        raise SweepError(
            f"another process runs study {self._study!r} as driver {self.driver} by now: is its home folder a copy of "
            f"this one, {self._home}? Then delete studies/{self._study}/driver in one of them, and resume there"
        )


class Transaction:
    """The owners of trials during a transaction, in which no other driver changes the ledger.

    Without drivers, this process owns every trial.

    Args:
        connection: the connection of the transaction.
        lease: this driver's lease.
        owners: which driver owns each trial, by number.
        drivers: the drivers of the study, by name.
    """

    def __init__(
        self,
        connection: Connection | None = None,
        lease: Lease | None = None,
        owners: Mapping[int, str] | None = None,
        drivers: Mapping[str, Driver] | None = None,
    ) -> None:
        self._connection, self._lease = connection, lease
        self._owners, self._drivers = owners or {}, drivers or {}

    def is_mine(self, number: int) -> bool:
        """Return whether this driver owns a trial. It owns a trial without an owner: a killed process left it so."""
        owner = self._owners.get(number)
        return self._lease is None or owner is None or owner == self._lease.driver

    def is_orphaned(self, number: int) -> bool:
        """Return whether another driver owns a trial and that driver's lease has expired."""
        owner = self._drivers.get(self._owners.get(number, ""))
        return not self.is_mine(number) and (owner is None or not owner.alive)

    def may_claim(self, number: int) -> bool:
        """Return whether this driver may claim a trial: it owns the trial, or the trial is orphaned."""
        return self.is_mine(number) or self.is_orphaned(number)

    def home_of(self, number: int) -> str:
        """Return the home folder of the other driver that owns a trial; empty where this driver owns it."""
        owner = self._drivers.get(self._owners.get(number, ""))
        return "" if self.is_mine(number) or owner is None else owner.home

    def claim(self, numbers: Collection[int]) -> None:
        """Make this driver the owner of trials. After that, do not write through Optuna in the same transaction."""
        if self._connection is not None and self._lease is not None:
            self._lease.claim(self._connection, numbers)


class Drivers:
    """The drivers of a study, for a process that may be one of them.

    Args:
        storage: Optuna's storage that holds the ledger; None for a ledger in memory, which has no drivers.
        study: name of the study.
    """

    def __init__(self, storage: RDBStorage | None, study: str) -> None:
        self._storage, self._study = storage, study
        self._lease: Lease | None = None
        self._file = None if storage is None or is_copy(storage) else WatchedFile(uri_of(storage), study)

    def all(self) -> list[Driver]:
        """Return the drivers that the study has or had; none for a study that was never run."""
        if self._storage is None:
            return []
        with engine_of(self._storage).connect() as connection:
            return drivers_of(connection, self._study)

    def live(self, home: Home) -> list[Driver]:
        """Return the drivers that are alive; this home's driver is judged by the home's lock, not by its lease."""
        own, held = home.driver(self._study), home.lock_holder(self._study) is not None
        return [driver for driver in self.all() if (held if driver.id == own else driver.alive)]

    def owners(self) -> dict[int, str]:
        """Return which driver runs or ran each trial, by number."""
        if self._storage is None:
            return {}
        with engine_of(self._storage).connect() as connection:
            return owners_of(connection, self._study)

    def expired(self) -> set[str]:
        """Return the names of the other drivers whose lease has expired."""
        this = None if self._lease is None else self._lease.driver
        return {driver.id for driver in self.all() if not driver.alive and driver.id != this}

    def request_stop(self) -> None:
        """Ask every driver of the study to finish; a driver sees the request when it renews its lease."""
        assert self._storage is not None
        with engine_of(self._storage).begin() as connection:
            connection.execute(update(_drivers).where(_drivers.c.study == self._study).values(stop=True))

    def join(self, connection: Connection, driver: str, home: Path) -> list[Driver]:
        """Become a driver of the study, and return the other drivers.

        Args:
            connection: the connection that holds the lock on the study's ledger.
            driver: name of this driver.
            home: its home folder.
        """
        assert self._storage is not None
        lease = Lease(self._storage, self._study, driver, home)
        others = [other for other in drivers_of(connection, self._study) if other.id != driver]
        lease.acquire(connection)
        self._lease = lease
        return others

    def renewing(self, stop: Callable[[], None]) -> contextlib.AbstractContextManager[None]:
        """Renew the lease during a block; ``stop`` is called when this driver is asked to stop."""
        assert self._lease is not None
        return self._lease.renewing(stop)

    def owns(self, number: int) -> bool:
        """Return whether this driver still owns a trial that it began: its lease may have expired meanwhile.

        Raises:
            SweepError: the lease could not be renewed for a while, or another process is the driver now.
        """
        return self._lease is None or self._lease.owns(number)

    def running_elsewhere(self, numbers: Iterable[int]) -> int:
        """Return how many of these trials other drivers run; 0 if this process is not a driver."""
        if self._lease is None:
            return 0
        owners = self.owners()
        return sum(owners.get(number) not in (self._lease.driver, None) for number in numbers)

    def check_file(self) -> None:
        """Check that the file of the ledger was not deleted or replaced.

        Raises:
            SweepError: the file was deleted or replaced.
        """
        if self._file is not None:
            self._file.check()

    def retry_while_busy(self, do: Callable[[], _T]) -> _T:
        """Call a function that uses the ledger; see `database.retry_while_busy`."""
        return (
            do()
            if self._storage is None or is_copy(self._storage)
            else retry_while_busy(do, uri_of(self._storage), self._study)
        )

    def in_transaction(self, do: Callable[[Transaction], _T]) -> _T:
        """Call ``do`` while no other driver changes the ledger; if interrupted, call it again from its start.

        Raises:
            SweepError: the database could not be used for a while, or another process is the driver now.
        """
        storage, lease = self._storage, self._lease
        if storage is None or lease is None:
            return self.retry_while_busy(lambda: do(Transaction()))

        def once() -> _T:
            self.check_file()
            with exclusive_transaction(storage, self._study) as connection:
                lease.check(connection)
                owners, drivers = owners_of(connection, self._study), drivers_of(connection, self._study)
                return do(Transaction(connection, lease, owners, {driver.id: driver for driver in drivers}))

        return self.retry_while_busy(once)


def _clock(engine: Engine) -> ColumnElement[float]:
    """Return the database's time in seconds since 1970."""
    sqlite = "(julianday('now') - 2440587.5) * 86400.0"
    return literal_column(sqlite if engine.dialect.name == "sqlite" else "extract(epoch from clock_timestamp())", Float)


def _boot_clock() -> float:
    """Return seconds that also pass while the machine is suspended."""
    # macOS lacks CLOCK_BOOTTIME; there CLOCK_MONOTONIC does the same.
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
