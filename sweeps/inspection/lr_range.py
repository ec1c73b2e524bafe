"""The learning-rate range test: one trial, trained in this process at rising rates, without Ray, ledger or MLflow."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console

from analysis.statistics.lr_range import BREAKS_AT, Floats, breaking_step, default_beta
from resnet_core.config import TrialConfig
from resnet_core.records import StepRecord
from resnet_core.trainer import step_records


@dataclass(frozen=True)
class RangeTest:
    """The steps of a range test.

    Attributes:
        records: the steps, up to the one at which the loss exploded.
        beta: factor of the smoothing, chosen for the planned number of steps.
        stopped: why and where the test was stopped early; None if it was not.
    """

    records: list[StepRecord]
    beta: float
    stopped: str | None

    @property
    def lrs(self) -> Floats:
        """The learning rate of each step, shape (steps,)."""
        return np.array([record.lr for record in self.records])

    @property
    def losses(self) -> Floats:
        """The training loss of each step, shape (steps,)."""
        return np.array([record.loss for record in self.records])

    @property
    def accs(self) -> Floats:
        """The training accuracy of each step, shape (steps,)."""
        return np.array([record.acc for record in self.records])


def with_rising_rate(config: TrialConfig, low: float, high: float, epochs: int, shape: str) -> TrialConfig:
    """Return a configuration whose learning rate rises from ``low`` to ``high``; ``shape`` is ``exp`` or ``lin``."""
    return dataclasses.replace(config, schedule=f"[{low!r}, 0] {shape}[{high!r}, {epochs}]", epochs=None)


def range_test(config: TrialConfig, data_dir: Path, device: str, progress: Console) -> RangeTest:
    """Train a trial to its end, or to the epoch in which its loss explodes.

    Raises:
        DataError: the images are missing and cannot be downloaded.
    """
    records: list[StepRecord] = []
    beta = 0.0
    for steps in step_records(config, data_dir=data_dir, device=device):
        records += steps
        beta = default_beta(len(steps) * config.horizon)
        so_far = RangeTest(records, beta, None)
        progress.print(
            f"epoch {len(records) // len(steps)}/{config.horizon} to lr {records[-1].lr:.3g} "
            f"loss {np.mean([step.loss for step in steps]):.4f} acc {np.mean([step.acc for step in steps]):.4f}",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
        broken = breaking_step(so_far.losses, beta)
        if broken is not None:
            last = records[broken]
            why = f"is above {BREAKS_AT:g} times its smoothed minimum" if np.isfinite(last.loss) else "is not finite"
            stopped = f"stopped at step {last.step}, learning rate {last.lr:.3g}: the loss {why}"
            progress.print(stopped, markup=False, highlight=False, soft_wrap=True)
            return RangeTest(records[: broken + 1], beta, stopped)
    return RangeTest(records, beta, None)
