"""From a study file's [stopping] to rules."""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable, Mapping
from typing import Any

from resnet_core.config import TrialConfig
from search_spaces.spec import StudySpec
from sweeps.study.stopping.asha import Asha
from sweeps.study.stopping.at_target import AtTarget
from sweeps.study.stopping.base import StoppingRule
from sweeps.study.stopping.cannot_reach import CannotReach
from sweeps.study.stopping.cap import Cap
from sweeps.study.stopping.diverged import Diverged
from sweeps.study.stopping.forecast import Forecast
from sweeps.study.stopping.median import Median
from sweeps.study.stopping.patience import Patience

# In the order they are asked: what is certain comes first, so that its reason is the one that is told.
_RULES: dict[str, Callable[..., StoppingRule]] = {
    rule.name: rule for rule in (Diverged, AtTarget, Cap, CannotReach, Forecast, Asha, Median, Patience)
}


def rules_of(spec: StudySpec) -> list[StoppingRule]:
    """Return the rules a study switches on, in the order they are asked; those in shadow too."""
    switched_on = spec.stopping.switched_on()
    return [make(**switched_on[name]) for name, make in _RULES.items() if name in switched_on]


def modes(spec: StudySpec) -> dict[str, str]:
    """Return, by name, whether each rule of a study is ``active`` or only recorded, in ``shadow``."""
    return {rule.name: "shadow" if rule.name in spec.stopping.shadow else "active" for rule in rules_of(spec)}


def group_of(spec: StudySpec, config: TrialConfig, params: Mapping[str, Any]) -> Hashable:
    """Return a trial's value of what the study caps by: a parameter, or a field; None without ``cap.per``."""
    cap = spec.stopping.cap
    if cap is None or cap.per is None:
        return None
    group: Hashable = params[cap.per] if cap.per in params else getattr(config, cap.per)
    return group


def is_control(spec: StudySpec, number: int) -> bool:
    """Return whether a trial belongs to the share that no rule may stop; the same answer every time."""
    return random.Random(f"control {spec.search.seed} {number}").random() < spec.stopping.control
