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
    whole_numbers,
)
from analysis.tables.comparison import ConfigurationComparison, ConfigurationRuns, ValueComparison

# In grey, A is the dark solid line in a plain band and B the dashed one in a hatched band.
_HATCHES = ("", "////")
_BELOW, _ABOVE = 0.06, 0.01  # limits of the close view of accuracies: below the target, above the highest quartile
_CLOSE = 0.15  # half of the close view of other metrics, as a share of what is drawn


def plot_bands(comparison: ConfigurationComparison | ValueComparison, path: Path | str | None = None) -> Figure:
    """Draw the metric that counts of two configurations over epochs: median and quartiles over their runs.

    The left axes show all values, the right ones those near the target; without a target both show all. A's median is
    solid, B's dashed; the bands go from the lower to the upper quartile, B's hatched. An epoch is drawn if at least
    half of the runs have it.

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
    sought, drawn = comparison.a.objective, list[float]()
    for axes in (whole, close):
        for name, arm, looks, hatch in zip(
            "AB", (comparison.a, comparison.b), (style(0), style(1)), _HATCHES, strict=True
        ):
            drawn += _band(axes, arm, f"{name}: {arm.label}, n = {len(arm.epochs)}", looks, hatch)
        if sought.target is not None:
            axes.axhline(sought.target, color="black", linewidth=1, linestyle=":", label=f"target {sought.target:g}")
        axes.set_xlabel("epoch")
        axes.set_ylabel(sought.label)
        whole_numbers(axes.xaxis)
        axes.grid(alpha=0.3)
    if sought.is_accuracy and sought.target is not None:
        close.set_ylim(max(0, sought.target - _BELOW), min(1, max(*drawn, sought.target) + _ABOVE))
    elif sought.target is not None:
        room = _CLOSE * (max(*drawn, sought.target) - min(*drawn, sought.target)) or 1.0
        close.set_ylim(sought.target - room, sought.target + room)
    handles, labels = whole.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=1, fontsize="small", handlelength=4)
    figure.suptitle("median and quartiles over runs")
    return saved(figure, path)


def _band(axes: Axes, arm: ConfigurationRuns, label: str, looks: dict[str, Any], hatch: str) -> list[float]:
    """Draw a configuration's band; return its lowest and its highest value."""
    values = arm.values
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
    return [float(np.min(low)), float(np.max(high))]
