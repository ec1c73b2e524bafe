"""The home folder, which holds all state: MLflow's store, Optuna's ledger, checkpoints, a lock for each study."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import socket
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from resnet_core import checkpoint as checkpoints
from resnet_core.network_file import SUFFIX
from resnet_core.paths import sqlite_uri
from resnet_core.records import EpochRecord
from resnet_core.sqlite import open_to_read
from resnet_core.uris import with_psycopg2
from search_spaces.errors import StudyError
from search_spaces.tables import check_name
from sweeps.errors import InputError, SweepError, is_disk_full

_LOCK_TRIES = 10
_TRIAL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True)
class Home:
    """The paths in the home folder. Reading a path creates nothing.

    Attributes:
        root: the home folder, absolute.
        mlflow: MLflow's tracking URI, if its store is not in the home folder.
        ledger: URI of the ledger's database, if it is not in the home folder.
    """

    root: Path
    mlflow: str = ""
    ledger: str = ""

    @property
    def own_mlflow_db(self) -> Path:
        """The file of MLflow's store, if it is in the home folder."""
        return self.root / "mlflow.db"

    @property
    def mlflow_uri(self) -> str:
        """MLflow's tracking URI."""
        return with_psycopg2(self.mlflow) or sqlite_uri(self.own_mlflow_db)

    @property
    def own_ledger_db(self) -> Path:
        """The file of the ledger, if it is in the home folder."""
        return self.root / "optuna.db"

    @property
    def ledger_uri(self) -> str:
        """URI of the ledger's database: Optuna's storage."""
        return self.ledger or sqlite_uri(self.own_ledger_db)

    @property
    def artifacts(self) -> Path:
        """The folder of MLflow's artifacts."""
        return self.root / "artifacts"

    @property
    def studies(self) -> Path:
        """The folder that contains a folder for each study."""
        return self.root / "studies"

    def study(self, name: str) -> Path:
        """Return the folder of a study.

        Raises:
            InputError: the name is not valid for a folder, or would lead out of the home folder.
        """
        try:
            return self.studies / check_name(name)
        except StudyError as error:
            raise InputError(f"study {error}") from None

    def checkpoint(self, name: str, number: int) -> Path:
        """Return the checkpoint file of a study's trial."""
        return self.study(name) / "checkpoints" / f"{number:05d}.pt"

    def network(self, name: str, number: int) -> Path:
        """Return the file in which a study's running trial keeps its network, beside its checkpoint."""
        return self.checkpoint(name, number).with_suffix(SUFFIX)

    def models(self, name: str) -> Path:
        """Return the folder of the networks that a study has kept."""
        return self.study(name) / "models"

    def model(self, name: str, trial: str) -> Path:
        """Return the file of the network that a study has kept of a trial; its configuration is beside it, as JSON.

        Raises:
            InputError: the trial's name is not valid for a file, or would lead out of its folder.
        """
        if not _TRIAL.fullmatch(trial) or ".." in trial:
            raise InputError(f"trial {trial!r}: expected the name of a trial: letters, digits, '.', '_' and '-'")
        return self.models(name) / f"{trial}{SUFFIX}"

    def checkpoint_records(self, name: str, number: int) -> list[EpochRecord]:
        """Return the epochs in the checkpoint of a study's trial; none if it cannot be read."""
        try:
            return checkpoints.load_records(self.checkpoint(name, number))
        except checkpoints.CheckpointError:
            return []

    def error_log(self, name: str, number: int) -> Path:
        """Return the file with the errors of a study's trial, each with its traceback."""
        return self.study(name) / "errors" / f"{number:05d}.jsonl"

    def trial_log(self, name: str, number: int) -> Path:
        """Return the file with the printed and logged output of a study's trial."""
        return self.study(name) / "logs" / f"{number:05d}.txt"

    def driver(self, name: str) -> str | None:
        """Return the name of this home as a driver of a study; None if it never ran the study."""
        path = self.study(name) / "driver"
        return (path.read_text().strip() or None) if path.exists() else None

    def ensure_driver_name(self, name: str) -> str:
        """Return the name that `driver` returns; choose one if there is none. The caller must hold the study's lock."""
        driver = self.driver(name)
        if driver is None:
            driver = f"{socket.gethostname()[:64]}-{secrets.token_hex(3)}"
            path = self.study(name) / "driver"
            aside = path.with_name("driver.partial")
            aside.write_text(driver)
            aside.replace(path)
        return driver

    def ask_to_stop(self, name: str) -> None:
        """Ask the process that runs a study to stop, as one Ctrl-C does.

        The request is a file, not a signal: the process may be on another host, or have another id inside its
        container. The file is removed when the launch ends.
        """
        self._stop_request(name).touch()

    def asked_to_stop(self, name: str) -> bool:
        """Return whether the process that runs a study was asked to stop."""
        return self._stop_request(name).exists()

    def _stop_request(self, name: str) -> Path:
        return self.study(name) / "stop"

    def spool(self, name: str) -> Path:
        """Return the file in which entries for MLflow wait while it cannot be written."""
        return self.study(name) / "spool.jsonl"

    @contextlib.contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Hold a study's lock during the block. The kernel releases it even if the process is killed.

        Raises:
            InputError: another process holds it.
            SweepError: this user may not write to the study's folder, or its disk is full.
        """
        path = self.study(name) / "lock"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("a+")
        except OSError as error:
            raise SweepError(unreadable(path, error)) from error
        with file:
            # `holder` takes the lock for a moment, so several tries are needed.
            for _ in range(_LOCK_TRIES):
                if _take(file, fcntl.LOCK_EX):
                    break
                time.sleep(0.05)
            else:
                file.seek(0)
                holder = file.read().strip() or "unknown"
                raise InputError(
                    f"study {name!r} is being run by process {holder}; watch it with `sweeps status {name}`, "
                    "or launch under another --name"
                ) from None
            file.truncate(0)
            request = self._stop_request(name)
            request.unlink(missing_ok=True)  # left by an earlier launch: this one has not written its id yet
            try:
                os.write(file.fileno(), str(os.getpid()).encode())
            except OSError as error:
                raise SweepError(unreadable(path, error)) from error
            try:
                yield
            finally:
                request.unlink(missing_ok=True)

    def lock_holder(self, name: str) -> int | None:
        """Return the id of the process that runs a study now, or None."""
        path = self.study(name) / "lock"
        if not path.exists():
            return None
        with path.open("r") as file:
            if _take(file, fcntl.LOCK_SH):
                return None
            text = file.read().strip()
        return int(text) if text.isdigit() else None


def check_database(path: Path) -> None:
    """Check that a file is a database; otherwise MLflow and Optuna would retry for minutes, or print a long error.

    Raises:
        SweepError: the file exists, but cannot be read, or is not a SQLite database.
    """
    try:
        if path.exists():
            open_to_read(path).close()
    except (OSError, sqlite3.Error) as error:
        raise SweepError(unreadable(path, error)) from error


def check_new_database(path: Path) -> None:
    """Check that a file for MLflow can be written, if it does not exist yet; MLflow would try for minutes.

    Raises:
        InputError: it cannot be written.
    """
    if not path.exists():
        folder = next(parent for parent in path.absolute().parents if parent.exists())  # MLflow makes the others
        try:
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            raise InputError(
                f"--mlflow {path}: {folder} cannot be written: {error.strerror}; name another file"
            ) from error


def unreadable(path: Path, error: BaseException | None) -> str:
    """Return the message for a database that cannot be used; only one that is damaged should be moved away."""
    reason = getattr(error, "strerror", None) or str(error)
    if isinstance(error, sqlite3.DatabaseError) and type(error) is sqlite3.DatabaseError:
        return f"{path}: {reason}; move it away, or choose another folder with --home"
    remedy = "free some space" if is_disk_full(reason) else "see who may read and write it"
    return f"{path} cannot be used: {reason}; {remedy}, or choose another folder with --home"


def _take(file: TextIO, kind: int) -> bool:
    """Take the lock of a file if the lock is free; return whether it was free."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
