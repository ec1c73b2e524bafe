"""The schedule notation: a number over epochs, written as one line of text.

``[1.e-3, 0] lin[1.2e-3, 6] cos[1.e-5, 20] lin[6.e-6, 26]`` is a first knot ``[value, epoch]``, then segments,
each with the knot it ends at. ``cos[1e-5, +8]`` ends 8 epochs after the knot before it. In a study file a value may
also be a parameter or number*parameter, and an epoch a parameter. Such a text is a template.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property, lru_cache
from numbers import Real
from typing import Literal, NamedTuple, get_args

Kind = Literal["lin", "cos", "hcos", "exp", "step"]
KINDS: tuple[str, ...] = get_args(Kind)

# Spaces separate tokens. Any other character that belongs to no number and no name is a token by itself.
_TOKEN = re.compile(r"(?P<number>(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)|(?P<name>[^\W\d]\w*)|(?P<mark>\S)")


class ScheduleError(ValueError):
    """A text is not in the notation, or the numbers put into a template break one of its rules.

    Attributes:
        text: the whole text.
        position: index of the character at fault, ``len(text)`` where something is missing at the end.
        expected: what could stand there, in words.
        reason: one line that says what is wrong.
    """

    def __init__(self, text: str, position: int, expected: str, reason: str = "") -> None:
        if not reason:
            token = _TOKEN.match(text, position)
            reason = f"expected {expected}, found {repr(token[0]) if token else 'the end'}"
        # pickle passes the base class's arguments to __init__ in another process, so they must be all arguments.
        super().__init__(text, position, expected, reason)
        self.text, self.position, self.expected, self.reason = text, position, expected, reason

    def __str__(self) -> str:
        shown = "".join(c if c.isprintable() else " " for c in self.text)
        return f"{self.reason}\n{shown}\n{' ' * self.position}^"


class Knot(NamedTuple):
    """A point of a schedule, in the order the notation writes it: value, then epoch."""

    value: float
    epoch: float


@dataclass(frozen=True)
class Segment:
    """A piece of a schedule, from the knot before it to its own.

    With v₀ the value at the knot before, v₁ the value at its own knot, and s in [0, 1] the place within the segment,
    its value is:

    - ``lin``: a straight line, v₀ + (v₁-v₀)·s.
    - ``cos``: a quarter cosine, v₁ + (v₀-v₁)·cos(s·π/2): flat at its start, steep at its end
      (machine-learning.anracom.com, post V, 2024-07-14).
    - ``hcos``: a half cosine, v₁ + (v₀-v₁)·(1 + cos(s·π))/2: flat at both ends
      (Loshchilov & Hutter 2017, SGDR, arXiv 1608.03983).
    - ``exp``: straight in the logarithm, v₀^(1-s)·v₁^s.
    - ``step``: piecewise constant, v₀ before the knot and v₁ from it on.

    Attributes:
        kind: one of these names.
        value: value at its own knot, in the unit of the scheduled quantity.
        epoch: epoch of that knot; epochs count from 0 and may be fractional.
    """

    kind: Kind
    value: float
    epoch: float


@dataclass(frozen=True)
class Schedule:
    """A number over epochs, continuous except at a ``step``. Immutable, hashable, comparable.

    Attributes:
        start: value at epoch 0.
        segments: in the order of their epochs; without a segment, the schedule is a constant.

    Raises:
        ValueError: the numbers break a rule of the notation: values finite and >= 0, > 0 at both ends of
            ``exp``; epochs finite and strictly rising from 0.
    """

    start: float
    segments: tuple[Segment, ...] = ()

    def __post_init__(self) -> None:
        fault = _find_fault(self.start, self.segments)
        if fault:
            raise ValueError(f"{fault.part} of knot {fault.knot}: expected {fault.expected}")

    @cached_property
    def knots(self) -> tuple[Knot, ...]:
        """The first knot, then the knot of every segment."""
        return (Knot(self.start, 0.0), *(Knot(s.value, s.epoch) for s in self.segments))

    @cached_property
    def _epochs(self) -> tuple[float, ...]:
        return tuple(knot.epoch for knot in self.knots)

    @property
    def last_epoch(self) -> float:
        """Epoch of the last knot, after which the value stays the same; 0 for a constant."""
        return self.knots[-1].epoch

    @property
    def peak(self) -> float:
        """The highest value."""
        return max(knot.value for knot in self.knots)  # no segment leaves the range of its ends

    @property
    def peak_epoch(self) -> float:
        """The first epoch at which the value is the peak."""
        return max(self.knots, key=lambda knot: knot.value).epoch  # max returns the first of equal items

    @property
    def peak_end(self) -> float:
        """The epoch at which the value leaves the peak for good: annealing starts there. math.inf where it never does.

        >>> parse("[8e-4, 0] lin[1e-3, 5] lin[1e-3, 12] cos[1e-5, 20]").peak_end
        12.0
        """
        last = max(i for i, knot in enumerate(self.knots) if knot.value == self.peak)
        if last == len(self.segments):
            return math.inf
        following = self.segments[last]
        # A step holds the value before it up to its own knot.
        return following.epoch if following.kind == "step" else self.knots[last].epoch

    def value(self, epoch: float) -> float:
        """Return the value at an epoch, counted from 0 and fractional within an epoch.

        At a knot, it is exactly the knot's value. Between two knots, it stays in the range of their values.

        Raises:
            ValueError: the epoch is below 0, or not a number.
        """
        if not epoch >= 0:
            raise ValueError(f"epoch {epoch}: expected 0 or more")
        last = bisect_right(self._epochs, epoch) - 1
        v0, e0 = self.knots[last]
        if epoch == e0 or last == len(self.segments):
            return v0
        segment = self.segments[last]
        v1 = segment.value
        value = _CURVES[segment.kind](v0, v1, (epoch - e0) / (segment.epoch - e0))
        # Rounding may have gone past an end.
        return min(max(value, v0), v1) if v0 < v1 else min(max(value, v1), v0)

    def epoch_values(self, epoch_index: int, steps: int) -> list[float]:
        """Return the values of an epoch's steps: ``value(epoch_index + i/steps)`` for i = 0 … steps-1.

        Args:
            epoch_index: 0-based number of the epoch.
            steps: optimizer steps in the epoch, 1 or more.

        Raises:
            ValueError: epoch_index is below 0, or steps below 1.
        """
        if steps < 1:
            raise ValueError(f"steps = {steps}: expected 1 or more")
        return [self.value(epoch_index + i / steps) for i in range(steps)]

    def __str__(self) -> str:
        """Return the canonical text; ``parse`` returns an equal schedule for it."""
        kinds = ("", *(segment.kind for segment in self.segments))
        return " ".join(
            f"{kind}[{_number(knot.value)}, {_number(knot.epoch)}]"
            for kind, knot in zip(kinds, self.knots, strict=True)
        )


class _Term(NamedTuple):
    """A value or an epoch as it was written."""

    position: int
    source: str
    factor: float
    name: str | None
    relative: bool


class _TemplateKnot(NamedTuple):
    kind: str  # empty for the first knot
    value: _Term
    epoch: _Term


@dataclass(frozen=True)
class ScheduleTemplate:
    """A schedule with parameters in the place of some numbers; ``parse_template`` makes it.

    Attributes:
        text: the text as it was written.
    """

    text: str
    _knots: tuple[_TemplateKnot, ...]

    def __str__(self) -> str:
        return self.text

    @property
    def value_parameters(self) -> frozenset[str]:
        """Names that stand in values."""
        return frozenset(knot.value.name for knot in self._knots if knot.value.name is not None)

    @property
    def epoch_parameters(self) -> frozenset[str]:
        """Names that stand in epochs."""
        return frozenset(knot.epoch.name for knot in self._knots if knot.epoch.name is not None)

    @property
    def parameters(self) -> frozenset[str]:
        """All names."""
        return self.value_parameters | self.epoch_parameters

    def fill(self, values: Mapping[str, float]) -> Schedule:
        """Return the schedule with a number for every parameter; names that the template lacks are ignored.

        Raises:
            ScheduleError: a parameter is missing or not a number, or the numbers break a rule; the caret
                is under the place in the template.
        """
        knots: list[Knot] = []
        segments: list[Segment] = []
        for kind, value, epoch in self._knots:
            at = self._resolve(epoch, values)
            knot = Knot(self._resolve(value, values), _after(knots[-1].epoch, at) if epoch.relative else at)
            knots.append(knot)
            if kind:
                segments.append(Segment(kind, *knot))  # type: ignore[arg-type]  # only kinds are read
        fault = _find_fault(knots[0].value, tuple(segments))
        if fault is None:
            return Schedule(knots[0].value, tuple(segments))
        term: _Term = getattr(self._knots[fault.knot], fault.part)
        found = _number(getattr(knots[fault.knot], fault.part))
        if term.name is not None:
            found += f" from {term.source} with {term.name} = {_number(values[term.name])}"
        elif term.relative:
            found += f" from {term.source}"
        reason = f"expected {fault.expected}, found {found}"
        raise ScheduleError(self.text, term.position, fault.expected, reason)

    def _resolve(self, term: _Term, values: Mapping[str, float]) -> float:
        if term.name is None:
            return term.factor
        if term.name not in values:
            reason = f"no parameter {term.name!r}; known: {', '.join(sorted(values)) or 'none'}"
            raise ScheduleError(self.text, term.position, "a known parameter", reason)
        value = values[term.name]
        if isinstance(value, bool) or not isinstance(value, Real):
            reason = f"expected a number for parameter {term.name!r}, found {value!r}"
            raise ScheduleError(self.text, term.position, "a number", reason)
        return term.factor * float(value)


def parse(text: str) -> Schedule:
    """Return the schedule of a text.

    >>> parse("[1e-3, 0] lin[2e-3, +4] cos[0, 10]").value(2)
    0.0015

    Raises:
        ScheduleError: the text is not in the notation, breaks one of its rules, or names a parameter.
    """
    return _Reader(text, names=False).read().fill({})


@lru_cache(maxsize=1024)  # a study reads the same texts for every trial
def parse_template(text: str) -> ScheduleTemplate:
    """Return the template of a study file's text, which need not have parameters.

    >>> str(parse_template("[0.1*lr, 0] lin[lr, 5]").fill({"lr": 1e-3}))
    '[1e-4, 0] lin[1e-3, 5]'

    Raises:
        ScheduleError: the text is not in the notation. ``fill`` checks the rules on numbers.
    """
    return _Reader(text, names=True).read()


# v₀, v₁, s -> value, as in Segment; written so that intermediate results of finite ends do not overflow.
_CURVES: dict[str, Callable[[float, float, float], float]] = {
    "lin": lambda v0, v1, s: v0 + (v1 - v0) * s,
    "cos": lambda v0, v1, s: v1 + (v0 - v1) * math.cos(s * math.pi / 2),
    "hcos": lambda v0, v1, s: v1 + (v0 - v1) * ((1 + math.cos(s * math.pi)) / 2),
    "exp": lambda v0, v1, s: v0 ** (1 - s) * v1**s,
    "step": lambda v0, _v1, _s: v0,
}


class _Fault(NamedTuple):
    knot: int  # 0 is the first knot
    part: Literal["kind", "value", "epoch"]
    expected: str


def _find_fault(start: float, segments: tuple[Segment, ...]) -> _Fault | None:
    """Return the first number that breaks a rule, or None."""
    if not 0 <= start < math.inf:
        return _Fault(0, "value", "a finite value of 0 or more")
    value, epoch = start, 0.0
    for i, segment in enumerate(segments, 1):
        if segment.kind not in KINDS:
            return _Fault(i, "kind", "one of " + ", ".join(KINDS))
        if segment.kind == "exp" and value == 0:
            return _Fault(i - 1, "value", "a value above 0 where exp starts")
        if not 0 <= segment.value < math.inf:
            return _Fault(i, "value", "a finite value of 0 or more")
        if segment.kind == "exp" and segment.value == 0:
            return _Fault(i, "value", "a value above 0 where exp ends")
        if not epoch < segment.epoch:
            return _Fault(i, "epoch", f"an epoch after {_number(epoch)}")
        if math.isinf(segment.epoch):
            return _Fault(i, "epoch", "a finite epoch")
        value, epoch = segment.value, segment.epoch
    return None


def _after(epoch: float, more: float) -> float:
    """Return the sum in decimal arithmetic: in binary, 1.3 + 1.3 + 1.3 is a little more than 3.9."""
    return float(Decimal(repr(epoch)) + Decimal(repr(more)))


def _number(number: float) -> str:
    """Return the shortest text that reads back as the same number: plain from 0.01 to 1e16, else like 1e-3."""
    if number == 0:
        return "0"  # never -0, which the notation does not have
    text = repr(float(number))
    if not math.isfinite(number) or 0.01 <= abs(number) < 1e16:
        return text.removesuffix(".0")
    return f"{Decimal(text):e}".replace("e+", "e")


class _Reader:
    """Reads a text from left to right, a token at a time."""

    def __init__(self, text: str, *, names: bool) -> None:
        self.text, self.names, self.next = text, names, 0
        self.tokens = [*_TOKEN.finditer(text)]

    @property
    def position(self) -> int:
        return self.tokens[self.next].start() if self.next < len(self.tokens) else len(self.text)

    def read(self) -> ScheduleTemplate:
        knots = [self.knot("")]
        first = knots[0].epoch
        if first.relative or first.factor != 0:  # the factor of a name is 1
            raise ScheduleError(self.text, first.position, "0, the epoch of the first knot")
        while self.next < len(self.tokens):
            at, kind = self.position, self.take("name")
            if kind not in KINDS:
                raise ScheduleError(self.text, at, f"a segment ({', '.join(KINDS)}) or the end")
            knots.append(self.knot(kind))
        return ScheduleTemplate(self.text, tuple(knots))

    def knot(self, kind: str) -> _TemplateKnot:
        self.require("[")
        value = self.term("value")
        self.require(",")
        epoch = self.term("epoch")
        self.require("]")
        return _TemplateKnot(kind, value, epoch)

    def term(self, part: Literal["value", "epoch"]) -> _Term:
        at, factor, name = self.position, 1.0, None
        relative = part == "epoch" and self.take("mark", "+") != ""
        number_at, number = self.position, self.take("number")
        if number:
            factor = float(number)
            if math.isinf(factor):
                raise ScheduleError(self.text, number_at, "a finite number")
            if part == "value" and self.take("mark", "*"):
                name = self.name("a parameter")
        elif self.names and part == "value":
            name = self.name("a number, a parameter or number*parameter")
        else:
            name = self.name("a number or a parameter" if self.names else "a number")
        return _Term(at, self.text[at : self.tokens[self.next - 1].end()], factor, name, relative)

    def name(self, expected: str) -> str:
        at, name = self.position, self.take("name")
        if name and not self.names:
            raise ScheduleError(self.text, at, "a number")
        if not name.isidentifier():  # empty, or with a letter such as ²
            raise ScheduleError(self.text, at, expected)
        return name

    def require(self, mark: str) -> None:
        if not self.take("mark", mark):
            raise ScheduleError(self.text, self.position, repr(mark))

    def take(self, group: str, only: str = "") -> str:
        """Take the next token if it is of the group, and ``only`` where given; else return an empty text."""
        token = self.tokens[self.next] if self.next < len(self.tokens) else None
        if token is None or token.lastgroup != group or (only and token[0] != only):
            return ""
        self.next += 1
        return token[0]
