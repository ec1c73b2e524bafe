"""A trial of a study: what there is to run, and what came of it."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

from resnet_core.config import TrialConfig
from resnet_core.records import EpochRecord
from sweeps.study.outcomes import Result, Stop
from sweeps.study.stopping.base import Progress


@dataclass(frozen=True)
class Job:
    """One trial to run.

    Attributes:
        number: its number in the study, from 0; Optuna's, but for the trials that a fork knows.
        name: the listed run's name, or the number; a finalist's has ``-s`` and its seed behind it.
        config: what it trains.
        params: what was sampled, by parameter name; empty for a listed run.
        finalist: whether it runs one of the study's best configurations again, with a fresh seed.
        thawed: the epochs after which it was ended, and later went on.
    """

    number: int
    name: str
    config: TrialConfig
    params: dict[str, Any]
    finalist: bool = False
    thawed: tuple[int, ...] = ()


@dataclass(frozen=True)
class Entry:
    """What the ledger knows of one trial: its job, and its result once it has ended."""

    job: Job
    result: Result | None


@dataclass(frozen=True)
class Assignment:
    """What a driver gets when it asks for a trial.

    Attributes:
        job: the trial; None where there is none for it now.
        remaining: how many more the study asks for.
        running_elsewhere: how many other drivers run; should one of them be gone, its trials will be handed out.
        ended: trials that ended elsewhere, as far as the driver did not know of them.
        adopted: the trial was another driver's that is gone.
        home: that driver's home folder.
    """

    job: Job | None
    remaining: int
    running_elsewhere: int
    ended: list[Entry] = field(default_factory=list)
    adopted: bool = False
    home: str = ""


@dataclass
class ActiveTrial:
    """A trial that has been placed and has not ended.

    Attributes:
        job: what it is.
        control: no rule may stop it; so it is with every finalist.
        group: its value of what the study caps by.
        coordinates: where its parameters lie in the study's space.
        judged: epochs that rules have looked at already, in this launch or an earlier one.
        records: its epochs so far.
        would_stop: by rule, the first epoch at which it said stop, whether or not it was let.
        stop: the rule's decision to end it, once there is one.
        tries: times it has been started again after an error.
    """

    job: Job
    control: bool
    group: Hashable = None
    coordinates: Sequence[float] = ()
    judged: int = 0
    records: list[EpochRecord] = field(default_factory=list)
    would_stop: dict[str, int] = field(default_factory=dict)
    stop: Stop | None = None
    tries: int = 0

    @property
    def progress(self) -> Progress:
        """What rules see of it; needs one epoch at least."""
        return Progress(self.job.config, self.records, self.group, self.coordinates)
