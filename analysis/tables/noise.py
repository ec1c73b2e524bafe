"""How much the validation loss fluctuates before annealing, and the noise scale of SGD."""

from __future__ import annotations

import math
from typing import Any, get_args

import numpy as np
import pandas as pd

from analysis.store.loader import Study
from analysis.tables.columns import NOISE
from analysis.tables.trials import Curve, frame, protocol_notes, split_notes, trial_curves
from resnet_core.data import DATASETS, Split
from resnet_core.schedule import Schedule, parse

SETTLING = 2
"""Number of epochs left out at the start: there the loss falls too fast for its fluctuation to be seen."""
FEWEST_EPOCHS = 5
"""Fewer epochs give no fluctuation."""


def fluctuation(values: list[float]) -> float:
    """Return the standard deviation of a series around its trend, from second differences.

    sqrt(mean((x(i-1) - 2·x(i) + x(i+1))²) / 6): the second differences of a straight trend are 0, and those of
    independent noise of variance σ² have the variance 6σ². A curved trend adds little if it bends little within three
    items. The formula is that of Gasser, Sroka & Jennen-Steinmetz, Biometrika 73, 1986, for even spacing.

    Args:
        values: shape (items,). A value that is not finite is left out, with the differences that contain it.

    Returns:
        In the unit of the values; NaN where there is no second difference.

    >>> fluctuation([1.0, 2.0, 3.0, 4.0])
    0.0
    """
    seconds = np.diff(np.array(values, dtype=np.float64), 2) if len(values) > 2 else np.array([])
    seconds = seconds[np.isfinite(seconds)]
    return math.sqrt(float(np.mean(seconds**2)) / 6) if len(seconds) else math.nan


def build_noise(study: Study) -> pd.DataFrame:
    """Return the noise of the validation loss before annealing: one row for each trial that has not crashed, by number.

    It is the `fluctuation` of val_loss from the third epoch to the last one with the highest learning rate, if these
    are at least five. Beside it is the noise scale of SGD, g = ε·N/(B·(1-m)): ε is the mean learning rate of these
    epochs, N the number of training images, B the batch size, m the momentum, or β₁ of Adam and its variants (Smith &
    Le, ICLR 2018, for B much smaller than N; post I). g is made for SGD: with Adam and its variants, use it only to
    compare trials of one optimizer.

    Args:
        study: what `load` returned.

    Returns:
        Columns trial, epoch_from, epoch_to, val_loss_mean, val_loss_noise (nats), lr_mean, batch_size, momentum,
        train_images, noise_scale; the index is the trial's number. Whole numbers are Int64, others float64, both
        missing where a value does not exist.

    Raises:
        ValueError: the trainer of the study has no schedule, or no val_loss.
    """
    if "schedule" not in study.trials and len(study.trials):
        raise ValueError(f"study {study.name!r}: its trainer has no schedule, and the noise is of its highest part")
    if not study.is_shipped and ("val_loss" not in study.epochs or study.epochs["val_loss"].isna().all()):
        raise ValueError(f"study {study.name!r}: its trainer measures no val_loss, of which the noise is")
    rows = {number: _row(trial, curve) for number, trial, curve in trial_curves(study)}
    return frame(rows, NOISE).sort_index()


def noise_footnotes(study: Study) -> list[str]:
    """Return the sentences a reader of the noise needs."""
    unit = ", in nats" if study.is_shipped else ""
    return [
        *split_notes(study),
        f"val_loss_noise: standard deviation of val_loss around its trend, from second differences{unit}. Epochs "
        f"from {SETTLING + 1} to the last at the highest learning rate; a dash: fewer than {FEWEST_EPOCHS} of them.",
        "noise_scale: lr_mean·train_images/(batch_size·(1 - momentum)); it holds for SGD, and compares trials of one "
        "optimizer otherwise.",
        *protocol_notes(study),
    ]


def _row(trial: dict[Any, Any], curve: Curve) -> dict[str, Any]:
    if not isinstance(trial.get("schedule"), str):  # of a trainer of one's own
        return {"trial": trial["trial"]}
    schedule = parse(trial["schedule"])
    end = math.floor(min(schedule.peak_end, len(curve["val_loss"])))
    window = curve["val_loss"][SETTLING:end]
    row: dict[str, Any] = {
        "trial": trial["trial"],
        "batch_size": trial.get("batch_size"),
        "momentum": _momentum(trial, end),
        "train_images": _train_images(trial),
    }
    if len(window) < FEWEST_EPOCHS:
        return row
    row |= {
        "epoch_from": SETTLING + 1,
        "epoch_to": end,
        "val_loss_mean": float(pd.Series(window).mean()),
        "val_loss_noise": fluctuation(window.tolist()),
        "lr_mean": float(np.mean([_mean(schedule, epoch) for epoch in range(SETTLING + 1, end + 1)])),
    }
    images, batch, momentum = row["train_images"], row["batch_size"], row["momentum"]
    if not any(value is None or pd.isna(value) for value in (images, batch, momentum)):
        row["noise_scale"] = row["lr_mean"] * images / (batch * (1 - momentum))
    return row


def _momentum(trial: dict[Any, Any], end: int) -> float | None:
    """Return the momentum; for a momentum schedule, the mean over the same epochs."""
    text = trial.get("momentum_schedule")
    if isinstance(text, str):
        schedule = parse(text)
        return float(np.mean([_mean(schedule, epoch) for epoch in range(SETTLING + 1, max(end, SETTLING + 1) + 1)]))
    return trial.get("momentum")


def _mean(schedule: Schedule, epoch: int) -> float:
    """Return a schedule's mean over an epoch, 1-based: epoch e lasts from e - 1 to e."""
    return float(np.mean([schedule.value(epoch - 1 + (i + 0.5) / 8) for i in range(8)]))


def _train_images(trial: dict[Any, Any]) -> int | None:
    split, limit = trial.get("split"), trial.get("train_limit")
    spec = DATASETS.get(trial.get("data", ""))
    if spec is None or split not in get_args(Split):
        return None
    images, _ = spec.split_sizes(split)  # type: ignore[arg-type]  # checked above
    return images if limit is None or pd.isna(limit) else min(images, int(limit))
