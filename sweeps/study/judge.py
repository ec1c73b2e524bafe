"""Asks a study's stopping rules which trials they stop or revive, and keeps the curves that the rules compare."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from resnet_core import code
from resnet_core.own_config import Config
from resnet_core.records import Outcome
from search_spaces.space import coordinates, has_all, longest_horizon
from search_spaces.spec import StudySpec
from sweeps.errors import SweepError
from sweeps.study.outcomes import Result, Stop
from sweeps.study.ranking import configuration_of, noise_of, validation_images
from sweeps.study.stopping.base import Curve, Progress, StoppingRule, StudyState
from sweeps.study.stopping.rules import group_of, rule_modes, rules_of
from sweeps.study.trials import ActiveTrial, Job


def may_go_on(spec: StudySpec, result: Result) -> bool:
    """Return whether a trial that ended may be revived later by the rule that stopped it."""
    if not spec.stopping.freeze or result.outcome is not Outcome.PRUNED:
        return False
    return any(rule.revives and rule.name == result.stopped_by for rule in rules_of(spec))


class Judge:
    """The stopping rules of a study, and the curves of all its trials that they compare.

    Args:
        spec: the study.
    """

    def __init__(self, spec: StudySpec) -> None:
        self._spec = spec
        self._rules, self._modes = rules_of(spec), rule_modes(spec)
        self.longest_horizon = longest_horizon(spec)
        """Epochs of the study's longest schedule."""
        self._curves: dict[int, Curve] = {}  # by trial number; trials that run, wait or have ended
        self._ended: dict[int, tuple[Config, Result]] = {}  # by trial number: its configuration and result
        self._noises: dict[int | None, float] = {}  # by number of validation images; emptied when a trial ends

    def coordinates(self, job: Job) -> Sequence[float]:
        """Return a trial's position in the study's space; empty where the trial lacks a parameter of the space."""
        return coordinates(self._spec, job.params) if has_all(self._spec, job.params) else ()

    def see(self, job: Job, values: Sequence[float], outcome: Outcome | None = None) -> None:
        """Store the curve of a trial, given the values of the study's metric.

        A curve shorter than the known one is ignored: its epochs were seen before.
        """
        known = self._curves.get(job.number)
        if outcome is not None or known is None or len(values) > len(known.scores):
            group = group_of(self._spec, job.config, job.params)
            where = self.coordinates(job) if known is None else known.coordinates
            self._curves[job.number] = Curve(
                self._spec.objective.scores(values), job.config.horizon, outcome, group, where
            )

    def end(self, job: Job, result: Result) -> None:
        """Store the result of a trial that ended."""
        self._ended[job.number] = (configuration_of(job.config), result)
        self._noises.clear()
        if result.outcome is Outcome.CRASHED:
            self._curves.pop(job.number, None)  # it is tried again as another trial, with the same curve
        else:
            self.see(job, result.values, result.outcome)

    def reopen(self, job: Job) -> None:
        """Treat a trial that had ended as running again."""
        _, ended = self._ended.pop(job.number)
        del self._curves[job.number]
        self._noises.clear()
        self.see(job, ended.values)

    def stop(self, trial: ActiveTrial) -> Stop | None:
        """Ask the rules about a trial after an epoch; return the decision of the first rule that stops it.

        Each rule is asked until it has said stop once; ``trial.would_stop`` keeps the epoch. A rule in shadow stops
        nothing, and no rule stops a control trial. Once a rule has stopped the trial, the other active rules are not
        asked.
        """
        state, stop = self._state(trial.job.config, trial.job.number), None
        for rule in self._rules:
            active = self._modes[rule.name] == "active" and not trial.control
            if rule.name in trial.would_stop or (active and stop is not None):
                continue
            reason = _reason(rule, trial.progress, state)
            if reason is not None:
                trial.would_stop[rule.name] = len(trial.records)
                stop = Stop(rule.name, reason) if active else stop
        return stop

    def revived(self, frozen: Mapping[int, Job]) -> Iterable[int]:
        """Yield the numbers of the trials that a rule stopped and that the same rule now lets go on.

        Args:
            frozen: the trials that may go on, by number.
        """
        for rule in self._rules:
            stopped = [number for number in sorted(frozen) if self._ended[number][1].stopped_by == rule.name]
            if stopped:
                state = self._state(frozen[stopped[0]].config)
                yield from (
                    stopped[i] for i in rule.trials_to_revive([self._curves[number] for number in stopped], state)
                )

    def noise(self, config: Config) -> float:
        """Return the standard deviation of a run's metric between seeds, estimated from the ended trials."""
        images = validation_images(config)
        if images not in self._noises:
            self._noises[images] = noise_of(self._spec, self._ended.values(), images)
        return self._noises[images]

    def _state(self, config: Config, judged: int | None = None) -> StudyState:
        """Return the study as rules see it, without the trial that is judged."""
        objective = self._spec.objective
        curves = [curve for number, curve in self._curves.items() if number != judged]
        target = objective.target_score
        crossings = (curve.epochs_to_target(target) for curve in curves)
        reached = sorted(epochs for epochs in crossings if epochs is not None)
        noise = self.noise(config)
        return StudyState(target, objective.sustained, reached, curves, self.longest_horizon, noise, objective.start)


def _reason(rule: StoppingRule, progress: Progress, state: StudyState) -> str | None:
    """Ask a rule about a trial.

    Raises:
        SweepError: a rule of the user's own fails, or returns neither a text nor None.
    """
    try:
        with code.not_exiting():
            reason: object = rule.reason_to_stop(progress, state)
    except Exception as error:
        if not code.is_users(error):
            raise
        raise SweepError(f"stopping rule {rule.name}: {code.describe(error)}") from error
    if reason is not None and not isinstance(reason, str):
        expected = "the reason why the trial ends, a text, or None where it goes on"
        raise SweepError(f"stopping rule {rule.name}: reason_to_stop has returned {reason!r:.100}; expected {expected}")
    return reason
