"""Ends a trial whose configuration has little chance to be among the best, judged by all trials of the study."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from pydantic import Field

from resnet_core.records import Outcome
from sweeps.study.stopping.base import Curve, Progress, StoppingRule, StudyState

_MOST = 128  # trials in one Gaussian process: its time grows with the cube of their number
_REVIVAL = 2.0  # factor on ``chance`` above which a trial is revived; above 1, so that few trials are ended again

_Point = tuple[float, ...]
"""Coordinates of a configuration."""
_Known = tuple[_Point, float]
"""Coordinates of a trial, and its objective in epochs."""


class Forecast(StoppingRule):
    """Ends a trial whose configuration has little chance to be among the ``best`` of the study.

    A Gaussian process over the study's space (`analysis.statistics.surrogate`) predicts the objective of a
    configuration from the trials that have ended. The chance is the probability that the expected objective of the
    trial's configuration is below that of the configuration expected to be ``best``-th. The rule judges the
    configuration and not the run: a good configuration may have a bad run. It uses the trial's own epochs only to check
    that the target is not reached. A rule that also used the accuracy so far ended more of the best trials without
    saving more (docs/stopping.md).

    A trial that missed the target, or diverged, counts as the study's longest schedule. For a trial that was ended
    below the target, the best objective that it could still have reached is computed. The trial counts with it if it is
    no better than that of the ``best``-th run; otherwise the trial does not count. The rule ends nothing in a study
    without a space.

    Attributes:
        chance: probability below which a trial is ended.
        best: number of best configurations: the chance is that of being one of them.
        trials: the smallest number of configurations that must have run to their end or to the target before any
            trial is ended.
    """

    name = "forecast"
    order = 40
    needs_target = True
    revives = True
    predictive = True

    chance: float = Field(default=0.05, gt=0, lt=1)
    best: int = Field(default=5, ge=1)
    trials: int = Field(default=10, ge=3)

    def why_idle(self, trials: int, longest: int, *, has_space: bool) -> str:  # noqa: ARG002
        """Return that the study has too few configurations, or no space; else an empty text."""
        if not has_space:
            return "it judges configurations by a [space], and the study has none"
        needed = max(self.trials, self.best)
        return f"it waits until {needed} configurations have been tried" if trials <= needed else ""

    def why_never_revives(self) -> str:
        """Return why no trial is revived, naming ``chance``; empty where trials may be revived."""
        return "forecast.chance is 0.5 or more: none is twice that" if _REVIVAL * self.chance >= 1 else ""

    def reason_to_stop(self, trial: Progress, study: StudyState) -> str | None:
        """Stop a trial below the target whose configuration is unlikely to be among the best."""
        if not trial.coordinates or trial.curve.epochs_to_target(study.target) is not None:
            return None
        found = self._known(study)
        if found is None:
            return None
        (chance,), (expected,), bar = self._chances(found[0], [tuple(trial.coordinates)])
        if chance >= self.chance:
            return None
        among = "the best" if self.best == 1 else f"the best {self.best}"
        return (
            f"stopped at epoch {trial.epoch}: {chance:.0%} chance to be among {among} (expected {expected:.1f} epochs, "
            f"{'best' if self.best == 1 else f'number {self.best}'} {bar:.1f})"
        )

    def trials_to_revive(self, ended: Sequence[Curve], study: StudyState) -> list[int]:
        """Return the indices of trials whose configuration now has at least twice ``chance``.

        Trials that can no longer be as fast as the ``best``-th run are left out.
        """
        found = self._known(study) if ended else None
        if found is None:
            return []
        known, bar = found
        fast = [i for i, curve in enumerate(ended) if curve.coordinates and curve.lowest_objective(study) < bar]
        chances = self._chances(known, [tuple(ended[i].coordinates) for i in fast])[0] if fast else ()
        return [i for i, chance in zip(fast, chances, strict=True) if chance >= _REVIVAL * self.chance]

    def _chances(self, known: list[_Known], points: Sequence[_Point]) -> tuple[Sequence[float], Sequence[float], float]:
        """Return the chance and the expected epochs of each point, and the expected epochs of the ``best``-th."""
        if len(known) > _MOST:
            known = _most_informative(known, points, 2 * self.best)
        return _forecast(tuple(known), tuple(points), self.best)

    def _known(self, study: StudyState) -> tuple[list[_Known], float] | None:
        """Return the known objectives, sorted, and the epochs of the ``best``-th run; None if too few trials ended.

        The result does not depend on the order of the study's trials.
        """
        ended = [curve for curve in study.curves if curve.outcome is not None and curve.coordinates]
        known = [(tuple(c.coordinates), _objective(c, study)) for c in ended if c.outcome is not Outcome.PRUNED]
        if len({point for point, _ in known}) < max(self.trials, self.best):
            return None
        bar = sorted(value for _, value in known)[self.best - 1]
        for curve in ended:
            if curve.outcome is Outcome.PRUNED:
                lowest = curve.lowest_objective(study)
                if lowest >= bar:
                    known.append((tuple(curve.coordinates), min(study.longest, lowest)))
        return sorted(known), bar


def _objective(curve: Curve, study: StudyState) -> float:
    if curve.outcome is Outcome.DIVERGED:
        return study.longest
    return min(study.longest, curve.objective(study))


def _most_informative(known: list[_Known], points: Sequence[_Point], fastest: int) -> list[_Known]:
    """Return the ``fastest`` fastest trials, and those of the others that are nearest to any of the points."""
    by_value = sorted(known, key=lambda trial: (trial[1], trial[0]))
    others = sorted(
        by_value[fastest:], key=lambda trial: (*min(_distance(trial[0], point) for point in points), trial[1])
    )
    return sorted([*by_value[:fastest], *others[: max(0, _MOST - fastest)]])


def _distance(one: _Point, other: _Point) -> tuple[float, _Point]:
    """Return the squared distance, and the first point as a tie-breaker between equal distances."""
    return sum((a - b) ** 2 for a, b in zip(one, other, strict=True)), one


@lru_cache(maxsize=256)  # the answer changes only when a trial ends
def _forecast(
    known: tuple[_Known, ...], points: tuple[_Point, ...], best: int
) -> tuple[list[float], list[float], float]:
    """Return each point's chance to be among the best and its expected epochs, and those of the ``best``-th."""
    import numpy as np  # its import takes a tenth of a second, and reading a study file does not need it

    from analysis.statistics.surrogate import posterior

    index = {point: i for i, point in enumerate(dict.fromkeys(point for point, _ in known))}
    runs, values = [index[point] for point, _ in known], [value for _, value in known]
    predicted, count = posterior(np.array([*index, *points]), runs, values), len(index)
    last = int(np.argsort(predicted.mean[:count], kind="stable")[best - 1])
    chances = [predicted.chance_lower(count + i, last) for i in range(len(points))]
    return chances, [float(mean) for mean in predicted.mean[count:]], float(predicted.mean[last])
