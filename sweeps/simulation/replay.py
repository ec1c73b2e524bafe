"""A study in virtual time: its own stopping rules on curves that are known, with nothing trained.

The decisions are StudyRun's, which runs real studies. Only what surrounds it is made up: a clock, slots, and
trials whose epochs are known. The curve of a trial is known to its end whatever the rules do, so every stop can be
judged.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean

from resnet_core.config import TrialConfig
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

Curves = Callable[[Job], Sequence[EpochRecord]]
"""The epochs of a job, 1, 2, … to its horizon."""


@dataclass(frozen=True)
class Replayed:
    """One simulated trial.

    Attributes:
        job: what it was.
        started: when it took its slot, in seconds of virtual time.
        epoch_ends: when each of the epochs it was trained ended, likewise; there is a gap where it ended and went on.
        records: its whole curve, also behind the epoch at which it was stopped.
        result: how it ended.
    """

    job: Job
    started: float
    epoch_ends: Sequence[float]
    records: Sequence[EpochRecord]
    result: Result

    @property
    def ended(self) -> float:
        """When it gave its slot back for the last time."""
        return self.epoch_ends[-1]

    @property
    def seconds(self) -> float:
        """How long it held a slot."""
        return math.fsum(record.seconds for record in self.records[: len(self.epoch_ends)])


def replay(
    run: StudyRun,
    curves: Curves,
    slots: int,
    epochs: float = math.inf,
    finalists: int = 0,
    end_search: Callable[[], None] = lambda: None,
) -> list[Replayed]:
    """Run a study in virtual time and return its trials in the order they were placed.

    A free slot takes the next trial at once; every epoch of a trial is an event, and lasts the record's seconds.
    Events at the same time come in the order they were scheduled. A trial that ended and goes on has its epochs so far.

    Args:
        run: the study, none of it begun.
        curves: what each trial will show.
        slots: trials at once, 1 or more.
        epochs: no further trial is placed once these are trained, or will be when all running trials end by themselves.
        finalists: for so many runs of finalists epochs are kept, a quarter of them at most.
        end_search: called once all but those are used up; from then on there are finalists alone.

    Raises:
        ValueError: a curve is shorter than its trial's horizon.
    """
    clock, scheduled, free, trained = 0.0, 0, slots, 0
    events: list[tuple[float, int, int]] = []  # when, how many were scheduled before, whose epoch
    placed: dict[int, tuple[Job, float, list[float], Sequence[EpochRecord]]] = {}
    while True:
        while free:
            ahead = sum(trial.job.config.horizon - len(trial.records) for trial in run.active.values())
            horizons = [job.config.horizon for job, *_ in placed.values()]
            kept = min(epochs / 4, finalists * fmean(horizons)) if finalists and horizons else 0
            if kept and trained + ahead >= epochs - kept:
                end_search()
                finalists = 0
            if trained + ahead >= epochs or (trial := run.next_trial()) is None:
                break
            job, number = trial.job, trial.job.number
            if number not in placed:
                records = curves(job)
                if len(records) < job.config.horizon:
                    raise ValueError(f"trial {job.name}: {len(records)} epochs for a horizon of {job.config.horizon}")
                placed[number] = (job, clock, [], records)
            _, _, ends, records = placed[number]
            for record in records[: len(ends)]:  # of one that had ended and goes on
                run.epoch(number, record)
            heapq.heappush(events, (clock + records[len(ends)].seconds, scheduled, number))
            free, scheduled = free - 1, scheduled + 1
        if not events:
            return [Replayed(*parts, run.results[number]) for number, parts in placed.items()]
        clock, _, number = heapq.heappop(events)
        _, _, ends, records = placed[number]
        ends.append(clock)
        trained += 1
        if run.epoch(number, records[len(ends) - 1]):
            free += 1
        else:
            heapq.heappush(events, (clock + records[len(ends)].seconds, scheduled, number))
            scheduled += 1


@dataclass
class FixedTrials:
    """A list of trials instead of a ledger: handed out in its order, numbered from 0, remembered nowhere.

    Attributes:
        spec: the study.
        jobs: its trials.
        others: by configuration, its runs that finalists take; one that has none here gets runs with fresh seeds.
    """

    spec: StudySpec
    jobs: Sequence[Job]
    others: Mapping[TrialConfig, Sequence[Job]] = field(default_factory=dict)
    _asked: int = 0
    _finalists: int = 0
    _entries: dict[int, Entry] = field(default_factory=dict)

    def entries(self) -> list[Entry]:
        """Return what was handed out so far; nothing ran before."""
        return list(self._entries.values())

    def end_search(self) -> None:
        """Hand out none of the trials that have not been."""
        self.jobs = self.jobs[: self._asked]

    def remaining(self) -> int:
        """Return how many trials are left."""
        return len(self.jobs) - self._asked or race_of(self.spec, self.entries()).runs_left

    def next_assignment(self, known: Container[int] = ()) -> Assignment:  # noqa: ARG002
        """Return the next trial, under its number in this study."""
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
            again = replace(job, name=f"{job.name}-s{seed}", config=replace(job.config, seed=seed))
        self._finalists += 1
        return replace(again, number=self._asked + self._finalists - 1, finalist=True)

    def thaw(self, number: int) -> Job:
        """Have a trial that ended go on."""
        ended = self._entries[number]
        assert ended.result is not None
        job = replace(ended.job, thawed=(*ended.job.thawed, ended.result.epochs_run))
        self._entries[number] = Entry(job, None)
        return job

    def owns(self, number: int) -> bool:  # noqa: ARG002
        """Return that a trial is this driver's."""
        return True

    def release(self, number: int) -> None:
        """Do nothing: no other driver takes a trial over."""

    def save_would_stop(self, number: int, would_stop: Mapping[str, int]) -> None:
        """Do nothing: no process continues this one."""

    def load_would_stop(self, number: int) -> dict[str, int]:  # noqa: ARG002
        """Return none, likewise."""
        return {}

    def tell(self, number: int, result: Result) -> bool:
        """Remember how a trial ended."""
        self._entries[number] = replace(self._entries[number], result=result)
        return True


class _Unkept:
    """Keeps nothing, where a launch has MLflow."""

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


class _Unwatched:
    """Shows nothing."""

    def started(self, trial: ActiveTrial) -> None: ...

    def epoch(self, trial: ActiveTrial) -> None: ...

    def failed(self, trial: ActiveTrial, error: str, again: bool) -> None: ...

    def ended(self, job: Job, result: Result) -> None: ...

    def stopping(self) -> None: ...

    def lost(self, job: Job) -> None: ...

    def waiting(self, trials: int) -> None: ...


def study_in_memory(home: Home, trials: Trials) -> StudyRun:
    """Return a study that decides as a launch does and leaves no trace."""
    return StudyRun(home, trials, _Unkept(), _Unwatched(), Recovered(remaining=trials.remaining()))
