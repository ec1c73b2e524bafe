"""The learning-rate range test: it derives bounds for a schedule from the losses of a run with a rising learning rate.

L. N. Smith 2017, "Cyclical Learning Rates for Training Neural Networks", arXiv 1506.01186, section 3.3;
L. N. Smith 2018, "A disciplined approach to neural network hyper-parameters: Part 1", arXiv 1803.09820.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]

BREAKS_AT = 4.0
"""A run has diverged once its smoothed loss is above this multiple of its lowest value."""

_FEWEST_STEPS = 20
# Changes of the smoothed loss that are smaller than this share of the loss at the start count as noise.
_NOISE = 0.05


@dataclass(frozen=True)
class Bounds:
    """Learning rates that a range test suggests; RULES describes the rule for each.

    Attributes:
        upper: where the smoothed loss is lowest, before it rises for good.
        lower: a tenth of ``upper``.
        steepest: where the smoothed loss falls fastest over the logarithm of the learning rate.
        best_acc: where the smoothed training accuracy is highest.
    """

    upper: float
    lower: float
    steepest: float
    best_acc: float


RULES = {
    "upper": "the smoothed loss is lowest: the last before it rises for good (Smith 2017, 2018)",
    "lower": "a tenth of the upper bound, where one cycle may start (Smith 2018)",
    "steepest": "the smoothed loss falls fastest over the logarithm of the learning rate (common LR finders)",
    "best_acc": "the smoothed training accuracy is highest (Smith 2017)",
}
"""The rule that gives each of the Bounds, by its name."""


def default_beta(steps: int) -> float:
    """Return the beta whose average covers about a thirtieth of a test's steps: 0.98 at 1,500 steps.

    A smoothed series follows its input with about that delay: a quarter of a decade if the test spans seven. In a test
    of few steps, the delay of a fixed beta would be decades.
    """
    return 1 - 1 / max(1.0, steps / 30)


def smoothed(losses: Floats, beta: float = 0.98) -> Floats:
    """Return the exponential moving average of a series, corrected for its start at 0.

    m[k] = beta·m[k-1] + (1-beta)·x[k], divided by 1 - beta^(k+1) (Kingma & Ba 2015, arXiv 1412.6980). From the first
    value that is not finite on, no result is finite.

    Args:
        losses: [steps], or accuracies.
        beta: share of the average that a step keeps, 0 <= beta < 1.

    Raises:
        ValueError: beta is out of its range.
    """
    if not 0 <= beta < 1:
        raise ValueError(f"beta = {beta}: expected 0 <= beta < 1")
    means, mean = np.empty(len(losses)), 0.0
    for k, loss in enumerate(losses):
        mean = beta * mean + (1 - beta) * float(loss)
        means[k] = mean / (1 - beta ** (k + 1))
    return means


def breaking_step(losses: Floats, beta: float) -> int | None:
    """Return the first step at which the loss is not finite or has diverged from its minimum; None if there is none.

    It has diverged if the smoothed loss is above BREAKS_AT times its lowest value so far.

    Args:
        losses: [steps].
        beta: as ``smoothed`` takes it.
    """
    finite = np.isfinite(losses)
    end = len(losses) if finite.all() else int(np.argmin(finite))
    means = smoothed(losses[:end], beta)
    broken = np.flatnonzero(means > BREAKS_AT * np.minimum.accumulate(means))
    if len(broken):
        return int(broken[0])
    return end if end < len(losses) else None


def suggest(lrs: Floats, losses: Floats, accs: Floats, beta: float | None = None) -> Bounds:
    """Return the bounds that a range test suggests.

    Args:
        lrs: [steps], learning rates, rising.
        losses: [steps], the training loss of each step. The last, at which the run diverged, need not be finite.
        accs: [steps], the training accuracy of each step, in [0, 1].
        beta: as ``smoothed`` takes it; the default is ``default_beta`` of the steps.

    Raises:
        ValueError: there is no bound, since there are too few steps, the loss never falls, or its minimum is at either
            end; or the series have different lengths, or the learning rates do not rise.
    """
    if not len(lrs) == len(losses) == len(accs):
        raise ValueError(f"{len(lrs)} learning rates, {len(losses)} losses, {len(accs)} accuracies: expected as many")
    if not (np.diff(lrs) > 0).all():
        raise ValueError("the learning rates do not rise from step to step")
    if not np.isfinite(losses[:-1]).all():
        raise ValueError("a loss before the last is not finite: cut the series at the first that is not")
    beta = default_beta(len(lrs)) if beta is None else beta
    broken = len(losses) > 0 and not np.isfinite(losses[-1])
    steps = len(losses) - broken
    if steps < _FEWEST_STEPS:
        reason = f"{steps} steps are too few to tell a bound from, at least {_FEWEST_STEPS} are needed"
        raise ValueError(f"{reason}: raise --epochs" + (", or lower --from" if broken else ""))

    means = smoothed(losses[:steps], beta)
    lowest = steps - 1 - int(np.argmin(means[::-1]))
    start = float(np.mean(losses[: steps // 10]))
    rises = broken or means[lowest:].max() - means[lowest] > _NOISE * start
    window = max(1, round(1 / (1 - beta)))
    if start - means[lowest] < _NOISE * start or lowest <= 2 * window:
        where = f"from {lrs[0]:.3g} to {lrs[steps - 1]:.3g}"
        raise ValueError(
            f"the loss only rises {where}: lower --from" if rises else f"the loss never falls {where}: raise --to"
        )
    if not rises:
        raise ValueError(f"the loss still falls at the highest learning rate, {lrs[steps - 1]:.3g} (--to): raise it")

    # Slopes are taken over the length of the average on either side: over single steps they are noise.
    places = np.arange(2 * window, lowest + 1)
    before, after = places - window, np.minimum(places + window, steps - 1)
    slopes = (means[after] - means[before]) / np.log(lrs[after] / lrs[before])
    upper = float(lrs[lowest])
    return Bounds(
        upper=upper,
        lower=upper / 10,
        steepest=float(lrs[places[np.argmin(slopes)]]),
        best_acc=float(lrs[np.argmax(smoothed(accs[:steps], beta))]),
    )
