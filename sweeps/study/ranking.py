"""Which configuration of a study is best: by what all its runs say, not by one run's luck."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np

from analysis.statistics.repeats import accuracy_noise
from analysis.statistics.surrogate import Posterior, posterior
from resnet_core.config import TrialConfig, epoch_sizes
from resnet_core.objective import objective
from resnet_core.records import Outcome
from search_spaces.plugins import rules
from search_spaces.space import coordinates, longest_horizon
from search_spaces.spec import StudySpec
from sweeps.study.outcomes import Result
from sweeps.study.trials import Entry

_NEIGHBOURS_FROM = 10  # configurations; fewer do not tell over what distance they do alike
_MOST = 500  # configurations that are looked at together: it takes their cube of time


@dataclass(frozen=True)
class Configuration:
    """A configuration and its ended runs.

    Attributes:
        config: what its runs have in common; its seed is 0.
        runs: those that ended and did not crash, of the search before finalists, and the best first; at least one did
            not diverge.
        objective: mean over the runs of the number that the sampler minimises; one that diverged counts as one that
            never learned anything.
        expected: that number over all runs it could have, a miss as the study's longest schedule: by its own runs and
            by those of its neighbours, in epochs.
        sd: standard deviation of what is known of it.
    """

    config: TrialConfig
    runs: Sequence[Entry]
    objective: float
    expected: float
    sd: float


@dataclass(frozen=True)
class Ranking:
    """A study's configurations that have a result.

    Attributes:
        configurations: the best first.
        known: what is known of them, in the same order; None where there are none.
    """

    configurations: Sequence[Configuration]
    known: Posterior | None = None

    def chance(self, one: Configuration, other: Configuration) -> float:
        """Return the probability that one configuration is better than another one."""
        assert self.known is not None
        return self.known.chance_lower(self.configurations.index(one), self.configurations.index(other))

    @property
    def tells(self) -> bool:
        """Whether what is expected is more than what one run showed: runs were repeated, or there are neighbours."""
        repeated = any(len(one.runs) > 1 for one in self.configurations)
        return repeated or len(self.configurations) >= _NEIGHBOURS_FROM

    @property
    def best(self) -> Configuration | None:
        """The best: of those that finalists ran again, if there are any, else of all that ran; None without any."""
        raced = (one for one in self.configurations if any(run.job.finalist for run in one.runs))
        ran = (one for one in self.configurations if any(map(_tells, one.runs)))
        return next(raced, next(ran, None))


@functools.lru_cache(maxsize=4096)  # the schedule is read anew each time
def configuration_of(config: TrialConfig) -> TrialConfig:
    """Return what all runs of a configuration have in common: everything but the seed."""
    return dataclasses.replace(config, seed=0)


def noise_of(spec: StudySpec, trials: Iterable[tuple[TrialConfig, Result]], images: int) -> float:
    """Return the standard deviation of a run's validation accuracy in a study, as far as its trials tell.

    Args:
        spec: the study.
        trials: configurations (see `configuration_of`) and results of those that ended. Runs that were stopped, or
            diverged, are passed over: their curves end anywhere.
        images: how many validate.
    """
    curves: dict[TrialConfig, list[Sequence[float]]] = {}
    for configuration, result in trials:
        if result.outcome in (Outcome.REACHED, Outcome.EXHAUSTED):
            curves.setdefault(configuration, []).append(result.val_accs)
    return accuracy_noise(curves.values(), spec.objective.target, images)


def ranking(spec: StudySpec, entries: Iterable[Entry]) -> Ranking:
    """Return a study's configurations, ranked by what is expected of them.

    Configurations close to each other in the study's space tell of each other. Without a space, or while there are
    few, each tells of itself alone, and all of them of how much runs differ. A trial that was ended because little was
    expected of it tells nothing: its configuration is known by the others, and may yet come to be a finalist.
    """
    ended = [
        (configuration_of(entry.job.config), entry, entry.result)
        for entry in entries
        if entry.result is not None and entry.result.outcome is not Outcome.CRASHED
    ]
    if not any(_tells(entry) for _, entry, _ in ended):
        return Ranking([])
    longest = longest_horizon(spec)
    noise = noise_of(spec, ((config, result) for config, _, result in ended), epoch_sizes(ended[0][0])[1])
    values: dict[TrialConfig, dict[int, float]] = {}
    runs: dict[TrialConfig, list[Entry]] = {}
    for config, entry, result in ended:
        values.setdefault(config, {})[entry.job.number] = _value(result, spec.objective.target, longest, noise)
        runs.setdefault(config, []).append(entry)
    told = {config: [values[config][entry.job.number] for entry in runs[config] if _tells(entry)] for config in runs}
    observed = {config: fmean(of_runs.values()) for config, of_runs in values.items()}
    configs = sorted(observed, key=lambda config: (observed[config], runs[config][0].job.number))[:_MOST]
    known = _known(
        spec, longest, [runs[config][0].job.params for config in configs], [told[config] for config in configs]
    )
    found = {
        i: Configuration(
            config=config,
            runs=sorted(runs[config], key=lambda e: (e.job.finalist, values[config][e.job.number], e.job.number)),
            objective=observed[config],
            expected=float(known.mean[i]),
            sd=float(known.sd[i]),
        )
        for i, config in enumerate(configs)
        if any(entry.result is not None and entry.result.objective is not None for entry in runs[config])
    }
    order = sorted(found, key=lambda i: (round(found[i].expected, 9), i))
    return Ranking([found[i] for i in order], known.ordered(order))


def _known(
    spec: StudySpec, longest: int, params: Sequence[Mapping[str, Any]], values: Sequence[Sequence[float]]
) -> Posterior:
    """Return what is known of configurations by their parameters and the values of their runs."""
    if spec.space and len(params) >= _NEIGHBOURS_FROM and all(spec.space.keys() <= each.keys() for each in params):
        places = np.array([coordinates(spec, each) for each in params])
    else:
        places = np.eye(len(params)) * np.sqrt(0.5)  # all are 1 apart
    index = [i for i, of_runs in enumerate(values) for _ in of_runs]
    return posterior(places, index, [min(value, longest) for of_runs in values for value in of_runs])


def _tells(entry: Entry) -> bool:
    """Return whether a run says something about its configuration: not one that a predictive rule ended."""
    if entry.result is None:
        return False
    rule = rules().get(entry.result.stopped_by or "")
    return rule is None or not rule.predictive


def _value(result: Result, target: float, longest: int, noise: float) -> float:
    """Return a run's objective beside the noise that is known by now, which may be more than when it was told."""
    if result.objective is not None and not result.val_accs:
        return result.objective  # of before curves were kept
    return objective(() if result.objective is None else result.val_accs, target, longest, noise)


def best_entry(spec: StudySpec, entries: Iterable[Entry]) -> Entry | None:
    """Return the best run of the best configuration, or None where no trial has ended with a result."""
    found = ranking(spec, entries).best
    return None if found is None else found.runs[0]
