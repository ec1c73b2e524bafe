"""The view of a study in MLflow's UI: its trials, the best first, with the columns in which they differ."""

from __future__ import annotations

import base64
import json
import zlib

from analysis.tables.columns import RESULTS, SETTINGS, Column, column_named, setting, with_settings
from resnet_core import schema
from resnet_core.objective import Objective
from search_spaces.spec import StudySpec
from sweeps.tracking.mlflow_internals import SHARED_VIEW

NAME = "epochs-to-target"
"""The view's name: the UI's menu Views lists it, and an address opens it with viewStateShareKey=NAME."""

TAG = f"{SHARED_VIEW}{NAME}"
"""The tag of the experiment that holds the view."""

_FIRST, _REST = "first", "metrics"  # any ids
_LEAST = column_named("epochs_to_target_sustained").importance
_OF_THE_SCHEDULE = (schema.LR_ALPHA, "schedule")


def view(spec: StudySpec, now: int) -> str:
    """Return the value of TAG, in the format in which the UI stores saved views.

    Args:
        spec: the study.
        now: milliseconds since 1970.
    """
    vary = _settings(spec)
    same = {column.name for column in SETTINGS} - {column.name for column in vary} - set(_OF_THE_SCHEDULE)
    sought, best = spec.objective, spec.objective.target is None
    known = {column.name for column in RESULTS}
    columns = [
        column
        for column in with_settings([column for column in vary if column.name not in known], sought)
        if column.importance > _LEAST and column.name not in same
    ]
    state = {
        "searchFilter": f"tags.`{schema.KIND}` = '{schema.TRIAL}'",
        "orderByKey": _quoted("metrics." + (schema.best_metric(sought.metric) if best else "epochs_to_target")),
        "orderByAsc": not best or sought.goal == "min",
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": [_quoted(column.mlflow) for column in columns if column.mlflow],
        "runsHiddenMode": "FIRST_10_RUNS",
        # The curves that count first; MLflow adds a chart for each other metric.
        "compareRunCharts": [_curves(sought.metric), *([] if best else [_chart("BAR", "epochs_to_target")])],
        "compareRunSections": [
            {
                "uuid": _FIRST,
                "name": _aim(sought),
                "display": True,
                "isReordered": True,
                "columns": 2,
                "cardHeight": 480,
            },
            {"uuid": _REST, "name": "Model metrics", "display": True, "isReordered": True},
        ],
        "globalLineChartConfig": {"xAxisKey": "step", "lineSmoothness": 0, "selectedXAxisMetricKey": ""},
    }
    packed = base64.b64encode(zlib.compress(json.dumps(state).encode())).decode()
    name = "Best values" if best else "Epochs to target"
    return json.dumps({"name": name, "createdAt": now, "updatedAt": now, "state": f"deflate;{packed}"})


def _settings(spec: StudySpec) -> list[Column]:
    """Return the settings that are sampled or differ between runs."""
    changes = [run.changes for run in spec.listed]
    differing = dict.fromkeys(name for run in changes for name in run)
    names = [name for name in differing if len({repr(run.get(name, spec.train.get(name))) for run in changes}) > 1]
    return [*(setting(name, schema.SAMPLED + name) for name in spec.space), *map(setting, names)]


def _aim(sought: Objective) -> str:
    """Return the heading of the first charts.

    It names the target: no chart of the UI has a line at a value, since shapes and expressions are switched off in it,
    and no title of its own.
    """
    return sought.metric if sought.target is None else f"Target: {sought.metric} {sought.target:g}"


def _curves(metric: str) -> dict[str, object]:
    """Return the UI's configuration of a chart: a metric over the epochs, a line a trial."""
    axes = {"xAxisKey": "step", "xAxisScaleType": "linear", "scaleType": "linear", "selectedXAxisMetricKey": ""}
    return {**axes, **_chart("LINE", metric), "selectedMetricKeys": [metric], "lineSmoothness": 0}


def _chart(kind: str, metric: str) -> dict[str, object]:
    return {
        "type": kind,
        "uuid": metric,
        "metricKey": metric,
        "metricSectionId": _FIRST,
        "runsCountToCompare": 10,
        "deleted": False,
        "isGenerated": False,
    }


def _quoted(field: str) -> str:
    """Return a run's field in the UI's notation, with its name in backquotes."""
    kind, _, name = field.partition(".")
    return f"{kind}.`{name}`"
