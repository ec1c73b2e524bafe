"""Ends a trial whose configuration has little chance to be among the best, by all that the study has seen."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from pydantic import Field

from resnet_core.records import Outcome
from sweeps.study.stopping.base import Curve, Progress, StoppingRule, StudyState

_MOST = 128  # trials that are looked at together: it takes their cube of time
_REVIVED = 2.0  # times the limit that the chance of an ended trial must have come to, so that few go to and fro

_Place = tuple[float, ...]


class Forecast(StoppingRule):
    """Ends a trial whose configuration has little chance to be among the ``best`` of the study.

    A Gaussian process (`analysis.statistics.surrogate`) tells from the trials that have ended what a configuration's
    objective is expected to be, by where it lies in the study's space. The chance is the probability that the
    expectation of the trial's configuration is below that of the one that is expected to be ``best``-th: of a
    configuration, not of a run, since a good one may have bad luck. Of the trial's own epochs only that it has not
    reached the target enters: taking in its accuracy so far ended more of the best without saving more
    (docs/stopping.md).

    A miss counts as the study's longest schedule, and so does what diverged. A trial that was ended below the target
    says only what it could have come to at best. It counts with that where it is no better than the ``best``-th run,
    and not at all where nobody knows. Without a space the rule says nothing.

    Attributes:
        chance: probability below which a trial is ended.
        best: of so many configurations it would have to be one.
        trials: so many configurations must have run to their end or to the target.
    """

    name = "forecast"
    order = 40
    revives = True

    chance: float = Field(default=0.05, gt=0, lt=1)
    best: int = Field(default=5, ge=1)
    trials: int = Field(default=10, ge=3)

    def never_revives_where(self) -> str:
        """Return why no chance can be as high as a revival takes."""
        return "forecast.chance is 0.5 or more: none is twice that" if _REVIVED * self.chance >= 1 else ""

    def reason_to_stop(self, trial: Progress, study: StudyState) -> str | None:
        """Stop a trial below the target whose configuration is hardly among the best."""
        if not trial.place or trial.curve.epochs_to_target(study.target) is not None:
            return None
        known = self._known(study)
        if known is None:
            return None
        (chance,), (expected,), bar = self._chances(known[0], [tuple(trial.place)])
        if chance >= self.chance:
            return None
        among = "the best" if self.best == 1 else f"the best {self.best}"
        return (
            f"stopped at epoch {trial.epoch}: {chance:.0%} chance to be among {among} (expected {expected:.1f} epochs, "
            f"{'best' if self.best == 1 else f'number {self.best}'} {bar:.1f})"
        )

    def revived(self, ended: Sequence[Curve], study: StudyState) -> list[int]:
        """Return the trials whose configuration has twice the chance below which it is ended, by what is known now.

        One that could not be as fast as the ``best``-th run any more is not among them.
        """
        found = self._known(study) if ended else None
        if found is None:
            return []
        told, bar = found
        could = [i for i, curve in enumerate(ended) if curve.place and _at_best(curve, study) < bar]
        chances = self._chances(told, [tuple(ended[i].place) for i in could])[0] if could else ()
        return [i for i, chance in zip(could, chances, strict=True) if chance >= _REVIVED * self.chance]

    def _chances(
        self, told: list[tuple[_Place, float]], places: Sequence[_Place]
    ) -> tuple[Sequence[float], Sequence[float], float]:
        """Return the chance of each place and its expected epochs, and the expected epochs of the last of the best."""
        if len(told) > _MOST:
            told = _chosen(told, places, 2 * self.best)
        return _forecast(tuple(told), tuple(places), self.best)

    def _known(self, study: StudyState) -> tuple[list[tuple[_Place, float]], float] | None:
        """Return what ended trials tell, and the epochs of the ``best``-th run; None while that is little.

        It is told as places and epochs, in one order whatever theirs.
        """
        ended = [curve for curve in study.curves if curve.outcome is not None and curve.place]
        known = [(tuple(curve.place), _value(curve, study)) for curve in ended if curve.outcome is not Outcome.PRUNED]
        if len({place for place, _ in known}) < max(self.trials, self.best):
            return None
        bar = sorted(value for _, value in known)[self.best - 1]
        for curve in ended:
            if curve.outcome is Outcome.PRUNED:
                at_best = _at_best(curve, study)
                if at_best >= bar:
                    known.append((tuple(curve.place), min(study.longest, at_best)))
        return sorted(known), bar


def _at_best(curve: Curve, study: StudyState) -> float:
    return curve.objective_at_least(study.target, study.longest, study.noise)


def _value(curve: Curve, study: StudyState) -> float:
    if curve.outcome is Outcome.DIVERGED:
        return study.longest
    return min(study.longest, curve.objective(study.target, study.longest, study.noise))


def _chosen(told: list[tuple[_Place, float]], places: Sequence[_Place], fastest: int) -> list[tuple[_Place, float]]:
    """Return the trials that matter most to places: the fastest, and beside them those that are nearest to any."""
    by_value = sorted(told, key=lambda one: (one[1], one[0]))
    others = sorted(by_value[fastest:], key=lambda one: (*min(_apart(one[0], place) for place in places), one[1]))
    return sorted([*by_value[:fastest], *others[: max(0, _MOST - fastest)]])


def _apart(one: _Place, other: _Place) -> tuple[float, _Place]:
    """Return the square of a distance, and the place: of two that are as far, the same is always the nearer."""
    return sum((a - b) ** 2 for a, b in zip(one, other, strict=True)), one


@lru_cache(maxsize=256)  # between two ends of trials nothing changes
def _forecast(
    told: tuple[tuple[_Place, float], ...], places: tuple[_Place, ...], best: int
) -> tuple[list[float], list[float], float]:
    """Return of places the chance to be among the best and the expected epochs, and those of the last of the best."""
    import numpy as np  # a tenth of a second, which reading a study file does without

    from analysis.statistics.surrogate import posterior

    index = {where: i for i, where in enumerate(dict.fromkeys(where for where, _ in told))}
    runs, values = [index[where] for where, _ in told], [value for _, value in told]
    known, count = posterior(np.array([*index, *places]), runs, values), len(index)
    last = int(np.argsort(known.mean[:count], kind="stable")[best - 1])
    chances = [known.chance_lower(count + i, last) for i in range(len(places))]
    return chances, [float(mean) for mean in known.mean[count:]], float(known.mean[last])
