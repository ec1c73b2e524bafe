"""How far a winner is ahead, and how much of that noise alone can do.

Standard library only, so that it costs no import of pandas.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from analysis.epochs_to_target import first_crossing

_AROUND = 2  # epochs to each side of the crossing, over which the curve's slope is taken
_FEWEST = 3  # runs whose spread says something
_95 = 1.959964


@dataclass(frozen=True)
class Lead:
    """A winner's lead over the second best.

    Attributes:
        epochs: how many epochs earlier the winner crossed the target (interpolated crossings).
        noise: by so many epochs two runs of one and the same configuration differ, in 95 of 100 cases at most;
            math.inf where that cannot be told.
        source: where the noise is known from: ``confirmations`` or ``validation set``.
    """

    epochs: float
    noise: float
    source: str

    @property
    def within_noise(self) -> bool:
        """Whether chance alone may have made the lead."""
        return self.epochs <= self.noise


def lead(
    best: float, second: float, val_accs: Sequence[float], target: float, images: int, confirmed: Sequence[float] = ()
) -> Lead:
    """Return how far the best trial is ahead of the second best, beside noise.

    The crossing of one run has a standard error s, and the difference of two runs' of √2·s: the noise is 1.96·√2·s.
    Where three runs or more of a confirmation reached the target, s is the standard deviation of their crossings.
    Else it is what the validation set's size alone makes of it (`crossing_error`): less than the truth, since seeds
    differ in more than that, so a lead within it is noise, and one outside may still be.

    Args:
        best: interpolated crossing of the best trial, in epochs.
        second: that of the best trial of any other configuration.
        val_accs: validation accuracies of the best trial's epochs 1, 2, 3, …; shape (epochs,).
        target: accuracy to reach, in (0, 1].
        images: how many validate.
        confirmed: interpolated crossings of the runs of a confirmation that reached the target.
    """
    if len(confirmed) >= _FEWEST:
        return Lead(second - best, _95 * math.sqrt(2) * statistics.stdev(confirmed), "confirmations")
    return Lead(second - best, _95 * math.sqrt(2) * crossing_error(val_accs, target, images), "validation set")


def crossing_error(val_accs: Sequence[float], target: float, images: int) -> float:
    """Return the standard error of a crossing, in epochs, that the finite validation set gives it.

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
