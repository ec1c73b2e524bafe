"""Rules that end trials early. One small class a rule; a study file switches them on."""

from __future__ import annotations

from sweeps.stopping.at_target import AtTarget
from sweeps.stopping.base import Progress, Standing, StoppingRule
from sweeps.stopping.cap import Cap
from sweeps.stopping.diverged import Diverged
from sweeps.stopping.rules import is_control, rules_of

__all__ = ["AtTarget", "Cap", "Diverged", "Progress", "Standing", "StoppingRule", "is_control", "rules_of"]
