"""Estimates with confidence intervals, and the arithmetic of intervals.

All intervals are closed formulas, without random sampling: the same runs give the same interval, and B compared with A
gives the mirror image of A compared with B. They consist of two parts:

    shares   of the runs that reached the target: Clopper and Pearson's exact interval (Biometrika 26, 1934). Its
             coverage is at least nominal for any share and number of runs; Wilson's is below it for small shares
    means    of epochs, over the runs that reached: Student's t interval, with 1/12 added to the variance. Epochs are
             whole numbers, and 1/12 is the variance of what rounding hides, so runs of equal epochs do not have a
             spread of 0. With fewer than two runs the interval is the range of all possible means

MOVER (method of variance estimates recovery: Zou & Donner, Statistics in Medicine 27, 2008) combines them: the interval
of x + y ends at x + y ± √((distance of x to its end)² + (distance of y to its end)²); that of x·y is computed in the
same way from logarithms.

``python -m tests.benchmarks.coverage`` measures the coverage of each interval, and ``python -m tests.benchmarks.power``
how often a difference is found. docs/statistics.md has the figures.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

ROUNDING_VARIANCE = 1 / 12
"""Variance that rounding to whole epochs hides."""


@dataclass(frozen=True)
class Estimate:
    """An estimate with its confidence interval.

    Attributes:
        value: the estimate.
        low: lower end of the interval.
        high: upper end of the interval, math.inf where it has none.
        confidence: nominal coverage of the interval, in (0, 1).

    >>> str(Estimate(20.5, 19, math.inf, 0.95))
    '20.5 [19, ∞]'
    """

    value: float
    low: float
    high: float
    confidence: float

    def __str__(self) -> str:
        value, low, high = (f"{number:.4g}".replace("inf", "∞") for number in (self.value, self.low, self.high))
        return f"{value} [{low}, {high}]"


def mean_sd(values: Sequence[float]) -> tuple[float, float]:
    """Return mean and sample standard deviation (n - 1) without NaN values; NaN if there are too few values.

    >>> mean_sd([0.92, 0.93])
    (0.925, 0.007071067811865481)
    """
    known = [value for value in map(float, values) if not math.isnan(value)]
    if not known:
        return math.nan, math.nan
    mean = math.fsum(known) / len(known)
    if len(known) == 1:
        return mean, math.nan
    return mean, math.sqrt(math.fsum((value - mean) ** 2 for value in known) / (len(known) - 1))


def wilson(reached: float, runs: int, confidence: float) -> Estimate:
    """Return a share with Wilson's interval. ``reached`` may be a fraction, since a tie counts half.

    (p + z²/2n ± z·sqrt(p(1-p)/n + z²/4n²)) / (1 + z²/n); Wilson, J. Am. Stat. Assoc. 22, 1927.
    """
    from scipy.special import ndtri  # scipy.special imports in 0.1 s, scipy.stats in more than 1 s

    z2 = float(ndtri((1 + confidence) / 2)) ** 2
    share = reached / runs
    middle = (share + z2 / (2 * runs)) / (1 + z2 / runs)
    half = math.sqrt(z2 * (share * (1 - share) / runs + z2 / (4 * runs**2))) / (1 + z2 / runs)
    # Where all or none reached, rounding must not put the share outside of its interval.
    return Estimate(share, min(max(0.0, middle - half), share), max(min(1.0, middle + half), share), confidence)


@lru_cache(maxsize=4096)
def clopper_pearson(count: int, runs: int, confidence: float) -> tuple[float, float]:
    """Return the ends of Clopper and Pearson's exact interval of a share."""
    from scipy.special import betaincinv

    low = float(betaincinv(count, runs - count + 1, (1 - confidence) / 2)) if count else 0.0
    high = float(betaincinv(count + 1, runs - count, (1 + confidence) / 2)) if count < runs else 1.0
    return low, high


@lru_cache(maxsize=4096)
def student_quantile(degrees: float, confidence: float) -> float:
    """Return the quantile of Student's t at which a two-sided interval of this confidence ends."""
    from scipy.special import stdtrit

    return float(stdtrit(degrees, (1 + confidence) / 2))


def mean_epochs(values: Sequence[float], low: float, high: float, confidence: float) -> Estimate:
    """Return the mean of epochs with Student's interval.

    Args:
        values: epochs; shape (runs,).
        low: the lowest possible mean, at which the interval is cut off. With fewer than two values it is the lower end.
        high: likewise, the highest possible mean. Without values it is the mean, too.
        confidence: confidence of the interval, in (0, 1).
    """
    k = len(values)
    if k < 2:
        return Estimate(values[0] if k else high, low, high, confidence)
    mean, sd = mean_sd(values)
    half = student_quantile(k - 1, confidence) * math.sqrt((sd**2 + ROUNDING_VARIANCE) / k)
    return Estimate(mean, max(low, mean - half), min(high, mean + half), confidence)


def add(value: float, x: Estimate, y: Estimate, correlation: float = 0.0) -> Estimate:
    """Return x + y with its MOVER interval.

    Args:
        value: x + y. The caller computes it, so that it is exact even if x and y are rounded.
        x: an estimate.
        y: another one, of the same confidence.
        correlation: correlation of x and y.
    """
    low = value - _root(x.value - x.low, y.value - y.low, correlation)
    return Estimate(value, low, value + _root(x.high - x.value, y.high - y.value, correlation), x.confidence)


def subtract(x: Estimate, y: Estimate, most: float, correlation: float = 0.0) -> Estimate:
    """Return x - y with its MOVER interval.

    Args:
        x: an estimate.
        y: another one, of the same confidence.
        most: the interval is cut off at -most and at most.
        correlation: correlation of x and -y.
    """
    found = add(x.value - y.value, x, Estimate(-y.value, -y.high, -y.low, y.confidence), correlation)
    return Estimate(found.value, max(found.low, -most), min(found.high, most), found.confidence)


def multiply(x: Estimate, y: Estimate) -> Estimate:
    """Return x·y with its MOVER interval on a logarithmic scale. All ends are 0 or more."""
    value = x.value * y.value
    if value == 0:
        return Estimate(0.0, 0.0, x.high * y.high, x.confidence)
    above = _root(math.log(x.high / x.value), math.log(y.high / y.value))
    below = _root(math.log(x.value / x.low), math.log(y.value / y.low)) if x.low * y.low > 0 else math.inf
    return Estimate(value, value * math.exp(-below), min(value * math.exp(above), x.high * y.high), x.confidence)


def _root(x: float, y: float, correlation: float = 0.0) -> float:
    """Return √(x² + y² + 2·correlation·x·y): bit for bit the same for (x, y) and (y, x), which math.hypot is not."""
    return math.sqrt(x * x + y * y + 2 * correlation * (x * y))


def checked_epochs(epochs: Sequence[float]) -> Floats:
    """Return epochs as an array; shape (runs,).

    Raises:
        ValueError: there is no run, or an epoch is negative or NaN.
    """
    values = np.asarray(epochs, dtype=np.float64)
    if values.ndim != 1 or not len(values):
        raise ValueError("epochs: expected those of one run or more")
    if not (values >= 0).all():  # NaN too
        raise ValueError(f"epochs = {values.tolist()}: expected numbers of 0 or more, math.inf for a miss")
    return values


def check_budget(budget: float) -> None:
    """Raise ValueError for a budget that is not a finite number above 0."""
    if not 0 < budget < math.inf:
        raise ValueError(f"budget = {budget!r}: expected a number of epochs above 0")


def check_confidence(confidence: float) -> None:
    """Raise ValueError for a confidence outside (0, 1)."""
    if not 0 < confidence < 1:
        raise ValueError(f"confidence = {confidence!r}: expected a number between 0 and 1")
