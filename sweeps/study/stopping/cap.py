"""Adaptive capping: a trial may not use many more epochs than the best trials needed."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable

from pydantic import Field

from search_spaces.errors import Problem, unknown_name
from sweeps.study.stopping.base import Progress, StoppingRule, StudyState


class Cap(StoppingRule):
    """Ends a trial that has used up ``slack`` times the ``best``-th smallest epochs-to-target so far.

    Values at early epochs are not compared, so a trial with a strongly varying curve is safe. One of the
    study's ``best`` best trials is never ended, since ``slack`` is at least 1. The idea is adaptive capping: Hutter et
    al. 2009, ParamILS, doi:10.1613/jair.2861, section 4.

    Attributes:
        best: rank, from 1, of the trial that sets the bound, among the trials that reached the target.
        slack: the bound is ``slack`` times the epochs of that trial.
        per: a field of TrialConfig or a parameter: only trials with the same value of it are ranked together; None
            ranks all together.
    """

    name = "cap"
    order = 20
    needs_target = True

    best: int = Field(ge=1)
    slack: float = Field(ge=1)
    per: str | None = None

    @property
    def group_by(self) -> str | None:
        """The field or parameter by which trials are grouped: ``per``."""
        return self.per

    def problems(self, names: Collection[str]) -> Iterable[Problem]:
        """Yield a problem if ``per`` is neither a field nor a parameter."""
        if self.per is not None and self.per not in names:
            yield unknown_name("per", self.per, names, "field or parameter", self.per)

    def why_idle(self, trials: int, longest: int, *, has_space: bool) -> str:  # noqa: ARG002
        """Return that the study has no trial beside those that set the bound; else an empty text."""
        return f"it waits until {self.best} have reached the target" if trials <= self.best else ""

    def reason_to_stop(self, trial: Progress, study: StudyState) -> str | None:
        """Stop a trial that misses the target when one more epoch would exceed the bound."""
        ranked = study.epochs_to_target if self.per is None else _of_group(trial, study)
        if len(ranked) < self.best:
            return None
        bar = ranked[self.best - 1]
        # Decimal fractions are not exact: 1.16 * 25 must count as 29 whole epochs.
        allowed = math.floor(self.slack * bar + 1e-9)
        if trial.epoch < allowed or trial.curve.epochs_to_target(study.target) is not None:
            return None
        among = "" if self.per is None else f" with {self.per} = {trial.group}"
        return (
            f"stopped at epoch {trial.epoch}: the {_ordinal(self.best)}best trial{among} reached "
            f"{trial.objective.target_text} at epoch {bar}, and {self.slack:g} x {bar} epochs are used up"
        )


def _of_group(trial: Progress, study: StudyState) -> list[int]:
    found = (curve.epochs_to_target(study.target) for curve in study.curves if curve.group == trial.group)
    return sorted(epochs for epochs in found if epochs is not None)


def _ordinal(rank: int) -> str:
    if rank == 1:
        return ""
    ending = "th" if rank % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(rank % 10, "th")
    return f"{rank}{ending}-"
