"""Every trial as a line over its parameters, side by side, to its result."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path as FilePath
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator

from analysis.plots.canvas import (
    COLOURS,
    check_suffix,
    literal,
    mark,
    new_figure,
    runs_to_draw,
    saved,
    tick_texts,
    trial_texts,
)
from analysis.plots.settings import is_log, pairs_text, sampled_parameters, shortened_name
from analysis.plots.statistics import quantity
from analysis.store.loader import Study
from analysis.tables.columns import column_named
from resnet_core.schema import best_metric

_BEST = 5  # trials with a strong line
_MOST_AXES = 10
_NONE, _MISSED = -0.1, 1.1  # heights beside an axis from 0 to 1: not asked, not reached


def plot_parallel(study: Study, path: FilePath | str | None = None) -> Figure:
    """Draw every trial as a line over its parameters, side by side, to its epochs to target.

    The parameters are those that the study samples, up to ten, in the order of its study file; without any, the
    settings that vary. An axis goes from the lowest value that was tried to the highest, logarithmic as in the study
    file or beyond a decade. A trial that did not reach the target ends above the last axis; a conditional parameter
    that was not asked is below its axis. Without a target, the last axis has the best values.

    Args:
        study: what `load` returned.
        path: where to save the figure, as .png, .pdf or .svg; None saves no file.

    Returns:
        The figure, with one axes. It belongs to no window and to no global state.

    Raises:
        ValueError: the path has another suffix, no trial has ended, or no parameter varies.
    """
    check_suffix(path)
    found = runs_to_draw(study)
    settings = sampled_parameters(study, found.index.tolist()).iloc[:, :_MOST_AXES]
    if settings.empty:
        raise ValueError(f"study {study.name!r}: no parameter varies")
    sought, space = study.objective, study.space or {}
    results = found["epochs_to_target"] if sought.target is not None else found[best_metric(sought.metric)]
    results = results.where(np.isfinite(results) & ~found["diverged"])
    figure = new_figure(9, 4.6)
    axes = figure.subplots()
    heights = np.empty((len(found), settings.shape[1] + 1))
    for place, name in enumerate(map(str, settings)):
        values, ticks = _scaled(settings[name], space.get(name, {}))
        heights[:, place] = values.where(values.notna(), _NONE)
        _upright(axes, place, ticks)
        if values.isna().any():
            _upright(axes, place, {_NONE: "not asked"})
    values, ticks = _scaled(results, {}, whole=sought.target is not None)
    heights[:, -1] = values.where(values.notna(), _MISSED)
    _upright(axes, settings.shape[1], ticks)
    if values.isna().any():
        _upright(axes, settings.shape[1], {_MISSED: "not reached" if sought.target is not None else "no result"})
    texts = trial_texts(study)
    told = {
        number: f"{texts[number]}; {pairs_text(row)}"
        for number, row in zip(settings.index, settings.to_dict("records"), strict=True)
    }
    lower = sought.target is not None or sought.goal == "min"
    best = results.dropna().sort_values(ascending=lower, kind="stable").index[:_BEST]
    lines = np.stack([np.broadcast_to(np.arange(heights.shape[1]), heights.shape), heights], axis=-1)
    ended, strong = results.notna().to_numpy(), found.index.isin(best)
    yes, no = ("reached", "not reached") if sought.target is not None else ("a trial", "no result")
    groups: tuple[tuple[Any, dict[str, Any]], ...] = (
        (~ended, {"color": "dimgrey", "linewidths": 0.6, "alpha": 0.4, "label": no}),
        (ended & ~strong, {"color": COLOURS[0], "linewidths": 0.8, "alpha": 0.55, "label": yes}),
        (strong, {"color": COLOURS[1], "linewidths": 1.8, "label": f"the best {len(best)}", "zorder": 3}),
    )
    for chosen, looks in groups:
        if chosen.any():
            drawn = LineCollection(list(lines[chosen]), **looks)
            mark(drawn, found.index[chosen].tolist(), [told[number] for number in found.index[chosen]])
            axes.add_collection(drawn)
    labels = [literal(column_named(str(name)).label or str(name)) for name in settings] + [quantity(study)]
    axes.set_xticks(range(len(labels)), [_folded(label) for label in labels], fontsize="small")
    axes.set_yticks([])
    axes.set_xlim(-0.15, heights.shape[1] - 0.65)
    axes.set_ylim(min(0.0, float(heights.min())) - 0.05, max(1.0, float(heights.max())) + 0.05)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    figure.legend(loc="outside upper center", ncols=3, fontsize="small", handlelength=3)
    return saved(figure, path)


def _scaled(
    values: pd.Series[Any], known: Mapping[str, Any], *, whole: bool = False
) -> tuple[pd.Series[float], dict[float, str]]:
    """Return the heights of values on an axis from 0 to 1, NaN where there is none, and the texts at some heights."""
    if not pd.api.types.is_numeric_dtype(values):
        present = set(values.dropna())
        choices = [text for text in map(str, known.get("choices", ())) if text in present]
        choices += sorted(present - set(choices))
        places = {choice: place / max(1, len(choices) - 1) for place, choice in enumerate(choices)}
        return values.map(places).astype(float), {places[choice]: shortened_name(choice) for choice in choices}
    if not values.notna().any():
        return values.astype(float), {}
    log = not whole and is_log(values, known)
    whole = whole or bool((values.dropna() % 1 == 0).all())
    low, high = float(values.min()), float(values.max())
    locator = LogLocator(subs=(1.0, 2.0, 5.0) if high < 30 * low else (1.0,)) if log else MaxNLocator(4, integer=whole)
    ticks = [float(tick) for tick in locator.tick_values(low, high or 1) if low <= tick <= high]
    moved = values.astype(float).map(math.log, na_action="ignore") if log else values.astype(float)
    least, size = float(moved.min()), float(np.ptp(moved.dropna())) or 1.0

    def height(value: float) -> float:
        return ((math.log(value) if log else value) - least) / size

    if len(ticks) < 2:
        ticks = sorted({low, high})
    texts = [f"{tick:.2g}" for tick in ticks] if log else tick_texts(ticks)
    return (moved - least) / size, {height(tick): text for tick, text in zip(ticks, texts, strict=True)}


def _upright(axes: Axes, place: int, ticks: Mapping[float, str]) -> None:
    """Draw an upright axis with its texts at the left of it."""
    axes.plot([place, place], [0, 1], color="black", linewidth=1, zorder=4)
    behind = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.8}
    for height, text in ticks.items():
        axes.text(place - 0.03, height, literal(text), ha="right", va="center", fontsize="small", bbox=behind, zorder=5)


def _folded(label: str) -> str:
    """Return a label in two lines, if it has several words."""
    first, _, rest = label.partition(" ")
    return f"{first}\n{rest}" if rest else label
