"""Conditional parameters for samplers of Optuna's that need the same parameters in all trials."""
# ruff: noqa: D102 - the methods do what Optuna's BaseSampler says

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState


class SeparateSampler(BaseSampler):
    """A sampler that draws some parameters one by one, and the others jointly.

    Samplers such as CMA-ES find out by themselves which parameters all trials share. They get it wrong while the first
    trials happen to have the same conditional parameters, and CMA-ES does not recover from that.

    Args:
        sampler: the sampler.
        separate: names of the parameters that it draws one by one.
    """

    def __init__(self, sampler: BaseSampler, separate: Collection[str]) -> None:
        self._sampler, self._separate = sampler, frozenset(separate)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        found = self._sampler.infer_relative_search_space(study, trial)
        return {name: one for name, one in found.items() if name not in self._separate}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._sampler.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._sampler.sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        self._sampler.before_trial(study, trial)

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        self._sampler.after_trial(study, trial, state, values)

    def reseed_rng(self) -> None:
        self._sampler.reseed_rng()
