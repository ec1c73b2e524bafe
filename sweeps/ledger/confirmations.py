"""The confirmation of a trial: a study that repeats its configuration with fresh seeds, and stops no run early."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from resnet_core.config import TrialConfig
from search_spaces.space import fixed_fields
from search_spaces.spec import StudySpec
from search_spaces.stopping import Stopping
from search_spaces.tables import Resources, Search, check_name
from sweeps.errors import InputError
from sweeps.home import Home
from sweeps.ledger.ledger import Ledger
from sweeps.ledger.studies import study_specs
from sweeps.study.finalists import fresh_seeds
from sweeps.study.ranking import best_entry
from sweeps.study.trials import Entry, crashes

_USUAL = 10  # default number of seeds of a confirmation
_LONGEST_NAME = 64


@dataclass(frozen=True)
class Side:
    """One of the two trials of a paired confirmation.

    Attributes:
        study: name of the search.
        trial: name or number of the trial; empty for the one that `confirmation` chooses.
        new_name: name of the confirmation; empty for ``STUDY-confirm``.
        option: the command-line option that names the confirmation, for messages.
    """

    study: str
    trial: str = ""
    new_name: str = ""
    option: str = "--as"


@dataclass(frozen=True)
class Pairs:
    """Two confirmations that share seeds.

    Attributes:
        a: the confirmation of the first trial.
        b: the confirmation of the second trial.
        seeds: the seeds that both share, in an order that does not depend on any result.
    """

    a: StudySpec
    b: StudySpec
    seeds: list[int]


@dataclass(frozen=True)
class _Planned:
    """A confirmation whose seeds are not chosen yet.

    Attributes:
        spec: the confirmation.
        source: the search.
        had: the seeds that the confirmation has already.
        searched: the seeds that the search used.
    """

    spec: StudySpec
    source: StudySpec
    had: list[int]
    searched: frozenset[int]

    def with_seeds(self, seeds: list[int]) -> StudySpec:
        search = Search(seeds=seeds, seed=self.source.search.seed, retries=self.source.search.retries)
        return self.spec.model_copy(update={"search": search})


def confirmation(
    home: Home,
    name: str,
    seeds: int | None = None,
    *,
    trial: str = "",
    new_name: str = "",
    resources: dict[str, Any] | None = None,
) -> StudySpec:
    """Return the study that confirms a trial. If it exists already, new seeds are added after its seeds.

    Args:
        home: the home folder.
        name: name of the search.
        seeds: how many seeds the confirmation has in all; None for 10, or for the number that it has already.
        trial: name or number of the trial; if empty, the trial that an existing confirmation confirms, else the best.
        new_name: name of the confirmation; ``NAME-confirm`` unless given.
        resources: keys of ``[resources]`` that differ from the search's.

    Raises:
        InputError: there is no such study or trial, the study is a confirmation itself, or the study of the new name
            confirms something else or has more seeds.
    """
    planned = _plan(home, Side(name, trial, new_name), resources or {})
    had = planned.had
    if seeds is None:
        seeds = len(had) or _USUAL
    if seeds < len(had):
        raise InputError(
            f"--seeds {seeds}: study {planned.spec.name!r} has {len(had)} seeds already; expected {len(had)} or more"
        )
    more = fresh_seeds(planned.source.search.seed, seeds - len(had), {*had, *planned.searched})
    return planned.with_seeds([*had, *more])


def paired(home: Home, a: Side, b: Side, pairs: int, *, resources: dict[str, Any] | None = None) -> Pairs:
    """Return the studies that confirm two trials on the same seeds.

    First come the existing seeds of A's confirmation in their order, then those of B's, then fresh seeds of A's search.
    Seeds that either search used are left out. So a pair keeps its position when the confirmations get more seeds, and
    no result influences the order.

    Args:
        home: the home folder.
        a: the first trial.
        b: the second trial.
        pairs: how many seeds they share; more if they share more already.
        resources: keys of ``[resources]`` that differ from the searches'.

    Raises:
        InputError: one of the trials cannot be confirmed (see `confirmation`), both are the same trial, both
            confirmations would have the same name, or the targets differ.
    """
    one, other = (_plan(home, side, resources or {}) for side in (a, b))
    if one.spec.confirms == other.spec.confirms:
        raise InputError(f"--against: both are {one.spec.confirms}; expected another trial")
    if one.spec.name == other.spec.name:
        raise InputError(
            f"{one.spec.confirms} and {other.spec.confirms} would both be confirmed by study {one.spec.name!r}: "
            f"give the second a name of its own with {b.option}"
        )
    aims = [planned.spec.objective for planned in (one, other)]
    if (aims[0].metric, aims[0].goal, aims[0].target) != (aims[1].metric, aims[1].goal, aims[1].target):
        raise InputError(
            f"{one.spec.confirms} aims at {aims[0].target_words} and {other.spec.confirms} at {aims[1].target_words}: "
            "--against expects one target for both"
        )
    used = one.searched | other.searched
    known = [seed for seed in dict.fromkeys([*one.had, *other.had]) if seed not in used]
    pairs = max(pairs, len(set(one.had) & set(other.had) - used))
    seeds = known[:pairs]
    seeds += fresh_seeds(one.source.search.seed, pairs - len(seeds), used.union(one.had, other.had))
    specs = [side.with_seeds([*side.had, *(seed for seed in seeds if seed not in side.had)]) for side in (one, other)]
    return Pairs(specs[0], specs[1], seeds)


def _plan(home: Home, side: Side, resources: dict[str, Any]) -> _Planned:
    name = side.study
    ledger = Ledger.open(home.ledger_uri, name)
    ledger.check_not_imported()
    source = ledger.spec
    if source.phase == "confirm":
        raise InputError(
            f"study {name!r} is a confirmation itself, of {source.confirms or 'a frozen configuration'}; "
            "name the search that it confirms, and the confirmation with --as to give it more seeds"
        )
    if "seed" not in source.trainer.fields:
        raise InputError(
            f"study {name!r}: {source.trainer.owner} of {source.trainer.name} has no field `seed`, so fresh seeds "
            "would repeat the same run; give it one, and launch the study anew"
        )
    new_name = check_name(side.new_name or f"{name[: _LONGEST_NAME - len('-confirm')]}-confirm")
    earlier = _existing(home, new_name)
    entries = ledger.entries()
    entry = _chosen(ledger, entries, side.trial, earlier)
    spec = _frozen(source, entry, new_name, _changed(source.resources, resources))
    had = [] if earlier is None else earlier.search.seeds or []
    if earlier is not None and earlier.confirms != spec.confirms:
        raise InputError(
            f"study {new_name!r} {_described(earlier)}, and not {spec.confirms}: "
            f"give the confirmation of trial {entry.job.name} a name of its own with {side.option}"
        )
    return _Planned(
        spec, source, had, frozenset(seed for entry in entries if (seed := entry.job.config.seed) is not None)
    )


def confirms(study: str, entry: Entry) -> str:
    """Return the text that names a confirmed trial in the field ``confirms`` of the confirmation's study."""
    return f"{study} trial {entry.job.name}"


def confirming(home: Home, study: str, entry: Entry) -> list[StudySpec]:
    """Return the studies that confirm a trial, by name."""
    wanted = confirms(study, entry)
    return [spec for spec in study_specs(home.ledger_uri) if spec.phase == "confirm" and spec.confirms == wanted]


def _existing(home: Home, name: str) -> StudySpec | None:
    return next((spec for spec in study_specs(home.ledger_uri) if spec.name == name), None)


def _described(spec: StudySpec) -> str:
    return f"confirms {spec.confirms}" if spec.phase == "confirm" else "is there, and no confirmation"


def _chosen(ledger: Ledger, entries: list[Entry], trial: str, earlier: StudySpec | None) -> Entry:
    """Return the trial to confirm: the requested one, else the one confirmed so far, else the best."""
    name = ledger.spec.name
    if trial:
        return ledger.find(trial)
    if earlier is not None:
        for entry in entries:
            if confirms(name, entry) == earlier.confirms:
                return entry
    best = best_entry(ledger.spec, entries)
    if best is None:
        crashed = crashes(name, entries)
        why = f": {crashed}" if crashed else f" yet; see `sweeps status {name}`"
        raise InputError(f"study {name!r} has no trial that ended with a result{why}, or name one with --trial")
    return best


def _changed(resources: Resources, changes: dict[str, Any]) -> Resources:
    try:
        return Resources.model_validate({**resources.model_dump(), **changes})
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise InputError(f"--set resources.{key}: {first['msg']}") from None


def _frozen(source: StudySpec, entry: Entry, name: str, resources: Resources) -> StudySpec:
    """Return a study of one trial's configuration."""
    config = entry.job.config
    train = {key: value for key, value in fixed_fields(source, config).items() if key != "seed"}
    if isinstance(config, TrialConfig):
        train["test"] = config.split == "held-out"
    what = confirms(source.name, entry)
    values = {
        "name": name,
        "description": f"Confirms {what}: its configuration, frozen, with fresh seeds",
        "phase": "confirm",
        "confirms": what,
        "train": train,
        "objective": source.objective,
        "search": Search(seeds=[0]),
        "stopping": Stopping(rules={}),
        "resources": resources,
        "keep": source.keep,
        "run": [{"name": entry.job.name[:_LONGEST_NAME]}],
        "code": source.code,
    }
    return StudySpec.model_validate(values, context={"trainer": source.trainer})
