"""MLflow's store behind a server, read through MLflow's API.

A server has no transactions: the last epochs of a running study may be incomplete.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.store import mlflow_internals
from analysis.store.reader import TAGS, Backend, Points, Run, StoreError
from resnet_core import schema
from resnet_core.uris import server_uri, without_password

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run as MlflowRun

_PAGE = 1000
_REQUESTS = 4  # in parallel: MLflow's server has four workers by default


@contextmanager
def open_server(uri: str) -> Iterator[ServerReader]:
    """Yield a reader of an MLflow server. MLflow takes user and password from MLFLOW_TRACKING_USERNAME and _PASSWORD.

    Raises:
        StoreError: there is no answer, the answer is not from an MLflow server, or the server refuses the user. No
            message shows a password.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    # A server that is down is noticed in seconds, not minutes.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    # It would warn of each try; the error says why the last one failed.
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    try:
        uri = server_uri(uri)
    except ValueError as error:
        raise StoreError(f"{without_password(uri)}: {error}") from None
    try:
        yield ServerReader(MlflowClient(uri), uri)
    except MlflowException as error:
        raise StoreError(f"{without_password(uri)}: {mlflow_internals.reason_of(error)}") from None


class ServerReader:
    """Reads from an MLflow server."""

    def __init__(self, client: MlflowClient, uri: str) -> None:
        self._client, self._uri = client, uri
        # By study, and whether they are deleted. One search returns tags and parameters; for thousands of runs it takes
        # seconds.
        self._found: dict[tuple[str | None, bool], list[tuple[str, MlflowRun]]] = {}

    def runs(self, study: str | None = None, *, deleted: bool = False) -> list[Run]:
        """See Reader."""
        return [
            Run(
                id=run.info.run_id,
                experiment=name,
                name=run.info.run_name,
                status=run.info.status,
                start_time=run.info.start_time,
                end_time=run.info.end_time,
                tags={key: run.data.tags[key] for key in TAGS if key in run.data.tags},
            )
            for name, run in self._search(study, deleted=deleted)
        ]

    def params(self, study: str) -> dict[str, dict[str, str]]:
        """See Reader."""
        return {run.info.run_id: run.data.params for _, run in self._search(study)}

    def is_deleted(self, study: str) -> bool:
        """See Reader."""
        from mlflow.entities import ViewType

        found = self._client.search_experiments(ViewType.ALL, filter_string=f"tags.`{schema.STUDY}` = '{study}'")
        launches = f"tags.`{schema.KIND}` = '{schema.LAUNCH}'"
        return any(
            self._client.search_runs([experiment.experiment_id], launches, ViewType.DELETED_ONLY, max_results=1)
            for experiment in found
        )

    def metric_names(self, study: str) -> set[str]:
        """See Reader."""
        return {name for _, run in self._search(study) for name in run.data.metrics}

    def points(self, runs: Sequence[str], metric: str) -> Points:
        """See Reader."""
        place = {run: i for i, run in enumerate(runs)}
        parts = [
            runs[first : first + mlflow_internals.MOST_RUNS]
            for first in range(0, len(runs), mlflow_internals.MOST_RUNS)
        ]
        with ThreadPoolExecutor(_REQUESTS) as threads:
            histories = threads.map(lambda part: self._history(part, metric), parts)
        rows = [(place[point["run_id"]], point["step"], point["value"]) for history in histories for point in history]
        run, epoch, value = np.array(rows, np.float64).reshape(-1, 3).T
        return Points(run.astype(np.int64), epoch.astype(np.int64), mlflow_internals.with_infinities(value))

    def _experiments(self, study: str | None) -> dict[str, str]:
        """Return the names of the studies in the active experiments, by the experiment's id.

        People may have renamed the experiments.
        """
        if study is not None:
            marked = list(self._client.search_experiments(filter_string=f"tags.`{schema.STUDY}` = '{study}'"))
            if not marked:
                found = self._client.get_experiment_by_name(study)
                marked = (
                    [found] if found and found.lifecycle_stage == "active" and schema.STUDY not in found.tags else []
                )
            return {found.experiment_id: study for found in marked}
        names: dict[str, str] = {}
        token = None
        while True:
            page = self._client.search_experiments(max_results=_PAGE, page_token=token)
            names |= {found.experiment_id: found.tags.get(schema.STUDY, found.name) for found in page}
            token = page.token
            if not token:
                return names

    def _search(self, study: str | None, *, deleted: bool = False) -> list[tuple[str, MlflowRun]]:
        """Return the active or the deleted runs, each with the name of its study."""
        if (study, deleted) not in self._found:
            names = self._experiments(study)
            found = self._runs_in(list(names), deleted=deleted)
            self._found[study, deleted] = [(names[run.info.experiment_id], run) for run in found]
        return self._found[study, deleted]

    def _runs_in(self, experiments: list[str], *, deleted: bool) -> Iterator[MlflowRun]:
        from mlflow.entities import ViewType

        view, token = ViewType.DELETED_ONLY if deleted else ViewType.ACTIVE_ONLY, None
        while experiments:
            page = self._client.search_runs(experiments, "", view, max_results=_PAGE, page_token=token)
            yield from page
            token = page.token
            if not token:
                return

    def _history(self, runs: Sequence[str], metric: str) -> list[dict[str, Any]]:
        """Return the points of a metric, each run's in order of time. A request for too many points is halved."""
        from mlflow.exceptions import MlflowException

        points = mlflow_internals.metric_history(self._uri, runs, metric)
        if len(points) < mlflow_internals.MOST_POINTS:
            return points
        if len(runs) == 1:
            raise MlflowException(f"run {runs[0]} has more than {mlflow_internals.MOST_POINTS:,} values of {metric}")
        half = len(runs) // 2
        return self._history(runs[:half], metric) + self._history(runs[half:], metric)


BACKEND = Backend(("http://", "https://"), ("http://HOST:PORT", "https://…"), open_server)
