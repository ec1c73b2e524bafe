"""Ends a trial whose validation accuracy has stopped rising."""

from __future__ import annotations

import math

from sweeps.study.stopping.base import Progress, StoppingRule, StudyState, check_at_least


class Patience(StoppingRule):
    """Ends a trial with no higher val_acc for so many epochs, counted once its learning rate is past its peak.

    Before that the accuracy swings, and a pause says nothing. It looks at no other trial, and it ends trials
    that reached the target too.

    Args:
        epochs: so many in a row without a higher val_acc, from 1.
        min_delta: by how much val_acc must be higher to count, as an accuracy, at least 0.
    """

    name = "patience"

    def __init__(self, epochs: int, min_delta: float = 0.0) -> None:
        check_at_least("epochs", epochs, 1)
        check_at_least("min_delta", min_delta, 0)
        self._epochs, self._min_delta = epochs, min_delta

    def reason_to_stop(self, trial: Progress, study: StudyState) -> str | None:  # noqa: ARG002
        """Stop where the last epochs have brought nothing."""
        schedule = trial.config.lr_schedule
        # Where it ends at its peak, nothing is annealed.
        past_peak = schedule.peak_epoch if math.isinf(schedule.peak_end) else schedule.peak_end
        best, at, waited = -math.inf, 0, 0
        for epoch, val_acc in enumerate(trial.val_accs, start=1):
            if val_acc > best + self._min_delta:
                best, at, waited = val_acc, epoch, 0
            elif epoch > past_peak:
                waited += 1
        if waited < self._epochs:
            return None
        best_so_far = f"{best:.4f} at epoch {at}" if at else "none"
        return (
            f"stopped at epoch {trial.epoch}: no val_acc above the best ({best_so_far}) by more than "
            f"{self._min_delta:g} in {waited} epochs after the learning rate's peak"
        )
