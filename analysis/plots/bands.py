"""Two configurations' learning curves as bands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.plots.canvas import (
    check_suffix,
    new_figure,
    saved,
    style,
    whole_epochs,
)
from analysis.tables.columns import VAL_ACC
from analysis.tables.comparison import ConfigurationComparison, ConfigurationRuns

# In grey, A is the dark solid line in a plain band and B the dashed one in a hatched band.
_HATCHES = ("", "////")
_BELOW, _ABOVE = 0.06, 0.01  # limits of the close view: below the target, above the highest quartile


def plot_bands(comparison: ConfigurationComparison, path: Path | str | None = None) -> Figure:
    """Draw the validation accuracy of two configurations over epochs: median and quartiles over their runs.

    The left axes show all accuracies, the right ones those near the target. A's median is solid, B's dashed; the bands
    go from the lower to the upper quartile, B's hatched. An epoch is drawn if at least half of the runs have it.

    Args:
        comparison: what `analysis.tables.comparison.compare_two` returned.
        path: where to save the figure, as .png, .pdf or .svg; None saves no file.

    Returns:
        The figure, with two axes side by side. It belongs to no window and to no global state.

    Raises:
        ValueError: the path has another suffix.
    """
    check_suffix(path)
    figure = new_figure(11, 5)
    whole, close = figure.subplots(1, 2, sharex=True)
    target, highest = comparison.a.target, 0.0
    for axes in (whole, close):
        for name, arm, looks, hatch in zip(
            "AB", (comparison.a, comparison.b), (style(0), style(1)), _HATCHES, strict=True
        ):
            highest = max(highest, _band(axes, arm, f"{name}: {arm.label}, n = {len(arm.epochs)}", looks, hatch))
        axes.axhline(target, color="black", linewidth=1, linestyle=":", label=f"target {target:g}")
        axes.set_xlabel("epoch")
        axes.set_ylabel(VAL_ACC.label)
        whole_epochs(axes.xaxis)
        axes.grid(alpha=0.3)
    close.set_ylim(max(0, target - _BELOW), min(1, max(highest, target) + _ABOVE))
    handles, labels = whole.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=1, fontsize="small", handlelength=4)
    figure.suptitle("median and quartiles over runs")
    return saved(figure, path)


def _band(axes: Axes, arm: ConfigurationRuns, label: str, looks: dict[str, Any], hatch: str) -> float:
    """Draw a configuration's band; return its highest value."""
    values = arm.val_accs
    shown = values[values.notna().sum(axis=1) >= values.shape[1] / 2]
    epochs = shown.index.to_numpy()
    low, middle, high = np.nanquantile(shown.to_numpy(dtype=float), (0.25, 0.5, 0.75), axis=1)
    marker = "o" if len(epochs) == 1 else None
    axes.plot(epochs, middle, label=label, linewidth=1.8, marker=marker, zorder=3, **looks)
    axes.fill_between(epochs, low, high, alpha=0.25, linewidth=0, facecolor=looks["color"], zorder=2)
    if hatch:
        axes.fill_between(
            epochs, low, high, facecolor="none", edgecolor=looks["color"], alpha=0.5, linewidth=0, hatch=hatch, zorder=2
        )
    return float(np.max(high))
