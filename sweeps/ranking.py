"""Which configuration of a study is best: by what all its runs say, not by one run's luck."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from analysis.epochs_to_target import objective
from analysis.repeats import accuracy_noise
from resnet_core.config import TrialConfig, epoch_sizes
from resnet_core.records import Outcome
from search_spaces.space import longest_horizon
from search_spaces.study import StudySpec
from sweeps.ledger import Entry
from sweeps.outcomes import Result


@dataclass(frozen=True)
class Configuration:
    """A configuration and its ended runs.

    Attributes:
        objective: mean over the runs of the number that the sampler minimises; one that diverged counts as one that
            never learned anything.
        runs: those that ended and did not crash, the best first; at least one did not diverge.
    """

    objective: float
    runs: Sequence[Entry]


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


def ranking(spec: StudySpec, entries: Iterable[Entry]) -> list[Configuration]:
    """Return a study's configurations, the best first; of those that ended with a result."""
    ended = [
        (configuration_of(entry.job.config), entry, entry.result)
        for entry in entries
        if entry.result is not None and entry.result.outcome is not Outcome.CRASHED
    ]
    if not ended:
        return []
    images = epoch_sizes(ended[0][0])[1]
    noise = noise_of(spec, ((configuration, result) for configuration, _, result in ended), images)
    groups: dict[TrialConfig, list[tuple[float, Entry]]] = {}
    for configuration, entry, result in ended:
        groups.setdefault(configuration, []).append((_value(spec, result, noise), entry))
    found = []
    for runs in groups.values():
        if any(entry.result is not None and entry.result.objective is not None for _, entry in runs):
            runs.sort(key=lambda run: (run[0], run[1].job.number))
            found.append(Configuration(fmean(value for value, _ in runs), [entry for _, entry in runs]))
    return sorted(found, key=lambda configuration: (configuration.objective, configuration.runs[0].job.number))


def _value(spec: StudySpec, result: Result, noise: float) -> float:
    """Return a run's objective beside the noise that is known by now, which may be more than when it was told."""
    if result.objective is not None and not result.val_accs:
        return result.objective  # of before curves were kept
    curve = () if result.objective is None else result.val_accs
    return objective(curve, spec.objective.target, longest_horizon(spec), noise)


def best_entry(spec: StudySpec, entries: Iterable[Entry]) -> Entry | None:
    """Return the best run of the best configuration, or None where no trial has ended with a result."""
    ranked = ranking(spec, entries)
    return ranked[0].runs[0] if ranked else None
