"""The two forms of a parameter in ``[space]``: a range of numbers, and a list of choices."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, model_validator

from search_spaces.errors import Problem, as_toml, raise_problems, wrong_value

Value = bool | int | float | str
"""A value of a parameter."""

_MOST_WHOLE = 2**53  # beyond it, neighbouring whole numbers are one and the same 64-bit float


def is_number(value: object) -> bool:
    """Return whether a value is a finite number; true and false are not numbers."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def int_if_whole(value: Any) -> Any:
    """Return a whole float as an int, the usual form in study files; anything else unchanged."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


class Table(BaseModel):
    """A table of a study file: immutable; unknown keys and values of another TOML type are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def same_value(value: object, other: object) -> bool:
    """Return whether two values are equal; true is not 1."""
    return value == other and isinstance(value, bool) == isinstance(other, bool)


def is_value(value: object) -> bool:
    """Return whether a value can be one of a parameter: true, false, a finite number or a string."""
    return isinstance(value, bool | str) or is_number(value)


def _as_lists(when: Any) -> Any:
    if not isinstance(when, dict):
        return when
    return {name: values if isinstance(values, list) else [values] for name, values in when.items()}


def _check_when(when: dict[str, list[Any]] | None) -> dict[str, list[Any]] | None:
    problems = [Problem("", " = {}: expected a parameter and its value, or no when")] if when == {} else []
    for name, values in (when or {}).items():
        if not values:
            problems.append(wrong_value(name, values, "one value or more"))
        expected = "true, false, a finite number or a string"
        problems += [wrong_value(name, value, expected) for value in values if not is_value(value)]
    raise_problems(problems)
    return when


_When = Annotated[
    dict[str, list[Any]] | None,
    BeforeValidator(_as_lists),
    AfterValidator(_check_when),
    # Left out where there is none, so that studies from before it existed keep their hash.
    Field(default=None, exclude_if=lambda when: when is None),
]


class Range(Table):
    """A parameter between two numbers, both included.

    >>> Range(low=1, high=3, int=True).values()
    [1, 2, 3]

    Attributes:
        low: smallest value.
        high: largest value, above low; with a step, a whole number of steps above low.
        log: whether values are sampled uniformly in their logarithm; low must be above 0.
        whole: whether values are whole numbers; the key ``int`` of the file.
        step: distance between neighbouring values; not with log. None is 1 for whole numbers, else continuous.
        when: other parameters, each with one of its values or a list of them: a trial has this parameter only where all
            of them have such a value. None: every trial has it.
    """

    low: float
    high: float
    log: bool = False
    whole: bool = Field(default=False, alias="int")
    step: float | None = None
    when: _When = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        problems = []
        if not self.low < self.high:
            problems.append(wrong_value("high", int_if_whole(self.high), f"more than low = {int_if_whole(self.low)}"))
        elif math.isinf(self.high - self.low):
            expected = "less: high - low must be below 1.8e308, the largest number of 64 bits"
            problems.append(wrong_value("high", self.high, expected))
        if self.log and self.low <= 0:
            problems.append(wrong_value("low", int_if_whole(self.low), "more than 0, because log = true"))
        for key in ("low", "high", "step") if self.whole else ():
            value = getattr(self, key)
            if value is not None and value % 1:
                problems.append(wrong_value(key, value, "a whole number, because int = true"))
            elif value is not None and abs(value) > _MOST_WHOLE:
                expected = f"at most {_MOST_WHOLE} on either side of 0: Optuna keeps whole numbers as 64-bit floats"
                problems.append(wrong_value(key, int(value), expected))
        if self.step is not None:
            if self.step <= 0:
                problems.append(wrong_value("step", int_if_whole(self.step), "more than 0"))
            elif self.log:
                problems.append(wrong_value("step", int_if_whole(self.step), "none, because log = true"))
            elif not problems and self._steps_to(self.high) % 1:
                steps = math.floor(self._steps_to(self.high))
                below, above = int_if_whole(self._after(steps)), int_if_whole(self._after(steps + 1))
                expected = f"whole steps above low, such as {below} or {above}"
                problems.append(wrong_value("high", int_if_whole(self.high), expected))
        raise_problems(problems)
        return self

    def _steps_to(self, value: float) -> Fraction:
        # In decimal fractions, as in the file: in binary, 0.3 is not three steps of 0.1.
        return (Fraction(str(value)) - Fraction(str(self.low))) / Fraction(str(self.step))

    def _after(self, steps: int) -> float:
        return float(Fraction(str(self.low)) + steps * Fraction(str(self.step)))

    @property
    def extremes(self) -> tuple[Value, Value]:
        """The smallest and the largest value."""
        return (int(self.low), int(self.high)) if self.whole else (self.low, self.high)

    @property
    def size(self) -> int | None:
        """Number of values; None where they are continuous."""
        if self.step is None:
            return int(self.high) - int(self.low) + 1 if self.whole else None
        return int(self._steps_to(self.high)) + 1

    def values(self) -> list[Value]:
        """Return all values in rising order.

        Raises:
            TypeError: the parameter is continuous.
        """
        if self.size is None:
            raise TypeError(f"{self}: continuous")
        if self.whole:
            return list(range(int(self.low), int(self.high) + 1, int(self.step or 1)))
        return [self._after(steps) for steps in range(self.size)]

    def contains(self, value: object) -> bool:
        """Return whether a value is one of the parameter's."""
        if not isinstance(value, int | float) or not is_number(value) or not self.low <= value <= self.high:
            return False
        if self.whole and value % 1:
            return False
        if self.step is None:
            return True
        steps = self._steps_to(value)
        return abs(steps - round(steps)) < 1e-8  # as in Optuna, which computes its values as binary sums

    def coordinates(self, value: float | None) -> list[float]:
        """Return the coordinate of a value: 0 at ``low``, 1 at ``high``; linear, or in the logarithm with ``log``.

        None, of a trial without this parameter, is in the middle: 0.5.
        """
        if value is None:
            return [0.5]
        scale: Callable[[float], float] = math.log if self.log else float
        low = scale(self.low)
        return [(scale(value) - low) / (scale(self.high) - low)]

    def __str__(self) -> str:
        low, high = map(int_if_whole, self.extremes)
        steps = "" if self.step is None else f" in steps of {self.step:g}"
        return f"a {'whole ' if self.whole else ''}number from {low} to {high}{steps}"


class Choices(Table):
    """A parameter with a list of values.

    Attributes:
        choices: the values, without repeats: true, false, numbers, strings. A single value fixes the parameter.
        when: as for a range.
    """

    choices: list[Any]
    when: _When = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        problems = [
            wrong_value(f"choices[{i}]", value, "true, false, a finite number or a string")
            for i, value in enumerate(self.choices)
            if not is_value(value)
        ]
        if not self.choices:
            problems.append(wrong_value("choices", self.choices, "one value or more"))
        elif not problems and len(set(self.choices)) < len(self.choices):
            problems.append(wrong_value("choices", self.choices, "every value once"))
        raise_problems(problems)
        return self

    @property
    def extremes(self) -> tuple[Value, Value]:
        """The smallest and the largest choice if all are numbers, else the first and the last."""
        if all(map(is_number, self.choices)):
            return min(self.choices), max(self.choices)
        return self.choices[0], self.choices[-1]

    @property
    def size(self) -> int:
        """Number of values."""
        return len(self.choices)

    def values(self) -> list[Value]:
        """Return all choices, in the file's order."""
        return list(self.choices)

    def contains(self, value: object) -> bool:
        """Return whether a value is one of the parameter's."""
        return any(same_value(value, choice) for choice in self.choices)

    def coordinates(self, value: Value | None) -> list[float]:
        """Return a coordinate for each choice: any two choices have distance 1. A single choice has none.

        None, of a trial without this parameter, is in the middle: equally far from all choices.
        """
        if len(self.choices) == 1:
            return []
        if value is None:
            return [math.sqrt(0.5) / len(self.choices)] * len(self.choices)
        return [math.sqrt(0.5) if same_value(value, choice) else 0.0 for choice in self.choices]

    def __str__(self) -> str:
        return "one of " + ", ".join(map(as_toml, self.choices))


def _form(parameter: object) -> str:
    is_choices = isinstance(parameter, Choices) or (isinstance(parameter, dict) and "choices" in parameter)
    return "choices" if is_choices else "range"


Parameter = Annotated[Annotated[Range, Tag("range")] | Annotated[Choices, Tag("choices")], Discriminator(_form)]
