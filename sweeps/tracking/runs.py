"""A study in MLflow: an experiment with a parent run for each driver, and below it a child run for each trial.

The only module of sweeps that imports mlflow. sweeps.tracking.writer decides when it is called, and keeps the data
while the store cannot be written. The names of tags, parameters and metrics are in resnet_core.schema.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnet_core import schema
from resnet_core.objective import Objective
from resnet_core.uris import without_password
from search_spaces.space import longest_horizon
from search_spaces.spec import StudySpec
from search_spaces.study import study_hash
from sweeps.errors import InputError, SweepError, reason_of, schema_reason
from sweeps.study.origin import Origin
from sweeps.study.protocols import WrittenRun
from sweeps.study.stopping.rules import rule_modes
from sweeps.tracking import mlflow_internals, view
from sweeps.tracking.note import Note
from sweeps.version import code_version, versions

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

_log = logging.getLogger(__name__)
_LONGEST_TAG = 5000  # characters that every version of MLflow takes
_ENDED = ("FINISHED", "KILLED", "FAILED")

LogEntry = dict[str, Any]
"""One write as plain values: ``do`` names a method of MlflowStudy, ``trial`` is the trial, the rest are arguments."""


@dataclass
class _Child:
    """A trial's run: its id and status, its written epochs (not read if it has ended), and its tag THAWED."""

    run_id: str
    status: str
    epochs: set[int]
    thawed: str = ""


class MlflowStudy:
    """A study's experiment and runs, as one driver reads and writes them; to be used by one thread only.

    Opening a study that is in the store continues its runs; no epoch is written twice to a run. A method that fails
    raises MLflow's error. It may be called again, even if the store has written a part of the data.

    Args:
        uri: MLflow's tracking URI.
        artifacts: folder for artifacts; not used with an MLflow server, which chooses the folder itself.
        spec: the study.
        driver: the driver's name in the study.
        origin: where the study was imported from; the runs of an imported study have no tags of versions.
        lengthened: the tag LENGTHENED of resnet_core.schema; empty for none.

    Attributes:
        study: the study's name.
        shown: the URI without a password, for messages.
        metric: the metric that counts.
        tags: the tags of every run of the study.
        note_changed: whether write_note has something new to write.
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
        self.metric = spec.objective.metric
        self.study, self.shown = spec.name, without_password(uri)
        self.tags = {schema.STUDY_HASH: study_hash(spec)} | ({} if origin else {schema.CODE_VERSION: code_version()})
        self.note_changed = False
        self._note = Note(spec.description, spec.objective, spec.space)
        self._children: dict[int, _Child] = {}

    def written(self) -> dict[int, WrittenRun]:
        """Return, by trial number, the status of the trial's run and, unless it has ended, its written epochs."""
        return {number: WrittenRun(child.status, frozenset(child.epochs)) for number, child in self._children.items()}

    def open(self) -> None:
        """Continue the study in the store, or create it there.

        Raises:
            SweepError: the store has an imported study of this name.
        """
        from mlflow.entities import RunTag

        spec = self._spec
        # A launch without a driver's name comes from a version in which a study had only one driver.
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
                **_objective_tags(objective),
                schema.SUSTAINED: str(objective.sustained),
                schema.LONGEST_HORIZON: str(longest_horizon(spec)),
                schema.STOPPING_RULES: json.dumps(rule_modes(spec)),
                schema.PHASE: spec.phase,
                **(_space_tag(spec) if self._origin is None else {}),
                **({schema.CONFIRMS: spec.confirms} if spec.confirms else {}),
                **self._about(),
                **self.tags,
            }
            run = self._client.create_run(self._experiment, tags=tags, run_name=spec.name)
            self._parent = run.info.run_id
        self.refresh()

    def existing_launch(self) -> tuple[str, Origin | None] | None:
        """Return the status and the origin of a launch of this study in the store; None if there is none.

        Raises:
            InputError: the experiment of this name was deleted, but can still be restored.
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

    def delete_runs(self) -> None:
        """Delete the runs of an imported study; the first step already hides the study from readers."""
        launches = self._runs(schema.LAUNCH)
        for run in launches:
            self._client.update_run(run.info.run_id, status="RUNNING")
        for run in [*self._runs(schema.TRIAL), *launches]:
            self._client.delete_run(run.info.run_id)

    def refresh(self) -> None:
        """Read from the store which trials have runs, and the state of these runs."""
        for run in self._runs(schema.TRIAL):
            number = int(run.data.tags[schema.TRIAL_NUMBER])
            self._children[number] = self._child(run)
            self._note.begun(number, run.info.run_name, run.data.params)
            if run.info.status in _ENDED:
                self._note.ended(number, run.data.metrics, run.data.tags)
        self.note_changed = bool(self._children)

    def adopt(self, number: int) -> frozenset[int]:
        """Continue the run of a trial that another driver began; return the run's written epochs."""
        query = f"{_of_kind(schema.TRIAL)} and tags.`{schema.TRIAL_NUMBER}` = '{number}'"
        for run in self._client.search_runs([self._experiment], query):
            self._children[number] = self._child(run)
            return frozenset(self._children[number].epochs)
        return frozenset()

    def apply(self, entry: LogEntry) -> None:
        """Write an entry; data that the store has already is not written again."""
        do, number, rest = entry["do"], entry["trial"], {k: v for k, v in entry.items() if k not in ("do", "trial")}
        child = self._children.get(number)
        reopened = do == "begin" and child is not None and rest["tags"].get(schema.THAWED, "") != child.thawed
        if child is not None and child.status in _ENDED and not reopened:
            return  # a run that has ended is complete
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
            # An earlier process left the entry for another store. In this store the trial begins again, or its
            # checkpoint is written.
            _log.debug("trial %d has no run in MLflow (%s)", number, self.shown)

    def write_note(self) -> None:
        """Write the parent run's note. If that fails, nothing is retried: the next note replaces it."""
        self.note_changed = False
        try:
            self._client.set_tag(self._parent, schema.NOTE, str(self._note))
        except Exception as error:
            _log.debug("the note of study %s was not written: %s", self.study, error)

    def close(self, status: str, expired: Collection[str]) -> None:
        """Close the parent run with an MLflow status; close those that ``expired`` drivers left open as KILLED."""
        self.write_note()
        self._client.set_terminated(self._parent, status)
        for run in self._runs(schema.LAUNCH) if expired else []:
            if run.data.tags.get(schema.DRIVER) in expired and run.info.status not in _ENDED:
                self._client.set_terminated(run.info.run_id, "KILLED")

    def reason_of(self, error: BaseException) -> str:
        """Return why the store cannot be used, in one line."""
        return schema_reason(error, self._uri) or reason_of(error)

    @cached_property
    def _client(self) -> MlflowClient:
        mlflow_internals.set_environment(fail_soon=True)
        from mlflow import MlflowClient

        return MlflowClient(self._uri)

    @cached_property
    def _experiment(self) -> str:
        name = self._spec.name
        found = self._client.get_experiment_by_name(name)
        if found is None:
            # A server chooses the folder of artifacts itself.
            folder = None if self._uri.startswith("http") else (self._artifacts / name).resolve().as_uri()
            tags = {
                **mlflow_internals.EXPERIMENT_KIND,
                view.TAG: view.view(self._spec, timestamp()),
            }
            try:
                return str(self._client.create_experiment(name, artifact_location=folder, tags=tags))
            except Exception:
                found = self._client.get_experiment_by_name(name)
                if found is None:
                    raise
                # Another driver has just created it.
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
        # A request for each run is slow, and is not needed for runs that have ended: they are not written again.
        unfinished = run.info.status in ("RUNNING", "SCHEDULED") and self.metric in run.data.metrics
        epochs = self._written_epochs(run.info.run_id) if unfinished else set()
        return _Child(run.info.run_id, run.info.status, epochs, run.data.tags.get(schema.THAWED, ""))

    def _written_epochs(self, run_id: str) -> set[int]:
        return {point.step for point in self._client.get_metric_history(run_id, self.metric)}

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
        # Also for a continued run: an earlier process may have been killed before it wrote the parameters. MLflow
        # accepts the same value twice.
        self._client.log_batch(child.run_id, params=[Param(key, value) for key, value in params.items()])

    def _reopen(self, child: _Child, thawed: str) -> None:
        """Remove a run's outcome, so that it can go on. The tag THAWED is set last: it marks this as done."""
        child.epochs = self._written_epochs(child.run_id)
        tags = self._client.get_run(child.run_id).data.tags
        for name in (schema.OUTCOME, schema.STOPPED_BY, schema.STOP_REASON):
            if name in tags:
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


def _objective_tags(objective: Objective) -> dict[str, str]:
    tags = {} if objective.is_accuracy else {schema.METRIC: objective.metric, schema.GOAL: objective.goal}
    return tags if objective.target is None else {**tags, schema.TARGET: repr(objective.target)}


def _of_kind(kind: str) -> str:
    """Return the filter with which a search finds runs of a kind."""
    return f"tags.`{schema.KIND}` = '{kind}'"


def _space_tag(spec: StudySpec) -> dict[str, str]:
    """Return the tag SPACE; empty if its value is too long for MLflow."""
    space = {name: parameter.model_dump(by_alias=True, exclude_none=True) for name, parameter in spec.space.items()}
    text = json.dumps(space)
    return {schema.SPACE: text} if len(text) <= _LONGEST_TAG else {}


def timestamp() -> int:
    """Return the current time in MLflow's unit: milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def attach_artifacts(uri: str, study: str, files: Sequence[Path], children: Mapping[str, Sequence[Path]]) -> None:
    """Add files to runs as artifacts, under their file names; artifacts of the same name are replaced.

    Args:
        uri: MLflow's tracking URI.
        study: the study's name.
        files: files for the run of its launch.
        children: files for other runs, by run id.

    Raises:
        SweepError: MLflow cannot be used, or it has no such study.
    """
    mlflow_internals.set_environment()
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    shown = without_password(uri)
    try:
        client = MlflowClient(uri)
        found = client.get_experiment_by_name(study)
        launches = client.search_runs([found.experiment_id], _of_kind(schema.LAUNCH)) if found else []
        if not launches:
            raise SweepError(f"MLflow ({shown}) has no study {study!r}")
        for run_id, paths in {launches[0].info.run_id: files, **children}.items():
            for path in paths:
                client.log_artifact(run_id, str(path))
    except (MlflowException, OSError) as error:
        raise SweepError(f"MLflow ({shown}) cannot be used: {schema_reason(error, uri) or reason_of(error)}") from error
