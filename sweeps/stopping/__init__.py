"""Rules that end trials early. One small class a rule; a study file switches them on."""

from __future__ import annotations

from sweeps.stopping.asha import Asha
from sweeps.stopping.at_target import AtTarget
from sweeps.stopping.base import Curve, Progress, Standing, StoppingRule
from sweeps.stopping.cannot_reach import CannotReach
from sweeps.stopping.cap import Cap
from sweeps.stopping.diverged import Diverged
from sweeps.stopping.forecast import Forecast
from sweeps.stopping.median import Median
from sweeps.stopping.patience import Patience
from sweeps.stopping.rules import group_of, is_control, modes, rules_of

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
    "Standing",
    "StoppingRule",
    "group_of",
    "is_control",
    "modes",
    "rules_of",
]
