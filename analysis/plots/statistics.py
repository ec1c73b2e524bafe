"""Figures of a study's statistics: slices, importance, best so far, share reached, best of n."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis.plots.canvas import (
    COLOURS,
    DASHES,
    check_suffix,
    literal,
    logarithmic,
    new_figure,
    runs_to_draw,
    saved,
    tick_texts,
    whole_numbers,
)
from analysis.statistics.estimates import kaplan_meier
from analysis.store.loader import Study
from analysis.tables.columns import column_named
from analysis.tables.published import trains_as_post5
from analysis.tables.summary import build_best_of_n, build_best_so_far, build_summary
from resnet_core import schema
from resnet_core.objective import Objective
from resnet_core.schedule import parse
from resnet_core.schema import best_metric

PUBLISHED_RANGES = {"lr_alpha": (8e-4, 1.1e-3), "weight_decay": (0.15, 0.25)}
"""Where post V (machine-learning.anracom.com, 2024-07-14) reached 0.92 in the fewest epochs, with AdamW."""

_MOST_CURVES = len(COLOURS)
_LONGEST_CATEGORY = 14  # characters
_REACHED, _ENDED, _CUT, _DIVERGED, _CRASHED = "reached", "missed", "cut short", "diverged", "crashed"
_LOOKS: dict[str, dict[str, Any]] = {
    _REACHED: {"marker": "o", "color": COLOURS[0], "markersize": 6},
    _ENDED: {"marker": "^", "color": COLOURS[1], "markersize": 7, "fillstyle": "none"},
    _CUT: {"marker": "x", "color": "dimgrey", "markersize": 6},
    _DIVERGED: {"marker": "s", "color": COLOURS[3], "markersize": 5, "fillstyle": "none"},
    _CRASHED: {"marker": "+", "color": COLOURS[6], "markersize": 7},
}
"""Marker and colour of each kind of trial, from the best to the worst."""
_WORDS = {
    _REACHED: "reached",
    _ENDED: "missed: its schedule ended",
    _CUT: "cut short before it reached",
    _DIVERGED: "diverged",
    _CRASHED: "crashed",
}
_WORDS_WITHOUT_TARGET = _WORDS | {_ENDED: "a trial", _CUT: "cut short: its best until then"}
_ROW = 0.09  # height of a row of the band without a result, as a share of the axis with results


def plot_slices(study: Study, path: Path | str | None = None) -> Figure:
    """Draw epochs to target over each setting that varies.

    These are learning rate, λ, the schedule's breakpoints, shift, and every sampled parameter that is a setting by
    itself. The trials of a category, such as the name of an optimizer, are side by side, in the order of their numbers.

    A dot is a trial that reached the target. Trials that did not are in a band of their own, beyond all dots: their
    last epochs would put the shortest ones beside the fastest that reached. Without a target, the best value of each
    trial is drawn, and the band has the trials that diverged or crashed. Post V's ranges of learning rate and λ are
    shaded in a study of what it trained: ResNet56v2 on CIFAR-10, with AdamW.
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
    kinds = _kinds(study, found)
    settings = _slices(study, kinds.index.tolist())
    if settings.empty:
        raise ValueError(f"study {study.name!r}: no setting varies")
    columns = min(3, settings.shape[1])
    figure = new_figure(1 + 3.6 * columns, 0.6 + 3.2 * -(-settings.shape[1] // columns))
    grid = figure.subplots(-(-settings.shape[1] // columns), columns, sharey=True, squeeze=False)
    sought = study.objective
    words = _WORDS if sought.target is not None else _WORDS_WITHOUT_TARGET
    results = found["epochs_to_target"] if sought.target is not None else found[best_metric(sought.metric)]
    has_result = kinds.isin([_REACHED] if sought.target is not None else [_REACHED, _ENDED, _CUT])
    results = results.reindex(kinds.index).where(has_result)
    places, band = _with_band(grid[0, 0], results, kinds, sought)
    for axes, name in zip(grid.flat, map(str, settings), strict=False):
        values, is_number = settings[name], pd.api.types.is_numeric_dtype(settings[name])
        if not is_number:
            values = _side_by_side(axes, values, study.space or {})
        for kind, looks in _LOOKS.items():
            if (chosen := kinds == kind).any():
                axes.plot(values[chosen], places[chosen], linestyle="none", label=words[kind], **looks)
        if band:
            axes.axhspan(*band, color="0.92", linewidth=0, zorder=0)
        if name in PUBLISHED_RANGES and trains_as_post5(study, optimizer="adamw"):
            axes.axvspan(*PUBLISHED_RANGES[name], color=COLOURS[2], alpha=0.15, linewidth=0, label="post V's range")
        if values.min() > 0 and values.max() > 10 * values.min() and is_number and "epoch" not in name:
            axes.set_xscale("log")
            logarithmic(axes.xaxis, float(values.min()), float(values.max()))
        elif is_number and (values.dropna() % 1 == 0).all():
            whole_numbers(axes.xaxis)
        axes.set_xlabel(column_named(name).label or name)
        axes.grid(alpha=0.3)
    for axes in grid[:, 0]:
        axes.set_ylabel(_quantity(study))
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
    axes.plot(
        spent,
        np.where(np.isfinite(times), times, np.nan),
        "o",
        color=COLOURS[5],
        label="a trial" + " that reached" * (study.target is not None),
    )
    axes.step(spent, best, where="post", color=COLOURS[0], linewidth=1.8, label="best so far")
    axes.set_xlim(0, float(spent.iloc[-1]) * 1.02 or 1)
    axes.set_xlabel("epochs spent by all trials")
    axes.set_ylabel(_quantity(study))
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


def _kinds(study: Study, found: pd.DataFrame) -> pd.Series[str]:
    """Return by trial number how each trial ended, crashed ones too: the keys of `_LOOKS`.

    Args:
        study: the study.
        found: what `analysis.tables.summary.ended_runs` returned for it.
    """
    kinds = pd.Series(_CRASHED, index=study.trials.set_index("number")["outcome"].dropna().sort_index().index)
    kinds[found.index] = _ENDED
    kinds[found.index[found["cut_short"]]] = _CUT
    kinds[found.index[found["reached"]]] = _REACHED
    kinds[found.index[found["diverged"]]] = _DIVERGED
    return kinds


def _with_band(
    axes: Axes, results: pd.Series[float], kinds: pd.Series[str], sought: Objective
) -> tuple[pd.Series[float], tuple[float, float] | None]:
    """Scale an axis of results, with a band at its bad end for the trials that have none.

    Args:
        axes: the first of the axes that share the scale.
        results: epochs to target, or best values; NaN where a trial has none. The index is the trial's number.
        kinds: the key of `_LOOKS` of each trial.
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
    places, rows = results.copy(), [kind for kind in _LOOKS if (without & (kinds == kind)).any()]
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


def _quantity(study: Study) -> str:
    """Return the label of an axis of results: epochs to the target; without one, the metric."""
    sought = study.objective
    return f"epochs to {sought.target_text}" if sought.target is not None else f"best {sought.label}"


def _check_target(study: Study) -> None:
    if study.target is None:
        raise ValueError(f"study {study.name!r} has no target, so no run reaches it")


def _slices(study: Study, numbers: list[int]) -> pd.DataFrame:
    """Return the settings that vary and that a figure of slices shows; one row per trial."""
    trials = study.trials.set_index("number").loc[numbers]
    settings = pd.DataFrame(index=trials.index)
    for name in ("lr_alpha", "weight_decay"):
        if name in trials:
            settings[name] = _where_asked(trials, name)
    texts = list(trials.get("schedule", ()))
    scheduled = all(isinstance(text, str) for text in texts)  # a trainer of one's own may have none
    knots = [[knot.epoch for knot in parse(text).knots[1:]] for text in texts] if scheduled else []
    for i in range(min((len(epochs) for epochs in knots), default=0)):
        settings[f"breakpoint {i + 1} [epoch]"] = [epochs[i] for epochs in knots]
    for name in ("shift", *(name for name in study.space or {} if name not in settings)):
        if name in trials:
            is_number = pd.api.types.is_numeric_dtype(trials[name]) and not pd.api.types.is_bool_dtype(trials[name])
            settings[name] = _where_asked(trials, name) if is_number else _categories(trials, name, study.space or {})
    return settings[[name for name in settings if settings[name].nunique() > 1]]


def _categories(trials: pd.DataFrame, name: str, space: Mapping[str, Any]) -> pd.Series[Any]:
    """Return a setting as texts; NaN where it is a conditional parameter that the trial does not have."""
    texts, sampled = trials[name].astype(object).where(trials[name].notna(), None).map(str), schema.SAMPLED + name
    # A parameter that is always asked may have the choice None.
    conditional = sampled in trials and "when" in space.get(name, {})
    return texts.where(trials[sampled].notna()) if conditional else texts


def _side_by_side(axes: Axes, values: pd.Series[Any], space: Mapping[str, Any]) -> pd.Series[float]:
    """Label an axis with categories, in the order of the study file, and return the place of each trial on it."""
    known = [str(choice) for choice in space.get(str(values.name), {}).get("choices", ())]
    names = [name for name in known if (values == name).any()]
    names += sorted(set(values.dropna()) - set(names))
    longest = max(map(len, names))
    axes.set_xticks(
        range(len(names)),
        [literal(_shortened(name)) for name in names],
        rotation=90 if longest * len(names) > _LONGEST_CATEGORY * 2 else 0,
    )
    axes.set_xlim(-0.5, len(names) - 0.5)
    places = pd.Series(np.nan, index=values.index)
    for place, name in enumerate(names):
        members = values.index[values == name].sort_values()
        places[members] = place + (np.linspace(-0.25, 0.25, len(members)) if len(members) > 1 else 0.0)
    return places


def _shortened(name: str) -> str:
    """Return a name of at most _LONGEST_CATEGORY characters; names often differ in how they end."""
    end = _LONGEST_CATEGORY // 2
    return name if len(name) <= _LONGEST_CATEGORY else f"{name[: _LONGEST_CATEGORY - 1 - end]}…{name[-end:]}"


def _where_asked(trials: pd.DataFrame, name: str) -> pd.Series[float]:
    """Return a setting as numbers; NaN where it is a conditional parameter that the trial does not have."""
    values = pd.to_numeric(trials[name], errors="coerce")
    sampled = schema.SAMPLED + name
    return values.where(trials[sampled].notna()) if sampled in trials else values
