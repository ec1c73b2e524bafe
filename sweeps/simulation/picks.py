"""The true quality of the configuration that a simulated study picks, and the picks of other search methods.

A search saw one run of the configuration that it picks, often a lucky run, because it is the best of many. A simulation
knows more: a model can draw any number of runs of a configuration, and a recording may hold several runs.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np
import optuna

from resnet_core.objective import Goal, Objective
from resnet_core.own_config import Config
from resnet_core.records import EpochRecord, metric_curve
from search_spaces import space
from search_spaces.spec import StudySpec
from sweeps.simulation.curve_model import CurveModel
from sweeps.simulation.curves import CurveSource, RecordedCurves, mean_weight_decay
from sweeps.simulation.replay import Begun, CurveOf, SimulatedTrial, run_in_virtual_time
from sweeps.study.ranking import best_entry, configuration_of
from sweeps.study.trials import Entry, Job

_DRAWS = 400  # runs of a configuration on a model; the standard error of its mean epochs is then about 0.4

PRUNERS: dict[str, Callable[[int], optuna.pruners.BasePruner]] = {
    "optuna-median": lambda _: optuna.pruners.MedianPruner(),
    "optuna-asha": lambda _: optuna.pruners.SuccessiveHalvingPruner(),
    "optuna-hyperband": lambda longest: optuna.pruners.HyperbandPruner(max_resource=longest),
}
"""Optuna's pruners with default settings; each function takes the number of epochs of the study's longest trial."""

METHODS = ("first", "random", *PRUNERS)
"""The other search methods that a study can be compared with."""


@dataclass(frozen=True)
class Truth:
    """The quality of a configuration over many runs.

    Attributes:
        share: share of its runs that reach the target.
        rmst: restricted mean epochs to target, up to the study's longest horizon.
        ert: epochs spent for each run that reaches the target; infinite if no run does.
        mean_best: mean of the runs' best values; NaN with a target, where the other three are not.
        goal: whether that value should rise or fall.
    """

    share: float = math.nan
    rmst: float = math.nan
    ert: float = math.nan
    mean_best: float = math.nan
    goal: Goal = "max"

    @property
    def rank(self) -> float:
        """What the quality is compared by: lower is better."""
        return self.rmst if math.isnan(self.mean_best) else -self.mean_best if self.goal == "max" else self.mean_best


@dataclass(frozen=True)
class Pick:
    """The configuration that a search names in the end.

    Attributes:
        observed: epochs to target of the run that led to the pick; None if that run missed the target.
        truth: the true quality of the configuration.
    """

    observed: int | None
    truth: Truth


def truth_of_runs(runs: Sequence[Sequence[float]], sought: Objective, budget: int) -> Truth:
    """Return the quality of a configuration, computed from its runs.

    Args:
        runs: values of the metric in epochs 1, 2, 3, … of each run; at least one run.
        sought: what the study looks for.
        budget: epochs up to which means are taken; a run that misses the target counts as ``budget``.
    """
    if sought.target is None:
        best = [found[1] for run in runs if (found := sought.best(run)) is not None]
        return Truth(mean_best=fmean(best) if best else math.nan, goal=sought.goal)
    crossings = [sought.first_crossing(run) for run in runs]
    spent = sum(len(run) if epoch is None else epoch for run, epoch in zip(runs, crossings, strict=True))
    reached = sum(epoch is not None for epoch in crossings)
    return Truth(
        share=reached / len(runs),
        rmst=sum(budget if epoch is None else epoch for epoch in crossings) / len(runs),
        ert=spent / reached if reached else math.inf,
    )


def truth_of_trial(source: CurveSource, job: Job, spec: StudySpec, seen: Collection[str]) -> Truth:
    """Return the quality of a trial's configuration, from many runs of a model or its other recorded runs.

    Args:
        source: the model or the recording. If a recording has no other runs of the configuration, its seen runs count.
        job: the trial.
        spec: the study.
        seen: names of the trials that the search saw.
    """
    sought, budget = spec.objective, space.longest_horizon(spec)
    if isinstance(source, RecordedCurves):
        wanted = configuration_of(job.config)
        runs = [other for other in source.jobs if configuration_of(other.config) == wanted]
        others = [run for run in runs if run.name not in seen] or runs
        return truth_of_runs([metric_curve(source.curves[run.name], sought.metric) for run in others], sought, budget)
    return truth_of_runs(_runs(source, job.config), sought, budget)


def _runs(model: CurveModel, config: Config) -> list[list[float]]:
    drawn = np.random.default_rng(0)  # the same noise for all compared configurations
    decay = mean_weight_decay(config)
    return [model.draw(config.schedule, decay, drawn, config.horizon).tolist() for _ in range(_DRAWS)]


def pick_of_study(trials: Sequence[SimulatedTrial], source: CurveSource, spec: StudySpec) -> Pick | None:
    """Return the pick of the study: the first of its ranking; None if no trial has a result."""
    entry = best_entry(spec, [Entry(trial.job, trial.result) for trial in trials])
    if entry is None or entry.result is None:
        return None
    seen = {trial.job.name for trial in trials}
    return Pick(entry.result.epochs_to_target, truth_of_trial(source, entry.job, spec, seen))


def pick_of_first(trials: Sequence[SimulatedTrial], source: CurveModel, spec: StudySpec) -> Pick | None:
    """Return the first of the settings with which a study begins, as a pick; None if the study did not run them."""
    wanted = configuration_of(space.trial_config(spec, spec.search.first[0], seed=0))
    trial = next((trial for trial in trials if configuration_of(trial.job.config) == wanted), None)
    return None if trial is None else Pick(trial.result.epochs_to_target, truth_of_trial(source, trial.job, spec, ()))


def pick_of_random(trials: Sequence[SimulatedTrial], source: CurveSource, spec: StudySpec) -> Pick | None:
    """Return the pick of random search: the trial with the lowest objective, without regard to noise."""
    longest, sought = space.longest_horizon(spec), spec.objective

    def plain(trial: SimulatedTrial) -> float:
        value = sought.minimised(metric_curve(trial.records, sought.metric), longest)
        return math.inf if value is None else value

    fastest = min(trials, key=plain, default=None)
    if fastest is None:
        return None
    return Pick(fastest.result.epochs_to_target, truth_of_trial(source, fastest.job, spec, {fastest.job.name}))


def pick_of_optuna(
    name: str,
    spec: StudySpec,
    jobs: Sequence[Job] | None,
    curve_of: CurveOf,
    source: CurveSource,
    slots: int,
    epochs: int,
    seed: int,
) -> Pick | None:
    """Return the pick of Optuna with its TPE sampler and one of its pruners, both with their default settings.

    The sampler minimises `Objective.minimised`; the pruner gets 1 - score of each epoch, which is the validation error
    where the metric is an accuracy.

    Args:
        name: one of PRUNERS.
        spec: the study, whose space is searched; its ``first`` trials come first.
        jobs: the trials in the order in which they run; None if the sampler proposes them.
        curve_of: returns the curve of a trial.
        source: the source of the curves, for the quality of the pick.
        slots: number of trials at the same time.
        epochs: budget: no trial begins if the running trials will use it up.
        seed: seed of the sampler.
    """
    longest, sought = space.longest_horizon(spec), spec.objective
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed), pruner=PRUNERS[name](longest))
    for params in spec.search.first if jobs is None else []:
        study.enqueue_trial(params)
    runs: dict[int, _Run] = {}
    spent = 0

    def begin_trial(_: float) -> Begun | None:
        if jobs is not None and len(runs) == len(jobs):
            return None
        if spent + sum(run.left for run in runs.values()) >= epochs:
            return None
        trial = study.ask()
        job = jobs[trial.number] if jobs is not None else _sampled(trial, spec)
        curve = curve_of(job)
        runs[trial.number] = _Run(trial, job, curve, metric_curve(curve, sought.metric), job.config.horizon)
        return trial.number, curve[0].seconds or 0.0

    def end_epoch(number: int, _: float) -> float | None:
        nonlocal spent
        run = runs[number]
        run.left, spent = run.left - 1, spent + 1
        epoch = run.job.config.horizon - run.left
        run.trial.report(1 - sought.score(run.values[epoch - 1]), epoch)
        if not run.left:
            value = sought.minimised(run.values, longest)
            study.tell(run.trial, value, state=None if value is not None else optuna.trial.TrialState.PRUNED)
        elif run.trial.should_prune():
            run.left = 0
            study.tell(run.trial, state=optuna.trial.TrialState.PRUNED)
        else:
            return run.curve[epoch].seconds or 0.0
        return None

    run_in_virtual_time(slots, begin_trial, end_epoch)
    ended = [trial for trial in study.get_trials(deepcopy=False) if trial.state is optuna.trial.TrialState.COMPLETE]
    if not ended:
        return None
    best = runs[min(ended, key=lambda trial: (trial.value or 0.0, trial.number)).number]
    return Pick(sought.first_crossing(best.values), truth_of_trial(source, best.job, spec, {best.job.name}))


@dataclass
class _Run:
    """A trial of Optuna, with its remaining epochs; none once it has ended."""

    trial: optuna.Trial
    job: Job
    curve: Sequence[EpochRecord]
    values: Sequence[float]
    left: int


def _sampled(trial: optuna.Trial, spec: StudySpec) -> Job:
    params: dict[str, Any] = space.suggest(trial, spec)
    return Job(trial.number, str(trial.number), space.trial_config(spec, params), params)


def one_run_of_each(recorded: RecordedCurves, seed: int) -> list[Job]:
    """Return one run of each recorded configuration; ``seed`` decides which runs and in which order."""
    drawn = random.Random(f"order {seed}")
    return drawn.sample([drawn.choice(runs) for runs in recorded.configurations], len(recorded.configurations))
