"""Interfaces that a running study uses: one proposes its trials, one records them, one shows them to people."""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Mapping
from typing import NamedTuple, Protocol

from resnet_core.records import EpochRecord, Outcome
from search_spaces.spec import StudySpec
from sweeps.study.outcomes import Result
from sweeps.study.trials import ActiveTrial, Assignment, Entry, Job


class Trials(Protocol):
    """Proposes a study's trials: the ledger, or a list of trials that are replayed."""

    spec: StudySpec

    def remaining(self) -> int:
        """Return how many further trials the study needs; with finalists, the largest possible number."""

    def next_assignment(self, known: Container[int] = ()) -> Assignment:
        """Return the next trial, and the ended trials whose numbers are not in ``known``."""

    def thaw(self, number: int) -> Job | None:
        """Reopen a trial that a rule stopped, and return it; None where another driver owns it now."""

    def owns(self, number: int) -> bool:
        """Return whether this driver still owns a trial that it began."""

    def release(self, number: int) -> None:
        """Forget a trial that another driver has taken over."""

    def save_would_stop(self, number: int, would_stop: Mapping[str, int]) -> None:
        """Save at which epochs rules would have stopped a trial that goes on."""

    def load_would_stop(self, number: int) -> dict[str, int]:
        """Return the epochs that ``save_would_stop`` saved last for a trial."""

    def tell(self, number: int, result: Result) -> bool:
        """Save how a trial ended; return False, and save nothing, where another driver owns it now."""


class StoredTrials(Trials, Protocol):
    """Trials that outlive the process, so that a later launch continues them."""

    def entries(self) -> list[Entry]:
        """Return all trials so far, in the order of their numbers."""

    def unfinished(self) -> list[Job]:
        """Return this driver's trials that were running when its last process ended."""

    def running_elsewhere(self) -> int:
        """Return how many trials other drivers run."""

    def claimable(self, numbers: Collection[int]) -> dict[int, str]:
        """Return which of these trials this driver may claim: its own, and those of drivers whose lease has expired.

        Each number maps to the home folder of the driver that ran the trial. The text is empty for this driver's own
        trials.
        """

    def claim(self, number: int) -> bool:
        """Make this driver the owner of an ended trial; return False where another driver owns it now."""


class WrittenRun(NamedTuple):
    """The recorded status and epochs of a trial.

    Attributes:
        status: status of the trial's run.
        epochs: numbers of its recorded epochs; empty once the run has ended.
        deleted: whether somebody deleted the run: it may be of a trial that an earlier ledger had.
        outcome: the recorded outcome; empty while there is none.
    """

    status: str
    epochs: frozenset[int]
    deleted: bool = False
    outcome: str = ""


class Records(Protocol):
    """Records a study's trials: MLflow's writer, or a class that discards everything."""

    def written(self) -> Mapping[int, WrittenRun]:
        """Wait until everything sent has been written; return what is recorded, by trial number."""

    def status_of(self, outcome: Outcome) -> str:
        """Return the status of a run whose trial has ended with this outcome."""

    def adopt(self, job: Job) -> frozenset[int]:
        """Take over the run of a trial that another driver began; return its recorded epochs."""

    def begin(self, job: Job) -> None:
        """Open a trial's run."""

    def place(self, job: Job, placement: dict[str, str]) -> None:
        """Record where a trial runs."""

    def epoch(self, job: Job, record: EpochRecord) -> None:
        """Record an epoch."""

    def end(self, job: Job, result: Result, then: Callable[[], None] | None = None) -> None:
        """Record how a trial ended; call ``then`` once that is stored."""

    def pause(self, jobs: list[Job]) -> None:
        """Mark trials as waiting to be continued."""


class Watcher(Protocol):
    """Shows a running study to people."""

    def started(self, trial: ActiveTrial) -> None:
        """Show that a trial was placed."""

    def epoch(self, trial: ActiveTrial) -> None:
        """Show that a trial finished an epoch."""

    def failed(self, trial: ActiveTrial, error: str, again: bool) -> None:
        """Show that an error occurred in a trial, and whether the trial is tried again."""

    def ended(self, trial: ActiveTrial, result: Result) -> None:
        """Show that a trial ended."""

    def stopping(self) -> None:
        """Show that the launch was asked to finish and now waits for the running trials."""

    def lost(self, job: Job) -> None:
        """Show that another driver has taken a trial over."""

    def waiting(self, trials: int) -> None:
        """Show that only trials of other drivers are left; ``trials`` is their number."""
