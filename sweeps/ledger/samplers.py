"""The shipped samplers. Optuna is imported when a sampler is made, not when a study file is read."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

from search_spaces.plugins import Sampler, samplers
from search_spaces.tables import SEEDS
from sweeps.ledger.attributes import FORKED

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial

    from search_spaces.spec import StudySpec

_CMAES_NEEDS = 10  # trials to start from: it uses the best tenth of them


def _tpe(seed: int, trials: Sequence[FrozenTrial]) -> BaseSampler:  # noqa: ARG001
    from optuna.samplers import TPESampler

    return TPESampler(multivariate=True, constant_liar=True, seed=seed)


def _gp(seed: int, trials: Sequence[FrozenTrial]) -> BaseSampler:  # noqa: ARG001
    from optuna.samplers import GPSampler

    return GPSampler(seed=seed)


def _random(seed: int, trials: Sequence[FrozenTrial]) -> BaseSampler:  # noqa: ARG001
    from optuna.samplers import RandomSampler

    return RandomSampler(seed=seed)


def _cmaes(seed: int, trials: Sequence[FrozenTrial]) -> BaseSampler:
    """Return CMA-ES. In a forked study, it starts from the older study's trials if there are enough.

    Other samplers treat copied trials as trials of this study. CMA-ES needs them as an argument, and uses only numeric
    parameters.
    """
    from optuna.exceptions import ExperimentalWarning
    from optuna.samplers import CmaEsSampler
    from optuna.trial import TrialState

    known = [_numbers(t) for t in trials if FORKED in t.user_attrs and t.state is TrialState.COMPLETE]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return CmaEsSampler(seed=seed, source_trials=known if len(known) >= _CMAES_NEEDS else None)


def _numbers(trial: FrozenTrial) -> FrozenTrial:
    """Return a trial without its categorical parameters."""
    from optuna.distributions import CategoricalDistribution
    from optuna.trial import create_trial

    kinds = {n: d for n, d in trial.distributions.items() if not isinstance(d, CategoricalDistribution)}
    return create_trial(value=trial.value, params={name: trial.params[name] for name in kinds}, distributions=kinds)


SAMPLERS = (
    Sampler("tpe", _tpe, note="multivariate, aware of running trials"),
    Sampler("gp", _gp, ignores_pruned=True),
    Sampler("random", _random),
    Sampler("cmaes", _cmaes, ignores_pruned=True),
    Sampler("grid", _random, exhaustive=True),  # all points are listed; nothing is sampled
)
"""`search_spaces.plugins` adds the samplers of installed packages."""


def make_sampler(spec: StudySpec, trials: Sequence[FrozenTrial], shift: int = 0) -> BaseSampler:
    """Return Optuna's sampler of a study.

    Args:
        spec: the study.
        trials: trials of the study so far, including those copied from another study. The seed depends on their
            number, so that a continued study does not repeat its first samples.
        shift: number that is added to the seed.
    """
    return samplers()[spec.search.sampler].make((spec.search.seed + len(trials) + shift) % SEEDS, trials)
