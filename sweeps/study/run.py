"""A study while it runs: which trial is next, what an epoch means, how a trial ends. Knows no Ray."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from resnet_core import checkpoint, schema
from resnet_core.config import TrialConfig, epoch_sizes
from resnet_core.records import EpochRecord, Outcome
from resnet_core.uris import without_password
from search_spaces.space import coordinates, longest_horizon
from search_spaces.spec import StudySpec
from sweeps.errors import SweepError, cause_of, disk_full_message, is_disk_full
from sweeps.home import Home
from sweeps.study.outcomes import Result, Stop, crash_of, result_of
from sweeps.study.protocols import Records, Trials, Watcher
from sweeps.study.ranking import configuration_of, noise_of
from sweeps.study.stopping.base import Curve, StudyState
from sweeps.study.stopping.rules import group_of, is_control, rule_modes, rules_of
from sweeps.study.trials import ActiveTrial, Entry, Job
from sweeps.trial_log import add_failure

_log = logging.getLogger(__name__)
_ASK_SECONDS = 5.0  # between two looks at whether other drivers have left a trial


@dataclass(frozen=True)
class Fastest:
    """A trial's name, and its epochs to target."""

    epochs: int
    name: str


class StudyRun:
    """Drives one launch of a study: the ledger proposes, rules decide, MLflow is written.

    A simulated study is driven by the same class, on trials and records that live in memory.

    Args:
        home: where things are.
        ledger: the study's trials.
        tracker: MLflow, in a launch.
        watcher: what people see.
    """

    def __init__(self, home: Home, ledger: Trials, tracker: Records, watcher: Watcher) -> None:
        self.spec: StudySpec = ledger.spec
        self._home, self._ledger, self._tracker, self._watcher = home, ledger, tracker, watcher
        self._rules, self._modes = rules_of(self.spec), rule_modes(self.spec)
        self._longest = longest_horizon(self.spec)
        self._curves: dict[int, Curve] = {}  # of all trials, ended and begun, that rules may look at
        self._ended: dict[int, tuple[TrialConfig, Result]] = {}  # by number, with the configuration
        self._noises: dict[int, float] = {}  # by how many images validate; as long as no further trial ends
        self._reviving = {rule.name for rule in self._rules if rule.revives and self.spec.stopping.freeze}
        # Trials that a rule ended that may have them go on, with their checkpoints; and which of them it would by now,
        # None where that is to be asked.
        self._frozen: dict[int, Job] = {}
        self._revived: list[int] | None = None
        self.active: dict[int, ActiveTrial] = {}
        self.results: dict[int, Result] = {}
        """Results of all trials of the study, this launch's and earlier ones', by number."""
        self.fastest: Fastest | None = None
        """The trial that reached the target in the fewest epochs so far."""
        self.halted: str | None = None
        """Why the study cannot go on, once it cannot; its trials wait for the next launch."""
        self._ask_again, self._waits = 0.0, False
        self._without_cuda: set[str] = set()  # nodes that have been warned of
        continued = ledger.unfinished()  # first: of some of them a killed process had not said yet what they are
        written, entries = tracker.written(), ledger.entries()
        strangers = written.keys() - {entry.job.number for entry in entries}
        if strangers:
            store, ledger_shown = without_password(home.mlflow_uri), without_password(home.ledger_uri)
            raise SweepError(
                f"MLflow ({store}) has {len(strangers)} trials of a study {self.spec.name!r} that the ledger "
                f"({ledger_shown}) does not know: put the right one back, or launch under another --name"
            )
        for entry in entries:
            if entry.result is not None:
                self._count(entry.job, entry.result)
                if self._may_go_on(entry.result) and self._recorded(entry.job):
                    self._frozen[entry.job.number] = entry.job
        self._catch_up(entries, written)
        self._continued = list(continued)
        for job in self._continued:
            # Rules must see them as they were, before they are placed again and have shown their epochs.
            self._see(job, [record.val_acc for record in self._recorded(job)])
        self._judged = {job.number: _judged(job, written.get(job.number, ("", ()))[1]) for job in self._continued}
        self._remaining, self._running_elsewhere = ledger.remaining(), ledger.running_elsewhere()
        self.crashed = 0
        """Trials of this launch that ended crashed."""

    @property
    def complete(self) -> bool:
        """Whether nothing is left to run."""
        return not self.active and self.exhausted

    @property
    def exhausted(self) -> bool:
        """Whether no further trial will be handed out."""
        return not (self._continued or self._remaining or self._running_elsewhere or self._to_thaw())

    @property
    def left(self) -> int:
        """Trials that have not been handed out yet; finalists may be fewer."""
        return len(self._continued) + self._remaining

    def next_trial(self) -> ActiveTrial | None:
        """Return the next trial to place; None when there is none now.

        One that is to be continued comes first, then one that a rule ended and would have go on by now, then a new one.
        With none left but those of other drivers, these are waited for: should a driver be gone, they come here.
        """
        job = self._continued.pop(0) if self._continued else self._thaw() or self._take()
        if job is None:
            return None
        control = job.finalist or is_control(self.spec, job.number)
        trial = ActiveTrial(
            job,
            control,
            group_of(self.spec, job.config, job.params),
            self._coordinates(job),
            judged=self._judged.get(job.number, 0),
            would_stop=self._ledger.load_would_stop(job.number),
        )
        self.active[job.number] = trial
        self._tracker.begin(job)
        return trial

    def place(self, number: int, placement: dict[str, str]) -> None:
        """Take note of where a trial runs."""
        self._tracker.place(self.active[number].job, placement)
        node = placement.get(schema.NODE, "")
        if placement.get(schema.GPU_IDS) and placement[schema.DEVICE] == "cpu" and node not in self._without_cuda:
            self._without_cuda.add(node)
            _log.warning("trials on %s were given a GPU and train on the CPU: torch finds no CUDA there", node)
        self._watcher.started(self.active[number])

    def epoch(self, number: int, record: EpochRecord) -> bool:
        """Take in an epoch of a trial and return whether the trial is over.

        A trial that continues from its checkpoint shows its epochs again; those were judged, and are not
        judged or written a second time.
        """
        trial = self.active[number]
        if not self._ledger.owns(number):
            self._drop(trial)
            return True
        if record.epoch <= len(trial.records):
            return False
        if record.epoch != len(trial.records) + 1:
            raise RuntimeError(f"trial {number}: epoch {record.epoch} came after {len(trial.records)}")
        trial.records.append(record)
        self._see(trial.job, trial.progress.val_accs)
        at_end = record.epoch >= trial.job.config.horizon  # there a trial ends by itself
        if record.epoch > trial.judged:
            trial.judged = record.epoch
            self._watcher.epoch(trial)
            trial.stop = None if at_end else self._judge(trial)
        result = self._result(trial) if at_end or trial.stop is not None else None
        if result is not None and not self._ledger.tell(number, result):
            self._drop(trial)
            return True
        # Written after it has been decided on: what the store holds need not be judged again after a kill.
        self._tracker.epoch(trial.job, record)
        if result is not None:
            self._end(trial, result)
        return result is not None

    def error(self, number: int, error: str, again: bool) -> None:
        """Take in that a trial met an error; where it is not tried again, it has crashed. A full disk halts the study.

        Args:
            number: the trial's.
            error: the error, its traceback and all.
            again: whether it has been started again.
        """
        trial = self.active[number]
        summary = cause_of(error)
        with contextlib.suppress(OSError):  # the disk may be what failed
            add_failure(self._home.error_log(self.spec.name, number), error)
        self._watcher.failed(trial, summary, again)
        if is_disk_full(error):
            self.halt(disk_full_message(self._home.root, self.spec.name))
        if self.halted is not None:
            return  # not the trial's fault, and every other would meet it too
        if again:
            trial.tries += 1
            return
        result = crash_of(len(trial.records), summary)
        if not self._ledger.tell(number, result):
            self._drop(trial)
            return
        self.crashed += 1
        self._end(trial, result)

    def halt(self, reason: str) -> None:
        """Have the study end as soon as it can, its running trials to be continued by the next launch."""
        self.halted = self.halted or reason

    def stopping(self) -> None:
        """Take in that the launch was asked to finish before the study has."""
        self._watcher.stopping()

    def interrupt(self) -> None:
        """Leave the running trials to be continued by the next launch."""
        self._tracker.pause([trial.job for trial in self.active.values()])

    def remove_frozen(self) -> None:
        """Remove the checkpoints of trials that ended and might have gone on; to be called at the study's end."""
        if not self._frozen:
            return
        with contextlib.suppress(SweepError):  # what the store lacks stays until it can be written
            self._tracker.written()
            for number in self._frozen:
                checkpoint.remove(self._home.checkpoint(self.spec.name, number))
            self._frozen.clear()

    def close_for_others(self) -> None:
        """Write to MLflow what drivers that are gone had told the ledger alone; to be called at the study's end."""
        written = self._tracker.refresh()
        self._catch_up(self._ledger.entries(), written)

    def _may_go_on(self, result: Result) -> bool:
        """Return whether a trial that ended may be thawed later."""
        return result.outcome is Outcome.PRUNED and result.stopped_by in self._reviving

    def _to_thaw(self) -> list[int]:
        """Return the trials that a rule ended and would have go on by now. It may change with every trial that ends."""
        if self._revived is None:
            self._revived = []
            for rule in self._rules:
                ended = [number for number in sorted(self._frozen) if self.results[number].stopped_by == rule.name]
                if ended:
                    standing = self._standing(self._frozen[ended[0]].config)
                    chosen = rule.trials_to_revive([self._curves[number] for number in ended], standing)
                    self._revived += [ended[i] for i in chosen]
        return self._revived

    def _thaw(self) -> Job | None:
        """Have a trial go on that had ended; None where there is none that should."""
        while numbers := self._to_thaw():
            job = self._ledger.thaw(numbers[0])
            if job is not None:
                self._go_on(job)
                return job
            self._frozen.pop(numbers.pop(0))  # another driver has taken it over
        return None

    def _go_on(self, job: Job) -> None:
        """Have a trial that ended be one that runs, as it was before; do nothing of one that did not end."""
        ended = self.results.pop(job.number, None)
        if ended is None:
            return
        self._frozen.pop(job.number, None)
        del self._ended[job.number], self._curves[job.number]
        self._noises.clear()
        self._revived = None
        self._judged[job.number] = _judged(job)
        self._see(job, ended.val_accs)

    def _take(self) -> Job | None:
        """Ask for a trial, and take in what other drivers did meanwhile."""
        if time.monotonic() < self._ask_again or self.exhausted:
            return None
        assignment = self._ledger.next_assignment(self.results)
        self._remaining, self._running_elsewhere = assignment.remaining, assignment.running_elsewhere
        for entry in assignment.ended:
            number, result = entry.job.number, entry.result
            if result is not None and number not in self.active and self.results.get(number) != result:
                self._count(entry.job, result)
        if assignment.job is None:
            self._ask_again = time.monotonic() + _ASK_SECONDS
            if self._running_elsewhere and not (self.active or self._waits):
                self._waits = True
                self._watcher.waiting(self._running_elsewhere)
            return None
        self._waits = False
        self._go_on(assignment.job)
        if assignment.adopted:
            self._fetch(assignment.job, assignment.home)
            self._judged[assignment.job.number] = _judged(assignment.job, self._tracker.adopt(assignment.job))
            self._see(assignment.job, [record.val_acc for record in self._recorded(assignment.job)])
        return assignment.job

    def _fetch(self, job: Job, home: str) -> None:
        """Copy the checkpoint of another driver's trial, where its home folder can be seen from here."""
        if home:
            name = self.spec.name
            theirs = Home(Path(home)).checkpoint(name, job.number)
            _copy(theirs, self._home.checkpoint(name, job.number), job)

    def _drop(self, trial: ActiveTrial) -> None:
        """Let go of a trial that another driver has taken over while nothing was heard of this one."""
        number = trial.job.number
        del self.active[number]
        self._ledger.release(number)
        self._running_elsewhere += 1
        checkpoint.remove(self._home.checkpoint(self.spec.name, number))
        self._watcher.lost(trial.job)

    def _judge(self, trial: ActiveTrial) -> Stop | None:
        """Ask the rules; return the decision of the first that ends the trial, and keep what others would decide.

        A rule is asked until it has said stop once; one that could end the trial is not asked once another has.
        """
        standing, stop = self._standing(trial.job.config, trial.job.number), None
        noted = len(trial.would_stop)
        for rule in self._rules:
            active = self._modes[rule.name] == "active" and not trial.control
            if rule.name in trial.would_stop or (active and stop is not None):
                continue
            reason = rule.reason_to_stop(trial.progress, standing)
            if reason is not None:
                trial.would_stop[rule.name] = len(trial.records)
                stop = Stop(rule.name, reason) if active else stop
        if stop is None and len(trial.would_stop) > noted:
            self._ledger.save_would_stop(trial.job.number, trial.would_stop)
        return stop

    def _standing(self, config: TrialConfig, beside: int | None = None) -> StudyState:
        """Return what rules see of the study, beside one of its trials or of all of it."""
        objective = self.spec.objective
        curves = [curve for number, curve in self._curves.items() if number != beside]
        crossings = (curve.epochs_to_target(objective.target) for curve in curves)
        reached = sorted(epochs for epochs in crossings if epochs is not None)
        noise = self._noise(config)
        return StudyState(objective.target, objective.sustained, reached, curves, self._longest, noise)

    def _noise(self, config: TrialConfig) -> float:
        """Return how much a run's accuracy differs between seeds, by the trials that have ended."""
        images = epoch_sizes(config)[1]
        if images not in self._noises:
            self._noises[images] = noise_of(self.spec, self._ended.values(), images)
        return self._noises[images]

    def _coordinates(self, job: Job) -> Sequence[float]:
        """Return where a trial lies in the study's space; nowhere, where it lacks a parameter of it."""
        spec = self.spec
        return coordinates(spec, job.params) if spec.space and spec.space.keys() <= job.params.keys() else ()

    def _see(self, job: Job, val_accs: Sequence[float], outcome: Outcome | None = None) -> None:
        """Keep a trial's curve for rules; one that continues shows epochs again that are known already."""
        known = self._curves.get(job.number)
        if outcome is not None or known is None or len(val_accs) > len(known.val_accs):
            group = group_of(self.spec, job.config, job.params)
            where = self._coordinates(job) if known is None else known.coordinates
            self._curves[job.number] = Curve(val_accs, job.config.horizon, outcome, group, where)

    def _result(self, trial: ActiveTrial) -> Result:
        return result_of(
            trial.progress,
            target=self.spec.objective.target,
            sustained=self.spec.objective.sustained,
            longest_horizon=self._longest,
            noise=self._noise(trial.job.config),
            stop=trial.stop,
            would_stop=trial.would_stop,
        )

    def _end(self, trial: ActiveTrial, result: Result) -> None:
        """Close a trial whose end the ledger knows."""
        job = trial.job
        del self.active[job.number]
        self._ask_again = 0.0  # what comes next may depend on it
        self._count(job, result)
        path = self._home.checkpoint(self.spec.name, job.number)
        if self._may_go_on(result):
            self._frozen[job.number] = job
            self._tracker.end(job, result)
            checkpoint.remove_previous(path)
        else:
            # The weights are needed until the whole curve is in the store, and no longer.
            self._tracker.end(job, result, then=lambda: checkpoint.remove(path))
        self._watcher.ended(job, result)

    def _count(self, job: Job, result: Result) -> None:
        self.results[job.number] = result
        self._ended[job.number] = (configuration_of(job.config), result)
        self._noises.clear()
        self._revived = None
        if result.outcome is Outcome.CRASHED:
            self._curves.pop(job.number, None)  # it is tried again as a trial of its own, with the same curve
        else:
            self._see(job, result.val_accs, result.outcome)
        epochs = result.epochs_to_target
        if epochs is not None and (self.fastest is None or epochs < self.fastest.epochs):
            self.fastest = Fastest(epochs, job.name)

    def _catch_up(self, entries: list[Entry], written: Mapping[int, tuple[str, frozenset[int]]]) -> None:
        """Write what a driver had told the ledger but not MLflow when it was killed, from the trials' checkpoints."""
        ended: dict[int, tuple[Job, Result]] = {}
        for entry in entries:
            job, result = entry.job, entry.result
            if result is None:
                continue
            if written.get(job.number, ("", None))[0] == self._tracker.status_of(result.outcome):
                if job.number not in self._frozen:
                    checkpoint.remove(self._home.checkpoint(self.spec.name, job.number))
            else:
                ended[job.number] = (job, result)
        for number, home in (self._ledger.claimable(list(ended)) if ended else {}).items():
            job, result = ended[number]
            epochs = written[number][1] if number in written else frozenset()
            self._fetch(job, home)
            records = self._recorded(job)[: result.epochs_run]
            if home and len(epochs | {record.epoch for record in records}) < result.epochs_run:
                _log.warning(
                    "MLflow lacks epochs of trial %s, and %s, which may have them, cannot be read: resume it there",
                    *(job.name, home),
                )
                continue
            if not self._ledger.claim(number):
                continue
            if home:
                epochs = self._tracker.adopt(job)
            self._tracker.begin(job)
            for record in records:
                if record.epoch not in epochs:
                    self._tracker.epoch(job, record)
            path = self._home.checkpoint(self.spec.name, number)
            then = None if number in self._frozen else partial(checkpoint.remove, path)
            self._tracker.end(job, result, then=then)

    def _recorded(self, job: Job) -> Sequence[EpochRecord]:
        return self._home.recorded(self.spec.name, job.number)


def _judged(job: Job, written: Collection[int] = ()) -> int:
    """Return how many epochs of a trial were judged: those that MLflow has, and those after which it had ended."""
    return max(len(written), *job.thawed, 0)


def _copy(source: Path, target: Path, job: Job) -> None:
    """Copy a trial's checkpoint; what cannot be read, or is of another trial, is as if it were not there."""
    if source == target:
        return
    try:
        state = checkpoint.load(source)
        if state is not None and state["config"] == job.config.to_dict():
            checkpoint.save(target, state)
    except (checkpoint.CheckpointError, OSError) as error:
        _log.warning("%s cannot be copied (%s): trial %s begins anew", source, error, job.name)
