"""A study over time: when each trial ran, how it ended, and the epochs that were spent and saved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure

from analysis.plots.canvas import COLOURS, check_suffix, mark, new_figure, saved, trial_texts, whole_numbers
from analysis.store.loader import Study
from resnet_core.records import Outcome

_COLOURS: dict[Any, str] = {
    Outcome.REACHED: COLOURS[0],
    Outcome.EXHAUSTED: COLOURS[1],
    Outcome.PRUNED: "0.45",
    Outcome.DIVERGED: COLOURS[3],
    Outcome.CRASHED: COLOURS[6],
    None: COLOURS[5],
}
_UNITS = ((3600.0, "hours"), (60.0, "minutes"), (1.0, "seconds"))


def plot_timeline(study: Study, path: Path | str | None = None) -> Figure:
    """Draw each trial as a bar from its start to its end, and below how many epochs were spent and saved by then.

    Trials are from top to bottom in the order of their numbers; a bar's colour says how its trial ended. One that runs
    ends where the last that is known happened. Saved are the epochs that a trial's schedule had left when a rule
    stopped it; trials that diverged would have ended anyway, so they saved none.

    Args:
        study: what `load` returned.
        path: where to save the figure, as .png, .pdf or .svg; None saves no file.

    Returns:
        The figure, with two axes from top to bottom. It belongs to no window and to no global state.

    Raises:
        ValueError: the path has another suffix, or the store does not say when a trial started.
    """
    check_suffix(path)
    trials = study.trials.set_index("number").sort_index()
    if study.imported or "start_time" not in trials or not trials["start_time"].notna().any():
        raise ValueError(f"study {study.name!r}: the store does not say when its trials ran")
    trials = trials[trials["start_time"].notna()]
    first = trials["start_time"].min()
    start, end = (
        (pd.to_datetime(trials[name], utc=True) - first).dt.total_seconds() for name in ("start_time", "end_time")
    )
    until = max(float(end.max()) if end.notna().any() else 0.0, float(start.max()))
    end = end.fillna(until)
    scale, unit = next((scale, unit) for scale, unit in _UNITS if until >= 2 * scale or scale == 1)
    run = study.epochs.groupby("number")["epoch"].max().reindex(trials.index).fillna(0)
    horizon = pd.to_numeric(trials["horizon"], errors="coerce") if "horizon" in trials else run
    left = (horizon - run).where(trials["outcome"] == Outcome.PRUNED, 0).clip(lower=0).fillna(0)
    texts = trial_texts(study)

    figure = new_figure(8, 6.5)
    bars, totals = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1.2))
    outcomes = trials["outcome"].where(trials["outcome"].notna(), None)
    place = pd.Series(range(len(trials)), index=trials.index)
    for outcome, colour in _COLOURS.items():
        chosen = outcomes.isna() if outcome is None else outcomes == outcome
        if not chosen.any():
            continue
        # A bar of a moment is seen, too.
        corners = [
            [(a, y - 0.4), (max(b, a + until / 400), y - 0.4), (max(b, a + until / 400), y + 0.4), (a, y + 0.4)]
            for a, b, y in zip(start[chosen] / scale, end[chosen] / scale, place[chosen], strict=True)
        ]
        words = f"{int(chosen.sum())} {'running' if outcome is None else outcome}"
        drawn = PolyCollection(corners, facecolors=colour, linewidths=0, label=words)
        numbers = [int(number) for number in trials.index[chosen]]
        saved_by = {n: f"; {left[n]:g} epochs saved" if left[n] else "" for n in numbers}
        mark(drawn, numbers, [f"{texts[n]}{saved_by[n]}" for n in numbers])
        bars.add_collection(drawn)
    bars.set_ylim(len(trials) - 0.4, -0.6)
    bars.set_ylabel("trial, by number")
    whole_numbers(bars.yaxis)
    ended = trials["end_time"].notna()
    order = end[ended].sort_values(kind="stable").index
    at = np.concatenate(([0.0], end[order].to_numpy() / scale))
    spent, kept = (np.concatenate(([0.0], values[order].cumsum().to_numpy())) for values in (run, left))
    totals.step(at, spent, where="post", color=COLOURS[0], linewidth=1.6, label=f"spent: {spent[-1]:g}")
    if kept[-1]:
        totals.step(
            at, spent + kept, where="post", color="0.45", linestyle="--", linewidth=1.4,
            label=f"had none been stopped: {spent[-1] + kept[-1]:g}",
        )  # fmt: skip
    totals.set_ylabel("epochs")
    totals.set_ylim(bottom=0)
    totals.set_xlim(0, max(until / scale * 1.01, 1e-9))
    totals.set_xlabel(f"{unit} since the first trial started")
    totals.legend(loc="upper left", fontsize="small")
    for axes in (bars, totals):
        axes.grid(alpha=0.3)
        axes.set_axisbelow(True)
    figure.legend(*bars.get_legend_handles_labels(), loc="outside upper center", ncols=6, fontsize="small")
    return saved(figure, path)
