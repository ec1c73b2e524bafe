"""A trial of a study as plain data: what it runs, its result, and its progress."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

from resnet_core.objective import DEFAULT, Objective
from resnet_core.own_config import Config
from resnet_core.records import EpochRecord, Outcome, crashes_text
from sweeps.study.outcomes import Result, Stop
from sweeps.study.stopping.base import Progress


@dataclass(frozen=True)
class Job:
    """One trial to run.

    Attributes:
        number: its number in the study, from 0. It is Optuna's number, except in a forked study: the trials copied from
            the older study are not counted there.
        name: the name of the listed run, else the number; a finalist's name ends in ``-s`` and its seed.
        config: its configuration.
        params: the sampled values by parameter name; empty for a listed run.
        finalist: whether it repeats one of the study's best configurations with a fresh seed.
        thawed: the epochs after which a rule stopped the trial before it went on later.
    """

    number: int
    name: str
    config: Config
    params: dict[str, Any]
    finalist: bool = False
    thawed: tuple[int, ...] = ()


@dataclass(frozen=True)
class Entry:
    """A trial in the ledger: its job, and its result once it has ended."""

    job: Job
    result: Result | None


def crashes(study: str, entries: Sequence[Entry]) -> str | None:
    """Return why trials of a study crashed, in a sentence; None where none did."""
    results = [(entry.job.name, entry.result) for entry in entries if entry.result is not None]
    crashed = [(name, result.stop_reason) for name, result in results if result.outcome is Outcome.CRASHED]
    return crashes_text(study, crashed, every=len(crashed) == len(entries)) if crashed else None


@dataclass(frozen=True)
class Assignment:
    """The ledger's answer to a driver that asks for a trial.

    Attributes:
        job: the trial to run; None where the driver has nothing to run now.
        remaining: how many further trials the study needs.
        running_elsewhere: how many trials other drivers run. They are assigned again if their driver's lease expires.
        ended: ended trials whose results the driver did not know yet.
        adopted: whether ``job`` was begun by another driver whose lease has expired.
        home: the home folder of that other driver.
    """

    job: Job | None
    remaining: int
    running_elsewhere: int
    ended: list[Entry] = field(default_factory=list)
    adopted: bool = False
    home: str = ""


@dataclass
class ActiveTrial:
    """A trial that was placed and has not ended.

    Attributes:
        job: the trial.
        control: whether no rule may stop it: true for control trials and finalists.
        group: its value of the parameter or field by which a rule groups trials; None where no rule does.
        coordinates: its position in the study's space; empty without one.
        judged: number of epochs that the rules have judged, in this launch or an earlier one.
        records: its epochs so far.
        would_stop: by rule, the first epoch at which the rule would have stopped it.
        stop: the decision that ends it, once there is one.
        tries: how often it was started again after an error.
        objective: what its study looks for.
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
    objective: Objective = DEFAULT

    @property
    def progress(self) -> Progress:
        """The trial as rules see it; it must have at least one epoch."""
        return Progress(self.job.config, self.records, self.group, self.coordinates, self.objective)
