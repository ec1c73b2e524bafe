"""Ends a trial whose validation accuracy has stopped rising."""

from __future__ import annotations

import math

from pydantic import Field

from sweeps.study.stopping.base import Progress, StoppingRule, StudyState


class Patience(StoppingRule):
    """Ends a trial without a higher val_acc for ``epochs`` epochs, counted after the peak of its learning rate.

    Before the peak the accuracy varies strongly, and epochs without a higher val_acc mean nothing. The rule ignores
    the other trials, and it also ends trials that reached the target.

    Attributes:
        epochs: number of epochs in a row without a higher val_acc after which a trial is ended.
        min_delta: smallest rise of val_acc that counts as higher, as an accuracy.
    """

    name = "patience"
    order = 70

    epochs: int = Field(default=10, ge=1)
    min_delta: float = Field(default=0.0, ge=0, lt=1)

    def reason_to_stop(self, trial: Progress, study: StudyState) -> str | None:  # noqa: ARG002
        """Stop a trial whose last epochs have brought no higher val_acc."""
        schedule = trial.config.lr_schedule
        # In a schedule that ends at its peak, epochs count from the start of the peak; without a schedule, from 0.
        past_peak = 0.0
        if schedule is not None:
            past_peak = schedule.peak_epoch if math.isinf(schedule.peak_end) else schedule.peak_end
        best, at, waited = -math.inf, 0, 0
        for epoch, val_acc in enumerate(trial.val_accs, start=1):
            if val_acc > best + self.min_delta:
                best, at, waited = val_acc, epoch, 0
            elif epoch > past_peak:
                waited += 1
        if waited < self.epochs:
            return None
        best_so_far = f"{best:.4f} at epoch {at}" if at else "none"
        return (
            f"stopped at epoch {trial.epoch}: no val_acc above the best ({best_so_far}) by more than "
            f"{self.min_delta:g} in {waited} epochs after the learning rate's peak"
        )
