"""A study while it runs: which trial is next, what happens after an epoch, how a trial ends. Knows no Ray.

A study survives a kill at any moment because of the order of the writes, see `sweeps.study.recovery`.
"""

from __future__ import annotations

import contextlib
import logging
import time
from dataclasses import dataclass, replace
from functools import partial

from resnet_core import schema
from resnet_core.records import EpochRecord
from search_spaces.spec import StudySpec
from sweeps.errors import SweepError, cause_of, disk_full_message, is_disk_full
from sweeps.home import Home
from sweeps.study.checkpoints import Checkpoints
from sweeps.study.judge import Judge, may_go_on
from sweeps.study.networks import Networks
from sweeps.study.outcomes import Result, crash_result, make_result
from sweeps.study.protocols import Records, Trials, Watcher
from sweeps.study.recovery import Recovered, Unfinished, judged_epochs, take_over
from sweeps.study.stopping.rules import group_of, is_control
from sweeps.study.trials import ActiveTrial, Job
from sweeps.trial_log import add_failure

_log = logging.getLogger(__name__)
_ASK_SECONDS = 5.0  # between two requests to the ledger for a trial of an expired driver


@dataclass(frozen=True)
class Leader:
    """The trial that is best so far.

    Attributes:
        rank: what it is ranked by, lower is better: its epochs to target; without a target, the number that the sampler
            minimises.
        name: its name.
        value: its best value of the metric.
    """

    rank: float
    name: str
    value: float | None = None


class StudyRun:
    """The decisions of one launch of a study: which trial runs next, when it ends, and what is recorded.

    A simulated study uses the same class, with trials and records in memory.

    Args:
        home: this driver's home folder.
        trials: proposes the trials.
        records: records the trials.
        watcher: shows the trials to people.
        recovered: the state in which earlier launches have left the study.
        networks: keeps the networks of the best trials; None where trials train none, as in a simulation.
    """

    def __init__(
        self,
        home: Home,
        trials: Trials,
        records: Records,
        watcher: Watcher,
        recovered: Recovered,
        networks: Networks | None = None,
    ) -> None:
        self.spec: StudySpec = trials.spec
        self.active: dict[int, ActiveTrial] = {}
        self.results: dict[int, Result] = {}
        """Results of all ended trials of the study, in this launch and earlier ones, by number."""
        self.leader: Leader | None = None
        """The best trial so far: the first at the target or, without a target, the one with the best value."""
        self.halted: str | None = None
        """Why the study cannot go on; None while it can. The next launch continues its trials."""
        self.crashed = 0
        """Number of trials that crashed in this launch."""
        self._home, self._trials, self._records, self._watcher = home, trials, records, watcher
        self._checkpoints, self._judge = Checkpoints(home, self.spec.name), Judge(self.spec)
        self._networks, self._names = networks, dict[int, str]()  # names of all ended trials
        self._remaining, self._running_elsewhere = recovered.remaining, recovered.running_elsewhere
        self._ask_again = 0.0  # no trial is asked for before this time
        self._waits = False  # whether it waits for other drivers
        self._without_cuda: set[str] = set()  # nodes that were already warned about
        self._frozen: dict[int, Job] = {}  # trials that a rule stopped and may revive
        self._revived: list[int] | None = None  # those that are revived now; None: ask the rules again
        for job, result in recovered.ended:
            self._count(job, result)
            if job.number in recovered.frozen:
                self._frozen[job.number] = job
        self._continued = [unfinished.job for unfinished in recovered.unfinished]
        self._judged: dict[int, int] = {}  # by number of a trial to be continued: its judged epochs
        for unfinished in recovered.unfinished:
            self._continue(unfinished)
        self._settle_networks()  # what a killed launch has left

    @property
    def complete(self) -> bool:
        """Whether nothing is left to run."""
        return not self.active and self.exhausted

    @property
    def exhausted(self) -> bool:
        """Whether no trial is left to place, including those of other drivers and those to be revived."""
        return not (self._continued or self._remaining or self._running_elsewhere or self._to_thaw())

    @property
    def remaining(self) -> int:
        """Number of trials that are not placed yet; with finalists, the largest possible number."""
        return len(self._continued) + self._remaining

    def next_trial(self) -> ActiveTrial | None:
        """Return the next trial to place; None when there is none now.

        A trial to be continued comes first, then one that a rule stopped and now revives, then a new one. Where only
        other drivers' trials are left, the study waits for them: if a driver's lease expires, this driver gets them.
        """
        job = self._continued.pop(0) if self._continued else self._thaw() or self._ask()
        if job is None:
            return None
        trial = ActiveTrial(
            job,
            control=job.finalist or is_control(self.spec, job.number),
            group=group_of(self.spec, job.config, job.params),
            coordinates=self._judge.coordinates(job),
            judged=self._judged.get(job.number, 0),
            would_stop=self._trials.load_would_stop(job.number),
            objective=self.spec.objective,
        )
        self.active[job.number] = trial
        self._records.begin(job)
        return trial

    def place(self, number: int, placement: dict[str, str]) -> None:
        """Record where a trial runs."""
        self._records.place(self.active[number].job, placement)
        node = placement.get(schema.NODE, "")
        if placement.get(schema.GPU_IDS) and placement[schema.DEVICE] == "cpu" and node not in self._without_cuda:
            self._without_cuda.add(node)
            _log.warning("trials on %s were given a GPU and train on the CPU: torch finds no CUDA there", node)
        self._watcher.started(self.active[number])

    def epoch(self, number: int, record: EpochRecord) -> bool:
        """Process an epoch of a trial and return whether the trial is over.

        The trial's checkpoint holds the epoch already. A trial that continues from its checkpoint reports its earlier
        epochs again. They are not judged or recorded a second time.
        """
        trial = self.active[number]
        if not self._trials.owns(number):
            self._lose(trial)
            return True
        if record.epoch <= len(trial.records):
            return False
        if record.epoch != len(trial.records) + 1:
            raise RuntimeError(f"trial {number}: epoch {record.epoch} came after {len(trial.records)}")
        trial.records.append(record)
        self._judge.see(trial.job, trial.progress.values)
        result = self._decide(trial)
        if result is not None and not self._trials.tell(number, result):
            self._lose(trial)
            return True
        # Recorded after the decision: after a kill, every recorded epoch is known to be judged.
        self._records.epoch(trial.job, record)
        if result is not None:
            self._end(trial, result)
        return result is not None

    def ended(self, number: int) -> None:
        """Process the end of a trial whose trainer ended before its last epoch."""
        trial = self.active[number]
        if not self._trials.owns(number):
            self._lose(trial)
            return
        epochs = f"{len(trial.records)} of {trial.job.config.horizon} epochs"
        result = replace(self._result(trial), stop_reason=f"its trainer ended after {epochs}")
        if self._trials.tell(number, result):
            self._end(trial, result)
        else:
            self._lose(trial)

    def error(self, number: int, error: str, again: bool) -> None:
        """Process an error of a trial. The trial has crashed if it is not tried again. A full disk halts the study.

        Args:
            number: the trial's number.
            error: the error with its traceback.
            again: whether the trial has been started again.
        """
        trial = self.active[number]
        summary = cause_of(error)
        with contextlib.suppress(OSError):  # the disk may be what failed
            add_failure(self._home.error_log(self.spec.name, number), error)
        self._watcher.failed(trial, summary, again)
        if is_disk_full(error):
            self.halt(disk_full_message(self._home.root, self.spec.name))
        if self.halted is not None:
            return  # not the trial's fault, and every other trial would have the same error
        if again:
            trial.tries += 1
            return
        result = crash_result(len(trial.records), summary)
        if not self._trials.tell(number, result):
            self._lose(trial)
            return
        self.crashed += 1
        self._end(trial, result)

    def halt(self, reason: str) -> None:
        """End the study as soon as possible; the next launch continues its running trials."""
        self.halted = self.halted or reason

    def stopping(self) -> None:
        """Note that the launch was asked to finish before the study is complete."""
        self._watcher.stopping()

    def interrupt(self) -> None:
        """Leave the running trials to the next launch."""
        self._records.pause([trial.job for trial in self.active.values()])

    def remove_frozen(self) -> None:
        """Settle what is left of stopped trials that no rule has revived; called at the study's end."""
        if not self._frozen:
            return
        with contextlib.suppress(SweepError):  # where the records cannot be written, their checkpoints are kept
            self._records.written()
            for number in self._frozen:
                self._checkpoints.remove(number)
            self._frozen.clear()
        self._settle_networks()

    # After an epoch

    def _decide(self, trial: ActiveTrial) -> Result | None:
        """Return the result of a trial whose schedule or a rule ends it after this epoch; else None."""
        epoch, at_end = len(trial.records), len(trial.records) >= trial.job.config.horizon
        if epoch > trial.judged:
            trial.judged = epoch
            self._watcher.epoch(trial)
            trial.stop = None
            if not at_end:
                known = len(trial.would_stop)
                trial.stop = self._judge.stop(trial)
                if trial.stop is None and len(trial.would_stop) > known:
                    self._trials.save_would_stop(trial.job.number, trial.would_stop)
        if not at_end and trial.stop is None:
            return None
        return self._result(trial)

    def _result(self, trial: ActiveTrial) -> Result:
        return make_result(
            trial.progress,
            longest_horizon=self._judge.longest_horizon,
            noise=self._judge.noise(trial.job.config),
            stop=trial.stop,
            would_stop=trial.would_stop,
        )

    def _end(self, trial: ActiveTrial, result: Result) -> None:
        """Close a trial whose result is in the ledger."""
        job = trial.job
        del self.active[job.number]
        self._ask_again = 0.0  # the next trial may depend on this result
        self._count(job, result)
        if may_go_on(self.spec, result):
            self._frozen[job.number] = job
            self._records.end(job, result)
            self._checkpoints.remove_previous(job.number)
        else:
            # The checkpoint is needed until the whole curve is in the store.
            self._records.end(job, result, then=partial(self._checkpoints.remove, job.number))
        self._settle_networks()
        self._watcher.ended(trial, result)

    def _settle_networks(self) -> None:
        """Keep the networks of the best trials. What cannot be written now is kept by the next launch."""
        if self._networks is None:
            return
        try:
            self._networks.settle(self._names, self.results, self._frozen)
        except OSError as error:
            if is_disk_full(str(error)):
                self.halt(disk_full_message(self._home.root, self.spec.name))
            _log.warning("the networks of the best trials could not be kept: %s", error)

    def _count(self, job: Job, result: Result) -> None:
        """Count an ended trial of this driver or another one."""
        self.results[job.number], self._names[job.number] = result, job.name
        self._judge.end(job, result)
        self._revived = None
        rank = result.objective if self.spec.objective.target is None else result.epochs_to_target
        if rank is not None and (self.leader is None or rank < self.leader.rank):
            self.leader = Leader(rank, job.name, result.best_value)

    def _lose(self, trial: ActiveTrial) -> None:
        """Drop a trial that another driver took over when this driver's lease had expired."""
        number = trial.job.number
        del self.active[number]
        self._trials.release(number)
        self._running_elsewhere += 1
        self._checkpoints.remove(number)
        if self._networks is not None:
            self._networks.remove(number)
        self._watcher.lost(trial.job)

    # Which trial is next

    def _continue(self, unfinished: Unfinished) -> None:
        """Give the rules the known curve of a trial to be continued, before the trial reports its epochs again."""
        self._judged[unfinished.job.number] = unfinished.judged
        self._judge.see(unfinished.job, unfinished.values)

    def _to_thaw(self) -> list[int]:
        """Return the stopped trials that the rules revive now. The answer may change with every trial that ends."""
        if self._revived is None:
            self._revived = list(self._judge.revived(self._frozen))
        return self._revived

    def _thaw(self) -> Job | None:
        """Reopen a stopped trial that a rule revives; None where there is none."""
        while numbers := self._to_thaw():
            job = self._trials.thaw(numbers[0])
            if job is not None:
                self._reopen(job)
                return job
            self._frozen.pop(numbers.pop(0))  # another driver has taken it over
        return None

    def _reopen(self, job: Job) -> None:
        """Treat an ended trial as running again; nothing changes where it had not ended."""
        if self.results.pop(job.number, None) is None:
            return
        self._frozen.pop(job.number, None)
        self._revived = None
        self._judged[job.number] = judged_epochs(job)
        self._judge.reopen(job)

    def _ask(self) -> Job | None:
        """Ask the ledger for a trial, and count the trials that other drivers have ended."""
        if time.monotonic() < self._ask_again or self.exhausted:
            return None
        assignment = self._trials.next_assignment(self.results)
        self._remaining, self._running_elsewhere = assignment.remaining, assignment.running_elsewhere
        for entry in assignment.ended:
            number, result = entry.job.number, entry.result
            if result is not None and number not in self.active and self.results.get(number) != result:
                self._count(entry.job, result)
        job = assignment.job
        if job is None:
            self._ask_again = time.monotonic() + _ASK_SECONDS
            if self._running_elsewhere and not (self.active or self._waits):
                self._waits = True
                self._watcher.waiting(self._running_elsewhere)
            return None
        self._waits = False
        self._reopen(job)
        if assignment.adopted:
            metric = self.spec.objective.metric
            self._continue(take_over(self._checkpoints, self._records, job, assignment.home, metric))
        return job
