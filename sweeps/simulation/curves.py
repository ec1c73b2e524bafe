"""The source of a simulated study's curves: recorded trials, or a model."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

import numpy as np

from resnet_core.config import TrialConfig
from resnet_core.own_config import Config
from resnet_core.records import EpochRecord, Outcome
from search_spaces.spec import StudySpec
from sweeps.errors import InputError, UnknownStudyError
from sweeps.home import Home
from sweeps.ledger.ledger import Ledger
from sweeps.simulation import recordings
from sweeps.simulation.curve_model import CurveModel
from sweeps.simulation.recordings import Recording
from sweeps.simulation.replay import CurveOf
from sweeps.study.ranking import configuration_of
from sweeps.study.trials import Job


@dataclass(frozen=True)
class RecordedCurves:
    """The trials of a study that ran to the end of their schedule, with their curves.

    Attributes:
        study: name of the study.
        jobs: the trials, in the order of their numbers.
        curves: by a trial's name, its epochs; as many as its horizon.
        left_out: by reason, the number of trials that did not run to the end of their schedule.
    """

    study: str
    jobs: Sequence[Job]
    curves: Mapping[str, Sequence[EpochRecord]]
    left_out: Mapping[str, int]

    def curve_of(self, seconds: float | None = None) -> CurveOf:
        """Return the function that looks up a trial's curve; ``seconds`` per epoch replace the recorded times.

        Raises:
            InputError: the times are neither given nor recorded.
        """

        def curve_of(job: Job) -> Sequence[EpochRecord]:
            records = self.curves[job.name]
            return records if seconds is None else [replace(record, seconds=seconds) for record in records]

        if seconds is None and math.isnan(self.seconds_per_epoch):
            raise InputError(f"--from {self.study}: it does not say how long epochs took; give --seconds-per-epoch")
        return curve_of

    @property
    def configurations(self) -> list[list[Job]]:
        """Groups of trials that differ only in their seed, in the order of each group's first trial."""
        groups: dict[Config, list[Job]] = {}
        for job in self.jobs:
            groups.setdefault(configuration_of(job.config), []).append(job)
        return list(groups.values())

    @property
    def seconds_per_epoch(self) -> float:
        """Median over all epochs; NaN if an epoch has no time, as in many imported curves."""
        times = [record.seconds for records in self.curves.values() for record in records]
        known = [seconds for seconds in times if seconds is not None and not math.isnan(seconds)]
        return median(known) if len(known) == len(times) else math.nan


CurveSource = RecordedCurves | CurveModel
"""The source of a simulated study's curves."""


def recorded_curves(home: Home, name: str) -> RecordedCurves:
    """Return the trials of a study of this home that ran to the end of their schedule.

    Raises:
        InputError: there is no such study, or none of its trials can be used.
    """
    return complete_curves(recordings.of_study(home, name), name)


def find_curves(home: Home, text: str) -> RecordedCurves:
    """Return the curves of a study of this home, or of a recording: a file or a shipped recording.

    A text that contains ``/`` or ends in ``.jsonl.gz`` is a recording; no database is opened for it.

    Raises:
        InputError: there is no such study or recording, or none of its trials can be used; the message lists the
            shipped recordings.
    """
    if "/" in text or text.endswith(recordings.SUFFIX):
        path = recordings.find(text)
        if path is None:
            raise InputError(f"--from {text}: no such file{_ships()}")
        return complete_curves(recordings.read(path), text)
    try:
        return recorded_curves(home, text)
    except UnknownStudyError as error:
        raise InputError(f"{error}{_ships()}") from None


def _ships() -> str:
    return f"; recordings that ship: {', '.join(recordings.shipped()) or 'none'}"


def complete_curves(recording: Recording, source: str) -> RecordedCurves:
    """Return the trials of a recording that ran to the end of their schedule.

    The last epoch of a diverged trial is repeated to its horizon. Pruned trials, and trials that were ended at the
    target, are left out: the rest of their curves is not known.

    Args:
        recording: the trials.
        source: the user's name for the recording, for messages.

    Raises:
        InputError: none of its trials can be used.
    """
    jobs, curves, left_out = [], {}, Counter[str]()
    if recording.running:
        left_out["running"] = recording.running
    for trial in recording.trials:
        job, records = trial.job, list(trial.records)
        if trial.outcome is Outcome.DIVERGED and records:
            missing = range(len(records) + 1, job.config.horizon + 1)
            records += [replace(records[-1], epoch=epoch) for epoch in missing]
        if trial.outcome in (Outcome.PRUNED, Outcome.CRASHED):
            left_out[trial.outcome.value] += 1
        elif [record.epoch for record in records] != list(range(1, job.config.horizon + 1)):
            left_out["ended early"] += 1
        else:
            jobs.append(job)
            curves[job.name] = records
    if not jobs:
        reasons = ", ".join(f"{count} {why}" for why, count in left_out.items()) or "it has no trial"
        raise InputError(f"--from {source}: no trial of it ran to the end of its schedule ({reasons})")
    return RecordedCurves(recording.spec.name, jobs, curves, dict(left_out))


def model_curves(model: CurveModel, seconds_per_epoch: float, seed: int) -> CurveOf:
    """Return the function that draws a trial's curve from a model; the noise depends only on its number and ``seed``.

    The model gives validation accuracy only. The other metrics are invented values that no rule treats as divergence.
    """

    def curve_of(job: Job) -> list[EpochRecord]:
        config = job.config
        noise = np.random.default_rng([seed, job.number])
        accs = model.draw(config.schedule, mean_weight_decay(config), noise, config.horizon).tolist()
        return [
            EpochRecord(
                epoch,
                loss=1 - acc,
                acc=max(acc, 0.5),
                val_loss=1 - acc,
                val_acc=acc,
                seconds=seconds_per_epoch,
            )
            for epoch, acc in enumerate(accs, start=1)
        ]

    return curve_of


def mean_weight_decay(config: Config) -> float:
    """Return a trial's weight decay; if it is scheduled, its mean over the epochs.

    Raises:
        InputError: the configuration is not of the trainer that ships, the only one that the model knows.
    """
    if not isinstance(config, TrialConfig):
        raise InputError(
            "the model of published curves knows the trainer that ships alone: give --from a study's curves"
        )
    schedule = config.wd_schedule
    if schedule is None:
        return config.weight_decay
    return sum(schedule.value(epoch + 0.5) for epoch in range(config.horizon)) / config.horizon


def unknown_to_model(spec: StudySpec) -> list[str]:
    """Return the study's settings that the model ignores, since it was fitted to the runs of post V."""
    config = Ledger.preview(spec).ask().config
    known = {
        **{"model": "resnet56v2", "data": "cifar10", "image_size": 32, "optimizer": "adamw", "batch_size": 64},
        "shift": 0.07,
    }
    found = [f"{name} = {getattr(config, name)}" for name, value in known.items() if getattr(config, name) != value]
    varied = known.keys() & spec.space.keys()
    return [text for text in found if text.split(" ")[0] not in varied] + [
        f"{name} (varied)" for name in sorted(varied)
    ]
