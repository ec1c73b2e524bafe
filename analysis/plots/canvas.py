"""Code that all figures share: making and saving a figure, colours and line styles, drawing a trial."""

from __future__ import annotations

import contextlib
import io
import itertools
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from analysis.statistics.lr_range import Floats
from analysis.store.loader import Study
from analysis.tables.summary import ended_runs
from resnet_core.paths import write_whole
from resnet_core.records import Outcome
from resnet_core.schedule import parse
from resnet_core.schema import best_metric

# Without the date, two files of the same figure are equal.
_METADATA: dict[str, dict[str, Any]] = {".png": {}, ".pdf": {"CreationDate": None}, ".svg": {"Date": None}}

# Okabe & Ito, Color Universal Design (2008), without the yellow, which is faint on white. 7 colours and 5 dashes have
# no common divisor, so there are 35 pairs before one repeats.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES: tuple[Any, ...] = ("-", "--", ":", "-.", (0, (6, 1, 1, 1, 1, 1)))
TRAINING: dict[str, Any] = {"color": "tab:red", "linestyle": "--"}
VALIDATION: dict[str, Any] = {"color": "tab:blue", "linestyle": "-"}
SCHEDULE: dict[str, Any] = {"color": "black", "linestyle": "-"}
STRONG: dict[str, Any] = {"linewidth": 1.8, "zorder": 3}
MOST_NAMED = 300
"""How many trials have curves with names on a page; a file with more curves of many points would be large."""

_FEW_POINTS = 30
_FAINT: dict[str, Any] = {"alpha": 0.35, "zorder": 2}
THIN: dict[str, Any] = {"linewidth": 0.7, **_FAINT}
HIGHEST_LOSS = 3.0
"""Where losses are cut off, in nats. Guessing among ten classes has a loss of 2.3."""

POINTS = 1001
"""Number of points of a schedule's line; a thin line has a fifth of them."""


def mark(artist: Artist, numbers: Sequence[int], texts: Sequence[str]) -> None:
    """Say which trial each shape of an artist stands for; a page names it and highlights it (`inline_svg`).

    Args:
        artist: a line or patch, which is one shape, or a collection.
        numbers: the trial's number of each shape.
        texts: the trial's name and values, of each shape.
    """
    artist._marks = list(zip(numbers, texts, strict=True))  # type: ignore[attr-defined]


def marks_of(artist: Artist) -> list[tuple[int, str]]:
    """Return number and text of the trial of each shape of an artist, as `mark` noted them; else none."""
    found: list[tuple[int, str]] = getattr(artist, "_marks", [])
    return found


def check_suffix(path: Path | str | None) -> None:
    """Raise ValueError for a path whose suffix is not a figure format. None is no error."""
    if path is not None and Path(path).suffix.lower() not in _METADATA:
        raise ValueError(f"{path}: cannot save a figure as this; expected one of {', '.join(_METADATA)}")


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure, in inches, that belongs to no window and to no global state."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def saved(figure: Figure, path: Path | str | None) -> Figure:
    """Write a figure in the format of the path's suffix (equal figures give equal bytes), and return it."""
    if path is not None:
        suffix = Path(path).suffix.lower()
        drawn = io.BytesIO()
        with mpl.rc_context({"svg.hashsalt": "curves"}), without_font_warnings():
            figure.savefig(drawn, format=suffix[1:], dpi=150, metadata=_METADATA[suffix])
        write_whole(Path(path), drawn.getvalue())
    return figure


@contextlib.contextmanager
def without_font_warnings() -> Iterator[None]:
    """Draw a character that the font lacks, such as an emoji, as a box without matplotlib's warning of it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def literal(text: str) -> str:
    """Return a text that matplotlib draws as it stands, in one line; between two dollars it would expect a formula.

    >>> literal("$x_1$")
    '\\\\$x_1\\\\$'
    """
    return " ".join(text.split()).replace("$", r"\$") or '""'


def tick_texts(ticks: Sequence[float]) -> list[str]:
    """Return the texts of an axis's ticks, each the whole number: with no more digits than tell them apart.

    Matplotlib's own texts may leave out a factor or an offset, which it writes elsewhere.

    >>> tick_texts([0.98761, 0.98762]), tick_texts([1e-5, 1.5e-5]), tick_texts([0.0, 0.25, 0.5])
    (['0.98761', '0.98762'], ['1e-05', '1.5e-05'], ['0', '0.25', '0.5'])
    """
    step = min((abs(b - a) for a, b in itertools.pairwise(ticks)), default=0.0)
    for digits in range(4, 17):
        texts = [f"{tick:.{digits}g}" for tick in ticks]
        if all(abs(float(text) - tick) <= step / 100 for text, tick in zip(texts, ticks, strict=True)):
            break
    return texts


def style(place: int) -> dict[str, Any]:
    """Return a colour and a line style: a different pair for each of 35 places."""
    return {"color": COLOURS[place % len(COLOURS)], "linestyle": DASHES[place % len(DASHES)]}


def whole_numbers(axis: Axis) -> None:
    """Put ticks at whole numbers only."""
    axis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def logarithmic(axis: Axis, lowest: float, highest: float) -> None:
    """Give a logarithmic axis of these values a few ticks that can be read: plain numbers at 1, 2, 5 or at decades."""
    decades = math.log10(highest / lowest)
    subs = (1.0, 2.0, 5.0) if decades < 1 else (1.0, 3.0) if decades < 2 else (1.0,)
    axis.set_major_locator(LogLocator(subs=subs, numticks=6))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def trials_to_draw(study: Study, numbers: Sequence[int] | None) -> pd.DataFrame:
    """Return trials by number: those with these numbers, or all that have not crashed.

    Raises:
        ValueError: the study has no such trial, or no trial at all.
    """
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


def runs_to_draw(study: Study) -> pd.DataFrame:
    """Return `analysis.tables.summary.ended_runs` of a study.

    Raises:
        ValueError: no trial has ended.
    """
    found = ended_runs(study)
    if found.empty:
        raise ValueError(f"study {study.name!r}: no trial has ended")
    return found


def line(axes: Axes, curve: pd.DataFrame, quantity: str, label: str | None, looks: dict[str, Any]) -> Line2D:
    """Draw a quantity of one trial over epochs, with gaps where it is not finite, and return its line."""
    finite = curve[quantity].where(np.isfinite(curve[quantity]))
    # A single epoch is a point, which a line alone would not show.
    marker = "o" if finite.notna().sum() == 1 else None
    (drawn,) = axes.plot(curve["epoch"], finite, label=label, marker=marker, markersize=4, **looks)
    return drawn


def thin_lines(axes: Axes, curves: Mapping[int, Floats], looks: dict[str, Any], texts: Mapping[int, str]) -> None:
    """Draw the lines of many trials at once, which is fast.

    Args:
        axes: axes to draw on.
        curves: by trial number, the points of its line; shape (points, 2). A line has a gap at a NaN.
        looks: colour and line style.
        texts: by trial number, what names it on a page; the others have no name there, and fewer points.
    """
    named = {number: curve for number, curve in curves.items() if number in texts}
    others = [thinned(curve) for number, curve in curves.items() if number not in texts]
    if others:
        gap = np.full((1, 2), np.nan)
        axes.plot(*np.concatenate([part for curve in others for part in (curve, gap)]).T, **(looks | THIN))
    drawn = LineCollection(list(named.values()), **(looks | THIN))
    mark(drawn, list(named), [texts[number] for number in named])
    axes.add_collection(drawn)
    axes.autoscale_view()
    single = [curve[np.isfinite(curve[:, 1])] for curve in curves.values()]
    single = [points for points in single if len(points) == 1]
    if single:  # a point, which a line alone would not show
        axes.plot(*np.concatenate(single).T, "o", color=looks["color"], markersize=4, **_FAINT)


def thinned(curve: Floats) -> Floats:
    """Return some 30 of a curve's points, the first and the last among them; shape (points, 2)."""
    places = np.linspace(0, len(curve) - 1, min(len(curve), _FEW_POINTS)).round().astype(int)
    few: Floats = curve[places]
    return few


def trial_texts(study: Study) -> dict[int, str]:
    """Return by number what names a trial on a page: its name and its result."""
    sought, found = study.objective, ended_runs(study)
    texts = {
        number: f"trial {name}: {'running' if pd.isna(outcome) else outcome}"
        for number, name, outcome in zip(*(study.trials[name] for name in ("number", "trial", "outcome")), strict=True)
    }
    names, best = (
        dict(zip(study.trials["number"], study.trials["trial"], strict=True)),
        found[best_metric(sought.metric)],
    )
    for number, time, value, run in zip(found.index, found["epochs_to_target"], best, found["epochs_run"], strict=True):
        texts[number] += f" after epoch {run:.0f}"
        if np.isfinite(time):
            texts[number] = f"trial {names[number]}: {sought.target_text} at epoch {time:.0f}"
        if np.isfinite(value):
            texts[number] += f", best {sought.shown(value)}"
    return texts


def has_schedule(trial: Mapping[Any, Any] | pd.Series[Any]) -> bool:
    """Return whether a trial has a learning-rate schedule; one of a trainer of one's own may have none."""
    return isinstance(trial.get("schedule"), str)


def learning_rates(
    trial: Mapping[Any, Any] | pd.Series[Any], curve: pd.DataFrame, points: int = POINTS
) -> tuple[Floats, Floats]:
    """Return epochs and learning rates up to the run's horizon, each of shape (points,); none without a schedule."""
    if not has_schedule(trial):
        return np.empty(0), np.empty(0)
    schedule = parse(trial["schedule"])
    horizon = trial.get("horizon")
    end = schedule.last_epoch if horizon is None or pd.isna(horizon) else float(horizon)
    end = max(end, 1.0, float(curve["epoch"].to_numpy().max()) if len(curve) else 0.0)
    epochs = np.linspace(0, end, points)
    return epochs, np.array([schedule.value(epoch) for epoch in epochs])


def scale_rates(axes: Axes, values: Floats) -> None:
    """Make the axis of a schedule's values logarithmic if they span more than two decades and are never 0."""
    if len(values) and values.min() > 0 and values.max() > 100 * values.min():
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
