"""Ends a trial that has sustained the target."""

from __future__ import annotations

from resnet_core.objective import sustained_crossing
from sweeps.study.stopping.base import Progress, StoppingRule, StudyState


class AtTarget(StoppingRule):
    """Ends a trial once it has sustained the target: no later epoch can change its result."""

    name = "at_target"
    order = 10
    needs_target = True

    def reason_to_stop(self, trial: Progress, study: StudyState) -> str | None:
        """Stop a trial after ``study.sustained`` epochs in a row at the target or better."""
        if study.target is None:
            return None
        first = sustained_crossing(trial.scores, study.target, study.sustained)
        if first is None:
            return None
        return (
            f"stopped at epoch {trial.epoch}: {trial.objective.target_text} reached at epoch {first} "
            f"and held for {study.sustained} epochs"
        )
