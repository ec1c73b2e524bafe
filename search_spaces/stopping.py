"""``[stopping]`` of a study file: which rules are on, and the keys beside them."""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any, Self

from pydantic import (
    BeforeValidator,
    Field,
    PlainSerializer,
    SerializationInfo,
    ValidationInfo,
    create_model,
    model_validator,
)

from resnet_core.code import is_reference
from search_spaces.errors import Problem, raise_problems, unknown_name, wrong_value
from search_spaces.parameters import Table
from search_spaces.plugins import OwnRule, RuleSettings, is_stored, rules

_WRITTEN_WHERE_OFF = ("diverged", "at_target", "cap", "cannot_reach", "asha", "median", "patience", "forecast")
"""Version 0.1.0 wrote these rules into a study's JSON even if they were off; the study's hash depends on that.

Any other rule is written only if it differs from its default, so that a new rule changes no study's hash.
"""


def _on_by_default() -> dict[str, RuleSettings]:
    return {name: rule() for name, rule in rules().items() if rule.on_by_default}


class Stopping(Table):
    """Which rules end a trial early.

    Attributes:
        rules: rules that are on, including those in shadow, by name; those of the user's own come last, as OwnRule.
        freeze: keep the checkpoints of trials that forecast ended, and continue such a trial once its chance is twice
            the limit.
        control: share of trials that no rule stops, to measure what stopping costs.
        shadow: those of these rules whose decisions are only recorded and stop no trial.
    """

    rules: dict[str, RuleSettings] = Field(default_factory=_on_by_default)
    freeze: bool = False
    control: float = Field(default=0.0, ge=0, lt=1)
    shadow: list[str] = Field(default_factory=list)

    @model_validator(mode="after")
    def _check(self) -> Self:
        raise_problems([*self._shadow_problems(), *self._freeze_problems()])
        return self

    def _shadow_problems(self) -> list[Problem]:
        problems = []
        for i, name in enumerate(self.shadow):
            key = f"shadow[{i}]"
            if name not in self.rules and name not in rules() and not is_reference(name):
                problems.append(unknown_name(key, name, rules(), "rule", name))
            elif name not in self.rules:
                expected = f"a rule that is switched on; set {name} beside it, or leave it out here"
                problems.append(wrong_value(key, name, expected))
            elif name in self.shadow[:i]:
                problems.append(wrong_value(key, name, "every rule once"))
        return problems

    def _freeze_problems(self) -> list[Problem]:
        if not self.freeze:
            return []
        reviving = [rule for rule in self.rules.values() if rule.revives and rule.name not in self.shadow]
        if not reviving:
            known = " or ".join(name for name, rule in rules().items() if rule.revives)
            return [wrong_value("freeze", True, f"false, or {known} beside it: other rules tell no chance")]
        settings = filter(None, (rule.why_never_revives() for rule in reviving))
        return [wrong_value("freeze", True, f"false where {setting}") for setting in settings]


@cache
def stopping_keys() -> type[Table]:
    """Return the model of ``[stopping]`` in a study file: a key for each rule, then the keys beside the rules."""
    names = dict.fromkeys([*_WRITTEN_WHERE_OFF, *rules()])
    keys: dict[str, Any] = {name: _key(rules()[name]) for name in names}
    keys |= {name: (field.annotation, field) for name, field in Stopping.model_fields.items() if name != "rules"}
    return create_model("StoppingKeys", __base__=Table, **keys)


def _key(rule: type[RuleSettings]) -> tuple[Any, Any]:
    """Return the type and the default of a rule's key."""
    return (rule | None, None) if rule.model_fields else (bool, rule.on_by_default)


def _read(table: Any, info: ValidationInfo) -> Stopping:
    """Return a table of a study file, or of a stored study, as a Stopping.

    A rule of a stored study whose package is not installed is read as an OwnRule.
    """
    if isinstance(table, Stopping):
        return table
    known = stopping_keys().model_fields
    own = {
        key: value
        for key, value in (table.items() if isinstance(table, dict) else ())
        if is_reference(key) or (is_stored(info) and key not in known)
    }
    shipped = {key: value for key, value in table.items() if key not in own} if own else table
    keys = dict(stopping_keys().model_validate(shipped))
    values = {name: keys.pop(name) for name in rules()}
    on = {name: rules()[name]() if value is True else value for name, value in values.items() if value}
    expected = "a table of the rule's settings, or true"
    raise_problems([wrong_value(k, v, expected) for k, v in own.items() if not isinstance(v, bool | dict)])
    for reference, value in own.items():
        if value is not False:
            on[reference] = OwnRule(reference=reference, settings={} if value is True else value)
    return Stopping(rules=on, **keys)


def _write(stopping: Stopping, info: SerializationInfo) -> dict[str, Any]:
    """Return a Stopping as the table of a study file."""
    form, keys = stopping_keys(), dict(stopping)
    keys |= {name: None if rule.model_fields else False for name, rule in rules().items()}
    on = keys.pop("rules")
    own = {name: rule.settings or True for name, rule in on.items() if isinstance(rule, OwnRule)}
    keys |= {name: rule if type(rule).model_fields else True for name, rule in on.items() if name not in own}
    table = form.model_construct(**keys).model_dump(exclude_defaults=info.exclude_defaults)
    for name in rules().keys() - set(_WRITTEN_WHERE_OFF):
        if name in table and table[name] == form.model_fields[name].default:
            del table[name]
    return table | own


StoppingTable = Annotated[Stopping, BeforeValidator(_read), PlainSerializer(_write)]
"""Type of a field that has the form of `stopping_keys` in a study file."""
