"""How far the best trial is ahead of the second best, compared with noise.

Standard library only, to import fast; scipy is imported only if there are repeated runs.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from resnet_core.objective import first_crossing

_AROUND = 2  # epochs on each side of the crossing, over which the slope of the curve is taken
_95 = 1.959964


@dataclass(frozen=True)
class Lead:
    """The lead of the best trial over the second best.

    Attributes:
        epochs: difference of their objectives, in epochs.
        noise: the number of epochs by which two runs of one configuration differ at most, in 95 of 100 cases; None if
            no configuration was repeated.
        degrees: degrees of freedom of ``noise``; 0 where it is None.
        rough: the same figure, under the assumption that only independent draws of the validation images move a
            crossing; math.inf if the curve does not rise at its crossing. It is not a bound: the true noise is smaller
            since both runs are validated on the same images, and larger since seeds move crossings too.
    """

    epochs: float
    noise: float | None
    degrees: int
    rough: float

    @property
    def within_noise(self) -> bool | None:
        """Whether noise alone can explain the lead; None where ``noise`` is None."""
        return None if self.noise is None else self.epochs <= self.noise


def lead(
    best: float,
    second: float,
    val_accs: Sequence[float],
    target: float,
    images: int,
    repeats: Sequence[Sequence[float]] = (),
) -> Lead:
    """Return the lead of the best trial over the second best, and the size of the noise.

    The noise is t·√2·s. Here s is the standard deviation of the crossings of runs that differ only in their seed,
    pooled over configurations: √(Σ (k-1)·s²/Σ (k-1)). t is the 97.5 % quantile of Student's t with Σ (k-1) degrees of
    freedom. No correction for the number of trials is needed: without a true difference, the fastest two of many runs
    are closer to each other than two random runs. Equal spreads are assumed; only runs that reached the target are
    used.

    Args:
        best: objective of the best configuration, in epochs.
        second: objective of the second best, in epochs.
        val_accs: validation accuracies of the best trial's epochs 1, 2, 3, …; shape (epochs,).
        target: accuracy to reach, in (0, 1].
        images: number of validation images.
        repeats: interpolated crossings of runs that reached the target, a sequence for each configuration.
    """
    rough = _95 * math.sqrt(2) * crossing_error(val_accs, target, images)
    degrees = sum(len(runs) - 1 for runs in repeats if runs)
    if not degrees:
        return Lead(second - best, None, 0, rough)
    from scipy.special import stdtrit

    squares = sum((len(runs) - 1) * statistics.variance(runs) for runs in repeats if len(runs) > 1)
    noise = float(stdtrit(degrees, 0.975)) * math.sqrt(2 * squares / degrees)
    return Lead(second - best, noise, degrees, rough)


def crossing_error(val_accs: Sequence[float], target: float, images: int) -> float:
    """Return the standard error of a crossing, in epochs, over draws of the validation images.

    √(p·(1-p)/n) / slope: the binomial standard error of an accuracy p, the target, on n images, divided by the slope of
    the curve. The slope is that of the least-squares line through the crossing and up to two epochs on each side.

    Args:
        val_accs: validation accuracies of epochs 1, 2, 3, …, each in [0, 1] or NaN; shape (epochs,).
        target: accuracy to reach, in (0, 1].
        images: number of validation images, 1 or more.

    Returns:
        Epochs; math.inf if the curve never reaches the target, or does not rise where it crosses it.

    Raises:
        ValueError: the target is outside (0, 1].

    >>> round(crossing_error([0.90, 0.91, 0.92, 0.93, 0.94], 0.92, 10_000), 4)
    0.2713
    """
    epoch = first_crossing(val_accs, target)
    if epoch is None:
        return math.inf
    places = range(max(1, epoch - _AROUND), min(len(val_accs), epoch + _AROUND) + 1)
    points = [(place, val_accs[place - 1]) for place in places if not math.isnan(val_accs[place - 1])]
    if len(points) < 2:
        return math.inf
    slope = statistics.linear_regression(*zip(*points, strict=True)).slope
    return math.sqrt(target * (1 - target) / images) / slope if slope > 0 else math.inf
