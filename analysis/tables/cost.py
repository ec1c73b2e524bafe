"""The cost of a study's trials: time, GPU load, power, energy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.store.loader import Study
from analysis.tables.columns import COST, VAL_ACC_BEST, value_columns
from analysis.tables.trials import Curve, frame, protocol_notes, split_notes, trial_curves
from resnet_core.objective import Objective

_OF_THE_GPU = ("gpu_util_percent", "power_watts", "energy_wh")


def build_cost(study: Study) -> pd.DataFrame:
    """Return what each trial cost, one row per trial that has not crashed, by number.

    Seconds are wall time of training and validation. Load and power are means over the run's time, of the whole GPU;
    energy is Σ watts·seconds / 3600 over its epochs, times the share of the GPU that the trial held, so that the
    energies of simultaneous trials add up to the GPU's. These three are missing if an epoch lacks them, as without a
    GPU.

    Args:
        study: what `load` returned.

    Returns:
        Columns trial, batch_size, val_acc_best (with the name of the metric that counts), epoch_best, gpu_util_percent,
        power_watts, seconds_per_epoch (median), epochs_run, hours, energy_wh; the index is the trial's number. Whole
        numbers are Int64, others float64, both missing where a value does not exist. A study of another trainer than
        the one that ships has no batch_size and no figures of the GPU, unless its trainer measures them.
    """
    rows = {number: _row(trial, curve, study.objective) for number, trial, curve in trial_curves(study)}
    columns = [value_columns(study.metric)[1] if column is VAL_ACC_BEST else column for column in COST]
    table = frame(rows, columns)
    if study.is_shipped:
        return table
    lacking = [] if "batch_size" in study.trials else ["batch_size"]
    return table.drop(columns=lacking + [name for name in _OF_THE_GPU if table[name].isna().all()])


def _row(trial: dict[Any, Any], curve: Curve, objective: Objective) -> dict[str, Any]:
    best = objective.best(curve[objective.metric].tolist())
    seconds = curve["seconds"]
    watt_seconds = _sum(curve["power_watts"] * seconds)
    gpus = trial.get("gpus")
    share = 1.0 if gpus is None or pd.isna(gpus) else min(gpus, 1.0)  # the power is one GPU's
    return {
        "trial": trial["trial"],
        "batch_size": trial.get("batch_size"),
        f"{objective.metric}_best": best[1] if best else None,
        "epoch_best": best[0] if best else None,
        "gpu_util_percent": _sum(curve["gpu_util_percent"] * seconds) / _sum(seconds),
        "power_watts": watt_seconds / _sum(seconds),
        "seconds_per_epoch": float(np.nanmedian(seconds)) if np.isfinite(seconds).any() else None,
        "epochs_run": len(seconds),
        "hours": _sum(seconds) / 3600,
        "energy_wh": share * watt_seconds / 3600,
    }


def _sum(values: NDArray[np.float64]) -> float:
    """Add up; NaN where a value is missing or there is none."""
    return float(values.sum()) if len(values) else float("nan")


def cost_footnotes(study: Study, table: pd.DataFrame | None = None) -> list[str]:
    """Return the sentences a reader of the costs needs: split, what is counted, protocols.

    Args:
        study: what `load` returned.
        table: what `build_cost` made of it, with the columns that are shown; the default is all.
    """
    table = build_cost(study) if table is None else table
    sums = "time and energy_wh" if "energy_wh" in table else "time"
    notes = [
        *split_notes(study),
        f"time_per_epoch: the median, training and validation. {sums}: of all epochs together.",
    ]
    if "power_watts" in table:
        notes.append(
            "gpu_util_percent, power_watts: of the whole GPU, also where trials share it; energy_wh: of the share that "
            "the trial held. A dash: not measured."
        )
    return notes + protocol_notes(study)
