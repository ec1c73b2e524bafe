"""Asynchronous successive halving, on shares of each trial's own schedule."""

from __future__ import annotations

import math

from sweeps.study.stopping.base import Progress, StoppingRule, StudyState, check_at_least, check_share, first_epoch_at


class Asha(StoppingRule):
    """Ends a trial that is not among the best of those that have been at its rung.

    Rungs are the shares after·reductionᵏ < 1, k = 0, 1, …, of a trial's own schedule. A trial at a rung goes on
    if its val_acc there, smoothed over three epochs, is in the top 1/reduction of all that have been at that
    rung, itself included; it is decided with what is there, and nothing is stopped while fewer than ``reduction``
    are (the stopping variant of Li et al. 2020, arXiv:1810.05934, algorithm 2, with shares in place of epochs).

    Args:
        reduction: of so many trials at a rung one goes on, at least 2.
        after: share of its schedule at which a trial meets the first rung, in (0, 1).
    """

    name = "asha"

    def __init__(self, reduction: int, after: float) -> None:
        check_at_least("reduction", reduction, 2)
        self._reduction = reduction
        self._rungs = []
        share = check_share(after)
        while share < 1:
            self._rungs.append(share)
            share *= reduction

    def reason_to_stop(self, trial: Progress, study: StudyState) -> str | None:
        """Stop a trial below the target that has come to a rung and is not in the top of it."""
        mine = trial.curve
        rungs = [share for share in self._rungs if first_epoch_at(share, mine.horizon) == trial.epoch]
        if not rungs or mine.epochs_to_target(study.target) is not None:
            return None
        for rung in rungs:  # several, where a short schedule has them at one epoch
            values = [
                curve.smoothed[epoch - 1]
                for curve in study.curves
                if (epoch := first_epoch_at(rung, curve.horizon)) <= len(curve.val_accs)
            ]
            there = len(values) + 1
            value = _or_worst(mine.smoothed[-1])
            rank = 1 + sum(_or_worst(other) > value for other in values)
            kept = there // self._reduction
            if there >= self._reduction and rank > kept:
                return (
                    f"stopped at epoch {trial.epoch}: with val_acc {max(value, 0):.4f} over three epochs it is number "
                    f"{rank} of the {there} trials at {rung:.0%} of their schedules, of which the best {kept} go on"
                )
        return None


def _or_worst(value: float) -> float:
    return -math.inf if math.isnan(value) else value
