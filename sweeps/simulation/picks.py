"""What the configuration that a simulated study picks is truly worth, and what other ways to search would have picked.

In a simulation the truth is known: a model draws as many runs of a configuration as are asked for, and a recording may
hold several. The one run that a search saw tells less: of many runs the luckiest is seen first.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna

from resnet_core.config import TrialConfig
from resnet_core.objective import first_crossing, objective
from resnet_core.records import EpochRecord
from search_spaces import space
from search_spaces.spec import StudySpec
from sweeps.simulation.curve_model import CurveModel
from sweeps.simulation.curves import Recorded, mean_decay
from sweeps.simulation.replay import Curves, Replayed
from sweeps.study.ranking import best_entry, configuration_of
from sweeps.study.trials import Entry, Job

_DRAWS = 400  # runs of a configuration on a model: its mean epochs are then known to some 0.4

PRUNERS: dict[str, Callable[[int], optuna.pruners.BasePruner]] = {
    "optuna-median": lambda _: optuna.pruners.MedianPruner(),
    "optuna-asha": lambda _: optuna.pruners.SuccessiveHalvingPruner(),
    "optuna-hyperband": lambda longest: optuna.pruners.HyperbandPruner(max_resource=longest),
}
"""Optuna's own pruners as they come, for studies of so many epochs at most."""

METHODS = ("first", "random", *PRUNERS)
"""What a study can be set against."""


@dataclass(frozen=True)
class Truth:
    """What a configuration does over many runs.

    Attributes:
        share: of its runs that reach the target.
        rmst: restricted mean epochs to target, up to the study's longest horizon.
        ert: epochs spent for each run that reaches it; infinite where none does.
    """

    share: float
    rmst: float
    ert: float


@dataclass(frozen=True)
class Pick:
    """The configuration that a search names in the end.

    Attributes:
        observed: epochs to target of the run it is named for; None where that run missed.
        truth: what the configuration does.
    """

    observed: int | None
    truth: Truth


def truth_of(val_accs: Sequence[Sequence[float]], target: float, budget: int) -> Truth:
    """Return what the runs of a configuration come to.

    Args:
        val_accs: validation accuracies of epochs 1, 2, 3, … of each run; at least one run.
        target: accuracy to reach, in (0, 1].
        budget: epochs up to which means are taken; a miss counts as all of them.
    """
    crossings = [first_crossing(run, target) for run in val_accs]
    spent = sum(len(run) if epoch is None else epoch for run, epoch in zip(val_accs, crossings, strict=True))
    reached = sum(epoch is not None for epoch in crossings)
    return Truth(
        share=reached / len(val_accs),
        rmst=sum(budget if epoch is None else epoch for epoch in crossings) / len(val_accs),
        ert=spent / reached if reached else math.inf,
    )


def truth_on(source: Recorded | CurveModel, job: Job, spec: StudySpec, seen: Collection[str]) -> Truth:
    """Return what the configuration of a trial does: over many runs of a model, or over its other recorded ones.

    Args:
        source: the model or the recording. Where that has no other run of it, those that were seen have to do.
        job: the trial.
        spec: the study.
        seen: names of the trials that were chosen by.
    """
    target, budget = spec.objective.target, space.longest_horizon(spec)
    if isinstance(source, Recorded):
        wanted = configuration_of(job.config)
        runs = [other for other in source.jobs if configuration_of(other.config) == wanted]
        others = [run for run in runs if run.name not in seen] or runs
        return truth_of([[r.val_acc for r in source.curves[run.name]] for run in others], target, budget)
    return truth_of(_runs(source, job.config), target, budget)


def _runs(model: CurveModel, config: TrialConfig) -> list[list[float]]:
    drawn = np.random.default_rng(0)  # the same noise for all that are compared
    decay = mean_decay(config)
    return [model.draw(config.schedule, decay, drawn, config.horizon).tolist() for _ in range(_DRAWS)]


def pick_of_study(trials: Sequence[Replayed], source: Recorded | CurveModel, spec: StudySpec) -> Pick | None:
    """Return what a study of ours picks: the first of its ranking; None where no trial has a result."""
    entry = best_entry(spec, [Entry(trial.job, trial.result) for trial in trials])
    if entry is None or entry.result is None:
        return None
    seen = {trial.job.name for trial in trials}
    return Pick(entry.result.epochs_to_target, truth_on(source, entry.job, spec, seen))


def pick_of_first(trials: Sequence[Replayed], source: CurveModel, spec: StudySpec) -> Pick | None:
    """Return the settings that a study itself begins with, the first of them; None where it did not run them."""
    wanted = configuration_of(space.trial_config(spec, spec.search.first[0], seed=0))
    trial = next((trial for trial in trials if configuration_of(trial.job.config) == wanted), None)
    return None if trial is None else Pick(trial.result.epochs_to_target, truth_on(source, trial.job, spec, ()))


def pick_of_random(trials: Sequence[Replayed], source: Recorded | CurveModel, spec: StudySpec) -> Pick | None:
    """Return what a search at random picks: the trial that crossed the target first, else came closest to it."""
    longest, target = space.longest_horizon(spec), spec.objective.target

    def plain(trial: Replayed) -> float:
        return objective([record.val_acc for record in trial.records], target, longest)

    fastest = min(trials, key=plain, default=None)
    if fastest is None:
        return None
    return Pick(fastest.result.epochs_to_target, truth_on(source, fastest.job, spec, {fastest.job.name}))


def pick_of_optuna(
    name: str,
    spec: StudySpec,
    jobs: Sequence[Job] | None,
    curves: Curves,
    source: Recorded | CurveModel,
    slots: int,
    epochs: int,
    seed: int,
) -> Pick | None:
    """Return what Optuna picks with its own TPE and one of its pruners, both as they come.

    It minimises the interpolated crossing (a miss: how far the best accuracy was from the target), and prunes by the
    validation error of each epoch.

    Args:
        name: one of PRUNERS.
        spec: the study, whose space is searched; its ``first`` trials come first.
        jobs: the trials there are, in the order they are taken; None where the sampler makes them up.
        curves: what each trial will show.
        source: where they are from, for the truth.
        slots: trials at once.
        epochs: no trial begins that these would not be enough for.
        seed: of the sampler.
    """
    longest, target = space.longest_horizon(spec), spec.objective.target
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed), pruner=PRUNERS[name](longest))
    for params in spec.search.first if jobs is None else []:
        study.enqueue_trial(params)
    names = {} if jobs is None else dict(enumerate(jobs))
    running: list[tuple[float, int, int, optuna.Trial, Job, Sequence[EpochRecord]]] = []
    clock, spent, scheduled = 0.0, 0, 0
    taken: dict[int, Job] = {}
    while True:
        while len(running) < slots and (jobs is None or len(taken) < len(jobs)):
            if spent + sum(job.config.horizon - done for _, _, done, _, job, _ in running) >= epochs:
                break
            trial = study.ask()
            job = names[trial.number] if jobs is not None else _sampled(trial, spec)
            taken[trial.number] = job
            records = curves(job)
            heapq.heappush(running, (clock + records[0].seconds, scheduled, 0, trial, job, records))
            scheduled += 1
        if not running:
            break
        clock, _, done, trial, job, records = heapq.heappop(running)
        trial.report(1 - records[done].val_acc, done + 1)
        done, spent = done + 1, spent + 1
        if done == job.config.horizon:
            study.tell(trial, objective([record.val_acc for record in records], target, longest))
        elif trial.should_prune():
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        else:
            heapq.heappush(running, (clock + records[done].seconds, scheduled, done, trial, job, records))
            scheduled += 1
    ended = [trial for trial in study.get_trials(deepcopy=False) if trial.state is optuna.trial.TrialState.COMPLETE]
    if not ended:
        return None
    best = taken[min(ended, key=lambda trial: (trial.value or 0.0, trial.number)).number]
    shown = [record.val_acc for record in curves(best)]
    return Pick(first_crossing(shown, target), truth_on(source, best, spec, {best.name}))


def _sampled(trial: optuna.Trial, spec: StudySpec) -> Job:
    params: dict[str, Any] = space.suggest(trial, spec)
    return Job(trial.number, str(trial.number), space.trial_config(spec, params), params)


def one_of_each(recorded: Recorded, seed: int) -> list[Job]:
    """Return a run of each recorded configuration, which one and in what order drawn from a seed."""
    drawn = random.Random(f"order {seed}")
    return drawn.sample([drawn.choice(runs) for runs in recorded.configurations], len(recorded.configurations))
