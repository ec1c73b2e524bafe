"""Figures of a study's statistics: importance, best so far, share reached, best of n."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.plots.canvas import (
    COLOURS,
    DASHES,
    check_suffix,
    mark,
    new_figure,
    runs_to_draw,
    saved,
    trial_texts,
    whole_numbers,
)
from analysis.statistics.estimates import kaplan_meier
from analysis.store.loader import Study
from analysis.tables.summary import build_best_of_n, build_best_so_far, build_summary
from resnet_core.schema import best_metric

_MOST_CURVES = len(COLOURS)


def plot_importance(table: pd.DataFrame, path: Path | str | None = None) -> Figure:
    """Draw the parameters' importances as bars, with the interval of each rank beside its bar.

    A conditional parameter that too few trials have is left out.

    Args:
        table: what `build_importance` returned.
        path: where to save the figure, as .png, .pdf or .svg; None saves no file.

    Returns:
        The figure, with one axes. It belongs to no window and to no global state.

    Raises:
        ValueError: the path has another suffix.
    """
    check_suffix(path)
    table = table.dropna(subset=["importance"])
    figure = new_figure(8, 1.2 + 0.4 * len(table))
    axes = figure.subplots()
    places = range(len(table))
    axes.barh(places, table["importance"], color=COLOURS[0], edgecolor="black", linewidth=0.5)
    axes.set_yticks(places, table["parameter"].tolist())
    axes.invert_yaxis()
    for place, row in zip(places, table.to_dict("records"), strict=True):
        text = f" rank {row['rank']} ({row['rank_low']} to {row['rank_high']})"
        axes.text(row["importance"], place, text, va="center", fontsize="small")
    axes.set_xlim(0, 1.3 * max(float(table["importance"].max()), 0.1))
    axes.set_xlabel("importance (PED-ANOVA, shares of 1); in brackets 95 % of resampled ranks")
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
    return saved(figure, path)


def plot_best_so_far(study: Study, path: Path | str | None = None) -> Figure:
    """Draw the fewest epochs to target so far, or the best value, over the epochs that all trials have spent.

    Args:
        study: what `load` returned.
        path: where to save the figure, as .png, .pdf or .svg; None saves no file.

    Returns:
        The figure, with one axes. It belongs to no window and to no global state.

    Raises:
        ValueError: the path has another suffix, or no trial has ended.
    """
    check_suffix(path)
    found = runs_to_draw(study)
    table = build_best_so_far(study)
    figure = new_figure(8, 5)
    axes = figure.subplots()
    spent = table["epochs_spent"].astype("float64")
    name = "epochs_to_target" if study.target is not None else best_metric(study.metric)
    best = table[name].astype("float64")
    times = found[name].where(~found["diverged"]).reindex(table.index).to_numpy()
    dots = axes.scatter(
        spent,
        np.where(np.isfinite(times), times, np.nan),
        s=28,
        linewidths=0,
        color=COLOURS[5],
        label="a trial" + " that reached" * (study.target is not None),
    )
    texts = trial_texts(study)
    numbers = table.index.tolist()
    mark(dots, numbers, [f"{texts[n]}; {at:g} epochs spent by then" for n, at in zip(numbers, spent, strict=True)])
    axes.step(spent, best, where="post", color=COLOURS[0], linewidth=1.8, label="best so far")
    axes.set_xlim(0, float(spent.iloc[-1]) * 1.02 or 1)
    axes.set_xlabel("epochs spent by all trials")
    axes.set_ylabel(quantity(study))
    if study.target is not None:
        whole_numbers(axes.yaxis)
    axes.grid(alpha=0.3)
    axes.legend(loc="upper right", fontsize="small")
    none_reached = study.target is not None and not best.notna().any()
    if none_reached:
        axes.set_yticks([])  # without a value, matplotlib's would be fractions of an epoch around 0
    axes.set_title(f"{study.name}: {len(table)} trials" + ", none reached" * none_reached)
    return saved(figure, path)


def plot_share_reached(study: Study, path: Path | str | None = None) -> Figure:
    """Draw the share of runs that have reached the target by each epoch, one curve per configuration.

    It draws up to seven configurations of two runs or more, the fastest ones; if there is none, one curve of all
    trials. The shade is the 95 % interval of Kaplan and Meier's curve. If runs were cut short, two curves bound the
    share: for one none of these runs reach the target, for the other all do, an epoch later.

    Args:
        study: what `load` returned.
        path: where to save the figure, as .png, .pdf or .svg; None saves no file.

    Returns:
        The figure, with one axes. It belongs to no window and to no global state.

    Raises:
        ValueError: the path has another suffix, the study has no target, or no trial has ended.
    """
    check_suffix(path)
    _check_target(study)
    found = runs_to_draw(study)
    budget = found.attrs["budget"]
    summary = build_summary(study)
    names = summary.loc[summary["runs"] >= 2, "configuration"].tolist()[:_MOST_CURVES]
    groups = [(name, found[found["configuration"] == name]) for name in names] or [("all trials", found)]
    figure = new_figure(8, 5)
    axes = figure.subplots()
    for place, (name, group) in enumerate(groups):
        looks = {"color": COLOURS[place], "linestyle": DASHES[place % len(DASHES)], "linewidth": 1.6}
        # A run that missed or diverged stays below the target up to the study's budget.
        until = group["epochs_to_target"].where(group["reached"], group["epochs_run"].where(group["cut_short"], budget))
        until, cut = until.clip(upper=budget).tolist(), group["cut_short"].tolist()
        curve = kaplan_meier(until, group["reached"].tolist(), cut, bounds=True, budget=budget)
        label = f"{name}: {int(group['reached'].sum())} of {len(group)}"
        axes.step(curve.index, 1 - curve["below_most"], where="post", label=label, **looks)
        if any(cut):
            label = f"{name}, had those cut short reached"
            axes.step(curve.index, 1 - curve["below_least"], where="post", label=label, **looks | {"linewidth": 0.7})
        if len(groups) <= 3:
            axes.fill_between(
                curve.index, 1 - curve["high"], 1 - curve["low"], step="post", color=COLOURS[place], alpha=0.12
            )
    axes.set_xlim(0, budget)
    axes.set_ylim(-0.02, 1.02)  # so that the frame does not hide a curve at 0 or 1
    axes.set_xlabel("epoch")
    axes.set_ylabel(f"share of runs at {study.objective.target_text}")
    whole_numbers(axes.xaxis)
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left", fontsize="small", handlelength=4)
    axes.set_title(study.name)
    return saved(figure, path)


def plot_best_of_n(study: Study, path: Path | str | None = None) -> Figure:
    """Draw the median of the best of n runs over n: a curve for each of up to seven configurations of two runs or more.

    Args:
        study: what `load` returned.
        path: where to save the figure, as .png, .pdf or .svg; None saves no file.

    Returns:
        The figure, with one axes. It belongs to no window and to no global state.

    Raises:
        ValueError: the path has another suffix, the study has no target, or no configuration has two runs.
    """
    check_suffix(path)
    _check_target(study)
    summary = build_summary(study)
    names = summary.loc[summary["runs"] >= 2, "configuration"].tolist()[:_MOST_CURVES]
    if not names:
        raise ValueError(f"study {study.name!r}: no configuration has two runs; give it more seeds, or confirm a trial")
    table = build_best_of_n(study)
    figure = new_figure(8, 5)
    axes = figure.subplots()
    for place, name in enumerate(names):
        curve = table[table["configuration"] == name]
        epochs = curve["epochs_to_target"].where(np.isfinite(curve["epochs_to_target"]))
        looks = {"color": COLOURS[place], "linestyle": DASHES[place % len(DASHES)]}
        axes.plot(curve["n"].astype("float64"), epochs, marker="o", markersize=4, label=name, **looks)
    axes.set_xlabel("n, runs of which the fastest counts")
    axes.set_ylabel(f"median of the best run's epochs to {study.objective.target_text}")
    whole_numbers(axes.xaxis)
    axes.grid(alpha=0.3)
    axes.legend(loc="upper right", fontsize="small", handlelength=4)
    axes.set_title(study.name)
    return saved(figure, path)


def quantity(study: Study) -> str:
    """Return the label of an axis of results: epochs to the target; without one, the metric."""
    sought = study.objective
    return f"epochs to {sought.target_text}" if sought.target is not None else f"best {sought.label}"


def _check_target(study: Study) -> None:
    if study.target is None:
        raise ValueError(f"study {study.name!r} has no target, so no run reaches it")
