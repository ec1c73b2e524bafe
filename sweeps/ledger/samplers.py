"""What a study tries: the trials that its file names, then what Optuna's sampler proposes."""

from __future__ import annotations

import itertools
import random
import warnings
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.trial import FrozenTrial, TrialState

from search_spaces import space
from search_spaces.spec import StudySpec
from sweeps.ledger.attributes import FORKED
from sweeps.study.finalists import SEEDS

_CMAES_NEEDS = 10  # it starts from the best tenth


def listed(spec: StudySpec) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Return the trials that the study file itself names: listed runs, grid points, or its first trials."""
    if not spec.space:
        return [({}, {"run": run.name, "seed": run.seed, "name": run.trial_name}) for run in space.listed_runs(spec)]
    first: list[Mapping[str, Any]] = list(spec.search.first)
    if spec.search.sampler == "grid":
        axes = space.grid(spec)
        points = [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]
        # Shuffled, so that a grid cut short by `trials` is spread over the space.
        random.Random(spec.search.seed).shuffle(points)
        # A first trial stands for a point that agrees with it.
        for wanted in reversed(first):
            chosen = next(point for point in points if wanted.items() <= point.items())
            points.remove(chosen)
            points.insert(0, chosen)
        first = list(points)
    return [(dict(params), {}) for params in first[: space.trial_count(spec)]]


def sampler(spec: StudySpec, trials: list[FrozenTrial], shift: int = 0) -> optuna.samplers.BaseSampler:
    """Return the study's sampler; ``trials`` are those it has, and those it knows of another study."""
    # A continued study must not draw again what it drew at its start.
    seed = (spec.search.seed + len(trials) + shift) % SEEDS
    name = spec.search.sampler
    if name == "tpe":
        return optuna.samplers.TPESampler(multivariate=True, constant_liar=True, seed=seed)
    if name == "gp":
        return optuna.samplers.GPSampler(seed=seed)
    if name == "cmaes":
        # The only one that has to be told which trials are another study's: ten or more, and numbers alone.
        known = [_numbers(t) for t in trials if FORKED in t.user_attrs and t.state is TrialState.COMPLETE]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            return optuna.samplers.CmaEsSampler(seed=seed, source_trials=known if len(known) >= _CMAES_NEEDS else None)
    return optuna.samplers.RandomSampler(seed=seed)  # a grid is listed, so nothing is left to sample


def _numbers(trial: FrozenTrial) -> FrozenTrial:
    """Return a trial without its choices."""
    kinds = {n: d for n, d in trial.distributions.items() if not isinstance(d, CategoricalDistribution)}
    params = {name: trial.params[name] for name in kinds}
    return optuna.trial.create_trial(value=trial.value, params=params, distributions=kinds)
