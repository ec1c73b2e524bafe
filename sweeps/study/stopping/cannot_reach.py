"""Ends a trial that is worse than all trials that reached the target, compared at the same share of their schedules."""

from __future__ import annotations

from pydantic import Field

from sweeps.study.stopping.base import Progress, Share, StoppingRule, StudyState, last_epoch_by, smoothed_over


class CannotReach(StoppingRule):
    """Ends a trial that is worse than every trial that reached the target, each at the same share of its own schedule.

    It compares the best value so far, smoothed over three epochs. A trial that reached the target and was ended
    before this share counts with its last value: at this share it would have had that value or a better one.

    Attributes:
        after: share of its schedule before which no trial is ended.
        trials: the smallest number of trials that must have reached the target before any trial is ended.
        margin: how much worse than the worst of these trials a trial may be, in the unit of the metric.
    """

    name = "cannot_reach"
    order = 30
    needs_target = True
    differences = ("margin",)

    after: Share = 0.3
    trials: int = Field(default=10, ge=1)
    margin: float = Field(default=0.0, ge=0)

    def why_idle(self, trials: int, longest: int, *, has_space: bool) -> str:  # noqa: ARG002
        """Return that the study has no trial beside those that it waits for; else an empty text."""
        return f"it waits until {self.trials} have reached the target" if trials <= self.trials else ""

    def reason_to_stop(self, trial: Progress, study: StudyState) -> str | None:
        """Stop a trial that misses the target and is worse than every trial that reached it."""
        mine = trial.curve
        if trial.share < self.after or mine.epochs_to_target(study.target) is not None:
            return None
        reached = [curve for curve in study.curves if curve.epochs_to_target(study.target) is not None]
        if len(reached) < self.trials:
            return None
        epochs = [min(last_epoch_by(trial.share, curve.horizon), len(curve.scores)) for curve in reached]
        if not all(epochs):  # some trial has no epoch within this share, so no accuracy to compare
            return None
        lowest = min(curve.best_smoothed[epoch - 1] for curve, epoch in zip(reached, epochs, strict=True))
        best = mine.best_smoothed[-1]
        if best >= lowest - self.margin:
            return None
        rises = trial.objective.goal == "max"
        allowance = f" {'less' if rises else 'plus'} {self.margin:g}" if self.margin else ""
        return (
            f"stopped at epoch {trial.epoch}: after {trial.share:.0%} of its schedule its best "
            f"{trial.objective.metric} {smoothed_over(trial.epoch)} is {trial.shown(best)}; the {len(reached)} trials "
            f"that reached {trial.objective.target_text} had at {'least' if rises else 'most'} "
            f"{trial.shown(lowest)}{allowance} by then"
        )
