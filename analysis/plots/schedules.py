"""Figures of schedules: one schedule with its knots, and all schedules of a study coloured by epochs to target."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from analysis.plots.canvas import (
    POINTS,
    SCHEDULE,
    check_suffix,
    new_figure,
    runs_to_draw,
    saved,
    scale_rates,
)
from analysis.store.loader import Study
from resnet_core.schedule import Schedule, parse
from resnet_core.schema import best_metric

_MANY_KNOTS = 60  # more than this many marks would run into each other
_TITLE = 180  # characters: two lines


def plot_schedule(schedule: Schedule, path: Path | str | None = None) -> Figure:
    """Draw a schedule's value over epochs, from 0 to its last knot, with the knots marked.

    The value is logarithmic where it spans more than two decades and is never 0. A schedule of many knots, such
    as one of many cycles, is drawn thin and without marks; a long text is cut short in the title.

    Args:
        schedule: what `resnet_core.schedule.parse` returned.
        path: where to save the figure, as .png, .pdf or .svg; None saves no file.

    Returns:
        The figure, with one axes. It belongs to no window and to no global state.

    Raises:
        ValueError: the path has another suffix.
    """
    check_suffix(path)
    figure = new_figure(8, 3.5)
    axes = figure.add_subplot()
    end = max(schedule.last_epoch, 1.0)
    knots = [knot.epoch for knot in schedule.knots]
    # The line has points at the knots and just before them, so that a step is vertical.
    epochs = np.unique(np.concatenate((np.linspace(0, end, POINTS), knots, np.nextafter(knots, -1)[1:])))
    values = np.array([schedule.value(epoch) for epoch in epochs])
    many = len(knots) > _MANY_KNOTS
    axes.plot(epochs, values, linewidth=0.7 if many else 1.5, **SCHEDULE)
    if not many:
        # clip_on: the mark of a knot on the frame, such as the first, is drawn whole.
        axes.plot(knots, [k.value for k in schedule.knots], "o", color="black", markersize=4, clip_on=False, zorder=3)
    scale_rates(axes, values)
    axes.set_xlim(0, end * 1.01)
    axes.set_xlabel("epoch")
    axes.set_ylabel("value")
    axes.set_title(textwrap.shorten(str(schedule), _TITLE, placeholder=" …"), fontsize="small", wrap=True)
    axes.grid(alpha=0.3)
    return saved(figure, path)


def plot_schedules(study: Study, path: Path | str | None = None) -> Figure:
    """Draw the learning-rate schedules of all ended trials, coloured by epochs to target or by their best value.

    Fast trials have dark lines, the fastest the strongest one. Trials without a result are thin, dotted and grey: those
    that missed, were cut short before the target, or diverged.

    Args:
        study: what `load` returned.
        path: where to save the figure, as .png, .pdf or .svg; None saves no file.

    Returns:
        The figure: its axes and, if a trial reached the target, those of the colour bar. It belongs to no window and to
        no global state.

    Raises:
        ValueError: the path has another suffix, or no trial with a schedule has ended.
    """
    check_suffix(path)
    sought = study.objective
    name = "epochs_to_target" if sought.target is not None else best_metric(sought.metric)
    lower = sought.target is not None or sought.goal == "min"  # whether lower is better
    found = runs_to_draw(study).sort_values(name, ascending=not lower, kind="stable")
    texts = study.trials.set_index("number").reindex(columns=["schedule"])["schedule"].reindex(found.index).dropna()
    if texts.empty:
        raise ValueError(f"study {study.name!r}: its trials have no schedule")
    found = found.loc[texts.index]
    found["shown"] = found["reached"] if sought.target is not None else found[name].notna() & ~found["diverged"]
    reached = found.loc[found["shown"], name]
    figure = new_figure(8, 5)
    axes = figure.subplots()
    scale = Normalize(float(reached.min()), float(reached.max()) + (sought.target is not None))
    if not len(reached):
        scale = Normalize(0, 1)
    colours = mpl.colormaps["viridis" if lower else "viridis_r"]
    highest = lowest = 0.0
    for text, row in zip(texts, found.to_dict("records"), strict=True):
        schedule = parse(str(text))
        epochs = np.linspace(0, max(float(row["horizon"]), 1.0), 301)
        values = np.array([schedule.value(epoch) for epoch in epochs])
        highest = max(highest, float(values.max()))
        lowest = min(lowest or highest, float(values.min()))
        if row["shown"]:
            first = row[name] == (reached.min() if lower else reached.max())
            looks: dict[str, Any] = {"color": colours(scale(row[name])), "linewidth": 2.2 if first else 1}
        else:
            looks = {"color": "grey", "linewidth": 0.7, "linestyle": ":"}
        axes.plot(epochs, values, **looks)
    if lowest > 0 and highest > 100 * lowest:
        axes.set_yscale("log")
    if len(reached):
        bar = figure.colorbar(ScalarMappable(scale, colours), ax=axes)
        bar.set_label(f"epochs to {sought.target_text}" if sought.target is not None else f"best {sought.label}")
    axes.set_xlim(left=0)
    axes.set_xlabel("epoch")
    axes.set_ylabel("learning rate")
    axes.grid(alpha=0.3)
    axes.set_title(f"{study.name}: {len(found)} schedules" + f", {len(reached)} reached" * (sought.target is not None))
    return saved(figure, path)
