"""Curves of trials over epochs: all trials of a study, several trials compared, the best beside published runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.plots.canvas import (
    COLOURS,
    HIGHEST_LOSS,
    MOST_NAMED,
    POINTS,
    SCHEDULE,
    STRONG,
    TRAINING,
    VALIDATION,
    check_suffix,
    has_schedule,
    learning_rates,
    line,
    mark,
    new_figure,
    saved,
    scale_rates,
    style,
    thin_lines,
    trial_texts,
    trials_to_draw,
    whole_numbers,
)
from analysis.statistics.lr_range import Floats
from analysis.store.loader import Study
from analysis.tables.trials import build_table

_NEAR = 0.12  # accuracies further below the target are cut off
_PUBLISHED: dict[str, Any] = {"color": "0.45", "zorder": 1.5}
_OF_TRAINING = ("acc", "loss")
_NATS = "cross-entropy [nats]"


@dataclass(frozen=True)
class _Panel:
    """A panel of curves: the label of its axis, label and looks of each quantity, and a corner without curves."""

    label: str
    quantities: dict[str, tuple[str, dict[str, Any]]]
    corner: str


def plot_curves(
    study: Study, numbers: Sequence[int] | None = None, path: Path | str | None = None, *, metric_only: bool = False
) -> Figure:
    """Draw accuracy, loss and learning rate over epochs.

    If the study looks at neither accuracy nor loss, its metric stands in place of the accuracy. A trainer of somebody's
    own has the panels of what it measures. Training is red and dashed, validation blue and solid, the target a solid
    green line; the first crossing of the metric that counts is marked. Below is the learning rate of the trials'
    schedules, if any, logarithmic where it spans more than two decades and is never 0. The best of several trials has a
    strong line and its name in the title: the one with the fewest epochs to target, or else with the best value. An
    epoch's values are drawn at its end: the values of epoch 1 at 1. Of the trainer that ships, losses above 3 nats are
    cut off where accuracy counts; guessing among ten classes has a loss of 2.3. Of more than 300 trials, only the best
    one has curves of training.

    Args:
        study: what `load` returned.
        numbers: numbers of the trials to draw; the default is all that have not crashed.
        path: where to save the figure, as .png, .pdf or .svg; None saves no file.
        metric_only: draw the panel of the metric that counts alone.

    Returns:
        The figure, with up to three axes from top to bottom: accuracy or the metric that counts, loss, learning rate.
        It belongs to no window and to no global state.

    Raises:
        ValueError: the path has another suffix, the study has no such trial, or there is none to draw.
    """
    check_suffix(path)
    trials = trials_to_draw(study, numbers)
    table = build_table(study)
    # The table is sorted best first; crashed trials are not in it.
    strong = next((number for number in table.index if number in trials.index), trials.index[0])

    rows: dict[Any, dict[Any, Any]] = trials.to_dict("index")
    scheduled = [number for number, row in rows.items() if has_schedule(row)]
    sought = study.objective
    panels = _panels(study)
    if metric_only:
        panels, scheduled = [panel for panel in panels if sought.metric in panel.quantities], []
    figure = new_figure(8, 9 if len(panels) > 1 else 6)
    ratios = [3] * len(panels) + [1.6] * bool(scheduled)
    all_axes = list(figure.subplots(len(ratios), 1, sharex=True, height_ratios=ratios, squeeze=False)[:, 0])
    rates_axes = all_axes[len(panels) :]
    curves: dict[Any, pd.DataFrame] = dict(iter(study.epochs.groupby("number")))
    none = study.epochs.iloc[:0]
    texts = trial_texts(study)
    named = {number: texts[number] for number in table.index[:MOST_NAMED]}
    rates = {
        number: learning_rates(
            rows[number],
            curves.get(number, none),
            POINTS if number == strong else POINTS // 5 if number in named else POINTS // 25,
        )
        for number in scheduled
    }
    quantities = [quantity for panel in panels for quantity in panel.quantities]
    points = _points(study.epochs, quantities)
    others = [number for number in trials.index if number != strong]
    for axes, panel in zip(all_axes, panels, strict=False):
        for quantity, (label, looks) in panel.quantities.items():
            place = 1 + quantities.index(quantity)
            best = line(axes, curves.get(strong, none), quantity, label, looks | STRONG)
            mark(best, [strong], [texts[strong]])
            if quantity in _OF_TRAINING and len(trials) > MOST_NAMED:
                continue  # as many lines again, which say less
            thin_lines(axes, {n: points[n][:, [0, place]] for n in others if n in points}, looks, named)
    for bottom in rates_axes:
        if strong in rates:
            (best,) = bottom.plot(*rates[strong], **(SCHEDULE | STRONG))
            mark(best, [strong], [texts[strong]])
        thin_lines(bottom, {n: np.column_stack(rates[n]) for n in others if n in rates}, SCHEDULE, named)

    name = f"trial {trials['trial'][strong]}"
    if study.target is not None:
        aimed = next(axes for axes, panel in zip(all_axes, panels, strict=False) if sought.metric in panel.quantities)
        aimed.axhline(study.target, color="green", linewidth=1.2, label=f"target {study.target:g}")
        crossing = table["epochs_to_target"].get(strong)
        if crossing is not None and pd.notna(crossing):
            _mark_crossing(aimed, int(crossing), table[sought.metric][strong])
    for axes, label in zip(all_axes, [*(panel.label for panel in panels), "learning rate"], strict=False):
        axes.set_ylabel(label)
        axes.grid(alpha=0.3)
    for axes, panel in zip(all_axes, panels, strict=False):
        title = name if len(trials) > 1 else None
        axes.legend(loc=panel.corner, title=title, fontsize="small", title_fontsize="small")
        if sought.is_accuracy and panel.label == _NATS:
            axes.set_ylim(0, min(axes.get_ylim()[1], HIGHEST_LOSS))
    for bottom in rates_axes:
        _scale_rates(bottom, np.concatenate([np.column_stack(drawn) for drawn in rates.values()]))
    lowest = figure.axes[-1]
    lowest.set_xlabel("epoch")
    whole_numbers(lowest.xaxis)
    figure.suptitle(f"{study.name}: " + (name if len(trials) == 1 else f"{len(trials)} trials, best: {name}"))
    figure.align_ylabels()
    return saved(figure, path)


def plot_comparison(study: Study, numbers: Sequence[int] | None = None, path: Path | str | None = None) -> Figure:
    """Compare trials in up to four panels: training loss, test error, validation accuracy, time.

    Test error is 1 - val_acc. If another metric counts, it stands in place of the accuracy, and the validation loss in
    place of the error. A trainer of somebody's own has the panels of what it measures. Time is the mean wall time of an
    epoch, training and validation. Each trial has a colour (of Okabe and Ito's, safe for the colour-blind) and a line
    style (for print in grey): a different pair for each of 35 trials. Where accuracy counts, losses above 3 nats are
    cut off; guessing among ten classes has a loss of 2.3.

    Args:
        study: what `load` returned.
        numbers: numbers of the trials to draw; the default is all that have not crashed.
        path: where to save the figure, as .png, .pdf or .svg; None saves no file.

    Returns:
        The figure, with four axes in two rows, of which those without a metric are hidden; two axes in a row for a
        single metric. It belongs to no window and to no global state.

    Raises:
        ValueError: the path has another suffix, the study has no such trial, or there is none to draw.
    """
    check_suffix(path)
    trials = trials_to_draw(study, numbers)
    sought = study.objective
    panels = {"loss": "training loss", "val_loss": "validation loss", sought.metric: sought.label}
    if sought.is_accuracy:
        panels = {"loss": "training loss [nats]", "error": "test error (1 - val_acc)", sought.metric: sought.label}
    if not study.is_shipped:  # whose metrics are its own
        panels = {name: name for name in panels if name in study.epochs}
    rows = 2 if len(panels) > 1 else 1  # the times have a panel, too
    figure = new_figure(11, 4 * rows + 0.06 * len(trials))
    grid = list(figure.subplots(rows, 2).flat)
    drawn, times = dict(zip(panels, grid, strict=False)), grid[len(panels)]
    for axes in grid[len(panels) + 1 :]:
        axes.set_visible(False)
    curves = dict(iter(study.epochs.groupby("number")))
    seconds = []
    for place, number in enumerate(trials.index):
        curve = curves.get(number, study.epochs.iloc[:0])
        if "error" in panels:
            curve = curve.assign(error=1 - curve["val_acc"])
        looks = {**style(place), "linewidth": 1.4}
        label = str(trials["trial"][number])
        for quantity, axes in drawn.items():
            line(axes, curve, quantity, label, looks)
        seconds.append(float(curve["seconds"].mean()) if len(curve) and "seconds" in curve else 0.0)

    names = [str(name) for name in trials["trial"]]
    colours = [COLOURS[place % len(COLOURS)] for place in range(len(trials))]
    times.barh(range(len(trials)), seconds, color=colours, edgecolor="black", linewidth=0.5)
    times.set_yticks(range(len(trials)), names, fontsize="small" if len(trials) <= 15 else "xx-small")
    times.invert_yaxis()  # the first trial on top, as in the legend
    times.set_xlabel("mean seconds an epoch")
    times.grid(axis="x", alpha=0.3)
    times.set_axisbelow(True)
    for quantity, axes in drawn.items():
        axes.set_xlabel("epoch")
        axes.set_ylabel(panels[quantity])
        whole_numbers(axes.xaxis)
        axes.grid(alpha=0.3)
    if "error" in drawn:
        drawn["loss"].set_ylim(0, min(drawn["loss"].get_ylim()[1], HIGHEST_LOSS))
        drawn["error"].set_ylim(bottom=0)
    handles, labels = grid[0].get_legend_handles_labels()
    # Dashes need some length to be distinguishable.
    figure.legend(
        handles, labels, loc="outside lower center", ncols=min(7, len(labels)), fontsize="small", handlelength=4
    )
    figure.suptitle(f"{study.name}: {len(trials)} trials" if len(trials) > 1 else f"{study.name}: trial {names[0]}")
    return saved(figure, path)


def plot_best_trials(
    study: Study, count: int = 5, published: pd.DataFrame | None = None, path: Path | str | None = None
) -> Figure:
    """Draw the metric that counts of the best trials over epochs, and their learning rates below.

    The best have the fewest epochs to target, then the best value. Each has a colour (of Okabe
    and Ito's) and a line style, so that they can be distinguished in grey too. The curves of published runs are not
    known: the point at their first crossing is marked (at the best epoch if there was none), and the schedule of the
    fastest is drawn. Accuracies far below the target are cut off if a trial came near it.

    Args:
        study: what `load` returned.
        count: how many trials to draw, from 1.
        published: published runs: columns run, epoch, val_acc, schedule, and epochs_to_092 (missing where 0.92
            was not reached).
        path: where to save the figure, as .png, .pdf or .svg; None saves no file.

    Returns:
        The figure, with two axes from top to bottom. It belongs to no window and to no global state.

    Raises:
        ValueError: the path has another suffix, or there is no trial to draw.
    """
    check_suffix(path)
    table = build_table(study)
    sought, best = study.objective, f"{study.metric}_best"
    chosen = [number for number in table.index if pd.notna(table[best][number])][:count]
    if not chosen:
        raise ValueError(f"study {study.name!r}: no trial has finished an epoch")
    trials, texts = trials_to_draw(study, chosen), trial_texts(study)
    rates_shown = any(has_schedule(trials.loc[number]) for number in chosen) or published is not None
    figure = new_figure(8, 7)
    ratios = [3, 1.6] if rates_shown else [3]
    top, *rates_axes = figure.subplots(len(ratios), 1, sharex=True, height_ratios=ratios, squeeze=False)[:, 0]
    curves = dict(iter(study.epochs.groupby("number")))
    for place, number in enumerate(chosen):
        looks: dict[str, Any] = {**style(place)}
        looks |= {"linewidth": 1.5, "zorder": 3}
        crossing = table["epochs_to_target"][number] if study.target is not None else None
        told = sought.shown(table[best][number])
        if study.target is not None:
            told = "not reached" if pd.isna(crossing) else f"epoch {crossing}"
        drawn = [line(top, curves[number], sought.metric, f"trial {trials['trial'][number]}: {told}", looks)]
        for bottom in rates_axes:
            drawn += bottom.plot(*learning_rates(trials.loc[number], curves[number]), **looks)
        if pd.notna(crossing):
            drawn += top.plot(
                [crossing], [table[sought.metric][number]], "o", color=looks["color"], markeredgecolor="black", zorder=4
            )
        for artist in drawn:
            mark(artist, [number], [texts[number]])
    if published is not None and len(published):
        _mark_published(top, rates_axes[0], published)
    if study.target is not None:
        top.axhline(study.target, color="black", linewidth=0.8, label=f"target {study.target:g}", zorder=1)
        if sought.is_accuracy and table[best][chosen].min() > study.target - _NEAR / 2:
            top.set_ylim(max(0.0, study.target - _NEAR), min(1.0, top.get_ylim()[1]))
    top.set_ylabel(sought.label)
    top.legend(loc="lower right" if sought.goal == "max" else "upper right", fontsize="small", handlelength=4)
    for bottom in rates_axes:
        bottom.set_ylabel("learning rate")
        scale_rates(bottom, np.concatenate([np.asarray(line.get_ydata()) for line in bottom.lines]))
    lowest = figure.axes[-1]
    lowest.set_xlabel("epoch")
    whole_numbers(lowest.xaxis)
    lowest.set_xlim(left=0)
    for axes in (top, *rates_axes):
        axes.grid(alpha=0.3)
    figure.align_ylabels()
    return saved(figure, path)


def _panels(study: Study) -> list[_Panel]:
    """Return the panels of a study's curves: accuracy, or the metric that counts if it is no loss, and loss."""
    shipped, metric = study.is_shipped, study.metric
    training, validation = ("training", TRAINING), ("validation", VALIDATION)
    accuracy = _Panel("accuracy", {"acc": training, "val_acc": validation}, "lower right")
    loss = _Panel(_NATS if shipped else "loss", {"loss": training, "val_loss": validation}, "upper right")
    if metric not in (*accuracy.quantities, *loss.quantities):
        corner = "lower right" if study.goal == "max" else "upper right"
        accuracy = _Panel(metric, {metric: (metric, VALIDATION)}, corner)
    found = []
    for panel in (accuracy, loss):
        has = {name: looks for name, looks in panel.quantities.items() if name in study.epochs}
        # A trainer of somebody's own may lack what the panels of the one that ships have.
        if shipped or metric in has or any(study.epochs[name].notna().any() for name in has):
            found.append(replace(panel, quantities=has))
    return found


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
    drawn = learning_rates(pd.Series({"schedule": fastest["schedule"]}), pd.DataFrame({"epoch": []}))
    rates.plot(*drawn, linewidth=3, alpha=0.5, label=f"published run {fastest['run']}", **_PUBLISHED)
    rates.legend(loc="upper right", fontsize="small")


def _mark_crossing(axes: Axes, epoch: int, val_acc: float) -> None:
    looks: dict[str, Any] = {"color": "green", "markeredgecolor": "black", "linestyle": "none", "zorder": 4}
    axes.plot([epoch], [val_acc], marker="o", markersize=7, label=f"target reached: epoch {epoch}", **looks)
    axes.axvline(epoch, color="green", linestyle=":", linewidth=1, zorder=1)


def _points(epochs: pd.DataFrame, quantities: Sequence[str]) -> dict[int, Floats]:
    """Return for each trial [n, 1 + quantities]: the epoch, then a column per quantity, NaN where not finite."""
    ordered = epochs.sort_values(["number", "epoch"], kind="stable")
    points = ordered[["epoch", *quantities]].to_numpy(float)
    points[~np.isfinite(points)] = np.nan
    numbers, starts = np.unique(ordered["number"].to_numpy(), return_index=True)
    return dict(zip(numbers.tolist(), np.split(points, starts[1:]), strict=False))  # no epochs give one part


def _scale_rates(rates: Axes, drawn: Floats) -> None:
    """Scale the axes to the points (epoch, learning rate) that were drawn: [n, 2]."""
    scale_rates(rates, drawn[:, 1])
    rates.set_xlim(0, drawn[:, 0].max() * 1.01)  # room for marks at the last epoch
