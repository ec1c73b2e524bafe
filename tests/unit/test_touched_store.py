"""What people change in MLflow while a study runs, and between its launches."""

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

import analysis
from resnet_core.config import TrialConfig
from search_spaces.spec import StudySpec
from sweeps.errors import SweepError
from sweeps.study.protocols import WrittenRun
from sweeps.study.trials import Job
from sweeps.tracking.runs import MlflowStudy
from sweeps.tracking.spool import Spool
from sweeps.tracking.writer import Tracker
from tests.studies import PRUNED, SCHEDULE, epoch_record, sampled_study

Open = Callable[..., Tracker]
spec = partial(sampled_study, horizon=4)


def job(number: int) -> Job:
    return Job(number, f"run-{number}", TrialConfig(schedule=SCHEDULE, seed=40 + number), {"lr": 1e-3})


@pytest.fixture
def connect(store, tmp_path) -> Open:
    def connect(study: StudySpec, epochs: int = 0) -> Tracker:
        """Open a study whose trials' checkpoints have this many epochs."""
        return Tracker(
            MlflowStudy(f"sqlite:///{store.path}", tmp_path / "artifacts", study),
            tmp_path / f"{study.name}.jsonl",
            kept=lambda _: [epoch_record(epoch) for epoch in range(1, epochs + 1)],
        )

    return connect


@pytest.fixture
def running(connect) -> Tracker:
    """A study with two trials that have an epoch each, and four in their checkpoints."""
    tracker = connect(spec(), epochs=4)
    for number in (0, 1):
        tracker.begin(job(number))
        tracker.place(job(number), {"device": "cpu"})
        tracker.epoch(job(number), epoch_record(1))
    tracker.written()
    return tracker


def experiment(store: Any, tracker: Tracker) -> Any:
    (found,) = store.client.search_experiments(filter_string=f"tags.`sweeps.study` = '{tracker._runs.study}'")
    return found


def runs_of(store: Any, tracker: Tracker) -> dict[str, Any]:
    """The study's runs, by the name of the trial, or ``launch``."""
    runs = store.client.search_runs([experiment(store, tracker).experiment_id])
    found = {"launch" if run.info.run_name == tracker._runs.study else run.info.run_name: run for run in runs}
    assert len(found) == len(runs)
    return found


def purge(store: Any, run: Any) -> None:
    """Remove a run for good, as ``mlflow gc`` does."""
    store.client.delete_run(run.info.run_id)
    store.client._tracking_client.store._hard_delete_run(run.info.run_id)


def steps(store: Any, run: Any) -> list[int]:
    return sorted(point.step for point in store.client.get_metric_history(run.info.run_id, "val_acc"))


def finish(tracker: Tracker, *numbers: int) -> None:
    """Two more epochs and the end of these trials, then of the launch."""
    for number in numbers:
        for epoch in (2, 3):
            tracker.epoch(job(number), epoch_record(epoch))
        tracker.end(job(number), PRUNED)
    tracker.close("FINISHED")


def is_whole(store: Any, tracker: Tracker, *numbers: int) -> bool:
    runs = runs_of(store, tracker)
    for number in numbers:
        run = runs[f"run-{number}"]
        assert (run.info.status, steps(store, run)) == ("KILLED", [1, 2, 3])
        assert run.data.tags["mlflow.parentRunId"] == runs["launch"].info.run_id
        assert {"outcome": "pruned", "device": "cpu", "sweeps.trial": str(number)}.items() <= run.data.tags.items()
        assert run.data.params["model"] == job(number).config.model
    table = analysis.load(store.path, tracker._runs.study).trials
    return table["number"].tolist() == list(numbers)


def test_a_deleted_run_of_a_running_trial_is_restored(store, running, caplog):
    before = runs_of(store, running)["run-0"].info.run_id
    store.client.delete_run(before)
    finish(running, 0, 1)
    assert is_whole(store, running, 0, 1)
    assert runs_of(store, running)["run-0"].info.run_id == before
    assert [text.partition("): ")[2] for text in caplog.messages] == [
        "the run of trial run-0 was deleted, and is restored"
    ]
    assert not running._spool.path.exists()


def test_a_purged_run_of_a_running_trial_is_begun_again_with_the_epochs_of_its_checkpoint(store, running):
    purge(store, runs_of(store, running)["run-0"])
    finish(running, 0, 1)
    assert is_whole(store, running, 0, 1)


def test_a_purged_run_gets_no_epoch_that_the_rules_have_not_seen(store, running):
    purge(store, runs_of(store, running)["run-0"])
    running.epoch(job(0), epoch_record(2))
    running.written()
    assert steps(store, runs_of(store, running)["run-0"]) == [1, 2]
    running.close("SCHEDULED")


@pytest.mark.parametrize("gone", ["deleted", "purged"])
def test_the_run_of_a_launch_that_is_gone_comes_back(store, running, gone):
    launch = runs_of(store, running)["launch"]
    store.client.delete_run(launch.info.run_id) if gone == "deleted" else purge(store, launch)
    finish(running, 0, 1)
    assert is_whole(store, running, 0, 1)
    assert runs_of(store, running)["launch"].info.status == "FINISHED"


def test_a_deleted_experiment_is_restored_while_the_study_runs(store, running, caplog):
    store.client.delete_experiment(experiment(store, running).experiment_id)
    finish(running, 0, 1)
    assert is_whole(store, running, 0, 1)
    name = running._runs.study
    assert [text.partition("): ")[2] for text in caplog.messages] == [
        f"experiment {name!r} was deleted, and is restored"
    ]


def test_a_purged_experiment_is_made_again_while_the_study_runs(store, running):
    found = experiment(store, running).experiment_id
    store.client.delete_experiment(found)
    store.client._tracking_client.store._hard_delete_experiment(found)
    finish(running, 0, 1)
    assert is_whole(store, running, 0, 1)


def test_a_renamed_experiment_keeps_its_name_and_its_study(store, running, connect):
    store.client.rename_experiment(experiment(store, running).experiment_id, f"my {running._runs.study}")
    finish(running, 0)
    again = connect(running._runs._spec)
    finish(again, 1)
    assert is_whole(store, again, 0, 1)
    assert experiment(store, again).name == f"my {running._runs.study}"
    assert again._runs.study in analysis.studies(store.path)["name"].tolist()


def test_the_name_of_a_renamed_study_is_not_free(store, running, connect):
    other = spec()
    running.close("FINISHED")
    store.client.rename_experiment(experiment(store, running).experiment_id, other.name)
    with pytest.raises(SweepError, match=rf"{other.name}' is study '{running._runs.study}', renamed in MLflow"):
        connect(other).close("FINISHED")


def test_an_experiment_from_before_the_tag_is_found_by_its_name(store, running, connect):
    running.close("SCHEDULED")
    found = experiment(store, running).experiment_id
    store.client._tracking_client.store.delete_experiment_tag(found, "sweeps.study")
    assert analysis.load(store.path, running._runs.study).name == running._runs.study
    connect(running._runs._spec).close("SCHEDULED")
    assert experiment(store, running).experiment_id == found


def test_a_deleted_run_of_a_trial_that_has_ended_stays_deleted(store, running, connect):
    finish(running, 0, 1)
    store.client.delete_run(runs_of(store, running)["run-0"].info.run_id)
    again = connect(running._runs._spec)
    assert again.written()[0].status == "KILLED"  # nothing is missing of it
    again.close("FINISHED")
    assert is_whole(store, running, 1)


def test_a_deleted_run_of_a_trial_that_goes_on_is_restored(store, running, connect):
    running.close("SCHEDULED")
    store.client.delete_run(runs_of(store, running)["run-0"].info.run_id)
    again = connect(running._runs._spec)
    assert again.written()[0].epochs == {1}
    for number in (0, 1):
        again.begin(job(number))
    finish(again, 0, 1)
    assert is_whole(store, running, 0, 1)


def test_a_deleted_run_of_another_trial_with_the_number_is_left_alone(store, running, connect):
    """The ledger was removed, and all runs were deleted, to begin the study anew."""
    finish(running, 0)
    old = {run.info.run_id for run in runs_of(store, running).values()}
    for run in old:
        store.client.delete_run(run)
    again = connect(running._runs._spec)
    again.begin(job(0))
    again.begin(Job(1, "run-1", TrialConfig(schedule=SCHEDULE, seed=7), {"lr": 1e-3}))
    again.close("SCHEDULED")
    assert old.isdisjoint(run.info.run_id for name, run in runs_of(store, again).items() if name != "launch")


def test_the_outcome_of_a_trial_that_has_ended_is_put_right(store, running, connect):
    finish(running, 0, 1)
    for number, made_up in ((0, "great"), (1, "crashed")):
        store.client.set_tag(runs_of(store, running)[f"run-{number}"].info.run_id, "outcome", made_up)
    store.client.update_run(runs_of(store, running)["run-1"].info.run_id, "FINISHED")
    again = connect(running._runs._spec)
    assert {number: run.outcome for number, run in again.written().items()} == {0: "great", 1: "crashed"}
    for number in (0, 1):
        again.begin(job(number))
        again.end(job(number), PRUNED)
    again.close("FINISHED")
    assert is_whole(store, again, 0, 1)


def test_a_status_set_by_hand_is_no_end(store, running, connect):
    for number in (0, 1):
        store.client.set_terminated(runs_of(store, running)[f"run-{number}"].info.run_id, "FINISHED")
    finish(running, 0)
    again = connect(running._runs._spec)
    assert again.written()[1] == WrittenRun("RUNNING", frozenset({1}))
    again.begin(job(1))
    finish(again, 1)
    assert is_whole(store, again, 0, 1)


@pytest.mark.parametrize(
    ("name", "value"), [("sweeps.kind", None), ("sweeps.trial", "one"), ("mlflow.parentRunId", "0" * 32)]
)
def test_a_tag_of_ours_that_somebody_changed_is_put_right(store, running, connect, name, value):
    run = runs_of(store, running)["run-0"].info.run_id
    store.client.delete_tag(run, name) if value is None else store.client.set_tag(run, name, value)
    store.client.set_tag(run, "mlflow.note.content", "mine")
    running.close("SCHEDULED")
    again = connect(running._runs._spec)
    for number in (0, 1):
        again.begin(job(number))
    finish(again, 0, 1)
    assert is_whole(store, again, 0, 1)
    assert runs_of(store, again)["run-0"].data.tags["mlflow.note.content"] == "mine"


def test_the_tag_that_marks_a_launch_is_put_right(store, running, connect):
    store.client.delete_tag(runs_of(store, running)["launch"].info.run_id, "sweeps.kind")
    finish(running, 0, 1)
    connect(running._runs._spec).close("FINISHED")
    assert is_whole(store, running, 0, 1)


def test_what_the_store_refuses_does_not_hold_up_other_trials(store, running, caplog, connect):
    caplog.set_level(logging.WARNING)
    ended: list[int] = []
    running._put({"do": "place", "trial": 0, "tags": {"a:\nb": "no name for a tag"}})
    for number in (0, 1):
        for epoch in (2, 3):
            running.epoch(job(number), epoch_record(epoch))
        running.end(job(number), PRUNED, then=partial(ended.append, number))
    with pytest.raises(SweepError, match=r"refused what belongs to the trials with the numbers 0; all else is written"):
        running.close("FINISHED")
    assert is_whole(store, running, 0, 1)
    assert ended == [1]
    assert [entry["do"] for entry in Spool(running._spool.path).read()] == ["place"]
    assert len([text for text in caplog.messages if "refuses what belongs to trial 0" in text]) == 1
