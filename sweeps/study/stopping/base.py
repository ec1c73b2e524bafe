"""What a stopping rule sees, and what it answers."""

from __future__ import annotations

import abc
import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Annotated

from pydantic import Field

from resnet_core.config import TrialConfig
from resnet_core.objective import first_crossing, objective
from resnet_core.records import EpochRecord, Outcome
from search_spaces.plugins import RuleSettings

SMOOTHED_OVER = 3
"""Rules that rank trials look at the mean validation accuracy of so many epochs, the last ones."""

Share = Annotated[float, Field(gt=0, lt=1)]
"""A setting: a share of each trial's own schedule."""

_EXACT = 1e-9  # decimal fractions are not exact: 0.3 of 10 epochs are 3


@dataclass(frozen=True)
class Curve:
    """The validation accuracies of one trial, ended or running.

    Epochs of curves are compared at the same share of each trial's own schedule, never at the same epoch.

    Attributes:
        val_accs: validation accuracy of epochs 1, 2, …, each in [0, 1] or NaN; shape (epochs,).
        horizon: epochs the trial lasts when nothing stops it.
        outcome: how it ended; None while it runs.
        group: its value of what the study caps by; None where it caps all trials together.
        place: where its parameters lie in the study's space, see `search_spaces.space.coordinates`; empty without one.
    """

    val_accs: Sequence[float]
    horizon: int
    outcome: Outcome | None = None
    group: Hashable = None
    place: Sequence[float] = ()

    def epochs_to_target(self, target: float) -> int | None:
        """Return the first epoch at or above the target; None if never, or where the trial diverged."""
        if self._highest < target or self.outcome is Outcome.DIVERGED:
            return None
        return first_crossing(self.val_accs, target)

    def objective(self, target: float, longest: float, noise: float) -> float:
        """Return the number that the sampler minimises, as far as the curve goes; see `resnet_core.objective`."""
        asked = (target, longest, noise)
        if asked not in self._objectives:
            self._objectives[asked] = objective(self.val_accs, target, longest, noise)
        return self._objectives[asked]

    def objective_at_least(self, target: float, longest: float, noise: float) -> float:
        """Return what that number would be if every epoch from now on were without an error: it cannot be lower."""
        return objective([*self.val_accs, 1.0], target, longest, noise)

    @cached_property
    def smoothed(self) -> list[float]:
        """After each epoch, the mean of the last three (of fewer at the start), NaN left out; NaN of none."""
        val_accs = self.val_accs
        return [_mean(val_accs[max(0, end - SMOOTHED_OVER) : end]) for end in range(1, len(val_accs) + 1)]

    @cached_property
    def best_smoothed(self) -> list[float]:
        """After each epoch, the highest of ``smoothed`` so far; minus infinity while there is none."""
        return list(accumulate(self.smoothed, lambda best, new: new if new > best else best, initial=-math.inf))[1:]

    @cached_property
    def averages(self) -> list[float]:
        """After each epoch, the mean of all epochs so far, NaN left out; NaN of none."""
        return [_mean(self.val_accs[:end]) for end in range(1, len(self.val_accs) + 1)]

    @cached_property
    def _objectives(self) -> dict[tuple[float, float, float], float]:
        return {}

    @cached_property
    def _highest(self) -> float:
        return max((val_acc for val_acc in self.val_accs if not math.isnan(val_acc)), default=-math.inf)


@dataclass(frozen=True)
class Progress:
    """One trial after an epoch.

    Attributes:
        config: what it trains.
        records: its epochs so far, 1, 2, …; at least one.
        group: its value of what the study caps by; None where it caps all trials together.
        place: where its parameters lie in the study's space; empty without one.
    """

    config: TrialConfig
    records: Sequence[EpochRecord]
    group: Hashable = None
    place: Sequence[float] = ()

    @property
    def epoch(self) -> int:
        """Epochs done."""
        return len(self.records)

    @property
    def share(self) -> float:
        """Epochs done as a share of the trial's own schedule, in (0, 1]."""
        return self.epoch / self.config.horizon

    @property
    def val_accs(self) -> list[float]:
        """Validation accuracy of epochs 1, 2, …"""
        return [record.val_acc for record in self.records]

    @property
    def curve(self) -> Curve:
        """The trial as others are seen."""
        return Curve(self.val_accs, self.config.horizon, None, self.group, self.place)


@dataclass(frozen=True)
class StudyState:
    """Where the study stands, as one trial is judged.

    Attributes:
        target: validation accuracy to reach.
        sustained: so many epochs in a row count as sustained.
        epochs_to_target: of every other trial that reached the target so far, running ones too; rising.
        curves: of every other trial, ended or running, in no order; none of those that crashed.
        longest: epochs of the study's longest schedule; 0 where that is not known.
        noise: standard deviation of a run's validation accuracy between seeds, as far as the study tells.
    """

    target: float
    sustained: int
    epochs_to_target: Sequence[int]
    curves: Sequence[Curve] = ()
    longest: int = 0
    noise: float = 0.0


class StoppingRule(RuleSettings, abc.ABC):
    """Looks at a trial after each of its epochs and says whether to end it, and why.

    A rule is a frozen pydantic model: its fields are the settings that a study file gives. It keeps nothing from one
    epoch to the next: its answer follows from what it is shown, so a resumed study decides as an undisturbed one.

    >>> class TooSlow(StoppingRule):
    ...     \"\"\"Ends a trial after so many epochs.
    ...
    ...     Attributes:
    ...         epochs: a trial ends after so many.
    ...     \"\"\"
    ...
    ...     name = "too_slow"
    ...     epochs: int = Field(default=10, ge=1)
    ...
    ...     def reason_to_stop(self, trial: Progress, study: StudyState) -> str | None:
    ...         if trial.epoch < self.epochs:
    ...             return None
    ...         return f"stopped at epoch {trial.epoch}: {self.epochs} epochs are used up"
    """

    @abc.abstractmethod
    def reason_to_stop(self, trial: Progress, study: StudyState) -> str | None:
        """Return why the trial should end now, in words for people, or None to let it go on."""

    def revived(self, ended: Sequence[Curve], study: StudyState) -> list[int]:  # noqa: ARG002
        """Return which of the trials that this rule ended should go on after all, by index; none unless it revives.

        Args:
            ended: their curves.
            study: where the study stands, with all its curves: theirs are among them.
        """
        return []


def first_epoch_at(share: float, horizon: int) -> int:
    """Return the first epoch after which a share of the schedule is done, at least 1."""
    return max(1, math.ceil(share * horizon - _EXACT))


def last_epoch_by(share: float, horizon: int) -> int:
    """Return the epochs done when a share of the schedule is; 0 where it ends within the first."""
    return math.floor(share * horizon + _EXACT)


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return math.fsum(known) / len(known) if known else math.nan
