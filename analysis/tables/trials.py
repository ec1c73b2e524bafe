"""The table of a study: epochs to target, with settings and results, one row per trial."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.store.loader import TRIAL_COLUMNS, Study
from analysis.tables.columns import (
    METRICS,
    OUTCOME,
    RESULTS,
    SETTINGS,
    Column,
    Kind,
    MetricAt,
    TrialField,
    TrialResult,
    result_columns,
    setting,
    with_settings,
)
from resnet_core import schema
from resnet_core.data import DATASETS
from resnet_core.objective import Objective
from resnet_core.records import METRICS as KNOWN_METRICS
from resnet_core.records import Outcome, crashes_text

COLUMNS = tuple(column.name for column in RESULTS)
"""The names of the columns that every table of results has, in the order of the published tables."""

_RESULTS = frozenset(COLUMNS) - {column.name for column in SETTINGS}

Curve: TypeAlias = dict[str, NDArray[np.float64]]
"""A trial's epochs: each metric's values at epochs 1, 2, 3, ... to the last; NaN if the store has none."""

# A trial's columns besides its configuration, and those that follow from the configuration.
_NO_SETTINGS = (*TRIAL_COLUMNS, schema.SEED, *schema.DERIVED_PARAMS)
_PROTOCOLS = {
    "ema": "validated with a moving average of the weights (ema)",
    "bn_recalibration": "validated with BN's statistics measured anew on plain training images (bn_recalibration)",
    "skip_conv_bias": "trained with convolutions' biases left out of the arithmetic, at zero (skip_conv_bias)",
}


@dataclass(frozen=True)
class OutcomeCounts:
    """The numbers of a study's trials by outcome, at the target of a table if it has one. They add up to `trials`.

    Attributes:
        trials: number of all trials.
        reached: an epoch at the target or better.
        exhausted: trained to its end without that; without a target, every trial that trained to its end.
        pruned: stopped without that.
        diverged: the loss was not finite, or accuracy stayed at chance.
        crashed: ended by an error that is not the trial's fault; not in the table.
        running: no outcome yet, and not at the target so far.
    """

    trials: int
    reached: int
    exhausted: int
    pruned: int
    diverged: int
    crashed: int
    running: int


_MOST_NAMED = 10  # trials in a sentence
_NOT_OF_ALL = ("acc", "final_loss", "final_val_loss")
"""Columns of metrics that a trainer of somebody's own may not have."""


def build_table(study: Study, target: float | None = None) -> pd.DataFrame:
    """Return the table of a study, computed from its epochs.

    Crossings follow resnet_core.objective. `epoch`, the metric that counts (`val_acc`) and `acc` are read at the first
    crossing, or at the best epoch if there was none; `epoch_best` and `val_acc_best` at the best epoch; `final_loss`
    and `final_val_loss` after the last one. A diverged trial has no crossing, even if its curve reaches the target.
    Crashed trials are left out; `count_outcomes` counts them. Running ones have no outcome yet.

    Rows are sorted by epochs_to_target, rows without it last, and those of diverged trials behind these; then by the
    best value, the best first; then by the trial's number. For a metric m other than val_acc, the columns m and m_best
    stand in place of val_acc and val_acc_best. A study of another trainer than the one that ships lacks the settings
    and metrics that its trainer does not have. Without a target, there are no epochs to it.

    Args:
        study: what `load` returned.
        target: value to reach; the default is the study's own. `outcome` and
            `stop_reason` stay as recorded, at the study's target.

    Returns:
        One row per trial, with the trial's number as index. Columns are COLUMNS, and before ``schedule`` the parameters
        that the study samples and the settings in which its trials differ. Epochs are Int64 and other numbers float64,
        both missing where a value does not exist. ``attrs`` has ``target`` and ``metric``; ``sampled``, the names of
        sampled parameters; and ``same``: by name and as text, the settings that have one value in all trials, of which
        there are two or more; `render` lists them below the table. Metrics that no trial has are among them, as an
        empty text.

    Raises:
        ValueError: the target is impossible: for val_acc, it is outside (0, 1].
    """
    sought = study.aimed(target)
    settings, sampled = setting_columns(_not_crashed(study), study.space)
    columns = with_settings(settings, sought)
    results = {number: _result(trial, curve, sought) for number, trial, curve in trial_curves(study)}
    rows = {number: {c.name: c.read and c.read(result) for c in columns} for number, result in results.items()}
    table = best_first(frame(rows, columns), sought)
    if not study.is_shipped:
        table = table.drop(columns=_lacking(study, sought))
    same = constant_settings(table, sampled)
    if (table["outcome"] != Outcome.DIVERGED).any():  # a loss that is not finite was measured
        same |= {name: "" for name in _NOT_OF_ALL if name in table and table[name].isna().all()}
    table.attrs = {"target": sought.target, "sampled": sampled, "same": same}
    table.attrs["metric"] = sought.metric
    return table


def _lacking(study: Study, objective: Objective) -> list[str]:
    """Return the names of the columns of settings and metrics that a study of an own trainer does not have."""
    settings = [column.name for column in SETTINGS if column.name in COLUMNS and column.name not in study.trials]
    measured = {objective.metric, *study.epochs.columns[study.epochs.notna().any()]}
    columns = result_columns(objective)
    return settings + [c.name for c in columns if isinstance(c.read, MetricAt) and c.read.name not in measured]


def best_first(table: pd.DataFrame, objective: Objective) -> pd.DataFrame:
    """Return a table of results with the best trial first: by epochs to target, if there is one; then by best value.

    Trials that diverged are last: what they had before is no result.
    """
    orders = {"epochs_to_target": True, "diverged": True, f"{objective.metric}_best": objective.goal == "min"}
    keyed = table.assign(diverged=table[OUTCOME.name] == Outcome.DIVERGED)
    orders = {name: rising for name, rising in orders.items() if name in keyed}
    order = keyed.reset_index(drop=True).sort_values(
        list(orders), ascending=list(orders.values()), na_position="last", kind="stable"
    )
    return table.iloc[order.index]


def is_setting(column: str) -> bool:
    """Return whether a column of `analysis.Study.trials` is a field of the configuration other than the seed."""
    return column not in _NO_SETTINGS and not column.startswith((schema.SAMPLED, "sweeps."))


def setting_columns(trials: pd.DataFrame, space: Mapping[str, Any] | None) -> tuple[list[Column], list[str]]:
    """Return the settings that a study adds to COLUMNS, and the names of all its sampled parameters.

    First come sampled parameters in the order of the space, then settings in which trials differ. If runs are listed,
    the seed is such a setting; if a space is sampled, every trial has its own seed, which is not. The column of a
    conditional parameter is empty in the trials that do not have it.

    Args:
        trials: rows of `analysis.Study.trials`.
        space: the sampled parameters, as in `analysis.Study.space`.
    """
    names = [str(name) for name in trials]
    given = [name.removeprefix(schema.SAMPLED) for name in names if name.startswith(schema.SAMPLED)]
    order = {name: place for place, name in enumerate(space or {})}
    asked = trials[[schema.SAMPLED + name for name in given]].notna().any(axis=1)
    columns, sampled = list[Column](), list[str]()
    for name in sorted(given, key=lambda name: order.get(name, len(order))):
        field = schema.SAMPLED + name
        is_conditional = bool((trials[field].isna() & asked).any())
        if is_conditional:  # empty where it was not asked, although such a trial has a value of the setting
            column = setting(name, field)
        elif name in names and name not in _RESULTS and _agree(trials[name], trials[field]):
            column = setting(name)
        else:  # a schedule's parameter, or one with the name of a result
            column = setting(name, field)
        if column.read == TrialField(field) and name in (_RESULTS if is_conditional else COLUMNS):
            column = replace(column, name=field)
        sampled.append(column.name)
        if is_conditional or column.name not in COLUMNS:
            columns.append(column)
    for name in names:
        listed = is_setting(name) or (name == schema.SEED and not sampled)
        if listed and name not in (*COLUMNS, *sampled) and trials[name].dropna().map(str).nunique() > 1:
            columns.append(setting(name))
    return columns, sampled


def _agree(values: pd.Series[Any], others: pd.Series[Any]) -> bool:
    """Return whether two columns are equal in the rows in which both have a value."""
    known = values.notna() & others.notna()
    return values[known].tolist() == others[known].tolist()


def constant_settings(table: pd.DataFrame, sampled: Collection[str]) -> dict[str, str]:
    """Return, by name and as text, the settings of a table's COLUMNS that are not sampled and the same in all trials.

    A setting that no trial has is among them, as an empty text. For a single trial there is none.
    """
    found = dict[str, str]()
    for column in SETTINGS if len(table) else ():
        if column.name in COLUMNS and column.name in table and column.name not in sampled:
            values = table[column.name]
            if values.isna().all():
                found[column.name] = ""
            elif len(table) > 1 and values.notna().all() and values.map(str).nunique() == 1:
                found[column.name] = column.shown(values.iloc[0])
    return found


def trial_curves(study: Study) -> Iterator[tuple[int, dict[Any, Any], Curve]]:
    """Yield number, row of `study.trials` and curve of every trial that has not crashed, by number.

    A metric of the trainer that ships that the study does not have is NaN in every epoch.
    """
    epochs = study.epochs.sort_values(["number", "epoch"], kind="stable")
    number, epoch = epochs["number"].to_numpy(), epochs["epoch"].to_numpy()
    values = {name: np.full(len(epochs), np.nan) for name in KNOWN_METRICS}
    values |= {str(name): epochs[name].to_numpy(float) for name in epochs if name not in ("number", "epoch")}
    shown = _not_crashed(study).sort_values("number")
    first, after = (np.searchsorted(number, shown["number"].to_numpy(), side) for side in ("left", "right"))
    for trial, start, end in zip(shown.to_dict("records"), first.tolist(), after.tolist(), strict=True):
        curve = {name: column[start:end] for name, column in values.items()}
        last = int(epoch[end - 1]) if end > start else 0
        if last != end - start:  # the store lacks some epochs
            for name, column in curve.items():
                curve[name] = np.full(last, np.nan)
                curve[name][epoch[start:end] - 1] = column
        yield trial["number"], trial, curve


def _not_crashed(study: Study) -> pd.DataFrame:
    return study.trials[study.trials["outcome"] != Outcome.CRASHED]


def frame(rows: Mapping[int, Mapping[str, Any]], columns: Sequence[Column]) -> pd.DataFrame:
    """Return rows by trial number as a table: whole numbers Int64, other numbers float64, texts as objects."""
    numbers = pd.Index(list(rows), name="number", dtype="int64")
    table = pd.DataFrame(list(rows.values()), columns=[column.name for column in columns], index=numbers, dtype=object)
    return table.astype({column.name: _dtype(column, table[column.name]) for column in columns})


def _dtype(column: Column, values: pd.Series[Any]) -> str:
    known = values.dropna()
    if column.kind is Kind.TEXT or any(isinstance(value, (str, bool, np.bool_)) for value in known):
        return "object"
    if column.kind in (Kind.NUMBER, Kind.SECONDS, Kind.HOURS) or any(value % 1 for value in known):
        return "float64"
    return "Int64"


def _result(trial: dict[Any, Any], curve: Curve, objective: Objective) -> TrialResult:
    found: list[float] = curve[objective.metric].tolist()
    reached = held = None
    if trial["outcome"] != Outcome.DIVERGED:
        reached = objective.first_crossing(found)
        held = objective.sustained_crossing(found)
    best = objective.best(found)
    values = {name: curve[name].tolist() for name in {*METRICS, objective.metric} if name in curve}
    return TrialResult(trial, values, reached, held, best[0] if best else None, len(found))


def count_outcomes(study: Study, table: pd.DataFrame) -> OutcomeCounts:
    """Return the numbers of the study's trials by outcome, at the target of the table."""
    none = pd.Series(data=False, index=table.index)
    reached = table["epochs_to_target"].notna() if "epochs_to_target" in table else none
    missed = table.loc[~reached, "outcome"]
    pruned, diverged = (int((missed == o).sum()) for o in (Outcome.PRUNED, Outcome.DIVERGED))
    running = int(missed.isna().sum())
    return OutcomeCounts(
        trials=len(study.trials),
        reached=int(reached.sum()),
        exhausted=len(missed) - pruned - diverged - running,
        pruned=pruned,
        diverged=diverged,
        crashed=int((study.trials["outcome"] == Outcome.CRASHED).sum()),
        running=running,
    )


def footnotes(study: Study, table: pd.DataFrame) -> list[str]:
    """Return the sentences that a reader of the table needs: split, target, counts, and the meaning of `>N`.

    Args:
        study: what `load` returned.
        table: what `build_table` made of it.
    """
    target = table.attrs.get("target", study.target)
    sought, notes = study.aimed(target), split_notes(study)
    notes.append(f"Target: {sought.target_words}.")
    if target is not None and len(table):
        notes[-1] += (
            f" epochs_to_target: the first epoch there; epochs_to_target_sustained: the first of {study.sustained} in "
            "a row, empty also where a trial ended at the target too soon to tell."
        )
    if target != study.target:
        own = "the study, which has no target" if study.target is None else f"the study's own target, {study.target:g}"
        notes.append(f"outcome and stop_reason refer to {own}.")
    counts = count_outcomes(study, table)
    if counts.crashed == counts.trials:
        return notes + (crash_notes(study) or ["No trial has begun."])
    parts = [f"Reached by {counts.reached} of {len(table)} trials" if target is not None else f"{len(table)} trials"]
    missed = f"ended {'below' if sought.goal == 'max' else 'above'} the target"
    others = {
        missed if target is not None else "exhausted (trained to their end)": counts.exhausted,
        "pruned": counts.pruned,
        "diverged": counts.diverged,
        "running": counts.running,
        "crashed and left out": counts.crashed,
    }
    parts += [f"{number} {words}" for words, number in others.items() if number]
    notes.append(", ".join(parts) + ".")
    notes += crash_notes(study)
    if target is not None and len(table):
        notes.append(">N: not by epoch N, the trial's last.")
    return notes + protocol_notes(study)


def crash_notes(study: Study) -> list[str]:
    """Return a sentence on why trials crashed; no sentence where none did."""
    text = why_crashed(study)
    return [f"{text[:1].upper()}{text[1:]}."] if text else []


def why_crashed(study: Study) -> str:
    """Return why trials of a study crashed, in a few words, and the command that tells more; empty where none did."""
    crashed = study.trials[study.trials["outcome"] == Outcome.CRASHED]
    if crashed.empty:
        return ""
    errors = [error if isinstance(error, str) else None for error in crashed[schema.STOP_REASON]]
    every = len(crashed) == len(study.trials)
    return crashes_text(study.name, list(zip(crashed["trial"], errors, strict=True)), every=every)


def import_notes(study: Study) -> list[str]:
    """Return a sentence that names the file that the study was imported from; no sentence for other studies."""
    if not study.imported:
        return []
    return [f"Imported from {study.imported}: its trials ran elsewhere, and what the file does not say is not known."]


def deleted_notes(study: Study) -> list[str]:
    """Return a sentence that names the trials whose runs were deleted in MLflow; no sentence if there are none."""
    if not study.deleted:
        return []
    one = len(study.deleted) == 1
    names = ", ".join([*study.deleted[:_MOST_NAMED], *("…" for _ in study.deleted[_MOST_NAMED:][:1])])
    which = "1 trial is left out: its run was" if one else f"{len(study.deleted)} trials are left out: their runs were"
    return [f"{which} deleted in MLflow ({names}). MLflow's filter State: Deleted lists such runs and restores them."]


def split_notes(study: Study) -> list[str]:
    """Return a sentence on which images validate, for each split among the trials."""
    return [_split_note(study, split) for split in (study.split or "").split(", ") if split]


def protocol_notes(study: Study) -> list[str]:
    """Return a sentence for each way of training or validating that no published run used, with its trials."""
    return [
        f"Not the published protocol: {words}: {', '.join(trials)}."
        for setting, words in _PROTOCOLS.items()
        if setting in study.trials
        and (trials := study.trials.loc[pd.to_numeric(study.trials[setting]) > 0, "trial"].tolist())
    ]


def _split_note(study: Study, split: str) -> str:
    trials = study.trials
    limited = "val_limit" in trials and trials["val_limit"].notna().any()
    names = set() if limited or "data" not in trials else set(trials["data"])
    spec = DATASETS.get(names.pop()) if len(names) == 1 else None
    if split == "official":
        images = f"the {spec.test_size:,} test images" if spec else "test images"
        return f"Split official: chosen on the test set: validation images are {images}."
    if split == "pooled":
        every = spec and f"{spec.test_size:,} of all {spec.train_size + spec.test_size:,} images"
        images = every or "drawn from all images"
        return f"Split pooled: validation images are {images}, stratified, anew for each trial's seed."
    held_out = spec and f"{spec.split_sizes('held-out')[1]:,} of the training images"
    images = held_out or "drawn from the training images"
    tested = "test" in trials and trials["test"].eq(True).any()
    rest = "the test set is evaluated, and nothing acts upon it" if tested else "the test set is untouched"
    return f"Split {split}: validation images are {images}, stratified; {rest}."
