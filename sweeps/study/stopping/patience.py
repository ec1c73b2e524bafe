"""Ends a trial whose metric has stopped getting better."""

from __future__ import annotations

import math

from pydantic import Field

from sweeps.study.stopping.base import Progress, StoppingRule, StudyState


class Patience(StoppingRule):
    """Ends a trial without a better value for ``epochs`` epochs, counted after the peak of its learning rate.

    Before the peak the metric varies strongly, and epochs without a better value mean nothing. The rule ignores the
    other trials, and it also ends trials that reached the target.

    Attributes:
        epochs: number of epochs in a row without a better value after which a trial is ended.
        min_delta: smallest difference to the best value that counts as better, in the unit of the metric.
    """

    name = "patience"
    order = 70
    differences = ("min_delta",)

    epochs: int = Field(default=10, ge=1)
    min_delta: float = Field(default=0.0, ge=0)

    def why_idle(self, trials: int, longest: int, *, has_space: bool) -> str:  # noqa: ARG002
        """Return that no trial is long enough; else an empty text."""
        return (
            f"it waits for {self.epochs} epochs, and the longest trial has {longest}" if longest <= self.epochs else ""
        )

    def reason_to_stop(self, trial: Progress, study: StudyState) -> str | None:  # noqa: ARG002
        """Stop a trial whose last epochs have brought no better value."""
        schedule = trial.config.lr_schedule
        # In a schedule that ends at its peak, epochs count from the start of the peak; without a schedule, from 0.
        past_peak = 0.0
        if schedule is not None:
            past_peak = schedule.peak_epoch if math.isinf(schedule.peak_end) else schedule.peak_end
        best, at, waited = -math.inf, 0, 0
        for epoch, score in enumerate(trial.scores, start=1):
            if score > best + self.min_delta:
                best, at, waited = score, epoch, 0
            elif epoch > past_peak:
                waited += 1
        if waited < self.epochs:
            return None
        best_so_far = f"{trial.shown(best)} at epoch {at}" if at else "none"
        return (
            f"stopped at epoch {trial.epoch}: no {trial.objective.metric} "
            f"{'above' if trial.objective.goal == 'max' else 'below'} the best ({best_so_far}) by more than "
            f"{self.min_delta:g} in {waited} epochs after the learning rate's peak"
        )
