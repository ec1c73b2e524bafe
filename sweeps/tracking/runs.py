"""A study in MLflow: an experiment, a parent run a driver of it, a child run a trial.

The only module of this package that imports mlflow. Who writes when, and what happens while the store cannot be
written, is in sweeps.tracking.writer.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnet_core import schema
from resnet_core.uris import without_password
from search_spaces.space import longest_horizon
from search_spaces.spec import StudySpec
from search_spaces.study import study_hash
from sweeps.errors import InputError, SweepError, reason_of
from sweeps.study.origin import Origin
from sweeps.study.protocols import WrittenRun
from sweeps.study.stopping import modes
from sweeps.tracking import view
from sweeps.tracking.note import Note
from sweeps.version import code_version, versions

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

_log = logging.getLogger(__name__)
_LONGEST_TAG = 5000  # what MLflow takes, at least
_ENDED = ("FINISHED", "KILLED", "FAILED")

LogEntry = dict[str, Any]
"""One write as plain values: ``do`` names a method of MlflowStudy, ``trial`` the trial; the rest are its arguments."""


@dataclass
class _Child:
    """A trial's run: its id, its tag schema.THAWED, and, while it has not ended, the epochs it holds already."""

    run_id: str
    status: str
    epochs: set[int]
    thawed: str = ""


class MlflowStudy:
    """The runs of a study, as one driver of it reads and writes them; for one thread.

    Opening a study that is in the store continues it: its parent run and the runs of its trials are taken up
    again, and an epoch that a run holds is not written twice. Whatever fails raises what MLflow raises, and may be
    done again, whether the store had it or not.

    Args:
        uri: MLflow's tracking URI.
        artifacts: folder for artifacts, where no server keeps them.
        spec: the study.
        driver: the driver's name in the study.
        origin: where the study comes from, if it was imported: nothing is then said of what ran it.
        lengthened: how a confirmation's number of runs came about, as the ledger says.

    Attributes:
        study: its name.
        shown: the URI without a password, for messages.
        tags: what every run of this code and study is tagged with.
        note_changed: whether the parent run's note is not what it should say.
    """

    def __init__(
        self,
        uri: str,
        artifacts: Path,
        spec: StudySpec,
        driver: str = "",
        origin: Origin | None = None,
        lengthened: str = "",
    ) -> None:
        self._uri, self._artifacts, self._spec, self._driver, self._origin = uri, artifacts, spec, driver, origin
        self._lengthened = lengthened
        self.study, self.shown = spec.name, without_password(uri)
        self.tags = {schema.STUDY_HASH: study_hash(spec)} | ({} if origin else {schema.CODE_VERSION: code_version()})
        self.note_changed = False
        self._note = Note(spec.description, spec.objective.target)
        self._children: dict[int, _Child] = {}

    def written(self) -> dict[int, WrittenRun]:
        """Return, by trial number, every run's status and, unless it has ended, its epochs, as far as is known."""
        return {number: WrittenRun(child.status, frozenset(child.epochs)) for number, child in self._children.items()}

    def open(self) -> None:
        """Take up the study where it is in the store, or begin it there."""
        from mlflow.entities import RunTag

        spec = self._spec
        # One without a driver's name is of a time when a study had one driver.
        launches = {run.data.tags.get(schema.DRIVER, ""): run for run in self._runs(schema.LAUNCH)}
        launch = launches.get(self._driver, launches.get(""))
        if launch is not None:
            if self._origin is None and Origin.of_tags(launch.data.tags):
                raise SweepError(f"study {self.study!r} in it was imported; launch under another --name")
            self._parent = launch.info.run_id
            self._client.update_run(self._parent, status="RUNNING")
            self._client.log_batch(self._parent, tags=[RunTag(name, value) for name, value in self._about().items()])
        else:
            objective = spec.objective
            tags = {
                schema.KIND: schema.LAUNCH,
                schema.NOTE: str(self._note),
                schema.TARGET: repr(objective.target),
                schema.SUSTAINED: str(objective.sustained),
                schema.LONGEST_HORIZON: str(longest_horizon(spec)),
                schema.STOPPING_RULES: json.dumps(modes(spec)),
                schema.PHASE: spec.phase,
                **(_space_tag(spec) if self._origin is None else {}),
                **({schema.CONFIRMS: spec.confirms} if spec.confirms else {}),
                **self._about(),
                **self.tags,
            }
            run = self._client.create_run(self._experiment, tags=tags, run_name=spec.name)
            self._parent = run.info.run_id
        self.refresh()

    def earlier(self) -> tuple[str, Origin | None] | None:
        """Return what the store has under the study's name: a launch's status, and its origin; None where it has none.

        Raises:
            InputError: the name is that of an experiment that was deleted, and can still be restored.
        """
        found = self._client.get_experiment_by_name(self.study)
        if found is None:
            return None
        if found.lifecycle_stage != "active":
            raise InputError(
                f"MLflow ({self.shown}) has a deleted experiment {self.study!r}; remove it for good with "
                f"`mlflow gc`, or take another --name"
            )
        for run in self._runs(schema.LAUNCH):
            return run.info.status, Origin.of_tags(run.data.tags)
        return None

    def clear(self) -> None:
        """Delete what an import wrote under the study's name; until that is done, nobody sees the study."""
        launches = self._runs(schema.LAUNCH)
        for run in launches:
            self._client.update_run(run.info.run_id, status="RUNNING")
        for run in [*self._runs(schema.TRIAL), *launches]:
            self._client.delete_run(run.info.run_id)

    def refresh(self) -> None:
        """Ask the store which runs of trials it has, and how far they are."""
        for run in self._runs(schema.TRIAL):
            number = int(run.data.tags[schema.TRIAL_NUMBER])
            self._children[number] = self._child(run)
            self._note.begun(number, run.info.run_name, run.data.params)
            if run.info.status in _ENDED:
                self._note.ended(number, run.data.metrics, run.data.tags)
        self.note_changed = bool(self._children)

    def adopt(self, number: int) -> frozenset[int]:
        """Take up the run of a trial that another driver began, as it is in the store now; return its epochs."""
        query = f"{_of_kind(schema.TRIAL)} and tags.`{schema.TRIAL_NUMBER}` = '{number}'"
        for run in self._client.search_runs([self._experiment], query):
            self._children[number] = self._child(run)
            return frozenset(self._children[number].epochs)
        return frozenset()

    def apply(self, entry: LogEntry) -> None:
        """Write an entry; one that the store has already, whole or in part, changes nothing more."""
        do, number, rest = entry["do"], entry["trial"], {k: v for k, v in entry.items() if k not in ("do", "trial")}
        child = self._children.get(number)
        goes_on = do == "begin" and child is not None and rest["tags"].get(schema.THAWED, "") != child.thawed
        if child is not None and child.status in _ENDED and not goes_on:
            return  # what has ended is whole
        if do == "begin":
            self._begin(number, child, **rest)
        elif child is not None:
            if do == "end":
                self._note.ended(number, rest["metrics"], rest["tags"])
                self.note_changed = True
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
            _log.debug("trial %d has no run in MLflow (%s)", number, self.shown)

    def write_note(self) -> None:
        """Write the parent run's note. It is made of what the store has, so that one that is lost is soon replaced."""
        self.note_changed = False
        try:
            self._client.set_tag(self._parent, schema.NOTE, str(self._note))
        except Exception as error:
            _log.debug("the note of study %s was not written: %s", self.study, error)

    def close(self, status: str, gone: Collection[str]) -> None:
        """Close the parent run with an MLflow status; parent runs that ``gone`` drivers left open become KILLED."""
        self.write_note()
        self._client.set_terminated(self._parent, status)
        for run in self._runs(schema.LAUNCH) if gone else []:
            if run.data.tags.get(schema.DRIVER) in gone and run.info.status not in _ENDED:
                self._client.set_terminated(run.info.run_id, "KILLED")

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
                view.TAG: view.view(milliseconds()),
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
            page = self._client.search_runs([self._experiment], _of_kind(kind), max_results=1000, page_token=token)
            runs.extend(page)
            token = page.token
            if not token:
                return runs

    def _child(self, run: Run) -> _Child:
        # Asked for run by run, which is slow: what has ended is not written to again.
        unfinished = run.info.status in ("RUNNING", "SCHEDULED") and "val_acc" in run.data.metrics
        epochs = self._written_epochs(run.info.run_id) if unfinished else set()
        return _Child(run.info.run_id, run.info.status, epochs, run.data.tags.get(schema.THAWED, ""))

    def _written_epochs(self, run_id: str) -> set[int]:
        return {point.step for point in self._client.get_metric_history(run_id, "val_acc")}

    def _about(self) -> dict[str, str]:
        driver = {schema.DRIVER: self._driver} if self._driver else {}
        about = versions() if self._origin is None else self._origin.tags()
        lengthened = {schema.LENGTHENED: self._lengthened} if self._lengthened else {}
        return {schema.DESCRIPTION: self._spec.description, **lengthened, **driver, **about}

    def _begin(
        self, number: int, child: _Child | None, name: str, tags: dict[str, str], params: dict[str, str]
    ) -> None:
        from mlflow.entities import Param

        thawed = tags.get(schema.THAWED, "")
        if child is None:
            tags = {schema.PARENT_RUN: self._parent, **tags}
            run = self._client.create_run(self._experiment, tags=tags, run_name=name)
            child = self._children[number] = _Child(run.info.run_id, "RUNNING", set(), thawed)
        else:
            self._set_status(child, "RUNNING")
            if child.thawed != thawed:
                self._reopen(child, thawed)
        self._note.begun(number, name, params)
        # Written again for a run that is taken up: a process may have been killed before they were; MLflow
        # accepts the same value twice.
        self._client.log_batch(child.run_id, params=[Param(key, value) for key, value in params.items()])

    def _reopen(self, child: _Child, thawed: str) -> None:
        """Take back how a run ended; its last tag says that this is done."""
        child.epochs = self._written_epochs(child.run_id)
        there = self._client.get_run(child.run_id).data.tags
        for name in (schema.OUTCOME, schema.STOPPED_BY, schema.STOP_REASON):
            if name in there:
                self._client.delete_tag(child.run_id, name)
        self._client.set_tag(child.run_id, schema.THAWED, thawed)
        child.thawed = thawed

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


def _of_kind(kind: str) -> str:
    """Return the filter of a search for the runs of a kind."""
    return f"tags.`{schema.KIND}` = '{kind}'"


def quiet() -> None:
    """Keep MLflow's and Alembic's log, and MLflow's telemetry, away; call before mlflow is imported."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    if logging.getLogger("sweeps").isEnabledFor(logging.DEBUG):
        return
    # MLflow logs a database's errors with their traceback and raises them, too: what is raised is told here.
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "CRITICAL")
    logging.getLogger("mlflow").setLevel(logging.CRITICAL)
    logging.getLogger("alembic").setLevel(logging.ERROR)


def _space_tag(spec: StudySpec) -> dict[str, str]:
    """Return the tag of what is sampled, with all keys of a range; none where it is too long."""
    space = {name: parameter.model_dump(by_alias=True, exclude_none=True) for name, parameter in spec.space.items()}
    text = json.dumps(space)
    return {schema.SPACE: text} if len(text) <= _LONGEST_TAG else {}


def milliseconds() -> int:
    """Return the time as MLflow counts it: milliseconds since 1970."""
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
        launches = client.search_runs([found.experiment_id], _of_kind(schema.LAUNCH)) if found else []
        if not launches:
            raise SweepError(f"MLflow ({shown}) has no study {study!r}")
        for run_id, paths in {launches[0].info.run_id: files, **children}.items():
            for path in paths:
                client.log_artifact(run_id, str(path))
    except (MlflowException, OSError) as error:
        raise SweepError(f"MLflow ({shown}) cannot be used: {reason_of(error)}") from error
