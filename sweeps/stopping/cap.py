"""Adaptive capping: a trial may not use many more epochs than the best trials needed."""

from __future__ import annotations

import math

from analysis.epochs_to_target import first_crossing
from sweeps.stopping.base import Progress, Standing, StoppingRule


class Cap(StoppingRule):
    """Ends a trial that has used up ``slack`` times the ``best``-th smallest epochs-to-target so far.

    No rank at an early epoch enters, so a trial whose accuracy is still erratic is safe; and a trial that
    is among the best ``best`` of the study never crosses its own bound, since slack is at least 1
    (the idea of adaptive capping: Hutter et al. 2009, ParamILS, doi:10.1613/jair.2861, section 4).

    Args:
        best: rank among the trials that reached the target, from 1.
        slack: factor on that trial's epochs, at least 1.
    """

    name = "cap"

    def __init__(self, best: int, slack: float) -> None:
        if best < 1:
            raise ValueError(f"best = {best}: expected 1 or more")
        if not slack >= 1:
            raise ValueError(f"slack = {slack}: expected 1 or more")
        self._best, self._slack = best, slack

    def reason_to_stop(self, trial: Progress, study: Standing) -> str | None:
        """Stop a trial below the target when not one more whole epoch fits under the bound."""
        if len(study.epochs_to_target) < self._best:
            return None
        bar = study.epochs_to_target[self._best - 1]
        # Decimal fractions are not exact: 1.16 * 25 must count as 29 whole epochs.
        allowed = math.floor(self._slack * bar + 1e-9)
        if trial.epoch < allowed or first_crossing(trial.val_accs, study.target) is not None:
            return None
        return (
            f"stopped at epoch {trial.epoch}: the {_ordinal(self._best)}best trial reached {study.target:g} "
            f"at epoch {bar}, and {self._slack:g} x {bar} epochs are used up"
        )


def _ordinal(rank: int) -> str:
    if rank == 1:
        return ""
    ending = "th" if rank % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(rank % 10, "th")
    return f"{rank}{ending}-"
