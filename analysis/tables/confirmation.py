"""The result of a confirmation: how often and how fast a frozen configuration reaches the target, or how good it is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import pandas as pd

from analysis.statistics.estimates import (
    expected_running_time,
    mean_value,
    median_epochs,
    restricted_mean,
    share_reached,
)
from analysis.statistics.intervals import Estimate, mean_sd
from analysis.store.loader import Study
from analysis.tables.summary import ended_runs
from analysis.tables.trials import why_crashed
from resnet_core.objective import Objective
from resnet_core.records import Outcome
from resnet_core.schema import best_metric

_LENGTHENED = {
    "looked": "seeds were added after runs had ended: intervals assume a number of runs fixed in advance, and do not "
    "hold if what had come out decided it",
    "sequential": "a sequential test decided the number of runs: intervals assume one fixed in advance, its decision "
    "does not",
}


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation of a figure over runs; the deviation is NaN for a single run."""

    mean: float
    sd: float
    runs: int

    def __str__(self) -> str:
        if not self.runs:
            return "none"
        return f"{self.mean:.4f}" + ("" if math.isnan(self.sd) else f" ± {self.sd:.4f}") + f" (n = {self.runs})"


@dataclass(frozen=True)
class Crossings:
    """How often and when runs reach the target, by one definition of a crossing.

    Attributes:
        runs: number of runs whose crossing, or the lack of one, is known.
        reached: number of them that reached the target.
        share: share of runs that reach the target.
        median: median of epochs to target, where a miss is infinite.
    """

    runs: int
    reached: int
    share: Estimate
    median: Estimate

    def __str__(self) -> str:
        return f"{self.reached} of {self.runs} runs, share {self.share}; epochs, median: {self.median}"


@dataclass(frozen=True)
class Confirmation:
    """The results of a confirmation's ended runs. A diverged run counts as a miss.

    Without a target, there are no shares and no epochs to target: these are None, and mean_best tells the result.

    Attributes:
        study: its name.
        confirms: the trial that it confirms, as ``STUDY trial NAME``.
        objective: what the study looks for.
        split: which images validate.
        runs: number of runs that have ended.
        reached: number of them that reached the target.
        running: number of runs that have not ended; they are left out.
        crashed: number of runs that an error ended; they are left out.
        budget: epochs of the longest run's schedule.
        share: share of runs that reach the target.
        median: median of epochs to target.
        restricted_mean: mean of epochs to target, where a miss counts as the whole budget.
        expected_running_time: epochs spent for each run that reaches the target.
        final_value: value of the metric after the last epoch.
        best_value: the best value of each run, which is optimistic.
        mean_best: mean of the best values with its interval; None with a target.
        test_acc: accuracy on the test images after the last epoch; None if no run was tested.
        test_loss: mean cross-entropy on the test images; None likewise.
        in_a_row: number of epochs in a row at the target or better that count as sustained.
        sustained: first of ``in_a_row`` epochs in a row at the target or better on the validation images.
        test_first: first epoch at the target or better on the test images, for the runs that were tested after each
            epoch; None if there is none.
        test_sustained: likewise, for epochs in a row.
        lengthened: how the number of runs was decided, as in `analysis.Study`; empty if it was fixed in advance.
    """

    study: str
    confirms: str
    objective: Objective
    split: str | None
    runs: int
    reached: int
    running: int
    crashed: int
    budget: int
    share: Estimate | None
    median: Estimate | None
    restricted_mean: Estimate | None
    expected_running_time: Estimate | None
    final_value: Spread
    best_value: Spread
    mean_best: Estimate | None
    test_acc: Spread | None
    test_loss: Spread | None
    in_a_row: int
    sustained: Crossings | None
    test_first: Crossings | None
    test_sustained: Crossings | None
    lengthened: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain values; those of the metric have its name."""
        sought, values = self.objective, asdict(self)
        del values["objective"]
        final, best = values.pop("final_value"), values.pop("best_value")
        if sought.target is not None:
            del values["mean_best"]
        named = {f"final_{sought.metric}": final, best_metric(sought.metric): best}
        return {**values, "metric": sought.metric, "target": sought.target, **named}

    def __str__(self) -> str:
        lines = [f"{self.study} confirms {self.confirms}" if self.confirms else self.study]
        aim, metric, held = (
            self.objective.target_text,
            self.objective.metric,
            f"held for {self.in_a_row} epochs in a row",
        )
        if self.mean_best is None:
            lines.append(f"  reached {aim}: {self.reached} of {self.runs} runs, share {self.share}")
            lines.append(f"  epochs to {aim}, median: {self.median}")
            lines.append(f"  {held}: {self.sustained}")
            lines.append(
                f"  mean of epochs spent up to {self.budget} at most (restricted mean): {self.restricted_mean}"
            )
            lines.append(f"  epochs spent for each success (expected running time): {self.expected_running_time}")
        else:
            lines.append(f"  {self.runs} runs, mean of their best {metric}: {self.mean_best}")
        lines.append(f"  {metric} after the last epoch: {self.final_value}; best: {self.best_value}")
        if self.test_acc is not None:
            lines.append(f"  test accuracy after the last epoch: {self.test_acc}")
        elif self.split not in (None, "held-out"):
            lines.append(f"  no test accuracy: the {self.split} split leaves no images untouched")
        if self.test_first is not None:
            lines.append(f"  reached {aim} on the test images: {self.test_first}")
            lines.append(f"  {held} on the test images: {self.test_sustained}")
        left_out = {"not ended": self.running, "crashed": self.crashed}
        said = ", ".join(f"{count} {what}" for what, count in left_out.items() if count)
        if said:
            lines.append(f"  left out: {said}")
        lines.append("  brackets: 95% confidence intervals")
        if self.lengthened:
            lines.append(f"  {_LENGTHENED[self.lengthened]}")
        return "\n".join(lines)


def build_confirmation(study: Study) -> Confirmation:
    """Return the result of a confirmation so far.

    Args:
        study: what `load` returned; a study of the phase ``confirm``.

    Raises:
        ValueError: the study is no confirmation, or none of its runs has ended.
    """
    if study.phase != "confirm":
        raise ValueError(f"study {study.name!r} is a search; `sweeps confirm {study.name}` confirms a trial of it")
    found = ended_runs(study)
    if found.empty:
        raise ValueError(f"study {study.name!r}: {why_crashed(study) or 'no run has ended yet'}")
    budget, reached = int(found.attrs["budget"]), found["reached"].tolist()
    epochs, spent = found["epochs_to_target"].tolist(), found["epochs_spent"].tolist()
    outcomes = study.trials["outcome"]
    diverged = set(study.trials.loc[outcomes == Outcome.DIVERGED, "number"])
    ended = study.epochs["number"].isin(found.index.difference(list(diverged)))
    last = study.epochs[ended].groupby("number").tail(1)
    sought = study.objective
    validated = _curves(study, sought.metric, found.index)
    # Earlier versions tested only after the last epoch, so the crossing of such a run is not known.
    tested = {
        number: curve
        for number, curve in _curves(study, "test_acc", found.index).items()
        if not any(map(math.isnan, curve))
    }

    # Test images have an accuracy alone.
    tested = tested if sought.is_accuracy and sought.target is not None else {}
    aimed, best = sought.target is not None, found[best_metric(sought.metric)]

    def crossings(curves: dict[int, list[float]], in_a_row: int) -> Crossings:
        found = [
            None if number in diverged else replace(sought, sustained=in_a_row).sustained_crossing(curve)
            for number, curve in curves.items()
        ]
        return _crossings([math.inf if epoch is None else epoch for epoch in found])

    return Confirmation(
        study=study.name,
        confirms=study.confirms,
        objective=sought,
        split=study.split,
        runs=len(found),
        reached=sum(reached),
        running=int(outcomes.isna().sum()),
        crashed=int((outcomes == Outcome.CRASHED).sum()),
        budget=budget,
        share=share_reached(sum(reached), len(found)) if aimed else None,
        median=median_epochs(epochs) if aimed else None,
        restricted_mean=restricted_mean(epochs, budget) if aimed else None,
        expected_running_time=expected_running_time(spent, reached, budget=budget) if aimed else None,
        final_value=_spread(found[f"final_{sought.metric}"]),
        best_value=_spread(best),
        mean_best=None if aimed else mean_value(best.tolist()),
        test_acc=_tested(last, "test_acc"),
        test_loss=_tested(last, "test_loss"),
        in_a_row=study.sustained,
        sustained=crossings(validated, study.sustained) if aimed else None,
        test_first=crossings(tested, 1) if tested else None,
        test_sustained=crossings(tested, study.sustained) if tested else None,
        lengthened=study.lengthened if study.lengthened in _LENGTHENED else "",
    )


def _curves(study: Study, column: str, numbers: pd.Index[Any]) -> dict[int, list[float]]:
    """Return, by trial number, a metric's values at epochs 1, 2, 3, …; empty if no trial has it."""
    if column not in study.epochs:
        return {}
    by_number = study.epochs.groupby("number")[column].agg(list)
    return {int(number): by_number[number] for number in numbers if number in by_number.index}


def _crossings(epochs: Sequence[float]) -> Crossings:
    reached = sum(map(math.isfinite, epochs))
    return Crossings(len(epochs), reached, share_reached(reached, len(epochs)), median_epochs(epochs))


def _tested(epochs: pd.DataFrame, column: str) -> Spread | None:
    found = epochs[column].dropna() if column in epochs else epochs["epoch"].iloc[:0]
    return _spread(found) if len(found) else None


def _spread(values: pd.Series[Any]) -> Spread:
    known = [float(value) for value in values.dropna()]
    return Spread(*mean_sd(known), len(known))
