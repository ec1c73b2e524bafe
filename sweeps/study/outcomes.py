"""The outcome of a trial, set here and nowhere else.

    outcome     meaning                                            Optuna               MLflow's run
    reached     the metric came to the target                      COMPLETE             FINISHED
    exhausted   the schedule ended without that                    COMPLETE             FINISHED
    pruned      a stopping rule ended the trial                    PRUNED               KILLED
    diverged    loss or metric not finite, or accuracy at chance   PRUNED, no value     FAILED
    crashed     an error that is not the trial's fault             FAIL, tried again    FAILED

Each package maps an outcome once to the terms of its library: `sweeps.ledger.outcomes` to Optuna's states,
`sweeps.tracking.writer` to MLflow's statuses.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from resnet_core.objective import Objective
from resnet_core.records import Outcome
from sweeps.study.stopping.base import Progress
from sweeps.study.stopping.diverged import divergence


@dataclass(frozen=True)
class Stop:
    """A rule's decision to end a trial.

    Attributes:
        rule: the rule's name.
        reason: why, in words.
    """

    rule: str
    reason: str


@dataclass(frozen=True)
class Result:
    """How a trial ended; plain values, kept in the ledger.

    Attributes:
        outcome: one of Outcome's values.
        epochs_run: number of epochs that it trained.
        objective: the number the sampler minimises; None where the trial diverged or crashed.
        epochs_to_target: first epoch at the target or better; None if never, without a target, or diverged.
        epochs_to_target_sustained: first of the study's m epochs in a row at the target or better; None if there are
            no such epochs, or the trial diverged.
        best_value: best finite value of the study's metric; None where there is none.
        best_epoch: the epoch of ``best_value``.
        final_loss: training loss of the last epoch; None where no epoch was run.
        final_val_loss: validation loss of the last epoch; None where no epoch was run.
        stopped_by: name of the rule that ended it; None where none did.
        stop_reason: why it ended early, in words; the error of a crashed trial.
        epochs_saved: if a rule ended the trial, the epochs of its schedule that were left; else 0.
        would_stop: by rule, the first epoch at which the rule said stop. Rules that were only recorded, in shadow or
            on a control trial, are included.
        values: values of the study's metric in epochs 1, 2, …, exactly as recorded, so that rules of a later launch
            judge by the same numbers; empty where the trial crashed.
    """

    outcome: Outcome
    epochs_run: int
    objective: float | None = None
    epochs_to_target: int | None = None
    epochs_to_target_sustained: int | None = None
    best_value: float | None = None
    best_epoch: int | None = None
    final_loss: float | None = None
    final_val_loss: float | None = None
    stopped_by: str | None = None
    stop_reason: str | None = None
    epochs_saved: int = 0
    would_stop: Mapping[str, int] = field(default_factory=dict)
    values: tuple[float, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; ``Result.from_dict`` takes them back.

        Values of any metric are under the keys that version 0.1.0 had for those of val_acc.
        """
        plain = {_STORED.get(name, name): value for name, value in asdict(self).items()}
        return plain | {"val_accs": [_finite(value) for value in self.values]}  # JSON knows no NaN

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Result:
        """Make a result from the values that ``to_dict`` returned."""
        found = {name: values[stored] for name in _FIELDS if (stored := _STORED.get(name, name)) in values}
        curve = tuple(math.nan if value is None else value for value in found.get("values", ()))
        return cls(**{**found, "outcome": Outcome(values["outcome"]), "values": curve})


_FIELDS = [field.name for field in fields(Result)]
_STORED = {"best_value": "best_val_acc", "values": "val_accs"}  # field: key in a stored result


def make_result(
    trial: Progress,
    *,
    longest_horizon: int,
    noise: float,
    stop: Stop | None,
    would_stop: Mapping[str, int] | None = None,
) -> Result:
    """Return the result of a trial that ended by itself or was ended by a rule.

    Args:
        trial: the trial, with at least one epoch.
        longest_horizon: epochs of the study's longest schedule, for the objective of a trial that misses the target.
        noise: standard deviation of a run's metric between seeds, for the objective.
        stop: the rule's decision that ended it, if one did.
        would_stop: by rule, the first epoch at which the rule said stop.
    """
    values, sought = trial.values, trial.objective
    crossing = sought.first_crossing(values)
    broken = divergence(trial)
    if broken is not None:
        outcome, crossing = Outcome.DIVERGED, None
    elif crossing is not None:
        outcome = Outcome.REACHED
    else:
        outcome = Outcome.EXHAUSTED if stop is None else Outcome.PRUNED
    top = sought.best(values)
    return Result(
        outcome=outcome,
        epochs_run=trial.epoch,
        objective=None if broken is not None else sought.minimised(values, longest_horizon, noise),
        epochs_to_target=crossing,
        epochs_to_target_sustained=None if crossing is None else sought.sustained_crossing(values),
        best_value=None if top is None else top[1],
        best_epoch=None if top is None else top[0],
        final_loss=_finite(trial.records[-1].loss),
        final_val_loss=_finite(trial.records[-1].val_loss),
        stopped_by=None if stop is None else stop.rule,
        stop_reason=stop.reason if stop is not None else broken,
        epochs_saved=0 if stop is None else trial.config.horizon - trial.epoch,
        would_stop=dict(would_stop or {}),
        values=tuple(values),
    )


def describe_result(result: Result, sought: Objective) -> str:
    """Return how a trial ended, in words: its outcome, and why it was stopped or its best value."""
    text = result.outcome.value
    if result.outcome is Outcome.REACHED:
        text += f" at epoch {result.epochs_to_target}"
    if result.stop_reason:
        text += f": {result.stop_reason}"
    elif result.best_value is not None:
        text += f", best {sought.metric} {sought.shown(result.best_value)} at epoch {result.best_epoch}"
    return text


def crash_result(records: int, error: str) -> Result:
    """Return the result of a trial that an error ended after ``records`` epochs."""
    return Result(outcome=Outcome.CRASHED, epochs_run=records, stop_reason=error)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
