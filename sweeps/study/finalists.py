"""The race of a study's best configurations: which one runs again next, and when the winner is certain enough.

A search shows which configurations were fast once. Runs with fresh seeds show how fast the best of them usually are.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from resnet_core.own_config import Config
from search_spaces.spec import StudySpec
from search_spaces.tables import SEEDS, Finalists
from sweeps.study.ranking import Configuration, configuration_of, ranking
from sweeps.study.trials import Entry

_FIRST = 1_000_000  # the first fresh seed is search.seed plus this; the seeds of the search count up from search.seed
_OUT = 0.3  # a racer whose chance to be better than the first is lower is out; see docs/simulation.md
_REPEATED = 2  # fewest runs of the winner with fresh seeds, if the study allows that many


@dataclass(frozen=True)
class Racer:
    """A configuration in the race.

    Attributes:
        configuration: the configuration and its ended runs.
        seeds: the fresh seeds of its runs, running ones included.
        chance: probability that it is better than the first configuration; 0.5 for the first itself.
    """

    configuration: Configuration
    seeds: frozenset[int]
    chance: float


@dataclass(frozen=True)
class Race:
    """The state of the race.

    Attributes:
        racers: the configurations that are still in the race, the best first.
        next: the trial whose configuration runs again next, and the seed; None where no run is due now.
        runs_left: the largest number of runs of finalists that may still follow. While any trial runs it is 1 or more,
            since the trial's result may make another run necessary. Without running trials it is 0 once the race is
            decided.
    """

    racers: Sequence[Racer] = ()
    next: tuple[Entry, int] | None = None
    runs_left: int = 0


def race_of(spec: StudySpec, entries: Sequence[Entry]) -> Race:
    """Return the state of the race of a study's finalists; a study without finalists has no racers.

    The configuration with the fewest repeated runs is next; among equals, the best one. All configurations get the
    same seeds in the same order, and the search used none of these seeds. The race is decided once a single
    configuration is left and it ran again twice.

    Args:
        spec: the study.
        entries: all its trials.
    """
    finalists = spec.search.finalists
    if finalists is None:
        return Race()
    racers = _racers(spec, finalists, entries)
    following = _next(spec, finalists, entries, racers)
    if following is None:
        return Race(racers, None, int(any(entry.result is None for entry in entries)))
    return Race(racers, following, sum(finalists.seeds - len(racer.seeds) for racer in racers))


def fresh_seeds(seed: int, count: int, used: Collection[int]) -> list[int]:
    """Return the first unused seeds of ``seed`` + 1,000,000, ``seed`` + 1,000,001, …

    They depend on nothing but the search's seed and the used seeds. So two configurations of a search run with the
    same seeds, and their runs can be compared in pairs.

    Args:
        seed: the search's seed.
        count: how many seeds to return.
        used: seeds that are left out.

    >>> fresh_seeds(7, 3, {1_000_008})
    [1000007, 1000009, 1000010]
    """
    found: list[int] = []
    candidate = (seed + _FIRST) % SEEDS
    while len(found) < count:
        if candidate not in used:
            found.append(candidate)
        candidate = (candidate + 1) % SEEDS
    return found


def _racers(spec: StudySpec, finalists: Finalists, entries: Sequence[Entry]) -> list[Racer]:
    """Return the configurations in the race, the best first.

    These are the configurations that ran again already, filled up to ``top`` with those that rank first. A
    configuration that ran again and has little chance to be better than the first one is out of the race. Later runs
    may bring it back.
    """
    seeds: dict[Config, set[int]] = {}
    for entry in entries:
        if entry.job.finalist:
            assert entry.job.config.seed is not None  # a study has finalists only if its trials have seeds
            seeds.setdefault(configuration_of(entry.job.config), set()).add(entry.job.config.seed)
    ranked = ranking(spec, entries)
    others = [one for one in ranked.configurations if one.config not in seeds][: max(0, finalists.top - len(seeds))]
    chosen = [one for one in ranked.configurations if one.config in seeds or one in others]
    found = [Racer(one, frozenset(seeds.get(one.config, ())), ranked.chance(one, chosen[0])) for one in chosen]
    return [racer for racer in found if racer.chance >= _OUT or not racer.seeds]


def _next(
    spec: StudySpec, finalists: Finalists, entries: Sequence[Entry], racers: Sequence[Racer]
) -> tuple[Entry, int] | None:
    if not racers or (len(racers) == 1 and len(racers[0].seeds) >= _REPEATED):
        return None
    racer = min(racers, key=lambda racer: len(racer.seeds))
    if len(racer.seeds) >= finalists.seeds:
        return None
    used = {seed for entry in entries if not entry.job.finalist and (seed := entry.job.config.seed) is not None}
    seeds = fresh_seeds(spec.search.seed, finalists.seeds, used)
    return racer.configuration.runs[0], next(seed for seed in seeds if seed not in racer.seeds)
