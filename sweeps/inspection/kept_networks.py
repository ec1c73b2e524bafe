"""The networks that a study has kept, in this home folder and in those of its other drivers that this machine sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resnet_core.records import Outcome
from search_spaces.tables import Keep
from search_spaces.trainers import SHIPPED
from sweeps.errors import InputError
from sweeps.home import Home
from sweeps.ledger.ledger import Ledger
from sweeps.study.networks import best_trials, kept_networks
from sweeps.study.trials import Entry

_UNITS = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


@dataclass(frozen=True)
class Kept:
    """A network that was kept.

    Attributes:
        trial: name of the trial.
        path: its file.
        size: bytes of the file, and of the JSON beside it.
    """

    trial: str
    path: Path
    size: int


def kept(home: Home, ledger: Ledger) -> list[Kept]:
    """Return the networks that a study has kept, the best first; nothing but names and sizes of files is read."""
    name, own = ledger.spec.name, home.driver(ledger.spec.name)
    others = [Home(Path(driver.home)) for driver in ledger.drivers.all() if driver.id != own]
    paths: dict[str, Path] = {}
    for place in (home, *others):
        for trial, path in kept_networks(place, name).items():
            paths.setdefault(trial, path)
    entries = {entry.job.number: entry for entry in ledger.entries()} if paths else {}
    results = {number: entry.result for number, entry in entries.items() if entry.result is not None}
    names = [entries[number].job.name for number in best_trials(results, ledger.spec.objective, Keep(all=True))]
    return [Kept(trial, paths[trial], _size(paths[trial])) for trial in names if trial in paths]


def _size(path: Path) -> int:
    return sum(file.stat().st_size for file in (path, path.with_suffix(".json")) if file.exists())


def find_kept(home: Home, ledger: Ledger, trial: str) -> Kept:
    """Return the network that was kept of a trial.

    Raises:
        InputError: there is none; the message says why, and of which trials there are some.
    """
    entry, there = ledger.find(trial), kept(home, ledger)
    found = next((one for one in there if one.trial == entry.job.name), None)
    if found is not None:
        return found
    said = f"study {ledger.spec.name!r}: the network of trial {entry.job.name} {_why_not(home, ledger, entry)}"
    listed = f"; kept are those of: {', '.join(one.trial for one in there)}" if there else ""
    raise InputError(said + listed)


def _why_not(home: Home, ledger: Ledger, entry: Entry) -> str:
    if ledger.origin is not None:
        return "is not here: the study was imported"
    if entry.result is None:
        return "is kept, or is not, once the trial has ended"
    if entry.result.outcome in (Outcome.DIVERGED, Outcome.CRASHED):
        return f"is not kept: the trial {entry.result.outcome.value}"
    owner = ledger.drivers.owners().get(entry.job.number)
    for driver in ledger.drivers.all():
        if driver.id == owner and owner != home.driver(ledger.spec.name) and not Path(driver.home).is_dir():
            return f"may be kept in {driver.home} on {driver.host}, which is not to be seen from here: ask there"
    if not ledger.spec.keep.any:
        return "is not kept: its [keep] says best = 0"
    ended = {entry.job.number: entry.result for entry in ledger.entries() if entry.result is not None}
    if entry.job.number not in best_trials(ended, ledger.spec.objective, ledger.spec.keep):
        return f"is not kept: the trial is not among the best {ledger.spec.keep.best}"
    if ledger.spec.trainer is not SHIPPED:
        return "is not there: its trainer has given none to run.save_model"
    return "is not there: the trial ended before the study kept any, or its file was removed"


def kept_to_dict(networks: Sequence[Kept]) -> dict[str, Any]:
    """Return which networks are kept as plain values."""
    return {"trials": [one.trial for one in networks], "bytes": sum(one.size for one in networks)}


def size_text(size: float) -> str:
    """Return a number of bytes as text for people.

    >>> [size_text(size) for size in (0, 980, 1209016, 20_100_000, 1.5e10)]
    ['0 bytes', '980 bytes', '1.2 MB', '20 MB', '15 GB']
    """
    for unit, name in _UNITS:
        if size >= unit:
            return f"{size / unit:.2g} {name}" if size < 100 * unit else f"{size / unit:,.0f} {name}"
    return f"{size:.0f} bytes"
