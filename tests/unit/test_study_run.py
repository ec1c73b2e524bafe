"""A study while it runs, driven by hand: which trial is next, what an epoch means, how a trial ends, how it resumes."""

import errno
import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest

from analysis.store.loader import load
from resnet_core import checkpoint
from resnet_core.network_file import About, save_network
from resnet_core.records import EpochRecord, Outcome
from resnet_core.trainer import train
from search_spaces.spec import StudySpec
from sweeps.errors import SweepError
from sweeps.home import Home
from sweeps.ledger.ledger import Ledger
from sweeps.study.networks import Networks, kept_networks
from sweeps.study.outcomes import Result
from sweeps.study.recovery import recover
from sweeps.study.run import Leader, StudyRun
from sweeps.study.stopping.rules import is_control
from sweeps.study.trials import ActiveTrial, Job
from sweeps.tracking import writer as tracking
from sweeps.tracking.runs import MlflowStudy
from sweeps.tracking.writer import Tracker
from sweeps.trial_log import failures
from tests.studies import epoch_record, epoch_records, sampled_study

HORIZON = 6
NAN = float("nan")
NEVER = [0.5] * HORIZON
spec = partial(sampled_study, horizon=HORIZON, trials=2)


@dataclass
class RecordingWatcher:
    """A watcher that keeps what it was shown."""

    events: list[tuple[Any, ...]] = field(default_factory=list)

    def started(self, trial: ActiveTrial) -> None:
        self.events.append(("started", trial.job.number))

    def epoch(self, trial: ActiveTrial) -> None:
        self.events.append(("epoch", trial.job.number, len(trial.records)))

    def failed(self, trial: ActiveTrial, error: str, again: bool) -> None:
        self.events.append(("failed", trial.job.number, error, again))

    def ended(self, trial: ActiveTrial, result: Result) -> None:
        self.events.append(("ended", trial.job.number, result.outcome))


@dataclass
class Launch:
    """One process's view of a study, with what a trainer would do beside it."""

    home: Home
    ledger: Ledger
    tracker: Tracker
    run: StudyRun
    seen: RecordingWatcher

    def begin(self) -> int:
        trial = self.run.next_trial()
        assert trial is not None
        self.run.place(trial.job.number, {"device": "cpu"})
        return trial.job.number

    def epoch(self, number: int, record: EpochRecord) -> bool:
        """Save a checkpoint and show the epoch, as the trainer does."""
        trial = self.run.active[number]
        save(self.path(number), trial.job, [*trial.records[: record.epoch - 1], record])
        return self.run.epoch(number, record)

    def train(self, number: int, val_accs: Sequence[float]) -> Result | None:
        """Show epochs until the trial is over or there are no more."""
        for shown in epoch_records(val_accs):
            if self.epoch(number, shown):
                return self.run.results[number]
        return None

    def path(self, number: int) -> Path:
        return self.home.checkpoint(self.run.spec.name, number)

    def close(self) -> None:
        self.tracker.close("FINISHED")


def save(path: Path, job: Job, epochs: Sequence[EpochRecord]) -> None:
    checkpoint.save(path, {"config": job.config.to_dict(), "records": [epoch.to_dict() for epoch in epochs]})


Open = Callable[[StudySpec], Launch]


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('ledger') / 'optuna.db'}"


@pytest.fixture
def open_(store, db, tmp_path) -> Open:
    """Open a study as a new process would: everything anew on the same files."""

    def open_(study: StudySpec) -> Launch:
        home, seen, ledger = Home(tmp_path), RecordingWatcher(), Ledger.create(db, study)
        tracker = Tracker(MlflowStudy(f"sqlite:///{store.path}", home.artifacts, study), home.spool(study.name))
        networks = Networks(home, study)
        run = StudyRun(home, ledger, tracker, seen, recover(home, ledger, tracker), networks)
        return Launch(home, ledger, tracker, run, seen)

    return open_


@pytest.fixture
def trials(store) -> Callable[[StudySpec], pd.DataFrame]:
    return lambda study: load(store.path, study.name).trials.set_index("number")


@pytest.fixture
def epochs(store) -> Callable[[StudySpec, int], list[int]]:
    """The epochs of a trial in MLflow; one written twice stands there twice."""

    def epochs(study: StudySpec, number: int) -> list[int]:
        (run,) = runs_of(store, study, number)
        return [point.step for point in store.client.get_metric_history(run.info.run_id, "val_acc")]

    return epochs


def runs_of(store: Any, study: StudySpec, number: int) -> list[Any]:
    experiment = store.client.get_experiment_by_name(study.name).experiment_id
    return list(store.client.search_runs([experiment], f"tags.`sweeps.trial` = '{number}'"))


def states(db: str, study: StudySpec) -> list[str]:
    found = optuna.load_study(study_name=study.name, storage=db)
    return [trial.state.name for trial in found.get_trials()]


CAPPED = {"cap": {"best": 2, "slack": 1.0}}


@pytest.mark.parametrize(
    ("status", "outcome"), [("FINISHED", "reached"), ("FINISHED", "great"), ("KILLED", "exhausted")]
)
def test_how_a_trial_ended_is_put_right_where_people_changed_it(open_, store, trials, caplog, status, outcome):
    study = spec(trials=1)
    launch = open_(study)
    launch.train(launch.begin(), NEVER)
    launch.close()
    (run,) = runs_of(store, study, 0)
    store.client.set_tag(run.info.run_id, "outcome", outcome)
    store.client.update_run(run.info.run_id, status)
    open_(study).close()
    assert trials(study)[["status", "outcome"]].to_numpy().tolist() == [["FINISHED", "exhausted"]]
    assert caplog.messages == []


def test_a_study_from_its_first_epoch_to_a_crashed_trial_tried_again(open_, db, trials, epochs):
    study = spec(trials=6, stopping=CAPPED)
    launch = open_(study)
    assert launch.train(launch.begin(), NEVER).outcome is Outcome.EXHAUSTED
    assert launch.train(launch.begin(), [0.5, 0.5, 0.93, 0.5, 0.5, 0.5]).outcome is Outcome.REACHED
    assert launch.train(launch.begin(), [0.5, 0.5, 0.5, 0.92, 0.95, 0.95]).outcome is Outcome.REACHED
    assert launch.train(launch.begin(), NEVER).epochs_run == 4
    diverged = launch.begin()
    launch.epoch(diverged, epoch_record(1, 0.5))
    assert launch.epoch(diverged, epoch_record(2, 0.1, loss=NAN))
    crashed = launch.begin()
    launch.epoch(crashed, epoch_record(1, 0.5))
    launch.run.error(crashed, "Traceback\nRuntimeError: disk full\n", again=False)
    assert launch.run.next_trial() is None
    launch.close()

    outcomes = ["exhausted", "reached", "reached", "pruned", "diverged", "crashed"]
    assert [launch.run.results[number].outcome for number in range(6)] == outcomes
    assert trials(study)["outcome"].tolist() == outcomes
    assert trials(study)["status"].tolist() == ["FINISHED", "FINISHED", "FINISHED", "KILLED", "FAILED", "FAILED"]
    assert states(db, study) == ["COMPLETE", "COMPLETE", "COMPLETE", "PRUNED", "PRUNED", "FAIL"]
    assert [len(epochs(study, number)) for number in range(6)] == [6, 6, 6, 4, 2, 1]
    assert trials(study)["stop_reason"].tolist() == [
        *[None] * 3,
        "stopped at epoch 4: the 2nd-best trial reached 0.92 at epoch 4, and 1 x 4 epochs are used up",
        "stopped at epoch 2: the loss is nan at epoch 2",
        "RuntimeError: disk full",
    ]

    again = open_(study)
    number = again.begin()
    assert again.run.active[number].job.config == launch.ledger.entries()[crashed].job.config
    assert again.train(number, NEVER).outcome is Outcome.PRUNED
    assert again.run.complete
    again.close()
    assert states(db, study)[5:] == ["FAIL", "PRUNED"]
    assert trials(study)["outcome"].tolist() == [*outcomes, "pruned"]


# Which trial is next


def test_trials_are_placed_until_none_is_left(open_):
    launch = open_(spec(trials=2))
    steps = [(launch.run.remaining, launch.run.exhausted, launch.run.complete)]
    for _ in range(2):
        launch.begin()
        steps.append((launch.run.remaining, launch.run.exhausted, launch.run.complete))
    assert launch.run.next_trial() is None
    for number in (0, 1):
        launch.train(number, NEVER)
        steps.append((launch.run.remaining, launch.run.exhausted, launch.run.complete))
    assert steps == [(2, False, False), (1, False, False), (0, True, False), (0, True, False), (0, True, True)]
    launch.close()


def test_a_trial_to_be_continued_comes_before_a_new_one(open_):
    study = spec(trials=3)
    before = open_(study)
    jobs = [before.run.active[before.begin()].job for _ in range(2)]
    before.close()
    launch = open_(study)
    assert (launch.run.remaining, launch.run.exhausted) == (3, False)
    assert [launch.run.next_trial().job for _ in range(2)] == jobs
    assert launch.run.next_trial().job.number == 2
    launch.close()


def test_a_placed_trial_is_shown_and_tagged(open_, store):
    launch = open_(spec())
    launch.begin()
    launch.close()
    assert launch.seen.events == [("started", 0)]
    (run,) = runs_of(store, launch.run.spec, 0)
    assert run.data.tags["device"] == "cpu"


def test_a_gpu_that_torch_cannot_use_is_warned_of_once_per_node(open_, caplog):
    launch = open_(spec(trials=3))
    for node in ("a", "a", "b"):
        trial = launch.run.next_trial()
        launch.run.place(trial.job.number, {"device": "cpu", "gpu_ids": "0", "node": node})
    assert [record.message for record in caplog.records] == [
        f"trials on {node} were given a GPU and train on the CPU: torch finds no CUDA there" for node in ("a", "b")
    ]


# What an epoch means


def test_an_epoch_is_shown_and_written(open_, epochs):
    launch = open_(spec())
    launch.train(launch.begin(), [0.5, 0.6])
    launch.close()
    assert launch.seen.events[1:] == [("epoch", 0, 1), ("epoch", 0, 2)]
    assert epochs(launch.run.spec, 0) == [1, 2]


def test_a_trial_is_over_at_its_horizon(open_):
    launch = open_(spec())
    number = launch.begin()
    over = [launch.epoch(number, shown) for shown in epoch_records(NEVER)]
    launch.close()
    assert over == [False] * (HORIZON - 1) + [True]
    assert launch.seen.events[-1] == ("ended", 0, Outcome.EXHAUSTED)


@pytest.mark.parametrize(
    ("stopping", "val_accs"),
    [({"cap": {"best": 1, "slack": 1.0}}, NEVER), ({"at_target": True}, [0.5] * 4 + [0.93] * 2)],
)
def test_at_its_horizon_a_trial_ends_by_itself(open_, stopping, val_accs):
    launch = open_(spec(stopping=stopping))
    launch.train(launch.begin(), [*NEVER[1:], 0.93])
    result = launch.train(launch.begin(), val_accs)
    launch.close()
    assert (result.epochs_run, result.stopped_by, result.stop_reason) == (HORIZON, None, None)


def test_epochs_shown_again_after_an_error_are_ignored(open_, epochs):
    launch = open_(spec(stopping=CAPPED))
    number = launch.begin()
    launch.train(number, [0.5, 0.6, 0.7])
    launch.run.error(number, "lost", again=True)
    assert [launch.epoch(number, epoch_record(epoch, 0.1, loss=NAN)) for epoch in (1, 2, 3)] == [False] * 3
    assert not launch.epoch(number, epoch_record(4, 0.8))
    launch.close()
    assert [shown.val_acc for shown in launch.run.active[number].records] == [0.5, 0.6, 0.7, 0.8]
    assert [event[2] for event in launch.seen.events if event[0] == "epoch"] == [1, 2, 3, 4]
    assert epochs(launch.run.spec, number) == [1, 2, 3, 4]


def test_an_epoch_that_is_not_the_next_is_an_error(open_):
    launch = open_(spec())
    number = launch.begin()
    launch.epoch(number, epoch_record(1, 0.5))
    with pytest.raises(RuntimeError, match="trial 0: epoch 3 came after 1"):
        launch.run.epoch(number, epoch_record(3, 0.5))
    launch.close()


# How a trial ends


def test_a_running_trial_that_reached_the_target_counts_for_the_others(open_):
    launch = open_(spec(stopping={"cap": {"best": 1, "slack": 1.0}}))
    fast, slow = launch.begin(), launch.begin()
    launch.train(fast, [0.5, 0.93])
    assert launch.train(slow, NEVER).epochs_run == 2
    assert fast in launch.run.active
    launch.close()


def test_the_fastest_is_the_first_of_those_with_the_fewest_epochs(open_):
    launch = open_(spec(trials=4))
    for reached in (4, 2, 2, 3):
        launch.train(launch.begin(), [0.5] * (reached - 1) + [0.93] * (HORIZON + 1 - reached))
    launch.close()
    assert launch.run.leader == Leader(launch.run.results[1].epochs_to_target, "1", launch.run.results[1].best_value)


def test_trials_of_an_earlier_launch_count(open_):
    study = spec(stopping={"cap": {"best": 1, "slack": 1.0}})
    before = open_(study)
    reached = before.train(before.begin(), [0.5, 0.5, 0.93, 0.5, 0.5, 0.5])
    before.close()
    launch = open_(study)
    assert launch.run.results == {0: reached}
    assert launch.train(launch.begin(), NEVER).epochs_run == 3
    launch.close()


def test_a_diverged_trial_does_not_count_as_one_at_the_target(open_):
    launch = open_(spec(stopping={"cap": {"best": 1, "slack": 1.0}}))
    number = launch.begin()
    launch.epoch(number, epoch_record(1, 0.95))
    launch.epoch(number, epoch_record(2, 0.95, loss=NAN))
    assert launch.train(launch.begin(), NEVER).outcome is Outcome.EXHAUSTED
    launch.close()


def test_at_target_ends_a_trial_as_reached(open_):
    launch = open_(spec(stopping={"at_target": True}))
    result = launch.train(launch.begin(), [0.5, 0.93, 0.93, 0.93])
    launch.close()
    assert (result.outcome, result.epochs_run, result.stopped_by) == (Outcome.REACHED, 3, "at_target")


def control_number(study: StudySpec, control: bool) -> int:
    return next(number for number in range(99) if is_control(study, number) is control)


@pytest.mark.parametrize("control", [True, False])
def test_a_control_trial_goes_on_after_it_diverged(open_, control):
    study = spec(trials=20, stopping={"control": 0.5})
    launch = open_(study)
    while control_number(study, control) not in launch.run.active:
        launch.begin()
    number = control_number(study, control)
    assert launch.run.active[number].control is control
    assert launch.epoch(number, epoch_record(1, 0.1, loss=NAN)) is not control
    launch.close()


@pytest.mark.parametrize("val_accs", [[0.93] * HORIZON, NEVER], ids=["at the target", "slower than the best"])
def test_a_control_trial_goes_on_to_its_horizon(open_, val_accs):
    stopping = {"at_target": True, "cap": {"best": 1, "slack": 1.0}, "control": 0.5}
    study = spec(trials=20, stopping=stopping)
    launch = open_(study)
    control, other = control_number(study, True), control_number(study, False)
    while not {control, other} <= launch.run.active.keys():
        launch.begin()
    launch.train(other, [0.93])
    assert launch.train(control, val_accs).epochs_run == HORIZON
    launch.close()


def test_an_error_is_kept_with_its_traceback_and_shown_in_short(open_):
    launch = open_(spec())
    number = launch.begin()
    launch.run.error(number, "Traceback:\n  File x\nRuntimeError: disk full\n\n", again=True)
    (failure,) = failures(launch.home.error_log(launch.run.spec.name, number))
    assert failure.error == "Traceback:\n  File x\nRuntimeError: disk full\n\n"
    assert launch.seen.events[1:] == [("failed", 0, "RuntimeError: disk full", True)]
    launch.close()


FULL = "Traceback:\nOSError: [Errno 28] No space left on device\n"


@pytest.mark.parametrize("again", [True, False])
def test_a_full_disk_halts_the_study_and_ends_no_trial(open_, db, again):
    launch = open_(spec())
    number = launch.begin()
    launch.run.error(number, FULL, again=again)
    launch.close()
    assert launch.run.halted == (
        f"no space left on the disk of {launch.home.root}. Free some, then go on with "
        f"`sweeps resume {launch.run.spec.name}`"
    )
    assert (launch.run.crashed, list(launch.run.active)) == (0, [number])
    assert states(db, launch.run.spec) == ["RUNNING"]


def write_network(launch: Launch, number: int, record: EpochRecord) -> None:
    """Write a trial's network, as its trainer does ahead of an epoch."""
    about = About(record.epoch, {}, metrics=record.values())
    save_network(launch.home.network(launch.run.spec.name, number), {"w": np.zeros(2)}, about)


def test_the_networks_of_the_best_are_kept_of_earlier_launches_too(open_):
    study = spec(search={"trials": 3, "sampler": "random"}, keep={"best": 1})
    for value in (0.5, 0.7, 0.6):
        launch = open_(study)
        number = launch.begin()
        for shown in epoch_records([value] * HORIZON):
            write_network(launch, number, shown)
            launch.epoch(number, shown)
        launch.close()
    assert list(kept_networks(launch.home, study.name)) == ["1"]
    assert list(launch.path(0).parent.iterdir()) == []


def test_a_trial_that_may_go_on_keeps_its_network_beside_its_checkpoint(open_):
    launch = train_first(open_(frozen_spec()), 3)
    assert launch.begin() == 3
    shown = epoch_records(CURVES[3])[0]
    write_network(launch, 3, shown)
    assert launch.epoch(3, shown)
    assert launch.run.results[3].stopped_by == "forecast"
    assert launch.home.network(launch.run.spec.name, 3).exists()
    assert "3" not in kept_networks(launch.home, launch.run.spec.name)
    launch.run.remove_frozen()
    assert not launch.home.network(launch.run.spec.name, 3).exists()
    launch.close()


def test_a_disk_that_is_full_when_a_network_is_kept_halts_the_study(open_, monkeypatch):
    launch = open_(spec())
    number = launch.begin()

    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Networks, "settle", full)
    launch.train(number, NEVER)
    launch.close()
    assert launch.run.halted is not None
    assert launch.run.halted.startswith(f"no space left on the disk of {launch.home.root}")


def test_an_error_after_the_study_was_halted_crashes_no_trial(open_):
    launch = open_(spec())
    number = launch.begin()
    launch.run.halt("Ray is gone")
    launch.run.error(number, "RuntimeError: lost", again=False)
    launch.close()
    assert (launch.run.crashed, list(launch.run.active), launch.run.halted) == (0, [number], "Ray is gone")


def test_trials_in_the_store_that_the_ledger_does_not_know_are_an_error(open_, tmp_path, store):
    study = spec()
    before = open_(study)
    before.begin()
    before.close()
    tracker = Tracker(MlflowStudy(f"sqlite:///{store.path}", tmp_path, study), tmp_path / "spool.jsonl")
    home, other = Home(tmp_path), Ledger.create(f"sqlite:///{tmp_path / 'other.db'}", study)
    with pytest.raises(SweepError, match=rf"has 1 trials of a study '{study.name}' that the ledger .* does not know"):
        recover(home, other, tracker)
    tracker.close("SCHEDULED")


def test_a_trial_that_is_tried_again_goes_on(open_):
    launch = open_(spec())
    number = launch.begin()
    launch.run.error(number, "x", again=True)
    assert (launch.run.active[number].tries, launch.run.crashed, launch.run.results) == (1, 0, {})
    launch.close()


@pytest.mark.parametrize("error", ["", " \n"])
def test_an_error_without_a_message_crashes_the_trial_too(open_, error):
    launch = open_(spec())
    number = launch.begin()
    launch.epoch(number, epoch_record(1, 0.5))
    launch.run.error(number, error, again=False)
    assert launch.run.results[number] == Result(Outcome.CRASHED, 1, stop_reason="unknown error")
    assert (launch.run.crashed, launch.run.active) == (1, {})
    launch.close()


# Checkpoints


@pytest.mark.parametrize("crashes", [True, False])
def test_a_checkpoint_is_removed_once_the_trial_has_ended_in_the_store(open_, crashes):
    launch = open_(spec())
    number = launch.begin()
    launch.train(number, NEVER[1:])
    assert launch.path(number).exists()
    if crashes:
        launch.run.error(number, "x", again=False)
    else:
        launch.run.epoch(number, epoch_record(HORIZON, 0.5))
    launch.close()
    assert list(launch.path(number).parent.iterdir()) == []


def test_a_checkpoint_is_kept_until_the_store_has_the_end(open_, epochs, trials, monkeypatch):
    monkeypatch.setattr(tracking, "_TRIES", 1)
    study = spec(trials=1)
    launch = open_(study)
    number = launch.begin()
    launch.train(number, NEVER[1:])
    launch.tracker.written()

    def away(*_):
        raise ConnectionError("the store is away")

    with monkeypatch.context() as outage:
        outage.setattr(MlflowStudy, "apply", away)
        launch.epoch(number, epoch_record(HORIZON, 0.5))
        with pytest.raises(SweepError):
            launch.close()
    assert launch.path(number).exists()

    again = open_(study)
    again.close()
    assert (epochs(study, number), trials(study)["status"][number]) == ([1, 2, 3, 4, 5, 6], "FINISHED")
    assert not again.path(number).exists()


# The next process


def test_a_study_killed_half_way_is_finished_with_every_epoch_once(open_, db, store, trials, epochs):
    study = spec(trials=4, stopping=CAPPED)
    curves = [[0.5, 0.5, 0.93, 0.95, 0.95, 0.95], [0.5, 0.5, 0.5, 0.5, 0.93, 0.5], [0.5] * 5 + [0.94], NEVER]
    before = open_(study)
    before.train(before.begin(), curves[0])
    before.train(before.begin(), curves[1][:3])
    before.begin()
    before.tracker.written()
    del before  # the process is killed: nothing is closed

    launch = open_(study)
    while (trial := launch.run.next_trial()) is not None:
        launch.train(trial.job.number, curves[trial.job.number])
    assert launch.run.complete
    launch.close()

    assert [launch.run.results[number].outcome for number in range(4)] == ["reached", "reached", "pruned", "pruned"]
    assert [epochs(study, number) for number in range(4)] == [[1, 2, 3, 4, 5, 6]] * 2 + [[1, 2, 3, 4, 5]] * 2
    assert states(db, study) == ["COMPLETE", "COMPLETE", "PRUNED", "PRUNED"]
    assert trials(study)["status"].tolist() == ["FINISHED", "FINISHED", "KILLED", "KILLED"]
    assert list(launch.path(0).parent.iterdir()) == []


def test_interrupted_trials_wait_to_be_continued(open_, db, trials):
    launch = open_(spec())
    launch.train(launch.begin(), [0.5])
    launch.begin()
    launch.run.interrupt()
    launch.tracker.close("SCHEDULED")
    assert trials(launch.run.spec)["status"].tolist() == ["SCHEDULED", "SCHEDULED"]
    assert states(db, launch.run.spec) == ["RUNNING", "RUNNING"]


def test_a_continued_trial_is_not_judged_by_epochs_that_were_judged_before(open_, epochs):
    study = spec(stopping={"cap": {"best": 1, "slack": 1.0}})
    before = open_(study)
    slow, fast = before.begin(), before.begin()
    before.train(slow, [0.5] * 4)
    before.train(fast, [0.5, 0.93, 0.5, 0.5, 0.5, 0.5])
    before.close()

    launch = open_(study)
    assert launch.begin() == slow
    over = [launch.run.epoch(slow, shown) for shown in epoch_records([0.5] * 5)]
    launch.close()
    # Two epochs are allowed by now; the four that were trained before were let, and stay so.
    assert over == [False, False, False, False, True]
    assert launch.seen.events == [("started", slow), ("epoch", slow, 5), ("ended", slow, Outcome.PRUNED)]
    assert epochs(study, slow) == [1, 2, 3, 4, 5]


EVERY_RULE = {
    "at_target": True,
    "cap": {"best": 2, "slack": 1.0, "per": "optimizer"},
    "cannot_reach": {"after": 0.5, "trials": 2},
    "asha": {"reduction": 2, "after": 0.3},
    "median": {"after": 0.5, "trials": 3},
    "patience": {"epochs": 3},
    "forecast": {"chance": 0.3, "best": 2, "trials": 3},
    "control": 0.3,
    "shadow": ["asha", "cap"],
}


def drive(open_: Open, study: StudySpec, curves: Sequence[Sequence[float]], kills: Sequence[int]) -> dict[int, Result]:
    """Run a study, three trials at a time, an epoch of any of them at a step; kill it ahead of some of the steps."""
    launch, order, done, shown = open_(study), Random(1), Counter(), {}
    steps = itertools.count()
    while not launch.run.complete:
        if next(steps) in kills:
            launch.tracker.written()
            launch, shown = open_(study), {}
        while len(launch.run.active) < 3 and not launch.run.exhausted:
            shown[launch.begin()] = 0
        number = order.choice(sorted(shown))
        # A trial that continues shows its epochs again, and not before it is its turn.
        for epoch in epoch_records(curves[number])[shown[number] : done[number]]:
            assert not launch.run.epoch(number, epoch)
        done[number] += 1
        shown[number] = done[number]
        if launch.epoch(number, epoch_records(curves[number])[done[number] - 1]):
            del shown[number]
    launch.close()
    return launch.run.results


def test_a_killed_and_resumed_study_decides_as_an_undisturbed_one(open_):
    draw = Random(0)
    curves = [[draw.uniform(0.3, 0.97) for _ in range(HORIZON)] for _ in range(14)]
    # The same parameters in both: a sampler that goes on draws others.
    search = {"trials": 14, "sampler": "random", "first": [{"lr": draw.uniform(1e-4, 1e-2)} for _ in range(14)]}
    undisturbed = drive(open_, spec(search=search, stopping=EVERY_RULE), curves, ())
    assert {rule for result in undisturbed.values() for rule in result.would_stop} >= {"asha", "cap", "forecast"}
    assert len({result.outcome for result in undisturbed.values()}) == 3
    resumed = drive(open_, spec(search=search, stopping=EVERY_RULE), curves, range(2, 90, 13))
    assert resumed == undisturbed


@pytest.mark.parametrize("every", [3, 5, 13])
def test_a_killed_and_resumed_study_thaws_the_same_trials(open_, trials, every):
    draw = Random(9)
    # More curves than trials: one that goes on takes a number in Optuna, and later ones have higher numbers.
    curves = [[draw.uniform(0.3, 0.97) for _ in range(HORIZON)] for _ in range(20)]
    search = {"trials": 14, "sampler": "random", "first": [{"lr": draw.uniform(1e-4, 1e-2)} for _ in range(14)]}
    stopping = {"forecast": {"chance": 0.1, "best": 1, "trials": 3}, "cap": {"best": 1, "slack": 1.2}, "freeze": True}
    study = spec(search=search, stopping=stopping)
    undisturbed = drive(open_, study, curves, ())
    assert trials(study)["outcome"].notna().sum() == 14 == max(undisturbed) - 1
    assert drive(open_, spec(search=search, stopping=stopping), curves, range(2, 90, every)) == undisturbed


# Shadow, control, and what rules would have done


SHADOWED = {"cap": {"best": 1, "slack": 1.0}, "patience": {"epochs": 1}, "shadow": ["patience"]}


def test_a_rule_in_shadow_is_recorded_and_stops_nothing(open_, trials):
    launch = open_(spec(stopping=SHADOWED))
    result = launch.train(launch.begin(), [0.5, 0.6, 0.6, 0.7, 0.7, 0.7])
    launch.close()
    assert (result.outcome, result.epochs_run, result.epochs_saved) == (Outcome.EXHAUSTED, HORIZON, 0)
    assert (result.would_stop, result.stopped_by) == ({"patience": 3}, None)
    assert trials(launch.run.spec)["would_stop"][0] == '{"patience": 3}'


def test_a_trial_that_was_stopped_keeps_what_shadow_rules_said_up_to_there(open_):
    launch = open_(spec(stopping=SHADOWED))
    launch.train(launch.begin(), [0.5, 0.5, 0.93, 0.94, 0.95, 0.96])
    result = launch.train(launch.begin(), NEVER)
    launch.close()
    assert (result.outcome, result.stopped_by, result.epochs_saved) == (Outcome.PRUNED, "cap", 3)
    assert result.would_stop == {"patience": 2, "cap": 3}


def test_a_shadow_rule_is_asked_at_the_epoch_at_which_another_ends_the_trial(open_):
    launch = open_(spec(stopping={**SHADOWED, "patience": {"epochs": 2}}))
    launch.train(launch.begin(), [0.5, 0.5, 0.93, 0.94, 0.95, 0.96])
    assert launch.train(launch.begin(), NEVER).would_stop == {"cap": 3, "patience": 3}
    launch.close()


def test_when_two_rules_stop_a_trial_only_the_first_is_recorded(open_):
    launch = open_(spec(stopping={"cap": {"best": 1, "slack": 1.0}, "patience": {"epochs": 2}}))
    launch.train(launch.begin(), [0.5, 0.6, 0.93, 0.94, 0.95, 0.96])
    assert launch.train(launch.begin(), NEVER).would_stop == {"cap": 3}
    launch.close()


def test_on_a_control_trial_every_rule_is_recorded(open_):
    study = spec(trials=20, stopping={"cap": {"best": 1, "slack": 1.0}, "patience": {"epochs": 3}, "control": 0.5})
    launch = open_(study)
    control, other = control_number(study, True), control_number(study, False)
    while not {control, other} <= launch.run.active.keys():
        launch.begin()
    launch.train(other, [0.5, 0.93])
    result = launch.train(control, NEVER)
    launch.close()
    assert (result.would_stop, result.epochs_saved) == ({"cap": 2, "patience": 4}, 0)


def test_a_shadow_stop_before_a_kill_is_kept(open_, db):
    study = spec(stopping=SHADOWED)
    before = open_(study)
    number = before.begin()
    before.train(number, [0.5, 0.5, 0.5])
    before.tracker.written()
    del before

    launch = open_(study)
    launch.begin()
    assert launch.train(number, [0.5, 0.5, 0.5, 0.6, 0.7, 0.8]).would_stop == {"patience": 2}
    launch.close()


def test_a_stop_that_a_kill_kept_from_the_ledger_is_decided_again(open_, monkeypatch):
    study = spec(stopping={"patience": {"epochs": 1}})
    killed = open_(study)
    number = killed.begin()
    killed.epoch(number, epoch_record(1, 0.5))
    with monkeypatch.context() as patch:
        patch.setattr(killed.ledger, "tell", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            killed.epoch(number, epoch_record(2, 0.5))
    killed.tracker.written()
    launch = open_(study)
    result = launch.train(launch.begin(), NEVER)
    launch.close()
    assert (result.stopped_by, result.epochs_run) == ("patience", 2)


def test_rules_see_the_epochs_of_trials_that_wait_to_be_continued(open_):
    study = spec(trials=2, stopping={"cap": {"best": 1, "slack": 1.0}})
    before = open_(study)
    slow, fast = before.begin(), before.begin()
    before.train(fast, [0.5, 0.5, 0.93])
    before.train(slow, [0.5, 0.5])
    before.tracker.written()
    del before

    launch = open_(study)
    assert launch.begin() == slow
    assert launch.train(slow, NEVER).epochs_run == 3
    launch.close()


def test_rules_do_not_see_a_crashed_trial(open_):
    launch = open_(spec(stopping={"cap": {"best": 1, "slack": 1.0}}))
    crashed = launch.begin()
    launch.train(crashed, [0.93, 0.93])
    launch.run.error(crashed, "disk full", again=False)
    assert launch.train(launch.begin(), NEVER).outcome is Outcome.EXHAUSTED
    launch.close()


def test_a_cap_per_parameter_ranks_trials_of_the_same_value(open_):
    first = [{"lr": 1e-3}, {"lr": 2e-3}, {"lr": 1e-3}]
    stopping = {"cap": {"best": 1, "slack": 1.0, "per": "lr"}}
    study = spec(stopping=stopping, search={"trials": 3, "sampler": "random", "first": first})
    launch = open_(study)
    launch.train(launch.begin(), [0.5, 0.93, 0.94, 0.95, 0.96, 0.97])
    ended = [launch.train(launch.begin(), NEVER).epochs_run for _ in range(2)]
    launch.close()
    assert ended == [HORIZON, 2]


@pytest.fixture
def told(db, tmp_path) -> tuple[StudySpec, Job, Result]:
    """A study whose one trial ended in the ledger; its process was killed before MLflow had all of it."""
    study = spec(trials=1)
    ledger = Ledger.create(db, study)
    job, result = ledger.ask(), Result(Outcome.PRUNED, 3, 9.5, stopped_by="cap", stop_reason="too slow")
    ledger.tell(job.number, result)
    save(Home(tmp_path).checkpoint(study.name, job.number), job, epoch_records([0.5, 0.6, 0.7]))
    return study, job, result


@pytest.fixture(params=[None, 0, 1, 2, 3], ids=lambda done: f"{done} epochs" if done is not None else "no run")
def short(request, told, store, tmp_path) -> tuple[StudySpec, Job, Result]:
    """The same, with a run in MLflow that has so many epochs and was not closed."""
    study, job, _ = told
    if request.param is not None:
        runs = MlflowStudy(f"sqlite:///{store.path}", tmp_path / "artifacts", study)
        tracker = Tracker(runs, Home(tmp_path).spool(study.name))
        tracker.begin(job)
        for shown in epoch_records([0.5, 0.6, 0.7])[: request.param]:
            tracker.epoch(job, shown)
        tracker.written()
    return told


def test_what_the_store_lacks_is_written_from_the_checkpoint(open_, short, trials, epochs):
    study, job, result = short
    launch = open_(study)
    launch.close()
    assert epochs(study, job.number) == [1, 2, 3]
    row = trials(study).loc[job.number]
    assert (row["status"], row["outcome"], row["stop_reason"]) == ("KILLED", "pruned", "too slow")
    assert (launch.run.results, launch.run.complete) == ({job.number: result}, True)
    assert not launch.path(job.number).exists()


def test_a_running_trial_does_not_keep_a_later_ended_one_from_being_written(open_, trials):
    study = spec(trials=2)
    killed = open_(study)
    running, ended = killed.begin(), killed.begin()
    save(killed.path(ended), killed.run.active[ended].job, epoch_records(NEVER))
    killed.ledger.tell(ended, Result(Outcome.EXHAUSTED, HORIZON, 9.5))
    killed.tracker.written()
    open_(study).close()
    assert trials(study)["outcome"].to_dict() == {running: None, ended: "exhausted"}


def test_epochs_that_were_trained_after_the_end_are_left_out(open_, told, epochs, tmp_path):
    study, job, _ = told
    save(Home(tmp_path).checkpoint(study.name, job.number), job, epoch_records([0.5, 0.6, 0.7, 0.8]))
    open_(study).close()
    assert epochs(study, job.number) == [1, 2, 3]


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"cut off")])
def test_a_trial_without_a_checkpoint_is_closed_in_the_store(open_, told, trials, damage, tmp_path):
    study, job, _ = told
    damage(Home(tmp_path).checkpoint(study.name, job.number))
    open_(study).close()
    assert trials(study).loc[job.number, ["status", "outcome"]].tolist() == ["KILLED", "pruned"]


def test_a_trial_that_the_store_has_whole_is_not_written_again(open_, told, trials, tmp_path, monkeypatch):
    study, job, _ = told
    open_(study).close()
    monkeypatch.setattr(Ledger, "claimable", lambda *_: pytest.fail("the ledger is asked who may write the trial"))
    before = trials(study).loc[job.number]
    save(Home(tmp_path).checkpoint(study.name, job.number), job, epoch_records([0.5, 0.6, 0.7]))
    open_(study).close()
    pd.testing.assert_series_equal(trials(study).loc[job.number], before)


def test_a_finalist_is_placed_as_soon_as_the_search_has_ended(open_):
    launch = open_(spec(search={"trials": 1, "sampler": "random", "finalists": {"top": 2, "seeds": 2}}))
    number = launch.begin()
    assert launch.run.next_trial() is None
    assert not launch.run.exhausted
    launch.train(number, [0.5, 0.6, 0.8, 0.93, 0.94, 0.95])
    for _ in range(2):
        launch.train(launch.begin(), [0.5, 0.6, 0.8, 0.93, 0.94, 0.95])
    assert launch.run.next_trial() is None
    assert launch.run.complete
    launch.close()


def test_no_rule_stops_a_finalist(open_):
    search = {"trials": 2, "sampler": "random", "finalists": {"top": 2, "seeds": 1}}
    launch = open_(spec(search=search, stopping={"cap": {"best": 1, "slack": 1.0}}))
    for _ in range(2):
        launch.train(launch.begin(), [0.5, 0.93, 0.94, 0.95, 0.95, 0.95])
    number = launch.begin()
    assert launch.run.active[number].job.finalist
    found = launch.train(number, NEVER)
    assert found is not None
    assert (found.outcome, found.epochs_run, dict(found.would_stop)) == (Outcome.EXHAUSTED, HORIZON, {"cap": 2})
    launch.close()


def test_a_finalist_is_tagged_in_mlflow(open_, store):
    study = spec(search={"trials": 1, "sampler": "random", "finalists": {"top": 2, "seeds": 1}})
    launch = open_(study)
    for _ in range(2):
        launch.train(launch.begin(), [0.5, 0.6, 0.8, 0.93, 0.94, 0.95])
    launch.close()
    experiment = store.client.get_experiment_by_name(study.name).experiment_id
    runs = store.client.search_runs([experiment], "tags.`sweeps.kind` = 'trial'")
    assert {run.data.tags["sweeps.trial"]: run.data.tags.get("finalist") for run in runs} == {"0": None, "1": "true"}


# Frozen: a trial that was ended goes on


FORECAST = {"forecast": {"chance": 0.2, "best": 1, "trials": 3}, "freeze": True}
PLACES = [0.84, 0.26, 0.98, 0.72, 0.96, 0.34]
REACHED_AT = {epochs: [0.5] * (epochs - 1) + [0.93] * (HORIZON + 1 - epochs) for epochs in range(2, HORIZON + 1)}
CURVES = [REACHED_AT[3], NEVER, REACHED_AT[2], REACHED_AT[6], NEVER, REACHED_AT[4]]
"""By these trial 3 is ended after an epoch, and goes on once trial 4 has shown that its neighbours are no faster."""


def frozen_spec(**stopping: Any) -> StudySpec:
    first = [{"lr": 10 ** (2 * place - 4)} for place in PLACES]
    space = {"lr": {"low": 1e-4, "high": 1e-2, "log": True}}
    return spec(
        space=space, search={"trials": 6, "sampler": "random", "first": first}, stopping={**FORECAST, **stopping}
    )


def train_first(launch: Launch, trials: int) -> Launch:
    """Train the first trials to their ends."""
    for number in range(trials):
        assert launch.begin() == number
        launch.train(number, CURVES[number])
    return launch


def test_only_a_trial_stopped_by_forecast_keeps_its_checkpoint(open_):
    launch = train_first(open_(frozen_spec()), 3)
    assert launch.begin() == 3
    checkpoint.previous(launch.path(3)).write_bytes(b"of the epoch before")
    launch.train(3, CURVES[3])
    assert (launch.run.results[3].stopped_by, launch.run.results[3].epochs_run) == ("forecast", 1)
    launch.tracker.written()
    assert [path.name for path in launch.path(0).parent.iterdir()] == [launch.path(3).name]
    launch.close()


def test_without_freeze_no_checkpoint_is_kept_and_no_trial_thaws(open_):
    launch = train_first(open_(frozen_spec(freeze=False)), 5)
    launch.tracker.written()
    assert list(launch.path(0).parent.iterdir()) == []
    assert launch.begin() == 5
    launch.close()


def test_a_frozen_trial_continues_from_its_checkpoint_once_it_is_likely_again(open_, epochs, trials):
    study = frozen_spec()
    launch = train_first(open_(study), 5)
    assert launch.begin() == 3
    assert launch.run.active[3].job.thawed == (1,)
    assert 3 not in launch.run.results
    launch.tracker.written()
    assert trials(study)["outcome"].isna()[3]
    result = launch.train(3, CURVES[3])
    launch.close()
    assert result is not None
    assert (result.outcome, result.epochs_run, result.epochs_to_target, result.epochs_saved) == ("reached", 6, 6, 0)
    assert epochs(study, 3) == [1, 2, 3, 4, 5, 6]
    of_trial = trials(study).loc[3]
    assert (of_trial["status"], of_trial["outcome"]) == ("FINISHED", "reached")
    assert not isinstance(of_trial["stopped_by"], str)
    assert not launch.path(3).exists()


def test_the_run_of_a_thawed_trial_has_a_tag(open_, store):
    study = frozen_spec()
    launch = train_first(open_(study), 5)
    launch.train(launch.begin(), CURVES[3])
    launch.close()
    (run,) = runs_of(store, study, 3)
    assert run.data.tags["thawed"] == "1"
    assert (run.data.metrics["epochs_run"], run.data.metrics["epochs_saved"]) == (6, 0)
    assert "stop_reason" not in run.data.tags


def test_the_first_epochs_of_a_thawed_trial_are_not_judged_again(open_):
    launch = train_first(open_(frozen_spec()), 5)
    number = launch.begin()
    assert launch.run.active[number].judged == 1
    launch.close()


@pytest.mark.parametrize("told", [False, True], ids=["before MLflow was told", "after it"])
def test_a_thawed_trial_is_continued_after_a_kill(open_, told, epochs, trials):
    study = frozen_spec()
    before = train_first(open_(study), 5)
    before.tracker.written()
    assert before.ledger.thaw(3) is not None if not told else before.begin() == 3
    before.tracker.written()
    del before

    launch = open_(study)
    assert launch.begin() == 3
    assert launch.run.active[3].judged == 1
    launch.train(3, CURVES[3])
    launch.train(launch.begin(), CURVES[5])
    assert launch.run.complete
    launch.close()
    assert epochs(study, 3) == [1, 2, 3, 4, 5, 6]
    assert trials(study)["outcome"][3] == "reached"


def test_a_killed_process_leaves_frozen_trials_frozen(open_):
    study = frozen_spec()
    before = train_first(open_(study), 4)
    before.tracker.written()
    launch = open_(study)
    assert launch.begin() == 4
    launch.train(4, CURVES[4])
    assert launch.begin() == 3
    launch.close()


def test_a_study_is_not_complete_while_a_trial_can_thaw(open_):
    study = frozen_spec()
    launch = train_first(open_(study), 4)
    launch.ledger.extend(5)
    launch.train(launch.begin(), CURVES[4])
    assert launch.ledger.complete()
    assert not launch.run.exhausted
    launch.train(launch.begin(), CURVES[3])
    assert launch.run.complete
    launch.close()


def test_at_the_end_the_checkpoints_of_frozen_trials_are_removed(open_):
    launch = train_first(open_(frozen_spec()), 4)
    launch.tracker.written()
    launch.run.remove_frozen()
    assert list(launch.path(0).parent.iterdir()) == []
    launch.train(launch.begin(), CURVES[4])
    assert launch.begin() == 5  # nothing goes on any more
    launch.close()


def test_frozen_checkpoints_are_kept_while_the_store_cannot_be_written(open_, monkeypatch):
    launch = train_first(open_(frozen_spec()), 4)

    def away() -> None:
        raise SweepError("MLflow cannot be used")

    with monkeypatch.context() as patched:
        patched.setattr(launch.tracker, "written", away)
        launch.run.remove_frozen()
    assert launch.path(3).exists()
    launch.run.remove_frozen()
    assert not launch.path(3).exists()
    launch.close()


def test_a_frozen_trial_of_another_driver_is_not_thawed(open_, monkeypatch):
    launch = train_first(open_(frozen_spec()), 5)
    monkeypatch.setattr(launch.ledger, "thaw", lambda number: None)
    assert launch.begin() == 5
    launch.close()


def test_a_thawed_trial_trains_bit_for_bit_as_an_undisturbed_one(open_):
    digits = {"model": "resnet11v2", "data": "digits", "image_size": 16, "train_limit": 32, "val_limit": 20}
    train_table = {"schedule": f"[lr, 0] lin[1e-5, {HORIZON}]", "batch_size": 16, "shift": 0.1, **digits}
    launch = open_(frozen_spec().model_copy(update={"train": train_table}))
    seen: list[EpochRecord] = []
    nowhere = Path("nowhere")  # the digits come with scikit-learn
    for number in (0, 1, 2, 3, 4, 3):
        assert launch.begin() == number
        config = launch.run.active[number].job.config
        for shown in train(config, data_dir=nowhere, device="cpu", checkpoint=launch.path(number)):
            seen += [shown] if number == 3 and shown.epoch > len(seen) else []
            # What it trains is real; which trials are fast is set by hand.
            if launch.run.epoch(number, replace(shown, val_acc=CURVES[number][shown.epoch - 1])):
                break
    launch.close()
    whole = list(train(launch.ledger.entries()[3].job.config, data_dir=nowhere, device="cpu"))
    assert [replace(one, seconds=0, images_per_second=0) for one in seen] == [
        replace(one, seconds=0, images_per_second=0) for one in whole
    ]
