"""The page of a study that runs: what runs now, what was stopped and why, the curves so far, and the table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from analysis.plots.curves import plot_curves
from analysis.report.document import BestNetwork, Reproduction, report_sections
from analysis.report.page import Block, Section, figure_block, render_page
from analysis.store.loader import Study
from analysis.tables.rendering import render
from resnet_core import schema
from resnet_core.records import Outcome

_ENDED = 10  # trials in the table of those that ended last
_WIDTH, _HEIGHT = 160, 32  # of a running trial's curve, in CSS pixels


@dataclass(frozen=True)
class Standing:
    """How a study stands.

    Attributes:
        said: whether it runs, in a sentence.
        facts: what else is to be said, each with what it is about.
        waiting: numbers of the trials that have begun, and that nobody runs now.
        ended: whether nothing more is to come.
        troubles: sentences on what cannot be read now.
    """

    said: str
    facts: tuple[tuple[str, str], ...] = ()
    waiting: frozenset[int] = frozenset()
    ended: bool = False
    troubles: tuple[str, ...] = ()


def build_live(
    name: str,
    study: Study | None,
    standing: Standing,
    version: str,
    repeat: Reproduction | None = None,
    published: pd.DataFrame | None = None,
    network: BestNetwork | None = None,
) -> str:
    """Return the page of a study as HTML that asks its server for the next version, and takes it over piece by piece.

    Once the study has ended, it is the study's report, which asks for nothing.

    Args:
        name: the study's name.
        study: what `load` returned; None while the store holds nothing of it.
        standing: how the study stands.
        version: the version of the page: what it sends in the header If-None-Match.
        repeat: see `analysis.report.document.build_report`; for the report at the end.
        published: likewise.
        network: likewise.
    """
    sections = [Section("standing", "Now", _standing(standing))]
    if study is not None and standing.ended:
        sections += report_sections(study, repeat, published, network=network)
    elif study is not None:
        sections += [
            Section("running", "Running now", [_running(study, standing)]),
            Section("ended", "Ended last, and why", [_ended(study)]),
            Section("curves", "All trials", [_curves(study)]),
            *report_sections(study, keys=("results",)),
        ]
    live = "" if standing.ended and not standing.troubles else version
    question = "" if study is None else study.description
    return render_page(name, question, sections, study=study, live=live)


def _standing(standing: Standing) -> list[Block]:
    said = standing.said
    if standing.ended:
        said += " Below is its report. This page is not renewed any more: should the study go on, load it again."
    troubles = [Block("missing", f"{trouble} It is tried again.") for trouble in standing.troubles]
    return [Block("text", said), *troubles, Block("facts", standing.facts)]


def _running(study: Study, standing: Standing) -> Block:
    open_ = study.trials[study.trials["outcome"].isna()]
    open_ = open_[~open_["number"].isin(standing.waiting)]
    if open_.empty:
        return Block("missing", "No trial runs now.")
    epochs = study.epochs[study.epochs["number"].isin(open_["number"])]
    curves = {number: curve.sort_values("epoch") for number, curve in epochs.groupby("number")}
    sought = study.objective
    rows = list[Markup]()
    for _, trial in open_.iterrows():
        curve = curves.get(trial["number"], study.epochs.iloc[:0])
        horizon = trial.get(schema.HORIZON, np.nan)
        values = curve[sought.metric].to_numpy(np.float64)
        cells = [
            (study.nodes.get(trial["number"], ""), "text"),
            (f"{len(curve)}" + ("" if pd.isna(horizon) else f" of {int(horizon)}"), "number"),
            ("-" if not len(values) else sought.shown(values[-1]), "number"),
            (spark_line(values, horizon, sought.target), "text"),
            (_settings(trial), "text"),
        ]
        row = Markup('<th scope="row" class="text">{}</th>').format(trial["trial"])
        row += Markup().join(Markup('<td class="{1}">{0}</td>').format(*cell) for cell in cells)
        rows.append(Markup('<tr data-trial="{}">{}</tr>').format(trial["number"], row))
    names = ("trial", "node", "epoch", sought.metric, "curve", "parameters")
    classes = ("text", "text", "number", "number", "text", "text")
    head = Markup().join(
        Markup('<th scope="col" class="{}">{}</th>').format(kind, name)
        for name, kind in zip(names, classes, strict=True)
    )
    return Block(
        "table",
        Markup("<table>\n<thead><tr>{}</tr></thead>\n<tbody>\n{}\n</tbody>\n</table>").format(
            head, Markup("\n").join(rows)
        ),
    )


def spark_line(values: Sequence[float] | np.ndarray[Any, Any], horizon: float, target: float | None) -> Markup:
    """Return the curve of a trial as a small SVG: its values over the epochs of its schedule, dashed its target.

    Args:
        values: the metric in epochs 1, 2, …; shape (epochs,). What is not finite is left out.
        horizon: epochs of its schedule; NaN where they are not known.
        target: value of the metric to reach; None if there is none.
    """
    values = np.asarray(values, np.float64)
    shown = np.isfinite(values)
    seen = [*values[shown], *([] if target is None else [target])]
    if not shown.any():
        return Markup()
    low, high = min(seen), max(seen)
    last = max(len(values), 2 if np.isnan(horizon) else int(horizon), 2)

    def at(epoch: float, value: float) -> str:
        share = 0.5 if high == low else (value - low) / (high - low)
        return f"{(epoch - 1) / (last - 1) * (_WIDTH - 6) + 3:.4g},{(1 - share) * (_HEIGHT - 6) + 3:.4g}"

    points = [at(epoch, value) for epoch, value in enumerate(values, 1) if np.isfinite(value)]
    aim = Markup()
    if target is not None:
        (x, y), (end, _) = (at(epoch, target).split(",") for epoch in (1, last))
        aim = Markup('<path class="aim" d="M{},{}H{}"/>').format(x, y, end)
    x, y = points[-1].split(",")
    return Markup(
        '<svg class="spark" viewBox="0 0 {} {}" aria-hidden="true">{}<polyline points="{}"/>'
        '<circle cx="{}" cy="{}" r="2.5"/></svg>'
    ).format(_WIDTH, _HEIGHT, aim, " ".join(points), x, y)


def _settings(trial: pd.Series[Any]) -> str:
    """Return what was sampled for a trial, or its schedule, as text."""
    sampled = {
        str(name).removeprefix(schema.SAMPLED): trial[name]
        for name in trial.index
        if str(name).startswith(schema.SAMPLED) and pd.notna(trial[name])
    }
    if not sampled:
        return str(trial.get("schedule", "") or "")
    return ", ".join(
        f"{name} {f'{value:.4g}' if isinstance(value, float) else value}" for name, value in sampled.items()
    )


def _curves(study: Study) -> Block:
    try:
        figure = plot_curves(study, metric_only=True)
    except ValueError as error:
        return Block("missing", f"Left out: {error}.")
    return figure_block(figure, "curves-figure", f"All trials over epochs: {study.objective.label}; the best strong.")


def _ended(study: Study) -> Block:
    """Return the trials that ended last, with the reason where one was stopped."""
    trials = study.trials[study.trials["outcome"].notna()]
    if trials.empty:
        return Block("missing", "No trial has ended yet.")
    trials = trials.sort_values("end_time", ascending=False, na_position="last").head(_ENDED)
    sought = study.objective
    curves = dict(iter(study.epochs[study.epochs["number"].isin(trials["number"])].groupby("number")))
    rows = []
    for _, trial in trials.iterrows():
        number = trial["number"]
        values = [] if number not in curves else curves[number].sort_values("epoch")[sought.metric].tolist()
        finite, crossing = [value for value in values if np.isfinite(value)], sought.first_crossing(values)
        best = sought.shown((max if sought.goal == "max" else min)(finite)) if finite else "-"
        why = trial["stop_reason"] or ""
        if not why and trial["outcome"] == Outcome.REACHED and crossing is not None:
            why = f"reached {sought.target_text} at epoch {crossing}"
        found = {"trial": trial["trial"], "outcome": trial["outcome"], "epochs": str(len(values))}
        rows.append({**found, f"{sought.metric}_best": best, "why": why})
    index = pd.Index(trials["number"], name="number")
    return Block("table", render(pd.DataFrame(rows, index, dtype="object"), "html"))
