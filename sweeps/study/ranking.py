"""Which configuration of a study is best: judged by all its runs and by its neighbours, not by one lucky run."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np

from analysis.statistics.repeats import run_noise
from analysis.statistics.surrogate import Posterior, posterior
from resnet_core.config import TrialConfig, epoch_sizes
from resnet_core.objective import Objective
from resnet_core.own_config import Config, with_seed
from resnet_core.records import Outcome
from search_spaces.plugins import rules
from search_spaces.space import coordinates, has_all, longest_horizon
from search_spaces.spec import StudySpec
from sweeps.study.outcomes import Result
from sweeps.study.trials import Entry

_NEIGHBOURS_FROM = 10  # configurations; fewer do not show over which distance configurations are similar
_MOST = 500  # configurations compared together: the time grows with the cube of their number


@dataclass(frozen=True)
class Configuration:
    """A configuration and its ended runs.

    Attributes:
        config: the configuration that its runs share, with seed 0.
        runs: its ended runs that did not crash: first those of the search, then those as a finalist, each with the best
            first. At least one did not diverge.
        objective: mean over the runs of the objective that the sampler minimises. A run that diverged counts as one
            that learned nothing or, without a target, as the study's worst run.
        expected: expected objective of a run with any seed, estimated from the configuration's own runs and
            those of its neighbours. A run that misses the target counts as the study's longest schedule.
        sd: standard deviation of ``expected``.
    """

    config: Config
    runs: Sequence[Entry]
    objective: float
    expected: float
    sd: float


@dataclass(frozen=True)
class Ranking:
    """A study's configurations that have a result.

    Attributes:
        configurations: the best first.
        known: the joint estimate of their expected objectives, in the same order; None without configurations.
    """

    configurations: Sequence[Configuration]
    known: Posterior | None = None

    def chance(self, one: Configuration, other: Configuration) -> float:
        """Return the probability that one configuration is better than another one."""
        assert self.known is not None
        return self.known.chance_lower(self.configurations.index(one), self.configurations.index(other))

    @property
    def has_enough_data(self) -> bool:
        """Whether the ranking knows more than single runs do: some were repeated, or there are enough neighbours."""
        repeated = any(len(one.runs) > 1 for one in self.configurations)
        return repeated or len(self.configurations) >= _NEIGHBOURS_FROM

    @property
    def best(self) -> Configuration | None:
        """The best configuration that ran again as a finalist, else the best that ran; None without any."""
        raced = (one for one in self.configurations if any(run.job.finalist for run in one.runs))
        ran = (one for one in self.configurations if any(map(_tells, one.runs)))
        return next(raced, next(ran, None))


@functools.lru_cache(maxsize=4096)  # each call parses the schedule again
def configuration_of(config: Config) -> Config:
    """Return the configuration with seed 0; runs that differ in their seed alone share it."""
    return with_seed(config, 0)


def validation_images(config: Config) -> int | None:
    """Return how many images a trial validates on; None where its trainer does not tell."""
    return epoch_sizes(config)[1] if isinstance(config, TrialConfig) else None


def noise_of(spec: StudySpec, trials: Iterable[tuple[Config, Result]], images: int | None) -> float:
    """Return the standard deviation of a run's metric between seeds, estimated from a study's trials.

    Args:
        spec: the study.
        trials: configurations (see `configuration_of`) and results of the ended trials. Trials that were stopped or
            diverged are left out: their curves end at arbitrary epochs.
        images: number of validation images; None where it is not known. It tells about accuracies alone.
    """
    curves: dict[Config, list[Sequence[float]]] = {}
    for configuration, result in trials:
        if result.outcome in (Outcome.REACHED, Outcome.EXHAUSTED):
            curves.setdefault(configuration, []).append(result.values)
    sought = spec.objective
    return run_noise(curves.values(), sought.target, images if sought.is_accuracy else None)


def ranking(spec: StudySpec, entries: Iterable[Entry]) -> Ranking:
    """Return a study's configurations, ranked by their expected objectives.

    Each configuration is judged by its own runs and by its neighbours in the study's space. Without a space, or with
    few configurations, each is judged by its own runs alone; the scatter of runs is estimated from all runs together.
    A trial that a predictive rule stopped is ignored: its configuration is judged by its neighbours, and may still
    become a finalist.

    Args:
        spec: the study.
        entries: all its trials.
    """
    ended = [
        (configuration_of(entry.job.config), entry, entry.result)
        for entry in entries
        if entry.result is not None and entry.result.outcome is not Outcome.CRASHED
    ]
    if not any(_tells(entry) for _, entry, _ in ended):
        return Ranking([])
    longest = longest_horizon(spec)
    noise = noise_of(spec, ((config, result) for config, _, result in ended), validation_images(ended[0][0]))
    worst = max((r.objective for _, _, r in ended if r.objective is not None), default=0.0)
    values: dict[Config, dict[int, float]] = {}
    runs: dict[Config, list[Entry]] = {}
    for config, entry, result in ended:
        values.setdefault(config, {})[entry.job.number] = _value(result, spec.objective, longest, noise, worst)
        runs.setdefault(config, []).append(entry)
    shown = {config: [values[config][entry.job.number] for entry in runs[config] if _tells(entry)] for config in runs}
    observed = {config: fmean(of_runs.values()) for config, of_runs in values.items()}
    configs = sorted(observed, key=lambda config: (observed[config], runs[config][0].job.number))[:_MOST]
    known = _known(
        spec, longest, [runs[config][0].job.params for config in configs], [shown[config] for config in configs]
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
    """Return the joint estimate of the expected objectives of configurations.

    Args:
        spec: the study.
        longest: epochs of the study's longest schedule.
        params: the parameters of each configuration.
        values: for each configuration, the objectives of its runs.
    """
    if len(params) >= _NEIGHBOURS_FROM and all(has_all(spec, each) for each in params):
        places = np.array([coordinates(spec, each) for each in params])
    else:
        places = np.eye(len(params)) * np.sqrt(0.5)  # the distance between any two is 1
    index = [i for i, of_runs in enumerate(values) for _ in of_runs]
    return posterior(
        places,
        index,
        [value if spec.objective.target is None else min(value, longest) for of_runs in values for value in of_runs],
    )


def _tells(entry: Entry) -> bool:
    """Return whether a run counts for its configuration; a run that a predictive rule ended does not."""
    if entry.result is None:
        return False
    rule = rules().get(entry.result.stopped_by or "")
    return rule is None or not rule.predictive


def _value(result: Result, sought: Objective, longest: int, noise: float, worst: float) -> float:
    """Return a run's objective with today's estimate of the noise, which is better than that at the run's end.

    A run that diverged counts as one that learned nothing or, without a target, as the worst one.
    """
    if result.objective is not None and not result.values:
        return result.objective  # written by a version that kept no curves
    value = sought.minimised(() if result.objective is None else result.values, longest, noise)
    return worst if value is None else value


def best_entry(spec: StudySpec, entries: Iterable[Entry]) -> Entry | None:
    """Return the best run of the best configuration, or None where no trial has ended with a result."""
    found = ranking(spec, entries).best
    return None if found is None else found.runs[0]
