"""A study while somebody watches it: what its store and its ledger say, read again when they have changed."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from math import nan
from pathlib import Path

import analysis
from analysis import Study
from analysis.report.live import Standing
from resnet_core.paths import sqlite_path
from resnet_core.records import duration_text
from sweeps.errors import SweepError
from sweeps.home import Home
from sweeps.inspection.status import best_text, ended_text, summarize
from sweeps.ledger.ledger import Ledger
from sweeps.study.time_left import TimeLeft, time_left

_SELDOM = 30.0  # seconds after which it is read again though no file has changed: a lease may have expired
_SERVER = 5.0  # seconds after which a database that is no file is read again: only reading tells what has changed


@dataclass(frozen=True)
class Seen:
    """What is known of a study.

    Attributes:
        study: what its store holds; None where that has never been read.
        standing: how it stands.
    """

    study: Study | None
    standing: Standing

    def is_same(self, other: Seen) -> bool:
        """Return whether this looks the same as what was seen at another time."""
        if self.standing != other.standing or (self.study is None) != (other.study is None):
            return False
        if self.study is None or other.study is None or self.study is other.study:
            return True
        return self.study.trials.equals(other.study.trials) and self.study.epochs.equals(other.study.epochs)


class Watched:
    """A study that is watched. Nothing is written.

    Args:
        home: the home folder, with the addresses of store and ledger.
        name: the study's name.

    Attributes:
        seen: what was known of it when it was read last.

    Raises:
        SweepError: neither the ledger nor the store has such a study.
    """

    def __init__(self, home: Home, name: str) -> None:
        self._home, self._name = home, name
        self._study: Study | None = None
        self._ledger: Ledger | None = None
        self._since: dict[str, str] = {}  # by what cannot be read: since when
        self.seen = self.read()
        if self._study is None and self._ledger is None:
            raise self._no_ledger

    def stamp(self) -> object:
        """Return something that is another once the study may have changed; it costs a few system calls."""
        now, found = time.monotonic(), list[object]()
        for uri in (self._home.mlflow_uri, self._home.ledger_uri):
            file = sqlite_path(uri)
            if file is None:
                found.append(now // _SERVER)
            else:
                found += [_state(file), _state(file.with_name(f"{file.name}-wal"))]
        return (*found, self._home.lock_holder(self._name), now // _SELDOM)

    def read(self) -> Seen:
        """Read the study again, and return what is known of it now. What cannot be read stays as it was."""
        troubles, now = [], f"{datetime.now(UTC).astimezone():%H:%M:%S %Z}"
        try:
            self._ledger = Ledger.read(self._home.ledger_uri, self._name)
            self._since.pop("ledger", None)
        except SweepError as error:
            self._no_ledger = error
            since = self._since.setdefault("ledger", now)
            if self._ledger is not None:
                troubles.append(f"Since {since} its ledger cannot be read: {error}.")
        try:
            self._study = analysis.load(self._home.mlflow_uri, self._name)
            self._since.pop("store", None)
        except analysis.StoreError as error:
            since = self._since.setdefault("store", now)
            if self._study is not None:
                troubles.append(f"Since {since} its epochs cannot be read: {error}.")
            elif self._home.mlflow or self._home.own_mlflow_db.exists():
                troubles.append(f"No epoch can be read yet: {error}.")
        standing = _of_store(self._study) if self._ledger is None else _of_ledger(self._home, self._ledger, self._study)
        self.seen = Seen(self._study, replace(standing, troubles=tuple(troubles)))
        return self.seen


def _of_ledger(home: Home, ledger: Ledger, study: Study | None) -> Standing:
    """Return how a study stands by its ledger."""
    row, remaining = summarize(home, ledger), ledger.remaining()
    state, name = row["state"], row["study"]
    begun = [entry.job for entry in ledger.entries() if entry.result is None]
    waiting = {job.number for job in begun}
    if state == "running":
        live, owners = {driver["driver"] for driver in row["drivers"]}, ledger.drivers.owners()
        paused = set() if study is None else set(study.trials["number"][study.trials["status"] == "SCHEDULED"])
        waiting = {n for n in waiting if n in paused or owners.get(n, "") not in {"", *live}}
    if state == "running":
        hosts = ", ".join(dict.fromkeys(driver["host"] for driver in row["drivers"]))
        said = "Running" + (f" on {hosts}." if hosts else ".")
    elif row["imported_from"] is not None:
        said = f"Imported from {row['imported_from']}."
    elif state == "complete":
        said = "Complete: all its trials have ended."
    elif state == "crashed":
        said = "Ended, and some trials crashed."
    else:
        said = f"Nobody runs it now; `sweeps resume {name}` goes on with it."
    if row["crashes"] is not None:
        said += f" {row['crashes'][0].upper()}{row['crashes'][1:]}."
    counts = [f"ended: {ended_text(row)}", f"running: {len(begun) - len(waiting)}"]
    counts += [f"waiting to go on: {len(waiting)}"] if waiting else []
    facts = {"Trials": " · ".join([*counts, f"to come: {remaining}"]), "Best so far": best_text(row)}
    left = None if study is None else _time_left(study, waiting, len(waiting) + remaining)
    if state == "running":
        facts["Time left"] = (
            "not known yet" if left is None else f"about {duration_text(left.seconds, digits=2)}: {left.how}"
        )
    ended = row["imported_from"] is not None or state in ("complete", "crashed")
    return Standing(said, tuple(facts.items()), frozenset(waiting), ended)


def _of_store(study: Study | None) -> Standing:
    """Return how a study stands by its store alone."""
    if study is None:
        return Standing("Nothing is known of it.")
    running = study.status == "RUNNING"
    words = {"RUNNING": "Running", "FINISHED": "Complete"}
    said = f"{words.get(study.status, 'Nobody runs it now')}, says MLflow's store."
    said += " The study's ledger is not here: what is to come is not known."
    open_ = {int(number) for number in study.trials["number"][study.trials["outcome"].isna()]}
    left = _time_left(study, set(), 0) if running else None
    facts = (
        {}
        if left is None
        else {"Time left": f"about {duration_text(left.seconds, digits=2)} for the trials that run: {left.how}"}
    )
    return Standing(
        said, tuple(facts.items()), frozenset() if running else frozenset(open_), study.status == "FINISHED"
    )


def _time_left(study: Study, waiting: Collection[int], remaining: int) -> TimeLeft | None:
    trials, lengths = study.trials.set_index("number"), study.epochs.groupby("number").size()
    ended = trials.index[trials["outcome"].notna()]
    if "horizon" not in trials:
        return None
    runs = [n for n in trials.index[trials["outcome"].isna() & trials["horizon"].notna()] if n not in waiting]
    seconds = study.epochs["seconds"].mean() if "seconds" in study.epochs else nan
    return time_left(
        [(int(lengths.get(number, 0)), int(trials["horizon"][number])) for number in runs],
        [int(lengths.get(number, 0)) for number in ended],
        remaining,
        float(seconds),
    )


def _state(file: Path) -> tuple[int, int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
