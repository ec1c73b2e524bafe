"""The drivers of a study: who is alive, and who runs which trial. Two tables beside Optuna's, by the database's clock.

A driver is a home folder that runs a study. It has a lease, which it renews eight times as often as it runs out; one
whose lease has run out is gone, and its trials may be taken over. Should it come back after all, it finds out before it
writes anything of them.
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

import optuna
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
from sweeps.ledger.database import exclusive_transaction, retry_while_busy, sqlite_file

_log = logging.getLogger(__name__)
_LEASE = 120.0
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
    "sweeps_trials",
    _tables,
    Column("study", String(128), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("driver", String(128), nullable=False),
)


@dataclass(frozen=True)
class Driver:
    """A driver as the ledger knows it.

    Attributes:
        id: its name in the study.
        host: the host it ran on last.
        process: its process there.
        home: its home folder there.
        alive: its lease has not run out.
    """

    id: str
    host: str
    process: int
    home: str
    alive: bool


def create_tables(storage: optuna.storages.RDBStorage) -> None:
    """Make the tables of drivers where there are none."""
    if inspect(storage.engine).has_table(_owners.name):
        return
    with exclusive_transaction(storage, "tables") as connection:
        for table in (_drivers, _owners):
            connection.execute(CreateTable(table, if_not_exists=True))


def delete_drivers(connection: Connection, study: str) -> None:
    """Take out what is known of a study's drivers."""
    for table in (_drivers, _owners):
        connection.execute(delete(table).where(table.c.study == study))


def drivers_of(connection: Connection, study: str) -> list[Driver]:
    """Return the drivers that a study has or had, by name."""
    columns = _drivers.c
    found = connection.execute(
        select(columns.driver, columns.host, columns.process, columns.home, columns.lease > _clock(connection.engine))
        .where(columns.study == study)
        .order_by(columns.driver)
    )
    return [Driver(row[0], row[1], row[2], row[3], bool(row[4])) for row in found]


def owners_of(connection: Connection, study: str) -> dict[int, str]:
    """Return by number which driver runs, or ran, a trial of a study."""
    found = connection.execute(select(_owners.c.number, _owners.c.driver).where(_owners.c.study == study))
    return {number: driver for number, driver in found}  # noqa: C416  rows are no pairs to mypy


def request_stop(connection: Connection, study: str) -> None:
    """Ask all drivers of a study to finish; they see it when they renew their lease."""
    connection.execute(update(_drivers).where(_drivers.c.study == study).values(stop=True))


def lease_seconds() -> float:
    """Return for how long a driver that is not heard of counts as alive: SWEEPS_LEASE, else 120 s.

    Raises:
        InputError: what is set is no such number.
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
    """This process as a driver of a study.

    Args:
        storage: where the ledger is.
        study: the study's name.
        driver: the driver's.
        home: its home folder.
    """

    def __init__(self, storage: optuna.storages.RDBStorage, study: str, driver: str, home: Path) -> None:
        self.driver = driver
        self._storage, self._study, self._home = storage, study, home
        self._seconds, self._instance = lease_seconds(), secrets.token_hex(8)
        self._mutex = threading.Lock()  # of what this process knows to hold; its heart beats in another thread
        self._held: set[int] = set()
        self._renewed = 0.0
        self._replaced = False

    def acquire(self, connection: Connection) -> None:
        """Become the driver; whoever was it before, on a copy of the home folder, say, is it no longer."""
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
                lease=_clock(self._storage.engine) + self._seconds,
                stop=False,
            )
        )
        self._held = {number for number, owner in owners_of(connection, self._study).items() if owner == self.driver}
        self._renewed = began

    def check(self, connection: Connection) -> None:
        """Make sure that this process is still the driver.

        Raises:
            SweepError: another process has become it.
        """
        found = connection.execute(select(_drivers.c.instance).where(self._mine)).scalar_one_or_none()
        if found != self._instance:
            self._replaced = True
            self._refuse()

    def claim(self, connection: Connection, numbers: Iterable[int]) -> None:
        """Note that this driver runs these trials from now on, whoever did before."""
        wanted = sorted(numbers)
        if not wanted:
            return
        which = (_owners.c.study == self._study) & _owners.c.number.in_(wanted)
        with self._mutex:
            connection.execute(delete(_owners).where(which))
            rows = [{"study": self._study, "number": number, "driver": self.driver} for number in wanted]
            connection.execute(insert(_owners), rows)
            self._held.update(wanted)

    def owns(self, number: int) -> bool:
        """Return whether a trial is still this driver's, going by what was heard within half a lease.

        Raises:
            SweepError: nothing could be heard for that long, or another process is the driver now.
        """
        if self._replaced:
            self._refuse()
        # Asleep for a while, with its host, say, it may have been taken for gone.
        if _boot_clock() - self._renewed > self._seconds / 2:
            retry_while_busy(self.renew, self._storage.url, self._study)
        return number in self._held

    def renew(self) -> bool:
        """Renew the lease, learn which trials are this driver's, and return whether it is to stop.

        Raises:
            SweepError: another process is the driver now.
        """
        began = _boot_clock()
        with self._mutex, self._connection() as connection:
            renewed = connection.execute(
                update(_drivers).where(self._mine).values(lease=_clock(self._storage.engine) + self._seconds)
            )
            self._replaced = renewed.rowcount == 0
            if self._replaced:
                self._refuse()
            stop = connection.execute(select(_drivers.c.stop).where(self._mine)).scalar_one()
            self._held = {n for n, owner in owners_of(connection, self._study).items() if owner == self.driver}
            self._renewed = began
        return bool(stop)

    @contextlib.contextmanager
    def renewing(self, stop: Callable[[], None]) -> Iterator[None]:
        """Renew the lease for as long as the block lasts, then give it up.

        Args:
            stop: called when the driver is asked to stop through the ledger.
        """
        over = threading.Event()

        def beat() -> None:
            while not over.wait(self._seconds / 8):
                try:
                    if self.renew():
                        stop()
                except SweepError:
                    return  # the study finds out at its next step
                except (SQLAlchemyError, OSError) as error:
                    _log.debug("the lease of driver %s could not be renewed: %s", self.driver, error)

        thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
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
        file = sqlite_file(self._storage.url)
        if file is not None and not file.exists():
            raise FileNotFoundError(f"{file} is gone")  # which SQLite would make anew
        with self._storage.engine.begin() as connection:
            yield connection

    @property
    def _mine(self) -> ColumnElement[bool]:
        columns = _drivers.c
        return (columns.study == self._study) & (columns.driver == self.driver) & (columns.instance == self._instance)

    def _refuse(self) -> None:
        raise SweepError(
            f"another process runs study {self._study!r} as driver {self.driver} by now: is its home folder a copy of "
            f"this one, {self._home}? Then delete studies/{self._study}/driver in one of them, and resume there"
        )


class Transaction:
    """What a driver may do in its turn. Without drivers every trial is its own."""

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
        """Return whether a trial is this driver's or nobody's: a driver was killed before it had claimed it."""
        owner = self._owners.get(number)
        return self._lease is None or owner is None or owner == self._lease.driver

    def is_orphaned(self, number: int) -> bool:
        """Return whether a trial is that of a driver that is gone."""
        owner = self._drivers.get(self._owners.get(number, ""))
        return not self.is_mine(number) and (owner is None or not owner.alive)

    def home_of(self, number: int) -> str:
        """Return the home folder of the other driver whose trial it is; empty where there is none."""
        owner = self._drivers.get(self._owners.get(number, ""))
        return "" if self.is_mine(number) or owner is None else owner.home

    def claim(self, numbers: Collection[int]) -> None:
        """Make trials this driver's. Nothing may be written through Optuna after that in the same turn."""
        if self._connection is not None and self._lease is not None:
            self._lease.claim(self._connection, numbers)


def _clock(engine: Engine) -> ColumnElement[float]:
    """Return the database's time in seconds: clocks of hosts differ."""
    sqlite = "(julianday('now') - 2440587.5) * 86400.0"
    return literal_column(sqlite if engine.dialect.name == "sqlite" else "extract(epoch from clock_timestamp())", Float)


def _boot_clock() -> float:
    """Return seconds that also pass while the machine sleeps."""
    # Where there is none, macOS for one, the other clock does the same.
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
