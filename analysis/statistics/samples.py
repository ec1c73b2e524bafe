"""Statistics of runs to a target: estimates with intervals, for few runs of which some miss.

A run's epochs to target T is math.inf where it missed. Every interval is a formula and nothing is drawn: the same runs
give the same interval, and A beside B the mirror image of B beside A. They are made of two parts,

    shares   of the runs that reached: Clopper and Pearson's exact interval (Biometrika 26, 1934), which holds the truth
             as often as claimed or more, for any share and number of runs; Wilson's does not where shares are small
    means    of epochs, over the runs that reached: Student's t, with 1/12 added to the variance, that of an epoch read
             as anything within half an epoch to each side, since runs that agree are no proof of no spread. Of fewer
             than two runs the mean may be anything that is possible

and put together by recovering variances (MOVER: Zou & Donner, Statistics in Medicine 27, 2008): the interval of x + y
ends at x + y ± √(distance of x to its end)² + (that of y)², and that of a product so on the scale of logarithms.
``python -m tests.benchmarks.coverage`` measures how often each interval holds the truth, ``python -m
tests.benchmarks.power`` how often a difference is told from 0; docs/statistics.md has the figures.

Pure functions. Where a rule pruned runs, what they would have done is not known: count a pruned run as a miss that
spent its whole budget, as analysis.tables.summary does, and no figure here can come out better for it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_ROUNDING = 1 / 12  # variance of what rounding to whole epochs hides


@dataclass(frozen=True)
class Estimate:
    """An estimate with its interval.

    Attributes:
        value: the estimate.
        low: lower end of the interval.
        high: upper end of it, math.inf where there is none.
        confidence: how often such an interval holds the truth, as claimed.

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


def share_reached(reached: int, runs: int, confidence: float = 0.95) -> Estimate:
    """Return the share of runs that reached, k/n, with Clopper and Pearson's exact interval.

    From the (1-c)/2 quantile of Beta(k, n-k+1) to the (1+c)/2 quantile of Beta(k+1, n-k); Biometrika 26, 1934.

    Args:
        reached: how many runs reached.
        runs: how many there were, 1 or more.
        confidence: of the interval, in (0, 1).

    Raises:
        ValueError: there is no run, more reached than there are, or the confidence is outside (0, 1).

    >>> print(share_reached(9, 10))
    0.9 [0.555, 0.9975]
    """
    if not 0 <= reached <= runs or runs < 1:
        raise ValueError(f"reached = {reached}, runs = {runs}: expected 1 run or more, and reached among them")
    _check_confidence(confidence)
    return Estimate(reached / runs, *_exact(reached, runs, confidence), confidence)


def median_epochs(epochs: Sequence[float], confidence: float = 0.95) -> Estimate:
    """Return the median of epochs to target, misses counting as infinite, with its order-statistic interval.

    A miss joins the median as infinite in AlgoPerf's scoring rules (Dahl et al., arXiv 2306.07179). The interval is
    [x(k), x(n+1-k)] with the largest k for which P(Binomial(n, 1/2) < k) <= (1-c)/2 (David & Nagaraja, Order
    Statistics, 2003, ch. 7): it takes no distribution for granted, and holds the median of ties too. Where n is too
    small for any k (below 6 at 0.95), it is [0, inf]: so few runs say nothing at that confidence.

    Args:
        epochs: epochs to target, math.inf for a miss; shape (runs,).
        confidence: of the interval, in (0, 1).

    Raises:
        ValueError: there is no run, an epoch is negative or NaN, or the confidence is outside (0, 1).

    >>> print(median_epochs([19, 20, 20, 21, 22, math.inf]))
    20.5 [19, ∞]
    """
    values = np.sort(_epochs(epochs))
    _check_confidence(confidence)
    n = len(values)
    k = _rank(n, confidence)
    low, high = (values[k - 1], values[n - k]) if k else (0.0, math.inf)
    return Estimate(_middle(values[(n - 1) // 2], values[n // 2]), float(low), float(high), confidence)


def restricted_mean(epochs: Sequence[float], budget: float, confidence: float = 0.95) -> Estimate:
    """Return the mean of min(T, budget), the restricted mean time to the target, with its interval.

    Irwin, Journal of Hygiene 47, 1949; Royston & Parmar, BMC Medical Research Methodology 13, 2013. It is the budget
    less p·g, the share that reached times the epochs they were early by; the module says how that gets its interval.

    Args:
        epochs: epochs to target, math.inf for a miss; shape (runs,). Above the budget is a miss too.
        budget: epochs, above 0; the same for all that is compared.
        confidence: of the interval, in (0, 1).

    Raises:
        ValueError: there is no run, an epoch is negative or NaN, or budget or confidence is out of bounds.
    """
    values = _epochs(epochs)
    _check_budget(budget)
    _check_confidence(confidence)
    return _restricted_mean(_key(values), float(budget), confidence)


def expected_running_time(
    epochs_spent: Sequence[float],
    reached: Sequence[bool],
    confidence: float = 0.95,
    budget: float | None = None,
) -> Estimate:
    """Return the epochs spent over the runs that reached: what one success costs, with its interval.

    ERT = Σ epochs spent / k = mean of those that reached + (1-p)/p · mean of those that missed, p = k/n; infinite
    where none reached. Price, 1997; Auger & Hansen, IEEE CEC 2005; Hansen et al., arXiv 1605.03560 (COCO). The
    module says how the interval is made; what misses spend is their budget as a rule, and its mean is taken for known.

    Args:
        epochs_spent: up to the target by a run that reached, all of them by one that missed; shape (runs,).
        reached: which runs reached; shape (runs,).
        confidence: of the interval, in (0, 1).
        budget: what a miss spends where none was seen, for the interval; the highest spent unless given.

    Raises:
        ValueError: there is no run, the shapes differ, an epoch is negative, NaN or infinite, or budget or confidence
            is out of bounds.

    >>> expected_running_time([20, 30], [True, False]).value
    50.0
    """
    spent, hit = _epochs(epochs_spent), np.asarray(reached, dtype=bool)
    if spent.shape != hit.shape or not np.isfinite(spent).all():
        raise ValueError("epochs_spent: expected a finite number of epochs for every item of reached")
    longest = float(spent.max()) if budget is None else budget
    _check_budget(longest)
    _check_confidence(confidence)
    return _expected_running_time(_key(spent[hit]), _key(spent[~hit]), float(longest), confidence)


def mean_sd(values: Sequence[float]) -> tuple[float, float]:
    """Return mean and sample standard deviation (n - 1), NaN left out; NaN for what too few values do not give.

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


def best_of_n(epochs: Sequence[float], n: int) -> float:
    """Return the median of the best of n runs: what n runs, of which the fastest counts, come to in half of all cases.

    Of m sorted runs, P(min > x(i)) = C(m-i, n)/C(m, n) over draws without replacement, so nothing is counted twice
    (the estimator with replacement of Dodge et al., EMNLP 2019, is biased: Tang et al., ACL 2020). A median, since a
    miss is infinite; of n = 1 it is `median_epochs`.

    Args:
        epochs: epochs to target, math.inf for a miss; shape (runs,).
        n: how many runs, from 1 to all of them.

    Raises:
        ValueError: there is no run, an epoch is negative or NaN, or n is out of bounds.

    >>> best_of_n([20, 21, 22, math.inf], 2)
    20.5
    """
    values = np.sort(_epochs(epochs))
    m = len(values)
    if not 1 <= n <= m:
        raise ValueError(f"n = {n}: expected 1 to {m}, the number of runs")
    # The first places at which half, and more than half, of all draws are no slower. Whole numbers: no rounding.
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

    S(e) = Π (1 - d_i/n_i) over epochs e_i <= e, d_i runs reaching there of n_i still below (J. Am. Stat. Assoc. 53,
    1958). With one budget nothing is censored ahead of it, and the product is the share of the n runs still below; the
    interval is that of `share_reached` at each epoch, also where all or none reached, as Greenwood's is not. A run
    that a rule pruned is no ordinary censoring: it was pruned because it was slow, and taking it for censored
    overstates the chance to reach. So pruned runs are refused, or bounded from both sides: they would all have
    reached an epoch later, or never.

    Args:
        epochs_run: the epoch of the crossing where reached, else how far the run went; shape (runs,).
        reached: which runs reached; shape (runs,).
        pruned: which runs a rule ended below the target; none unless given. Shape (runs,).
        bounds: bound what pruned runs would have done instead of refusing them.
        confidence: of the interval at each epoch, in (0, 1).
        budget: epochs that each run could have taken; unless given, what runs that missed took, or, where none missed,
            the highest epoch of a crossing. To be given where every miss was pruned: their epochs do not tell it.

    Returns:
        Index epoch, from 0 to the budget; columns below (the share), low, high. With bounds below_least and
        below_most in the place of below, low and high being the interval's ends around both.

    Raises:
        ValueError: runs were pruned and no bounds are asked for; the runs that missed ended after different numbers
            of epochs, or another one than the budget, or beyond it; every miss was pruned and there is no budget; there
            is no run, the shapes differ, an epoch is negative, NaN or infinite, or the budget out of bounds.
    """
    run, hit = _epochs(epochs_run), np.asarray(reached, dtype=bool)
    cut = np.zeros_like(hit) if pruned is None else np.asarray(pruned, dtype=bool)
    if not run.shape == hit.shape == cut.shape or not np.isfinite(run).all() or (hit & cut).any():
        raise ValueError("epochs_run: expected a finite number of epochs for every run, none both reached and pruned")
    _check_confidence(confidence)
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
        _check_budget(budget)
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


@dataclass(frozen=True)
class Comparison:
    """Two configurations beside each other; every difference is A's less B's.

    Attributes:
        pairs: how many seeds they were compared on, run by run; 0 where all runs count as independent.
        share: difference of the shares that reach; above 0 where A reaches more often.
        both: how many pairs reached in both, or, of independent runs, how many runs of the arm of which fewer did.
        time: difference of the mean epochs to target given that both reached, in epochs; below 0 where A is faster.
            None where ``both`` is 0.
        difference: of the two in one: of the mean epochs to target, a miss counting as the budget + 1.
        probability_faster: that A is faster than B, ties counting half; two misses are a tie.
        share_p: p-value of no difference in the shares: the lowest 1 - c at which the interval leaves 0 out.
        time_p: that of no difference in the time given that both reached; 1 where nothing is known of it.
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

    The difference of shares is that of the pairs in which only A and only B reached. The time is Student's over the
    pairs in which both did. The difference is that of the restricted means up to budget + 1, so that a miss is an
    epoch later than what reaches in the last one; its interval is made as if the pairs were none, and so too wide where
    runs of one seed go together. The probability is (wins + ties/2)/pairs (Vargha & Delaney, J. Educational and
    Behavioral Statistics 25, 2000, for pairs), with Wilson's interval, which is wide where there are ties.

    Args:
        a: epochs to target of A, math.inf for a miss; shape (pairs,).
        b: those of B; b[i] shares its seed with a[i]. Shape (pairs,).
        budget: epochs, above 0; above it is a miss.
        confidence: of all intervals, in (0, 1).

    Raises:
        ValueError: there is no pair, the shapes differ, an epoch is negative or NaN, or budget or confidence is out
            of bounds.
    """
    of_a, of_b = _within(a, budget), _within(b, budget)
    if of_a.shape != of_b.shape:
        raise ValueError(f"{len(of_a)} runs of A and {len(of_b)} of B: expected pairs that share a seed")
    _check_confidence(confidence)
    hit_a, hit_b = np.isfinite(of_a), np.isfinite(of_b)
    pairs, only_a, only_b = len(of_a), int((hit_a & ~hit_b).sum()), int((hit_b & ~hit_a).sum())
    gaps = (of_a[hit_a & hit_b] - of_b[hit_a & hit_b]).tolist()
    gap, sd = mean_sd(gaps)
    error = math.sqrt((sd**2 + 2 * _ROUNDING) / len(gaps)) if len(gaps) > 1 else math.nan
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

    As `compare`, but the difference of shares is that of two independent ones. The time is Student's over the runs of
    each that reached, with the larger of the standard errors of a common variance and of one each (Welch, Biometrika
    34, 1947), and the degrees of freedom of the arm of which fewer reached: where epochs are of two kinds, all of a few
    runs may be of one, and Welch's interval is then too narrow. The probability is Mann and Whitney's share of pairs of
    runs that A wins, with Wilson's interval for as many runs as the smaller arm has, which is never too narrow
    (Birnbaum and Klose, Ann. Math. Statist. 28, 1957).

    Args:
        a: epochs to target of A, math.inf for a miss; shape (runs of A,).
        b: those of B; shape (runs of B,).
        budget: epochs, above 0; above it is a miss.
        confidence: of all intervals, in (0, 1).

    Raises:
        ValueError: A or B has no run, an epoch is negative or NaN, or budget or confidence is out of bounds.
    """
    of_a, of_b = _within(a, budget), _within(b, budget)
    _check_confidence(confidence)
    hits_a, hits_b = (of[np.isfinite(of)].tolist() for of in (of_a, of_b))
    wins, ties = of_a[:, None] < of_b, of_a[:, None] == of_b
    faster, runs = float(np.mean(wins + ties / 2)), min(len(of_a), len(of_b))
    (mean_a, sd_a), (mean_b, sd_b) = mean_sd(hits_a), mean_sd(hits_b)
    both, error = min(len(hits_a), len(hits_b)), math.nan
    if both > 1:
        var_a, var_b, k_a, k_b = sd_a**2 + _ROUNDING, sd_b**2 + _ROUNDING, len(hits_a), len(hits_b)
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


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for there being several of them: Holm's, in the order given.

    The i-th smallest of m is multiplied by m - i + 1, and is no smaller than one before it, nor above 1 (Holm,
    Scandinavian Journal of Statistics 6, 1979). Whatever the p-values have to do with each other, of all those with no
    difference behind them, one comes out at 0.05 or less in at most 5 of 100 cases.

    Args:
        p_values: shape (comparisons,).

    Raises:
        ValueError: one is outside [0, 1].

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
    """Epochs to target, infinite where above the budget."""
    _check_budget(budget)
    values = _epochs(epochs)
    return np.where(values <= budget, values, math.inf)


def _difference(a: Floats, b: Floats, budget: float, confidence: float) -> Estimate:
    of_a, of_b = (restricted_mean(times.tolist(), budget + 1, confidence) for times in (a, b))
    return _minus(of_a, of_b, budget + 1)


def _time(gap: float, error: float, degrees: float, budget: float, confidence: float) -> tuple[Estimate | None, float]:
    """A difference of mean epochs with Student's interval, within what is possible, and its p-value.

    None where there is no gap; where there is no error, the interval is all that is possible and the p-value 1.
    """
    from scipy.special import stdtr

    if math.isnan(gap):
        return None, 1.0
    if math.isnan(error):
        return Estimate(gap, -budget, budget, confidence), 1.0
    half = _student(degrees, confidence) * error
    interval = Estimate(gap, max(gap - half, -budget), min(gap + half, budget), confidence)
    return interval, 2 * float(stdtr(degrees, -abs(gap) / error))


@lru_cache(maxsize=4096)
def _share_difference(k_a: int, n_a: int, k_b: int, n_b: int, paired: bool, confidence: float) -> Estimate:
    """k_a/n_a - k_b/n_b; ``paired``: of two kinds of the same pairs, so that more of one is fewer of the other."""
    apart = math.sqrt(k_a * k_b / ((n_a - k_a) * (n_b - k_b))) if paired and k_a * k_b else 0.0
    return _minus(share_reached(k_a, n_a, confidence), share_reached(k_b, n_b, confidence), 1.0, apart)


@lru_cache(maxsize=4096)
def _share_p(k_a: int, n_a: int, k_b: int, n_b: int, paired: bool) -> float:
    """The lowest 1 - c at which the interval of the difference leaves 0 out; 1 where it never does."""
    low, high = 0.0, 1.0  # where 1 - c is low, the interval is long and holds 0
    for _ in range(40):
        middle = (low + high) / 2
        found = _share_difference(k_a, n_a, k_b, n_b, paired, 1 - middle)
        low, high = (middle, high) if found.low <= 0 <= found.high else (low, middle)
    return high


def wilson(reached: float, runs: int, confidence: float) -> Estimate:
    """Return a share with Wilson's interval; ``reached`` may be a fraction, as ties make it.

    (p + z²/2n ± z·sqrt(p(1-p)/n + z²/4n²)) / (1 + z²/n); Wilson, J. Am. Stat. Assoc. 22, 1927.
    """
    from scipy.special import ndtri  # a tenth of a second to import, scipy.stats more than one

    z2 = float(ndtri((1 + confidence) / 2)) ** 2
    share = reached / runs
    middle = (share + z2 / (2 * runs)) / (1 + z2 / runs)
    half = math.sqrt(z2 * (share * (1 - share) / runs + z2 / (4 * runs**2))) / (1 + z2 / runs)
    # Rounding must not put the share itself outside, where all or none reached.
    return Estimate(share, min(max(0.0, middle - half), share), max(min(1.0, middle + half), share), confidence)


@lru_cache(maxsize=4096)
def _rank(n: int, confidence: float) -> int:
    """The largest k with P(Binomial(n, 1/2) < k) <= (1 - confidence)/2; 0 where there is none."""
    from scipy.special import bdtr

    return int(np.searchsorted(bdtr(np.arange(n), n, 0.5), (1 - confidence) / 2, side="right"))


@lru_cache(maxsize=4096)
def _exact(count: int, runs: int, confidence: float) -> tuple[float, float]:
    """Clopper and Pearson's ends."""
    from scipy.special import betaincinv

    low = float(betaincinv(count, runs - count + 1, (1 - confidence) / 2)) if count else 0.0
    high = float(betaincinv(count + 1, runs - count, (1 + confidence) / 2)) if count < runs else 1.0
    return low, high


@lru_cache(maxsize=4096)
def _student(degrees: float, confidence: float) -> float:
    """By how many standard errors a mean of normal values is off at most."""
    from scipy.special import stdtrit

    return float(stdtrit(degrees, (1 + confidence) / 2))


# Of a large study, most configurations have one run, and many the same epochs: what was computed is kept.
@lru_cache(maxsize=4096)
def _restricted_mean(epochs: tuple[float, ...], budget: float, confidence: float) -> Estimate:
    early = [budget - epoch for epoch in epochs if epoch <= budget]
    share = share_reached(len(early), len(epochs), confidence)
    gain = _product(share, _mean(early, 0.0, budget, confidence))
    value = math.fsum(min(epoch, budget) for epoch in epochs) / len(epochs)
    low, high = budget - gain.high, budget - gain.low
    return Estimate(value, min(low, value), max(high, value), confidence)  # rounding may put the value outside


@lru_cache(maxsize=4096)
def _expected_running_time(
    hits: tuple[float, ...], misses: tuple[float, ...], longest: float, confidence: float
) -> Estimate:
    share = share_reached(len(hits), len(hits) + len(misses), confidence)
    missing = math.fsum(misses) / len(misses) if misses else longest
    # Of misses before a success: (1-p)/p.
    fewest, most = (missing * (1 - p) / p if p else math.inf for p in (share.high, share.low))
    if not hits:
        return Estimate(math.inf, fewest, math.inf, confidence)
    value, before = math.fsum((*hits, *misses)) / len(hits), missing * len(misses) / len(hits)
    mean = _mean(hits, 0.0, longest, confidence)
    return _plus(value, mean, Estimate(before, min(fewest, before), max(most, before), confidence))


def _mean(values: Sequence[float], low: float, high: float, confidence: float) -> Estimate:
    """Return the mean of epochs with Student's interval, within [low, high], and these ends of fewer than two."""
    k = len(values)
    if k < 2:
        return Estimate(values[0] if k else high, low, high, confidence)
    mean, sd = mean_sd(values)
    half = _student(k - 1, confidence) * math.sqrt((sd**2 + _ROUNDING) / k)
    return Estimate(mean, max(low, mean - half), min(high, mean + half), confidence)


def _plus(value: float, x: Estimate, y: Estimate, together: float = 0.0) -> Estimate:
    """Return x + y, ``value``, with the interval that Zou and Donner recover from the two and their correlation."""
    low = value - _root(x.value - x.low, y.value - y.low, together)
    return Estimate(value, low, value + _root(x.high - x.value, y.high - y.value, together), x.confidence)


def _minus(x: Estimate, y: Estimate, most: float, apart: float = 0.0) -> Estimate:
    """Return x - y, likewise, minus their correlation being ``apart``; the ends are at ``most`` from 0."""
    found = _plus(x.value - y.value, x, Estimate(-y.value, -y.high, -y.low, y.confidence), apart)
    return Estimate(found.value, max(found.low, -most), min(found.high, most), found.confidence)


def _product(x: Estimate, y: Estimate) -> Estimate:
    """Return x·y, likewise on the scale of logarithms; all ends are 0 or more."""
    value = x.value * y.value
    if value == 0:
        return Estimate(0.0, 0.0, x.high * y.high, x.confidence)
    above = _root(math.log(x.high / x.value), math.log(y.high / y.value))
    below = _root(math.log(x.value / x.low), math.log(y.value / y.low)) if x.low * y.low > 0 else math.inf
    return Estimate(value, value * math.exp(-below), min(value * math.exp(above), x.high * y.high), x.confidence)


def _root(x: float, y: float, together: float = 0.0) -> float:
    """√(x² + y² + 2·together·x·y), to the last bit the same for y and x, as math.hypot is not."""
    return math.sqrt(x * x + y * y + 2 * together * (x * y))


def _survival(run: Floats, hit: NDArray[np.bool_], budget: float, confidence: float) -> dict[str, list[float]]:
    """Share below the target after epochs 0 to the budget, with its interval."""
    n = len(run)
    left = [n - int(np.count_nonzero(run[hit] <= epoch)) for epoch in range(math.floor(budget) + 1)]
    shares = [share_reached(below, n, confidence) for below in left]
    return {"below": [s.value for s in shares], "low": [s.low for s in shares], "high": [s.high for s in shares]}


def _middle(lower: float, upper: float) -> float:
    return float(lower if lower == upper else (lower + upper) / 2)


def _key(values: Floats) -> tuple[float, ...]:
    return tuple(np.sort(values).tolist())


def _epochs(epochs: Sequence[float]) -> Floats:
    values = np.asarray(epochs, dtype=np.float64)
    if values.ndim != 1 or not len(values):
        raise ValueError("epochs: expected those of one run or more")
    if not (values >= 0).all():  # NaN too
        raise ValueError(f"epochs = {values.tolist()}: expected numbers of 0 or more, math.inf for a miss")
    return values


def _check_budget(budget: float) -> None:
    if not 0 < budget < math.inf:
        raise ValueError(f"budget = {budget!r}: expected a number of epochs above 0")


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence = {confidence!r}: expected a number between 0 and 1")
