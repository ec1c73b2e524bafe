"""From a search to its confirmation: one frozen configuration, repeated with fresh seeds, nothing stopped early."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from pydantic import ValidationError

from search_spaces.study import Resources, Run, Search, Stopping, StudySpec, check_name
from sweeps.errors import InputError
from sweeps.home import Home
from sweeps.ledger import Entry, Ledger, asked
from sweeps.ranking import best_entry
from sweeps.views import find_trial

_FAR = 1_000_000  # more trials than a search has: its own seeds count up from search.seed
_SEEDS = 2**32
_LONGEST_NAME = 64


def confirmation(
    home: Home, name: str, seeds: int, *, trial: str = "", new_name: str = "", resources: dict[str, Any] | None = None
) -> StudySpec:
    """Return the study that confirms a trial of another one; where it is there already, with its seeds and more.

    Args:
        home: where things are.
        name: the search's.
        seeds: with how many seeds the configuration is to be repeated, in all.
        trial: name or number of the trial; else the one that the confirmation has confirmed so far, else the best.
        new_name: of the confirmation; ``NAME-confirm`` unless given.
        resources: keys of ``[resources]`` that are to be others than the search's.

    Raises:
        InputError: there is no such study or trial, it is a confirmation itself, or what is there under the new name
            confirms something else or has more seeds.
    """
    ledger = Ledger.open(home.ledger_uri, name)
    ledger.check_ran_here()
    source = ledger.spec
    if source.phase == "confirm":
        raise InputError(
            f"study {name!r} is a confirmation itself, of {source.confirms or 'a frozen configuration'}; "
            "name the search that it confirms, and the confirmation with --as to give it more seeds"
        )
    new_name = check_name(new_name or f"{name[: _LONGEST_NAME - len('-confirm')]}-confirm")
    earlier = _there(home, new_name)
    entries = ledger.entries()
    entry = _chosen(ledger, entries, trial, earlier)
    spec = _frozen(source, entry, new_name, _changed(source.resources, resources or {}))
    had = [] if earlier is None else earlier.search.seeds or []
    if earlier is not None and earlier.confirms != spec.confirms:
        raise InputError(
            f"study {new_name!r} {_said(earlier)}, and not {spec.confirms}: "
            f"give the confirmation of trial {entry.job.name} a name of its own with --as"
        )
    if seeds < len(had):
        raise InputError(
            f"--seeds {seeds}: study {new_name!r} has {len(had)} seeds already; expected {len(had)} or more"
        )
    used = {*had, *(entry.job.config.seed for entry in entries)}
    more = fresh_seeds(source.search.seed, seeds - len(had), used)
    search = Search(seeds=[*had, *more], seed=source.search.seed, retries=source.search.retries)
    return spec.model_copy(update={"search": search})


def fresh_seeds(seed: int, count: int, used: Collection[int]) -> list[int]:
    """Return seeds that were not used, the first of ``seed`` + 1,000,000, + 1,000,001, …

    They depend on the search's seed alone, so that confirmations of two trials of a search share their seeds, and can
    be compared in pairs.
    """
    found: list[int] = []
    candidate = (seed + _FAR) % _SEEDS
    while len(found) < count:
        if candidate not in used:
            found.append(candidate)
        candidate = (candidate + 1) % _SEEDS
    return found


def confirms(study: str, entry: Entry) -> str:
    """Return what a confirmation of a trial says that it confirms."""
    return f"{study} trial {entry.job.name}"


def confirming(home: Home, study: str, entry: Entry) -> list[StudySpec]:
    """Return the studies that confirm a trial, by name."""
    wanted = confirms(study, entry)
    return [spec for spec in asked(home.ledger_uri) if spec.phase == "confirm" and spec.confirms == wanted]


def _there(home: Home, name: str) -> StudySpec | None:
    return next((spec for spec in asked(home.ledger_uri) if spec.name == name), None)


def _said(spec: StudySpec) -> str:
    return f"confirms {spec.confirms}" if spec.phase == "confirm" else "is there, and no confirmation"


def _chosen(ledger: Ledger, entries: list[Entry], trial: str, earlier: StudySpec | None) -> Entry:
    """Return the trial to confirm: the one asked for, else the one confirmed so far, else the best."""
    name = ledger.spec.name
    if trial:
        return find_trial(ledger, trial)
    if earlier is not None:
        for entry in entries:
            if confirms(name, entry) == earlier.confirms:
                return entry
    best = best_entry(ledger.spec, entries)
    if best is None:
        raise InputError(
            f"study {name!r} has no trial that ended with a result yet; see `sweeps status {name}`, or name one "
            "with --trial"
        )
    return best


def _changed(resources: Resources, changes: dict[str, Any]) -> Resources:
    try:
        return Resources.model_validate({**resources.model_dump(), **changes})
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise InputError(f"--set resources.{key}: {first['msg']}") from None


def _frozen(source: StudySpec, entry: Entry, name: str, resources: Resources) -> StudySpec:
    """Return the study of a trial's configuration; each field is written out, whatever a default becomes later."""
    config = entry.job.config
    train = {key: value for key, value in config.to_dict().items() if value is not None and key != "seed"}
    train["test"] = config.split == "held-out"
    what = confirms(source.name, entry)
    return StudySpec(
        name=name,
        description=f"Confirms {what}: its configuration, frozen, with fresh seeds",
        phase="confirm",
        confirms=what,
        train=train,
        objective=source.objective,
        search=Search(seeds=[0]),
        stopping=Stopping(diverged=False),
        resources=resources,
        run=[Run(name=entry.job.name[:_LONGEST_NAME])],
    )
