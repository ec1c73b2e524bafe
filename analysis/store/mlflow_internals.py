"""The parts of MLflow that are used here though MLflow may change them, each with its reason.

MLflow's client needs minutes for a million metric points, and seconds to be imported. So databases are read by SQL from
MLflow's tables, which takes about a second, and a server is asked on the route that MLflow's own pages use. When a new
version of MLflow changes one of these, tests/unit/test_ray_and_mlflow_internals.py fails.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resnet_core import schema
from resnet_core.server_errors import server_reason

TABLES = {
    "experiments": ("experiment_id", "name", "lifecycle_stage"),
    "experiment_tags": ("experiment_id", "key", "value"),
    "runs": ("run_uuid", "experiment_id", "name", "status", "start_time", "end_time", "lifecycle_stage"),
    "tags": ("run_uuid", "key", "value"),
    "params": ("run_uuid", "key", "value"),
    "latest_metrics": ("run_uuid", "key"),
    "metrics": ("run_uuid", "key", "value", "timestamp", "step", "is_nan"),
}
"""The tables and columns that are read. `lifecycle_stage` is ``active`` unless the row was deleted."""

_STUDIES = f"""(
        SELECT x.experiment_id, x.lifecycle_stage, coalesce(s.value, x.name) AS study
        FROM experiments x LEFT JOIN experiment_tags s ON s.experiment_id = x.experiment_id AND s.key = '{schema.STUDY}'
    )"""
"""The experiments with the names of their studies: people may have renamed the experiments."""

RUNS = f"""
    SELECT r.run_uuid, e.study, r.name, r.status, r.start_time, r.end_time
    FROM runs r JOIN {_STUDIES} e USING (experiment_id)
    WHERE r.lifecycle_stage {{stage}} 'active' AND e.lifecycle_stage = 'active'
        AND e.study = coalesce({{study}}, e.study)
"""
"""Query: the runs of a study, or of all studies if it is null. ``{study}`` is the driver's placeholder, ``{stage}``
is ``=`` for active runs and ``!=`` for deleted ones."""

TAGS = f"""
    SELECT t.run_uuid, t.key, t.value
    FROM tags t JOIN runs r USING (run_uuid) JOIN {_STUDIES} e USING (experiment_id)
    WHERE t.key IN ({{keys}}) AND r.lifecycle_stage {{stage}} 'active' AND e.study = coalesce({{study}}, e.study)
"""
"""Query: the tags of these runs; ``{keys}`` is replaced by the names, as SQL literals."""

PARAMS = f"""
    SELECT p.run_uuid, p.key, p.value
    FROM params p JOIN runs r USING (run_uuid) JOIN {_STUDIES} e USING (experiment_id)
    WHERE e.study = {{study}} AND r.lifecycle_stage = 'active'
"""
"""Query: the parameters of a study's active runs."""

DELETED = f"""
    SELECT 1
    FROM runs r JOIN {_STUDIES} e USING (experiment_id) JOIN tags t USING (run_uuid)
    WHERE t.key = '{schema.KIND}' AND t.value = '{schema.LAUNCH}' AND e.study = {{study}}
        AND (r.lifecycle_stage != 'active' OR e.lifecycle_stage != 'active')
    LIMIT 1
"""
"""Query: a row if a launch of a study was deleted, or the study's experiment."""

METRIC_NAMES = f"""
    SELECT DISTINCT m.key
    FROM latest_metrics m JOIN runs r USING (run_uuid) JOIN {_STUDIES} e USING (experiment_id)
    WHERE e.study = {{study}} AND r.lifecycle_stage = 'active'
"""
"""Query: the names of all metrics that a study's active runs logged. `latest_metrics` has one row a run and name."""

MOST_RUNS, MOST_POINTS = 100, 25_000
"""The largest number of runs that the route below takes at a time, and of points that it returns."""

_HISTORY = "/ajax-api/2.0/mlflow/metrics/get-history-bulk"
_LARGEST = np.finfo(np.float64).max


def missing_tables(found: Iterable[str]) -> str:
    """Return which of TABLES a database lacks, as text; empty if it has all."""
    return ", ".join(sorted(TABLES.keys() - set(found)))


def with_infinities(value: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return metric values with their infinities, which MLflow writes as the largest float with the same sign."""
    return np.where(np.abs(value) == _LARGEST, np.copysign(np.inf, value), value)


def metric_history(uri: str, runs: Sequence[str], metric: str) -> list[dict[str, Any]]:
    """Return the points of a metric from an MLflow server: ``run_id``, ``step``, ``value``, in order of time.

    The public API needs a request for each run. This route takes MOST_RUNS runs, and silently drops points beyond
    MOST_POINTS.

    Raises:
        MlflowException: the server does not answer, or refuses the request.
    """
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request, verify_rest_response

    host = get_default_host_creds(uri)  # type: ignore[no-untyped-call]
    asked = {"run_id": list(runs), "metric_key": metric}
    answer = http_request(host, _HISTORY, "GET", params=asked)  # type: ignore[no-untyped-call]
    points: list[dict[str, Any]] = verify_rest_response(answer, _HISTORY).json()["metrics"]
    return points


def reason_of(error: Exception) -> str:
    """Return why a server could not be read, in one line."""
    said = str(error).strip()
    return server_reason(said) or f"cannot be read: {(said or type(error).__name__).splitlines()[0]}"
