"""MLflow, written by one thread: an experiment a study, a parent run a driver of it, a child run a trial.

Nothing in a running sweep is decided from what is written here, and training never waits for it. While the store
cannot be written, what is to be written waits on disk, in order. The only module of this package that imports mlflow.
"""

from __future__ import annotations

import base64
import json
import logging
import os
import queue
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeGuard

from analysis.uris import without_password
from resnet_core.records import EpochRecord
from search_spaces.space import longest_horizon
from search_spaces.study import StudySpec, study_hash
from sweeps.errors import SweepError
from sweeps.ledger import Job
from sweeps.note import Note
from sweeps.outcomes import MLFLOW_STATUS, Result
from sweeps.spool import Spool
from sweeps.stopping import modes
from sweeps.version import code_version, versions

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

_log = logging.getLogger(__name__)
_TRIES = 6  # at the start and at the end, with waits of 0.5, 1, 2, 4, 8 s between them
_LONGEST_WAIT = 30.0  # seconds between two tries while the study runs
_LONGEST_TAG = 5000  # what MLflow takes, at least
_NOTE_SECONDS = 5.0  # between two writings of the note
_EPOCHS_SECONDS = 0.05  # that an epoch waits for others: by then the driver has had its trial go on
_MOST_EPOCHS = 50  # of a trial at once: an MLflow server takes 1,000 values
_ENDED = ("FINISHED", "KILLED", "FAILED")
_DRIVER = "sweeps.driver"
_FINAL_METRICS = (
    "objective",
    "epochs_to_target",
    "epochs_to_target_sustained",
    "best_val_acc",
    "best_epoch",
    "epochs_run",
    "epochs_saved",
    "final_loss",
    "final_val_loss",
)

VIEW = "epochs-to-target"
"""The view of a study that MLflow's UI has in its menu Views, and under ``viewStateShareKey`` in an address."""

_VIEW_COLUMNS = (
    *("metrics.`epochs_to_target`", "metrics.`best_val_acc`", "metrics.`epochs_run`", "tags.`outcome`"),
    *("params.`weight_decay`", "params.`shift`", "params.`lr_alpha`", "params.`schedule`", "tags.`stop_reason`"),
)

_Entry = dict[str, Any]
"""One thing to write, as plain values: ``do`` names a method of the writer, the rest are its arguments."""


@dataclass
class _Child:
    """A trial's run: its id, and, while it has not ended, the epochs it holds already."""

    run_id: str
    status: str
    epochs: set[int]


@dataclass(frozen=True)
class _Question:
    """Asks the writer's thread for a value, for which everything before it must be in the store."""

    ask: Callable[[], Any]
    answer: Future[Any]


_Item: TypeAlias = tuple[_Entry, Callable[[], None] | None] | _Question | None
"""What the writer's thread is sent: an entry and what is called once it is in the store; None ends it."""


class Tracker:
    """Writes one study to MLflow. A thread does the writing; only ``written`` and ``close`` wait for it.

    Opening a study that is in the store continues it: its parent run and the runs of its trials are taken up
    again, and an epoch that a run holds is not written twice. From the first write that fails on, everything
    waits in the spool; it is written, in order, by this process when the store is back, or by the next one.

    Args:
        uri: MLflow's tracking URI.
        artifacts: folder for artifacts, where no server keeps them.
        spec: the study.
        spool: the file where entries wait while the store cannot be written.
        driver: the driver's name in the study.
        holds: whether a trial is still this driver's; nothing is written of one that is not.
    """

    def __init__(
        self,
        uri: str,
        artifacts: Path,
        spec: StudySpec,
        spool: Path,
        driver: str = "",
        holds: Callable[[int], bool] = lambda number: True,
    ) -> None:
        self._uri, self._artifacts, self._spec = uri, artifacts, spec
        self._shown = without_password(uri)
        self._driver, self._holds = driver, holds
        self._children: dict[int, _Child] = {}
        self._tags = {"study_hash": study_hash(spec), "code_version": code_version()}
        self._note = Note(spec.description, spec.objective.target)
        self._note_changed, self._note_at = False, 0.0
        self._queue: queue.SimpleQueue[_Item] = queue.SimpleQueue()
        self._spool = Spool(spool)
        # What waits for the store, with what is called once it is there; the first so many are in the spool too.
        self._waiting: deque[tuple[_Entry, Callable[[], None] | None]] = deque((e, None) for e in self._spool.read())
        self._spooled = len(self._waiting)
        self._behind = True  # the study has yet to be opened
        self._failures, self._retry_at = 0, 0.0
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._write, name="mlflow-writer", daemon=True)
        self._thread.start()

    def written(self) -> dict[int, tuple[str, frozenset[int]]]:
        """Return, by trial number, every run's status and, unless it has ended, its epochs; waits for the thread.

        Raises:
            SweepError: the store cannot be used, and could not for a while.
        """
        known: dict[int, tuple[str, frozenset[int]]] = self._ask(
            lambda: {n: (c.status, frozenset(c.epochs)) for n, c in self._children.items()}
        )
        return known

    def refresh(self) -> dict[int, tuple[str, frozenset[int]]]:
        """Return the same, with what other drivers have written since.

        Raises:
            SweepError: as ``written``.
        """
        self._ask(self._read_children)
        return self.written()

    def adopt(self, job: Job) -> frozenset[int]:
        """Take up the run of a trial that another driver began, as it is in the store now; return its epochs.

        Raises:
            SweepError: as ``written``.
        """
        epochs: frozenset[int] = self._ask(lambda: self._find(job.number))
        return epochs

    def begin(self, job: Job) -> None:
        """Open the trial's run, or take it up again."""
        tags = {"sweeps.kind": "trial", "sweeps.trial": str(job.number), "seed": str(job.config.seed), **self._tags}
        params = {
            **job.config.to_dict(),
            "lr_alpha": job.config.lr_alpha,
            "horizon": job.config.horizon,
            **{f"space.{name}": value for name, value in job.params.items()},
        }
        texts = {name: str(value) for name, value in params.items()}
        self._put({"do": "begin", "trial": job.number, "name": job.name, "tags": tags, "params": texts})

    def place(self, job: Job, placement: dict[str, str]) -> None:
        """Tag the trial's run with where it runs (device, GPUs, node)."""
        self._put({"do": "place", "trial": job.number, "tags": placement})

    def epoch(self, job: Job, record: EpochRecord) -> None:
        """Write one epoch's metrics, in one batch with those of epochs that come right behind it."""
        metrics = {name: value for name, value in asdict(record).items() if value is not None}
        epoch = {"epoch": metrics.pop("epoch"), "metrics": metrics, "now": _milliseconds()}
        self._put({"do": "epochs", "trial": job.number, "epochs": [epoch]})

    def end(self, job: Job, result: Result, then: Callable[[], None] | None = None) -> None:
        """Write how the trial ended and close its run; ``then`` is called once that is in the store."""
        values = {name: getattr(result, name) for name in _FINAL_METRICS}
        tags = {"outcome": result.outcome.value}
        tags |= {"stopped_by": result.stopped_by} if result.stopped_by else {}
        tags |= {"stop_reason": result.stop_reason} if result.stop_reason else {}
        tags |= {"would_stop": json.dumps(dict(result.would_stop))} if result.would_stop else {}
        entry = {
            "do": "end",
            "trial": job.number,
            "status": MLFLOW_STATUS[result.outcome],
            "metrics": {name: float(value) for name, value in values.items() if value is not None},
            "tags": tags,
            "step": result.epochs_run,
            "now": _milliseconds(),
        }
        self._put(entry, then)

    def pause(self, jobs: list[Job]) -> None:
        """Mark the runs of interrupted trials as waiting to be continued."""
        for job in jobs:
            self._put({"do": "pause", "trial": job.number})

    def close(self, status: str, gone: Collection[str] = ()) -> None:
        """Close the parent run with an MLflow status and wait until everything is written.

        Args:
            status: of the parent run.
            gone: other drivers that are gone; their parent runs become KILLED where nobody has closed them.

        Raises:
            SweepError: something could not be written; it waits in the spool for the next resume.
        """
        try:
            self._ask(lambda: self._close(status, gone))
        except SweepError as error:
            raise SweepError(
                f"{error}. Nothing is lost: `sweeps resume {self._spec.name}` writes what is missing"
                + (f"; it waits in {self._spool.path}." if self._spooled else ".")
            ) from error
        finally:
            self._queue.put(None)
            self._thread.join()

    def _put(self, entry: _Entry, then: Callable[[], None] | None = None) -> None:
        self._queue.put((entry, then))

    def _ask(self, ask: Callable[[], Any]) -> Any:
        question = _Question(ask, Future())
        self._queue.put(question)
        return question.answer.result()

    # What follows runs in the writer's thread.

    def _write(self) -> None:
        ahead: deque[_Item] = deque()  # out of the queue already
        while True:
            if self._behind and time.monotonic() >= self._retry_at:
                self._catch_up()
            elif self._note_changed and time.monotonic() >= self._note_at:
                self._write_note()
            try:
                item = ahead.popleft() if ahead else self._queue.get(timeout=self._wait())
            except queue.Empty:
                continue
            if item is None:
                return
            if isinstance(item, _Question):
                self._answer(item)
            elif _is_epochs(item):
                for entry in self._gathered(item[0], ahead):
                    self._take(entry, None)
            else:
                self._take(*item)

    def _gathered(self, first: _Entry, ahead: deque[_Item]) -> list[_Entry]:
        """Return epochs with those that are right behind them, an entry a trial; the rest comes to ``ahead``."""
        if not ahead and self._queue.empty():
            time.sleep(_EPOCHS_SECONDS)
        with suppress(queue.Empty):
            while True:
                ahead.append(self._queue.get_nowait())
        epochs = {first["trial"]: list(first["epochs"])}
        while ahead and _is_epochs(item := ahead[0]):
            of_trial = epochs.setdefault(item[0]["trial"], [])
            if len(of_trial) == _MOST_EPOCHS:
                break
            of_trial.extend(item[0]["epochs"])
            ahead.popleft()
        return [{"do": "epochs", "trial": trial, "epochs": of_trial} for trial, of_trial in epochs.items()]

    def _wait(self) -> float | None:
        """Return in how many seconds there is something to do though nothing comes; None where there is nothing."""
        if self._behind:
            return max(0.0, self._retry_at - time.monotonic())
        return max(0.0, self._note_at - time.monotonic()) if self._note_changed else None

    def _write_note(self) -> None:
        """Write the parent run's note. It is made of what the store has, so that one that is lost is soon replaced."""
        self._note_changed = False
        try:
            self._client.set_tag(self._parent, "mlflow.note.content", str(self._note))
        except Exception as error:
            _log.debug("the note of study %s was not written: %s", self._spec.name, error)
        self._note_at = time.monotonic() + _NOTE_SECONDS

    def _take(self, entry: _Entry, then: Callable[[], None] | None) -> None:
        """Write an entry, or have it wait behind those that do."""
        if not self._behind:
            try:
                self._apply(entry, then)
                return
            except Exception as error:
                self._fall_behind(error)
        self._waiting.append((entry, then))
        try:
            # With those that an earlier try could not save, so that what is on disk never has a gap.
            self._spool.append(entry for entry, _ in list(self._waiting)[self._spooled :])
            self._spooled = len(self._waiting)
        except OSError as error:
            _log.error("%s cannot be written (%s): what MLflow lacks waits in memory alone", self._spool.path, error)

    def _answer(self, question: _Question) -> None:
        """Catch up with the store, trying for a while, and answer."""
        for attempt in range(_TRIES):
            if attempt:
                time.sleep(0.5 * 2 ** (attempt - 1))
            if self._behind:
                self._catch_up()
            if not self._behind:
                try:
                    question.answer.set_result(question.ask())
                    return
                except Exception as error:
                    self._fall_behind(error)
        assert self._failure is not None
        question.answer.set_exception(
            SweepError(f"MLflow ({self._shown}) cannot be used: {_first_line(self._failure)}")
        )

    def _catch_up(self) -> None:
        """Ask the store what it holds, since the answer to a write may have been lost, and write what waits."""
        try:
            self._open()
            while self._waiting:
                self._apply(*self._waiting[0])
                self._waiting.popleft()
                self._spooled = max(0, self._spooled - 1)
            self._spool.clear()
        except Exception as error:
            self._fall_behind(error)
            return
        if self._failures:
            _log.warning("MLflow (%s) is written again, and has what waited", self._shown)
        self._behind, self._failures, self._failure = False, 0, None

    def _fall_behind(self, error: Exception) -> None:
        if self._failure is None:
            _log.warning(
                "MLflow (%s) cannot be written: %s. What it lacks waits in %s, and is written when it can be.",
                self._shown,
                _first_line(error),
                self._spool.path,
            )
        self._retry_at = time.monotonic() + min(0.5 * 2**self._failures, _LONGEST_WAIT)
        self._behind, self._failure = True, error
        self._failures = min(self._failures + 1, 16)

    @cached_property
    def _client(self) -> MlflowClient:
        quiet()
        # A server that is down is noticed soon; the trying again is done here.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
        from mlflow import MlflowClient

        return MlflowClient(self._uri)

    @cached_property
    def _experiment(self) -> str:
        name = self._spec.name
        found = self._client.get_experiment_by_name(name)
        if found is None:
            # A server decides itself where artifacts are.
            folder = None if self._uri.startswith("http") else (self._artifacts / name).resolve().as_uri()
            tags = {
                # Without this the UI opens on the pages it has for language models.
                "mlflow.experimentKind": "custom_model_development",
                f"mlflow.sharedViewState.{VIEW}": _view(),
            }
            try:
                return str(self._client.create_experiment(name, artifact_location=folder, tags=tags))
            except Exception:
                found = self._client.get_experiment_by_name(name)
                if found is None:
                    raise
                # Another driver has just made it.
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

    def _about(self) -> dict[str, str]:
        driver = {_DRIVER: self._driver} if self._driver else {}
        return {"description": self._spec.description, **driver, **versions()}

    def _open(self) -> None:
        from mlflow.entities import RunTag

        spec = self._spec
        # One without a driver's name is of a time when a study had one driver.
        launches = {run.data.tags.get(_DRIVER, ""): run for run in self._runs("launch")}
        launch = launches.get(self._driver, launches.get(""))
        if launch is not None:
            self._parent = launch.info.run_id
            self._client.update_run(self._parent, status="RUNNING")
            self._client.log_batch(self._parent, tags=[RunTag(name, value) for name, value in self._about().items()])
        else:
            objective = spec.objective
            tags = {
                "sweeps.kind": "launch",
                "mlflow.note.content": str(self._note),
                "target": repr(objective.target),
                "sustained": str(objective.sustained),
                "longest_horizon": str(longest_horizon(spec)),
                "stopping_rules": json.dumps(modes(spec)),
                "phase": spec.phase,
                **_space_tag(spec),
                **({"confirms": spec.confirms} if spec.confirms else {}),
                **self._about(),
                **self._tags,
            }
            run = self._client.create_run(self._experiment, tags=tags, run_name=spec.name)
            self._parent = run.info.run_id
        self._read_children()

    def _read_children(self) -> None:
        for run in self._runs("trial"):
            number = int(run.data.tags["sweeps.trial"])
            self._children[number] = self._child(run)
            self._note.begun(number, run.info.run_name, run.data.params)
            if run.info.status in _ENDED:
                self._note.ended(number, run.data.metrics, run.data.tags)
        self._note_changed = bool(self._children)

    def _child(self, run: Run) -> _Child:
        # Asked for run by run, which is slow: what has ended is not written to again.
        unfinished = run.info.status in ("RUNNING", "SCHEDULED") and "val_acc" in run.data.metrics
        history = self._client.get_metric_history(run.info.run_id, "val_acc") if unfinished else []
        return _Child(run.info.run_id, run.info.status, {point.step for point in history})

    def _find(self, number: int) -> frozenset[int]:
        query = f"tags.`sweeps.kind` = 'trial' and tags.`sweeps.trial` = '{number}'"
        for run in self._client.search_runs([self._experiment], query):
            self._children[number] = self._child(run)
            return frozenset(self._children[number].epochs)
        return frozenset()

    def _close(self, status: str, gone: Collection[str]) -> None:
        self._write_note()
        self._client.set_terminated(self._parent, status)
        for run in self._runs("launch") if gone else []:
            if run.data.tags.get(_DRIVER) in gone and run.info.status not in _ENDED:
                self._client.set_terminated(run.info.run_id, "KILLED")

    def _apply(self, entry: _Entry, then: Callable[[], None] | None) -> None:
        """Write an entry; one that the store has already, whole or in part, changes nothing more."""
        do, number, rest = entry["do"], entry["trial"], {k: v for k, v in entry.items() if k not in ("do", "trial")}
        child = self._children.get(number)
        if not self._holds(number):
            return  # another driver has taken it over, and writes it
        if child is not None and child.status in _ENDED:
            pass  # what has ended is whole
        elif do == "begin":
            self._begin(number, child, **rest)
        elif child is not None:
            if do == "end":
                self._note.ended(number, rest["metrics"], rest["tags"])
                self._note_changed = True
            writers: dict[str, Callable[..., None]] = {
                "place": self._place,
                "epochs": self._epochs,
                "end": self._end,
                "pause": self._pause,
            }
            writers[do](child, **rest)
        else:
            # Left by an earlier process, for another store than this one. Its trial is begun anew here, or is
            # written here from its checkpoint.
            _log.debug("trial %d has no run in MLflow (%s)", number, self._shown)
        if then is not None:
            then()

    def _begin(
        self, number: int, child: _Child | None, name: str, tags: dict[str, str], params: dict[str, str]
    ) -> None:
        from mlflow.entities import Param

        if child is None:
            tags = {"mlflow.parentRunId": self._parent, **tags}
            run = self._client.create_run(self._experiment, tags=tags, run_name=name)
            child = self._children[number] = _Child(run.info.run_id, "RUNNING", set())
        else:
            self._set_status(child, "RUNNING")
        self._note.begun(number, name, params)
        # Written again for a run that is taken up: a process may have been killed before they were; MLflow
        # accepts the same value twice.
        self._client.log_batch(child.run_id, params=[Param(key, value) for key, value in params.items()])

    def _place(self, child: _Child, tags: dict[str, str]) -> None:
        from mlflow.entities import RunTag

        self._client.log_batch(child.run_id, tags=[RunTag(name, value) for name, value in tags.items()])

    def _epochs(self, child: _Child, epochs: list[dict[str, Any]]) -> None:
        from mlflow.entities import Metric

        new: dict[int, dict[str, Any]] = {}
        for epoch in epochs:
            if epoch["epoch"] not in child.epochs:
                new.setdefault(epoch["epoch"], epoch)
        if not new:
            return
        metrics = [Metric(name, v, e["now"], step) for step, e in new.items() for name, v in e["metrics"].items()]
        self._client.log_batch(child.run_id, metrics=metrics)
        child.epochs |= new.keys()

    def _end(
        self, child: _Child, status: str, metrics: dict[str, float], tags: dict[str, str], step: int, now: int
    ) -> None:
        from mlflow.entities import Metric, RunTag

        self._client.log_batch(
            child.run_id,
            metrics=[Metric(name, value, now, step) for name, value in metrics.items()],
            tags=[RunTag(name, value) for name, value in tags.items()],
        )
        self._client.set_terminated(child.run_id, status, now)
        child.status = status

    def _pause(self, child: _Child) -> None:
        self._set_status(child, "SCHEDULED")

    def _set_status(self, child: _Child, status: str) -> None:
        self._client.update_run(child.run_id, status=status)
        child.status = status


def _is_epochs(item: _Item) -> TypeGuard[tuple[_Entry, Callable[[], None] | None]]:
    return isinstance(item, tuple) and item[0]["do"] == "epochs"


def _view() -> str:
    """Return the view as the UI keeps those that people save: trials, fastest first, with what tells them apart."""
    state = {
        "searchFilter": "tags.`sweeps.kind` = 'trial'",
        "orderByKey": "metrics.`epochs_to_target`",
        "orderByAsc": True,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": _VIEW_COLUMNS,
        "runsHiddenMode": "FIRST_10_RUNS",
        "globalLineChartConfig": {"xAxisKey": "step", "lineSmoothness": 0, "selectedXAxisMetricKey": ""},
    }
    packed = base64.b64encode(zlib.compress(json.dumps(state).encode())).decode()
    now = _milliseconds()
    return json.dumps({"name": "Epochs to target", "createdAt": now, "updatedAt": now, "state": f"deflate;{packed}"})


def quiet() -> None:
    """Keep MLflow's and Alembic's chatter, and MLflow's telemetry, away; call before mlflow is imported."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    if logging.getLogger("sweeps").isEnabledFor(logging.DEBUG):
        return
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    logging.getLogger("alembic").setLevel(logging.ERROR)


def _space_tag(spec: StudySpec) -> dict[str, str]:
    """Return the tag of what is sampled, with all keys of a range; none where it is too long."""
    space = {name: parameter.model_dump(by_alias=True, exclude_none=True) for name, parameter in spec.space.items()}
    text = json.dumps(space)
    return {"space": text} if len(text) <= _LONGEST_TAG else {}


def _first_line(error: BaseException) -> str:
    return without_password((str(error).strip() or type(error).__name__).splitlines()[0])


def _milliseconds() -> int:
    return time.time_ns() // 1_000_000


def attach(uri: str, study: str, files: Sequence[Path], children: Mapping[str, Sequence[Path]]) -> None:
    """Add files to runs as artifacts, under their own names; one that is there is replaced.

    Args:
        uri: MLflow's tracking URI.
        study: the study whose launch gets ``files``.
        files: of the launch.
        children: files of trials, by run id.

    Raises:
        SweepError: MLflow cannot be used, or has no such study.
    """
    quiet()
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    client, shown = MlflowClient(uri), without_password(uri)
    try:
        found = client.get_experiment_by_name(study)
        launches = client.search_runs([found.experiment_id], "tags.`sweeps.kind` = 'launch'") if found else []
        if not launches:
            raise SweepError(f"MLflow ({shown}) has no study {study!r}")
        for run_id, paths in {launches[0].info.run_id: files, **children}.items():
            for path in paths:
                client.log_artifact(run_id, str(path))
    except (MlflowException, OSError) as error:
        raise SweepError(f"MLflow ({shown}) cannot be used: {_first_line(error)}") from error
