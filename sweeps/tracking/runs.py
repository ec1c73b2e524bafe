"""A study in MLflow: an experiment with a parent run for each driver, and below it a child run for each trial.

The only module of sweeps that imports mlflow. sweeps.tracking.writer decides when it is called, and keeps the data
while the store cannot be written. The names of tags, parameters and metrics are in resnet_core.schema.
"""

from __future__ import annotations

import importlib.metadata
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
from resnet_core.paths import sqlite_path
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
    from mlflow.entities import Experiment, Run

_log = logging.getLogger(__name__)
_LONGEST_TAG = 5000  # characters that every version of MLflow takes
_ENDED = ("FINISHED", "KILLED", "FAILED")

LogEntry = dict[str, Any]
"""One write as plain values: ``do`` names a method of MlflowStudy, ``trial`` is the trial, the rest are arguments."""


_REFUSALS = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "INVALID_STATE")
"""MLflow's codes of errors that come again however often the request is repeated."""


class _GoneError(Exception):
    """A trial's run was removed from the store for good; it can be begun again."""

    error_code = _REFUSALS[0]


@dataclass
class _Child:
    """A trial's run.

    Attributes:
        run_id: its id in MLflow.
        status: its status; RUNNING where it is ended by its status, but has no outcome: somebody else set the status.
        epochs: its written epochs; not read if it has ended.
        outcome: its tag OUTCOME.
        thawed: its tag THAWED.
        deleted: its parameters, if it was deleted in MLflow; else None.
    """

    run_id: str
    status: str
    epochs: set[int]
    outcome: str = ""
    thawed: str = ""
    deleted: Mapping[str, str] | None = None

    @property
    def has_ended(self) -> bool:
        return self.status in _ENDED

    def ended_as(self, status: str, tags: Mapping[str, str]) -> bool:
        """Return whether the run has this status and the outcome in these tags."""
        return (self.status, self.outcome) == (status, tags[schema.OUTCOME])


class MlflowStudy:
    """A study's experiment and runs, as one driver reads and writes them; to be used by one thread only.

    Opening a study that is in the store continues its runs; no epoch is written twice to a run. A method that fails
    raises MLflow's error. It may be called again, even if the store has written a part of the data.

    People may change in MLflow what this class has written. The experiment is found by its tag STUDY, so that it keeps
    the name that they give it. What the study still writes to is restored, or begun again, if they delete it. The runs
    of trials that have ended stay as they are left.

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
        file = sqlite_path(uri)
        self._new_file = file if file is not None and not file.exists() else None
        self._note = Note(spec.description, spec.objective, spec.space)
        self._experiment = ""
        self._children: dict[int, _Child] = {}
        self._strays: dict[str, Run] = {}  # by name: runs of trials without a usable number
        self._begun: dict[int, LogEntry] = {}  # of the trials that have not ended: what begins their runs again

    @property
    def in_new_file(self) -> bool:
        """Whether the store was a SQLite file that did not exist yet: it had no run of the study."""
        return self._new_file is not None

    def written(self) -> dict[int, WrittenRun]:
        """Return, by trial number, the status of the trial's run and, unless it has ended, its written epochs."""
        return {
            number: WrittenRun(child.status, frozenset(child.epochs), child.deleted is not None, child.outcome)
            for number, child in self._children.items()
        }

    def open(self) -> None:
        """Continue the study in the store, or create it there; restore its experiment and its launch if deleted.

        Raises:
            SweepError: the store has an imported study of this name, or another study's experiment has this name.
        """
        from mlflow.entities import RunTag

        spec = self._spec
        self._experiment = self._open_experiment()
        runs = self._all_runs()
        # A launch without a driver's name comes from a version in which a study had only one driver.
        launches = {
            run.data.tags.get(schema.DRIVER, ""): run
            for run in sorted(runs, key=_is_active)
            if schema.is_launch(run.data.tags)
        }
        launch = launches.get(self._driver, launches.get(""))
        if launch is not None and not _is_active(launch) and Origin.of_tags(launch.data.tags):
            launch = None  # a replaced import
        if launch is not None:
            if self._origin is None and Origin.of_tags(launch.data.tags):
                raise SweepError(f"study {self.study!r} in it was imported; launch under another --name")
            self._parent = launch.info.run_id
            if not _is_active(launch):
                self._client.restore_run(self._parent)
                _log.warning("MLflow (%s): the run of the study's launch was deleted, and is restored", self.shown)
            self._client.update_run(self._parent, status="RUNNING")
            tags = self._launch_tags() | self._about()
            self._client.log_batch(self._parent, tags=[RunTag(name, value) for name, value in tags.items()])
        else:
            tags = {schema.NOTE: str(self._note), **self._launch_tags(), **self._about()}
            run = self._client.create_run(self._experiment, tags=tags, run_name=spec.name)
            self._parent = run.info.run_id
        parents = {self._parent, *(run.info.run_id for run in launches.values())}
        self._read(runs)
        for run in runs:
            number, tags = _number(run), run.data.tags
            if number is not None and self._children[number].run_id == run.info.run_id and _is_active(run):
                right = {schema.KIND: schema.TRIAL}
                if tags.get(schema.PARENT_RUN) not in parents:
                    right[schema.PARENT_RUN] = self._parent
                if not right.items() <= tags.items():
                    self._client.log_batch(run.info.run_id, tags=[RunTag(name, value) for name, value in right.items()])

    def _launch_tags(self) -> dict[str, str]:
        spec, objective = self._spec, self._spec.objective
        return {
            schema.KIND: schema.LAUNCH,
            **_objective_tags(objective),
            schema.SUSTAINED: str(objective.sustained),
            schema.LONGEST_HORIZON: str(longest_horizon(spec)),
            schema.STOPPING_RULES: json.dumps(rule_modes(spec)),
            schema.PHASE: spec.phase,
            **(_space_tag(spec) if self._origin is None else {}),
            **({schema.CONFIRMS: spec.confirms} if spec.confirms else {}),
            **self.tags,
        }

    def existing_launch(self) -> tuple[str, Origin | None] | None:
        """Return the status and the origin of a launch of this study in the store; None if there is none.

        Raises:
            InputError: the experiment of this name was deleted, but can still be restored.
        """
        found = find_experiment(self._client, self.study)
        if found is None:
            return None
        self._experiment = found.experiment_id
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
        self._read(self._all_runs())

    def _read(self, runs: Sequence[Run]) -> None:
        self._children, self._strays = {}, {}
        for run in sorted(runs, key=_is_active):
            number = _number(run)
            if number is None:
                if _is_active(run) and run.data.tags.get(schema.KIND) == schema.TRIAL:
                    self._strays[run.info.run_name] = run
                continue
            self._children[number] = child = self._child(run)
            if child.deleted is None:
                self._note.begun(number, run.info.run_name, schema.whole(run.data.params))
                if child.has_ended:
                    self._note.ended(number, run.data.metrics, run.data.tags)
        self.note_changed = bool(self._children)

    def adopt(self, number: int) -> frozenset[int]:
        """Continue the run of a trial that another driver began; return the run's written epochs."""
        query = f"{_of_kind(schema.TRIAL)} and tags.`{schema.TRIAL_NUMBER}` = '{number}'"
        for run in self._client.search_runs([self._experiment], query):
            self._children[number] = self._child(run)
            return frozenset(self._children[number].epochs)
        return frozenset()

    def refuses(self, error: Exception) -> bool:
        """Return whether an error says that the store is there, but never takes what it was given."""
        return getattr(error, "error_code", None) in _REFUSALS

    def repair(self, number: int) -> None:
        """Restore what somebody deleted in MLflow and a running trial needs; begin again what is gone for good."""
        self.open()
        if number in self._begun:
            child = self._children.get(number)
            if child is None or child.deleted is not None:
                self.apply(self._begun[number])

    def apply(self, entry: LogEntry) -> None:
        """Write an entry; data that the store has already is not written again."""
        do, number, rest = entry["do"], entry["trial"], {k: v for k, v in entry.items() if k not in ("do", "trial")}
        child = self._children.get(number)
        reopened = do == "begin" and child is not None and rest["tags"].get(schema.THAWED, "") != child.thawed
        if child is not None and child.has_ended and not reopened:
            if do == "begin" and child.deleted is not None:
                child = None  # the ledger has a trial of this number that has not ended: it is another one
            elif do != "end" or child.deleted is not None or child.ended_as(rest["status"], rest["tags"]):
                return  # a run that has ended is complete, unless people have changed how it ended
        if do == "begin":
            self._begun[number] = entry
            self._begin(number, child, **rest)
        elif child is not None:
            tags = self._begun.get(number, {}).get("tags", {}) | rest.get("tags", {})
            if do == "end":
                rest["tags"] = tags  # all again: people may have changed them meanwhile
            writers: dict[str, Callable[..., None]] = {
                "place": self._place,
                "epochs": self._epochs,
                "end": self._end,
                "pause": self._pause,
            }
            writers[do](child, **rest)
            if do == "place" and number in self._begun:
                self._begun[number] = {**self._begun[number], "tags": tags}
            if do == "end":
                self._begun.pop(number, None)
                if number in self._note:  # not if the run began in an earlier process, and is gone
                    self._note.ended(number, rest["metrics"], rest["tags"])
                    self.note_changed = True
        elif number in self._begun:
            raise _GoneError(f"the run of trial {number} is gone")
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

        if self._new_file is not None:
            mlflow_internals.make_database(self._new_file)
        return MlflowClient(self._uri)

    def _open_experiment(self) -> str:
        """Return the id of the study's experiment; create it, or restore it if it was deleted."""
        found = find_experiment(self._client, self.study)
        tags = {
            **mlflow_internals.EXPERIMENT_KIND,
            view.TAG: view.view(self._spec, timestamp()),
            schema.STUDY: self.study,
        }
        if found is None:
            # A server chooses the folder of artifacts itself.
            folder = None if self._uri.startswith("http") else (self._artifacts / self.study).resolve().as_uri()
            try:
                return str(self._client.create_experiment(self.study, artifact_location=folder, tags=tags))
            except Exception:
                found = find_experiment(self._client, self.study)
                if found is None:
                    raise
                # Another driver has just created it.
        if found.lifecycle_stage != "active":
            self._client.restore_experiment(found.experiment_id)
            _log.warning("MLflow (%s): experiment %r was deleted, and is restored", self.shown, found.name)
        if schema.STUDY not in found.tags:  # of an older version, or somebody made it beforehand
            for name, value in tags.items():
                self._client.set_experiment_tag(found.experiment_id, name, value)
        return str(found.experiment_id)

    def _all_runs(self) -> list[Run]:
        """Return the runs of the experiment; deleted ones, too, unless the study is an import."""
        from mlflow.entities import ViewType

        # An import deletes the runs of the one that it replaces.
        which = ViewType.ALL if self._origin is None else ViewType.ACTIVE_ONLY
        return _search_runs(self._client, self._experiment, "", which)

    def _runs(self, kind: str) -> list[Run]:
        return _search_runs(self._client, self._experiment, _of_kind(kind))

    def _child(self, run: Run) -> _Child:
        tags, status = run.data.tags, run.info.status
        if status in _ENDED and schema.OUTCOME not in tags:
            status = "RUNNING"
        # A request for each run is slow, and is not needed for runs that have ended: they are not written again.
        unfinished = status not in _ENDED and self.metric in run.data.metrics
        epochs = self._written_epochs(run.info.run_id) if unfinished else set()
        deleted = None if _is_active(run) else schema.whole(run.data.params)
        outcome, thawed = tags.get(schema.OUTCOME, ""), tags.get(schema.THAWED, "")
        return _Child(run.info.run_id, status, epochs, outcome, thawed, deleted)

    def _written_epochs(self, run_id: str) -> set[int]:
        return {point.step for point in self._client.get_metric_history(run_id, self.metric)}

    def _about(self) -> dict[str, str]:
        driver = {schema.DRIVER: self._driver} if self._driver else {}
        about = versions() if self._origin is None else self._origin.tags()
        lengthened = {schema.LENGTHENED: self._lengthened} if self._lengthened else {}
        return {schema.DESCRIPTION: tag_text(self._spec.description), **lengthened, **driver, **about}

    def _begin(
        self, number: int, child: _Child | None, name: str, tags: dict[str, str], params: dict[str, str]
    ) -> None:
        from mlflow.entities import Param

        thawed = tags.get(schema.THAWED, "")
        if child is not None and child.deleted is not None:
            if any(params.get(key, value) != value for key, value in child.deleted.items()):
                child = None  # the run of another trial
            else:
                self._client.restore_run(child.run_id)
                child.deleted = None
                _log.warning("MLflow (%s): the run of trial %s was deleted, and is restored", self.shown, name)
        if child is None and name in self._strays:
            child = self._children[number] = self._child(self._strays.pop(name))
            self._place(child, {schema.PARENT_RUN: self._parent, **tags})
        if child is None:
            tags = {schema.PARENT_RUN: self._parent, **tags}
            run = self._client.create_run(self._experiment, tags=tags, run_name=name)
            child = self._children[number] = _Child(run.info.run_id, "RUNNING", set(), thawed=thawed)
        else:
            self._set_status(child, "RUNNING")
            if child.thawed != thawed:
                self._reopen(child, thawed)
        self._note.begun(number, name, params)
        # Also for a continued run: an earlier process may have been killed before it wrote the parameters. MLflow
        # accepts the same value twice.
        self._client.log_batch(child.run_id, params=[Param(*param) for param in schema.in_parts(params).items()])

    def _reopen(self, child: _Child, thawed: str) -> None:
        """Remove a run's outcome, so that it can go on. The tag THAWED is set last: it marks this as done."""
        child.epochs = self._written_epochs(child.run_id)
        tags = self._client.get_run(child.run_id).data.tags
        for name in (schema.OUTCOME, schema.STOPPED_BY, schema.STOP_REASON):
            if name in tags:
                self._client.delete_tag(child.run_id, name)
        self._client.set_tag(child.run_id, schema.THAWED, thawed)
        child.thawed, child.outcome = thawed, ""

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
        child.status, child.outcome = status, tags[schema.OUTCOME]

    def _pause(self, child: _Child) -> None:
        self._set_status(child, "SCHEDULED")

    def _set_status(self, child: _Child, status: str) -> None:
        self._client.update_run(child.run_id, status=status)
        child.status = status


def _objective_tags(objective: Objective) -> dict[str, str]:
    tags = {} if objective.is_accuracy else {schema.METRIC: objective.metric, schema.GOAL: objective.goal}
    return tags if objective.target is None else {**tags, schema.TARGET: repr(objective.target)}


def find_experiment(client: MlflowClient, study: str) -> Experiment | None:
    """Return a study's experiment, deleted or not, whatever its name is now; None if there is none.

    Raises:
        SweepError: another study's experiment has this name.
    """
    from mlflow.entities import ViewType

    query = f"tags.`{schema.STUDY}` = '{study}'"
    # The oldest: people may copy the tag to another experiment.
    if marked := client.search_experiments(ViewType.ALL, 1, query, ["creation_time ASC"]):
        return marked[0]
    found = client.get_experiment_by_name(study)  # from a version without the tag
    if found is not None and (other := found.tags.get(schema.STUDY)):
        raise SweepError(
            f"the experiment {study!r} is study {other!r}, renamed in MLflow; take another --name, or give the "
            "experiment another name there"
        )
    return found


def charts_address(address: str, study: str) -> str:
    """Return where a server's UI shows the curves of a study's trials, side by side.

    Args:
        address: the server's, such as ``http://127.0.0.1:5000``; it must answer.
        study: the study's name.

    Raises:
        SweepError: the server has no such study.
    """
    mlflow_internals.set_environment()
    from mlflow import MlflowClient

    found = find_experiment(MlflowClient(address), study)
    if found is None:
        raise SweepError(f"MLflow ({address}) has no study {study!r}")
    # MLflow's other face, for agents, knows nothing of training.
    options = f"compareRunsMode=CHART&viewStateShareKey={view.NAME}&workflowType=machine_learning"
    return f"{address}/#/experiments/{found.experiment_id}/runs?{options}"


def _number(run: Run) -> int | None:
    """Return the number of the trial whose run this is; None if it is no trial's, or the number was changed."""
    number = run.data.tags.get(schema.TRIAL_NUMBER, "")
    return int(number) if number.isdecimal() else None


def _is_active(run: Run) -> bool:
    return bool(run.info.lifecycle_stage == "active")


def _search_runs(client: MlflowClient, experiment: str, query: str, which: int = 1) -> list[Run]:
    """Return all runs that a search finds; ``which`` is MLflow's ViewType, and 1 stands for active runs."""
    runs: list[Run] = []
    token = None
    while True:
        page = client.search_runs([experiment], query, which, max_results=1000, page_token=token)
        runs.extend(page)
        token = page.token
        if not token:
            return runs


def _of_kind(kind: str) -> str:
    """Return the filter with which a search finds runs of a kind."""
    return f"tags.`{schema.KIND}` = '{kind}'"


def _space_tag(spec: StudySpec) -> dict[str, str]:
    """Return the tag SPACE; empty if its value is too long for MLflow."""
    space = {name: parameter.model_dump(by_alias=True, exclude_none=True) for name, parameter in spec.space.items()}
    text = json.dumps(space)
    return {schema.SPACE: text} if len(text) <= _LONGEST_TAG else {}


def tag_text(text: str) -> str:
    """Return a text as a tag can hold it: one that is too long ends with ``…``."""
    return text if len(text) <= _LONGEST_TAG else f"{text[: _LONGEST_TAG - 1]}…"


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
        found = find_experiment(client, study)
        launches = client.search_runs([found.experiment_id], _of_kind(schema.LAUNCH)) if found else []
        if not launches:
            raise SweepError(f"MLflow ({shown}) has no study {study!r}")
        for run_id, paths in {launches[0].info.run_id: files, **children}.items():
            for path in paths:
                client.log_artifact(run_id, str(path))
    except (MlflowException, OSError) as error:
        raise SweepError(f"MLflow ({shown}) cannot be used: {schema_reason(error, uri) or reason_of(error)}") from error


def log_networks(uri: str, study: str, networks: Mapping[str, Path], folder: Path | None) -> int:
    """Add kept networks to the runs of their trials, as MLflow models; a run that has one is left as it is.

    The models are in PyTorch's format of exported programs, which holds no pickle: whoever loads one needs neither this
    package nor the code of the network. To be called in a process of its own, since MLflow's settings are global.

    Args:
        uri: MLflow's tracking URI.
        study: the study's name.
        networks: files by name of the trial.
        folder: the folder of the code of networks of one's own; None where there are none.

    Returns:
        How many models were added.

    Raises:
        SweepError: MLflow cannot be used, or a network cannot be read.
    """
    mlflow_internals.set_environment()
    import mlflow.pytorch
    import numpy as np
    from mlflow import MlflowClient
    from mlflow.models import Model, ModelSignature
    from mlflow.types import Schema, TensorSpec

    from resnet_core.kept import load_model

    added = 0
    try:
        mlflow.set_tracking_uri(uri)
        client = MlflowClient(uri)
        found = find_experiment(client, study)
        if found is None:
            raise SweepError(f"MLflow ({without_password(uri)}) has no study {study!r}")
        mlflow.set_experiment(experiment_id=found.experiment_id)
        for run in _search_runs(client, found.experiment_id, _of_kind(schema.TRIAL)):
            path = networks.get(str(run.info.run_name))
            if path is None or (run.outputs and run.outputs.model_outputs):
                continue
            network = load_model(path, folder=folder)
            about = network.about
            shape = (about.channels, about.image_size, about.image_size)
            Model.log(
                None,
                name="network",
                flavor=mlflow.pytorch,
                run_id=run.info.run_id,
                step=about.epoch,
                pytorch_model=network,
                signature=ModelSignature(
                    inputs=Schema([TensorSpec(np.dtype(np.uint8), (-1, *shape))]),
                    outputs=Schema([TensorSpec(np.dtype(np.float32), (-1, len(about.classes)))]),
                ),
                input_example=np.zeros((2, *shape), np.uint8),  # of one image, the exporter would fix the number
                serialization_format="pt2",
                pip_requirements=[
                    f"{name}=={importlib.metadata.version(name)}" for name in ("mlflow", "torch", "numpy")
                ],
                metadata={"classes": list(about.classes), "trial": about.trial, "epoch": about.epoch},
            )
            added += 1
    except SweepError:
        raise
    except Exception as error:  # MLflow, the exporter and a network of one's own may raise anything at all
        raise SweepError(reason_of(error)) from error
    return added
