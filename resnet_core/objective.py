"""Epochs to target: when a validation curve reaches the target, and the number a sampler minimises.

All functions take the validation accuracies of epochs 1, 2, 3, ... as a sequence: item i belongs to epoch i +
1. NaN stands for an accuracy that is not known, and never counts as reaching.

The definitions are this project's own. The published tables of machine-learning.anracom.com, "AdamW for a ResNet56v2 -
V" (2024-07-14), give the first crossing of 0.92 as the epoch of a run that reached 0.92, so the two can be compared.

Standard library only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence


def first_crossing(val_accs: Sequence[float], target: float) -> int | None:
    """Return the first epoch whose validation accuracy is at or above the target.

    Defined here as min{e : a(e) >= target}, where a(e) is the accuracy after epoch e.

    Args:
        val_accs: validation accuracies of epochs 1, 2, 3, ..., each in [0, 1] or NaN; shape (epochs,).
        target: accuracy to reach, in (0, 1].

    Returns:
        The epoch, 1-based; None where no epoch reaches the target.

    Raises:
        ValueError: the target is outside (0, 1].

    >>> first_crossing([0.5, 0.93, 0.91, 0.94], 0.92)
    2
    """
    return sustained_crossing(val_accs, target, sustained=1)


def sustained_crossing(val_accs: Sequence[float], target: float, sustained: int = 2) -> int | None:
    """Return the first epoch of `sustained` in a row at or above the target.

    Defined here as min{e : a(e), ..., a(e+m-1) >= target}, where m is `sustained`. One epoch at 0.92 on 10,000
    images has a standard error of 0.27 points, so a first crossing alone is optimistic.

    Args:
        val_accs: validation accuracies of epochs 1, 2, 3, ..., each in [0, 1] or NaN; shape (epochs,).
        target: accuracy to reach, in (0, 1].
        sustained: number of epochs in a row, 1 or more; 1 is `first_crossing`.

    Returns:
        The first of those epochs, 1-based; None if there are no such epochs.

    Raises:
        ValueError: the target is outside (0, 1], or `sustained` is below 1.

    >>> sustained_crossing([0.5, 0.93, 0.91, 0.94, 0.94], 0.92)
    4
    """
    _check_target(target)
    if sustained < 1:
        raise ValueError(f"sustained = {sustained!r}: expected 1 or more")
    in_a_row = 0
    for epoch, val_acc in enumerate(val_accs, start=1):
        in_a_row = in_a_row + 1 if val_acc >= target else 0
        if in_a_row == sustained:
            return epoch - sustained + 1
    return None


def sustained_is_known(val_accs: Sequence[float], target: float, sustained: int = 2) -> bool:
    """Return whether a run's epochs tell if it sustained the target.

    They do not tell if the run ended at or above the target after fewer than `sustained` such epochs in a row, because
    it was stopped or its schedule ended.

    Args:
        val_accs: validation accuracies of epochs 1, 2, 3, ..., each in [0, 1] or NaN; shape (epochs,).
        target: accuracy to reach, in (0, 1].
        sustained: number of epochs in a row, 1 or more.

    Raises:
        ValueError: the target is outside (0, 1], or `sustained` is below 1.

    >>> sustained_is_known([0.5, 0.93], 0.92), sustained_is_known([0.5, 0.93, 0.91], 0.92)
    (False, True)
    """
    if sustained_crossing(val_accs, target, sustained) is not None:
        return True
    return not (len(val_accs) and val_accs[-1] >= target)


def interpolated_crossing(val_accs: Sequence[float], target: float) -> float | None:
    """Return where the straight line into the first crossing meets the target.

    Defined here as (e-1) + (target - a(e-1)) / (a(e) - a(e-1)), where e is the first crossing. a(e-1) is taken
    as 0 where e = 1 or where it is NaN.

    Args:
        val_accs: validation accuracies of epochs 1, 2, 3, ..., each in [0, 1] or NaN; shape (epochs,).
        target: accuracy to reach, in (0, 1].

    Returns:
        The crossing in epochs, above e - 1 and at most e; None where no epoch reaches the target.

    Raises:
        ValueError: the target is outside (0, 1].

    >>> interpolated_crossing([0.5, 0.75, 1.0], 0.875)
    2.5
    """
    epoch = first_crossing(val_accs, target)
    if epoch is None:
        return None
    before = val_accs[epoch - 2] if epoch > 1 else 0.0
    if math.isnan(before):
        before = 0.0
    return (epoch - 1) + (target - before) / (val_accs[epoch - 1] - before)


def objective(val_accs: Sequence[float], target: float, longest_horizon: float, noise: float = 0.0) -> float:
    """Return the number that a sampler minimises: epochs to the target, averaged over the noise of a run.

    Defined here as the mean of v(c) over levels c ~ N(target, 2·noise²), where v(c) is the interpolated crossing of
    the level c, or, if the curve stays below it,

        v(c) = H + H·(c - b)/target + a/(H·target)

    H is `longest_horizon`; b is the best accuracy, 0 if there is none; a is the integral of the crossings of all levels
    from 0 to b. The integral is at most b·H, and small if the curve rises early. Shifting the level has the same effect
    as shifting the curve. This run and a second one both differ from their configuration's mean by the noise of a run:
    hence twice the variance of one run. The number is continuous in every accuracy, also at the target. A run far above
    the target has a lower number than one just above it, which may have been lucky. For runs that miss the target, the
    number depends on their distance to it, and on how late they got there. Without noise the number is v(target): in
    (0, H] if the target is reached, above H if not. The mean is exact, since v is piecewise linear.

    Args:
        val_accs: validation accuracies of epochs 1, 2, 3, ..., each in [0, 1] or NaN; shape (epochs,).
        target: accuracy to reach, in (0, 1].
        longest_horizon: epochs of the longest schedule of the study, above 0.
        noise: standard deviation of a run's accuracy between seeds, 0 or more.

    Returns:
        Epochs, lower is better, at most about 2·H + 1.

    Raises:
        ValueError: the target is outside (0, 1], `longest_horizon` is not above 0, or the noise is below 0.

    >>> objective([0.5, 0.75, 1.0], 0.875, longest_horizon=30)
    2.5
    >>> round(objective([0.5, 0.75, 1.0], 0.875, longest_horizon=30, noise=0.1), 2)
    8.04
    """
    _check_target(target)
    if not longest_horizon > 0:
        raise ValueError(f"longest_horizon = {longest_horizon!r}: expected a number of epochs above 0")
    if not noise >= 0:
        raise ValueError(f"noise = {noise!r}: expected a standard deviation of 0 or more")
    pieces = _crossings(val_accs, target, longest_horizon)
    if noise == 0:
        intercept, slope = next((a, b) for _, high, a, b in pieces if target <= high)
        return intercept + slope * target
    spread = math.sqrt(2) * noise
    total = 0.0
    for low, high, intercept, slope in pieces:
        from_, to = (low - target) / spread, (high - target) / spread
        total += (intercept + slope * target) * (_normal_cdf(to) - _normal_cdf(from_))
        total -= slope * spread * (_normal_density(to) - _normal_density(from_))
    return total


def _crossings(
    val_accs: Sequence[float], target: float, longest_horizon: float
) -> list[tuple[float, float, float, float]]:
    """Return the crossing of every level in pieces (low, high, intercept, slope): intercept + slope·level."""
    pieces = [(-math.inf, 0.0, 0.0, 0.0)]  # a shift may put the level below any accuracy
    highest, area, before = 0.0, 0.0, 0.0
    for epoch, val_acc in enumerate(val_accs, start=1):
        if val_acc > highest:
            slope = 1 / (val_acc - before)
            intercept = epoch - 1 - before * slope
            pieces.append((highest, val_acc, intercept, slope))
            area += intercept * (val_acc - highest) + slope * (val_acc**2 - highest**2) / 2
            highest = val_acc
        before = 0.0 if math.isnan(val_acc) else val_acc
    slope = longest_horizon / target
    late = area / (longest_horizon * target)
    pieces.append((highest, math.inf, longest_horizon - slope * highest + late, slope))
    return pieces


def _normal_cdf(z: float) -> float:
    return math.erfc(-z / math.sqrt(2)) / 2


def _normal_density(z: float) -> float:
    return math.exp(-z * z / 2) / math.sqrt(2 * math.pi) if math.isfinite(z) else 0.0


def best(val_accs: Sequence[float]) -> tuple[int, float] | None:
    """Return the epoch of the highest validation accuracy, and that accuracy.

    Defined here as the first epoch of the highest finite a(e).

    Args:
        val_accs: validation accuracies of epochs 1, 2, 3, ..., each in [0, 1] or NaN; shape (epochs,).

    Returns:
        The epoch, 1-based, and its accuracy; None where no accuracy is finite.

    >>> best([0.5, 0.75, 0.75])
    (2, 0.75)
    """
    finite = [(epoch, a) for epoch, a in enumerate(val_accs, start=1) if math.isfinite(a)]
    return max(finite, key=lambda item: item[1], default=None)  # max returns the first of equal items


def _check_target(target: float) -> None:
    if not 0 < target <= 1:
        raise ValueError(f"target = {target!r}: expected an accuracy above 0 and at most 1")
