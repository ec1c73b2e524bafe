"""How many pairs of runs a sequential test needs until it decides, and how often it decides falsely.

    python -m tests.benchmarks.sequential [--repeats 4000] [--most 40]

Runs are made: epochs to target are normal with the same standard deviation for both sides, rounded up to whole epochs,
as they are told. The test looks after each pair. A false decision is any where there is no gap, and one for the slower
side where there is one. One table a prior, beta(a, a).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analysis.statistics.sequential import ALPHA, e_value

GAPS = (0.0, 1.0, 2.0, 3.0, 4.0)
SDS = (1.5, 2.0)
PRIORS = (0.25, 0.5, 1.0, 2.0, 5.0, 10.0)
MIDDLE = 22.0  # epochs; only its fraction matters, and that is drawn


@dataclass(frozen=True)
class Figures:
    """What came of repeated tests of one kind.

    Attributes:
        median: pairs until it was decided, the undecided counting as infinite.
        mean: pairs spent, an undecided test all of them.
        decided: share of tests that were decided.
        false: share of tests that were decided falsely.
    """

    median: float
    mean: float
    decided: float
    false: float


def measure(gap: float, sd: float, prior: float, *, repeats: int, most: int, seed: int = 0) -> Figures:
    """Return the figures of tests of two configurations, of which A is ``gap`` epochs faster."""
    random = np.random.default_rng(seed)
    middle = MIDDLE + random.uniform(0, 1, (repeats, 1))
    a = np.ceil(middle + random.normal(0, sd, (repeats, most)))
    b = np.ceil(middle + gap + random.normal(0, sd, (repeats, most)))
    wins, losses = np.cumsum(a < b, axis=1), np.cumsum(b < a, axis=1)
    counts = range(most + 1)
    table = np.array([[e_value(won, lost, prior) for lost in counts] for won in counts])
    crossed = table[wins, losses] >= 1 / ALPHA
    decided = crossed.any(axis=1)
    at = np.where(decided, crossed.argmax(axis=1), most - 1)
    rows = np.arange(repeats)
    for_b = decided & (losses[rows, at] > wins[rows, at])
    false = decided if gap == 0 else for_b
    pairs = at + 1.0
    return Figures(
        float(np.median(np.where(decided, pairs, np.inf))),
        float(pairs.mean()),
        float(decided.mean()),
        float(false.mean()),
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=4000)
    parser.add_argument("--most", type=int, default=40, help="pairs, after which a test ends undecided")
    options = parser.parse_args(arguments)
    for prior in PRIORS:
        print(f"prior beta({prior:g}, {prior:g}), up to {options.most} pairs, {options.repeats} tests a line")
        print("  gap  SD   median  mean   decided   false")
        for gap in GAPS:
            for sd in SDS:
                found = measure(gap, sd, prior, repeats=options.repeats, most=options.most)
                print(
                    f"  {gap:3g}  {sd:3g}  {found.median:6g}  {found.mean:5.1f}  "
                    f"{found.decided:7.1%}  {found.false:6.2%}"
                )


if __name__ == "__main__":
    main()
