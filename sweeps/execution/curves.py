"""A trial's curve as a line of block characters, and its place among all trials at the same epoch.

Curves here are scores: values of the study's metric, turned so that more is better (see `resnet_core.objective`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

_BARS = "▁▂▃▄▅▆▇█"
_NOT_FINITE = "×"


@dataclass(frozen=True)
class Scale:
    """The scores at the bottom and at the top of spark lines, the same for all lines, so that they can be compared.

    Attributes:
        bottom: a usual worst score; lower ones are drawn like it.
        top: the score of a full block: the target; without one, the best score there is.
    """

    bottom: float
    top: float

    @classmethod
    def of(cls, curves: Iterable[Sequence[float]], target: float | None) -> Scale:
        """Return the scale for these curves; ``target`` is the score to reach, None without one."""
        finite = [known for curve in curves if (known := [score for score in curve if math.isfinite(score)])]
        top = target if target is not None else max(map(max, finite), default=0.0)
        return cls(median([min(top, *known) for known in finite]) if finite else top, top)


def spark_line(scores: Sequence[float], horizon: int, width: int, scale: Scale) -> str:
    """Return a curve as one line: a full block is at the target or better, and no other value is.

    Args:
        scores: scores of epochs 1, 2, …; NaN where the metric was not finite, which is drawn as ×.
        horizon: epochs of the trial's schedule. If they are more than ``width``, several share a character, which
            shows the last of them; the line has its full width at the horizon.
        width: most characters.
        scale: what is drawn lowest and highest.

    >>> spark_line([0.1, 0.5, math.nan, 0.89, 0.9], 8, 12, Scale(0.1, 0.9))
    '▁▄×▇█'
    >>> spark_line([0.1, 0.2, 0.3, 0.4, 0.5, 0.9], 12, 4, Scale(0.1, 0.9))
    '▂█'
    """
    if horizon > width:
        ends = [math.ceil((i + 1) * horizon / width) for i in range(width)]
        whole = [end for end in ends if end <= len(scores)]
        if len(whole) < width and len(scores) > (whole[-1] if whole else 0):
            whole.append(len(scores))
        scores = [scores[end - 1] for end in whole]
    return "".join(_bar(score, scale) for score in scores)


def _bar(score: float, scale: Scale) -> str:
    if not math.isfinite(score):
        return _NOT_FINITE
    if score >= scale.top:
        return _BARS[-1]
    share = (score - scale.bottom) / (scale.top - scale.bottom) if scale.top > scale.bottom else 0.0
    return _BARS[min(max(int(share * (len(_BARS) - 1)), 0), len(_BARS) - 2)]


def place(score: float, others: Iterable[float]) -> tuple[int, int]:
    """Return a score's place among others, and how many there are with it. Equal scores share the better place.

    A score that is not finite is behind all that are.

    >>> place(0.8, [0.9, 0.8, 0.7, math.nan])
    (2, 5)
    """

    def key(value: float) -> float:
        return value if math.isfinite(value) else -math.inf

    known = [key(other) for other in others]
    return 1 + sum(other > key(score) for other in known), 1 + len(known)


def ordinal(number: int) -> str:
    """Return a place in words.

    >>> [ordinal(number) for number in (1, 2, 3, 4, 11, 12, 13, 21, 102, 111)]
    ['1st', '2nd', '3rd', '4th', '11th', '12th', '13th', '21st', '102nd', '111th']
    """
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"
