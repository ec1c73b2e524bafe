"""How often `compare` tells two configurations apart, and how often it does so where there is nothing to tell.

    python -m tests.benchmarks.power

Epochs to target are normal, rounded to whole ones; B reaches ``gap`` epochs later than A, or less often. Beside ours
stands the usual t-test, paired or Welch's, of those that reached.
"""

from __future__ import annotations

import argparse
import math
import warnings

import numpy as np
from numpy.typing import NDArray

from analysis.statistics.differences import compare, compare_independent, holm

BUDGET = 30


def power(
    runs: int,
    gap: float,
    repeats: int,
    *,
    sd: float = 1.5,
    shares: tuple[float, float] = (1.0, 1.0),
    together: float = 0.0,
    paired: bool = True,
    seed: int = 0,
) -> dict[str, float]:
    """Return, by finding, the share of repeats that made it.

    Args:
        runs: of each configuration.
        gap: by so many epochs B is slower.
        repeats: how many comparisons to make.
        sd: of the epochs of one configuration.
        shares: of A's and B's runs that reach.
        together: correlation of the epochs of runs of one seed.
        paired: whether they are compared in pairs.
        seed: of the draws.

    Returns:
        time, shares, difference: its 95 % interval leaves 0 out; holm: that of time or shares is told, both being
        corrected; t-test: the usual one tells the times apart.
    """
    from scipy import stats

    random = np.random.default_rng(seed)
    told: dict[str, int] = dict.fromkeys(("time", "shares", "difference", "holm", "t-test"), 0)
    for _ in range(repeats):
        common = random.normal(0, sd * math.sqrt(together), runs)
        own = random.normal(0, sd * math.sqrt(1 - together), (2, runs))
        epochs = np.round(20 + common + own + [[0], [gap]]).clip(1, BUDGET)
        epochs = np.where(random.random((2, runs)) < np.array(shares)[:, None], epochs, math.inf)
        found = (compare if paired else compare_independent)(epochs[0].tolist(), epochs[1].tolist(), BUDGET)
        told["time"] += found.time is not None and not found.time.low <= 0 <= found.time.high
        told["shares"] += not found.share.low <= 0 <= found.share.high
        told["difference"] += not found.difference.low <= 0 <= found.difference.high
        told["holm"] += min(holm([found.share_p, found.time_p])) <= 0.05
        told["t-test"] += _usual(epochs, paired, stats) <= 0.05
    return {name: count / repeats for name, count in told.items()}


def _usual(epochs: NDArray[np.float64], paired: bool, stats: object) -> float:
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        if paired:
            a, b = epochs[:, np.isfinite(epochs).all(axis=0)]
            return float(stats.ttest_rel(a, b).pvalue)  # type: ignore[attr-defined]
        a, b = (row[np.isfinite(row)] for row in epochs)
        return float(stats.ttest_ind(a, b, equal_var=False).pvalue)  # type: ignore[attr-defined]


def main() -> None:
    """Print how often each finding is made."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=2000)
    parser.add_argument("--runs", type=int, nargs="+", default=[3, 5, 10, 20])
    arguments = parser.parse_args()
    cases = (
        ("2 epochs", 2.0, (1.0, 1.0), 0.0),
        ("2 epochs, correlation 0.5", 2.0, (1.0, 1.0), 0.5),
        ("2 epochs, 0.7 reach", 2.0, (0.7, 0.7), 0.0),
        ("0.9 and 0.3 reach", 0.0, (0.9, 0.3), 0.0),
        ("nothing", 0.0, (1.0, 1.0), 0.0),
        ("nothing, 0.7 reach", 0.0, (0.7, 0.7), 0.0),
    )
    print(f"Share of {arguments.repeats} comparisons whose 95 % interval leaves 0 out; the SD of a run is 1.5 epochs.")
    for name, gap, shares, together in cases:
        for runs in arguments.runs:
            for paired in (True, False):
                told = power(runs, gap, arguments.repeats, shares=shares, together=together, paired=paired)
                cells = "; ".join(f"{finding} {value:.3f}" for finding, value in told.items())
                print(f"{name}, {runs} {'pairs' if paired else 'independent'}: {cells}", flush=True)


if __name__ == "__main__":
    main()
