"""Curves of a study's trials as a figure."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis.lr_range import Bounds, Floats, smoothed
from analysis.store import Study
from analysis.table import build_table
from resnet_core.records import Outcome
from resnet_core.schedule import Schedule, parse

# What would make two files of the same figure differ is left out.
_METADATA: dict[str, dict[str, Any]] = {".png": {}, ".pdf": {"CreationDate": None}, ".svg": {"Date": None}}
_TRAINING: dict[str, Any] = {"color": "tab:red", "linestyle": "--"}
_VALIDATION: dict[str, Any] = {"color": "tab:blue", "linestyle": "-"}
_SCHEDULE: dict[str, Any] = {"color": "black", "linestyle": "-"}
_STRONG: dict[str, Any] = {"linewidth": 1.8, "zorder": 3}
_THIN: dict[str, Any] = {"linewidth": 0.7, "alpha": 0.35, "zorder": 2}
_HIGHEST_LOSS = 3.0  # guessing among ten classes costs 2.3
_POINTS = 1001
# Okabe & Ito, Color Universal Design (2008), without the yellow, which is faint on white. Their number and that of
# the dashes have no common divisor, so all pairs come up before one repeats.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES: tuple[Any, ...] = ("-", "--", ":", "-.", (0, (6, 1, 1, 1, 1, 1)))
_TITLE = 180  # characters: two lines
_MANY_KNOTS = 60  # more than this many marks would run into each other
_BOUNDS: dict[str, dict[str, Any]] = {
    "lower": {"color": "green", "linestyle": "--"},
    "upper": {"color": "green", "linestyle": "-"},
    "steepest": {"color": "tab:orange", "linestyle": "-."},
    "best_acc": {"color": "tab:purple", "linestyle": ":"},
}


def plot_curves(study: Study, numbers: Sequence[int] | None = None, path: Path | str | None = None) -> Figure:
    """Draw accuracy, loss and learning rate over epochs.

    Training is red and dashed, validation blue and solid, the target a solid green line; the validation
    curve's first crossing is marked. Below is the learning rate of the trials' schedules, logarithmic where
    it spans more than two decades and is never 0. Of several trials the best is drawn strong and named: the
    one of fewest epochs to target, else of the highest validation accuracy. What an epoch leaves behind
    stands at its end: the accuracy of epoch 1 at 1. Losses above 3 nats are cut off; guessing among ten
    classes costs 2.3.

    Args:
        study: what `load` returned.
        numbers: of the trials to draw; all that have not crashed unless given.
        path: where to save the figure, as .png, .pdf or .svg; nowhere unless given.

    Returns:
        The figure, of three axes from top to bottom. It belongs to no window and to no global state.

    Raises:
        ValueError: the path has another suffix, the study has no such trial, or there is none to draw.
    """
    check_suffix(path)
    trials = _chosen(study, numbers)
    table = build_table(study)
    # The table is sorted best first; crashed trials are not in it.
    strong = next((number for number in table.index if number in trials.index), trials.index[0])

    figure = Figure(figsize=(8, 9), layout="constrained")
    FigureCanvasAgg(figure)
    top, middle, bottom = figure.subplots(3, 1, sharex=True, height_ratios=[3, 3, 1.6])
    curves = dict(iter(study.epochs.groupby("number")))
    for number in trials.index:
        curve = curves.get(number, study.epochs.iloc[:0])
        looks = _STRONG if number == strong else _THIN
        label = number == strong
        _line(top, curve, "acc", "training" if label else None, _TRAINING | looks)
        _line(top, curve, "val_acc", "validation" if label else None, _VALIDATION | looks)
        _line(middle, curve, "loss", "training" if label else None, _TRAINING | looks)
        _line(middle, curve, "val_loss", "validation" if label else None, _VALIDATION | looks)
        bottom.plot(*_learning_rates(trials.loc[number], curve), **(_SCHEDULE | looks))

    name = f"trial {trials['trial'][strong]}"
    top.axhline(study.target, color="green", linewidth=1.2, label=f"target {study.target:g}")
    crossing = table["epochs_to_target"].get(strong)
    if crossing is not None and pd.notna(crossing):
        _mark_crossing(top, int(crossing), table["val_acc"][strong])
    for axes, quantity in ((top, "accuracy"), (middle, "cross-entropy [nats]"), (bottom, "learning rate")):
        axes.set_ylabel(quantity)
        axes.grid(alpha=0.3)
    for axes, corner in ((top, "lower right"), (middle, "upper right")):  # where the curves are not
        title = name if len(trials) > 1 else None
        axes.legend(loc=corner, title=title, fontsize="small", title_fontsize="small")
    _scale(middle, bottom)
    figure.suptitle(f"{study.name}: " + (name if len(trials) == 1 else f"{len(trials)} trials, best: {name}"))
    figure.align_ylabels()
    if path is not None:
        save(figure, Path(path))
    return figure


def plot_comparison(study: Study, numbers: Sequence[int] | None = None, path: Path | str | None = None) -> Figure:
    """Draw trials beside each other: training loss, test error, validation accuracy, time.

    Test error is 1 - val_acc. Time is the mean wall time of an epoch, training and validation. Each trial has a
    colour (of Okabe and Ito's, which the colour-blind tell apart) and a line style (which tells them apart in
    grey); up to 35 trials have a pair of their own. Losses above 3 nats are cut off; guessing among ten classes
    costs 2.3.

    Args:
        study: what `load` returned.
        numbers: of the trials to draw; all that have not crashed unless given.
        path: where to save the figure, as .png, .pdf or .svg; nowhere unless given.

    Returns:
        The figure, of four axes in two rows. It belongs to no window and to no global state.

    Raises:
        ValueError: the path has another suffix, the study has no such trial, or there is none to draw.
    """
    check_suffix(path)
    trials = _chosen(study, numbers)
    figure = Figure(figsize=(11, 8 + 0.06 * len(trials)), layout="constrained")
    FigureCanvasAgg(figure)
    losses, errors, accuracies, times = figure.subplots(2, 2).flat
    curves = dict(iter(study.epochs.groupby("number")))
    seconds = []
    for place, number in enumerate(trials.index):
        curve = curves.get(number, study.epochs.iloc[:0])
        curve = curve.assign(error=1 - curve["val_acc"])
        looks = {"color": COLOURS[place % len(COLOURS)], "linestyle": DASHES[place % len(DASHES)], "linewidth": 1.4}
        label = str(trials["trial"][number])
        for axes, quantity in ((losses, "loss"), (errors, "error"), (accuracies, "val_acc")):
            _line(axes, curve, quantity, label, looks)
        seconds.append(float(curve["seconds"].mean()) if len(curve) else 0.0)

    names = [str(name) for name in trials["trial"]]
    colours = [COLOURS[place % len(COLOURS)] for place in range(len(trials))]
    times.barh(range(len(trials)), seconds, color=colours, edgecolor="black", linewidth=0.5)
    times.set_yticks(range(len(trials)), names, fontsize="small" if len(trials) <= 15 else "xx-small")
    times.invert_yaxis()  # the first trial on top, as in the legend
    times.set_xlabel("mean seconds an epoch")
    times.grid(axis="x", alpha=0.3)
    times.set_axisbelow(True)
    quantities = ("training loss [nats]", "test error (1 - val_acc)", "validation accuracy")
    for axes, quantity in zip((losses, errors, accuracies), quantities, strict=True):
        axes.set_xlabel("epoch")
        axes.set_ylabel(quantity)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
    losses.set_ylim(0, min(losses.get_ylim()[1], _HIGHEST_LOSS))
    errors.set_ylim(bottom=0)
    handles, labels = losses.get_legend_handles_labels()
    # Dashes need some length to be told apart.
    figure.legend(
        handles, labels, loc="outside lower center", ncols=min(7, len(labels)), fontsize="small", handlelength=4
    )
    figure.suptitle(f"{study.name}: {len(trials)} trials" if len(trials) > 1 else f"{study.name}: trial {names[0]}")
    if path is not None:
        save(figure, Path(path))
    return figure


def plot_schedule(schedule: Schedule, path: Path | str | None = None) -> Figure:
    """Draw a schedule's value over epochs, from 0 to its last knot, with the knots marked.

    The value is logarithmic where it spans more than two decades and is never 0. A schedule of many knots, such
    as one of many cycles, is drawn thin and without marks; a long text is cut short in the title.

    Args:
        schedule: what `resnet_core.schedule.parse` returned.
        path: where to save the figure, as .png, .pdf or .svg; nowhere unless given.

    Returns:
        The figure, of one axes. It belongs to no window and to no global state.

    Raises:
        ValueError: the path has another suffix.
    """
    check_suffix(path)
    figure = Figure(figsize=(8, 3.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    end = max(schedule.last_epoch, 1.0)
    knots = [knot.epoch for knot in schedule.knots]
    # The knots are points of the line too, and so is what lies just before one: a step stays upright.
    epochs = np.unique(np.concatenate((np.linspace(0, end, _POINTS), knots, np.nextafter(knots, -1)[1:])))
    values = np.array([schedule.value(epoch) for epoch in epochs])
    many = len(knots) > _MANY_KNOTS
    axes.plot(epochs, values, linewidth=0.7 if many else 1.5, **_SCHEDULE)
    if not many:
        # A knot on the frame, such as the first, is a whole mark too.
        axes.plot(knots, [k.value for k in schedule.knots], "o", color="black", markersize=4, clip_on=False, zorder=3)
    _scale_rates(axes, values)
    axes.set_xlim(0, end * 1.01)
    axes.set_xlabel("epoch")
    axes.set_ylabel("value")
    axes.set_title(textwrap.shorten(str(schedule), _TITLE, placeholder=" …"), fontsize="small", wrap=True)
    axes.grid(alpha=0.3)
    if path is not None:
        save(figure, Path(path))
    return figure


def plot_lr_range(
    lrs: Floats,
    losses: Floats,
    accs: Floats,
    bounds: Bounds | None,
    *,
    beta: float,
    log: bool = True,
    title: str = "",
    path: Path | str | None = None,
) -> Figure:
    """Draw a learning-rate range test: loss above, accuracy below, over the learning rate.

    The steps' own values are faint, the smoothed ones strong. The bounds are lines across both, with the span
    between the lower and the upper one shaded. Losses above one and a half times where the smoothed loss starts
    are cut off, and those that are not finite are left out.

    Args:
        lrs: [steps], learning rates, rising.
        losses: [steps], training losses; only the last may be not finite.
        accs: [steps], training accuracies, in [0, 1].
        bounds: what `analysis.lr_range.suggest` returned; None marks nothing.
        beta: of the smoothing; see `analysis.lr_range.smoothed`.
        log: whether the learning rate is on a logarithmic axis.
        title: of the figure.
        path: where to save the figure, as .png, .pdf or .svg; nowhere unless given.

    Returns:
        The figure, of two axes from top to bottom. It belongs to no window and to no global state.

    Raises:
        ValueError: the path has another suffix.
    """
    check_suffix(path)
    figure = Figure(figsize=(8, 7), layout="constrained")
    FigureCanvasAgg(figure)
    top, bottom = figure.subplots(2, 1, sharex=True)
    for axes, quantity, values in ((top, "cross-entropy [nats]", losses), (bottom, "accuracy", accs)):
        finite = np.isfinite(values)
        axes.plot(lrs[finite], values[finite], color=_TRAINING["color"], label="each step", **_THIN)
        means = smoothed(values[finite], beta)
        axes.plot(lrs[finite], means, color=_TRAINING["color"], label="smoothed", **_STRONG)
        if quantity == "accuracy":
            axes.set_ylim(bottom=0)
        elif len(means):
            axes.set_ylim(0, 1.5 * float(means[: max(1, len(means) // 10)].max()))
        if bounds is not None:
            axes.axvspan(bounds.lower, bounds.upper, color="green", alpha=0.08, linewidth=0)
            for name, looks in _BOUNDS.items():
                rate = getattr(bounds, name)
                axes.axvline(rate, linewidth=1.2, label=f"{name.replace('_', ' ')}: {rate:.3g}", **looks)
        axes.set_ylabel(quantity)
        axes.grid(alpha=0.3)
    if log:
        bottom.set_xscale("log")
    if len(lrs) > 1:
        bottom.set_xlim(lrs[0], lrs[-1])
    bottom.set_xlabel("learning rate")
    top.legend(loc="lower left", fontsize="small")
    if title:
        figure.suptitle(title)
    figure.align_ylabels()
    if path is not None:
        save(figure, Path(path))
    return figure


def check_suffix(path: Path | str | None) -> None:
    """Raise ValueError for a path whose suffix is none that a figure can be saved as; None is one that can."""
    if path is not None and Path(path).suffix.lower() not in _METADATA:
        raise ValueError(f"{path}: cannot save a figure as this; expected one of {', '.join(_METADATA)}")


def _chosen(study: Study, numbers: Sequence[int] | None) -> pd.DataFrame:
    trials = study.trials.set_index("number")
    if numbers is None:
        numbers = trials.index[trials["outcome"] != Outcome.CRASHED].tolist()
    unknown = [number for number in numbers if number not in trials.index]
    if unknown:
        wrong, known = (", ".join(map(str, some)) for some in (unknown, trials.index))
        raise ValueError(f"study {study.name!r} has no trial {wrong}; its trials: {known or 'none yet'}")
    if not numbers:
        raise ValueError(f"study {study.name!r}: no trial to draw")
    return trials.loc[list(dict.fromkeys(numbers))]


def _line(axes: Axes, curve: pd.DataFrame, quantity: str, label: str | None, looks: dict[str, Any]) -> None:
    finite = curve[quantity].where(np.isfinite(curve[quantity]))
    # A single epoch is a point, which a line alone would not show.
    marker = "o" if finite.notna().sum() == 1 else None
    axes.plot(curve["epoch"], finite, label=label, marker=marker, markersize=4, **looks)


def _learning_rates(trial: pd.Series[Any], curve: pd.DataFrame) -> tuple[Any, Any]:
    """Epochs and learning rates to the run's horizon, which need not be the schedule's last epoch."""
    schedule = parse(trial["schedule"])
    horizon = trial.get("horizon")
    end = schedule.last_epoch if horizon is None or pd.isna(horizon) else float(horizon)
    end = max(end, 1.0, float(curve["epoch"].max()) if len(curve) else 0.0)
    epochs = np.linspace(0, end, _POINTS)
    return epochs, np.array([schedule.value(epoch) for epoch in epochs])


def _mark_crossing(axes: Axes, epoch: int, val_acc: float) -> None:
    looks: dict[str, Any] = {"color": "green", "markeredgecolor": "black", "linestyle": "none", "zorder": 4}
    axes.plot([epoch], [val_acc], marker="o", markersize=7, label=f"target reached: epoch {epoch}", **looks)
    axes.axvline(epoch, color="green", linestyle=":", linewidth=1, zorder=1)


def _scale(losses: Axes, rates: Axes) -> None:
    losses.set_ylim(0, min(losses.get_ylim()[1], _HIGHEST_LOSS))
    _scale_rates(rates, np.concatenate([np.asarray(line.get_ydata()) for line in rates.lines]))
    end = max(float(np.max(line.get_xdata())) for line in rates.lines)
    rates.set_xlim(0, end * 1.01)  # room for what stands at the last epoch
    rates.set_xlabel("epoch")
    rates.xaxis.set_major_locator(MaxNLocator(integer=True))


def _scale_rates(axes: Axes, values: Floats) -> None:
    if values.min() > 0 and values.max() > 100 * values.min():
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)


def save(figure: Figure, path: Path) -> None:
    """Write a figure as the suffix says, the same bytes for the same figure."""
    suffix = path.suffix.lower()
    with mpl.rc_context({"svg.hashsalt": "curves"}):
        figure.savefig(path, format=suffix[1:], dpi=150, metadata=_METADATA[suffix])
