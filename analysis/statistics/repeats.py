"""How much the metric of one configuration differs between its runs.

Standard library only, to import fast.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence

_PRIOR_RUNS = 4  # weight of the binomial variance, in degrees of freedom
_ANNEALED = 0.25  # the last share of the epochs, in which the target is reached and curves fluctuate little


def run_noise(repeats: Iterable[Sequence[Sequence[float]]], target: float | None, images: int | None) -> float:
    """Return the standard deviation of a run's metric between seeds.

    sqrt((4·p(1-p)/n + Σ(m-1)·s²) / (4 + Σ(m-1))): the binomial variance of an accuracy p (the target) on n images, and
    the variance s² between the m runs of each repeated configuration, pooled by degrees of freedom. The binomial
    variance needs no repeats, but is too small, since seeds change more than which images are misclassified. From about
    five runs on, the repeats have more weight. s² is the mean over the last quarter of the epochs that all runs of the
    configuration have.

    Args:
        repeats: for each configuration its runs' values of the metric in epochs 1, 2, 3, …, NaN where not known;
            configurations with fewer than two runs are ignored.
        target: value to reach, used for accuracies alone.
        images: number of validation images, 1 or more, if the metric is an accuracy; None for any other metric, without
            a target, or where it is not known. Then the repeats alone tell, and
            the result is 0 without any.

    >>> round(run_noise([], 0.92, 10_000), 5)
    0.00271
    """
    total, freedom = 0.0, 0
    if images is not None and target is not None:
        total, freedom = _PRIOR_RUNS * target * (1 - target) / images, _PRIOR_RUNS
    for runs in repeats:
        epochs = min(map(len, runs), default=0)
        known = [
            statistics.variance(at_epoch)
            for epoch in range(epochs - math.ceil(_ANNEALED * epochs), epochs)
            if len(at_epoch := [run[epoch] for run in runs if not math.isnan(run[epoch])]) == len(runs) > 1
        ]
        if known:
            total += (len(runs) - 1) * statistics.fmean(known)
            freedom += len(runs) - 1
    return math.sqrt(total / freedom) if freedom else 0.0
