"""The objective of a study: when a curve reaches the target, and the number that a sampler minimises.

`Objective` says which metric counts, whether it should rise or fall, and to which target. It turns the values of the
metric into scores, for which higher is better: the value itself, or its negative where the metric should fall. The
functions below take the scores of epochs 1, 2, 3, ... as a sequence: item i belongs to epoch i + 1. NaN stands for a
score that is not known, and never counts as reaching.

The definitions are this project's own. The published tables of machine-learning.anracom.com, "AdamW for a ResNet56v2 -
V" (2024-07-14), give the first crossing of 0.92 as the epoch of a run that reached 0.92, so the two can be compared.

Standard library only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from resnet_core.records import metric_text

Goal = Literal["max", "min"]
METRIC, TARGET = "val_acc", 0.92
"""The metric of a study that names none, and its target where it names none either."""


def default_target(metric: str, goal: Goal) -> float | None:
    """Return the target of a study that names none: 0.92 for the validation accuracy, else no target."""
    return TARGET if (metric, goal) == (METRIC, "max") else None


@dataclass(frozen=True)
class Objective:
    """What a study looks for in a trial.

    >>> falls = Objective("val_loss", "min", target=0.5)
    >>> falls.first_crossing([0.9, 0.6, 0.4]), falls.interpolated_crossing([0.9, 0.6, 0.4])
    (3, 2.5)
    >>> falls.best([0.9, 0.4, 0.6])
    (2, 0.4)

    Attributes:
        metric: name of the metric.
        goal: ``max`` if it should rise, ``min`` if it should fall.
        target: value to reach; None if there is none: then the best value itself counts.
        sustained: number of epochs in a row at the target or better after which it is sustained.

    Raises:
        ValueError: ``goal`` is neither ``max`` nor ``min``, ``sustained`` is below 1, or the target is impossible: not
            a finite number or, for the validation accuracy, not in (0, 1].
    """

    metric: str = METRIC
    goal: Goal = "max"
    target: float | None = TARGET
    sustained: int = 2

    def __post_init__(self) -> None:
        if self.goal not in ("max", "min"):
            raise ValueError(f"goal = {self.goal!r}: expected 'max' or 'min'")
        if self.sustained < 1:
            raise ValueError(f"sustained = {self.sustained!r}: expected 1 or more")
        if self.target is None:
            return
        if self.is_accuracy and not 0 < self.target <= 1:
            raise ValueError(f"target = {self.target!r}: expected an accuracy above 0 and at most 1")
        _check_target(self.target)

    @property
    def is_accuracy(self) -> bool:
        """Whether the metric is the validation accuracy, which lies in [0, 1] and starts at 0."""
        return (self.metric, self.goal) == (METRIC, "max")

    @property
    def label(self) -> str:
        """The metric in words, for axes and sentences."""
        return "validation accuracy" if self.is_accuracy else self.metric

    @property
    def target_text(self) -> str:
        """The target in short, such as ``0.92`` or ``val_loss 0.3``; empty without one."""
        if self.target is None:
            return ""
        return f"{self.target:g}" if self.is_accuracy else f"{self.metric} {self.target:g}"

    @property
    def target_words(self) -> str:
        """The target in words, such as ``val_loss 0.3 or less``; without one, that the best value counts."""
        if self.target is None:
            return f"none: the {'highest' if self.goal == 'max' else 'lowest'} {self.label} counts"
        return f"{self.label} {self.target:g} or {'more' if self.goal == 'max' else 'less'}"

    def shown(self, value: float) -> str:
        """Return a value of the metric as text for people."""
        return metric_text(self.metric, value)

    @property
    def target_score(self) -> float | None:
        """The score to reach; None without a target."""
        return None if self.target is None else self.score(self.target)

    @property
    def start(self) -> float | None:
        """The score before the first epoch: 0 for the validation accuracy, else not known."""
        return 0.0 if self.is_accuracy else None

    def score(self, value: float) -> float:
        """Return the score of a value; the value of a score, too."""
        return value if self.goal == "max" else 0.0 - value

    def scores(self, values: Sequence[float]) -> list[float]:
        """Return the scores of epochs 1, 2, 3, ... from the metric's values."""
        return [self.score(value) for value in values]

    def first_crossing(self, values: Sequence[float]) -> int | None:
        """Return the first epoch at the target or better; None if there is none. See the function of this name."""
        return None if self.target_score is None else first_crossing(self.scores(values), self.target_score)

    def sustained_crossing(self, values: Sequence[float]) -> int | None:
        """Return the first of ``sustained`` epochs in a row at the target or better; None if there are none."""
        if self.target_score is None:
            return None
        return sustained_crossing(self.scores(values), self.target_score, self.sustained)

    def sustained_is_known(self, values: Sequence[float]) -> bool:
        """Return whether a run's epochs tell if it sustained the target; true without a target."""
        return self.target_score is None or sustained_is_known(self.scores(values), self.target_score, self.sustained)

    def interpolated_crossing(self, values: Sequence[float]) -> float | None:
        """Return where the line into the first crossing meets the target; None if no epoch reaches it."""
        if self.target_score is None:
            return None
        return interpolated_crossing(self.scores(values), self.target_score, self.start)

    def best(self, values: Sequence[float]) -> tuple[int, float] | None:
        """Return the first epoch of the best finite value, and that value; None where no value is finite."""
        found = best(self.scores(values))
        return None if found is None else (found[0], self.score(found[1]))

    def minimised(self, values: Sequence[float], longest_horizon: float, noise: float = 0.0) -> float | None:
        """Return the number that a sampler minimises.

        With a target it is `objective`: epochs to the target, averaged over the noise of a run. Without one it is the
        best value, or its negative where the metric should rise.

        Args:
            values: values of epochs 1, 2, 3, ...; shape (epochs,).
            longest_horizon: epochs of the longest schedule of the study, above 0.
            noise: standard deviation of a run's value between seeds, 0 or more.

        Returns:
            The number; None where there is no target and no value is finite.
        """
        if self.target_score is not None:
            return objective(self.scores(values), self.target_score, longest_horizon, noise, self.start)
        found = best(self.scores(values))
        return None if found is None else 0.0 - found[1]


def first_crossing(scores: Sequence[float], target: float) -> int | None:
    """Return the first epoch whose score is at or above the target.

    Defined here as min{e : a(e) >= target}, where a(e) is the score after epoch e.

    Args:
        scores: scores of epochs 1, 2, 3, ...; shape (epochs,).
        target: score to reach, a finite number.

    Returns:
        The epoch, 1-based; None where no epoch reaches the target.

    Raises:
        ValueError: the target is not finite.

    >>> first_crossing([0.5, 0.93, 0.91, 0.94], 0.92)
    2
    """
    return sustained_crossing(scores, target, sustained=1)


def sustained_crossing(scores: Sequence[float], target: float, sustained: int = 2) -> int | None:
    """Return the first epoch of `sustained` in a row at or above the target.

    Defined here as min{e : a(e), ..., a(e+m-1) >= target}, where m is `sustained`. One epoch at 0.92 on 10,000
    images has a standard error of 0.27 points, so a first crossing alone is optimistic.

    Args:
        scores: scores of epochs 1, 2, 3, ...; shape (epochs,).
        target: score to reach, a finite number.
        sustained: number of epochs in a row, 1 or more; 1 is `first_crossing`.

    Returns:
        The first of those epochs, 1-based; None if there are no such epochs.

    Raises:
        ValueError: the target is not finite, or `sustained` is below 1.

    >>> sustained_crossing([0.5, 0.93, 0.91, 0.94, 0.94], 0.92)
    4
    """
    _check_target(target)
    if sustained < 1:
        raise ValueError(f"sustained = {sustained!r}: expected 1 or more")
    in_a_row = 0
    for epoch, score in enumerate(scores, start=1):
        in_a_row = in_a_row + 1 if score >= target else 0
        if in_a_row == sustained:
            return epoch - sustained + 1
    return None


def sustained_is_known(scores: Sequence[float], target: float, sustained: int = 2) -> bool:
    """Return whether a run's epochs tell if it sustained the target.

    They do not tell if the run ended at or above the target after fewer than `sustained` such epochs in a row, because
    it was stopped or its schedule ended.

    Args:
        scores: scores of epochs 1, 2, 3, ...; shape (epochs,).
        target: score to reach, a finite number.
        sustained: number of epochs in a row, 1 or more.

    Raises:
        ValueError: the target is not finite, or `sustained` is below 1.

    >>> sustained_is_known([0.5, 0.93], 0.92), sustained_is_known([0.5, 0.93, 0.91], 0.92)
    (False, True)
    """
    if sustained_crossing(scores, target, sustained) is not None:
        return True
    return not (len(scores) and scores[-1] >= target)


def interpolated_crossing(scores: Sequence[float], target: float, start: float | None = 0.0) -> float | None:
    """Return where the straight line into the first crossing meets the target.

    Defined here as (e-1) + (target - a(e-1)) / (a(e) - a(e-1)), where e is the first crossing. Where e = 1, or where
    a(e-1) is NaN, ``start`` takes the place of a(e-1); if that is not known either, the crossing is e.

    Args:
        scores: scores of epochs 1, 2, 3, ...; shape (epochs,).
        target: score to reach, a finite number.
        start: score before the first epoch, below the target: 0 for an accuracy; None where it is not known.

    Returns:
        The crossing in epochs, above e - 1 and at most e; None where no epoch reaches the target.

    Raises:
        ValueError: the target is not finite.

    >>> interpolated_crossing([0.5, 0.75, 1.0], 0.875)
    2.5
    """
    epoch = first_crossing(scores, target)
    if epoch is None:
        return None
    before = scores[epoch - 2] if epoch > 1 else math.nan
    if not math.isfinite(before):
        if start is None:
            return float(epoch)
        before = start
    return (epoch - 1) + (target - before) / (scores[epoch - 1] - before)


def objective(
    scores: Sequence[float], target: float, longest_horizon: float, noise: float = 0.0, start: float | None = 0.0
) -> float:
    """Return the number that a sampler minimises: epochs to the target, averaged over the noise of a run.

    Defined here as the mean of v(c) over levels c ~ N(target, 2·noise²), where v(c) is the interpolated crossing of
    the level c, or, if the curve stays below it,

        v(c) = H + H·(c - b)/target + a/(H·target)    for accuracies: ``start`` is 0
        v(c) = H                                      for other scores: ``start`` is None

    H is `longest_horizon`; b is the best score, 0 or minus infinity if there is none; a is the integral of the
    crossings of all levels from 0 to b. The integral is at most b·H, and small if the curve rises early. To the mean
    for other scores, whose scale is not known, H·d/(d + s) is added: d is the mean of max(0, c - b), the distance by
    which the curve misses, and s is |target|, or 1 for a target of 0. So a miss is worse the farther it is from the
    target, and no miss is worse than 2·H.

    Shifting the level has the same effect as shifting the curve. This run and a second one both differ from their
    configuration's mean by the noise of a run: hence twice the variance of one run. The number is continuous in every
    score, also at the target. A run far above the target has a lower number than one just above it, which may have
    been lucky. For runs that miss the target, the number depends on their distance to it and, for accuracies, on how
    late they got there. Without noise the number is v(target): in (0, H] if the target is reached, above H if not. The
    mean is exact, since v is piecewise linear.

    Args:
        scores: scores of epochs 1, 2, 3, ...; shape (epochs,).
        target: score to reach, a finite number; above 0 if ``start`` is 0.
        longest_horizon: epochs of the longest schedule of the study, above 0.
        noise: standard deviation of a run's score between seeds, 0 or more.
        start: score before the first epoch: 0 for an accuracy; None where it is not known.

    Returns:
        Epochs, lower is better, at most about 2·H + 1.

    Raises:
        ValueError: the target is not finite, or not above 0 where ``start`` is 0; `longest_horizon` is not above 0, or
            the noise is below 0.

    >>> objective([0.5, 0.75, 1.0], 0.875, longest_horizon=30)
    2.5
    >>> round(objective([0.5, 0.75, 1.0], 0.875, longest_horizon=30, noise=0.1), 2)
    8.04
    >>> objective([-3.0, -2.0], -1.0, longest_horizon=30, start=None)
    45.0
    """
    _check_target(target)
    if start is not None and not target > start:
        raise ValueError(f"target = {target!r}: expected more than the score before the first epoch, {start!r}")
    if not longest_horizon > 0:
        raise ValueError(f"longest_horizon = {longest_horizon!r}: expected a number of epochs above 0")
    if not noise >= 0:
        raise ValueError(f"noise = {noise!r}: expected a standard deviation of 0 or more")
    pieces, highest = _crossings(scores, target, longest_horizon, start)
    spread = math.sqrt(2) * noise
    missed = longest_horizon * _relative_shortfall(highest, target, spread, start)
    if noise == 0:
        low, high, at_low, at_high = next(piece for piece in pieces if target <= piece[1])
        rise = (target - low) / (high - low) * (at_high - at_low) if at_high > at_low else 0.0
        return at_low + rise + missed
    total = 0.0
    for low, high, at_low, at_high in pieces:
        from_, to = (low - target) / spread, (high - target) / spread
        share = _normal_cdf(to) - _normal_cdf(from_)
        total += at_low * share
        if at_high > at_low:
            above_low = (target - low) * share - spread * (_normal_density(to) - _normal_density(from_))
            # Between the two ends whatever rounding makes of a piece that is narrow beside the noise.
            total += (at_high - at_low) * min(max(0.0, above_low / (high - low)), share)
    return total + missed


def _crossings(
    scores: Sequence[float], target: float, longest_horizon: float, start: float | None
) -> tuple[list[tuple[float, float, float, float]], float]:
    """Return the crossings of all levels, and the highest score.

    The crossings are straight pieces (low, high, at_low, at_high): the levels low and high are crossed at the epochs
    at_low and at_high. Levels above the highest score get what a miss by nothing gets.
    """
    lowest = -math.inf if start is None else start
    # A shift may put the level below any accuracy.
    pieces = [] if start is None else [(-math.inf, start, 0.0, 0.0)]
    highest, area, before = lowest, 0.0, lowest
    for epoch, score in enumerate(scores, start=1):
        if score > highest:
            at_low = float(epoch)  # where the line into the crossing is not known
            if not math.isinf(before):
                at_low = epoch - 1 + (highest - before) / (score - before)
            pieces.append((highest, score, at_low, float(epoch)))
            if start is not None:
                area += (score - highest) * (at_low + epoch) / 2
            highest = score
        before = lowest if math.isnan(score) else score
    late = 0.0 if start is None else area / (longest_horizon * target)
    pieces.append((highest, math.inf, longest_horizon + late, longest_horizon + late))
    return pieces, highest


def _relative_shortfall(best: float, target: float, spread: float, start: float | None) -> float:
    """Return the mean of max(0, c - b) as a share of the target or, for other scores, as d/(d + s): see `objective`."""
    if math.isinf(best):
        return 1.0 if best < 0 else 0.0
    shortfall = max(0.0, target - best)
    if spread:
        z = (best - target) / spread
        shortfall = max(0.0, spread * _normal_density(z) + (target - best) * (1 - _normal_cdf(z)))
    return shortfall / target if start is not None else shortfall / (shortfall + (abs(target) or 1.0))


def _normal_cdf(z: float) -> float:
    return math.erfc(-z / math.sqrt(2)) / 2


def _normal_density(z: float) -> float:
    return math.exp(-z * z / 2) / math.sqrt(2 * math.pi) if math.isfinite(z) else 0.0


def best(scores: Sequence[float]) -> tuple[int, float] | None:
    """Return the epoch of the highest score, and that score.

    Defined here as the first epoch of the highest finite a(e).

    Args:
        scores: scores of epochs 1, 2, 3, ...; shape (epochs,).

    Returns:
        The epoch, 1-based, and its score; None where no score is finite.

    >>> best([0.5, 0.75, 0.75])
    (2, 0.75)
    """
    finite = [(epoch, a) for epoch, a in enumerate(scores, start=1) if math.isfinite(a)]
    return max(finite, key=lambda item: item[1], default=None)  # max returns the first of equal items


def _check_target(target: float) -> None:
    if not math.isfinite(target):
        raise ValueError(f"target = {target!r}: expected a finite number")


DEFAULT = Objective()
"""The objective of a study that says nothing of it."""
