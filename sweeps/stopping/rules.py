"""From a study file's [stopping] to rules."""

from __future__ import annotations

import random

from search_spaces.study import StudySpec
from sweeps.stopping.at_target import AtTarget
from sweeps.stopping.base import StoppingRule
from sweeps.stopping.cap import Cap
from sweeps.stopping.diverged import Diverged


def rules_of(spec: StudySpec) -> list[StoppingRule]:
    """Return the rules a study switches on, in the order they are asked."""
    stopping = spec.stopping
    rules: list[StoppingRule] = []
    if stopping.diverged:
        rules.append(Diverged())
    if stopping.at_target:
        rules.append(AtTarget())
    if stopping.cap is not None:
        rules.append(Cap(stopping.cap.best, stopping.cap.slack))
    return rules


def is_control(spec: StudySpec, number: int) -> bool:
    """Return whether a trial belongs to the share that no rule may stop; the same answer every time."""
    return random.Random(f"control {spec.search.seed} {number}").random() < spec.stopping.control
