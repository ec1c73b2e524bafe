"""Transition epochs: the epoch from which on a trial's validation accuracy holds a level."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from analysis.store.loader import Study
from analysis.tables.columns import EPOCHS_RUN, OUTCOME, TRIAL, column_named
from analysis.tables.trials import Curve, frame, protocol_notes, split_notes, trial_curves
from resnet_core.records import Outcome

LEVELS = (0.91, 0.92, 0.925, 0.927, 0.928, 0.93)
"""The validation accuracies of post I's table (machine-learning.anracom.com, 2024-05-27)."""


def transition(val_accs: Sequence[float], level: float) -> int | None:
    """Return the first epoch from which a level holds.

    Defined here as min{e : a(e) >= level and mean(a(e), ..., a(E)) >= level}, where a(e) is the accuracy after epoch e
    and E the last epoch. The mean accounts for the fluctuation after the first crossing. Post I reads averages over
    several runs by eye, so its figures are close to these but not the same.

    Args:
        val_accs: validation accuracies of epochs 1, 2, 3, ..., each in [0, 1] or NaN; shape (epochs,). NaN reaches no
            level and is left out of means.
        level: validation accuracy, in (0, 1].

    Returns:
        The epoch, 1-based; None if the level does not hold from any epoch on.

    Raises:
        ValueError: the level is outside (0, 1].

    >>> transition([0.9, 0.93, 0.89, 0.92, 0.93], 0.92)
    4
    """
    if not 0 < level <= 1:
        raise ValueError(f"level = {level!r}: expected an accuracy above 0 and at most 1")
    found, later = None, []
    for epoch in range(len(val_accs), 0, -1):
        val_acc = val_accs[epoch - 1]
        if math.isnan(val_acc):
            continue
        later.append(val_acc)
        # Epochs that are all exactly at the level hold it, even if the sum is rounded down.
        if val_acc >= level and math.fsum(later) / len(later) >= level - 1e-12:
            found = epoch
    return found


def build_transitions(study: Study, levels: Sequence[float] = LEVELS) -> pd.DataFrame:
    """Return the epoch from which on each trial holds each level: one row per trial that has not crashed, by number.

    Args:
        study: what `load` returned.
        levels: validation accuracies, each in (0, 1] and without repeats.

    Returns:
        Columns trial, one per level (named 0.91 and so on: `transition`, missing if the level does not hold or the
        trial diverged), epochs_run, outcome; the index is the trial's number. Epochs are Int64.

    Raises:
        ValueError: a level is outside (0, 1], or given twice; or no trial has a val_acc.
    """
    if len(study.epochs) and ("val_acc" not in study.epochs or study.epochs["val_acc"].isna().all()):
        raise ValueError(f"study {study.name!r}: its trials have no val_acc, and transitions are of that alone")
    names = [f"{level:.10g}" for level in levels]
    if len(set(names)) < len(names):
        raise ValueError(f"levels = {', '.join(names)}: expected every level once")
    for level in levels:
        transition([], level)  # raises for an invalid level, even without trials
    rows = {
        number: _row(trial, curve, dict(zip(names, levels, strict=True)))
        for number, trial, curve in trial_curves(study)
    }
    return frame(rows, [TRIAL, *map(column_named, names), EPOCHS_RUN, OUTCOME])


def _row(trial: dict[Any, Any], curve: Curve, levels: dict[str, float]) -> dict[str, Any]:
    # A diverged trial has no transition, even if its curve holds the level.
    val_accs: list[float] = [] if trial["outcome"] == Outcome.DIVERGED else curve["val_acc"].tolist()
    held = {name: transition(val_accs, level) for name, level in levels.items()}
    return {"trial": trial["trial"], **held, "epochs_run": len(curve["val_acc"]), "outcome": trial["outcome"]}


def transition_footnotes(study: Study) -> list[str]:
    """Return the sentences a reader of the transitions needs: split, definition, `>N`, protocols."""
    return [
        *split_notes(study),
        "A transition: the first epoch at or above the level with the mean of val_acc from it to the last epoch "
        "there too. Post I's own are averages over runs, read by eye.",
        ">N: the level does not hold from any of the N epochs run.",
        *protocol_notes(study),
    ]
