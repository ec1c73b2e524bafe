"""Epochs, results and studies that tests make up."""

import itertools
from collections.abc import Sequence
from typing import Any

from resnet_core.records import EpochRecord, Outcome
from search_spaces.spec import StudySpec
from sweeps.ledger.ledger import Ledger
from sweeps.study.outcomes import Result

SCHEDULE = "[1e-3, 0] lin[1e-5, 4]"
REACHED = Result(Outcome.REACHED, 4, 2.5, 3, None, 0.9312, 4, 0.25, 0.5)
MISSED = Result(Outcome.EXHAUSTED, 4, 8.5, None, None, 0.8, 4, 0.25, 0.5)
PRUNED = Result(Outcome.PRUNED, 2, 6.5, None, None, 0.85, 2, 0.25, 0.5, "cap", "too slow")
CRASHED = Result(Outcome.CRASHED, 0, stop_reason="disk full")
_NAMES = (f"made-{number}" for number in itertools.count())


def epoch_record(
    epoch: int, val_acc: float = 0.5, *, loss: float = 0.25, acc: float = 0.8, seconds: float = 1.5
) -> EpochRecord:
    return EpochRecord(
        epoch=epoch,
        loss=loss,
        acc=acc,
        val_loss=0.5,
        val_acc=val_acc,
        lr=1e-3,
        wd_lr=1e-4,
        seconds=seconds,
        images_per_second=1e3,
    )


def epoch_records(val_accs: Sequence[float], **figures: float) -> list[EpochRecord]:
    """The epochs 1, 2, … with these validation accuracies; the other figures are the same in all."""
    return [epoch_record(epoch, val_acc, **figures) for epoch, val_acc in enumerate(val_accs, start=1)]


def fixed_study(name: str = "", *, schedule: str = SCHEDULE, **tables: Any) -> StudySpec:
    """A study that trains this schedule; without a name, under one of its own."""
    return StudySpec.model_validate({"name": name or next(_NAMES), "train": {"schedule": schedule}, **tables})


def sampled_study(name: str = "", *, horizon: int = 10, trials: int = 4, **tables: Any) -> StudySpec:
    """A study that samples a learning rate at random; without a name, under one of its own."""
    return StudySpec.model_validate(
        {
            "name": name or next(_NAMES),
            "train": {"schedule": f"[lr, 0] lin[1e-5, {horizon}]"},
            "space": {"lr": {"low": 1e-4, "high": 1e-2}},
            "search": {"trials": trials, "sampler": "random"},
            **tables,
        }
    )


def run_trials(uri: str, spec: StudySpec, *results: Result | None) -> Ledger:
    """Begin a trial of a study for each result, and tell how it ended; None is one that still runs."""
    ledger = Ledger.create(uri, spec)
    for result in results:
        number = ledger.ask().number
        if result is not None:
            ledger.tell(number, result)
    return ledger
