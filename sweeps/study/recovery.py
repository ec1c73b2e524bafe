"""Completes the records that an earlier launch left incomplete, before a study runs and at its end.

A process may be killed between any two writes, so the order of the writes matters. A trial's checkpoint is saved before
its epoch is shown to the rules. Its end is written to the ledger before it is written to MLflow. Its checkpoint is
removed once MLflow has the whole trial. So the ledger and the checkpoints hold everything that MLflow lacks.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Container, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from resnet_core.records import metric_curve
from resnet_core.uris import without_password
from sweeps.errors import SweepError
from sweeps.home import Home
from sweeps.study.checkpoints import Checkpoints
from sweeps.study.judge import may_go_on
from sweeps.study.outcomes import Result
from sweeps.study.protocols import Records, StoredTrials, WrittenRun
from sweeps.study.trials import Entry, Job

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Unfinished:
    """A trial that an earlier process began and that this launch continues.

    Attributes:
        job: the trial.
        values: values of the study's metric in epochs 1, 2, … in its checkpoint.
        judged: number of epochs that the rules have judged.
    """

    job: Job
    values: Sequence[float]
    judged: int


@dataclass(frozen=True)
class Recovered:
    """The state in which earlier launches have left a study.

    Attributes:
        remaining: how many further trials the study needs.
        running_elsewhere: how many trials other drivers run.
        ended: the trials that have ended, by number, with their results.
        frozen: numbers of the trials that a rule stopped and may revive, and that have a checkpoint.
        unfinished: the trials to be continued, by number.
    """

    remaining: int
    running_elsewhere: int = 0
    ended: Sequence[tuple[Job, Result]] = ()
    frozen: frozenset[int] = frozenset()
    unfinished: Sequence[Unfinished] = ()


def recover(home: Home, trials: StoredTrials, records: Records) -> Recovered:
    """Add to the records what earlier launches did not write, and return the state of the study.

    Args:
        home: this driver's home folder.
        trials: the study's trials.
        records: the records of its trials.

    Raises:
        SweepError: the records hold trials that the ledger does not know, or cannot be used.
    """
    unfinished = trials.unfinished()  # first: it completes trials whose configuration a killed process did not write
    written, entries = records.written(), trials.entries()
    _check_known(home, trials.spec.name, written, entries)
    checkpoints = Checkpoints(home, trials.spec.name)
    ended = [(entry.job, entry.result) for entry in entries if entry.result is not None]
    frozen = frozenset(
        job.number for job, result in ended if may_go_on(trials.spec, result) and checkpoints.records(job.number)
    )
    write_missing_ends(checkpoints, trials, records, entries, written, frozen)
    return Recovered(
        ended=ended,
        frozen=frozen,
        unfinished=[
            _unfinished(job, _epochs(written, job.number), checkpoints, trials.spec.objective.metric)
            for job in unfinished
        ],
        remaining=trials.remaining(),
        running_elsewhere=trials.running_elsewhere(),
    )


def take_over(checkpoints: Checkpoints, records: Records, job: Job, home: str, metric: str) -> Unfinished:
    """Take over a trial of a driver whose lease has expired, so that this driver continues it.

    Args:
        checkpoints: this driver's checkpoints.
        records: the records of the study's trials.
        job: the trial.
        home: the other driver's home folder.
    """
    checkpoints.copy_from(home, job)
    return _unfinished(job, records.adopt(job), checkpoints, metric)


def write_missing_ends(
    checkpoints: Checkpoints,
    trials: StoredTrials,
    records: Records,
    entries: Sequence[Entry],
    written: Mapping[int, WrittenRun],
    frozen: Container[int] = frozenset(),
) -> None:
    """Record the ended trials that the ledger knows and the records lack, with their epochs from the checkpoints.

    These are this driver's own trials and those of drivers whose lease has expired. The checkpoint of a completely
    recorded trial is removed.

    Args:
        checkpoints: this driver's checkpoints.
        trials: the study's trials.
        records: the records of its trials.
        entries: the trials that the ledger knows.
        written: the content of the records, see `Records.written`.
        frozen: numbers of the trials whose checkpoints are kept, since they may go on.
    """
    missing: dict[int, tuple[Job, Result]] = {}
    for entry in entries:
        job, result = entry.job, entry.result
        if result is None:
            continue
        if not _is_recorded(written.get(job.number), result, records):
            missing[job.number] = (job, result)
        elif job.number not in frozen:
            checkpoints.remove(job.number)
    for number, home in (trials.claimable(list(missing)) if missing else {}).items():
        job, result = missing[number]
        epochs = _epochs(written, number)
        checkpoints.copy_from(home, job)
        from_checkpoint = checkpoints.records(number)[: result.epochs_run]
        lacking = result.epochs_run - len(epochs | {record.epoch for record in from_checkpoint})
        if number in written and written[number].outcome:
            lacking = 0  # a run that has ended has them all
        if lacking and not home:
            _log.warning("MLflow lacks %d epochs of trial %s, which no checkpoint holds", lacking, job.name)
        if lacking and home:
            _log.warning(
                "MLflow lacks epochs of trial %s, and %s, which may have them, cannot be read: resume it there",
                *(job.name, home),
            )
            continue
        if not trials.claim(number):
            continue
        if home:
            epochs = records.adopt(job)
        records.begin(job)
        for record in from_checkpoint:
            if record.epoch not in epochs:
                records.epoch(job, record)
        records.end(job, result, then=None if number in frozen else partial(checkpoints.remove, number))


def judged_epochs(job: Job, written: Collection[int] = ()) -> int:
    """Return how many epochs of a trial the rules have judged.

    An epoch is recorded after it was judged, so the recorded epochs are judged. If the trial had been stopped and went
    on, the epochs up to the stop are judged too.

    Args:
        job: the trial.
        written: numbers of its recorded epochs.
    """
    return max(len(written), *job.thawed, 0)


def _is_recorded(run: WrittenRun | None, result: Result, records: Records) -> bool:
    """Return whether the records have how a trial ended; people may have changed it there."""
    if run is None or run.status != records.status_of(result.outcome):
        return False
    return run.deleted or run.outcome in ("", result.outcome)


def _epochs(written: Mapping[int, WrittenRun], number: int) -> frozenset[int]:
    return written[number].epochs if number in written else frozenset()


def _unfinished(job: Job, written: Collection[int], checkpoints: Checkpoints, metric: str) -> Unfinished:
    values = metric_curve(checkpoints.records(job.number), metric)
    return Unfinished(job, values, judged_epochs(job, written))


def _check_known(home: Home, study: str, written: Mapping[int, WrittenRun], entries: Sequence[Entry]) -> None:
    """Refuse records of trials that the ledger does not know.

    Raises:
        SweepError: there are some.
    """
    there = {number for number, run in written.items() if not run.deleted}
    unknown = there - {entry.job.number for entry in entries}
    if unknown:
        store, ledger = without_password(home.mlflow_uri), without_password(home.ledger_uri)
        raise SweepError(
            f"MLflow ({store}) has {len(unknown)} trials of a study {study!r} that the ledger "
            f"({ledger}) does not know: put the right one back, or launch under another --name"
        )
