"""MLflow, written by one thread: an experiment a study, a parent run a launch, a child run a trial.

Nothing in a running sweep is decided from what is written here, and training never waits for it. The only
module of this package that imports mlflow.
"""

from __future__ import annotations

import functools
import logging
import os
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnet_core.records import EpochRecord
from search_spaces.space import longest_horizon
from search_spaces.study import StudySpec, study_hash
from sweeps.errors import SweepError
from sweeps.ledger import Job
from sweeps.outcomes import MLFLOW_STATUS, Result
from sweeps.version import code_version

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

_log = logging.getLogger(__name__)
_TRIES = 6  # waits of 0.5, 1, 2, 4, 8 s between them: longer than any lock of SQLite's is held
_FINAL_METRICS = (
    "objective",
    "epochs_to_target",
    "epochs_to_target_sustained",
    "best_val_acc",
    "best_epoch",
    "epochs_run",
    "final_loss",
    "final_val_loss",
)


@dataclass
class _Child:
    """A trial's run: its id, and, while it has not ended, the epochs it holds already."""

    run_id: str
    status: str
    epochs: set[int]


class Tracker:
    """Writes one study to MLflow. Every method but ``close`` returns at once; a thread does the writing.

    Opening a study that is in the store continues it: its parent run and the runs of its trials are taken up
    again, and an epoch that a run holds is not written twice.

    Args:
        uri: MLflow's tracking URI.
        artifacts: folder for artifacts.
        spec: the study.
    """

    def __init__(self, uri: str, artifacts: Path, spec: StudySpec) -> None:
        self._uri, self._artifacts, self._spec = uri, artifacts, spec
        self._children: dict[int, _Child] = {}
        self._tasks: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any] | None] | None] = queue.SimpleQueue()
        self._failure: BaseException | None = None
        self._tags = {"study_hash": study_hash(spec), "code_version": code_version()}
        self._do(self._open)
        self._thread = threading.Thread(target=self._write, name="mlflow-writer", daemon=True)
        self._thread.start()

    def written(self) -> dict[int, tuple[str, frozenset[int]]]:
        """Return, by trial number, every run's status and, unless it has ended, its epochs; waits for the thread."""
        done: Future[dict[int, tuple[str, frozenset[int]]]] = Future()
        self._do(lambda: {n: (c.status, frozenset(c.epochs)) for n, c in self._children.items()}, done)
        return done.result()

    def begin(self, job: Job) -> None:
        """Open the trial's run, or take it up again."""
        self._do(lambda: self._begin(job))

    def place(self, job: Job, placement: dict[str, str]) -> None:
        """Tag the trial's run with where it runs (device, GPUs, node)."""
        self._do(lambda: self._batch(job.number, tags=placement))

    def epoch(self, job: Job, record: EpochRecord) -> None:
        """Write one epoch's metrics, in one batch."""
        now = _milliseconds()
        self._do(lambda: self._epoch(job.number, record, now))

    def end(self, job: Job, result: Result, then: Callable[[], None] | None = None) -> None:
        """Write how the trial ended and close its run; ``then`` is called once that is in the store."""
        now = _milliseconds()

        def task() -> None:
            self._end(job.number, result, now)
            if then is not None:
                then()

        self._do(task)

    def pause(self, jobs: list[Job]) -> None:
        """Mark the runs of interrupted trials as waiting to be continued."""
        for job in jobs:
            self._do(functools.partial(self._set_status, job.number, "SCHEDULED"))

    def close(self, status: str) -> None:
        """Close the parent run with an MLflow status and wait until everything is written.

        Raises:
            SweepError: something could not be written; what is missing is written by the next resume.
        """
        self._do(lambda: self._client.set_terminated(self._parent, status))
        self._tasks.put(None)
        self._thread.join()
        if self._failure is not None:
            raise SweepError(
                f"MLflow ({self._uri}) could not be written: {_first_line(self._failure)}. Nothing is lost: "
                f"`sweeps resume {self._spec.name}` writes what is missing."
            )

    # What follows runs in the writer's thread.

    def _do(self, task: Callable[[], Any], done: Future[Any] | None = None) -> None:
        self._tasks.put((task, done))

    def _write(self) -> None:
        while (item := self._tasks.get()) is not None:
            task, done = item
            try:
                if self._failure is not None:
                    raise self._failure
                value = _persist(task)
            except Exception as error:
                # After one failure nothing more is written, so that a run never has a gap in its epochs.
                if self._failure is None:
                    _log.error("MLflow (%s) could not be written: %s", self._uri, _first_line(error))
                    self._failure = error
                if done is not None:
                    done.set_exception(SweepError(f"MLflow ({self._uri}) cannot be used: {_first_line(error)}"))
            else:
                if done is not None:
                    done.set_result(value)

    @cached_property
    def _client(self) -> MlflowClient:
        quiet()
        from mlflow import MlflowClient

        return MlflowClient(self._uri)

    @cached_property
    def _experiment(self) -> str:
        name = self._spec.name
        found = self._client.get_experiment_by_name(name)
        if found is None:
            folder = (self._artifacts / name).resolve()
            # Without this the UI opens on the pages it has for language models.
            kind = {"mlflow.experimentKind": "custom_model_development"}
            return str(self._client.create_experiment(name, artifact_location=folder.as_uri(), tags=kind))
        if found.lifecycle_stage != "active":
            self._client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)

    def _runs(self, kind: str) -> list[Run]:
        runs: list[Run] = []
        token = None
        while True:
            page = self._client.search_runs(
                [self._experiment], f"tags.`sweeps.kind` = '{kind}'", max_results=1000, page_token=token
            )
            runs.extend(page)
            token = page.token
            if not token:
                return runs

    def _open(self) -> None:
        spec = self._spec
        launches = self._runs("launch")
        if launches:
            self._parent = launches[0].info.run_id
            self._client.update_run(self._parent, status="RUNNING")
        else:
            objective = spec.objective
            tags = {
                "sweeps.kind": "launch",
                "mlflow.note.content": spec.description,
                "target": repr(objective.target),
                "sustained": str(objective.sustained),
                "longest_horizon": str(longest_horizon(spec)),
                **self._tags,
            }
            run = self._client.create_run(self._experiment, tags=tags, run_name=spec.name)
            self._parent = run.info.run_id
        for run in self._runs("trial"):
            run_id = run.info.run_id
            # Asked for run by run, which is slow: what has ended is not written to again.
            unfinished = run.info.status in ("RUNNING", "SCHEDULED") and "val_acc" in run.data.metrics
            history = self._client.get_metric_history(run_id, "val_acc") if unfinished else []
            epochs = {point.step for point in history}
            self._children[int(run.data.tags["sweeps.trial"])] = _Child(run_id, run.info.status, epochs)

    def _begin(self, job: Job) -> None:
        from mlflow.entities import Param

        if job.number in self._children:
            self._set_status(job.number, "RUNNING")
        else:
            tags = {
                "mlflow.parentRunId": self._parent,
                "sweeps.kind": "trial",
                "sweeps.trial": str(job.number),
                "seed": str(job.config.seed),
                **self._tags,
            }
            run = self._client.create_run(self._experiment, tags=tags, run_name=job.name)
            self._children[job.number] = _Child(run.info.run_id, "RUNNING", set())
        # Written again for a run that is taken up: a process may have been killed before they were; MLflow
        # accepts the same value twice.
        params = {
            **job.config.to_dict(),
            "lr_alpha": job.config.lr_alpha,
            "horizon": job.config.horizon,
            **{f"space.{name}": value for name, value in job.params.items()},
        }
        self._client.log_batch(self._children[job.number].run_id, params=[Param(k, str(v)) for k, v in params.items()])

    def _epoch(self, number: int, record: EpochRecord, now: int) -> None:
        child = self._children[number]
        if record.epoch in child.epochs:
            return
        metrics = {name: value for name, value in asdict(record).items() if value is not None}
        step = metrics.pop("epoch")
        self._batch(number, metrics=metrics, step=step, now=now)
        child.epochs.add(record.epoch)

    def _end(self, number: int, result: Result, now: int) -> None:
        values = {name: getattr(result, name) for name in _FINAL_METRICS}
        tags = {"outcome": result.outcome.value}
        tags |= {"stopped_by": result.stopped_by} if result.stopped_by else {}
        tags |= {"stop_reason": result.stop_reason} if result.stop_reason else {}
        present = {name: float(value) for name, value in values.items() if value is not None}
        self._batch(number, metrics=present, tags=tags, step=result.epochs_run, now=now)
        child = self._children[number]
        child.status = MLFLOW_STATUS[result.outcome]
        self._client.set_terminated(child.run_id, child.status, now)

    def _batch(
        self,
        number: int,
        *,
        metrics: dict[str, float] | None = None,
        tags: dict[str, str] | None = None,
        step: int = 0,
        now: int = 0,
    ) -> None:
        from mlflow.entities import Metric, RunTag

        self._client.log_batch(
            self._children[number].run_id,
            metrics=[Metric(name, value, now, step) for name, value in (metrics or {}).items()],
            tags=[RunTag(name, value) for name, value in (tags or {}).items()],
        )

    def _set_status(self, number: int, status: str) -> None:
        if number in self._children:
            self._children[number].status = status
            self._client.update_run(self._children[number].run_id, status=status)


def quiet() -> None:
    """Keep MLflow's and Alembic's chatter, and MLflow's telemetry, away; call before mlflow is imported."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    if logging.getLogger("sweeps").isEnabledFor(logging.DEBUG):
        return
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    logging.getLogger("alembic").setLevel(logging.ERROR)


def _persist(task: Callable[[], Any]) -> Any:
    """Run a task of the store, again after a while where the store failed."""
    for attempt in range(_TRIES):
        try:
            return task()
        except Exception as error:
            if attempt == _TRIES - 1:
                raise
            _log.debug("MLflow write failed, trying again: %s", error)
            time.sleep(0.5 * 2**attempt)
    raise AssertionError("unreachable")


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _milliseconds() -> int:
    return time.time_ns() // 1_000_000
