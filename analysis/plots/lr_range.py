"""A learning-rate range test as a figure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from analysis.plots.canvas import (
    STRONG,
    THIN,
    TRAINING,
    check_suffix,
    new_figure,
    saved,
)
from analysis.statistics.lr_range import Bounds, Floats, smoothed

_BOUNDS: dict[str, dict[str, Any]] = {
    "lower": {"color": "green", "linestyle": "--"},
    "upper": {"color": "green", "linestyle": "-"},
    "steepest": {"color": "tab:orange", "linestyle": "-."},
    "best_acc": {"color": "tab:purple", "linestyle": ":"},
}


def plot_lr_range(
    lrs: Floats,
    losses: Floats,
    accs: Floats,
    bounds: Bounds | None,
    *,
    beta: float,
    log: bool = True,
    title: str = "",
    path: Path | str | None = None,
) -> Figure:
    """Draw a learning-rate range test: loss above, accuracy below, over the learning rate.

    The steps' own values are faint, the smoothed ones strong. The bounds are lines across both, with the span
    between the lower and the upper one shaded. Losses above 1.5 times the start of the smoothed loss are cut off, and
    losses that are not finite are left out.

    Args:
        lrs: [steps], learning rates, rising.
        losses: [steps], training losses; only the last may be infinite or NaN.
        accs: [steps], training accuracies, in [0, 1].
        bounds: what `analysis.statistics.lr_range.suggest` returned; None marks nothing.
        beta: beta of the smoothing; see `analysis.statistics.lr_range.smoothed`.
        log: whether the learning rate is on a logarithmic axis.
        title: title of the figure.
        path: where to save the figure, as .png, .pdf or .svg; None saves no file.

    Returns:
        The figure, with two axes from top to bottom. It belongs to no window and to no global state.

    Raises:
        ValueError: the path has another suffix.
    """
    check_suffix(path)
    figure = new_figure(8, 7)
    top, bottom = figure.subplots(2, 1, sharex=True)
    for axes, quantity, values in ((top, "cross-entropy [nats]", losses), (bottom, "accuracy", accs)):
        finite = np.isfinite(values)
        axes.plot(lrs[finite], values[finite], color=TRAINING["color"], label="each step", **THIN)
        means = smoothed(values[finite], beta)
        axes.plot(lrs[finite], means, color=TRAINING["color"], label="smoothed", **STRONG)
        if quantity == "accuracy":
            axes.set_ylim(bottom=0)
        elif len(means):
            axes.set_ylim(0, 1.5 * float(means[: max(1, len(means) // 10)].max()))
        if bounds is not None:
            axes.axvspan(bounds.lower, bounds.upper, color="green", alpha=0.08, linewidth=0)
            for name, looks in _BOUNDS.items():
                rate = getattr(bounds, name)
                axes.axvline(rate, linewidth=1.2, label=f"{name.replace('_', ' ')}: {rate:.3g}", **looks)
        axes.set_ylabel(quantity)
        axes.grid(alpha=0.3)
    if log:
        bottom.set_xscale("log")
    if len(lrs) > 1:
        bottom.set_xlim(lrs[0], lrs[-1])
    bottom.set_xlabel("learning rate")
    top.legend(loc="lower left", fontsize="small")
    if title:
        figure.suptitle(title)
    figure.align_ylabels()
    return saved(figure, path)
