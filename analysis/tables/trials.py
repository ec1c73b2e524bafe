"""The table of a study: epochs to target and what led there, one row a trial."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.store.loader import Study
from resnet_core import objective as ett
from resnet_core.data import DATASETS
from resnet_core.records import Outcome

COLUMNS = (
    *("trial", "epoch", "val_acc", "acc", "epoch_best", "val_acc_best", "final_loss", "final_val_loss"),
    *("shift", "l2", "weight_decay", "lr_alpha", "schedule"),
    *("epochs_to_target", "epochs_to_target_sustained", "epochs_run", "outcome", "stop_reason"),
)
"""The table's columns in order, under the names of the published tables."""

METRICS = ("loss", "acc", "val_loss", "val_acc")
"""What the table needs of each epoch; see analysis.store.loader.load."""

Curve: TypeAlias = dict[str, NDArray[np.float64]]
"""A trial's epochs: by metric its values at epochs 1, 2, 3, ... to its last; NaN where the store has none."""

_SETTINGS = ("shift", "l2", "weight_decay", "lr_alpha", "schedule")
_WHOLE = ("epoch", "epoch_best", "epochs_to_target", "epochs_to_target_sustained", "epochs_run")
_TEXTS = ("trial", "schedule", "outcome", "stop_reason")
_PROTOCOLS = {
    "ema": "validated with a moving average of the weights (ema)",
    "bn_recalibration": "validated with BN's statistics measured anew on plain training images (bn_recalibration)",
    "skip_conv_bias": "trained with convolutions' biases left out of the arithmetic, at zero (skip_conv_bias)",
}


@dataclass(frozen=True)
class Counts:
    """How a study's trials came out at the target of a table. The parts add up to `trials`.

    Attributes:
        trials: all of them.
        reached: an epoch at or above the target.
        exhausted: ended below the target.
        pruned: stopped below the target.
        diverged: the loss was not finite, or accuracy stayed at chance.
        crashed: ended by an error that is not the trial's fault; not in the table.
        running: no outcome yet, and below the target so far.
    """

    trials: int
    reached: int
    exhausted: int
    pruned: int
    diverged: int
    crashed: int
    running: int


def build_table(study: Study, target: float | None = None) -> pd.DataFrame:
    """Return the table of a study, worked out from its epochs.

    Crossings follow resnet_core.objective. `epoch`, `val_acc` and `acc` are read at the first crossing,
    or at the best epoch where there was none; `epoch_best` and `val_acc_best` at the best epoch; `final_loss`
    and `final_val_loss` after the last one. A diverged trial has no crossing, whatever its curve says.
    Crashed trials are left out; `count` counts them. Running ones have no outcome yet.

    Rows are sorted by epochs_to_target, those that have none last; then by val_acc_best, highest first; then
    by the trial's number.

    Args:
        study: what `load` returned.
        target: validation accuracy to reach, in (0, 1]; the study's own unless given. `outcome` and
            `stop_reason` stay as recorded, at the study's target.

    Returns:
        One row a trial under COLUMNS, the index being the trial's number. Epochs are Int64 and other numbers
        float64, both missing where a value does not exist. ``attrs["target"]`` is the target.

    Raises:
        ValueError: the target is outside (0, 1].
    """
    target = study.target if target is None else target
    ett.first_crossing([], target)  # refuses a target that is no accuracy, be there trials or not
    rows = {number: _row(trial, curve, target, study.sustained) for number, trial, curve in curves(study)}
    table = frame(rows, COLUMNS, texts=_TEXTS, whole=_WHOLE).sort_values(
        ["epochs_to_target", "val_acc_best"], ascending=[True, False], na_position="last", kind="stable"
    )
    table.attrs["target"] = target
    return table


def curves(study: Study) -> Iterator[tuple[int, dict[Any, Any], Curve]]:
    """Yield number, row of `study.trials` and curve of every trial that has not crashed, by number."""
    epochs = study.epochs.sort_values(["number", "epoch"], kind="stable")
    number, epoch = epochs["number"].to_numpy(), epochs["epoch"].to_numpy()
    values = {str(name): epochs[name].to_numpy(float) for name in epochs if name not in ("number", "epoch")}
    shown = study.trials[study.trials["outcome"] != Outcome.CRASHED].sort_values("number")
    first, after = (np.searchsorted(number, shown["number"].to_numpy(), side) for side in ("left", "right"))
    for trial, start, end in zip(shown.to_dict("records"), first.tolist(), after.tolist(), strict=True):
        curve = {name: column[start:end] for name, column in values.items()}
        last = int(epoch[end - 1]) if end > start else 0
        if last != end - start:  # the store lacks some
            for name, column in curve.items():
                curve[name] = np.full(last, np.nan)
                curve[name][epoch[start:end] - 1] = column
        yield trial["number"], trial, curve


def frame(
    rows: Mapping[int, Mapping[str, Any]], columns: Sequence[str], texts: Collection[str], whole: Collection[str]
) -> pd.DataFrame:
    """Return rows by trial number as a table: whole numbers Int64, all that are no texts either float64."""
    numbers = pd.Index(list(rows), name="number", dtype="int64")
    table = pd.DataFrame(list(rows.values()), columns=list(columns), index=numbers)
    numeric = [name for name in columns if name not in (*whole, *texts)]
    return table.astype(
        dict.fromkeys(texts, "object") | dict.fromkeys(whole, "Int64") | dict.fromkeys(numeric, "float64")
    )


def _row(trial: dict[Any, Any], curve: Curve, target: float, sustained: int) -> dict[str, Any]:
    val_accs: list[float] = curve["val_acc"].tolist()
    epochs_run = len(val_accs)
    reached = held = None
    if trial["outcome"] != Outcome.DIVERGED:
        reached = ett.first_crossing(val_accs, target)
        held = ett.sustained_crossing(val_accs, target, sustained)
    best = ett.best(val_accs)
    epoch = reached or (best[0] if best else None)
    return {
        "trial": trial["trial"],
        "epoch": epoch,
        "val_acc": val_accs[epoch - 1] if epoch else None,
        "acc": curve["acc"][epoch - 1] if epoch else None,
        "epoch_best": best[0] if best else None,
        "val_acc_best": best[1] if best else None,
        "final_loss": curve["loss"][-1] if epochs_run else None,
        "final_val_loss": curve["val_loss"][-1] if epochs_run else None,
        **{name: trial.get(name) for name in _SETTINGS},
        "epochs_to_target": reached,
        "epochs_to_target_sustained": held,
        "epochs_run": epochs_run,
        "outcome": trial["outcome"],
        "stop_reason": trial["stop_reason"],
    }


def count(study: Study, table: pd.DataFrame) -> Counts:
    """Return how the study's trials came out, at the target the table was built for."""
    reached = table["epochs_to_target"].notna()
    missed = table.loc[~reached, "outcome"]
    pruned, diverged = (int((missed == o).sum()) for o in (Outcome.PRUNED, Outcome.DIVERGED))
    running = int(missed.isna().sum())
    return Counts(
        trials=len(study.trials),
        reached=int(reached.sum()),
        exhausted=len(missed) - pruned - diverged - running,
        pruned=pruned,
        diverged=diverged,
        crashed=int((study.trials["outcome"] == Outcome.CRASHED).sum()),
        running=running,
    )


def footnotes(study: Study, table: pd.DataFrame) -> list[str]:
    """Return the sentences a reader of the table needs: split, target, counts, and what `>N` means.

    Args:
        study: what `load` returned.
        table: what `build_table` made of it.
    """
    target = table.attrs.get("target", study.target)
    notes = split_notes(study)
    notes.append(
        f"Target: validation accuracy {target:g} or more. epochs_to_target: the first epoch there; "
        f"epochs_to_target_sustained: the first of {study.sustained} in a row, empty also where a trial ended at "
        "the target too soon to tell."
    )
    if target != study.target:
        notes.append(f"outcome and stop_reason refer to the study's own target, {study.target:g}.")
    counts = count(study, table)
    parts = [f"Reached by {counts.reached} of {len(table)} trials"]
    others = {
        "ended below the target": counts.exhausted,
        "pruned": counts.pruned,
        "diverged": counts.diverged,
        "running": counts.running,
        "crashed and left out": counts.crashed,
    }
    parts += [f"{number} {words}" for words, number in others.items() if number]
    notes.append(", ".join(parts) + ".")
    notes.append(">N: not by epoch N, the trial's last.")
    return notes + protocol_notes(study)


def import_notes(study: Study) -> list[str]:
    """Return a sentence on where the study comes from if it was imported."""
    if not study.imported:
        return []
    return [f"Imported from {study.imported}: its trials ran elsewhere, and what the file does not say is not known."]


def split_notes(study: Study) -> list[str]:
    """Return a sentence on which images validate, for each split among the trials."""
    return [_split_note(study, split) for split in (study.split or "").split(", ") if split]


def protocol_notes(study: Study) -> list[str]:
    """Return a sentence for each way of training or validating that no published run knows, naming its trials."""
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
