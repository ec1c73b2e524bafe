"""The race of a study's best configurations: which is run again next, and when it is decided which is the best.

A search names what was fast once. Run again with fresh seeds, its best configurations show what they do as a rule.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from resnet_core.config import TrialConfig
from search_spaces.spec import StudySpec
from search_spaces.tables import SEEDS, Finalists
from sweeps.study.ranking import Configuration, Ranking, configuration_of, ranking
from sweeps.study.trials import Entry

_FAR = 1_000_000  # more trials than a search has: its own seeds count up from search.seed
_OUT = 0.3  # whose chance to be better than the first is below is dropped; by simulation, see docs/simulation.md
_REPEATED = 2  # runs with fresh seeds that the winner has at least, where it may have as many


@dataclass(frozen=True)
class Racer:
    """A configuration in the race.

    Attributes:
        configuration: what it is.
        seeds: fresh seeds of its runs, running ones too.
        chance: probability that it is better than the first; 0.5 for the first.
    """

    configuration: Configuration
    seeds: frozenset[int]
    chance: float


def racers(spec: StudySpec, entries: Sequence[Entry], ranked: Ranking | None = None) -> list[Racer]:
    """Return the configurations that are still in the race, the best first; none of a study without finalists.

    The race is among ``top``: those that were run again already, then the first of the ranking. Who was run again and
    has little chance to be better than the first is out, and is in again should later runs raise it.

    Args:
        spec: the study.
        entries: all its trials.
        ranked: their ranking, where it is known.
    """
    race = spec.search.finalists
    if race is None:
        return []
    seeds: dict[TrialConfig, set[int]] = {}
    for entry in entries:
        if entry.job.finalist:
            seeds.setdefault(configuration_of(entry.job.config), set()).add(entry.job.config.seed)
    ranked = ranking(spec, entries) if ranked is None else ranked
    others = [one for one in ranked.configurations if one.config not in seeds][: max(0, race.top - len(seeds))]
    chosen = [one for one in ranked.configurations if one.config in seeds or one in others]
    found = [Racer(one, frozenset(seeds.get(one.config, ())), ranked.chance(one, chosen[0])) for one in chosen]
    return [racer for racer in found if racer.chance >= _OUT or not racer.seeds]


def next_finalist(spec: StudySpec, entries: Sequence[Entry]) -> tuple[Entry, int] | None:
    """Return which trial's configuration is run again next, and its seed; None where nothing is to be run now.

    It is the one in the race that was run again least; of several, the best. All get the same seeds in the same order,
    none of which the search had. The race is decided once one alone is left, and has been run again twice.
    """
    race, left = spec.search.finalists, racers(spec, entries)
    return None if race is None else _next(spec, race, entries, left)


def max_runs_left(spec: StudySpec, entries: Sequence[Entry]) -> int:
    """Return how many runs of finalists there can still be at most; while any trial runs, at least one.

    Where nothing runs it is 0 only once the race is decided.
    """
    race = spec.search.finalists
    if race is None:
        return 0
    running, left = any(entry.result is None for entry in entries), racers(spec, entries)
    if _next(spec, race, entries, left) is None:
        return int(running)
    return sum(race.seeds - len(racer.seeds) for racer in left)


def fresh_seeds(seed: int, count: int, used: Collection[int]) -> list[int]:
    """Return seeds that were not used, the first of ``seed`` + 1,000,000, + 1,000,001, …

    They depend on the search's seed alone, so that runs of two of its configurations share their seeds, and can be
    compared in pairs.
    """
    found: list[int] = []
    candidate = (seed + _FAR) % SEEDS
    while len(found) < count:
        if candidate not in used:
            found.append(candidate)
        candidate = (candidate + 1) % SEEDS
    return found


def _next(
    spec: StudySpec, race: Finalists, entries: Sequence[Entry], left: Sequence[Racer]
) -> tuple[Entry, int] | None:
    if not left or (len(left) == 1 and len(left[0].seeds) >= _REPEATED):
        return None
    racer = min(left, key=lambda racer: len(racer.seeds))
    if len(racer.seeds) >= race.seeds:
        return None
    used = {entry.job.config.seed for entry in entries if not entry.job.finalist}
    seeds = fresh_seeds(spec.search.seed, race.seeds, used)
    return racer.configuration.runs[0], next(seed for seed in seeds if seed not in racer.seeds)
