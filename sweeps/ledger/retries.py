"""Retries of crashed trials; each crashed trial is retried once per launch."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from optuna.trial import FrozenTrial, TrialState

from sweeps.ledger.attributes import RETRY_OF


class Retries:
    """The crashed trials of earlier launches, to be retried. The next launch retries trials that crash in this one.

    Args:
        trials: Optuna's trials at the start of this launch.
    """

    def __init__(self, trials: Sequence[FrozenTrial]) -> None:
        self._crashed = {trial.number for trial in trials if trial.state is TrialState.FAIL}

    def next(self, trials: Sequence[FrozenTrial]) -> FrozenTrial | None:
        """Return the first crashed trial that was not retried yet."""
        waiting = self._crashed - _retried(trials)
        return next((trial for trial in trials if trial.number in waiting), None)

    def replaced(self, trials: Sequence[FrozenTrial]) -> Collection[int]:
        """Return Optuna's numbers of the crashed trials that a retry replaces, now or later in this launch."""
        return self._crashed | _retried(trials)


def _retried(trials: Sequence[FrozenTrial]) -> set[int]:
    return {trial.user_attrs[RETRY_OF] for trial in trials if RETRY_OF in trial.user_attrs}
