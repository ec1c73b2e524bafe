"""How two configurations differ: in the share of runs that reach the target, and in epochs to target.

A run's epochs to target is math.inf where it missed the target. analysis.statistics.intervals explains the intervals.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from analysis.statistics.estimates import restricted_mean, share_reached
from analysis.statistics.intervals import (
    ROUNDING_VARIANCE,
    Estimate,
    Floats,
    check_budget,
    check_confidence,
    checked_epochs,
    mean_sd,
    student_quantile,
    subtract,
    wilson,
)


@dataclass(frozen=True)
class Comparison:
    """Two configurations compared. Every difference is A minus B.

    Attributes:
        pairs: number of pairs of runs that share a seed; 0 if the runs are compared as independent.
        share: difference of the shares of runs that reach the target; above 0 if A reaches it more often.
        both: number of pairs in which both runs reached; for independent runs, the smaller of the two numbers of runs
            that reached.
        time: difference of the mean epochs to target given that both reached, in epochs; below 0 if A is faster. None
            if ``both`` is 0.
        difference: difference of the mean epochs to target, where a miss counts as budget + 1: combines shares and
            times.
        probability_faster: probability that A is faster than B. A tie counts half; two misses are a tie.
        share_p: p-value of equal shares: the lowest 1 - c at which the interval of confidence c excludes 0.
        time_p: p-value of equal times given that both reached; 1 where ``both`` is too small for an interval.
    """

    pairs: int
    share: Estimate
    both: int
    time: Estimate | None
    difference: Estimate
    probability_faster: Estimate
    share_p: float
    time_p: float


def compare(a: Sequence[float], b: Sequence[float], budget: float, confidence: float = 0.95) -> Comparison:
    """Compare the epochs to target of A and B, seed by seed.

    ``share`` compares the number of pairs in which only A reached with those in which only B did. ``time`` has
    Student's interval over the pairs in which both reached. ``difference`` is the difference of the restricted means up
    to budget + 1, so a miss is one epoch later than a crossing in the last epoch. Its interval ignores the pairing, and
    is too wide where runs of one seed are positively correlated. ``probability_faster`` is (wins + ties/2)/pairs
    (Vargha & Delaney, J. Educational and Behavioral Statistics 25, 2000, for pairs), with Wilson's interval; ties make
    it wide.

    Args:
        a: epochs to target of A, math.inf for a miss; shape (pairs,).
        b: epochs to target of B; b[i] shares its seed with a[i]. Shape (pairs,).
        budget: epochs, above 0; a later crossing counts as a miss.
        confidence: confidence of all intervals, in (0, 1).

    Raises:
        ValueError: there is no pair, the shapes differ, an epoch is negative or NaN, or budget or confidence is out
            of bounds.
    """
    of_a, of_b = _within(a, budget), _within(b, budget)
    if of_a.shape != of_b.shape:
        raise ValueError(f"{len(of_a)} runs of A and {len(of_b)} of B: expected pairs that share a seed")
    check_confidence(confidence)
    hit_a, hit_b = np.isfinite(of_a), np.isfinite(of_b)
    pairs, only_a, only_b = len(of_a), int((hit_a & ~hit_b).sum()), int((hit_b & ~hit_a).sum())
    gaps = (of_a[hit_a & hit_b] - of_b[hit_a & hit_b]).tolist()
    gap, sd = mean_sd(gaps)
    error = math.sqrt((sd**2 + 2 * ROUNDING_VARIANCE) / len(gaps)) if len(gaps) > 1 else math.nan
    time, time_p = _time(gap, error, len(gaps) - 1, budget, confidence)
    faster = float(np.mean((of_a < of_b) + (of_a == of_b) / 2))
    return Comparison(
        pairs,
        _share_difference(only_a, pairs, only_b, pairs, True, confidence),
        len(gaps),
        time,
        _difference(of_a, of_b, budget, confidence),
        wilson(faster * pairs, pairs, confidence),
        _share_p(only_a, pairs, only_b, pairs, True),
        time_p,
    )


def compare_independent(a: Sequence[float], b: Sequence[float], budget: float, confidence: float = 0.95) -> Comparison:
    """Compare the epochs to target of runs that share no seeds.

    As `compare`, but ``share`` is the difference of two independent shares. ``time`` has Student's interval over the
    runs that reached. Its standard error is the larger of two: with a pooled variance, and with separate variances
    (Welch, Biometrika 34, 1947). Its degrees of freedom are those of the configuration with fewer such runs. Welch's
    own interval is too narrow if the distribution has two modes and the few runs are all of one mode.
    ``probability_faster`` is Mann and Whitney's: the share of all pairs (a run of A, a run of B) that A wins, with
    Wilson's interval for the smaller number of runs, which is never too narrow (Birnbaum and Klose, Ann. Math. Statist.
    28, 1957).

    Args:
        a: epochs to target of A, math.inf for a miss; shape (runs of A,).
        b: epochs to target of B; shape (runs of B,).
        budget: epochs, above 0; a later crossing counts as a miss.
        confidence: confidence of all intervals, in (0, 1).

    Raises:
        ValueError: A or B has no run, an epoch is negative or NaN, or budget or confidence is out of bounds.
    """
    of_a, of_b = _within(a, budget), _within(b, budget)
    check_confidence(confidence)
    hits_a, hits_b = (of[np.isfinite(of)].tolist() for of in (of_a, of_b))
    wins, ties = of_a[:, None] < of_b, of_a[:, None] == of_b
    faster, runs = float(np.mean(wins + ties / 2)), min(len(of_a), len(of_b))
    (mean_a, sd_a), (mean_b, sd_b) = mean_sd(hits_a), mean_sd(hits_b)
    both, error = min(len(hits_a), len(hits_b)), math.nan
    if both > 1:
        var_a, var_b, k_a, k_b = sd_a**2 + ROUNDING_VARIANCE, sd_b**2 + ROUNDING_VARIANCE, len(hits_a), len(hits_b)
        pooled = ((k_a - 1) * var_a + (k_b - 1) * var_b) / (k_a + k_b - 2)
        error = math.sqrt(max(var_a / k_a + var_b / k_b, pooled / k_a + pooled / k_b))
    time, time_p = _time(mean_a - mean_b, error, both - 1, budget, confidence)
    counts = len(hits_a), len(of_a), len(hits_b), len(of_b)
    return Comparison(
        0,
        _share_difference(*counts, False, confidence),
        both,
        time,
        _difference(of_a, of_b, budget, confidence),
        wilson(faster * runs, runs, confidence),
        _share_p(*counts, False),
        time_p,
    )


def paired_means(a: Sequence[float], b: Sequence[float], confidence: float = 0.95) -> tuple[Estimate, float]:
    """Return the mean difference of pairs of values, with its interval and p-value by Student's paired t.

    Args:
        a: values of A; NaN for a run without one; its pair is left out. Shape (pairs,).
        b: values of B; b[i] shares its seed with a[i]. Shape (pairs,).
        confidence: confidence of the interval, in (0, 1).

    Returns:
        The mean of A minus B with its interval, and the two-sided p-value of a mean of 0. With fewer than two pairs the
        interval has no ends and the p-value is 1.

    >>> difference, p = paired_means([0.5, 0.6, 0.7], [0.4, 0.5, 0.7])
    >>> str(difference), round(p, 3)
    ('0.06667 [-0.07676, 0.2101]', 0.184)
    """
    check_confidence(confidence)
    gaps = np.subtract(np.asarray(a, dtype=float), np.asarray(b, dtype=float))
    gaps = gaps[~np.isnan(gaps)]
    count = len(gaps)
    error = float(gaps.std(ddof=1)) / math.sqrt(count) if count > 1 else math.nan
    return _student(float(gaps.mean()) if count else math.nan, error, count - 1, confidence)


def independent_means(a: Sequence[float], b: Sequence[float], confidence: float = 0.95) -> tuple[Estimate, float]:
    """Return the difference of the means of two samples, with its interval and p-value by Welch's t.

    Welch, Biometrika 34, 1947: the variances of A and B may differ.

    Args:
        a: values of A; NaN for a run without one, which is left out. Shape (runs of A,).
        b: values of B, likewise. Shape (runs of B,).
        confidence: confidence of the interval, in (0, 1).

    Returns:
        The mean of A minus that of B with its interval, and the two-sided p-value of equal means. If A or B has fewer
        than two values, the interval has no ends and the p-value is 1.

    >>> difference, p = independent_means([0.5, 0.6, 0.7], [0.4, 0.5, 0.6])
    >>> round(difference.value, 3), round(p, 3)
    (0.1, 0.288)
    """
    check_confidence(confidence)
    samples = [np.asarray(values, dtype=float) for values in (a, b)]
    samples = [values[~np.isnan(values)] for values in samples]
    means = [float(values.mean()) if len(values) else math.nan for values in samples]
    shares = [float(values.var(ddof=1)) / len(values) if len(values) > 1 else math.nan for values in samples]
    total = sum(shares)
    degrees = 0.0
    if total > 0:
        degrees = total**2 / sum(share**2 / (len(v) - 1) for share, v in zip(shares, samples, strict=True))
    elif total == 0:
        degrees = float(sum(map(len, samples)) - 2)
    return _student(means[0] - means[1], math.sqrt(total), degrees, confidence)


def _student(gap: float, error: float, degrees: float, confidence: float) -> tuple[Estimate, float]:
    """Return a difference with its interval and p-value by Student's t; ``error`` is its standard error."""
    from scipy.special import stdtr

    if math.isnan(error) or degrees <= 0:
        return Estimate(gap, -math.inf, math.inf, confidence), 1.0
    half = student_quantile(degrees, confidence) * error
    p = (0.0 if gap else 1.0) if error == 0 else 2 * float(stdtr(degrees, -abs(gap) / error))
    return Estimate(gap, gap - half, gap + half, confidence), p


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for multiple comparisons by Holm's procedure, in the order given.

    The i-th smallest of m is multiplied by m - i + 1, made no smaller than the one before it, and at most
    1 (Holm, Scandinavian Journal of Statistics 6, 1979). For any dependence between the p-values, the probability that
    any true null hypothesis is rejected at 0.05 is at most 0.05.

    Args:
        p_values: shape (comparisons,).

    Raises:
        ValueError: a p-value is outside [0, 1].

    >>> holm([0.01, 0.25, 0.03])
    [0.03, 0.25, 0.06]
    """
    if not all(0 <= p <= 1 for p in p_values):
        raise ValueError(f"p_values = {list(p_values)}: expected numbers from 0 to 1")
    adjusted, highest, m = [0.0] * len(p_values), 0.0, len(p_values)
    for place, i in enumerate(sorted(range(m), key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, (m - place) * p_values[i]))
        adjusted[i] = highest
    return adjusted


def _within(epochs: Sequence[float], budget: float) -> Floats:
    """Return epochs to target, infinite where above the budget."""
    check_budget(budget)
    values = checked_epochs(epochs)
    return np.where(values <= budget, values, math.inf)


def _difference(a: Floats, b: Floats, budget: float, confidence: float) -> Estimate:
    of_a, of_b = (restricted_mean(times.tolist(), budget + 1, confidence) for times in (a, b))
    return subtract(of_a, of_b, budget + 1)


def _time(gap: float, error: float, degrees: float, budget: float, confidence: float) -> tuple[Estimate | None, float]:
    """Return a difference of mean epochs with Student's interval, within [-budget, budget], and its p-value.

    None and 1 where the gap is NaN; the interval [-budget, budget] and 1 where the standard error is NaN.
    """
    from scipy.special import stdtr

    if math.isnan(gap):
        return None, 1.0
    if math.isnan(error):
        return Estimate(gap, -budget, budget, confidence), 1.0
    half = student_quantile(degrees, confidence) * error
    interval = Estimate(gap, max(gap - half, -budget), min(gap + half, budget), confidence)
    return interval, 2 * float(stdtr(degrees, -abs(gap) / error))


@lru_cache(maxsize=4096)
def _share_difference(k_a: int, n_a: int, k_b: int, n_b: int, paired: bool, confidence: float) -> Estimate:
    """Return k_a/n_a - k_b/n_b. If ``paired``, both count the same pairs, so they are negatively correlated."""
    correlation = math.sqrt(k_a * k_b / ((n_a - k_a) * (n_b - k_b))) if paired and k_a * k_b else 0.0
    return subtract(share_reached(k_a, n_a, confidence), share_reached(k_b, n_b, confidence), 1.0, correlation)


@lru_cache(maxsize=4096)
def _share_p(k_a: int, n_a: int, k_b: int, n_b: int, paired: bool) -> float:
    """Return the lowest 1 - c at which the interval of the difference excludes 0; 1 where it never does."""
    low, high = 0.0, 1.0  # at a low 1 - c the interval is long and holds 0
    for _ in range(40):
        middle = (low + high) / 2
        found = _share_difference(k_a, n_a, k_b, n_b, paired, 1 - middle)
        low, high = (middle, high) if found.low <= 0 <= found.high else (low, middle)
    return high
