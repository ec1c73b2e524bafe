"""A model of validation curves, for choosing stopping rules: val_acc over epochs from a schedule, λ and a seed.

It is fitted to the 34 runs that post V published (ResNet56v2, AdamW, batch 64, shift 0.07). Post V gives the best
accuracy and the epoch to 0.92 of each run, but no curves. The model ignores all other settings of a run, and it is not
meant to predict results.

η(e) is the learning rate at the end of epoch e, and η̂ is the schedule's peak. T = ∫η/η̂ de is the equivalent number
of epochs at the peak rate. The best accuracy that a run can reach is

    best   = limit - shortage·20/T - decay_cost·ln(η̂·λ·(T/20)^growth / decay)²

and its curve is, with z standard normal, x standard exponential, and one draw of z for the whole run,

    envelope(e) = best - gap·η(e)/1e-3 - (best - 0.1)·exp(-e/2)
    val_acc(e)  = envelope(e) + spread·z + 0.0007·z(e) - 0.04·η(e)/1e-3·x(e)

So accuracy has downward dips while the learning rate is high. It rises and varies less as the rate is annealed. The six
numbers of best and envelope are fitted, and spread is the residual of the fit. Three numbers are assumptions, since the
tables do not contain them: how fast a run rises (2 epochs), how deep it dips (0.04 at a rate of 1e-3), and how little
it varies at the end (0.0007).

``python -m sweeps.simulation.curve_model search_spaces/published/post5.csv`` repeats the fit and prints the residuals.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from resnet_core.objective import first_crossing
from resnet_core.schedule import parse

Array = NDArray[np.float64]

_TARGET = 0.92
_CHANCE = 0.1
_RISE_EPOCHS = 2.0
_DIP = 0.04
_CALM = 0.0007
_HIGHEST = 0.999
_LOWEST_DECAY = 1e-9
_SAMPLES = 8  # of the learning rate per epoch, for the integral T


@dataclass(frozen=True)
class CurveModel:
    """The parameters of the model; the module's docstring has the formulas.

    Attributes:
        limit: accuracy that endless training would reach at the best λ.
        shortage: how far below ``limit`` the accuracy is after 20 epochs at the peak rate.
        decay_cost: accuracy that is lost if peak rate times λ is wrong by a factor of e.
        decay: the best value of peak rate times λ for 20 epochs at the peak rate.
        growth: the best value of peak rate times λ is proportional to T to the power of minus ``growth``.
        gap: how far below its best accuracy the envelope is at a learning rate of 1e-3.
        spread: standard deviation of a run's accuracy between repeats.
    """

    limit: float
    shortage: float
    decay_cost: float
    decay: float
    growth: float
    gap: float
    spread: float = 0.0

    def envelope(self, schedule: str, weight_decay: float, epochs: int | None = None) -> Array:
        """Return the accuracies of epochs 1, 2, … without noise, shape (epochs,), in [0.1, 0.999].

        Args:
            schedule: learning rate over epochs, in the schedule notation.
            weight_decay: λ; its mean where it is scheduled.
            epochs: the run's horizon; None is the schedule's last epoch.

        Raises:
            ScheduleError: the schedule is not in the notation.
        """
        ends, peak, at_peak = _rates(schedule, epochs)
        if peak == 0:
            return np.full(len(ends), _CHANCE)
        off = math.log(max(peak * weight_decay, _LOWEST_DECAY) * (at_peak / 20) ** self.growth / self.decay)
        best = self.limit - self.shortage * 20 / at_peak - self.decay_cost * off**2
        rise = np.exp(-np.arange(1, len(ends) + 1) / _RISE_EPOCHS)
        curve = best - self.gap * ends / 1e-3 - (best - _CHANCE) * rise
        return np.clip(curve, _CHANCE, _HIGHEST)

    def draw(self, schedule: str, weight_decay: float, random: np.random.Generator, epochs: int | None = None) -> Array:
        """Return the accuracies of one run with its noise, shape (epochs,), in [0.1, 0.999].

        Args:
            schedule: as for ``envelope``.
            weight_decay: as for ``envelope``.
            random: the generator of the noise.
            epochs: as for ``envelope``.
        """
        smooth = self.envelope(schedule, weight_decay, epochs)
        ends = _rates(schedule, epochs)[0]
        noise = self.spread * random.standard_normal() + _CALM * random.standard_normal(len(ends))
        dips = _DIP * ends / 1e-3 * random.standard_exponential(len(ends))
        return np.clip(smooth + noise - dips, _CHANCE, _HIGHEST)


@lru_cache(maxsize=4096)
def _rates(text: str, epochs: int | None) -> tuple[Array, float, float]:
    """Return the learning rate at the end of each epoch, the highest one, and T."""
    schedule = parse(text)
    length = epochs if epochs is not None else math.ceil(schedule.last_epoch)
    fine = [schedule.value((i + 0.5) / _SAMPLES) for i in range(length * _SAMPLES)]
    ends = np.array([schedule.value(epoch) for epoch in range(1, length + 1)])
    peak = max(fine)
    return ends, peak, sum(fine) / _SAMPLES / peak if peak else 0.0


def fit(published: pd.DataFrame) -> CurveModel:
    """Return the model fitted to published runs by least squares.

    Residuals are differences of accuracies: the highest value of the curve minus val_acc_best and, if the target was
    reached at epoch e, the curve between epochs e-1 and e minus the target.

    Args:
        published: columns schedule, weight_decay, val_acc_best, epochs_to_092 (missing where not reached).
    """
    from scipy.optimize import least_squares

    runs = published.to_dict("records")

    def residuals(numbers: Array) -> Array:
        model = _model(numbers)
        found = []
        for run in runs:
            curve = model.envelope(run["schedule"], run["weight_decay"])
            found.append(curve.max() - run["val_acc_best"])
            if not math.isnan(run["epochs_to_092"]):
                epoch = int(run["epochs_to_092"])
                found.append((curve[epoch - 2] + curve[epoch - 1]) / 2 - _TARGET)
        return np.array(found, dtype=np.float64)

    start = np.array([0.935, 0.01, 0.015, math.log(2e-4), 0.7, 0.03])
    solved = least_squares(residuals, start, x_scale=[0.01, 0.01, 0.01, 0.3, 0.3, 0.01])
    model = _model(solved.x)
    misses = compare(model, published)["val_acc_best_residual"]
    return replace(model, spread=float(np.sqrt((misses**2).mean())))


def _model(numbers: Array) -> CurveModel:
    limit, shortage, cost, log_decay, growth, gap = map(float, numbers)
    return CurveModel(limit, shortage, cost, math.exp(log_decay), growth, gap)


def compare(model: CurveModel, published: pd.DataFrame) -> pd.DataFrame:
    """Return the differences between the model, without noise, and published runs.

    Args:
        model: the model.
        published: the columns that ``fit`` takes, and a column run.

    Returns:
        Columns run, val_acc_best, val_acc_best_residual (model minus published), epochs_to_092 and
        epochs_to_092_model (missing where not reached).
    """
    rows = []
    for run in published.to_dict("records"):
        curve = model.envelope(run["schedule"], run["weight_decay"])
        rows.append(
            {
                "run": run["run"],
                "val_acc_best": run["val_acc_best"],
                "val_acc_best_residual": float(curve.max()) - run["val_acc_best"],
                "epochs_to_092": run["epochs_to_092"],
                "epochs_to_092_model": first_crossing(curve.tolist(), _TARGET),
            }
        )
    whole = dict.fromkeys(("epochs_to_092", "epochs_to_092_model"), "Int64")
    return pd.DataFrame(rows).astype(whole)


POST5 = CurveModel(
    limit=0.93492,
    shortage=0.011012,
    decay_cost=0.014708,
    decay=1.8777e-4,
    growth=0.72060,
    gap=0.021662,
    spread=0.0036632,
)
"""Fitted to search_spaces/published/post5.csv."""

MODELS = {"post5": POST5}
"""Models by name."""


def main(path: Path) -> None:
    """Fit the model to a table of published runs and print its numbers and residuals."""
    published = pd.read_csv(path)
    model = fit(published)
    print(model)
    print(compare(model, published).to_string(index=False, float_format="{:.4f}".format))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
