"""Epochs to target over one setting at a time."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path as FilePath
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis.plots.canvas import (
    COLOURS,
    check_suffix,
    literal,
    logarithmic,
    mark,
    new_figure,
    runs_to_draw,
    saved,
    tick_texts,
    trial_texts,
)
from analysis.plots.outcomes import (
    CUT,
    ENDED,
    LOOKS,
    LOOKS_WITHOUT_TARGET,
    REACHED,
    WORDS,
    WORDS_WITHOUT_TARGET,
    kinds_of,
)
from analysis.plots.settings import LONGEST_NAME, shortened_name, value_text, varying_settings
from analysis.plots.statistics import quantity
from analysis.store.loader import Study
from analysis.tables.columns import column_named
from analysis.tables.published import trains_as_post5
from resnet_core.objective import Objective
from resnet_core.schema import best_metric

PUBLISHED_RANGES = {"lr_alpha": (8e-4, 1.1e-3), "weight_decay": (0.15, 0.25)}
"""Where post V (machine-learning.anracom.com, 2024-07-14) reached 0.92 in the fewest epochs, with AdamW."""

_ROW = 0.09  # height of a row of the band without a result, as a share of the axis with results


def plot_slices(study: Study, path: FilePath | str | None = None) -> Figure:
    """Draw epochs to target over each setting that varies.

    These are learning rate, λ, the schedule's breakpoints, shift, and every sampled parameter that is a setting by
    itself. The trials of a category, such as the name of an optimizer, are side by side, in the order of their numbers.

    A dot is a trial that reached the target. Trials that did not are arrows upwards in a band at the top edge, beyond
    all dots: their last epochs would put the shortest ones beside the fastest that reached. Without a target, the best
    value of each trial is drawn, and the band has the trials that diverged or crashed. Post V's ranges of learning rate
    and λ are shaded in a study of what it trained: ResNet56v2 on CIFAR-10, with AdamW.
    The other settings vary too, so a slice does not show the effect of its setting alone.

    Args:
        study: what `load` returned.
        path: where to save the figure, as .png, .pdf or .svg; None saves no file.

    Returns:
        The figure, with one axes per setting. It belongs to no window and to no global state.

    Raises:
        ValueError: the path has another suffix, no trial has ended, or no setting varies.
    """
    check_suffix(path)
    found = runs_to_draw(study)
    kinds = kinds_of(study, found)
    settings = varying_settings(study, kinds.index.tolist())
    if settings.empty:
        raise ValueError(f"study {study.name!r}: no setting varies")
    columns = min(3, settings.shape[1])
    figure = new_figure(0.7 + 2.9 * columns, 0.6 + 3.2 * -(-settings.shape[1] // columns))
    grid = figure.subplots(-(-settings.shape[1] // columns), columns, sharey=True, squeeze=False)
    sought = study.objective
    words, all_looks = (WORDS, LOOKS) if sought.target is not None else (WORDS_WITHOUT_TARGET, LOOKS_WITHOUT_TARGET)
    texts = trial_texts(study)
    results = found["epochs_to_target"] if sought.target is not None else found[best_metric(sought.metric)]
    has_result = kinds.isin([REACHED] if sought.target is not None else [REACHED, ENDED, CUT])
    results = results.reindex(kinds.index).where(has_result)
    places, band = _with_band(grid[0, 0], results, kinds, sought)
    for axes, name in zip(grid.flat, map(str, settings), strict=False):
        values, is_number = settings[name], pd.api.types.is_numeric_dtype(settings[name])
        if not is_number:
            values = _side_by_side(axes, values, study.space or {})
        label = column_named(name).label or name
        for kind, looks in all_looks.items():
            if (chosen := kinds == kind).any():
                drawn = axes.scatter(values[chosen], places[chosen], label=words[kind], zorder=3, **looks)
                numbers, told = kinds.index[chosen].tolist(), settings[name][chosen]
                shown_as = [f"{texts[n]}; {label} {value_text(value)}" for n, value in zip(numbers, told, strict=True)]
                mark(drawn, numbers, shown_as)
        if band:
            axes.axhspan(*band, color="0.92", linewidth=0, zorder=0)
        if name in PUBLISHED_RANGES and trains_as_post5(study, optimizer="adamw"):
            axes.axvspan(*PUBLISHED_RANGES[name], color=COLOURS[2], alpha=0.15, linewidth=0, label="post V's range")
        if values.min() > 0 and values.max() > 10 * values.min() and is_number and "epoch" not in name:
            axes.set_xscale("log")
            logarithmic(axes.xaxis, float(values.min()), float(values.max()))
        elif is_number:
            axes.xaxis.set_major_locator(MaxNLocator(5, integer=bool((values.dropna() % 1 == 0).all())))
        axes.set_xlabel(label)
        axes.grid(alpha=0.3)
    for axes in grid[:, 0]:
        axes.set_ylabel(quantity(study))
    for axes in list(grid.flat)[settings.shape[1] :]:
        axes.set_visible(False)
    shown: dict[str, Any] = {}
    for axes in grid.flat:
        handles, labels = axes.get_legend_handles_labels()
        shown |= dict(zip(labels, handles, strict=True))
    figure.legend(list(shown.values()), list(shown), loc="outside lower center", ncols=4, fontsize="small")
    reached = "" if sought.target is None else f", {int(found['reached'].sum())} reached"
    figure.suptitle(f"{study.name}: {len(kinds)} trials{reached}")
    return saved(figure, path)


def _with_band(
    axes: Axes, results: pd.Series[float], kinds: pd.Series[str], sought: Objective
) -> tuple[pd.Series[float], tuple[float, float] | None]:
    """Scale an axis of results, with a band at its bad end for the trials that have none.

    Args:
        axes: the first of the axes that share the scale.
        results: epochs to target, or best values; NaN where a trial has none. The index is the trial's number.
        kinds: the key of `LOOKS` of each trial.
        sought: what the study looks for.

    Returns:
        The height of each trial, its result or its row in the band; and the ends of the band, None without one.
    """
    known, without = results.dropna(), results.isna()
    middle, size = 0.0, 1.0
    if len(known):
        middle, size = float(known.min() + known.max()) / 2, float(known.max() - known.min())
        size = max(size, 2.0) if sought.target is not None else size or abs(middle) or 1.0
    step = _ROW * size if sought.target is not None or sought.goal == "min" else -_ROW * size  # towards worse results
    edge = middle + math.copysign(size, step) / 2 + step
    places, rows = results.copy(), [kind for kind in LOOKS if (without & (kinds == kind)).any()]
    for row, kind in enumerate(rows):
        places[without & (kinds == kind)] = edge + (row + 0.75) * step
    band = (edge, edge + (len(rows) + 0.5) * step) if rows else None
    axes.set_ylim(*sorted((middle - math.copysign(size, step) / 2 - step, band[1] if band else edge)))
    locator = MaxNLocator(integer=sought.target is not None, nbins=6)
    between = sorted((edge, 2 * middle - edge))
    ticks = [float(tick) for tick in locator.tick_values(*between) if between[0] < tick < between[1] and len(known)]
    labels = tick_texts(ticks)
    if band:
        ticks.append(sum(band) / 2)
        labels.append("not reached" if sought.target is not None else "no result")
    axes.set_yticks(ticks, labels)
    return places, band


def _side_by_side(axes: Axes, values: pd.Series[Any], space: Mapping[str, Any]) -> pd.Series[float]:
    """Label an axis with categories, in the order of the study file, and return the place of each trial on it."""
    known = [str(choice) for choice in space.get(str(values.name), {}).get("choices", ())]
    names = [name for name in known if (values == name).any()]
    names += sorted(set(values.dropna()) - set(names))
    longest = max(map(len, names))
    axes.set_xticks(
        range(len(names)),
        [literal(shortened_name(name)) for name in names],
        rotation=90 if longest * len(names) > LONGEST_NAME * 2 else 0,
    )
    axes.set_xlim(-0.5, len(names) - 0.5)
    places = pd.Series(np.nan, index=values.index)
    for place, name in enumerate(names):
        members = values.index[values == name].sort_values()
        places[members] = place + (np.linspace(-0.25, 0.25, len(members)) if len(members) > 1 else 0.0)
    return places
