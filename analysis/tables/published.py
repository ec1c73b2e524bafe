"""Published figures, compared with those of a study's runs that repeat them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from analysis.store.loader import Study
from analysis.tables.summary import ended_runs
from analysis.tables.transitions import transition
from analysis.tables.trials import protocol_notes, split_notes, trial_curves
from resnet_core.objective import first_crossing
from resnet_core.records import Outcome

COLUMNS = (
    *("run", "quantity", "target", "published_low", "published_high"),
    *("runs", "ours", "ours_low", "ours_high", "inside", "differs", "note"),
)
"""The table's columns in order."""

# Settings that may differ between a published run and one that repeats it.
_PROTOCOL = (
    *("data", "split", "train_limit", "val_limit", "image_size", "precision", "compile", "epochs"),
    *("ema", "bn_recalibration"),
)
_NOT_COMPARED = ("seed", "test")
_EPOCHS = ("epochs_to_target", "transition")
_WORDS = {
    "epochs_to_target": "epochs to {target:g}",
    "transition": "{target:g} held from epoch",
    "val_acc_best": "best val_acc",
    "val_acc_final": "val_acc after the last epoch",
}


def trains_as_post5(study: Study, **settings: str) -> bool:
    """Return whether a study's trials train what post V trained, ResNet56v2 on CIFAR-10, with the trainer that ships.

    Args:
        study: what `load` returned.
        settings: further settings that all trials must have, such as ``optimizer="adamw"``.
    """
    same = {"model": "resnet56v2", "data": "cifar10"} | settings
    trials = study.trials
    return study.is_shipped and all(name in trials and set(trials[name]) == {same[name]} for name in same)


def build_published(study: Study, rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return each published figure beside those of the study's runs that repeat it.

    A trial repeats a published run if the study and the trial (without its seed) have the names of the published ones.
    It also does if all settings are equal, except the seed and the protocol: data, split, limits, image size,
    precision, epochs, EMA, BN recalibration. The row says what differs. Running and crashed trials are left out.

    A trial of another trainer repeats none.

    Args:
        study: what `load` returned.
        rows: published figures: study, run, config (fields of TrialConfig), quantity, target, low, high, note.

    Returns:
        One row per figure that a trial repeats, with COLUMNS: ours is the median over our runs, ours_low and ours_high
        the lowest and highest (epochs: math.inf for a miss). inside is whether the published figure, or a part of its
        known range, lies between these; it is missing for a single run. Numbers are float64, runs is Int64, inside
        boolean.
    """
    ended = ended_runs(study)
    trials: dict[Any, dict[Any, Any]] = study.trials.set_index("number").loc[ended.index].to_dict("index")
    of_trial = {number: _published_run(study, trial, rows) for number, trial in trials.items()}
    val_accs = {number: curve["val_acc"].tolist() for number, _, curve in trial_curves(study) if number in trials}
    table = []
    for row in rows:
        numbers: list[Any] = [number for number, found in of_trial.items() if found == (row["study"], row["run"])]
        if not numbers:
            continue
        values = [_ours(row, trials[number], val_accs[number]) for number in numbers]
        low, high = min(values), max(values)
        table.append(
            {
                **{name: row[name] for name in ("run", "quantity", "target", "note")},
                **{"published_low": row["low"], "published_high": row["high"]},
                **{"runs": len(values), "ours": _median(values), "ours_low": low, "ours_high": high},
                "inside": _inside(row, low, high) if len(values) > 1 else None,
                "differs": "; ".join(_differs(row["config"], [trials[number] for number in numbers])),
            }
        )
    numbers_of = ("target", "published_low", "published_high", "ours", "ours_low", "ours_high")
    kinds = dict.fromkeys(numbers_of, "float64") | {"runs": "Int64", "inside": "boolean"}
    return pd.DataFrame(table, columns=list(COLUMNS)).astype(kinds)


def published_text(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table of `build_published` for people: each figure in one cell, ``>N`` for a target not reached."""
    rows = [
        {
            "run": row["run"],
            "quantity": _WORDS[row["quantity"]].format(target=row["target"]),
            "published": _span(row["quantity"], row["published_low"], row["published_high"]),
            "ours": _shown(row["quantity"], row["ours"]),
            "lowest": _shown(row["quantity"], row["ours_low"]),
            "highest": _shown(row["quantity"], row["ours_high"]),
            "runs": row["runs"],
            "inside": "-" if pd.isna(row["inside"]) else "yes" if row["inside"] else "no",
            "differs": row["differs"] or "-",
        }
        for row in table.to_dict("records")
    ]
    columns = ["run", "quantity", "published", "ours", "lowest", "highest", "runs", "inside", "differs"]
    return pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(columns, "object") | {"runs": "Int64"})


def published_footnotes(study: Study, table: pd.DataFrame) -> list[str]:
    """Return the sentences a reader of the table needs.

    Args:
        study: what `load` returned.
        table: what `build_published` made of it.
    """
    if table.empty:
        return [f"No trial of {study.name} that has ended repeats a published run."]
    notes = split_notes(study)
    notes.append("ours: the median over our runs; lowest and highest: of them. never: not within the epochs run.")
    most = int(table["runs"].max())
    notes.append(
        "inside: whether the published figure is between our lowest and highest. A further run of ours would be in "
        f"(n-1)/(n+1) of all cases: {(most - 1) / (most + 1):.0%} for n = {most}."
        if most > 1
        else "inside: needs several runs; `sweeps reproduce STUDY --seeds N` repeats each with N seeds."
    )
    judged = table[table["inside"].notna()]
    if len(judged) > 1:
        chance, outside = float((2 / (judged["runs"] + 1)).sum()), int((~judged["inside"].astype(bool)).sum())
        notes.append(
            f"Of {len(judged)} figures, {outside} are outside, and some {chance:.2g} would be by chance: a single one "
            "says little."
        )
    if (table["quantity"] == "transition").any():
        notes.append("held from: the first epoch at a level whose mean from there to the end is at the level too.")
    if table["differs"].ne("").any():
        notes.append("differs: published -> ours; accuracies got in another way are not the same quantity.")
    outcomes = study.trials["outcome"]
    counts = {"not ended": int(outcomes.isna().sum()), "crashed": int((outcomes == Outcome.CRASHED).sum())}
    left_out = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    return [*notes, *([f"Left out: {left_out}."] if left_out else []), *protocol_notes(study)]


def _published_run(study: Study, trial: Mapping[Any, Any], rows: Sequence[Mapping[str, Any]]) -> tuple[str, str] | None:
    """Return study and name of the published run that a trial repeats; None if there is none."""
    if not study.is_shipped:
        return None
    name = str(trial["trial"])
    names = (name, name.removesuffix(f"-s{trial.get('seed')}"))
    found = [row for row in rows if row["study"] == study.name and row["run"] in names]
    if not found and {"model", "schedule"} <= set(trial):  # an imported trial may say too little to be compared
        found = [row for row in rows if not (_differing(row["config"], trial) - set(_PROTOCOL))]
    return (found[0]["study"], found[0]["run"]) if found else None


def _differing(config: Mapping[str, Any], trial: Mapping[Any, Any]) -> set[str]:
    """Return the settings for which a trial has another value. Settings that an older store lacks do not count."""
    return {
        name
        for name, value in config.items()
        if name in trial and name not in _NOT_COMPARED and _plain(trial[name]) != value
    }


def _differs(config: Mapping[str, Any], trials: Sequence[Mapping[Any, Any]]) -> list[str]:
    """Return in which settings our runs differ from the published one, and how many stopped early."""
    said = {
        f"{name}: {_word(config[name])} -> {_word(_plain(trial[name]))}"
        for trial in trials
        for name in _differing(config, trial)
    }
    early = sum(trial["outcome"] == Outcome.PRUNED or _stopped(trial) for trial in trials)
    return [*sorted(said), *([f"{early} of {len(trials)} stopped early"] if early else [])]


def _stopped(trial: Mapping[Any, Any]) -> bool:
    return trial["outcome"] == Outcome.REACHED and bool(_plain(trial.get("stopped_by")))


def _ours(row: Mapping[str, Any], trial: Mapping[Any, Any], val_accs: list[float]) -> float:
    """Return our figure for a trial; an accuracy is 0 if none is finite."""
    if row["quantity"] in _EPOCHS:
        if trial["outcome"] == Outcome.DIVERGED:
            return math.inf
        find = transition if row["quantity"] == "transition" else first_crossing
        found = find(val_accs, row["target"])
        return math.inf if found is None else float(found)
    finite = [value for value in val_accs if math.isfinite(value)]
    if not finite:
        return 0.0
    return finite[-1] if row["quantity"] == "val_acc_final" else max(finite)


def _inside(row: Mapping[str, Any], low: float, high: float) -> bool:
    if math.isinf(row["high"]):
        return bool(high > row["low"])  # the published run did not reach it by row["low"]
    return bool(row["low"] <= high and row["high"] >= low)


def _median(values: Sequence[float]) -> float:
    middle = (statistics.median_low(values), statistics.median_high(values))
    return middle[0] if middle[0] == middle[1] else sum(middle) / 2


def _span(quantity: str, low: float, high: float) -> str:
    if math.isinf(high):
        return f">{low:g}"
    return _shown(quantity, low) if low == high else f"{low:g} to {high:g}"


def _shown(quantity: str, value: float) -> str:
    if quantity in _EPOCHS:
        return "never" if math.isinf(value) else f"{value:g}"
    return f"{value:.4f}"


def _word(value: Any) -> str:
    return "all" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _plain(value: Any) -> Any:
    return None if pd.isna(value) else value
