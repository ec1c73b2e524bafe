"""The median stopping rule, on shares of each trial's own schedule."""

from __future__ import annotations

import math
import statistics

from pydantic import Field

from sweeps.study.stopping.base import Progress, Share, StoppingRule, StudyState, last_epoch_by, smoothed_over


class Median(StoppingRule):
    """Ends a trial whose best value is worse than the median of the others' running averages at the same share.

    The trial's metric is smoothed over three epochs. A running average is the mean of all epochs up to the
    same share of the other trial's own schedule. Source: Golovin et al. 2017, Google Vizier,
    doi:10.1145/3097983.3098043, section 3.2.2. Here shares of schedules replace steps, and running trials count among
    the others.

    Attributes:
        after: share of its schedule before which no trial is ended.
        trials: the smallest number of other trials that must have reached the same share before a trial is ended.
    """

    name = "median"
    order = 60

    after: Share = 0.3
    trials: int = Field(default=5, ge=1)

    def why_idle(self, trials: int, longest: int, *, has_space: bool) -> str:  # noqa: ARG002
        """Return that the study has too few other trials; else an empty text."""
        return f"it compares a trial with {self.trials} others" if trials <= self.trials else ""

    def reason_to_stop(self, trial: Progress, study: StudyState) -> str | None:
        """Stop a trial that misses the target and whose best value is worse than the median."""
        mine = trial.curve
        if trial.share < self.after or mine.epochs_to_target(study.target) is not None:
            return None
        averages = [
            curve.averages[epoch - 1]
            for curve in study.curves
            if 1 <= (epoch := last_epoch_by(trial.share, curve.horizon)) <= len(curve.scores)
        ]
        averages = [average for average in averages if not math.isnan(average)]
        if len(averages) < self.trials:
            return None
        middle, best = statistics.median(averages), mine.best_smoothed[-1]
        if best >= middle:
            return None
        return (
            f"stopped at epoch {trial.epoch}: its best {trial.objective.metric} {smoothed_over(trial.epoch)} is "
            f"{trial.shown(best)}; the median of {len(averages)} trials' averages up to "
            f"{trial.share:.0%} of their schedules is {trial.shown(middle)}"
        )
