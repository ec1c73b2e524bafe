"""All shipped rules, and the rules that a study uses."""

from __future__ import annotations

import inspect
import pkgutil
import random
from collections.abc import Hashable, Iterator, Mapping
from importlib import import_module
from typing import Any, cast

from resnet_core.own_config import Config
from search_spaces.plugins import OwnRule, loaded_rule
from search_spaces.spec import StudySpec
from sweeps.study import stopping
from sweeps.study.stopping.base import StoppingRule


def _shipped() -> Iterator[type[StoppingRule]]:
    for file in pkgutil.iter_modules(stopping.__path__, f"{stopping.__name__}."):
        module = import_module(file.name)
        for _, kind in inspect.getmembers(module, inspect.isclass):
            if issubclass(kind, StoppingRule) and kind.__module__ == file.name and not inspect.isabstract(kind):
                yield kind


RULES = tuple(_shipped())
"""All rules that have a file in this folder; `search_spaces.plugins` adds those of installed packages."""


def rules_of(spec: StudySpec) -> list[StoppingRule]:
    """Return the rules that a study switches on, including those in shadow, in the order in which they are asked.

    Rules of the user's own are imported.

    Raises:
        CodeError: a rule of the user's own cannot be used.
        pydantic.ValidationError: its settings are wrong.
    """
    found = [loaded_rule(rule) if isinstance(rule, OwnRule) else rule for rule in spec.stopping.rules.values()]
    return cast("list[StoppingRule]", sorted(found, key=lambda rule: rule.order))


def rule_modes(spec: StudySpec) -> dict[str, str]:
    """Return the mode of each rule of a study by name: ``active``, or ``shadow`` for a rule that is only recorded."""
    return {name: "shadow" if name in spec.stopping.shadow else "active" for name in spec.stopping.rules}


def group_of(spec: StudySpec, config: Config, params: Mapping[str, Any]) -> Hashable:
    """Return a trial's value of the parameter or field by which a rule groups trials; None where no rule does."""
    name = next((rule.group_by for rule in rules_of(spec) if rule.group_by is not None), None)
    if name is None:
        return None
    group: Hashable = params[name] if name in params else getattr(config, name)
    return group


def is_control(spec: StudySpec, number: int) -> bool:
    """Return whether a trial is a control trial, which no rule may stop. The answer is always the same."""
    return random.Random(f"control {spec.search.seed} {number}").random() < spec.stopping.control
