"""Adaptive capping: a trial may not use many more epochs than the best trials needed."""

from __future__ import annotations

import math

from resnet_core.objective import first_crossing
from sweeps.study.stopping.base import Progress, StoppingRule, StudyState, check_at_least


class Cap(StoppingRule):
    """Ends a trial that has used up ``slack`` times the ``best``-th smallest epochs-to-target so far.

    No rank at an early epoch enters, so a trial whose accuracy is still erratic is safe; and a trial that
    is among the best ``best`` of the study never crosses its own bound, since slack is at least 1
    (the idea of adaptive capping: Hutter et al. 2009, ParamILS, doi:10.1613/jair.2861, section 4).

    Args:
        best: rank among the trials that reached the target, from 1.
        slack: factor on that trial's epochs, at least 1.
        per: what trials have to have in common to be ranked together; None ranks all together.
    """

    name = "cap"

    def __init__(self, best: int, slack: float, per: str | None = None) -> None:
        check_at_least("best", best, 1)
        check_at_least("slack", slack, 1)
        self._best, self._slack, self._per = best, slack, per

    def reason_to_stop(self, trial: Progress, study: StudyState) -> str | None:
        """Stop a trial below the target when not one more whole epoch fits under the bound."""
        ranked = study.epochs_to_target if self._per is None else _of_group(trial, study)
        if len(ranked) < self._best:
            return None
        bar = ranked[self._best - 1]
        # Decimal fractions are not exact: 1.16 * 25 must count as 29 whole epochs.
        allowed = math.floor(self._slack * bar + 1e-9)
        if trial.epoch < allowed or first_crossing(trial.val_accs, study.target) is not None:
            return None
        among = "" if self._per is None else f" with {self._per} = {trial.group}"
        return (
            f"stopped at epoch {trial.epoch}: the {_ordinal(self._best)}best trial{among} reached {study.target:g} "
            f"at epoch {bar}, and {self._slack:g} x {bar} epochs are used up"
        )


def _of_group(trial: Progress, study: StudyState) -> list[int]:
    found = (curve.epochs_to_target(study.target) for curve in study.curves if curve.group == trial.group)
    return sorted(epochs for epochs in found if epochs is not None)


def _ordinal(rank: int) -> str:
    if rank == 1:
        return ""
    ending = "th" if rank % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(rank % 10, "th")
    return f"{rank}{ending}-"
