"""Asynchronous successive halving, on shares of each trial's own schedule."""

from __future__ import annotations

import math

from pydantic import Field

from sweeps.study.stopping.base import Progress, Share, StoppingRule, StudyState, first_epoch_at, smoothed_over


class Asha(StoppingRule):
    """Ends a trial that is not in the top 1/``reduction`` of the trials at its rung: asynchronous successive halving.

    Rungs are the shares after·reductionᵏ < 1, k = 0, 1, …, of a trial's own schedule. The metric, smoothed over three
    epochs, is compared at each rung with that of all trials that have reached the rung so far, itself included. A trial
    in the top 1/reduction goes on. Nothing is stopped while fewer than ``reduction`` trials have reached the rung. This
    is the stopping variant of Li et al. 2020, arXiv:1810.05934, algorithm 2, with shares of schedules instead of
    epochs.

    Attributes:
        reduction: one of ``reduction`` trials at a rung goes on.
        after: share of the schedule at the first rung.
    """

    name = "asha"
    order = 50

    reduction: int = Field(default=3, ge=2)
    after: Share = 0.25

    @property
    def rungs(self) -> list[float]:
        """The shares of a schedule at which trials are compared, in rising order."""
        shares = []
        share = self.after
        while share < 1:
            shares.append(share)
            share *= self.reduction
        return shares

    def why_idle(self, trials: int, longest: int, *, has_space: bool) -> str:  # noqa: ARG002
        """Return that too few trials can reach a rung; else an empty text."""
        return f"it waits until {self.reduction} have come as far" if trials < self.reduction else ""

    def reason_to_stop(self, trial: Progress, study: StudyState) -> str | None:
        """Stop a trial below the target that has reached a rung and is not in the top 1/reduction there."""
        mine = trial.curve
        rungs = [share for share in self.rungs if first_epoch_at(share, mine.horizon) == trial.epoch]
        if not rungs or mine.epochs_to_target(study.target) is not None:
            return None
        for rung in rungs:  # a short schedule may have several at one epoch
            values = [
                curve.smoothed[epoch - 1]
                for curve in study.curves
                if (epoch := first_epoch_at(rung, curve.horizon)) <= len(curve.scores)
            ]
            there = len(values) + 1
            value = _or_worst(mine.smoothed[-1])
            rank = 1 + sum(_or_worst(other) > value for other in values)
            kept = there // self.reduction
            if there >= self.reduction and rank > kept:
                return (
                    f"stopped at epoch {trial.epoch}: with {trial.objective.metric} {trial.shown(value)} "
                    f"{smoothed_over(trial.epoch)} it is number {rank} of the {there} trials at {rung:.0%} of their "
                    f"schedules, of which the best {kept} go on"
                )
        return None


def _or_worst(value: float) -> float:
    return -math.inf if math.isnan(value) else value
