"""A study in virtual time: its trials and stopping rules run on known curves, and nothing is trained.

StudyRun decides, as in a real study; only the clock, the slots and the trials' epochs are simulated. The whole curve of
a trial is known even if a rule stops the trial, so every stop can be judged.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from statistics import fmean

from resnet_core.own_config import Config, with_seed
from resnet_core.records import EpochRecord, Outcome
from search_spaces.spec import StudySpec
from sweeps.home import Home
from sweeps.study.finalists import race_of
from sweeps.study.outcomes import Result
from sweeps.study.protocols import Trials, WrittenRun
from sweeps.study.ranking import configuration_of
from sweeps.study.recovery import Recovered
from sweeps.study.run import StudyRun
from sweeps.study.trials import ActiveTrial, Assignment, Entry, Job

CurveOf = Callable[[Job], Sequence[EpochRecord]]
"""A function that returns the epochs of a job, from 1 to its horizon."""

Begun = tuple[int, float]
"""The number of a trial that takes a slot, and the seconds that its next epoch lasts."""


@dataclass(frozen=True)
class SimulatedTrial:
    """One simulated trial.

    Attributes:
        job: the trial's job.
        started: when it first took a slot, in seconds of virtual time.
        epoch_ends: when each trained epoch ended, in seconds of virtual time; a trial that ended and went on has a gap.
        records: its whole curve, including the epochs after the one at which it was stopped.
        result: the trial's result.
    """

    job: Job
    started: float
    epoch_ends: Sequence[float]
    records: Sequence[EpochRecord]
    result: Result

    @property
    def ended(self) -> float:
        """When it freed its slot for the last time, in seconds of virtual time."""
        return self.epoch_ends[-1]

    @property
    def seconds(self) -> float:
        """How many seconds it held a slot."""
        return math.fsum(record.seconds or 0.0 for record in self.records[: len(self.epoch_ends)])


def run_in_virtual_time(
    slots: int, begin_trial: Callable[[float], Begun | None], end_epoch: Callable[[int, float], float | None]
) -> None:
    """Run trials until no new trial begins and all have ended; every end of an epoch is an event.

    A free slot takes the next trial at once. Events at the same time are handled in the order in which they were
    scheduled.

    Args:
        slots: number of trials at the same time, 1 or more.
        begin_trial: takes the time in seconds, and returns the trial that takes a slot; None if no trial begins now. It
            is called again after each event while a slot is free.
        end_epoch: takes a trial's number and the time at which its epoch ends, and returns the seconds that its next
            epoch lasts; None if the trial ends and frees its slot.
    """
    clock, free, scheduled = 0.0, slots, count()
    events: list[tuple[float, int, int]] = []  # time, order of scheduling, number of the trial
    while True:
        while free and (begun := begin_trial(clock)) is not None:
            number, seconds = begun
            heapq.heappush(events, (clock + seconds, next(scheduled), number))
            free -= 1
        if not events:
            return
        clock, _, number = heapq.heappop(events)
        following = end_epoch(number, clock)
        if following is None:
            free += 1
        else:
            heapq.heappush(events, (clock + following, next(scheduled), number))


@dataclass
class _Placed:
    """A trial that took a slot: its whole curve, and the times at which its trained epochs ended."""

    job: Job
    started: float
    records: Sequence[EpochRecord]
    epoch_ends: list[float] = field(default_factory=list)

    @property
    def next_seconds(self) -> float:
        return self.records[len(self.epoch_ends)].seconds or 0.0


def replay(
    run: StudyRun,
    curve_of: CurveOf,
    slots: int,
    epochs: float = math.inf,
    finalists: int = 0,
    end_search: Callable[[], None] = lambda: None,
) -> list[SimulatedTrial]:
    """Run a study in virtual time and return its trials in the order in which they were placed.

    The seconds of an epoch are those of its record. A trial that ended and goes on keeps its trained epochs.

    Args:
        run: the study, before its first trial.
        curve_of: returns the curve of a trial.
        slots: number of trials at the same time, 1 or more.
        epochs: budget: no trial begins if the running trials would use it up without being stopped.
        finalists: number of runs of finalists for which a part of the budget is reserved, at most a quarter of it.
        end_search: called once the search has used up all but the reserved part; from then on only finalists run.

    Raises:
        ValueError: a curve is shorter than its trial's horizon.
    """
    placed: dict[int, _Placed] = {}
    trained = 0

    def begin_trial(clock: float) -> Begun | None:
        nonlocal finalists
        ahead = sum(trial.job.config.horizon - len(trial.records) for trial in run.active.values())
        horizons = [trial.job.config.horizon for trial in placed.values()]
        kept = min(epochs / 4, finalists * fmean(horizons)) if finalists and horizons else 0
        if kept and trained + ahead >= epochs - kept:
            end_search()
            finalists = 0
        if trained + ahead >= epochs or (trial := run.next_trial()) is None:
            return None
        job, number = trial.job, trial.job.number
        if number not in placed:
            records = curve_of(job)
            if len(records) < job.config.horizon:
                raise ValueError(f"trial {job.name}: {len(records)} epochs for a horizon of {job.config.horizon}")
            placed[number] = _Placed(job, clock, records)
        for record in placed[number].records[: len(placed[number].epoch_ends)]:  # the trial had ended and goes on
            run.epoch(number, record)
        return number, placed[number].next_seconds

    def end_epoch(number: int, clock: float) -> float | None:
        nonlocal trained
        trial = placed[number]
        trial.epoch_ends.append(clock)
        trained += 1
        return None if run.epoch(number, trial.records[len(trial.epoch_ends) - 1]) else trial.next_seconds

    run_in_virtual_time(slots, begin_trial, end_epoch)
    return [
        SimulatedTrial(trial.job, trial.started, trial.epoch_ends, trial.records, run.results[number])
        for number, trial in placed.items()
    ]


@dataclass
class FixedTrials:
    """A list of trials that replaces a ledger: run in the order of the list, numbered from 0, kept in memory.

    Attributes:
        spec: the study.
        jobs: the study's trials.
        others: by configuration, the runs for its finalists; a configuration that is missing here gets runs with
            fresh seeds.
    """

    spec: StudySpec
    jobs: Sequence[Job]
    others: Mapping[Config, Sequence[Job]] = field(default_factory=dict)
    _asked: int = 0
    _finalists: int = 0
    _entries: dict[int, Entry] = field(default_factory=dict)

    def entries(self) -> list[Entry]:
        """Return the trials that have begun so far."""
        return list(self._entries.values())

    def end_search(self) -> None:
        """Remove the trials that have not begun."""
        self.jobs = self.jobs[: self._asked]

    def remaining(self) -> int:
        """Return how many trials are left."""
        return len(self.jobs) - self._asked or race_of(self.spec, self.entries()).runs_left

    def next_assignment(self, known: Container[int] = ()) -> Assignment:  # noqa: ARG002
        """Return the next trial, with its number in this study."""
        job = self._next()
        if job is None:
            return Assignment(None, self.remaining(), 0)
        self._entries[job.number] = Entry(job, None)
        return Assignment(job, max(int(job.finalist), self.remaining()), 0)

    def _next(self) -> Job | None:
        if self._asked < len(self.jobs):
            self._asked += 1
            return replace(self.jobs[self._asked - 1], number=self._asked - 1)
        chosen = race_of(self.spec, self.entries()).next
        if chosen is None:
            return None
        job, seed = chosen[0].job, chosen[1]
        config = configuration_of(job.config)
        if config in self.others:
            had = {entry.job.name for entry in self.entries()}
            again = next(run for run in self.others[config] if run.name not in had)
        else:
            again = replace(job, name=f"{job.name}-s{seed}", config=with_seed(job.config, seed))
        self._finalists += 1
        return replace(again, number=self._asked + self._finalists - 1, finalist=True)

    def thaw(self, number: int) -> Job:
        """Let a trial that ended go on."""
        ended = self._entries[number]
        assert ended.result is not None
        job = replace(ended.job, thawed=(*ended.job.thawed, ended.result.epochs_run))
        self._entries[number] = Entry(job, None)
        return job

    def owns(self, number: int) -> bool:  # noqa: ARG002
        """Return True: there are no other drivers."""
        return True

    def release(self, number: int) -> None:
        """Do nothing: no other driver takes a trial over."""

    def save_would_stop(self, number: int, would_stop: Mapping[str, int]) -> None:
        """Do nothing: no later process continues the study."""

    def load_would_stop(self, number: int) -> dict[str, int]:  # noqa: ARG002
        """Return an empty dictionary: nothing is saved."""
        return {}

    def tell(self, number: int, result: Result) -> bool:
        """Remember how a trial ended."""
        self._entries[number] = replace(self._entries[number], result=result)
        return True


class _NoRecords:
    """The records of a study in memory: records nothing."""

    def written(self) -> Mapping[int, WrittenRun]:
        return {}

    def adopt(self, job: Job) -> frozenset[int]:  # noqa: ARG002
        return frozenset()

    def status_of(self, outcome: Outcome) -> str:  # noqa: ARG002
        return ""

    def begin(self, job: Job) -> None: ...

    def place(self, job: Job, placement: dict[str, str]) -> None: ...

    def epoch(self, job: Job, record: EpochRecord) -> None: ...

    def end(self, job: Job, result: Result, then: Callable[[], None] | None = None) -> None: ...

    def pause(self, jobs: list[Job]) -> None: ...


class _NoWatcher:
    """The watcher of a study in memory: shows nothing."""

    def started(self, trial: ActiveTrial) -> None: ...

    def epoch(self, trial: ActiveTrial) -> None: ...

    def failed(self, trial: ActiveTrial, error: str, again: bool) -> None: ...

    def ended(self, trial: ActiveTrial, result: Result) -> None: ...

    def stopping(self) -> None: ...

    def lost(self, job: Job) -> None: ...

    def waiting(self, trials: int) -> None: ...


def study_in_memory(home: Home, trials: Trials) -> StudyRun:
    """Return a study that decides like a launched one and writes nothing."""
    return StudyRun(home, trials, _NoRecords(), _NoWatcher(), Recovered(remaining=trials.remaining()))
