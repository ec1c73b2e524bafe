"""MLflow's store behind a server, through MLflow's API. The only module of this package that imports mlflow.

A server has no transactions to offer: of a study that is running, the last epochs may be there in part.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.store.reader import TAGS, Points, Run, StoreError, unbounded
from resnet_core.uris import without_password

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run as MlflowRun

# The route that MLflow's own UI draws its curves from: what it takes and gives at most.
_HISTORY = "/ajax-api/2.0/mlflow/metrics/get-history-bulk"
_MOST_RUNS, _MOST_POINTS = 100, 25_000
_PAGE = 1000
_AT_ONCE = 4  # requests: as many as MLflow's server has workers, unless told otherwise


@contextmanager
def open_server(uri: str) -> Iterator[ServerReader]:
    """Give a reader of an MLflow server; user and password are MLflow's, from MLFLOW_TRACKING_USERNAME and so on.

    Raises:
        StoreError: nothing answers, what answers is no MLflow server, or it refuses the user. No message shows a
            password.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    # A server that is down is noticed soon; without this it takes minutes.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    try:
        yield ServerReader(MlflowClient(uri), uri)
    except MlflowException as error:
        raise StoreError(f"{without_password(uri)}: {_reason(error)}") from None


class ServerReader:
    """See analysis.store.reader.Reader."""

    def __init__(self, client: MlflowClient, uri: str) -> None:
        self._client, self._uri = client, uri
        # By study. One search brings tags and parameters, and of thousands of runs takes a server seconds.
        self._found: dict[str | None, list[tuple[str, MlflowRun]]] = {}

    def runs(self, study: str | None = None) -> list[Run]:
        """Return the living runs of a study, or of all."""
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
            for name, run in self._search(study)
        ]

    def params(self, study: str) -> dict[str, dict[str, str]]:
        """Return the parameters of a study's living runs, by run."""
        return {run.info.run_id: run.data.params for _, run in self._search(study)}

    def points(self, runs: Sequence[str], metric: str) -> Points:
        """Return what these runs logged under a metric."""
        place = {run: i for i, run in enumerate(runs)}
        parts = [runs[first : first + _MOST_RUNS] for first in range(0, len(runs), _MOST_RUNS)]
        with ThreadPoolExecutor(_AT_ONCE) as threads:
            histories = threads.map(lambda part: self._history(part, metric), parts)
        rows = [(place[point["run_id"]], point["step"], point["value"]) for history in histories for point in history]
        run, epoch, value = np.array(rows, np.float64).reshape(-1, 3).T
        return Points(run.astype(np.int64), epoch.astype(np.int64), unbounded(value))

    def _experiments(self, study: str | None) -> dict[str, str]:
        """Names of living experiments by id."""
        if study is not None:
            found = self._client.get_experiment_by_name(study)
            return {found.experiment_id: study} if found and found.lifecycle_stage == "active" else {}
        names: dict[str, str] = {}
        token = None
        while True:
            page = self._client.search_experiments(max_results=_PAGE, page_token=token)
            names |= {found.experiment_id: found.name for found in page}
            token = page.token
            if not token:
                return names

    def _search(self, study: str | None) -> list[tuple[str, MlflowRun]]:
        """Return the living runs, each with its experiment's name."""
        if study not in self._found:
            names = self._experiments(study)
            self._found[study] = [(names[run.info.experiment_id], run) for run in self._runs_in(list(names))]
        return self._found[study]

    def _runs_in(self, experiments: list[str]) -> Iterator[MlflowRun]:
        token = None
        while experiments:
            page = self._client.search_runs(experiments, "", max_results=_PAGE, page_token=token)
            yield from page
            token = page.token
            if not token:
                return

    def _history(self, runs: Sequence[str], metric: str) -> list[dict[str, Any]]:
        """Return the points of a metric, each run's in the order of time; asks in halves for what is too much."""
        from mlflow.exceptions import MlflowException
        from mlflow.utils.credentials import get_default_host_creds
        from mlflow.utils.rest_utils import http_request, verify_rest_response

        asked = {"run_id": list(runs), "metric_key": metric}
        host = get_default_host_creds(self._uri)  # type: ignore[no-untyped-call]
        answer = http_request(host, _HISTORY, "GET", params=asked)  # type: ignore[no-untyped-call]
        points: list[dict[str, Any]] = verify_rest_response(answer, _HISTORY).json()["metrics"]
        if len(points) < _MOST_POINTS:
            return points
        if len(runs) == 1:
            raise MlflowException(f"run {runs[0]} has more than {_MOST_POINTS:,} values of {metric}")
        half = len(runs) // 2
        return self._history(runs[:half], metric) + self._history(runs[half:], metric)


def _reason(error: Exception) -> str:
    text = str(error).strip()
    if "timed out" in text.lower():
        return "the server did not answer in time (MLFLOW_HTTP_REQUEST_TIMEOUT); try again"
    if "500 error responses" in text:
        return "the server failed at it (error 500); its own log says why"
    if "Max retries exceeded" in text or "Connection refused" in text:
        return "no MLflow server answers there; start it, or name another store"
    if "error code 401" in text or "error code 403" in text:
        return "the server refuses the user or the password; see MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
    if "error code 404" in text or "valid JSON" in text:
        return "what answers there is no MLflow server"
    return f"cannot be read: {(text or type(error).__name__).splitlines()[0]}"
