"""Published figures: the results of the runs that the published studies repeat.

Each figure is in a CSV file beside the study file in ``published/``. docs/recipes.md describes the columns.
"""

from __future__ import annotations

import csv
import math
from dataclasses import asdict, dataclass
from importlib import resources
from typing import Any

from resnet_core.config import TrialConfig
from search_spaces.space import listed_runs, trial_config
from search_spaces.spec import StudySpec
from search_spaces.study import find_study, load_study, shipped_studies

QUANTITIES = ("epochs_to_target", "transition", "val_acc_best", "val_acc_final")
"""First epoch at the target; first epoch from which the target holds; highest val_acc; val_acc of the last epoch."""

_TRANSITIONS = {
    "epochs_to_091": 0.91,
    "epochs_to_092": 0.92,
    "epochs_to_0925": 0.925,
    "epochs_to_0927": 0.927,
    "epochs_to_0928": 0.928,
    "epochs_to_093": 0.93,
}


@dataclass(frozen=True)
class PublishedFigure:
    """One published figure.

    Attributes:
        run: name of the listed run that repeats the published run.
        quantity: one of QUANTITIES.
        low: the figure, or the lower end of its interval; for a run that did not reach its target, its last epoch.
        high: the figure, or the upper end of its interval; math.inf for a run that did not reach its target.
        target: validation accuracy to reach, for the first two quantities; else None.
        note: a remark in the source.
    """

    run: str
    quantity: str
    low: float
    high: float
    target: float | None = None
    note: str = ""


@dataclass(frozen=True)
class PublishedStudy:
    """A published study with its figures.

    Attributes:
        study: name of the study.
        configs: the TrialConfig of each run, by the run's name.
        figures: the published figures of its runs.
    """

    study: str
    configs: dict[str, TrialConfig]
    figures: tuple[PublishedFigure, ...]


def published_studies() -> list[PublishedStudy]:
    """Return all shipped studies with published figures."""
    found = []
    for name in shipped_studies():
        folder, _, stem = name.rpartition("/")
        if folder != "published":
            continue
        spec = load_study(find_study(name))
        rows = _rows(f"{stem}.csv")
        if rows:
            found.append(PublishedStudy(spec.name, _configs(spec), tuple(_figures(stem, rows))))
    return found


def published_rows(study: str) -> list[dict[str, Any]]:
    """Return the published figures to compare a study with, as plain rows.

    Returns:
        The figures of the published study with this name, else of all published studies. One row per figure, in the
        source's order: the fields of `PublishedFigure`, ``study`` (name of the published study) and ``config`` (the
        run's `TrialConfig.to_dict`).
    """
    every = published_studies()
    chosen = [source for source in every if source.study == study] or every
    return [
        {"study": source.study, "config": source.configs[figure.run].to_dict(), **asdict(figure)}
        for source in chosen
        for figure in source.figures
    ]


def _configs(spec: StudySpec) -> dict[str, TrialConfig]:
    configs = {run.name: trial_config(spec, {}, seed=run.seed, run=run.name) for run in listed_runs(spec)}
    return {name: config for name, config in configs.items() if isinstance(config, TrialConfig)}


def _rows(file: str) -> list[dict[str, str]]:
    path = resources.files("search_spaces.published") / file
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines())) if path.is_file() else []


def _figures(stem: str, rows: list[dict[str, str]]) -> list[PublishedFigure]:
    if stem == "post5":
        return [figure for row in rows for figure in _post5(row)]
    if stem == "post1_batch_sizes":
        return [figure for row in rows for figure in _post1(row)]
    return [_figure(row) for row in rows]


def _post5(row: dict[str, str]) -> list[PublishedFigure]:
    name, best = f"run{int(row['run']):02d}", float(row["val_acc_best"])
    reached = row["epochs_to_092"]
    # The horizon of a run in post V is always that of its schedule.
    low, high = (float(reached),) * 2 if reached else (float(_last_epoch(row["schedule"])), math.inf)
    return [
        PublishedFigure(name, "epochs_to_target", low, high, 0.92, row["note"]),
        PublishedFigure(name, "val_acc_best", best, best, None, row["note"]),
    ]


def _last_epoch(schedule: str) -> int:
    return TrialConfig(schedule).horizon


def _post1(row: dict[str, str]) -> list[PublishedFigure]:
    name, best = f"bs{row['batch_size']}", float(row["val_acc_best"])
    figures = []
    for column, level in _TRANSITIONS.items():
        text = row[column]
        if text:
            low = float(text.removeprefix(">"))
            figures.append(
                PublishedFigure(name, "transition", low, math.inf if text.startswith(">") else low, level, _AVERAGE)
            )
    return [*figures, PublishedFigure(name, "val_acc_best", best, best, None, "best of several runs")]


_AVERAGE = "average over several runs, read by eye"


def _figure(row: dict[str, Any]) -> PublishedFigure:
    target = float(row["target"]) if row["target"] else None
    return PublishedFigure(row["run"], row["quantity"], float(row["low"]), float(row["high"]), target, row["note"])
