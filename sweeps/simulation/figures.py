"""The figures of a simulated study: the totals of one repeat, and their spread over the repeats."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, median, stdev
from typing import Any

from resnet_core.records import duration_text
from sweeps.simulation.picks import Pick
from sweeps.simulation.replay import SimulatedTrial


@dataclass(frozen=True)
class Totals:
    """The totals of one simulated study.

    Attributes:
        trials: number of trials it ran.
        reached: number of trials that reached the target.
        epochs: number of epochs it trained.
        gpu_hours: hours of GPU time; a trial that shares a GPU counts for its share. For trials without a GPU, hours of
            a trial's place.
        hours: from the start of the first trial to the end of the last trial.
        hours_to_best: from the start of the first trial to the moment at which a trial reached the target in
            ``best_epochs_to_target`` epochs; None if no trial reached it.
        best_epochs_to_target: fewest epochs to target of a trial; None if no trial reached it.
    """

    trials: int
    reached: int
    epochs: int
    gpu_hours: float
    hours: float
    hours_to_best: float | None
    best_epochs_to_target: int | None


def totals_of(trials: Sequence[SimulatedTrial], per_gpu: int) -> Totals:
    """Return the totals of a simulated study's trials; ``per_gpu`` of them shared a GPU."""
    crossings = [
        (epochs, trial.epoch_ends[epochs - 1])
        for trial in trials
        if (epochs := trial.result.epochs_to_target) is not None
    ]
    fewest, first = min(crossings, default=(None, None))
    return Totals(
        trials=len(trials),
        reached=len(crossings),
        epochs=sum(trial.result.epochs_run for trial in trials),
        gpu_hours=math.fsum(trial.seconds for trial in trials) / per_gpu / 3600,
        hours=max(trial.ended for trial in trials) / 3600,
        hours_to_best=None if first is None else first / 3600,
        best_epochs_to_target=fewest,
    )


@dataclass(frozen=True)
class Range:
    """The median, lowest and highest value of a figure over the repeats; None if no repeat has a value."""

    median: float | None
    low: float | None
    high: float | None

    @classmethod
    def of(cls, values: Sequence[float | None]) -> Range:
        """Return the range of the values that are neither None nor NaN."""
        known = [value for value in values if value is not None and not math.isnan(value)]
        return cls(median(known), min(known), max(known)) if known else cls(None, None, None)

    def shown(self, figure: str) -> str:
        """Return it as text for people; ``figure`` is its name, which says where it is a time in hours."""
        if self.median is None or self.low is None or self.high is None:
            return "-"
        short = _hours if "hours" in figure else _short
        if self.low == self.high:
            return short(self.median)
        return f"{short(self.median)} ({short(self.low)}..{short(self.high)})"


def _hours(value: float) -> str:
    return duration_text(3600 * value)


def _short(value: float) -> str:
    return f"{value:.0f}" if value == round(value) or abs(value) >= 100 else f"{value:.3g}"


@dataclass(frozen=True)
class Mean:
    """A mean over the repeats with its 95 % interval by Student's t; a single repeat has no interval."""

    value: float
    low: float | None
    high: float | None

    @classmethod
    def of(cls, values: Sequence[float], highest: float = math.inf, lowest: float = 0.0) -> Mean | None:
        """Return the mean of values that lie between ``lowest`` and ``highest``; None if there are no values.

        >>> print(Mean.of([20.0, 22.0, 24.0]))
        22.00 [17.03, 26.97]
        """
        from scipy.special import stdtrit

        if not values:
            return None
        mean, count = fmean(values), len(values)
        if count == 1:
            return cls(mean, None, None)
        half = float(stdtrit(count - 1, 0.975)) * stdev(values) / math.sqrt(count)
        return cls(mean, max(lowest, mean - half), min(highest, mean + half))

    def __str__(self) -> str:
        return f"{self.value:.2f}" if self.low is None else f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


@dataclass(frozen=True)
class PickSummary:
    """The true quality of one method's picks, over the repeats.

    Attributes:
        picks: number of repeats in which the method named a configuration.
        observed: mean epochs to target of the runs that led to the picks, without runs that missed the target.
        true_rmst: mean, over the picks, of the restricted mean epochs to target.
        true_share: mean share of the picks' runs that reach the target.
        true_ert: median, over the picks, of the epochs spent for each run that reaches the target; infinite if half of
            the picks never reach it.
        true_best: without a target: mean, over the picks, of the mean best value of their runs.
        better_than_random: share of the repeats in which the pick's restricted mean is lower than that of the random
            method's pick; ties count half. None for the random method, and if that was not simulated.
        better_than_first: the same, compared with the settings with which the study begins.
    """

    picks: int
    observed: Mean | None
    true_rmst: Mean | None
    true_share: Mean | None
    true_ert: float | None
    true_best: Mean | None
    better_than_random: float | None
    better_than_first: float | None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values; a Mean becomes ``value``, ``low`` and ``high``."""
        ert = self.true_ert
        return {**asdict(self), "true_ert": None if ert is None or not math.isfinite(ert) else ert}


def summarise_picks(repeats: Sequence[Mapping[str, Pick | None]]) -> dict[str, PickSummary]:
    """Return the quality of the picks of each method.

    Args:
        repeats: for each repeat, the picks by method; None if a method named no configuration.
    """
    return {method: _summary(method, repeats) for method in repeats[0]}


def _summary(method: str, repeats: Sequence[Mapping[str, Pick | None]]) -> PickSummary:
    known = [pick for repeat in repeats if (pick := repeat[method]) is not None]

    def better_than(other: str) -> float | None:
        against = [pick for repeat in repeats if (pick := repeat.get(other)) is not None]
        if method == other or not len(known) == len(against) == len(repeats):
            return None
        pairs = [(mine.truth.rank, theirs.truth.rank) for mine, theirs in zip(known, against, strict=True)]
        return fmean((mine < theirs) + (mine == theirs) / 2 for mine, theirs in pairs)

    aimed = [pick for pick in known if not math.isnan(pick.truth.rmst)]
    return PickSummary(
        picks=len(known),
        observed=Mean.of([float(pick.observed) for pick in known if pick.observed is not None]),
        true_rmst=Mean.of([pick.truth.rmst for pick in aimed]),
        true_share=Mean.of([pick.truth.share for pick in aimed], highest=1.0),
        true_ert=median(pick.truth.ert for pick in aimed) if aimed else None,
        true_best=Mean.of([pick.truth.mean_best for pick in known if pick not in aimed], lowest=-math.inf),
        better_than_random=better_than("random"),
        better_than_first=better_than("first"),
    )
