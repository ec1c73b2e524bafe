"""Conditional parameters: which parameters a trial has, where some depend on the values of others (``when``)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from search_spaces.errors import Problem, suggestion, unknown_name, wrong_value
from search_spaces.parameters import Choices, Parameter, Range, Value, is_number, same_value

Space = Mapping[str, Parameter]


def is_asked(parameter: Parameter, params: Mapping[str, Any]) -> bool:
    """Return whether a trial with these values of other parameters has a parameter; always true without ``when``."""
    return all(
        name in params and any(_equal(params[name], value) for value in values)
        for name, values in (parameter.when or {}).items()
    )


def _equal(value: Any, other: Any) -> bool:
    """Return whether two values are equal; a step's values are sums with errors of rounding."""
    if is_number(value) and is_number(other):
        return math.isclose(value, other, rel_tol=1e-9, abs_tol=1e-12)
    return same_value(value, other)


def agrees(params: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Return whether parameters have all wanted values, up to errors of rounding."""
    return all(name in params and _equal(params[name], value) for name, value in wanted.items())


def in_order(space: Space) -> list[str]:
    """Return the names of all parameters in the file's order, but each one behind those that its ``when`` names.

    Parameters in a circle of conditions are left out; `condition_problems` reports them.
    """
    order: list[str] = []
    left = list(space)
    while left:
        name = next((n for n in left if not set(space[n].when or ()) & set(left)), None)
        if name is None:
            return order
        left.remove(name)
        order.append(name)
    return order


def asked(space: Space, params: Mapping[str, Any]) -> list[str]:
    """Return the names of the parameters that a trial with these values has, in the order of suggestion.

    Args:
        space: the study's parameters.
        params: values by name. A parameter whose condition does not hold counts as absent, even if it is given.
    """
    known: dict[str, Any] = {}
    names = []
    for name in in_order(space):
        if is_asked(space[name], known):
            names.append(name)
            if name in params:
                known[name] = params[name]
    return names


def only_asked(space: Space, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the given parameters without those that a trial with these values does not have."""
    names = set(asked(space, params))
    return {name: value for name, value in params.items() if name in names}


def is_conditional(space: Space) -> bool:
    """Return whether some parameters depend on others."""
    return any(parameter.when for parameter in space.values())


def deciding(space: Space, names: Collection[str] | None = None) -> list[str]:
    """Return the parameters that decide whether other parameters are asked, in the order of suggestion.

    Args:
        space: the study's parameters.
        names: the parameters to decide about; they are returned, too. None: all, without themselves.
    """
    wanted = set() if names is None else set(names)
    left = [*space] if names is None else [*names]
    seen: set[str] = set()
    while left:
        name = left.pop()
        if name in seen:
            continue
        seen.add(name)
        above = [other for other in space[name].when or () if other in space]
        wanted.update(above)
        left += above
    return [name for name in in_order(space) if name in wanted]


def representatives(space: Space, name: str) -> list[Value]:
    """Return values of a parameter that stand for all: for every condition, the extremes where it holds and not.

    These are all choices; of a range of whole numbers or steps, the lowest and the highest value, those that a ``when``
    names, and the lowest and the highest that none names.
    """
    parameter = space[name]
    if isinstance(parameter, Choices):
        return parameter.values()
    extremes = list(parameter.extremes)
    named = [value for other in space.values() for value in (other.when or {}).get(name, ())]
    if not named or parameter.size is None:
        return extremes
    others = [value for value in parameter.values() if not any(_equal(value, one) for one in named)]
    found = [*extremes, *(value for value in parameter.values() if value not in others), *others[:1], *others[-1:]]
    return sorted(set(found))


def branches(space: Space, names: Sequence[str]) -> Iterator[dict[str, Value]]:
    """Yield every combination of the representatives of some parameters that a trial can have, each once.

    Args:
        space: the study's parameters.
        names: these parameters, in the order of suggestion, with all that decide about them.
    """
    if not names:
        yield {}
        return
    for known in branches(space, names[:-1]):
        if is_asked(space[names[-1]], known):
            for value in representatives(space, names[-1]):
                yield known | {names[-1]: value}
        else:
            yield known


MOST_POINTS = 100_000
"""How many values or combinations are listed at most: about a second of work, and far more than a study has trials."""


def points(space: Space, names: Sequence[str] | None = None) -> Iterator[dict[str, Value]]:
    """Yield every combination of values that a trial can have, each once. No parameter may be continuous.

    Args:
        space: the study's parameters.
        names: some of them, in the order of suggestion, with all that decide about them; None: all.
    """
    names = in_order(space) if names is None else names
    axes = [space[name].values() for name in names]
    if not is_conditional(space):
        yield from (dict(zip(names, values, strict=True)) for values in itertools.product(*axes))
        return
    if not names:
        yield {}
        return
    for known in points(space, names[:-1]):
        if is_asked(space[names[-1]], known):
            for value in axes[-1]:
                yield known | {names[-1]: value}
        else:
            yield known


def point_count(space: Space) -> int:
    """Return how many combinations `points` yields, without making all of them."""
    decide = deciding(space)
    return sum(
        math.prod(space[name].size or 0 for name in asked(space, point) if name not in decide)
        for point in points(space, decide)
    )


def condition_problems(space: Space, fixed: Collection[str]) -> Iterator[Problem]:
    """Yield the problems of all conditions: unknown names, unknown values, continuous parameters, and circles.

    Args:
        space: the study's parameters.
        fixed: the names in ``[train]``.
    """
    for name, parameter in space.items():
        for other, values in (parameter.when or {}).items():
            key = f"space.{name}.when.{other}"
            if other not in space:
                if other in fixed:
                    yield Problem(key, f": expected a parameter of [space]; {other} is fixed in [train]")
                else:
                    yield unknown_name(key, values, space.keys() - {name}, "parameter", other)
                continue
            known = space[other]
            if isinstance(known, Range) and (known.size is None or known.size > MOST_POINTS):
                at_most = f" and at most {MOST_POINTS:,} values" if known.size else ""
                expected = (
                    f"a parameter with choices, int = true or a step{at_most}: a number is hardly ever drawn twice"
                )
                yield Problem(key, f": {other} is {known}; expected {expected}")
                continue
            for value in values:
                if not known.contains(value):
                    hint = ""
                    if isinstance(value, str) and isinstance(known, Choices):
                        texts = [choice for choice in known.choices if isinstance(choice, str)]
                        hint = suggestion(value, texts)
                    hint = f"; {hint}" if hint.startswith("did") else ""
                    yield wrong_value(key, value, f"{known}{hint}")
    circle = _circle(space)
    if circle:
        yield Problem(f"space.{circle[0]}.when", f": expected no circle: {' needs '.join(circle)}")


def _circle(space: Space) -> list[str]:
    """Return the names along a circle of conditions, the first one also at the end; empty if there is none."""
    stuck = set(space) - set(in_order(space))
    if not stuck:
        return []
    name = next(n for n in space if n in stuck)
    path: list[str] = []
    while name not in path:
        path.append(name)
        name = next(n for n in space[name].when or () if n in stuck)
    return [*path[path.index(name) :], name]
