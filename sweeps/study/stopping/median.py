"""The median stopping rule, on shares of each trial's own schedule."""

from __future__ import annotations

import math
import statistics

from sweeps.study.stopping.base import Progress, StoppingRule, StudyState, check_at_least, check_share, last_epoch_by


class Median(StoppingRule):
    """Ends a trial whose best val_acc is below the median of the others' running averages at the same share.

    The trial's val_acc is smoothed over three epochs; a running average is the mean of all epochs up to that share
    of the other trial's own schedule (Golovin et al. 2017, Google Vizier, doi:10.1145/3097983.3098043, section
    3.2.2, with shares in place of steps, and with running trials among the others).

    Args:
        after: share of its schedule a trial is let alone for, in (0, 1).
        trials: so many others must have come to the same share, from 1.
    """

    name = "median"

    def __init__(self, after: float, trials: int) -> None:
        check_at_least("trials", trials, 1)
        self._after, self._trials = check_share(after), trials

    def reason_to_stop(self, trial: Progress, study: StudyState) -> str | None:
        """Stop a trial below the target whose best is below the median."""
        mine = trial.curve
        if trial.share < self._after or mine.epochs_to_target(study.target) is not None:
            return None
        averages = [
            curve.averages[epoch - 1]
            for curve in study.curves
            if 1 <= (epoch := last_epoch_by(trial.share, curve.horizon)) <= len(curve.val_accs)
        ]
        averages = [average for average in averages if not math.isnan(average)]
        if len(averages) < self._trials:
            return None
        middle, best = statistics.median(averages), mine.best_smoothed[-1]
        if best >= middle:
            return None
        return (
            f"stopped at epoch {trial.epoch}: its best val_acc over three epochs is {max(best, 0):.4f}; the median of "
            f"{len(averages)} trials' averages up to {trial.share:.0%} of their schedules is {middle:.4f}"
        )
