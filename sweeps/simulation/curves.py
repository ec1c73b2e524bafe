"""Where the curves of a simulated study come from: trials that were recorded, or a model."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from statistics import median
from typing import Any

import numpy as np

from analysis.curve_model import CurveModel
from resnet_core.config import TrialConfig
from resnet_core.records import EpochRecord, Outcome
from search_spaces.study import StudySpec
from sweeps.errors import InputError
from sweeps.home import Home
from sweeps.ledger import Job, Ledger
from sweeps.simulation.replay import Curves


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
    def seconds_per_epoch(self) -> float:
        """Median over all epochs; NaN where one of them was not timed, as in curves that were imported."""
        seconds = [record.seconds for records in self.curves.values() for record in records]
        return math.nan if any(map(math.isnan, seconds)) else median(seconds)


def recorded(home: Home, name: str) -> Recorded:
    """Return the trials of a study of this home that ran to the end of their schedule.

    A diverged trial stays broken: its last epoch is repeated to its horizon. Pruned trials, and those that were
    ended at the target, are left out: nobody knows how they would have gone on.

    Raises:
        InputError: there is no such study, or none of its trials can be used.
    """
    from analysis import StoreError, load

    entries = Ledger.open(home.ledger_uri, name).entries()
    try:
        epochs = load(home.mlflow_uri, name).epochs
    except StoreError as error:
        raise InputError(str(error)) from error
    by_number = {number: group.drop(columns="number") for number, group in epochs.groupby("number")}
    jobs, curves, left_out = [], {}, Counter[str]()
    for entry in entries:
        job, result = entry.job, entry.result
        if result is None:
            left_out["running"] += 1
            continue
        rows = by_number.get(job.number)
        records = [] if rows is None else [_record(row) for row in rows.to_dict("records")]
        if result.outcome is Outcome.DIVERGED and records:
            missing = range(len(records) + 1, job.config.horizon + 1)
            records += [replace(records[-1], epoch=epoch) for epoch in missing]
        elif all(math.isnan(record.loss) for record in records):
            # An imported curve may lack the loss: no rule is to take that for divergence.
            records = [replace(record, loss=0.0) for record in records]
        if result.outcome in (Outcome.PRUNED, Outcome.CRASHED):
            left_out[result.outcome.value] += 1
        elif [record.epoch for record in records] != list(range(1, job.config.horizon + 1)):
            left_out["ended early"] += 1
        else:
            jobs.append(job)
            curves[job.name] = records
    if not jobs:
        reasons = ", ".join(f"{count} {why}" for why, count in left_out.items()) or "it has no trial"
        raise InputError(f"--from {name}: no trial of it ran to the end of its schedule ({reasons})")
    return Recorded(name, jobs, curves, dict(left_out))


def _record(row: Mapping[Any, Any]) -> EpochRecord:
    values: dict[str, Any] = {str(key): value for key, value in row.items()}
    absent = {name: None for name in _OPTIONAL if math.isnan(values[name])}
    return EpochRecord(**values | absent)


_OPTIONAL = [f.name for f in fields(EpochRecord) if f.default is None]


def model_curves(model: CurveModel, seconds_per_epoch: float, seed: int) -> Curves:
    """Return curves drawn from a model; a trial's noise depends on its number and ``seed`` alone.

    The model tells validation accuracy only. The other figures are stand-ins that no rule takes for divergence.
    """

    def curve(job: Job) -> list[EpochRecord]:
        config = job.config
        noise = np.random.default_rng([seed, job.number])
        accs = model.draw(config.schedule, _mean_decay(config), noise, config.horizon).tolist()
        return [
            EpochRecord(epoch, 1 - acc, max(acc, 0.5), 1 - acc, acc, 0.0, 0.0, seconds_per_epoch, 0.0)
            for epoch, acc in enumerate(accs, start=1)
        ]

    return curve


def _mean_decay(config: TrialConfig) -> float:
    schedule = config.wd_schedule
    if schedule is None:
        return config.weight_decay
    return sum(schedule.value(epoch + 0.5) for epoch in range(config.horizon)) / config.horizon


def beyond_model(spec: StudySpec) -> list[str]:
    """Return what the study asks that the model, fitted to post V's runs, knows nothing about."""
    config = Ledger.preview(spec).ask().config
    known = {"model": "resnet56v2", "data": "cifar10", "optimizer": "adamw", "batch_size": 64, "shift": 0.07}
    found = [f"{name} = {getattr(config, name)}" for name, value in known.items() if getattr(config, name) != value]
    varied = {"model", "data", "optimizer", "batch_size", "shift"} & spec.space.keys()
    return [text for text in found if text.split(" ")[0] not in varied] + [
        f"{name} (varied)" for name in sorted(varied)
    ]
