"""The base class of stopping rules, and the data that a rule gets: a trial, and the study's other trials."""

from __future__ import annotations

import abc
import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Annotated

from pydantic import Field

from resnet_core.objective import DEFAULT, Objective, first_crossing, objective
from resnet_core.own_config import Config
from resnet_core.records import EpochRecord, Outcome, metric_curve
from search_spaces.plugins import RuleSettings

SMOOTHED_OVER = 3
"""Rules that rank trials use the mean score of this number of last epochs."""

Share = Annotated[float, Field(gt=0, lt=1)]
"""Type of a setting: a share of each trial's own schedule, in (0, 1)."""

_EXACT = 1e-9  # decimal fractions are not exact: 0.3 of 10 epochs are 3


@dataclass(frozen=True)
class Curve:
    """The scores of one trial, ended or running.

    A score is a value of the study's metric, negative where the metric should fall: a higher score is always better
    (`resnet_core.objective.Objective`). Rules compare trials at the same share of each trial's own schedule, never at
    the same epoch.

    Attributes:
        scores: scores of epochs 1, 2, …; NaN where one is not known; shape (epochs,).
        horizon: epochs of the trial's schedule.
        outcome: how the trial ended; None while it runs.
        group: its value of the field or parameter by which a rule groups trials; None where no rule does.
        coordinates: its position in the study's space, see `search_spaces.space.coordinates`; empty without a space.
    """

    scores: Sequence[float]
    horizon: int
    outcome: Outcome | None = None
    group: Hashable = None
    coordinates: Sequence[float] = ()

    def epochs_to_target(self, target: float | None) -> int | None:
        """Return the first epoch at or above a score; None if there is none, no target, or the trial diverged."""
        if target is None or self._highest < target or self.outcome is Outcome.DIVERGED:
            return None
        return first_crossing(self.scores, target)

    def objective(self, study: StudyState) -> float:
        """Return the number that the sampler minimises, for the curve so far; the study must have a target."""
        asked = (study.target, study.longest, study.noise)
        if asked not in self._objectives:
            self._objectives[asked] = self._objective_of(self.scores, study)
        return self._objectives[asked]

    def lowest_objective(self, study: StudyState) -> float:
        """Return the objective for the best score from the next epoch on: the lowest that is still possible.

        The best score is 1 for an accuracy, else infinite.
        """
        return self._objective_of([*self.scores, 1.0 if study.start is not None else math.inf], study)

    @staticmethod
    def _objective_of(scores: Sequence[float], study: StudyState) -> float:
        assert study.target is not None
        return objective(scores, study.target, study.longest, study.noise, study.start)

    @cached_property
    def smoothed(self) -> list[float]:
        """For each epoch, the mean score of the last three epochs, fewer at the start.

        NaN is left out; where all are NaN, the mean is NaN.
        """
        scores = self.scores
        return [_mean(scores[max(0, end - SMOOTHED_OVER) : end]) for end in range(1, len(scores) + 1)]

    @cached_property
    def best_smoothed(self) -> list[float]:
        """For each epoch, the highest value of ``smoothed`` so far; minus infinity while all are NaN."""
        return list(accumulate(self.smoothed, lambda best, new: new if new > best else best, initial=-math.inf))[1:]

    @cached_property
    def averages(self) -> list[float]:
        """For each epoch, the mean score of all epochs so far, NaN left out; NaN where all are NaN."""
        return [_mean(self.scores[:end]) for end in range(1, len(self.scores) + 1)]

    @cached_property
    def _objectives(self) -> dict[tuple[float | None, float, float], float]:
        return {}

    @cached_property
    def _highest(self) -> float:
        return max((score for score in self.scores if not math.isnan(score)), default=-math.inf)


@dataclass(frozen=True)
class Progress:
    """The trial that a rule judges, after an epoch.

    Attributes:
        config: the trial's configuration.
        records: its epochs so far, 1, 2, …; at least one.
        group: as in `Curve`.
        coordinates: as in `Curve`.
        objective: what the study looks for.
    """

    config: Config
    records: Sequence[EpochRecord]
    group: Hashable = None
    coordinates: Sequence[float] = ()
    objective: Objective = DEFAULT

    @property
    def epoch(self) -> int:
        """Number of epochs trained."""
        return len(self.records)

    @property
    def share(self) -> float:
        """Epochs trained as a share of the trial's own schedule, in (0, 1]."""
        return self.epoch / self.config.horizon

    @property
    def values(self) -> list[float]:
        """Values of the study's metric in epochs 1, 2, …; NaN where it was not measured."""
        return metric_curve(self.records, self.objective.metric)

    @property
    def scores(self) -> list[float]:
        """Scores of epochs 1, 2, …, as in `Curve`."""
        return self.objective.scores(self.values)

    def shown(self, score: float) -> str:
        """Return a score as the text of the metric's value.

        A score that is not known is that of an untrained run, or else ``none``.
        """
        if not math.isfinite(score) and self.objective.start is not None:
            score = self.objective.start
        return self.objective.shown(self.objective.score(score)) if math.isfinite(score) else "none"

    @property
    def curve(self) -> Curve:
        """The trial in the form in which `StudyState` holds the other trials."""
        return Curve(self.scores, self.config.horizon, None, self.group, self.coordinates)


@dataclass(frozen=True)
class StudyState:
    """The study around the trial that a rule judges.

    Attributes:
        target: score to reach; None without a target.
        sustained: number of epochs in a row at or above the target after which it is sustained.
        epochs_to_target: of every other trial that reached the target so far, running ones too; in rising order.
        curves: of every other trial, ended or running, in no particular order; crashed trials are left out.
        longest: epochs of the study's longest schedule; 0 where that is not known.
        noise: estimated standard deviation of a run's score between seeds.
        start: score before the first epoch, see `resnet_core.objective.Objective.start`.
    """

    target: float | None
    sustained: int
    epochs_to_target: Sequence[int]
    curves: Sequence[Curve] = ()
    longest: int = 0
    noise: float = 0.0
    start: float | None = 0.0


class StoppingRule(RuleSettings, abc.ABC):
    """Decides after each epoch of a trial whether to end the trial, and why.

    A rule is a frozen pydantic model: its fields are the settings in the study file. It remembers nothing between
    epochs. Its answer depends on its arguments alone, so a resumed study decides like one that was never interrupted.

    >>> class TooSlow(StoppingRule):
    ...     \"\"\"Ends a trial after a number of epochs.
    ...
    ...     Attributes:
    ...         epochs: number of epochs after which a trial ends.
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
        """Return why the trial should end now, in one line for people; None to let it go on."""

    def trials_to_revive(self, ended: Sequence[Curve], study: StudyState) -> list[int]:  # noqa: ARG002
        """Return the indices of ended trials that should go on after all; called only if the rule ``revives``.

        Args:
            ended: curves of the trials that this rule ended.
            study: the study with all its curves, including those in ``ended``.
        """
        return []


def first_epoch_at(share: float, horizon: int) -> int:
    """Return the first epoch, at least 1, at whose end this share of the schedule is trained."""
    return max(1, math.ceil(share * horizon - _EXACT))


def last_epoch_by(share: float, horizon: int) -> int:
    """Return the number of epochs that end within this share of the schedule; 0 if the first ends later."""
    return math.floor(share * horizon + _EXACT)


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return math.fsum(known) / len(known) if known else math.nan


def smoothed_over(epoch: int) -> str:
    """Return in words over how many epochs a score is smoothed at an epoch; the first epochs have fewer before them.

    >>> [smoothed_over(epoch) for epoch in (1, 2, 3, 9)]
    ['over one epoch', 'over two epochs', 'over three epochs', 'over three epochs']
    """
    number = min(epoch, SMOOTHED_OVER)
    return f"over {('one', 'two', 'three')[number - 1]} epoch{'s' * (number > 1)}"
