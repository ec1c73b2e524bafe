"""Figures of parameters and results: one parameter at a time, two, and all of them side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path as FilePath
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.path import Path
from matplotlib.ticker import LogLocator, MaxNLocator
from scipy.spatial import Delaunay, QhullError

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
    whole_numbers,
)
from analysis.plots.statistics import quantity
from analysis.statistics.surrogate import posterior
from analysis.store.loader import Study
from analysis.tables.columns import column_named
from analysis.tables.published import trains_as_post5
from resnet_core import schema
from resnet_core.objective import Objective
from resnet_core.schedule import parse
from resnet_core.schema import best_metric

PUBLISHED_RANGES = {"lr_alpha": (8e-4, 1.1e-3), "weight_decay": (0.15, 0.25)}
"""Where post V (machine-learning.anracom.com, 2024-07-14) reached 0.92 in the fewest epochs, with AdamW."""

_LONGEST_CATEGORY = 14  # characters
_REACHED, _ENDED, _CUT, _DIVERGED, _CRASHED = "reached", "missed", "cut short", "diverged", "crashed"
_Looks: TypeAlias = dict[str, dict[str, Any]]

_UP = Path(
    [(0, -0.5), (0, 0.5), (-0.22, 0.2), (0, 0.5), (0.22, 0.2)],
    [Path.MOVETO, Path.LINETO, Path.MOVETO, Path.LINETO, Path.LINETO],
)
"""An arrow upwards: the result lies beyond the axis, and is not known."""
_LOOKS: _Looks = {
    _REACHED: {"marker": "o", "color": COLOURS[0], "s": 32, "linewidths": 0},
    _ENDED: {"marker": _UP, "facecolors": "none", "edgecolors": COLOURS[1], "s": 90, "linewidths": 1.4},
    _CUT: {"marker": _UP, "facecolors": "none", "edgecolors": "dimgrey", "s": 64, "linewidths": 0.9},
    _DIVERGED: {"marker": "s", "facecolors": "none", "edgecolors": COLOURS[3], "s": 25, "linewidths": 1.2},
    _CRASHED: {"marker": "+", "color": COLOURS[6], "s": 49, "linewidths": 1.2},
}
"""Marker and colour of each kind of trial, from the best to the worst."""
_LOOKS_WITHOUT_TARGET = _LOOKS | {
    _ENDED: _LOOKS[_REACHED],
    _CUT: {"marker": "x", "color": "dimgrey", "s": 36, "linewidths": 1.2},
}
_WORDS = {
    _REACHED: "reached",
    _ENDED: "missed: its schedule ended",
    _CUT: "cut short before it reached",
    _DIVERGED: "diverged",
    _CRASHED: "crashed",
}
_WORDS_WITHOUT_TARGET = _WORDS | {_ENDED: "a trial", _CUT: "cut short: its best until then"}
_ROW = 0.09  # height of a row of the band without a result, as a share of the axis with results

_BEST = 5  # trials with a strong line
_MOST_AXES = 10
_NONE, _MISSED = -0.1, 1.1  # heights beside an axis from 0 to 1: not asked, not reached
_GRID = 20  # points of a contour in each direction
_MOST_FITTED = 200  # trials; the time of a Gaussian process grows with their cube
_LEVELS = 7


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
    kinds = _kinds(study, found)
    settings = _slices(study, kinds.index.tolist())
    if settings.empty:
        raise ValueError(f"study {study.name!r}: no setting varies")
    columns = min(3, settings.shape[1])
    figure = new_figure(0.7 + 2.9 * columns, 0.6 + 3.2 * -(-settings.shape[1] // columns))
    grid = figure.subplots(-(-settings.shape[1] // columns), columns, sharey=True, squeeze=False)
    sought = study.objective
    words, all_looks = (_WORDS, _LOOKS) if sought.target is not None else (_WORDS_WITHOUT_TARGET, _LOOKS_WITHOUT_TARGET)
    texts = trial_texts(study)
    results = found["epochs_to_target"] if sought.target is not None else found[best_metric(sought.metric)]
    has_result = kinds.isin([_REACHED] if sought.target is not None else [_REACHED, _ENDED, _CUT])
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
                shown_as = [f"{texts[n]}; {label} {_shown(value)}" for n, value in zip(numbers, told, strict=True)]
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
        number: f"{texts[number]}; {_pairs(row)}"
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


def plot_contour(study: Study, names: tuple[str, str], path: FilePath | str | None = None) -> Figure:
    """Draw the result that is expected over two parameters, with the trials that it was estimated from.

    The estimate is the mean of a Gaussian process over these two parameters alone (`analysis.statistics.surrogate`):
    the others vary too, and count as noise. It is drawn between trials only, in their convex hull. A trial that did not
    reach the target counts as the study's longest schedule; without a target, one that diverged is left out. Of more
    than 200 trials, 200 are chosen at random.

    Args:
        study: what `load` returned.
        names: names of two sampled parameters that are numbers.
        path: where to save the figure, as .png, .pdf or .svg; None saves no file.

    Returns:
        The figure: its axes, and those of the scale. It belongs to no window and to no global state.

    Raises:
        ValueError: the path has another suffix, no trial has ended, a parameter is no number or does not vary, or the
            trials lie on a line.
    """
    check_suffix(path)
    found, sought = runs_to_draw(study), study.objective
    settings = sampled_parameters(study, found.index.tolist())
    wrong = [name for name in names if name not in settings or not pd.api.types.is_numeric_dtype(settings[name])]
    if wrong:
        raise ValueError(f"study {study.name!r}: {wrong[0]} is no number that varies")
    if sought.target is not None:
        results = found["epochs_to_target"].where(found["reached"], found.attrs["budget"])
    else:
        results = found[best_metric(sought.metric)].where(~found["diverged"])
    known = results.notna() & settings[list(names)].notna().all(axis=1)
    logs = [_is_log(settings[name], (study.space or {}).get(name, {})) for name in names]
    points = np.column_stack([settings[name][known].astype(float) for name in names])
    moved = np.column_stack([np.log(points[:, i]) if logs[i] else points[:, i] for i in (0, 1)])
    low, size = moved.min(axis=0), np.ptp(moved, axis=0)
    try:
        hull = Delaunay((moved - low) / np.where(size, size, 1))
    except (QhullError, ValueError):
        raise ValueError(f"study {study.name!r}: too few trials differ in {' and '.join(names)}") from None
    unit = (moved - low) / size
    fitted = np.arange(len(unit))
    if len(fitted) > _MOST_FITTED:
        fitted = np.sort(np.random.default_rng(0).choice(len(unit), _MOST_FITTED, replace=False))
    x, y = np.meshgrid(np.linspace(0, 1, _GRID), np.linspace(0, 1, _GRID))
    grid = np.column_stack([x.ravel(), y.ravel()])
    values = results[known].to_numpy(float)
    fit = posterior(np.concatenate([unit[fitted], grid]), range(len(fitted)), values[fitted].tolist())
    expected = fit.mean[len(fitted) :]
    expected[hull.find_simplex(grid) < 0] = np.nan
    # Dark is good, on light paper as on dark: the colour's opacity says how good.
    better = -1 if sought.target is not None or sought.goal == "min" else 1
    levels = MaxNLocator(_LEVELS).tick_values(float(np.nanmin(expected)), float(np.nanmax(expected)))
    shares = np.linspace(0.08, 0.7, len(levels) - 1)[::better]
    figure = new_figure(8, 5.5)
    axes = figure.subplots()
    back = [np.exp(low[i] + size[i] * at) if logs[i] else low[i] + size[i] * at for i, at in ((0, x), (1, y))]
    filled = axes.contourf(*back, expected.reshape(x.shape), levels, colors=[(*to_rgb(COLOURS[0]), a) for a in shares])
    texts, has_result = trial_texts(study), found["reached"] if sought.target is not None else known
    looks = _LOOKS if sought.target is not None else _LOOKS_WITHOUT_TARGET
    kinds = {_REACHED: has_result & known, _ENDED: ~has_result & known}
    for kind, chosen in kinds.items():
        if chosen.any():
            words = (
                (_WORDS[_REACHED] if kind == _REACHED else "not reached") if sought.target is not None else "a trial"
            )
            at = [settings[name][chosen].astype(float) for name in names]
            drawn = axes.scatter(*at, label=words, zorder=3, **looks[kind] | {"s": 22})
            told = zip(found.index[chosen], *at, strict=True)
            mark(
                drawn,
                found.index[chosen].tolist(),
                [f"{texts[n]}; {names[0]} {_shown(a)}, {names[1]} {_shown(b)}" for n, a, b in told],
            )
    for axis, rescale, name, log in zip(
        (axes.xaxis, axes.yaxis), (axes.set_xscale, axes.set_yscale), names, logs, strict=True
    ):
        if log:
            rescale("log")
            logarithmic(axis, float(settings[name].min()), float(settings[name].max()))
        elif (settings[name].dropna() % 1 == 0).all():
            whole_numbers(axis)
    axes.set_xlabel(column_named(names[0]).label or names[0])
    axes.set_ylabel(column_named(names[1]).label or names[1])
    figure.colorbar(filled, ax=axes, label=f"expected {quantity(study)}")
    figure.legend(loc="outside upper center", ncols=2, fontsize="small")
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


def sampled_parameters(study: Study, numbers: Sequence[int] | None = None) -> pd.DataFrame:
    """Return the sampled parameters that vary, in the order of the study file; without any, the settings that vary.

    Numbers are numbers and all else texts, missing where a parameter was not asked.

    Args:
        study: what `load` returned.
        numbers: numbers of the trials; the default is all.

    Returns:
        One row per trial, with its number as index; a column per parameter.
    """
    numbers = study.trials["number"].tolist() if numbers is None else list(numbers)
    trials, space = study.trials.set_index("number").loc[numbers], study.space or {}
    names = [str(name).removeprefix(schema.SAMPLED) for name in trials if str(name).startswith(schema.SAMPLED)]
    order = {name: place for place, name in enumerate(space)}
    found = pd.DataFrame(index=trials.index)
    for name in sorted(names, key=lambda name: order.get(name, len(order))):
        values = trials[schema.SAMPLED + name].infer_objects()
        if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
            found[name] = values.astype(float)
        else:
            # A parameter that is always asked may have the choice None.
            asked = values.notna() | ("when" not in space.get(name, {}))
            found[name] = values.astype(object).where(values.notna(), None).map(str).where(asked)
    varying = found[[name for name in found if found[name].nunique() > 1]]
    return varying if names else _slices(study, numbers)


def _is_log(values: pd.Series[float], known: Mapping[str, Any]) -> bool:
    """Return whether an axis of these values is logarithmic; ``known`` is what the study file says of the parameter."""
    low, high = float(values.min()), float(values.max())
    return low > 0 and (bool(known.get("log")) or high > 10 * low)


def _scaled(
    values: pd.Series[Any], known: Mapping[str, Any], *, whole: bool = False
) -> tuple[pd.Series[float], dict[float, str]]:
    """Return the heights of values on an axis from 0 to 1, NaN where there is none, and the texts at some heights."""
    if not pd.api.types.is_numeric_dtype(values):
        present = set(values.dropna())
        choices = [text for text in map(str, known.get("choices", ())) if text in present]
        choices += sorted(present - set(choices))
        places = {choice: place / max(1, len(choices) - 1) for place, choice in enumerate(choices)}
        return values.map(places).astype(float), {places[choice]: _shortened(choice) for choice in choices}
    if not values.notna().any():
        return values.astype(float), {}
    log = not whole and _is_log(values, known)
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


def _pairs(values: Mapping[Any, Any]) -> str:
    """Return the parameters that a trial has as a text."""
    return ", ".join(f"{name} {_shown(value)}" for name, value in values.items() if not pd.isna(value))


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, (int, float, np.number)) else str(value)


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
