"""Rules that end trials early. One small class a rule; a study file switches them on."""

from __future__ import annotations

from sweeps.study.stopping.asha import Asha
from sweeps.study.stopping.at_target import AtTarget
from sweeps.study.stopping.base import Curve, Progress, StoppingRule, StudyState
from sweeps.study.stopping.cannot_reach import CannotReach
from sweeps.study.stopping.cap import Cap
from sweeps.study.stopping.diverged import Diverged
from sweeps.study.stopping.forecast import Forecast
from sweeps.study.stopping.median import Median
from sweeps.study.stopping.patience import Patience
from sweeps.study.stopping.rules import group_of, is_control, modes, rules_of

__all__ = [
    "Asha",
    "AtTarget",
    "CannotReach",
    "Cap",
    "Curve",
    "Diverged",
    "Forecast",
    "Median",
    "Patience",
    "Progress",
    "StoppingRule",
    "StudyState",
    "group_of",
    "is_control",
    "modes",
    "rules_of",
]
