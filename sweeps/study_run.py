"""A study while it runs: which trial is next, what an epoch means, how a trial ends. Knows no Ray."""

from __future__ import annotations

import bisect
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from analysis.epochs_to_target import first_crossing
from resnet_core import checkpoint
from resnet_core.checkpoint import CheckpointError
from resnet_core.records import EpochRecord
from resnet_core.trainer import recorded
from search_spaces.space import longest_horizon
from search_spaces.study import StudySpec
from sweeps.causes import cause_of, disk_full, is_disk_full
from sweeps.errors import SweepError
from sweeps.home import Home
from sweeps.ledger import Job, Ledger
from sweeps.outcomes import MLFLOW_STATUS, Result, Stop, crash_of, result_of
from sweeps.stopping import Progress, Standing, is_control, rules_of
from sweeps.tracking import Tracker


@dataclass
class ActiveTrial:
    """A trial that has been placed and has not ended.

    Attributes:
        job: what it is.
        control: no rule may stop it.
        judged: epochs that rules have looked at already, in this launch or an earlier one.
        records: its epochs so far.
        stop: the rule's decision to end it, once there is one.
        tries: times it has been started again after an error.
    """

    job: Job
    control: bool
    judged: int = 0
    records: list[EpochRecord] = field(default_factory=list)
    stop: Stop | None = None
    tries: int = 0

    @property
    def progress(self) -> Progress:
        """What rules see of it; needs one epoch at least."""
        return Progress(self.job.config, self.records)


@dataclass(frozen=True)
class Fastest:
    """A trial's name, and its epochs to target."""

    epochs: int
    name: str


class Watcher(Protocol):
    """Shows a study to people while it runs."""

    def started(self, trial: ActiveTrial) -> None:
        """Show that a trial was placed."""

    def epoch(self, trial: ActiveTrial) -> None:
        """Show that a trial finished an epoch."""

    def failed(self, trial: ActiveTrial, error: str, again: bool) -> None:
        """Show that a trial met an error, and whether it is tried again."""

    def ended(self, job: Job, result: Result) -> None:
        """Show that a trial ended."""


class StudyRun:
    """Drives one launch of a study: the ledger proposes, rules decide, MLflow is written.

    Args:
        home: where things are.
        ledger: the study's trials.
        tracker: MLflow.
        watcher: what people see.
    """

    def __init__(self, home: Home, ledger: Ledger, tracker: Tracker, watcher: Watcher) -> None:
        self.spec: StudySpec = ledger.spec
        self._home, self._ledger, self._tracker, self._watcher = home, ledger, tracker, watcher
        self._rules = rules_of(self.spec)
        self._longest = longest_horizon(self.spec)
        self._crossings: list[int] = []
        self.active: dict[int, ActiveTrial] = {}
        self.results: dict[int, Result] = {}
        """Results of all trials of the study, this launch's and earlier ones', by number."""
        self.fastest: Fastest | None = None
        """The trial that reached the target in the fewest epochs so far."""
        self.halted: str | None = None
        """Why the study cannot go on, once it cannot; its trials wait for the next launch."""
        written, entries = tracker.written(), ledger.entries()
        strangers = written.keys() - {entry.job.number for entry in entries}
        if strangers:
            raise SweepError(
                f"MLflow ({home.mlflow_uri}) has {len(strangers)} trials of a study {self.spec.name!r} that the ledger "
                f"({home.optuna_db}) does not know: put the right one back, or launch under another --name"
            )
        for entry in entries:
            if entry.result is not None:
                self._count(entry.job, entry.result)
                self._catch_up(entry.job, entry.result, written.get(entry.job.number))
        self._continued = list(ledger.unfinished())
        self._judged = {job.number: len(written[job.number][1]) for job in self._continued if job.number in written}
        self._to_run = ledger.to_run()
        self.crashed = 0
        """Trials of this launch that ended crashed."""

    @property
    def complete(self) -> bool:
        """Whether nothing is left to run."""
        return not (self.active or self._continued or self._to_run)

    @property
    def exhausted(self) -> bool:
        """Whether no further trial will be handed out."""
        return not (self._continued or self._to_run)

    @property
    def left(self) -> int:
        """Trials that have not been handed out yet."""
        return len(self._continued) + self._to_run

    def next_trial(self) -> ActiveTrial | None:
        """Return the next trial to place: one to be continued first, else a new one; None when there is none."""
        if self._continued:
            job = self._continued.pop(0)
        elif self._to_run:
            job = self._ledger.ask()
            self._to_run -= 1
        else:
            return None
        control = is_control(self.spec, job.number)
        trial = ActiveTrial(job, control, judged=self._judged.get(job.number, 0))
        self.active[job.number] = trial
        self._tracker.begin(job)
        return trial

    def place(self, number: int, placement: dict[str, str]) -> None:
        """Take note of where a trial runs."""
        self._tracker.place(self.active[number].job, placement)
        self._watcher.started(self.active[number])

    def epoch(self, number: int, record: EpochRecord) -> bool:
        """Take in an epoch of a trial and return whether the trial is over.

        A trial that continues from its checkpoint shows its epochs again; those were judged, and are not
        judged or written a second time.
        """
        trial = self.active[number]
        if record.epoch <= len(trial.records):
            return False
        if record.epoch != len(trial.records) + 1:
            raise RuntimeError(f"trial {number}: epoch {record.epoch} came after {len(trial.records)}")
        trial.records.append(record)
        self._tracker.epoch(trial.job, record)
        if record.epoch > trial.judged:
            trial.judged = record.epoch
            self._watcher.epoch(trial)
        if record.epoch < trial.job.config.horizon:  # at its horizon a trial ends by itself
            trial.stop = self._judge(trial)
            if trial.stop is None:
                return False
        self._end(
            trial,
            result_of(
                trial.progress,
                target=self.spec.objective.target,
                sustained=self.spec.objective.sustained,
                longest_horizon=self._longest,
                stop=trial.stop,
            ),
        )
        return True

    def error(self, number: int, error: str, again: bool) -> None:
        """Take in that a trial met an error; where it is not tried again, it has crashed. A full disk halts the study.

        Args:
            number: the trial's.
            error: the error, its traceback and all.
            again: whether it has been started again.
        """
        trial = self.active[number]
        with contextlib.suppress(OSError):  # the disk may be what failed
            log = self._home.error_log(self.spec.name, number)
            log.parent.mkdir(parents=True, exist_ok=True)
            log.write_text(error)
        summary = cause_of(error)
        self._watcher.failed(trial, summary, again)
        if is_disk_full(error):
            self.halt(disk_full(self._home.root, self.spec.name))
        if self.halted is not None:
            return  # not the trial's fault, and every other would meet it too
        if again:
            trial.tries += 1
            return
        self.crashed += 1
        self._end(trial, crash_of(len(trial.records), summary))

    def halt(self, reason: str) -> None:
        """Have the study end as soon as it can, its running trials to be continued by the next launch."""
        self.halted = self.halted or reason

    def interrupt(self) -> None:
        """Leave the running trials to be continued by the next launch."""
        self._tracker.pause([trial.job for trial in self.active.values()])

    def _judge(self, trial: ActiveTrial) -> Stop | None:
        """Return the decision of the first rule that ends the trial; epochs judged before decide nothing anew."""
        if trial.control or len(trial.records) < trial.judged:
            return None
        standing = Standing(
            self.spec.objective.target,
            self.spec.objective.sustained,
            sorted(self._crossings + self._running()),
        )
        for rule in self._rules:
            reason = rule.reason_to_stop(trial.progress, standing)
            if reason is not None:
                return Stop(rule.name, reason)
        return None

    def _running(self) -> list[int]:
        """Return the epochs to target of running trials that reached it."""
        target = self.spec.objective.target
        found = (first_crossing(t.progress.val_accs, target) for t in self.active.values() if t.records)
        return [epoch for epoch in found if epoch is not None]

    def _end(self, trial: ActiveTrial, result: Result) -> None:
        job = trial.job
        del self.active[job.number]
        self._ledger.tell(job.number, result)
        self._count(job, result)
        # The weights are needed until the whole curve is in the store, and no longer.
        path = self._home.checkpoint(self.spec.name, job.number)
        self._tracker.end(job, result, then=lambda: checkpoint.remove(path))
        self._watcher.ended(job, result)

    def _count(self, job: Job, result: Result) -> None:
        self.results[job.number] = result
        epochs = result.epochs_to_target
        if epochs is None:
            return
        bisect.insort(self._crossings, epochs)
        if self.fastest is None or epochs < self.fastest.epochs:
            self.fastest = Fastest(epochs, job.name)

    def _catch_up(self, job: Job, result: Result, written: tuple[str, frozenset[int]] | None) -> None:
        """Write what a killed launch had told the ledger but not MLflow, from the trial's checkpoint."""
        status, epochs = written or ("", frozenset())
        path = self._home.checkpoint(self.spec.name, job.number)
        if status == MLFLOW_STATUS[result.outcome]:
            checkpoint.remove(path)
            return
        try:
            records: Sequence[EpochRecord] = recorded(path)
        except CheckpointError:
            records = []
        self._tracker.begin(job)
        for record in records[: result.epochs_run]:
            if record.epoch not in epochs:
                self._tracker.epoch(job, record)
        self._tracker.end(job, result, then=lambda: checkpoint.remove(path))
