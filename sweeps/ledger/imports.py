"""Converts imported trials, which were not run here, to trials of Optuna."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial

from sweeps.ledger import attributes
from sweeps.ledger.outcomes import optuna_result
from sweeps.study.trials import Entry


def imported_trials(entries: Sequence[Entry]) -> list[FrozenTrial]:
    """Return ended trials as trials of Optuna. A parameter's distribution spans the values in these trials.

    Args:
        entries: the trials; each has a result.
    """
    values: dict[str, list[Any]] = {}
    for entry in entries:
        for name, value in entry.job.params.items():
            values.setdefault(name, []).append(value)
    spans = {name: _span(seen) for name, seen in values.items()}
    trials = []
    for entry in entries:
        job, result = entry.job, entry.result
        assert result is not None
        how = optuna_result(result, job.config.horizon, False, 0)  # no sampler learns from it
        trials.append(
            optuna.trial.create_trial(
                state=how.state,
                value=how.value,
                params=job.params,
                distributions={name: spans[name] for name in job.params},
                user_attrs={
                    attributes.NAME: job.name,
                    attributes.LISTED: job.number,
                    attributes.CONFIG: job.config.to_dict(),
                    attributes.RESULT: result.to_dict(),
                },
                intermediate_values=dict(how.intermediate_values),
            )
        )
    return trials


def _span(values: Sequence[Any]) -> BaseDistribution:
    if any(isinstance(value, bool | str) for value in values):
        return CategoricalDistribution(sorted(set(values), key=str))
    if all(isinstance(value, int) for value in values):
        return IntDistribution(min(values), max(values))
    return FloatDistribution(min(values), max(values))
