"""The best trials of a study beside each other, and beside published runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis.plots import COLOURS, DASHES, _chosen, _learning_rates, _line, _scale_rates, check_suffix, save
from analysis.store import Study
from analysis.table import build_table

_NEAR = 0.12  # what is of interest lies at most so far below the target
_PUBLISHED: dict[str, Any] = {"color": "0.45", "zorder": 1.5}


def plot_best_trials(
    study: Study, count: int = 5, published: pd.DataFrame | None = None, path: Path | str | None = None
) -> Figure:
    """Draw the validation accuracy of the best trials over epochs, and their learning rates below.

    The best have the fewest epochs to target, then the highest validation accuracy. Each has a colour (of Okabe
    and Ito's) and a line style, so that they are told apart in grey too. Of published runs, whose curves are not
    known, the point at the first crossing is marked (at the best epoch, where there was none), and the schedule
    of the fastest is drawn. Accuracies far below the target are cut off where a trial came near it.

    Args:
        study: what `load` returned.
        count: how many trials to draw, from 1.
        published: published runs: columns run, epoch, val_acc, schedule, and epochs_to_092 (missing where 0.92
            was not reached).
        path: where to save the figure, as .png, .pdf or .svg; nowhere unless given.

    Returns:
        The figure, of two axes from top to bottom. It belongs to no window and to no global state.

    Raises:
        ValueError: the path has another suffix, or there is no trial to draw.
    """
    check_suffix(path)
    table = build_table(study)
    chosen = [number for number in table.index if pd.notna(table["val_acc_best"][number])][:count]
    if not chosen:
        raise ValueError(f"study {study.name!r}: no trial has finished an epoch")
    trials = _chosen(study, chosen)
    figure = Figure(figsize=(8, 7), layout="constrained")
    FigureCanvasAgg(figure)
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1.6])
    curves = dict(iter(study.epochs.groupby("number")))
    for place, number in enumerate(chosen):
        looks: dict[str, Any] = {"color": COLOURS[place % len(COLOURS)], "linestyle": DASHES[place % len(DASHES)]}
        looks |= {"linewidth": 1.5, "zorder": 3}
        crossing = table["epochs_to_target"][number]
        told = "not reached" if pd.isna(crossing) else f"epoch {crossing}"
        _line(top, curves[number], "val_acc", f"trial {trials['trial'][number]}: {told}", looks)
        bottom.plot(*_learning_rates(trials.loc[number], curves[number]), **looks)
        if pd.notna(crossing):
            top.plot(
                [crossing], [table["val_acc"][number]], "o", color=looks["color"], markeredgecolor="black", zorder=4
            )
    if published is not None and len(published):
        _mark_published(top, bottom, published)
    top.axhline(study.target, color="black", linewidth=0.8, label=f"target {study.target:g}", zorder=1)
    if table["val_acc_best"][chosen].min() > study.target - _NEAR / 2:
        top.set_ylim(max(0.0, study.target - _NEAR), min(1.0, top.get_ylim()[1]))
    top.set_ylabel("validation accuracy")
    top.legend(loc="lower right", fontsize="small", handlelength=4)
    bottom.set_ylabel("learning rate")
    bottom.set_xlabel("epoch")
    bottom.xaxis.set_major_locator(MaxNLocator(integer=True))
    bottom.set_xlim(left=0)
    _scale_rates(bottom, np.concatenate([np.asarray(line.get_ydata()) for line in bottom.lines]))
    for axes in (top, bottom):
        axes.grid(alpha=0.3)
    figure.align_ylabels()
    if path is not None:
        save(figure, Path(path))
    return figure


def _mark_published(accuracies: Axes, rates: Axes, published: pd.DataFrame) -> None:
    points: dict[str, Any] = {"marker": "D", "linestyle": "none", "markerfacecolor": "none", "markersize": 5}
    label = "published runs, where they crossed or were best"
    accuracies.plot(published["epoch"], published["val_acc"], label=label, **points, **_PUBLISHED)
    fastest = published.sort_values("epochs_to_092", kind="stable", na_position="last").iloc[0]
    accuracies.annotate(
        f"run {fastest['run']}",
        (fastest["epoch"], fastest["val_acc"]),
        xytext=(10, -18),
        textcoords="offset points",
        arrowprops={"arrowstyle": "-", "color": "0.45", "linewidth": 0.8},
        fontsize="small",
        color="0.3",
    )
    drawn = _learning_rates(pd.Series({"schedule": fastest["schedule"]}), pd.DataFrame({"epoch": []}))
    rates.plot(*drawn, linewidth=3, alpha=0.5, label=f"published run {fastest['run']}", **_PUBLISHED)
    rates.legend(loc="upper right", fontsize="small")
