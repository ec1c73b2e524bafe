"""How far a winner is ahead, and how much of that noise alone can do.

Standard library only, so that it costs no import of pandas; scipy's t is imported where there are repeats.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from resnet_core.objective import first_crossing

_AROUND = 2  # epochs to each side of the crossing, over which the curve's slope is taken
_95 = 1.959964


@dataclass(frozen=True)
class Lead:
    """A winner's lead over the second best.

    Attributes:
        epochs: how many epochs the winner is ahead, by the objective.
        noise: by so many epochs two runs of one configuration differ at most, in 95 of 100 cases; None where no
            configuration was repeated, and that is not known.
        degrees: degrees of freedom of the standard deviation it is made of; 0 where it is not known.
        rough: by so many epochs two crossings would differ if nothing but independent draws of the validation images
            moved them; math.inf where the curve does not tell. No bound: both are validated on the same images, which
            makes it smaller, and seeds move crossings too, which makes it larger.
    """

    epochs: float
    noise: float | None
    degrees: int
    rough: float

    @property
    def within_noise(self) -> bool | None:
        """Whether chance alone may have made the lead; None where that is not known."""
        return None if self.noise is None else self.epochs <= self.noise


def lead(
    best: float,
    second: float,
    val_accs: Sequence[float],
    target: float,
    images: int,
    repeats: Sequence[Sequence[float]] = (),
) -> Lead:
    """Return how far the best trial is ahead of the second best, beside noise.

    The noise is t·√2·s: s the standard deviation of the crossings of runs that differ in their seed alone, pooled over
    configurations, √(Σ (k-1)·s²/Σ (k-1)), and t the 97.5 % quantile of Student's t of Σ (k-1) degrees of freedom. Being
    the best of many does not raise it: without any difference the fastest two of many runs are closer to each other
    than two runs are as a rule. It takes spreads for equal, and knows only runs that reached the target.

    Args:
        best: objective of the best configuration, in epochs.
        second: that of the next.
        val_accs: validation accuracies of the best trial's epochs 1, 2, 3, …; shape (epochs,).
        target: accuracy to reach, in (0, 1].
        images: how many validate.
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

    √(p·(1-p)/n) / slope: the binomial standard error of an accuracy p, the target, on n images, over the slope of the
    curve, which is the least-squares line's through the crossing and the two epochs to each side of it, as far as
    they are there.

    Args:
        val_accs: validation accuracies of epochs 1, 2, 3, …, each in [0, 1] or NaN; shape (epochs,).
        target: accuracy to reach, in (0, 1].
        images: how many validate, 1 or more.

    Returns:
        Epochs; math.inf where the curve never reaches the target, or does not rise where it does.

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
