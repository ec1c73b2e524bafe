"""The types of the fields of a trainer's ``Config``: what a study file can give for each, and its words in messages."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from resnet_core.schedule import Schedule

SCHEDULE_WORDS = 'a schedule, such as "[0.1, 0] lin[0, 12]"'
"""The words for a schedule."""


def _parts(hint: Any) -> Collection[Any]:
    """Return the members of a union; of any other type, the type alone."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return typing.get_args(hint)
    return (hint,)


def allows_table(hint: Any) -> bool:
    """Return whether a type, or a part of it such as the items of a list, is a table: a mapping or a dataclass."""
    return any(
        isinstance(leaf, type) and (issubclass(leaf, Mapping) or dataclasses.is_dataclass(leaf))
        for leaf in _leaves(hint)
    )


def _leaves(hint: Any) -> Iterator[Any]:
    """Yield the types that a type is made of: of ``list[int] | None``, list, int and None."""
    origin = typing.get_origin(hint)
    if origin is None or origin is typing.Literal:
        yield hint
        return
    yield origin
    for part in typing.get_args(hint):
        yield from _leaves(part)


def has_table(value: object) -> bool:
    """Return whether a value of a study file is a table, or a list with one in it."""
    return isinstance(value, dict) or (isinstance(value, list) and any(map(has_table, value)))


def is_whole(hint: Any, or_literal: bool) -> bool:
    """Return whether a type is int, perhaps or None; with ``or_literal``, also a Literal of whole numbers."""
    return all(
        all(type(value) is int for value in typing.get_args(part))
        if or_literal and typing.get_origin(part) is typing.Literal
        else part in (int, type(None))
        for part in _parts(hint)
    )


def is_schedule(hint: Any) -> bool:
    """Return whether a type is Schedule, perhaps or None."""
    return Schedule in _parts(hint)


def with_text(hint: Any) -> Any:
    """Return a type with a text in place of a Schedule."""
    return str | None if type(None) in _parts(hint) else str


def type_words(hint: Any, schedule: bool = False) -> str:
    """Return a type in the words of a study file."""
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "a text", type(None): "nothing"}
    if schedule:
        return SCHEDULE_WORDS
    if typing.get_origin(hint) is typing.Literal:
        return "one of " + ", ".join(map(str, typing.get_args(hint)))
    parts = _parts(hint)
    if len(parts) > 1:
        return " or ".join(type_words(part) for part in parts)
    return words.get(hint) or (hint.__name__ if isinstance(hint, type) else str(hint).removeprefix("typing."))
