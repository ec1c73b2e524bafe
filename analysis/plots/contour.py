"""What is expected over the two parameters that matter most."""

from __future__ import annotations

from pathlib import Path as FilePath

import numpy as np
import pandas as pd
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy.spatial import Delaunay, QhullError

from analysis.plots.canvas import (
    COLOURS,
    check_suffix,
    logarithmic,
    mark,
    new_figure,
    runs_to_draw,
    saved,
    trial_texts,
    whole_numbers,
)
from analysis.plots.outcomes import ENDED, LOOKS, LOOKS_WITHOUT_TARGET, REACHED, WORDS
from analysis.plots.settings import is_log, sampled_parameters, value_text
from analysis.plots.statistics import quantity
from analysis.statistics.surrogate import posterior_mean
from analysis.store.loader import Study
from analysis.tables.columns import column_named
from resnet_core.schema import best_metric

_GRID = 20  # points of a contour in each direction
_MOST_FITTED = 200  # trials; the time of a Gaussian process grows with their cube
_LEVELS = 7


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
    logs = [is_log(settings[name], (study.space or {}).get(name, {})) for name in names]
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
    coordinates = np.concatenate([unit[fitted], grid])
    means = posterior_mean(coordinates, range(len(fitted)), values[fitted].tolist())
    surface = means[len(fitted) :]
    surface[hull.find_simplex(grid) < 0] = np.nan
    # Dark is good, on light paper as on dark: the colour's opacity says how good.
    better = -1 if sought.target is not None or sought.goal == "min" else 1
    levels = MaxNLocator(_LEVELS).tick_values(float(np.nanmin(surface)), float(np.nanmax(surface)))
    shares = np.linspace(0.08, 0.7, len(levels) - 1)[::better]
    figure = new_figure(8, 5.5)
    axes = figure.subplots()
    back = [np.exp(low[i] + size[i] * at) if logs[i] else low[i] + size[i] * at for i, at in ((0, x), (1, y))]
    filled = axes.contourf(*back, surface.reshape(x.shape), levels, colors=[(*to_rgb(COLOURS[0]), a) for a in shares])
    texts, has_result = trial_texts(study), found["reached"] if sought.target is not None else known
    looks = LOOKS if sought.target is not None else LOOKS_WITHOUT_TARGET
    kinds = {REACHED: has_result & known, ENDED: ~has_result & known}
    for kind, chosen in kinds.items():
        if chosen.any():
            words = (WORDS[REACHED] if kind == REACHED else "not reached") if sought.target is not None else "a trial"
            at = [settings[name][chosen].astype(float) for name in names]
            drawn = axes.scatter(*at, label=words, zorder=3, **looks[kind] | {"s": 22})
            told = zip(found.index[chosen], *at, strict=True)
            mark(
                drawn,
                found.index[chosen].tolist(),
                [f"{texts[n]}; {names[0]} {value_text(a)}, {names[1]} {value_text(b)}" for n, a, b in told],
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
