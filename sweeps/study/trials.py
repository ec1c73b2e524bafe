"""A trial of a study: what there is to run, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from resnet_core.config import TrialConfig
from sweeps.study.outcomes import Result


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
