"""Fields of TrialConfig in a study file: their types, and what is wrong with a value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError

from resnet_core.config import TRIAL_CONFIG_FIELDS, TrialConfig
from search_spaces.errors import Problem, expectation, unknown_name, wrong_value

FIELD_TYPES: dict[str, TypeAdapter[Any]] = {
    name: TypeAdapter(hint, config=ConfigDict(strict=True, allow_inf_nan=False))
    for name, hint in get_type_hints(TrialConfig).items()
    if name in TRIAL_CONFIG_FIELDS
}


def field_problems(values: Mapping[str, object]) -> list[Problem]:
    """Return the problems of fields that TrialConfig does not have, or whose value has the wrong type."""
    problems = []
    for name, value in values.items():
        if name not in FIELD_TYPES:
            problems.append(unknown_name(name, value, FIELD_TYPES, "field"))
        elif expected := type_mismatch(name, value):
            problems.append(wrong_value(name, value, expected))
    return problems


def type_mismatch(field: str, value: object) -> str:
    """Return, in words, the type that a field expects if the value has another type; else an empty text."""
    try:
        FIELD_TYPES[field].validate_python(value)
    except ValidationError as error:
        return expectation(error.errors()[0]["msg"])
    return ""
