"""A study's curves and parameters as TensorBoard's event files."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd

from analysis import Study, build_table
from analysis.tables.columns import SETTINGS, Kind, result_columns


def write_events(study: Study, folder: Path) -> int:
    """Write one folder for each trial: its metrics by epoch, and its parameters and results for the HParams page.

    Trials that crashed, or have not finished an epoch, are left out. The files of an earlier export are replaced.

    Args:
        study: the study, as `analysis.load` returns it.
        folder: folder for the event files; created if it is missing.

    Returns:
        How many trials were written.

    Raises:
        ModuleNotFoundError: tensorboard is not installed.
        OSError: the folder cannot be written.
    """
    from torch.utils.tensorboard import SummaryWriter
    from torch.utils.tensorboard.summary import hparams

    table = build_table(study)
    columns = [column for column in result_columns(study.objective) if column.name in table]
    shown = [column.name for column in columns if column.kind is not Kind.TEXT and column not in SETTINGS]
    added = [str(name) for name in table if name not in {column.name for column in columns}]
    trials = study.trials.set_index("number")
    curves = dict(iter(study.epochs.groupby("number")))
    numbers = [number for number in sorted(table.index) if number in curves]
    for number in numbers:
        place = folder / str(trials["trial"][number])
        for old in place.glob("events.out.tfevents.*"):
            old.unlink()
        with SummaryWriter(place) as writer:
            for row in curves[number].drop(columns="number").to_dict("records"):
                epoch = row.pop("epoch")
                for name, value in row.items():
                    if pd.notna(value):
                        writer.add_scalar(name, value, epoch)
            settings = {column.name: trials[column.name][number] for column in SETTINGS if column.name in trials}
            settings |= {name: table[name][number] for name in added}
            settings = {name: _plain(value) for name, value in settings.items() if pd.notna(value)}
            results = {f"result/{n}": float(table[n][number]) for n in shown if pd.notna(table[n][number])}
            for summary in hparams(settings, results):  # type: ignore[no-untyped-call]
                writer.file_writer.add_summary(summary)
            for name, value in results.items():
                if math.isfinite(value):
                    writer.add_scalar(name, value)
    return len(numbers)


def _plain(value: object) -> object:
    """Convert a number of numpy's to Python's type, which TensorBoard requires; return other values unchanged."""
    return value.item() if hasattr(value, "item") else value
