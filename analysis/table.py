"""The table of a study: epochs to target and what led there, one row a trial."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import pandas as pd

from analysis import epochs_to_target as ett
from analysis.store import Study
from resnet_core.records import Outcome

COLUMNS = (
    *("trial", "epoch", "val_acc", "acc", "epoch_best", "val_acc_best", "final_loss", "final_val_loss"),
    *("shift", "l2", "weight_decay", "lr_alpha", "schedule"),
    *("epochs_to_target", "epochs_to_target_sustained", "epochs_run", "outcome", "stop_reason"),
)
"""The table's columns in order, under the names of the published tables."""

Style = Literal["text", "markdown", "csv", "latex", "json"]

_SETTINGS = ("shift", "l2", "weight_decay", "lr_alpha", "schedule")
_WHOLE = ("epoch", "epoch_best", "epochs_to_target", "epochs_to_target_sustained", "epochs_run")
_FOUR_DECIMALS = ("val_acc", "acc", "val_acc_best", "final_loss", "final_val_loss")
_CROSSINGS = ("epochs_to_target", "epochs_to_target_sustained")
_TEXTS = ("trial", "schedule", "outcome", "stop_reason")
_ELASTIC = ("stop_reason", "schedule")
_SHORTEST = 12
_LEFT_OUT_FIRST = (
    "l2",
    "final_loss",
    "final_val_loss",
    "acc",
    "epoch_best",
    "epoch",
    "val_acc",
    "epochs_to_target_sustained",
    "lr_alpha",
    "stop_reason",
    "shift",
    "weight_decay",
    "epochs_run",
)


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

    Crossings follow analysis.epochs_to_target. `epoch`, `val_acc` and `acc` are read at the first crossing,
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
    shown = study.trials[study.trials["outcome"] != Outcome.CRASHED]
    curves = dict(iter(study.epochs.groupby("number")))
    rows = [
        _row(trial, curves.get(trial["number"], study.epochs.iloc[:0]), target, study.sustained)
        for trial in shown.to_dict("records")
    ]
    numbers = pd.Index(shown["number"], name="number")
    table = pd.DataFrame(rows, columns=list(COLUMNS), index=numbers)
    numeric = [c for c in COLUMNS if c not in (*_WHOLE, *_TEXTS)]
    table = table.astype(dict.fromkeys(_WHOLE, "Int64") | dict.fromkeys(numeric, "float64"))
    table = table.sort_index().sort_values(
        ["epochs_to_target", "val_acc_best"], ascending=[True, False], na_position="last", kind="stable"
    )
    table.attrs["target"] = target
    return table


def _row(trial: dict[Any, Any], curve: pd.DataFrame, target: float, sustained: int) -> dict[str, Any]:
    # An epoch that is missing in the store is NaN here, so that places in the list stay epochs.
    epochs_run = int(curve["epoch"].max()) if len(curve) else 0
    curve = curve.set_index("epoch").reindex(range(1, epochs_run + 1))
    val_accs: list[float] = curve["val_acc"].tolist()
    reached = held = None
    if trial["outcome"] != Outcome.DIVERGED:
        reached = ett.first_crossing(val_accs, target)
        held = ett.sustained_crossing(val_accs, target, sustained)
    best = ett.best(val_accs)
    epoch = reached or (best[0] if best else None)
    return {
        "trial": trial["trial"],
        "epoch": epoch,
        "val_acc": curve["val_acc"][epoch] if epoch else None,
        "acc": curve["acc"][epoch] if epoch else None,
        "epoch_best": best[0] if best else None,
        "val_acc_best": best[1] if best else None,
        "final_loss": curve["loss"].iloc[-1] if epochs_run else None,
        "final_val_loss": curve["val_loss"].iloc[-1] if epochs_run else None,
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
    notes = [_split_note(study, split) for split in (study.split or "").split(", ") if split]
    notes.append(
        f"Target: validation accuracy {target:g} or more. epochs_to_target: the first epoch there; "
        f"epochs_to_target_sustained: the first of {study.sustained} in a row."
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
    return notes


def _split_note(study: Study, split: str) -> str:
    trials = study.trials
    limited = "val_limit" in trials and trials["val_limit"].notna().any()
    cifar = not limited and "data" in trials and set(trials["data"]) == {"cifar10"}
    if split == "official":
        images = "the 10,000 test images" if cifar else "test images"
        return f"Split official: chosen on the test set: validation images are {images}."
    if split == "pooled":
        images = "10,000 of all 60,000 images" if cifar else "drawn from all images"
        return f"Split pooled: validation images are {images}, stratified, anew for each trial's seed."
    images = "5,000 of the training images" if cifar else "drawn from the training images"
    return f"Split {split}: validation images are {images}, stratified; the test set is untouched."


def render(table: pd.DataFrame, style: Style, *, width: int | None = None, notes: Sequence[str] = ()) -> str:
    """Return the table as text that ends in a newline.

    In text, markdown and latex, losses and accuracies have four decimals; where there is no crossing, `>N`
    stands for a trial that ended or was pruned below the target at epoch N, and a dash for one that diverged
    or runs. csv and json hold plain values in full precision, and nothing (csv) or null (json) where a value
    does not exist.

    Args:
        table: what `build_table` returned, or rows of it.
        style: text, markdown, csv, latex (a booktabs tabular) or json (a list of objects).
        width: for text, columns of the terminal. To fit, schedules and stop reasons are shortened with an
            ellipsis, to no less than 12 characters, then the less telling columns are left out, and a note
            says which. Nothing is shortened or left out without it.
        notes: sentences such as `footnotes` returns, put below the table; csv and json have no place for
            them.

    Raises:
        ValueError: the style is none of these.
    """
    if style == "csv":
        return _csv(table)
    if style == "json":
        return json.dumps(_plain_rows(table), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    rows = [[_shown(name, row) for name in COLUMNS] for row in table.to_dict("records")]
    if style == "text":
        return _text(rows, width, notes)
    if style == "markdown":
        return _markdown(rows, notes)
    if style == "latex":
        return _latex(rows, notes)
    raise ValueError(f"style = {style!r}: expected one of {', '.join(get_args(Style))}")


def _plain_rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    rows = table[list(COLUMNS)].to_dict("records")
    return [{str(name): _plain(name, value) for name, value in row.items()} for row in rows]


def _plain(name: Any, value: Any) -> Any:
    if pd.isna(value) or (isinstance(value, float) and math.isinf(value)):
        return None
    return int(value) if name in _WHOLE else value


def _csv(table: pd.DataFrame) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(_plain_rows(table))  # None is written as nothing
    return out.getvalue()


def _shown(name: str, row: dict[Any, Any]) -> str:
    value = row[name]
    if pd.isna(value):
        if name in _CROSSINGS and row["outcome"] in (Outcome.REACHED, Outcome.EXHAUSTED, Outcome.PRUNED):
            return f">{row['epochs_run']}"
        return "-"
    if name in _TEXTS:
        return " ".join(str(value).split())  # an error's line breaks would tear the row
    if name in _WHOLE:
        return str(value)
    return f"{value:.4f}" if name in _FOUR_DECIMALS else f"{value:.4g}"


def _text(rows: list[list[str]], width: int | None, notes: Sequence[str]) -> str:
    columns: list[str] = list(COLUMNS)
    cells = [columns, *rows]
    natural = {name: max(len(line[i]) for line in cells) for i, name in enumerate(columns)}
    sizes = natural if width is None else _fitted(natural, width)
    lines = []
    for line in cells:
        fields = []
        for name, cell in zip(columns, line, strict=True):
            if name in sizes:
                size = sizes[name]
                text = cell if len(cell) <= size else cell[: size - 1] + "…"
                fields.append(text.ljust(size) if name in _TEXTS else text.rjust(size))
        lines.append("  ".join(fields).rstrip())
    left_out = [name for name in columns if name not in sizes]
    if left_out:
        notes = [*notes, f"Left out to fit the width: {', '.join(left_out)}."]
    return "\n".join([*lines, *(["", *notes] if notes else [])]) + "\n"


def _fitted(natural: dict[str, int], width: int) -> dict[str, int]:
    """Return the columns that fit into a width, with their sizes: long texts give way first, then whole columns."""
    sizes = {name: min(size, _SHORTEST) if name in _ELASTIC else size for name, size in natural.items()}

    def room() -> int:
        return width - sum(sizes.values()) - 2 * (len(sizes) - 1)

    for name in _LEFT_OUT_FIRST:
        if room() >= 0:
            break
        del sizes[name]
    for name in [name for name in _ELASTIC if name in sizes]:
        sizes[name] += max(0, min(room(), natural[name] - sizes[name]))
    return sizes


def _markdown(rows: list[list[str]], notes: Sequence[str]) -> str:
    rule = ["---" if name in _TEXTS else "---:" for name in COLUMNS]
    cells = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    lines = ["| " + " | ".join(line) + " |" for line in [list(COLUMNS), rule, *cells]]
    return "\n".join([*lines, *(["", *(f"- {note}" for note in notes)] if notes else [])]) + "\n"


_LATEX = str.maketrans(
    {c: f"\\{c}" for c in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {c: f"${c}$" for c in "<>|"}  # which the default font would set as other characters
)


def _latex(rows: list[list[str]], notes: Sequence[str]) -> str:
    cells = [list(COLUMNS), *rows]
    lines = [["--" if cell == "-" else cell.translate(_LATEX) for cell in line] for line in cells]
    # A row that starts with [ or * would be read as an argument of the \\ before it.
    head, *body = ["{}" * line[0].startswith(("[", "*")) + " & ".join(line) + r" \\" for line in lines]
    columns = "".join("l" if name in _TEXTS else "r" for name in COLUMNS)
    start = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", head, r"\midrule"]
    below = [rf"\par {note.translate(_LATEX)}" for note in notes]
    return "\n".join([*start, *body, r"\bottomrule", r"\end{tabular}", *below]) + "\n"
