"""What is written to MLflow, when, and what happens where it cannot be."""

import errno
import json
import logging
import math
import os
import queue
import re
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn
from urllib.parse import quote

import pytest
from mlflow import MlflowClient
from sqlalchemy import event

import analysis
from resnet_core.config import TrialConfig
from resnet_core.records import Outcome
from search_spaces.spec import StudySpec
from search_spaces.study import study_hash
from sweeps.errors import SweepError
from sweeps.study.outcomes import Result
from sweeps.study.protocols import WrittenRun
from sweeps.study.trials import Job
from sweeps.tracking import writer as tracking
from sweeps.tracking.mlflow_internals import make_database, set_environment
from sweeps.tracking.runs import MlflowStudy, _space_tag, attach_artifacts
from sweeps.tracking.spool import Spool
from sweeps.tracking.writer import Tracker, begin_entry
from sweeps.version import code_version, versions
from tests.studies import CRASHED, MISSED, PRUNED, REACHED, SCHEDULE, epoch_record, sampled_study

NAN = float("nan")
DIVERGED = Result(Outcome.DIVERGED, 1, stopped_by="diverged", stop_reason="stopped at epoch 1: the loss is nan")

Open = Callable[..., Tracker]
spec = partial(sampled_study, horizon=4, description="Which rate?", objective={"target": 0.92, "sustained": 3})


def job(number: int) -> Job:
    return Job(number, f"run-{number}", TrialConfig(schedule=SCHEDULE, seed=40 + number), {"lr": 1e-3})


@pytest.fixture
def connect(store, tmp_path) -> Open:
    def connect(study: StudySpec, uri: str = f"sqlite:///{store.path}") -> Tracker:
        return Tracker(MlflowStudy(uri, tmp_path / "artifacts", study), tmp_path / f"{study.name}.jsonl")

    return connect


@pytest.fixture
def tracker(connect) -> Tracker:
    return connect(spec())


def runs_of(store: Any, name: str) -> dict[str, Any]:
    """The study's runs, by the number of the trial, or ``launch``."""
    experiment = store.client.get_experiment_by_name(name).experiment_id
    runs = store.client.search_runs([experiment])
    found = {run.data.tags.get("sweeps.trial", "launch"): run for run in runs}
    assert len(found) == len(runs)
    return found


def history(store: Any, run: Any, metric: str = "val_acc") -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in store.client.get_metric_history(run.info.run_id, metric)]


def test_a_new_file_is_not_waited_for_and_made_when_the_first_trial_begins(connect, tmp_path):
    file = tmp_path / "new.db"
    tracker = connect(spec(), f"sqlite:///{file}")
    assert tracker.written() == {}
    assert not file.exists()
    tracker.begin(job(0))
    assert list(tracker.written()) == [0]
    tracker.close("FINISHED")


@pytest.mark.parametrize(("seconds", "epochs"), [(3600, [epoch_record(1)]), (0.1, [])], ids=["epoch", "ten seconds"])
def test_a_new_file_is_made_after_the_first_epoch_or_ten_seconds(connect, tmp_path, monkeypatch, seconds, epochs):
    monkeypatch.setattr(tracking, "_FIRST_EPOCH_SECONDS", seconds)
    file = tmp_path / "new.db"
    tracker = connect(spec(), f"sqlite:///{file}")
    tracker.begin(job(0))
    tracker.place(job(0), {"device": "cpu", "node": "here"})
    for record in epochs:
        tracker.epoch(job(0), record)
    until = time.monotonic() + 60
    while not file.exists():
        assert time.monotonic() < until
        time.sleep(0.01)
    tracker.close("FINISHED")


def test_a_new_file_is_waited_for_where_entries_of_an_earlier_launch_wait(connect, tmp_path):
    study = spec()
    Spool(tmp_path / f"{study.name}.jsonl").append([begin_entry(job(0), {})])
    tracker = connect(study, f"sqlite:///{tmp_path / 'new.db'}")
    assert list(tracker.written()) == [0]
    tracker.close("FINISHED")


def test_a_file_that_is_there_is_asked(connect, tmp_path):
    study = spec()
    for _ in range(2):
        tracker = connect(study, f"sqlite:///{tmp_path / 'new.db'}")
        known = tracker.written()
        tracker.begin(job(0))
        tracker.close("SCHEDULED")
    assert list(known) == [0]


MAKES = """
import sys
from pathlib import Path
from sweeps.tracking.mlflow_internals import make_database, set_environment

set_environment()
make_database(Path(sys.argv[1]))
"""


def makes(file: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", MAKES, str(file)])


def test_a_process_that_is_killed_leaves_no_half_made_database(tmp_path):
    file = tmp_path / "100%" / "mlflow.db"
    process = makes(file)
    while not (left := list(file.parent.glob("*.partial"))) or left[0].stat().st_size < 100_000:
        assert process.poll() is None
        time.sleep(0.001)
    process.kill()
    process.wait()
    assert not file.exists()
    os.utime(left[0], (0, 0))
    make_database(file)
    assert list(file.parent.iterdir()) == [file]
    assert MlflowClient(f"sqlite:///{quote(str(file))}").create_experiment("works")


def test_processes_that_make_one_database_at_once_make_it_once(tmp_path):
    file = tmp_path / "mlflow.db"
    processes = [makes(file) for _ in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert list(tmp_path.iterdir()) == [file]
    with closing(sqlite3.connect(file)) as database:
        ((found,),) = database.execute("PRAGMA integrity_check")
    assert found == "ok"


def test_a_database_is_made_where_files_have_no_links(tmp_path, monkeypatch):
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    make_database(tmp_path / "mlflow.db")
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db"]


# What is in the store


@pytest.fixture(scope="module")
def study(store, tmp_path_factory) -> StudySpec:
    """A study that was written whole: trials that ended in each way, and one that still runs."""
    study = spec()
    folder = tmp_path_factory.mktemp("artifacts")
    tracker = Tracker(MlflowStudy(f"sqlite:///{store.path}", folder, study), folder / "spool.jsonl")
    for number, (result, epochs) in enumerate(
        [
            (REACHED, [epoch_record(1, 0.5), epoch_record(2, 0.93)]),
            (PRUNED, [epoch_record(1)]),
            (DIVERGED, [epoch_record(1, 0.1, loss=NAN)]),
            (CRASHED, []),
            (MISSED, [epoch_record(1), epoch_record(2)]),
            (None, [epoch_record(1)]),
        ]
    ):
        tracker.begin(job(number))
        tracker.place(job(number), {"device": "cpu", "node": "here"})
        for record in epochs:
            tracker.epoch(job(number), record)
        if result is not None:
            tracker.end(job(number), result)
    tracker.close("FINISHED")
    return study


@pytest.fixture(scope="module")
def runs(store, study) -> dict[str, Any]:
    return runs_of(store, study.name)


def test_a_study_is_an_experiment_with_a_run_for_the_launch_and_one_a_trial(runs):
    assert runs.keys() == {"launch", "0", "1", "2", "3", "4", "5"}


def test_the_launch_has_what_the_study_asks(runs, study):
    wanted = {
        "sweeps.kind": "launch",
        "description": "Which rate?",
        "target": "0.92",
        "sustained": "3",
        "longest_horizon": "4",
        "study_hash": study_hash(study),
        "code_version": code_version(),
    }
    assert wanted.items() <= runs["launch"].data.tags.items()
    assert runs["launch"].info.run_name == study.name


def test_the_launch_says_its_phase_and_what_is_sampled(runs):
    tags = runs["launch"].data.tags
    assert (tags["phase"], "confirms" in tags) == ("search", False)
    assert isinstance(json.loads(tags["space"]), dict)


def test_what_is_sampled_is_written_as_in_a_study_file():
    space = {"lr": {"low": 1e-3, "high": 2e-3, "log": True}, "batch_size": {"choices": [32, 64]}}
    train = {"schedule": "[lr, 0] lin[0, 4]"}
    sampled = StudySpec.model_validate({"name": "s", "train": train, "space": space, "search": {"trials": 1}})
    assert json.loads(_space_tag(sampled)["space"]) == {
        "lr": {"low": 1e-3, "high": 2e-3, "log": True, "int": False},
        "batch_size": {"choices": [32, 64]},
    }


def test_a_space_too_long_for_a_tag_is_left_out():
    choices = [f"[1e-3, 0] lin[{i}e-6, 400]" for i in range(1, 400)]
    space = {"schedule": {"choices": choices}}
    assert _space_tag(StudySpec.model_validate({"name": "s", "space": space, "search": {"trials": 1}})) == {}


def test_texts_of_any_length_are_kept_whole_or_end_with_dots(store, connect):
    study = spec(description="d" * 9_000)
    schedule = "[1e-3, 0] " + " ".join(f"lin[{1000 + i}e-6, {i + 1}]" for i in range(500))
    config = TrialConfig(schedule=schedule, seed=1)
    long = Job(0, "run-0", config, {"schedule": schedule})
    crashed = replace(CRASHED, stop_reason="r" * 9_000)
    for _ in range(2):  # a parameter is the same at the next launch, or the store would refuse it
        tracker = connect(study)
        tracker.begin(long)
        tracker.close("SCHEDULED")
    tracker = connect(study)
    tracker.begin(long)
    tracker.end(long, crashed)
    tracker.close("FINISHED")
    found = analysis.load(store.path, study.name)
    (trial,) = found.trials.to_dict("records")
    assert min(len(config.schedule), len(schedule)) > 6_000
    assert (trial["schedule"], trial["space.schedule"]) == (config.schedule, schedule)
    assert [name for name in trial if "/" in name] == []
    assert (trial["stop_reason"], found.description) == ("r" * 4_999 + "…", "d" * 4_999 + "…")


def test_the_store_refuses_what_is_too_long(store, connect):
    study = spec()
    tracker = connect(study)
    tracker.begin(job(0))
    tracker._put({"do": "place", "trial": 0, "tags": {"node": "n" * 9_000}})
    with pytest.raises(SweepError, match="refused what belongs to the trials with the numbers 0"):
        tracker.close("SCHEDULED")
    assert "node" not in runs_of(store, study.name)["0"].data.tags


def test_the_launch_says_which_versions_it_ran_with(runs):
    tags = runs["launch"].data.tags
    assert {name: tags[name] for name in versions()} == versions()


def test_the_note_has_the_description_and_the_trials(runs):
    note = runs["launch"].data.tags["mlflow.note.content"]
    assert note.startswith("Which rate?")
    assert "| run-0 | 3 |" in note
    assert "run-5" not in note  # still runs


def test_the_note_of_a_continued_study_has_its_earlier_trials(store, connect):
    study = spec()
    for number in range(2):
        tracker = connect(study)
        tracker.begin(job(number))
        tracker.end(job(number), REACHED)
        tracker.close("FINISHED")
    note = runs_of(store, study.name)["launch"].data.tags["mlflow.note.content"]
    assert "| run-0 |" in note
    assert "| run-1 |" in note


def test_the_note_is_written_while_the_study_runs(store, connect, monkeypatch):
    monkeypatch.setattr(tracking, "_NOTE_SECONDS", 0.05)
    study = spec()
    tracker = connect(study)
    tracker.begin(job(0))
    tracker.end(job(0), REACHED)
    tracker.written()

    def note() -> str:
        return runs_of(store, study.name)["launch"].data.tags["mlflow.note.content"]

    assert eventually(lambda: "| run-0 |" in note())
    tracker.close("FINISHED")


def test_the_note_is_not_written_more_often_than_its_interval(tracker, monkeypatch):
    monkeypatch.setattr(tracking, "_NOTE_SECONDS", 3600.0)
    calls: Counter[str] = Counter()
    monkeypatch.setattr(tracker._runs, "write_note", counted(calls, "notes", tracker._runs.write_note))
    for number in range(3):
        tracker.begin(job(number))
        tracker.end(job(number), REACHED)
        tracker.written()
        assert eventually(lambda: calls["notes"] == 1)
    tracker.close("FINISHED")


def test_a_note_that_cannot_be_written_is_no_failure(store, connect, monkeypatch):
    def refuse(*_: Any) -> NoReturn:
        raise ValueError("too long")

    study = spec()
    tracker = connect(study)
    tracker.written()
    monkeypatch.setattr(tracker._runs._client, "set_tag", refuse)
    tracker.begin(job(0))
    tracker.end(job(0), REACHED)
    tracker.close("FINISHED")
    assert runs_of(store, study.name)["0"].info.status == "FINISHED"


def test_files_are_added_to_runs(store, connect, tmp_path):
    study = spec()
    tracker = connect(study)
    tracker.begin(job(0))
    tracker.close("FINISHED")
    runs = runs_of(store, study.name)
    report, curves = tmp_path / "report.html", tmp_path / "curves.png"
    for path in (report, curves):
        path.write_text(path.name)
    attach_artifacts(f"sqlite:///{store.path}", study.name, [report], {runs["0"].info.run_id: [curves]})
    found = {key: [f.path for f in store.client.list_artifacts(run.info.run_id)] for key, run in runs.items()}
    assert found == {"launch": ["report.html"], "0": ["curves.png"]}


def test_files_of_an_unknown_study_are_refused(store):
    with pytest.raises(SweepError, match="has no study 'nobody'"):
        attach_artifacts(f"sqlite:///{store.path}", "nobody", [], {})


def test_a_missing_file_cannot_be_added_to_a_run(store, tracker, tmp_path):
    tracker.close("FINISHED")
    with pytest.raises(SweepError, match=r"MLflow \(sqlite:.*\) cannot be used: .*gone\.html"):
        attach_artifacts(f"sqlite:///{store.path}", tracker._runs.study, [tmp_path / "gone.html"], {})


def eventually(happened: Callable[[], bool], seconds: float = 120) -> bool:
    end = time.monotonic() + seconds
    while not happened() and time.monotonic() < end:
        time.sleep(0.02)
    return happened()


def test_a_closed_launch_has_the_given_status(runs):
    assert runs["launch"].info.status == "FINISHED"


def test_a_trial_has_tags_of_what_it_is_and_where_it_ran(runs, study):
    wanted = {
        "mlflow.parentRunId": runs["launch"].info.run_id,
        "sweeps.kind": "trial",
        "sweeps.trial": "2",
        "seed": "42",
        "device": "cpu",
        "node": "here",
        "study_hash": study_hash(study),
        "code_version": code_version(),
    }
    assert wanted.items() <= runs["2"].data.tags.items()
    assert runs["2"].info.run_name == "run-2"


def test_a_trials_parameters_are_its_config_and_what_was_sampled(runs):
    config = job(2).config
    values = config.to_dict() | {"lr_alpha": 0.001, "horizon": 4, "space.lr": 0.001}
    assert runs["2"].data.params == {name: str(value) for name, value in values.items()}


@pytest.mark.parametrize(
    "metric", [name for name, value in epoch_record(1).to_dict().items() if name != "epoch" and value]
)
def test_every_value_of_an_epoch_is_a_metric_at_its_step(store, runs, metric):
    points = history(store, runs["0"], metric)
    assert points == [(1, getattr(epoch_record(1, 0.5), metric)), (2, getattr(epoch_record(2, 0.93), metric))]


@pytest.mark.parametrize("metric", ["power_watts", "gpu_util_percent"])
def test_a_value_that_an_epoch_lacks_is_no_metric(store, runs, metric):
    assert history(store, runs["0"], metric) == []


def test_a_loss_of_nan_is_kept(store, runs):
    ((step, loss),) = history(store, runs["2"], "loss")
    assert step == 1
    assert math.isnan(loss)


@pytest.mark.parametrize(
    ("number", "status", "outcome", "stopped_by", "stop_reason"),
    [
        ("0", "FINISHED", "reached", None, None),
        ("1", "KILLED", "pruned", "cap", "too slow"),
        ("2", "FAILED", "diverged", "diverged", "stopped at epoch 1: the loss is nan"),
        ("3", "FAILED", "crashed", None, "disk full"),
        ("4", "FINISHED", "exhausted", None, None),
        ("5", "RUNNING", None, None, None),
    ],
)
def test_a_trial_ends_with_its_status_and_reason(runs, number, status, outcome, stopped_by, stop_reason):
    run = runs[number]
    tags = [run.data.tags.get(name) for name in ("outcome", "stopped_by", "stop_reason")]
    assert [run.info.status, *tags] == [status, outcome, stopped_by, stop_reason]
    assert (run.info.end_time is None) == (outcome is None)


def test_the_result_is_metrics(runs):
    values = {name: value for name, value in REACHED.to_dict().items() if isinstance(value, int | float)}
    assert values.items() <= runs["0"].data.metrics.items()


def test_a_result_without_a_value_is_no_metric(runs):
    assert "epochs_to_target" not in runs["1"].data.metrics
    assert "objective" not in runs["2"].data.metrics


def test_artifacts_are_under_the_folder_of_artifacts(store, connect, tmp_path):
    study = spec()
    connect(study).close("FINISHED")
    found = store.client.get_experiment_by_name(study.name)
    assert found.artifact_location == (tmp_path / "artifacts" / study.name).as_uri()


def test_an_experiment_that_another_driver_has_just_created_is_used(store, tmp_path, monkeypatch):
    runs = MlflowStudy(f"sqlite:///{store.path}", tmp_path / "artifacts", spec())
    monkeypatch.setattr(runs._client, "create_experiment", lost_once(runs._client.create_experiment))
    runs.open()
    assert runs_of(store, runs.study).keys() == {"launch"}


def test_an_experiment_that_cannot_be_created_is_an_error_with_the_reason(store, tmp_path, monkeypatch):
    runs = MlflowStudy(f"sqlite:///{store.path}", tmp_path / "artifacts", spec())
    monkeypatch.setattr(runs._client, "create_experiment", lambda *_args, **_kwargs: disk_full())
    with pytest.raises(OSError, match="No space left on device"):
        runs.open()


@pytest.mark.parametrize(("level", "said"), [(logging.DEBUG, logging.INFO), (logging.INFO, logging.CRITICAL)])
def test_mlflow_logs_only_when_debugging(caplog, level, said):
    caplog.set_level(logging.INFO, logger="mlflow")
    caplog.set_level(level, logger="sweeps")
    set_environment()
    assert logging.getLogger("mlflow").level == said


# What has been written


def test_written_returns_status_and_epochs_of_each_run(tracker):
    assert tracker.written() == {}
    tracker.begin(job(3))
    assert tracker.written() == {3: WrittenRun("RUNNING", frozenset())}
    tracker.epoch(job(3), epoch_record(1))
    tracker.epoch(job(3), epoch_record(2))
    assert tracker.written() == {3: WrittenRun("RUNNING", frozenset({1, 2}))}
    tracker.end(job(3), PRUNED)
    assert tracker.written() == {3: WrittenRun("KILLED", frozenset({1, 2}), outcome="pruned")}
    tracker.close("FINISHED")


def test_an_epoch_is_written_once(store, tracker):
    tracker.begin(job(0))
    for record in (epoch_record(1, 0.5), epoch_record(2, 0.6), epoch_record(1, 0.7), epoch_record(2, 0.8)):
        tracker.epoch(job(0), record)
    tracker.close("FINISHED")
    assert history(store, runs_of(store, tracker._runs.study)["0"]) == [(1, 0.5), (2, 0.6)]


def test_nothing_is_written_of_a_trial_that_another_driver_has_taken_over(store, tmp_path):
    study = spec()
    runs = MlflowStudy(f"sqlite:///{store.path}", tmp_path / "artifacts", study)
    tracker = Tracker(runs, tmp_path / "spool.jsonl", lambda number: number != 1)
    for number in (0, 1):
        tracker.begin(job(number))
    tracker.close("FINISHED")
    assert runs_of(store, study.name).keys() == {"launch", "0"}


def test_an_epoch_is_one_batch(tracker, monkeypatch):
    tracker.begin(job(0))
    tracker.written()
    calls: Counter[str] = Counter()
    for name in ("log_batch", "log_metric", "set_tag", "log_param"):
        monkeypatch.setattr(tracker._runs._client, name, counted(calls, name, getattr(tracker._runs._client, name)))
    tracker.epoch(job(0), epoch_record(1))
    tracker.written()
    assert calls == {"log_batch": 1}
    tracker.close("FINISHED")


def counted(calls: Counter[str], name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        calls[name] += 1
        return function(*args, **kwargs)

    return call


def test_the_callback_of_an_end_is_called_after_the_end_is_in_the_store(store, tracker):
    seen = []
    tracker.begin(job(0))
    tracker.epoch(job(0), epoch_record(1))
    tracker.end(job(0), PRUNED, then=lambda: seen.append(runs_of(store, tracker._runs.study)["0"]))
    tracker.close("FINISHED")
    (run,) = seen
    assert (run.info.status, run.data.tags["outcome"], run.data.metrics["val_acc"]) == ("KILLED", "pruned", 0.5)


def test_only_close_waits_for_the_store(tracker):
    go_on, over = threading.Event(), threading.Event()
    tracker.begin(job(0))
    tracker.end(job(0), PRUNED, then=lambda: (go_on.wait(60), over.set()))
    tracker.begin(job(1))
    tracker.place(job(1), {"device": "cpu"})
    tracker.epoch(job(1), epoch_record(1))
    tracker.end(job(1), PRUNED)
    tracker.pause([job(1)])
    assert not over.is_set()
    go_on.set()
    tracker.close("FINISHED")
    assert over.is_set()


# A study that is continued


@pytest.fixture
def continued(connect) -> Tracker:
    """A study whose process was interrupted, opened anew: trial 0 ended, trial 1 was running."""
    study = spec()
    before = connect(study)
    for number in (0, 1):
        before.begin(job(number))
        before.epoch(job(number), epoch_record(1, 0.5, loss=NAN))
    before.epoch(job(1), epoch_record(2, NAN))
    before.end(job(0), PRUNED)
    before.pause([job(1)])
    before.close("SCHEDULED")
    return connect(study)


def test_an_interrupted_launch_and_its_trials_are_scheduled(store, connect):
    tracker = connect(spec())
    tracker.begin(job(0))
    tracker.pause([job(0), job(1)])
    tracker.close("SCHEDULED")
    assert {run.info.status for run in runs_of(store, tracker._runs.study).values()} == {"SCHEDULED"}


def test_what_an_earlier_process_wrote_is_known(continued):
    assert continued.written() == {
        0: WrittenRun("KILLED", frozenset(), outcome="pruned"),
        1: WrittenRun("SCHEDULED", frozenset({1, 2})),
    }
    continued.close("FINISHED")


def test_a_continued_study_makes_no_second_run_of_anything(store, continued):
    before = runs_of(store, continued._runs.study)
    continued.begin(job(1))
    continued.close("FINISHED")
    after = runs_of(store, continued._runs.study)
    assert {n: run.info.run_id for n, run in after.items()} == {n: run.info.run_id for n, run in before.items()}


def test_a_continued_launch_runs_again(store, continued):
    continued.written()
    assert runs_of(store, continued._runs.study)["launch"].info.status == "RUNNING"
    continued.close("FINISHED")


def test_a_continued_trial_runs_again_and_its_epochs_go_on(store, continued):
    continued.begin(job(1))
    for number in (1, 2, 3):
        continued.epoch(job(1), epoch_record(number, 0.9))
    assert continued.written()[1] == WrittenRun("RUNNING", frozenset({1, 2, 3}))
    continued.close("FINISHED")
    points = history(store, runs_of(store, continued._runs.study)["1"])
    assert [step for step, _ in points] == [1, 2, 3]
    assert (points[0][1], points[2][1]) == (0.5, 0.9)


def test_a_new_trial_of_a_continued_study_has_the_same_parent(store, continued):
    continued.begin(job(2))
    continued.close("FINISHED")
    runs = runs_of(store, continued._runs.study)
    assert {runs[n].data.tags["mlflow.parentRunId"] for n in "012"} == {runs["launch"].info.run_id}


def test_a_study_deleted_in_mlflow_is_restored(store, connect, continued):
    continued.close("FINISHED")
    name = continued._runs.study
    store.client.delete_experiment(store.client.get_experiment_by_name(name).experiment_id)
    connect(continued._runs._spec).close("FINISHED")
    assert store.client.get_experiment_by_name(name).lifecycle_stage == "active"


def test_nothing_is_logged_while_the_store_works(continued, caplog):
    continued.begin(job(1))
    continued.close("FINISHED")
    assert caplog.messages == []


# A store that cannot be written


@pytest.fixture
def no_store(connect, tmp_path, monkeypatch) -> Tracker:
    monkeypatch.setattr(tracking, "_TRIES", 1)
    (tmp_path / "mlflow.db").write_text("no database " * 100)
    return connect(spec(), f"sqlite:///{tmp_path}/mlflow.db")


def test_close_says_what_to_do_if_the_store_cannot_be_written(no_store):
    no_store.begin(job(0))
    no_store.epoch(job(0), epoch_record(1))
    with pytest.raises(SweepError, match=rf"(?s)^MLflow \(.*mlflow.db\) .*`sweeps resume {no_store._runs.study}`"):
        no_store.close("FINISHED")


def test_written_fails_if_the_store_cannot_be_read(no_store):
    with pytest.raises(SweepError, match=r"cannot be used: .*not a database"):
        no_store.written()


def test_a_full_database_is_reported_in_its_own_words_without_a_traceback(
    store, connect, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(tracking, "_TRIES", 1)
    shutil.copy(store.path, tmp_path / "mlflow.db")
    full = connect(spec(), f"sqlite:///{tmp_path}/mlflow.db")
    full.begin(job(0))
    full.written()
    engine = full._runs._client._tracking_client.store.engine
    event.listen(engine, "checkout", lambda connection, *_: connection.execute("PRAGMA max_page_count = 1"))
    for number in range(1, 300):
        full.epoch(job(0), epoch_record(number))
    with pytest.raises(SweepError, match=r"^MLflow \(.*mlflow.db\) cannot be used: database or disk is full"):
        full.close("FINISHED")
    assert "Traceback" not in capsys.readouterr().err


def test_the_wait_for_the_store_doubles_with_each_try(connect, tmp_path, monkeypatch):
    waits: list[float] = []
    monkeypatch.setattr(tracking, "time", SimpleNamespace(sleep=waits.append, monotonic=time.monotonic))
    (tmp_path / "mlflow.db").write_text("no database " * 100)
    tracker = connect(spec(), f"sqlite:///{tmp_path}/mlflow.db")
    with pytest.raises(SweepError, match="cannot be used"):
        tracker.written()
    assert waits == [0.5, 1, 2, 4, 8]


def test_the_longest_wait_is_half_a_minute():
    assert [tracking._pause(failures) for failures in (0, 1, 2, 5, 6, 10_000)] == [0.5, 1, 2, 16, 30, 30]


def test_the_wait_until_a_past_moment_is_zero():
    assert tracking._seconds_until(time.monotonic() - 2) == 0
    assert 3600 < tracking._seconds_until(time.monotonic() + 7200) <= 7200


def test_a_question_is_asked_again_if_the_store_fails_meanwhile(tracker, monkeypatch):
    tracker.begin(job(0))
    tracker.written()
    monkeypatch.setattr(tracker._runs, "refresh", lost_once(tracker._runs.refresh))
    assert tracker.refresh()[0] == WrittenRun("RUNNING", frozenset())
    tracker.close("FINISHED")


def test_the_callback_of_an_end_that_was_not_written_is_not_called(no_store):
    removed = []
    no_store.end(job(0), PRUNED, then=lambda: removed.append(True))
    with pytest.raises(SweepError):
        no_store.close("FINISHED")
    assert removed == []


@contextmanager
def down(tracker: Tracker) -> Iterator[None]:
    """A store that is away for what is written for trial 0, as long as the block lasts."""
    tracker.written()
    apply = tracker._runs.apply

    def apply_or_fail(entry: dict[str, Any]) -> None:
        if entry["trial"] == 0:
            raise ConnectionError("the store is away")
        apply(entry)

    tracker._runs.apply = apply_or_fail  # type: ignore[method-assign]
    yield
    tracker._runs.apply = apply  # type: ignore[method-assign]


def spooled(tracker: Tracker) -> list[tuple[str, int]]:
    """What a process that is started after a kill of this one would find, once the thread has taken everything."""
    tracker._queue.put(question := tracking._Question(lambda: None, Future()))
    with suppress(SweepError):
        question.answer.result()
    return [(entry["do"], entry["trial"]) for entry in Spool(tracker._spool.path).read()]


def test_entries_that_cannot_be_written_wait_on_disk_in_order(store, tracker, monkeypatch):
    monkeypatch.setattr(tracking, "_TRIES", 1)
    tracker.begin(job(0))
    tracker.epoch(job(0), epoch_record(1))
    with down(tracker):
        tracker.epoch(job(0), epoch_record(2))
        tracker.begin(job(1))
        tracker.epoch(job(0), epoch_record(3))
        tracker.end(job(0), REACHED)
        assert spooled(tracker) == [("epochs", 0), ("begin", 1), ("epochs", 0), ("end", 0)]
    tracker.close("FINISHED")


@pytest.fixture
def refused(tracker, monkeypatch) -> set[int]:
    """The trials of which the store takes nothing; 0 and 1 have begun, and a store is asked once."""
    monkeypatch.setattr(tracking, "_TRIES", 1)
    for number in (0, 1):
        tracker.begin(job(number))
    tracker.written()
    refused: set[int] = set()
    apply = tracker._runs.apply

    def apply_or_refuse(entry: dict[str, Any]) -> None:
        if entry["trial"] in refused:
            raise ConnectionError("the store is away")
        apply(entry)

    monkeypatch.setattr(tracker._runs, "apply", apply_or_refuse)
    return refused


def test_waits_grow_until_the_store_is_back_and_each_outage_is_logged_once(tracker, refused, caplog, monkeypatch):
    failures: list[int] = []
    fall_behind = tracker._fall_behind

    def noted(error: Exception) -> None:
        failures.append(tracker._failures)
        fall_behind(error)

    monkeypatch.setattr(tracker, "_fall_behind", noted)
    monkeypatch.setattr(tracking, "_pause", lambda _: 0.01)
    for number in (1, 2):
        refused.add(0)
        tracker.epoch(job(0), epoch_record(number))
        assert eventually(lambda: len(failures) >= 3)
        assert failures[:3] == [0, 1, 2]
        refused.clear()
        assert eventually(lambda: not tracker._behind)
        failures.clear()
    tracker.close("FINISHED")
    said = [re.search("cannot be written: the store is away|is written again", text) for text in caplog.messages]
    expected = ["cannot be written: the store is away", "is written again"] * 2
    assert [found[0] for found in said if found] == expected  # writers of other tests may say more


def test_a_waiting_entry_is_on_disk_once_after_several_outages(tracker, refused):
    refused |= {0, 1}
    tracker.epoch(job(0), epoch_record(1))
    tracker.epoch(job(1), epoch_record(1))
    assert spooled(tracker) == [("epochs", 0), ("epochs", 1)]
    refused.remove(0)
    spooled(tracker)  # writes the first of them
    tracker.epoch(job(1), epoch_record(2))
    assert spooled(tracker) == [("epochs", 0), ("epochs", 1), ("epochs", 1)]
    refused.clear()
    assert spooled(tracker) == []
    refused.add(0)
    tracker.epoch(job(0), epoch_record(2))
    assert spooled(tracker) == [("epochs", 0)]
    refused.clear()
    tracker.close("FINISHED")


@pytest.fixture
def batches(tracker, monkeypatch) -> list[tuple[str, list[int]]]:
    """The run and the epochs of each batch of metrics that is written from here on; trials 0 and 1 have begun."""
    tracker.begin(job(0))
    tracker.begin(job(1))
    tracker.written()
    batches: list[tuple[str, list[int]]] = []
    log_batch = tracker._runs._client.log_batch

    def counted(run_id: str, metrics: Any = (), **rest: Any) -> None:
        batches.append((run_id, sorted({metric.step for metric in metrics})))
        log_batch(run_id, metrics=metrics, **rest)

    monkeypatch.setattr(tracker._runs._client, "log_batch", counted)
    return batches


@pytest.fixture
def all_put(tracker, monkeypatch) -> threading.Event:
    """Until it is set, the writer looks for no further epochs."""
    event, gathered = threading.Event(), tracker._gathered

    def later(*arguments: Any) -> Any:
        assert event.wait(60)
        return gathered(*arguments)

    monkeypatch.setattr(tracker, "_gathered", later)
    return event


def test_epochs_that_come_together_are_written_together_a_batch_a_trial(store, tracker, batches, all_put):
    for number in (1, 2, 3, 3):  # one that is shown again is written once
        tracker.epoch(job(0), epoch_record(number))
        tracker.epoch(job(1), epoch_record(number))
    all_put.set()
    tracker.end(job(0), REACHED)
    tracker.close("FINISHED")
    runs = runs_of(store, tracker._runs.study)
    first, second = (runs[number].info.run_id for number in ("0", "1"))
    assert batches == [(first, [1, 2, 3]), (second, [1, 2, 3]), (first, [REACHED.epochs_run])]
    for number in ("0", "1"):
        assert history(store, runs[number]) == [(1, 0.5), (2, 0.5), (3, 0.5)]


def test_a_batch_of_epochs_is_never_larger_than_a_server_takes(tracker, batches, all_put):
    for number in range(1, 121):
        tracker.epoch(job(0), epoch_record(number))
    all_put.set()
    tracker.close("FINISHED")
    assert [len(epochs) for _, epochs in batches] == [50, 50, 20]


def test_epochs_that_wait_already_are_written_without_a_wait_for_more(tracker, batches, all_put, monkeypatch):
    monkeypatch.setattr(tracking, "_EPOCHS_SECONDS", 120.0)
    for number in range(1, 121):
        tracker.epoch(job(0), epoch_record(number))
    started = time.monotonic()
    all_put.set()
    tracker.close("FINISHED")
    assert time.monotonic() - started < 100
    assert len(batches) == 3


def test_a_single_epoch_is_written_within_a_tenth_of_a_second(tracker, batches, monkeypatch):
    waits: queue.SimpleQueue[float] = queue.SimpleQueue()
    monkeypatch.setattr(tracking, "time", SimpleNamespace(sleep=waits.put, monotonic=time.monotonic))
    tracker.epoch(job(0), epoch_record(1))
    assert 0 < waits.get(timeout=120) <= 0.1
    tracker.close("FINISHED")
    assert [epochs for _, epochs in batches] == [[1]]


def test_a_store_that_hangs_does_not_keep_the_process_alive(tracker):
    assert tracker._thread.daemon
    tracker.close("FINISHED")


def test_there_is_no_spool_while_the_store_works(tracker):
    tracker.begin(job(0))
    tracker.epoch(job(0), epoch_record(1))
    tracker.written()
    assert not tracker._spool.path.exists()
    tracker.close("FINISHED")


def test_the_same_process_writes_waiting_entries_in_order_once(store, tracker, monkeypatch):
    monkeypatch.setattr(tracking, "_LONGEST_WAIT", 0.1)
    tracker.begin(job(0))
    tracker.epoch(job(0), epoch_record(1))
    ended = []
    with down(tracker):
        for number in (2, 3):
            tracker.epoch(job(0), epoch_record(number))
        tracker.end(job(0), REACHED, then=lambda: ended.append(True))
        time.sleep(0.3)
        assert not ended
    tracker.close("FINISHED")
    run = runs_of(store, tracker._runs.study)["0"]
    assert history(store, run) == [(1, 0.5), (2, 0.5), (3, 0.5)]
    assert (run.info.status, ended, tracker._spool.path.exists()) == ("FINISHED", [True], False)


def test_a_run_is_written_without_a_question(store, tracker):
    tracker.begin(job(0))
    name = tracker._runs.study
    assert eventually(lambda: store.client.get_experiment_by_name(name) is not None and "0" in runs_of(store, name))
    tracker.close("FINISHED")


def test_a_store_that_failed_is_not_tried_again_at_once(store, tracker, monkeypatch):
    monkeypatch.setattr(tracking, "_pause", lambda _: 120.0)
    calls: Counter[str] = Counter()
    tracker.begin(job(0))
    with down(tracker):
        monkeypatch.setattr(tracker._runs, "open", counted(calls, "open", tracker._runs.open))
        for number in (1, 2):
            tracker.epoch(job(0), epoch_record(number))
            assert eventually(lambda wanted=number: len(Spool(tracker._spool.path).read()) >= wanted)
        assert calls["open"] == 0
    tracker.close("FINISHED")


def test_the_next_process_writes_waiting_entries(store, tracker, connect, monkeypatch):
    monkeypatch.setattr(tracking, "_TRIES", 1)
    tracker.begin(job(0))
    tracker.epoch(job(0), epoch_record(1))
    with down(tracker):
        tracker.epoch(job(0), epoch_record(2))
        tracker.epoch(job(0), epoch_record(3))
        with pytest.raises(SweepError, match=rf"(?s)`sweeps resume {tracker._runs.study}`.*{tracker._spool.path}"):
            tracker.close("FINISHED")
    again = connect(tracker._runs._spec)
    assert again.written()[0] == WrittenRun("RUNNING", frozenset({1, 2, 3}))
    again.epoch(job(0), epoch_record(3, 0.9))
    again.close("FINISHED")
    assert history(store, runs_of(store, tracker._runs.study)["0"]) == [(1, 0.5), (2, 0.5), (3, 0.5)]
    assert not again._spool.path.exists()


def test_a_spool_whose_entries_are_in_the_store_writes_nothing_twice(store, tracker, connect, monkeypatch):
    """The process is killed between the writing of what waited and the emptying of the file."""
    monkeypatch.setattr(tracking, "_TRIES", 1)
    tracker.begin(job(0))
    with down(tracker):
        tracker.epoch(job(0), epoch_record(1))
        tracker.epoch(job(0), epoch_record(2))
        tracker.end(job(0), REACHED)
        spooled(tracker)
        kept = tracker._spool.path.read_bytes()
    tracker.close("FINISHED")
    tracker._spool.path.write_bytes(kept)
    again = connect(tracker._runs._spec)
    again.written()
    again.close("FINISHED")
    run = runs_of(store, tracker._runs.study)["0"]
    assert history(store, run) == [(1, 0.5), (2, 0.5)]
    assert history(store, run, "objective") == [(REACHED.epochs_run, REACHED.objective)]


def test_an_entry_that_was_written_but_not_confirmed_is_not_written_twice(store, tracker, monkeypatch):
    """The store did what it was asked to, and the connection broke before it said so."""
    monkeypatch.setattr(tracking, "_LONGEST_WAIT", 0.1)
    tracker.written()
    for name in ("create_run", "log_batch", "set_terminated"):
        monkeypatch.setattr(tracker._runs._client, name, lost_once(getattr(tracker._runs._client, name)))
    tracker.begin(job(0))
    tracker.epoch(job(0), epoch_record(1))
    tracker.epoch(job(0), epoch_record(2))
    tracker.end(job(0), REACHED)
    tracker.close("FINISHED")
    run = runs_of(store, tracker._runs.study)["0"]  # one run, or this would fail
    assert history(store, run) == [(1, 0.5), (2, 0.5)]
    assert history(store, run, "objective") == [(REACHED.epochs_run, REACHED.objective)]


def lost_once(function: Callable[..., Any]) -> Callable[..., Any]:
    lost: list[bool] = []

    def call(*args: Any, **kwargs: Any) -> Any:
        answer = function(*args, **kwargs)
        if not lost:
            lost.append(True)
            raise ConnectionError("the connection broke")
        return answer

    return call


def test_waiting_entries_of_a_run_that_the_store_lacks_are_skipped(connect, tmp_path, tracker):
    """The store was exchanged: the trial is begun anew in it, and written from its checkpoint."""
    Spool(tracker._spool.path).append(
        [{"do": "epochs", "trial": 7, "epochs": [{"epoch": 3, "metrics": {"acc": 1.0}, "now": 1}]}]
    )
    again = connect(tracker._runs._spec)
    assert again.written() == {}
    again.close("FINISHED")


def test_entries_wait_in_memory_while_the_disk_is_full(store, tracker, monkeypatch):
    monkeypatch.setattr(tracking, "_TRIES", 1)
    tracker.begin(job(0))
    for number in (1, 3):
        with down(tracker):
            with monkeypatch.context() as full:
                full.setattr(os, "fsync", disk_full)
                tracker.epoch(job(0), epoch_record(number))
                spooled(tracker)
            tracker.epoch(job(0), epoch_record(number + 1))
            assert spooled(tracker) == [("epochs", 0), ("epochs", 0)]
        tracker.written()
        with down(tracker), monkeypatch.context() as full:  # saved at no time
            full.setattr(os, "fsync", disk_full)
            tracker.epoch(job(0), epoch_record(10 + number))
            spooled(tracker)
        tracker.written()
    tracker.close("FINISHED")
    written = [epoch for epoch, _ in history(store, runs_of(store, tracker._runs.study)["0"])]
    assert sorted(written) == [1, 2, 3, 4, 11, 13]


def disk_full(*_args: object) -> NoReturn:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_parameters_that_a_killed_process_did_not_write_are_written_when_the_trial_continues(
    store, connect, monkeypatch
):
    tracker = connect(spec())
    tracker.written()  # its client is there
    with monkeypatch.context() as killed:
        killed.setattr(tracker._runs._client, "log_batch", lambda *_args, **_kwargs: None)
        tracker.begin(job(0))
        tracker.written()
    tracker.begin(job(0))
    tracker.close("FINISHED")
    assert runs_of(store, tracker._runs.study)["0"].data.params["model"] == job(0).config.model


def test_saved_epochs_and_would_stop_are_written(connect, store):
    study = spec()
    tracker = connect(study)
    stopped = replace(PRUNED, epochs_saved=3, would_stop={"asha": 1, "cap": 1})
    for number, result in enumerate([stopped, REACHED]):
        tracker.begin(job(number))
        tracker.end(job(number), result)
    tracker.close("FINISHED")
    runs = runs_of(store, study.name)
    assert [runs[number].data.metrics["epochs_saved"] for number in "01"] == [3, 0]
    assert [runs[number].data.tags.get("would_stop") for number in "01"] == ['{"asha": 1, "cap": 1}', None]
    assert runs["launch"].data.tags["stopping_rules"] == '{"diverged": "active"}'
