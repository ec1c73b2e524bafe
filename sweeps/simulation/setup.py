"""The settings of a simulation: curves, slots and seeds; and how one repeat is simulated."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from resnet_core.own_config import Config
from search_spaces.space import trial_count
from search_spaces.spec import StudySpec
from search_spaces.stopping import Stopping
from sweeps.home import Home
from sweeps.ledger.ledger import Ledger
from sweeps.simulation.curve_model import CurveModel
from sweeps.simulation.curves import CurveSource, RecordedCurves, model_curves
from sweeps.simulation.picks import (
    Pick,
    one_run_of_each,
    pick_of_first,
    pick_of_optuna,
    pick_of_random,
    pick_of_study,
)
from sweeps.simulation.replay import CurveOf, FixedTrials, SimulatedTrial, replay, study_in_memory
from sweeps.study.ranking import configuration_of
from sweeps.study.trials import Job

PUBLISHED_SECONDS = 22.0
"""Seconds per epoch of ResNet56v2, batch 64, on an RTX 4060 Ti (machine-learning.anracom.com, post I, 2024-05-27)."""


@dataclass(frozen=True)
class Setup:
    """The settings of a simulation.

    Attributes:
        spec: the study.
        source: the source of the trials' curves: recorded trials, or a model.
        home: the home folder, which is only read.
        gpus: number of GPUs.
        per_gpu: number of trials that share a GPU.
        shuffled: run the trials in random order, instead of the sampler's or the recording's order.
        trials: number of trials; None takes the number of the study or the recording.
        seed: seed of the first repeat, for order, sampler and noise; each further repeat takes the next integer.
        repeats: how often the study is simulated.
        seconds_per_epoch: of one trial while the others on its GPU run too; None takes the recorded times, or
            PUBLISHED_SECONDS for a model.
        epochs: budget of epochs, which replaces ``trials``: no trial begins if the running trials will use it up; None
            sets no bound.
        against: names of other search methods, from picks.METHODS, that get the same number of epochs.
    """

    spec: StudySpec
    source: CurveSource
    home: Home
    gpus: int = 4
    per_gpu: int = 1
    shuffled: bool = False
    trials: int | None = None
    seed: int = 0
    repeats: int = 1
    seconds_per_epoch: float | None = None
    epochs: int | None = None
    against: Sequence[str] = ()

    @property
    def model_seconds(self) -> float:
        """Seconds per epoch on a model's curves."""
        return PUBLISHED_SECONDS if self.seconds_per_epoch is None else self.seconds_per_epoch

    def jobs(self, spec: StudySpec) -> Sequence[Job] | None:
        """Return all trials in their original order; None if a sampler proposes them."""
        if isinstance(self.source, RecordedCurves):
            return self.source.jobs
        if spec.is_sampled:
            return None
        ledger = Ledger.preview(spec)
        return [ledger.ask() for _ in range(trial_count(spec))]

    def replay(
        self, seed: int, rules: bool, *, sampler: str | None = None, epochs: int | None = None
    ) -> list[SimulatedTrial]:
        """Return the trials of one repeat.

        Args:
            seed: seed of order, sampler and noise.
            rules: whether the study's rules stop trials.
            sampler: a sampler to use instead of the study's; then no finalists race.
            epochs: a budget of epochs that replaces the setup's.
        """
        epochs = self.epochs if epochs is None else epochs
        search: dict[str, Any] = {"seed": seed}
        if self.spec.space:
            if self.trials is not None:
                search["trials"] = self.trials
            if epochs is not None and self.spec.is_sampled:
                search["trials"] = epochs  # more than the budget allows
            if sampler is not None:
                search |= {"sampler": sampler, "sampler_options": {}, "finalists": None}
        spec = self.spec.model_copy(
            update={
                "search": self.spec.search.model_copy(update=search),
                "stopping": self.spec.stopping if rules else Stopping(rules={}),
            }
        )
        jobs = self.ordered(spec, seed)
        trials: Ledger | FixedTrials
        trials = Ledger.preview(spec) if jobs is None else FixedTrials(*self._with_others(spec, jobs))
        run = study_in_memory(self.home, trials)
        bound = math.inf if epochs is None else epochs
        race = trials.spec.search.finalists if epochs is not None else None
        finalists = race.top * race.seeds if race is not None else 0
        return replay(run, self.curves(seed), self.gpus * self.per_gpu, bound, finalists, trials.end_search)

    def _with_others(
        self, spec: StudySpec, jobs: Sequence[Job]
    ) -> tuple[StudySpec, Sequence[Job], Mapping[Config, Sequence[Job]]]:
        """Return the arguments of FixedTrials: a study, its trials, and the recorded runs for its finalists.

        Finalists get half of a configuration's runs that the search does not see. The other half shows the true quality
        of the configuration.
        """
        if spec.search.finalists is None or not isinstance(self.source, RecordedCurves):
            return spec, jobs, {}
        searched = {job.name for job in jobs}
        others = {
            configuration_of(runs[0].config): [job for job in runs if job.name not in searched][: (len(runs) - 1) // 2]
            for runs in self.source.configurations
        }
        seeds = min(spec.search.finalists.seeds, *map(len, others.values()))
        race = spec.search.finalists.model_copy(update={"seeds": seeds}) if seeds else None
        return spec.model_copy(update={"search": spec.search.model_copy(update={"finalists": race})}), jobs, others

    def ordered(self, spec: StudySpec, seed: int) -> Sequence[Job] | None:
        """Return the trials in the order of one repeat; None if a sampler proposes them.

        A search does not repeat a configuration: a shuffled repeat of a study with a space contains one recorded run of
        each configuration.
        """
        jobs = self.jobs(spec)
        if jobs is None or not self.shuffled:
            return None if jobs is None else jobs[: self.trials]
        if isinstance(self.source, RecordedCurves) and self.spec.space:
            return one_run_of_each(self.source, seed)[: self.trials]
        return random.Random(f"order {seed}").sample(jobs, len(jobs))[: self.trials]

    def curves(self, seed: int) -> CurveOf:
        """Return the curves of the trials of one repeat."""
        if isinstance(self.source, RecordedCurves):
            return self.source.curve_of(self.seconds_per_epoch)
        return model_curves(self.source, self.model_seconds, seed)

    def picks(self, seed: int, trials: Sequence[SimulatedTrial]) -> dict[str, Pick | None]:
        """Return, by method, the picks of one repeat: that of the study, and those of the methods in ``against``.

        Args:
            seed: seed of the repeat.
            trials: the study's trials in this repeat. The other methods get the number of epochs that these trials
                trained, unless the setup has a budget ``epochs``.
        """
        spec, source = self.spec, self.source
        spent = sum(trial.result.epochs_run for trial in trials) if self.epochs is None else self.epochs
        found = {"study": pick_of_study(trials, source, spec)}
        for method in self.against:
            if method == "first":
                assert isinstance(source, CurveModel)
                found[method] = pick_of_first(trials, source, spec)
            elif method == "random":
                others = self.replay(seed, rules=False, sampler="random", epochs=spent)
                found[method] = pick_of_random(others, source, spec)
            else:
                jobs, slots = self.ordered(spec, seed), self.gpus * self.per_gpu
                found[method] = pick_of_optuna(method, spec, jobs, self.curves(seed), source, slots, spent, seed)
        return found
