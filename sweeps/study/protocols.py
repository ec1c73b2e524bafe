"""What a study needs around it: who proposes its trials, who keeps what they did, who shows it to people."""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Mapping
from typing import Protocol

from resnet_core.records import EpochRecord, Outcome
from search_spaces.spec import StudySpec
from sweeps.study.outcomes import Result
from sweeps.study.trials import ActiveTrial, Assignment, Entry, Job


class Trials(Protocol):
    """Proposes a study's trials and remembers them: sweeps.ledger.ledger.Ledger, or a list of trials to replay."""

    spec: StudySpec

    def entries(self) -> list[Entry]:
        """Return all trials so far, by number."""

    def unfinished(self) -> list[Job]:
        """Return the trials to be continued."""

    def remaining(self) -> int:
        """Return how many more trials the study asks for; with finalists at most."""

    def running_elsewhere(self) -> int:
        """Return how many trials other drivers run."""

    def next_assignment(self, known: Container[int] = ()) -> Assignment:
        """Return the next trial, if there is one, and what ended elsewhere that is not known yet."""

    def thaw(self, number: int) -> Job | None:
        """Have a trial that ended go on; return it, or None where it is no longer this driver's."""

    def owns(self, number: int) -> bool:
        """Return whether a trial is still this driver's."""

    def release(self, number: int) -> None:
        """Let go of a trial that is no longer this driver's."""

    def claimable(self, numbers: Collection[int]) -> dict[int, str]:
        """Return which trials are this driver's to close, its own and of drivers that are gone, with their homes."""

    def claim(self, number: int) -> bool:
        """Take over a trial that ended with a driver that is gone; return whether that was still to be done."""

    def save_would_stop(self, number: int, would_stop: Mapping[str, int]) -> None:
        """Write down at which epochs rules said stop to a running trial that goes on."""

    def load_would_stop(self, number: int) -> dict[str, int]:
        """Return what was written down last of a trial that continues."""

    def tell(self, number: int, result: Result) -> bool:
        """Write down how a trial ended; return False where it is no longer this driver's."""


class Records(Protocol):
    """Keeps what a study did: sweeps.tracking.writer.Tracker, or nothing at all."""

    def written(self) -> Mapping[int, tuple[str, frozenset[int]]]:
        """Return what is kept already: by trial number, its run's status and its epochs."""

    def refresh(self) -> Mapping[int, tuple[str, frozenset[int]]]:
        """Return the same, with what other drivers have written since."""

    def adopt(self, job: Job) -> frozenset[int]:
        """Take up the run of another driver's trial; return its epochs."""

    def status_of(self, outcome: Outcome) -> str:
        """Return the status that the run of a trial has when the trial ended so."""

    def begin(self, job: Job) -> None:
        """Open a trial's run."""

    def place(self, job: Job, placement: dict[str, str]) -> None:
        """Keep where a trial runs."""

    def epoch(self, job: Job, record: EpochRecord) -> None:
        """Keep an epoch."""

    def end(self, job: Job, result: Result, then: Callable[[], None] | None = None) -> None:
        """Keep how a trial ended; call ``then`` once that is safe."""

    def pause(self, jobs: list[Job]) -> None:
        """Mark trials as waiting to be continued."""


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

    def stopping(self) -> None:
        """Show that the launch was asked to finish, and waits for the running trials."""

    def lost(self, job: Job) -> None:
        """Show that another driver has taken a trial over."""

    def waiting(self, trials: int) -> None:
        """Show that nothing is left but so many trials of other drivers."""
