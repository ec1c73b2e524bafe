"""Errors of a study: their lines, with the key, the value and what was expected."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

Location = tuple[int | str, ...]
"""Keys and list indices from the top of a study file to a value, as pydantic's ``loc``."""


class StudyError(ValueError):
    """A study file is missing or wrong. The message has a line per error: file, key, value and what was expected."""


class Problem(NamedTuple):
    """One error: its dotted key, and the rest of its line, such as `` = 3: expected 5``."""

    key: str
    text: str


def as_toml(value: object) -> str:
    """Return a value as it is written in a study file, for a message.

    >>> as_toml({"low": 1, "log": True})
    '{ low = 1, log = true }'
    """
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {as_toml(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(as_toml, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    return str(value)


def _cut(value: object) -> str:
    text = as_toml(value)
    return text if len(text) <= 100 else text[:97] + "..."


def wrong_value(key: str, value: object, expected: str) -> Problem:
    """Return the problem of a value that is not as expected."""
    return Problem(key, f" = {_cut(value)}: expected {expected}")


def unknown_name(key: str, value: object, known: Iterable[str], what: str = "key", name: str = "") -> Problem:
    """Return the problem of an unknown name, by default the last part of the key; its text suggests a known one."""
    return Problem(key, f" = {_cut(value)}: unknown {what}; {suggestion(name or key.rpartition('.')[2], known)}")


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return ``did you mean ...?`` where a known name is similar, else a list of the known names.

    >>> suggestion("smapler", ["sampler", "seed"]), suggestion("Seed", ["sampler", "seed"])
    ('did you mean sampler?', 'did you mean seed?')
    """
    names = sorted(known)
    folded = {one.casefold(): one for one in names}
    close = difflib.get_close_matches(name.casefold(), folded, n=1)
    return f"did you mean {folded[close[0]]}?" if close else f"expected one of: {', '.join(names) or 'none'}"


def raise_problems(problems: Sequence[Problem]) -> None:
    """Raise pydantic's error for the problems of a table, if any. The problems' keys are relative to the table."""
    if problems:
        text = "; ".join(key + text for key, text in problems)
        raise PydanticCustomError("study", "{text}", {"text": text, "problems": list(problems)})


def expectation(message: str) -> str:
    """Return what pydantic's message expects, in this project's words.

    >>> expectation("Input should be greater than or equal to 1")
    'at least 1'
    """
    message = message.removeprefix("Input should be ").removeprefix("Value error, ")
    for theirs, ours in (
        ("greater than or equal to", "at least"),
        ("less than or equal to", "at most"),
        ("greater than", "more than"),
        ("a valid integer", "a whole number"),
        ("a valid number", "a number"),
        ("a valid boolean", "true or false"),
        ("a valid string", "a string"),
        ("a valid list", "a list"),
        ("a valid array", "a list"),
        ("a valid dictionary", "a table"),
        ("List should have at least 1 item after validation, not 0", "one value or more"),
    ):
        message = message.replace(theirs, ours)
    return message


def problems_of(error: ValidationError, models: Callable[[Location], Sequence[type[BaseModel]]]) -> list[Problem]:
    """Return pydantic's errors about a study as problems, with keys from the top of the file.

    Args:
        error: raised when a StudySpec was validated.
        models: returns the models that the table at a location may be. The location of a parameter ends with its form,
            ``range`` or ``choices``.
    """
    problems = []
    for item in error.errors(include_url=False):
        location: Location = item["loc"]
        if location[:1] == ("space",):
            location = location[:2] + location[3:]  # the third is the parameter's form
        key = dotted_key(location)
        if item["type"] == "json_invalid":
            problems.append(Problem("", f"not JSON: {item['msg'].removeprefix('Invalid JSON: ')}"))
        elif item["type"] == "study":
            problems += [Problem(".".join(filter(None, (key, part))), text) for part, text in item["ctx"]["problems"]]
        elif item["type"] == "missing":
            field = _fields(models(item["loc"][:-1])).get(str(location[-1]))
            expected = _MISSING.get(str(location[-1])) or _description(field)
            problems.append(Problem(key, f": missing; expected {expected}"))
        elif item["type"] == "extra_forbidden":
            problems.append(unknown_name(key, item["input"], _fields(models(item["loc"][:-1]))))
        elif item["type"] in _TABLES:
            form = _FORMS.get(location[0], "a table") if len(location) == 2 else "a table"
            problems.append(wrong_value(key, item["input"], form))
        elif key == "run" and item["type"] == "list_type":
            problems.append(wrong_value(key, item["input"], "[[run]] tables, in two pairs of brackets"))
        else:
            problems.append(wrong_value(key, item["input"], expectation(item["msg"])))
    return problems


def dotted_key(location: Location) -> str:
    """Return a location as text.

    >>> dotted_key(("run", 2, "weight_decay"))
    'run[2].weight_decay'
    """
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).lstrip(".")


_TABLES = frozenset({"model_type", "dict_type", "union_tag_invalid", "union_tag_not_found"})
_FORMS: dict[int | str, str] = {
    "space": "{ low = ..., high = ... } or { choices = [...] }",
    "run": "a [[run]] table",
    "stopping": "a table of the rule's settings; leave the key out where the rule is off",
}
_MISSING = {
    "name": "a string: the name of the study or run",
    "low": "a number: the smallest value",
    "high": "a number: the largest value",
}
_KINDS: dict[object, str] = {int: "a whole number", float: "a number", bool: "true or false", str: "a string"}


def _fields(models: Sequence[type[BaseModel]]) -> dict[str, FieldInfo]:
    """Return the fields of models by their keys in a study file."""
    fields = [item for model in models for item in model.model_fields.items()]
    return {field.alias or name: field for name, field in fields if not field.json_schema_extra}


def _description(field: FieldInfo | None) -> str:
    """Return what a field expects, such as ``a number of at least 1``."""
    text = _KINDS.get(field and field.annotation, "a value")
    for bound in field.metadata if field else ():
        text += f" of at least {bound.ge}" if hasattr(bound, "ge") else ""
        text += f" of more than {bound.gt}" if hasattr(bound, "gt") else ""
    return text
