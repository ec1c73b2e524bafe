"""What is wrong with a study, in words: the error, and how its lines are made."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

Location = tuple[int | str, ...]
"""Where a value stands: keys and list indices from the top of the file."""


class StudyError(ValueError):
    """A study cannot be used. The message has a line for each error: file, key, value, what was expected."""


class Problem(NamedTuple):
    """One thing that is wrong: the dotted key, and the rest of its line, such as `` = 3: expected 5``."""

    key: str
    text: str


def as_toml(value: object) -> str:
    """Return a value as a study file would write it."""
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
    """Return the problem of a value that is not what was expected."""
    return Problem(key, f" = {_cut(value)}: expected {expected}")


def unknown_name(key: str, value: object, known: Iterable[str], what: str = "key", name: str = "") -> Problem:
    """Return the problem of a name that does not exist, with the one that was perhaps meant; the key is the name."""
    return Problem(key, f" = {_cut(value)}: unknown {what}; {suggestion(name or key.rpartition('.')[2], known)}")


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return ``did you mean ...?`` where a known name is close, else what is known."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {close[0]}?" if close else f"expected one of: {', '.join(names) or 'none'}"


def raise_problems(problems: Sequence[Problem]) -> None:
    """Hand problems, if any, to pydantic; ``problems_of`` puts the place of the table ahead of their keys."""
    if problems:
        text = "; ".join(key + text for key, text in problems)
        raise PydanticCustomError("study", "{text}", {"text": text, "problems": list(problems)})


def expectation(message: str) -> str:
    """Return what pydantic's message expects, in this project's words."""
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
        ("a valid dictionary", "a table"),
        ("List should have at least 1 item after validation, not 0", "one value or more"),
    ):
        message = message.replace(theirs, ours)
    return message


def problems_of(error: ValidationError, models: Callable[[Location], Sequence[type[BaseModel]]]) -> list[Problem]:
    """Return pydantic's errors about a study as problems.

    Args:
        error: what validating a StudySpec raised.
        models: returns what the table at a place may be; the place of a parameter ends with its form.
    """
    problems = []
    for item in error.errors(include_url=False):
        place: Location = item["loc"]
        if place[:1] == ("space",):
            place = place[:2] + place[3:]  # the third is pydantic's tag for the form of the parameter
        key = dotted_key(place)
        if item["type"] == "json_invalid":
            problems.append(Problem("", f"not JSON: {item['msg'].removeprefix('Invalid JSON: ')}"))
        elif item["type"] == "study":
            problems += [Problem(".".join(filter(None, (key, part))), text) for part, text in item["ctx"]["problems"]]
        elif item["type"] == "missing":
            field = _fields(models(item["loc"][:-1]))[str(place[-1])]
            problems.append(Problem(key, f": missing; expected {_MISSING.get(str(place[-1])) or _description(field)}"))
        elif item["type"] == "extra_forbidden":
            problems.append(unknown_name(key, item["input"], _fields(models(item["loc"][:-1]))))
        elif item["type"] in _TABLES:
            form = _FORMS.get(place[0], "a table") if len(place) == 2 else "a table"
            problems.append(wrong_value(key, item["input"], form))
        elif key == "run" and item["type"] == "list_type":
            problems.append(wrong_value(key, item["input"], "[[run]] tables, in two pairs of brackets"))
        else:
            problems.append(wrong_value(key, item["input"], expectation(item["msg"])))
    return problems


def dotted_key(place: Location) -> str:
    """Return a place as text: ``run[2].weight_decay``."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).lstrip(".")


_TABLES = frozenset({"model_type", "dict_type", "union_tag_invalid", "union_tag_not_found"})
_FORMS: dict[int | str, str] = {
    "space": "{ low = ..., high = ... } or { choices = [...] }",
    "run": "a [[run]] table",
}
_MISSING = {
    "name": "a string: the name of the study or run",
    "low": "a number: the smallest value",
    "high": "a number: the largest value",
}
_KINDS: dict[object, str] = {int: "a whole number", float: "a number", bool: "true or false", str: "a string"}


def _fields(models: Sequence[type[BaseModel]]) -> dict[str, FieldInfo]:
    """Return the fields of all models, by the keys that a study file has for them."""
    return {field.alias or name: field for model in models for name, field in model.model_fields.items()}


def _description(field: FieldInfo) -> str:
    """Return what a field expects: ``a number of at least 1``."""
    text = _KINDS.get(field.annotation, "a value")
    for bound in field.metadata:
        text += f" of at least {bound.ge}" if hasattr(bound, "ge") else ""
        text += f" of more than {bound.gt}" if hasattr(bound, "gt") else ""
    return text
