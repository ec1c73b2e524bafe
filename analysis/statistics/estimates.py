"""Estimates of epochs to target from the runs of one configuration.

A run's epochs to target T is math.inf where it missed the target. analysis.statistics.intervals explains the
intervals.

All functions are pure. If a stopping rule pruned a run, its epochs to target are unknown. The caller counts it as a
miss that spent its whole budget, as analysis.tables.summary does: then pruning cannot improve any estimate.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.statistics.intervals import (
    Estimate,
    Floats,
    add,
    check_budget,
    check_confidence,
    checked_epochs,
    clopper_pearson,
    mean_epochs,
    mean_sd,
    multiply,
    student_quantile,
)


def share_reached(reached: int, runs: int, confidence: float = 0.95) -> Estimate:
    """Return the share of runs that reached, k/n, with Clopper and Pearson's exact interval.

    It goes from the (1-c)/2 quantile of Beta(k, n-k+1) to the (1+c)/2 quantile of Beta(k+1, n-k); Biometrika 26, 1934.

    Args:
        reached: number of runs that reached the target.
        runs: number of runs, 1 or more.
        confidence: confidence of the interval, in (0, 1).

    Raises:
        ValueError: there is no run, more runs reached than there are, or the confidence is outside (0, 1).

    >>> print(share_reached(9, 10))
    0.9 [0.555, 0.9975]
    """
    if not 0 <= reached <= runs or runs < 1:
        raise ValueError(f"reached = {reached}, runs = {runs}: expected 1 run or more, and reached among them")
    check_confidence(confidence)
    return Estimate(reached / runs, *clopper_pearson(reached, runs, confidence), confidence)


def median_epochs(epochs: Sequence[float], confidence: float = 0.95) -> Estimate:
    """Return the median of epochs to target, where a miss is infinite, with its order-statistic interval.

    AlgoPerf's scoring rules, too, count a miss as infinite in the median (Dahl et al., arXiv 2306.07179). The interval
    is [x(k), x(n+1-k)] with the largest k for which P(Binomial(n, 1/2) < k) <= (1-c)/2 (David & Nagaraja, Order
    Statistics, 2003, ch. 7): it holds for any distribution, ties included. Where n is too small for any k (below 6 at
    0.95), the interval is [1, inf], since no target is reached before epoch 1.

    Args:
        epochs: epochs to target, math.inf for a miss; shape (runs,).
        confidence: confidence of the interval, in (0, 1).

    Raises:
        ValueError: there is no run, an epoch is negative or NaN, or the confidence is outside (0, 1).

    >>> print(median_epochs([19, 20, 20, 21, 22, math.inf]))
    20.5 [19, ∞]
    """
    values = np.sort(checked_epochs(epochs))
    check_confidence(confidence)
    n = len(values)
    k = _rank(n, confidence)
    # An epoch of a crossing is 1 or more; only one that is interpolated may be below.
    low, high = (values[k - 1], values[n - k]) if k else (min(1.0, values[0]), math.inf)
    return Estimate(_middle(values[(n - 1) // 2], values[n // 2]), float(low), float(high), confidence)


def restricted_mean(epochs: Sequence[float], budget: float, confidence: float = 0.95) -> Estimate:
    """Return the mean of min(T, budget), the restricted mean time to the target, with its interval.

    Irwin, Journal of Hygiene 47, 1949; Royston & Parmar, BMC Medical Research Methodology 13, 2013. It is budget - p·g,
    where p is the share of runs that reached, and g their mean of budget - T. The intervals of p and g are multiplied.

    Args:
        epochs: epochs to target, math.inf for a miss; shape (runs,). Above the budget counts as a miss.
        budget: epochs, above 0; the same for all configurations that are compared.
        confidence: confidence of the interval, in (0, 1).

    Raises:
        ValueError: there is no run, an epoch is negative or NaN, or budget or confidence is out of bounds.
    """
    values = checked_epochs(epochs)
    check_budget(budget)
    check_confidence(confidence)
    return _restricted_mean(_key(values), float(budget), confidence)


def mean_value(values: Sequence[float], confidence: float = 0.95) -> Estimate:
    """Return the mean of the runs' best values with its interval by Student's t.

    Args:
        values: best value of each run; NaN, of a run without one, is left out; shape (runs,).
        confidence: confidence of the interval, in (0, 1).

    Returns:
        The estimate; an interval without ends for fewer than two values, NaN for none.

    Raises:
        ValueError: confidence is out of bounds.

    >>> str(mean_value([0.5, 0.6, 0.7]))
    '0.6 [0.3516, 0.8484]'
    """
    check_confidence(confidence)
    known = [value for value in map(float, values) if not math.isnan(value)]
    mean, sd = mean_sd(known)
    if len(known) < 2:
        return Estimate(mean, -math.inf, math.inf, confidence)
    half = student_quantile(len(known) - 1, confidence) * sd / math.sqrt(len(known))
    return Estimate(mean, mean - half, mean + half, confidence)


def expected_running_time(
    epochs_spent: Sequence[float],
    reached: Sequence[bool],
    confidence: float = 0.95,
    budget: float | None = None,
) -> Estimate:
    """Return the expected running time: epochs spent by all runs over the number of runs that reached.

    ERT = Σ epochs spent / k = mean of those that reached + (1-p)/p · mean of those that missed, p = k/n; infinite if
    none reached. Price, 1997; Auger & Hansen, IEEE CEC 2005; Hansen et al., arXiv 1605.03560 (COCO). The intervals of p
    and of the mean of those that reached are combined; the mean of those that missed counts as known, since a miss
    spends its budget as a rule.

    Args:
        epochs_spent: epochs up to the target if the run reached it, else all its epochs; shape (runs,).
        reached: which runs reached; shape (runs,).
        confidence: confidence of the interval, in (0, 1).
        budget: epochs of a miss, used for the interval if no run missed; the default is the most epochs that a run
            spent.

    Raises:
        ValueError: there is no run, the shapes differ, an epoch is negative, NaN or infinite, or budget or confidence
            is out of bounds.

    >>> expected_running_time([20, 30], [True, False]).value
    50.0
    """
    spent, hit = checked_epochs(epochs_spent), np.asarray(reached, dtype=bool)
    if spent.shape != hit.shape or not np.isfinite(spent).all():
        raise ValueError("epochs_spent: expected a finite number of epochs for every item of reached")
    longest = float(spent.max()) if budget is None else budget
    check_budget(longest)
    check_confidence(confidence)
    return _expected_running_time(_key(spent[hit]), _key(spent[~hit]), float(longest), confidence)


def best_of_n(epochs: Sequence[float], n: int) -> float:
    """Return the median of the minimum of n runs.

    Of m sorted runs, P(min > x(i)) = C(m-i, n)/C(m, n) over draws without replacement, which is
    unbiased (the estimator with replacement of Dodge et al., EMNLP 2019, is not: Tang et al., ACL 2020). It is a
    median, not a mean, since a miss is infinite; for n = 1 it is `median_epochs`.

    Args:
        epochs: epochs to target, math.inf for a miss; shape (runs,).
        n: number of runs, from 1 to all of them.

    Raises:
        ValueError: there is no run, an epoch is negative or NaN, or n is out of bounds.

    >>> best_of_n([20, 21, 22, math.inf], 2)
    20.5
    """
    values = np.sort(checked_epochs(epochs))
    m = len(values)
    if not 1 <= n <= m:
        raise ValueError(f"n = {n}: expected 1 to {m}, the number of runs")
    # The first ranks at which half, and more than half, of all draws are not slower. Integers avoid rounding.
    draws = math.comb(m, n)
    lower = next(i for i in range(1, m + 1) if 2 * math.comb(m - i, n) <= draws)
    upper = next(i for i in range(lower, m + 1) if 2 * math.comb(m - i, n) < draws)
    return _middle(values[lower - 1], values[upper - 1])


def kaplan_meier(
    epochs_run: Sequence[float],
    reached: Sequence[bool],
    pruned: Sequence[bool] | None = None,
    *,
    bounds: bool = False,
    confidence: float = 0.95,
    budget: float | None = None,
) -> pd.DataFrame:
    """Return the share of runs below the target after each epoch: Kaplan and Meier's curve, for one fixed budget.

    S(e) = Π (1 - d_i/n_i) over epochs e_i <= e, where d_i of the n_i runs still below reach the target at e_i (J. Am.
    Stat. Assoc. 53, 1958). With one budget no run is censored before it, and the product is the share of runs still
    below. The interval is that of `share_reached` at each epoch; unlike Greenwood's it is valid if all or none reached.
    A pruned run must not count as censored: it was pruned because it was slow, so the curve would overstate the chance
    to reach. So pruned runs raise an error, or give bounds on both sides: all of them reach one epoch later, or none
    ever does.

    Args:
        epochs_run: the epoch of the crossing if the run reached, else its last epoch; shape (runs,).
        reached: which runs reached; shape (runs,).
        pruned: which runs a rule ended below the target; the default is none. Shape (runs,).
        bounds: whether to bound pruned runs instead of refusing them.
        confidence: confidence of the interval at each epoch, in (0, 1).
        budget: epochs that each run could have taken. The default is the epochs of the runs that missed, or the latest
            crossing if none missed. Required if every miss was pruned.

    Returns:
        Index epoch, from 0 to the budget; columns below (the share), low, high. With ``bounds`` the columns are
        below_least, below_most, low (of below_least) and high (of below_most).

    Raises:
        ValueError: runs were pruned and ``bounds`` is false; a run that missed did not end at the budget; every miss
            was pruned and no budget is given; there is no run, the shapes differ, an epoch is negative, NaN or
            infinite, or the budget is out of bounds.
    """
    run, hit = checked_epochs(epochs_run), np.asarray(reached, dtype=bool)
    cut = np.zeros_like(hit) if pruned is None else np.asarray(pruned, dtype=bool)
    if not run.shape == hit.shape == cut.shape or not np.isfinite(run).all() or (hit & cut).any():
        raise ValueError("epochs_run: expected a finite number of epochs for every run, none both reached and pruned")
    check_confidence(confidence)
    if cut.any() and not bounds:
        raise ValueError(
            f"{int(cut.sum())} of {len(run)} runs were pruned, so a Kaplan-Meier curve would overstate the chance to "
            "reach the target: confirm the configuration with runs that nothing stops, or ask for bounds"
        )
    ends = np.unique(run[~hit & ~cut])
    if budget is None:
        if not len(ends) and cut.any():
            raise ValueError(
                "every run that missed was pruned, so how far the runs could have gone is not known: give the budget"
            )
        budget = float(ends[0]) if len(ends) == 1 else float(run.max())
    else:
        check_budget(budget)
    if (ends != budget).any() or run.max() > budget:
        raise ValueError(
            f"the runs went on for up to {run.max():g} epochs and those that missed ended after {ends.tolist()}: "
            f"expected one budget, the same for every run, here {budget:g}"
        )
    if not bounds:
        return pd.DataFrame(_survival(run, hit, budget, confidence)).rename_axis("epoch")
    least = _survival(np.where(cut, np.minimum(run + 1, budget), run), hit | cut, budget, confidence)
    most = _survival(np.where(cut, budget, run), hit, budget, confidence)
    columns = {"below_least": least["below"], "below_most": most["below"], "low": least["low"], "high": most["high"]}
    return pd.DataFrame(columns).rename_axis("epoch")


@lru_cache(maxsize=4096)
def _rank(n: int, confidence: float) -> int:
    """Return the largest k with P(Binomial(n, 1/2) < k) <= (1 - confidence)/2; 0 where there is none."""
    from scipy.special import bdtr

    return int(np.searchsorted(bdtr(np.arange(n), n, 0.5), (1 - confidence) / 2, side="right"))


# Cached: in a large study most configurations have one run, and many of them have the same epochs.
@lru_cache(maxsize=4096)
def _restricted_mean(epochs: tuple[float, ...], budget: float, confidence: float) -> Estimate:
    early = [budget - epoch for epoch in epochs if epoch <= budget]
    share = share_reached(len(early), len(epochs), confidence)
    gain = multiply(share, mean_epochs(early, 0.0, budget, confidence))
    value = math.fsum(min(epoch, budget) for epoch in epochs) / len(epochs)
    low, high = budget - gain.high, budget - gain.low
    low = low if low > 1e-9 * budget else 0.0  # rounding may leave 2e-15 of the lower bound
    return Estimate(value, min(low, value), max(high, value), confidence)  # rounding may put the value outside


@lru_cache(maxsize=4096)
def _expected_running_time(
    hits: tuple[float, ...], misses: tuple[float, ...], longest: float, confidence: float
) -> Estimate:
    share = share_reached(len(hits), len(hits) + len(misses), confidence)
    missing = math.fsum(misses) / len(misses) if misses else longest
    # There are (1-p)/p misses for each success.
    fewest, most = (missing * (1 - p) / p if p else math.inf for p in (share.high, share.low))
    if not hits:
        return Estimate(math.inf, fewest, math.inf, confidence)
    value, before = math.fsum((*hits, *misses)) / len(hits), missing * len(misses) / len(hits)
    mean = mean_epochs(hits, 0.0, longest, confidence)
    return add(value, mean, Estimate(before, min(fewest, before), max(most, before), confidence))


def _survival(run: Floats, hit: NDArray[np.bool_], budget: float, confidence: float) -> dict[str, list[float]]:
    """Return the share of runs below the target after each epoch from 0 to the budget, with its interval."""
    n = len(run)
    left = [n - int(np.count_nonzero(run[hit] <= epoch)) for epoch in range(math.floor(budget) + 1)]
    shares = [share_reached(below, n, confidence) for below in left]
    return {"below": [s.value for s in shares], "low": [s.low for s in shares], "high": [s.high for s in shares]}


def _middle(lower: float, upper: float) -> float:
    return float(lower if lower == upper else (lower + upper) / 2)


def _key(values: Floats) -> tuple[float, ...]:
    return tuple(np.sort(values).tolist())
