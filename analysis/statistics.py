"""Statistics of runs to a target: estimates with intervals, for few runs of which some miss.

A run's epochs to target T is math.inf where it missed. The restricted mean, the expected running time and the
comparison are means of groups of runs (those that reached, those that missed) weighted by the groups' shares, and
their intervals are drawn alike. A draw takes

    shares   Dirichlet(k_1 + 1/K, ..., k_K + 1/K), k_j being the runs in group j of K: Perks' prior (Journal of the
             Institute of Actuaries 73, 1947). For two groups it is Jeffreys', whose intervals of a share are good
             from few runs on, also where all or none reached (Brown, Cai & DasGupta, Statistical Science 16, 2001)
    means    of each group, resampled with replacement, every epoch read as uniform within half an epoch to each side
             (the smoothed bootstrap), the distance to the group's mean multiplied by sqrt(k/chi²(k-1)): for normal
             values exactly Student's t, which a percentile bootstrap of few values is too narrow for (Hesterberg,
             The American Statistician 69, 2015). The mean of a group of none is uniform over what is possible, that
             of a group of one halfway between this and the run

and the interval goes from the (1-c)/2 to the (1+c)/2 quantile of 2,000 draws, widened to hold the estimate. A
percentile or BCa bootstrap of the runs alone knows no miss where the sample has none, and no spread where they agree.
``python -m tests.benchmarks.coverage`` measures
how often each interval holds the truth; docs/statistics.md has the figures.

Pure functions. Where a rule pruned runs, what they would have done is not known: count a pruned run as a miss that
spent its whole budget, as analysis.summary does, and no figure here can come out better for it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_DRAWS = 2_000


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
    """Return the share of runs that reached, k/n, with Wilson's interval.

    (p + z²/2n ± z·sqrt(p(1-p)/n + z²/4n²)) / (1 + z²/n); Wilson, J. Am. Stat. Assoc. 22, 1927.

    Args:
        reached: how many runs reached.
        runs: how many there were, 1 or more.
        confidence: of the interval, in (0, 1).

    Raises:
        ValueError: there is no run, more reached than there are, or the confidence is outside (0, 1).

    >>> print(share_reached(9, 10))
    0.9 [0.5958, 0.9821]
    """
    if not 0 <= reached <= runs or runs < 1:
        raise ValueError(f"reached = {reached}, runs = {runs}: expected 1 run or more, and reached among them")
    _check_confidence(confidence)
    return wilson(reached, runs, confidence)


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


def restricted_mean(epochs: Sequence[float], budget: float, confidence: float = 0.95, seed: int = 0) -> Estimate:
    """Return the mean of min(T, budget), the restricted mean time to the target, with a bootstrap interval.

    Irwin, Journal of Hygiene 47, 1949; Royston & Parmar, BMC Medical Research Methodology 13, 2013. The module says
    how the interval is drawn.

    Args:
        epochs: epochs to target, math.inf for a miss; shape (runs,). Above the budget is a miss too.
        budget: epochs, above 0; the same for all that is compared.
        confidence: of the interval, in (0, 1).
        seed: of the draws.

    Raises:
        ValueError: there is no run, an epoch is negative or NaN, or budget or confidence is out of bounds.
    """
    values = _epochs(epochs)
    _check_budget(budget)
    _check_confidence(confidence)
    return _restricted_mean(_key(values), float(budget), confidence, seed)


def expected_running_time(
    epochs_spent: Sequence[float],
    reached: Sequence[bool],
    confidence: float = 0.95,
    seed: int = 0,
    budget: float | None = None,
) -> Estimate:
    """Return the epochs spent over the runs that reached: what one success costs, with a bootstrap interval.

    ERT = Σ epochs spent / k = mean of those that reached + (1-p)/p · mean of those that missed, p = k/n; infinite
    where none reached. Price, 1997; Auger & Hansen, IEEE CEC 2005; Hansen et al., arXiv 1605.03560 (COCO). The
    module says how the interval is drawn.

    Args:
        epochs_spent: up to the target by a run that reached, all of them by one that missed; shape (runs,).
        reached: which runs reached; shape (runs,).
        confidence: of the interval, in (0, 1).
        seed: of the draws.
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
    return _expected_running_time(_key(spent[hit]), _key(spent[~hit]), float(longest), confidence, seed)


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
) -> pd.DataFrame:
    """Return the share of runs below the target after each epoch: Kaplan and Meier's curve, for one fixed budget.

    S(e) = Π (1 - d_i/n_i) over epochs e_i <= e, d_i runs reaching there of n_i still below (J. Am. Stat. Assoc. 53,
    1958). With one budget nothing is censored ahead of it, and the product is the share of the n runs still below; the
    interval is Wilson's at each epoch, which is there also where all or none reached, as Greenwood's is not. A run
    that a rule pruned is no ordinary censoring: it was pruned because it was slow, and taking it for censored
    overstates the chance to reach. So pruned runs are refused, or bounded from both sides: they would all have
    reached an epoch later, or never.

    Args:
        epochs_run: the epoch of the crossing where reached, else how far the run went; shape (runs,).
        reached: which runs reached; shape (runs,).
        pruned: which runs a rule ended below the target; none unless given. Shape (runs,).
        bounds: bound what pruned runs would have done instead of refusing them.
        confidence: of the interval at each epoch, in (0, 1).

    Returns:
        Index epoch, from 0 to the budget; columns below (the share), low, high. With bounds below_least and
        below_most in the place of below, low and high being the interval's ends around both.

    Raises:
        ValueError: runs were pruned and no bounds are asked for; the runs that missed ended after different numbers
            of epochs; there is no run, the shapes differ, or an epoch is negative, NaN or infinite.
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
    budget = float(ends[0]) if len(ends) == 1 else float(run.max())
    if len(ends) > 1 or run.max() > budget:
        raise ValueError(
            f"the runs went on for up to {run.max():g} epochs and those that missed ended after {ends.tolist()}: "
            "expected one budget, the same for every run"
        )
    if not bounds:
        return pd.DataFrame(_survival(run, hit, budget, confidence)).rename_axis("epoch")
    least = _survival(np.where(cut, np.minimum(run + 1, budget), run), hit | cut, budget, confidence)
    most = _survival(np.where(cut, budget, run), hit, budget, confidence)
    columns = {"below_least": least["below"], "below_most": most["below"], "low": least["low"], "high": most["high"]}
    return pd.DataFrame(columns).rename_axis("epoch")


@dataclass(frozen=True)
class Comparison:
    """Two configurations on the same seeds.

    Attributes:
        pairs: how many seeds.
        difference: restricted mean of A minus that of B, in epochs; below 0 where A is faster.
        probability_faster: that A is faster than B on a seed, ties counting half.
    """

    pairs: int
    difference: Estimate
    probability_faster: Estimate


def compare(
    a: Sequence[float], b: Sequence[float], budget: float, confidence: float = 0.95, seed: int = 0
) -> Comparison:
    """Compare the epochs to target of A and B, seed by seed.

    The difference is the mean of min(a, budget) - min(b, budget), its interval drawn as the module says from four
    groups of pairs: both reached, only A, only B, none. The probability is (wins + ties/2)/pairs (Vargha & Delaney,
    J. Educational and Behavioral Statistics 25, 2000, for pairs), two misses being a tie, with Wilson's interval,
    which is wide where there are ties: they vary less than wins and losses.

    Args:
        a: epochs to target of A, math.inf for a miss; shape (pairs,).
        b: those of B; b[i] shares its seed with a[i]. Shape (pairs,).
        budget: epochs, above 0; above it is a miss.
        confidence: of both intervals, in (0, 1).
        seed: of the draws.

    Raises:
        ValueError: there is no pair, the shapes differ, an epoch is negative or NaN, or budget or confidence is out
            of bounds.
    """
    times_a, times_b = _epochs(a), _epochs(b)
    if times_a.shape != times_b.shape:
        raise ValueError(f"{len(times_a)} runs of A and {len(times_b)} of B: expected pairs that share a seed")
    _check_budget(budget)
    _check_confidence(confidence)
    hit_a, hit_b = times_a <= budget, times_b <= budget
    gaps = np.minimum(times_a, budget) - np.minimum(times_b, budget)
    random = np.random.default_rng(seed)
    pairs = len(gaps)
    groups = (hit_a & hit_b, hit_a & ~hit_b, ~hit_a & hit_b, ~hit_a & ~hit_b)
    ends = ((-budget, budget), (-budget, 0.0), (0.0, budget), (0.0, 0.0))
    shares = _shares([int(group.sum()) for group in groups], random)
    means = [_means(np.sort(gaps[group]), *span, random) for group, span in zip(groups, ends, strict=True)]
    draws = np.sum(shares * np.stack(means, axis=1), axis=1)
    # A miss is slower than what reached in the last epoch, though neither adds to the difference.
    first, second = np.where(hit_a, times_a, math.inf), np.where(hit_b, times_b, math.inf)
    faster = float(np.mean((first < second) + (first == second) / 2))
    return Comparison(
        pairs,
        _interval(float(gaps.mean()), draws, confidence),
        wilson(faster * pairs, pairs, confidence),
    )


def wilson(reached: float, runs: int, confidence: float) -> Estimate:
    """Return a share with Wilson's interval, as `share_reached`; ``reached`` may be a fraction, as ties make it."""
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


# Of a large study, most configurations have one run, and many the same epochs: what was drawn is kept.
@lru_cache(maxsize=4096)
def _restricted_mean(epochs: tuple[float, ...], budget: float, confidence: float, seed: int) -> Estimate:
    times = np.array(epochs)
    random = np.random.default_rng(seed)
    hit = times[times <= budget]
    shares = _shares([len(hit), len(times) - len(hit)], random)
    means = _means(hit, 0.0, budget, random)
    draws = np.minimum(shares[:, 0] * means + shares[:, 1] * budget, budget)  # rounding may put it above
    interval = _interval(float(np.minimum(times, budget).mean()), draws, confidence)
    return interval if len(hit) < len(times) else _lowered(interval, means)


@lru_cache(maxsize=4096)
def _expected_running_time(
    hits: tuple[float, ...], misses: tuple[float, ...], longest: float, confidence: float, seed: int
) -> Estimate:
    random = np.random.default_rng(seed)
    value = math.fsum((*hits, *misses)) / len(hits) if hits else math.inf
    shares = _shares([len(hits), len(misses)], random)
    # What misses spend is their budget as a rule, and varies little: resampled as it is.
    spent = random.choice(misses, (_DRAWS, len(misses))).mean(axis=1) if misses else np.full(_DRAWS, longest)
    means = _means(np.array(hits), 0.0, longest, random)
    with np.errstate(divide="ignore", over="ignore"):
        draws = means + shares[:, 1] / shares[:, 0] * spent
    interval = _interval(value, draws, confidence)
    return interval if misses else _lowered(interval, means)


def _shares(counts: Sequence[int], random: np.random.Generator) -> Floats:
    """Draw the shares of groups, shape (draws, groups)."""
    return random.dirichlet(np.array(counts) + 1 / len(counts), _DRAWS)


def _means(values: Floats, low: float, high: float, random: np.random.Generator) -> Floats:
    """Draw a group's mean, shape (draws,), in [low, high]; values are sorted, so that their order does not matter."""
    k = len(values)
    if low == high:
        return np.full(_DRAWS, low)
    if k < 2:
        return (float(values.sum()) + random.uniform(low, high, _DRAWS)) / (k + 1)
    means = random.choice(values, (_DRAWS, k)).mean(axis=1) + random.uniform(-0.5, 0.5, (_DRAWS, k)).mean(axis=1)
    mean = float(values.mean())
    drawn: Floats = mean + (means - mean) * np.sqrt(k / random.chisquare(k - 1, _DRAWS))
    return drawn.clip(low, high)


def _interval(value: float, draws: Floats, confidence: float) -> Estimate:
    low, high = np.quantile(draws, ((1 - confidence) / 2, (1 + confidence) / 2))
    return Estimate(value, min(float(low), value), max(float(high), value), confidence)


def _lowered(interval: Estimate, means: Floats) -> Estimate:
    """Where no run missed, the lower end is that of runs which never miss (as Brown, Cai & DasGupta end a share)."""
    low = float(np.quantile(means, (1 - interval.confidence) / 2))
    return replace(interval, low=min(interval.low, low))


def _survival(run: Floats, hit: NDArray[np.bool_], budget: float, confidence: float) -> dict[str, list[float]]:
    """Share below the target after epochs 0 to the budget, with its interval."""
    n = len(run)
    left = [n - int(np.count_nonzero(run[hit] <= epoch)) for epoch in range(math.floor(budget) + 1)]
    shares = [wilson(below, n, confidence) for below in left]
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
