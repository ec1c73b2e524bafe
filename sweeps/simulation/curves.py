"""Where the curves of a simulated study come from: trials that were recorded, or a model."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

import numpy as np

from resnet_core.config import TrialConfig
from resnet_core.records import EpochRecord, Outcome
from search_spaces.spec import StudySpec
from sweeps.errors import InputError, UnknownStudyError
from sweeps.home import Home
from sweeps.ledger.ledger import Ledger
from sweeps.simulation import recordings
from sweeps.simulation.curve_model import CurveModel
from sweeps.simulation.recordings import Recording
from sweeps.simulation.replay import Curves
from sweeps.study.ranking import configuration_of
from sweeps.study.trials import Job


@dataclass(frozen=True)
class Recorded:
    """The trials of a study that ran, whose curves are known to their end.

    Attributes:
        study: its name.
        jobs: the trials, by number.
        curves: their epochs by name, as many as the horizon.
        left_out: trials that cannot serve as truth, by why.
    """

    study: str
    jobs: Sequence[Job]
    curves: Mapping[str, Sequence[EpochRecord]]
    left_out: Mapping[str, int]

    def curve(self, seconds: float | None = None) -> Curves:
        """Return the curves, with so many seconds an epoch instead of the recorded ones where given."""

        def curve(job: Job) -> Sequence[EpochRecord]:
            records = self.curves[job.name]
            return records if seconds is None else [replace(record, seconds=seconds) for record in records]

        if seconds is None and math.isnan(self.seconds_per_epoch):
            raise InputError(f"--from {self.study}: it does not say how long epochs took; give --seconds-per-epoch")
        return curve

    @property
    def configurations(self) -> list[list[Job]]:
        """The trials by what they trained, all of it but the seed: a list for each, in the order they first come."""
        groups: dict[TrialConfig, list[Job]] = {}
        for job in self.jobs:
            groups.setdefault(configuration_of(job.config), []).append(job)
        return list(groups.values())

    @property
    def seconds_per_epoch(self) -> float:
        """Median over all epochs; NaN where one of them was not timed, as in curves that were imported."""
        seconds = [record.seconds for records in self.curves.values() for record in records]
        return math.nan if any(map(math.isnan, seconds)) else median(seconds)


def recorded(home: Home, name: str) -> Recorded:
    """Return the trials of a study of this home that ran to the end of their schedule.

    Raises:
        InputError: there is no such study, or none of its trials can be used.
    """
    return known_to_end(recordings.of_study(home, name), name)


def recorded_in(home: Home, text: str) -> Recorded:
    """Return the same of a study of this home, or of a recording: a file, or one that ships.

    A name with ``/`` in it, or that ends like a file, is no study's; no database is opened for it.

    Raises:
        InputError: there is no such study or recording, or none of its trials can be used; the message lists what
            ships.
    """
    if "/" in text or text.endswith(recordings.SUFFIX):
        path = recordings.find(text)
        if path is None:
            raise InputError(f"--from {text}: no such file{_ships()}")
        return known_to_end(recordings.read(path), text)
    try:
        return recorded(home, text)
    except UnknownStudyError as error:
        raise InputError(f"{error}{_ships()}") from None


def _ships() -> str:
    return f"; recordings that ship: {', '.join(recordings.shipped()) or 'none'}"


def known_to_end(recording: Recording, source: str) -> Recorded:
    """Return the trials of a recording that ran to the end of their schedule.

    A diverged trial stays broken: its last epoch is repeated to its horizon. Pruned trials, and those that were
    ended at the target, are left out: nobody knows how they would have gone on.

    Args:
        recording: the trials.
        source: what the user calls it.

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
        elif all(math.isnan(record.loss) for record in records):
            # An imported curve may lack the loss: no rule is to take that for divergence.
            records = [replace(record, loss=0.0) for record in records]
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
    return Recorded(recording.spec.name, jobs, curves, dict(left_out))


def model_curves(model: CurveModel, seconds_per_epoch: float, seed: int) -> Curves:
    """Return curves drawn from a model; a trial's noise depends on its number and ``seed`` alone.

    The model tells validation accuracy only. The other figures are stand-ins that no rule takes for divergence.
    """

    def curve(job: Job) -> list[EpochRecord]:
        config = job.config
        noise = np.random.default_rng([seed, job.number])
        accs = model.draw(config.schedule, mean_decay(config), noise, config.horizon).tolist()
        return [
            EpochRecord(
                epoch,
                loss=1 - acc,
                acc=max(acc, 0.5),
                val_loss=1 - acc,
                val_acc=acc,
                lr=0.0,
                wd_lr=0.0,
                seconds=seconds_per_epoch,
                images_per_second=0.0,
            )
            for epoch, acc in enumerate(accs, start=1)
        ]

    return curve


def mean_decay(config: TrialConfig) -> float:
    """Return a trial's weight decay, its mean over the epochs where it is scheduled."""
    schedule = config.wd_schedule
    if schedule is None:
        return config.weight_decay
    return sum(schedule.value(epoch + 0.5) for epoch in range(config.horizon)) / config.horizon


def beyond_model(spec: StudySpec) -> list[str]:
    """Return what the study asks that the model, fitted to post V's runs, knows nothing about."""
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
