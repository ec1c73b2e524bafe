"""A study that two drivers run on one ledger and one MLflow store: what is taken over, dropped, and written once."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from resnet_core import checkpoint
from resnet_core.records import Outcome
from search_spaces.spec import StudySpec
from sweeps.home import Home
from sweeps.ledger.ledger import Ledger
from sweeps.study import run as study_run
from sweeps.study.checkpoints import Checkpoints
from sweeps.study.outcomes import Result
from sweeps.study.recovery import recover, write_missing_ends
from sweeps.study.run import StudyRun
from sweeps.study.trials import Job
from sweeps.tracking.runs import MlflowStudy
from sweeps.tracking.writer import Tracker
from tests.studies import epoch_record, epoch_records, sampled_study

HORIZON = 6
spec = partial(sampled_study, horizon=HORIZON, trials=1)


class QuietWatcher:
    """A watcher that keeps which trials were lost and how many were waited for, and shows nothing."""

    def __init__(self) -> None:
        self.lost_trials: list[int] = []
        self.waited: list[int] = []

    def waiting(self, trials: int) -> None:
        self.waited.append(trials)

    def lost(self, job: Job) -> None:
        self.lost_trials.append(job.number)

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_: None


class Driver:
    """A driver of a study in a home of its own, with what a trainer would do beside it."""

    def __init__(self, study: StudySpec, uri: str, mlflow: str, home: Path, stack: ExitStack) -> None:
        self.home, self.seen = Home(home), QuietWatcher()
        self.ledger = Ledger.create(uri, study)
        stack.enter_context(self.ledger.driven_by(home.name, home, lambda: None))
        spool = self.home.spool(study.name)
        self.tracker = Tracker(MlflowStudy(mlflow, self.home.artifacts, study, home.name), spool, self.ledger.owns)
        recovered = recover(self.home, self.ledger, self.tracker)
        self.run = StudyRun(self.home, self.ledger, self.tracker, self.seen, recovered)

    def begin(self) -> int:
        trial = self.run.next_trial()
        assert trial is not None
        return trial.job.number

    def train(self, number: int, epochs: Sequence[int]) -> bool:
        """Save and show epochs, as the trainer does; return whether the last one ended the trial."""
        over = False
        for epoch in epochs:
            self.save(number, epoch)
            over = self.run.epoch(number, epoch_record(epoch))
        return over

    def save(self, number: int, epoch: int) -> None:
        config = self.run.active[number].job.config.to_dict()
        records = [record.to_dict() for record in epoch_records([0.5] * epoch)]
        checkpoint.save(self.path(number), {"config": config, "records": records})

    def write_missing_ends(self) -> None:
        """Record what drivers that are gone told the ledger alone, as a launch does at its end."""
        written, checkpoints = self.tracker.refresh(), Checkpoints(self.home, self.run.spec.name)
        write_missing_ends(checkpoints, self.ledger, self.tracker, self.ledger.entries(), written)

    def path(self, number: int) -> Path:
        return self.home.checkpoint(self.run.spec.name, number)

    def expire_lease(self, noticed: bool = True) -> None:
        """Have the lease run out, as if the process had been held for long; it notices when it goes on, if at all."""
        self.tracker.refresh()  # what it wrote is in the store
        lease = self.ledger.drivers._lease
        assert lease is not None
        with lease._storage.engine.begin() as connection:
            name = self.run.spec.name
            connection.exec_driver_sql(
                f"UPDATE sweeps_drivers SET lease = 1 WHERE driver = '{lease.driver}' AND study = '{name}'"
            )
        lease._renewed -= 1000 * noticed


@pytest.fixture
def two_drivers(store, tmp_path: Path) -> Iterator[Callable[[StudySpec], tuple[Driver, Driver]]]:
    with ExitStack() as stack:

        def two_drivers(study: StudySpec) -> tuple[Driver, Driver]:
            uri, mlflow = f"sqlite:///{tmp_path / 'optuna.db'}", f"sqlite:///{store.path}"
            a, b = (Driver(study, uri, mlflow, tmp_path / name, stack) for name in ("a", "b"))
            return a, b

        yield two_drivers


@pytest.fixture
def runs(store) -> Callable[[Driver], list[tuple[int, str, list[int]]]]:
    """Number, status and epochs of every trial's run in MLflow."""

    def runs(driver: Driver) -> list[tuple[int, str, list[int]]]:
        experiment = store.client.get_experiment_by_name(driver.run.spec.name).experiment_id
        found = store.client.search_runs([experiment], "tags.`sweeps.kind` = 'trial'")
        return sorted(
            (
                int(run.data.tags["sweeps.trial"]),
                run.info.status,
                sorted(point.step for point in store.client.get_metric_history(run.info.run_id, "val_acc")),
            )
            for run in found
        )

    return runs


def test_an_adopted_trial_goes_on_from_its_checkpoint_in_the_same_run(two_drivers, runs):
    a, b = two_drivers(spec())
    number = a.begin()
    a.train(number, [1, 2])
    a.expire_lease()
    assert b.begin() == number
    assert b.path(number).read_bytes() != b""
    for epoch in range(1, 3):  # shown again out of the checkpoint
        b.run.epoch(number, epoch_record(epoch))
    assert b.train(number, range(3, HORIZON + 1))
    b.tracker.close("FINISHED")
    assert runs(b) == [(number, "FINISHED", list(range(1, HORIZON + 1)))]


def test_an_adopted_trial_without_its_checkpoint_writes_no_epoch_twice(two_drivers, runs):
    a, b = two_drivers(spec())
    number = a.begin()
    a.train(number, [1, 2])
    checkpoint.remove(a.path(number))
    a.expire_lease()
    b.begin()
    b.train(number, range(1, HORIZON + 1))
    b.tracker.close("FINISHED")
    assert runs(b) == [(number, "FINISHED", list(range(1, HORIZON + 1)))]


def test_an_adopted_trial_whose_checkpoint_cannot_be_read_begins_anew(two_drivers, runs, caplog):
    a, b = two_drivers(spec())
    number = a.begin()
    a.train(number, [1])
    a.path(number).write_bytes(b"cut off")
    a.expire_lease()
    b.begin()
    assert f"trial {number} begins anew" in caplog.text
    b.train(number, range(1, HORIZON + 1))
    b.tracker.close("FINISHED")
    assert runs(b) == [(number, "FINISHED", list(range(1, HORIZON + 1)))]


def test_an_adopted_trial_that_the_store_never_had_is_written_whole(two_drivers, runs):
    a, b = two_drivers(spec())
    number = a.ledger.next_assignment().job.number
    a.expire_lease()
    assert b.begin() == number
    b.train(number, range(1, HORIZON + 1))
    b.tracker.close("FINISHED")
    assert runs(b) == [(number, "FINISHED", list(range(1, HORIZON + 1)))]


def test_a_driver_that_comes_back_drops_the_trial_and_writes_nothing_of_it(two_drivers, runs):
    a, b = two_drivers(spec())
    number = a.begin()
    a.train(number, [1])
    a.expire_lease()
    b.begin()
    assert a.train(number, [2])
    assert (a.run.active, a.seen.lost_trials, a.run.results, a.run.exhausted) == ({}, [number], {}, False)
    a.tracker.close("SCHEDULED")
    assert runs(a) == [(number, "RUNNING", [1])]


@pytest.mark.parametrize("crashes", [True, False])
def test_a_trial_that_was_taken_over_a_moment_ago_cannot_be_ended(two_drivers, runs, crashes):
    a, b = two_drivers(spec())
    number = a.begin()
    a.train(number, range(1, HORIZON))
    a.expire_lease(noticed=False)
    b.begin()
    if crashes:
        a.run.error(number, "ValueError: lost", again=False)
    else:
        assert a.train(number, [HORIZON])
    assert (a.run.active, a.seen.lost_trials, a.run.results, a.run.crashed) == ({}, [number], {}, 0)
    a.tracker.close("SCHEDULED")
    assert runs(a) == [(number, "RUNNING", list(range(1, HORIZON)))]


def test_a_result_of_another_driver_does_not_count_while_the_trial_runs_here(two_drivers):
    a, b = two_drivers(spec(trials=2))
    number = a.begin()
    a.expire_lease()
    b.begin()
    assert b.begin() == number
    assert b.train(number, range(1, HORIZON + 1))
    assert a.run.next_trial() is None
    assert (a.run.active.keys(), a.run.results) == ({number}, {})


def test_waiting_for_other_drivers_is_shown_once(two_drivers, monkeypatch):
    monkeypatch.setattr(study_run, "_ASK_SECONDS", 0.0)
    a, b = two_drivers(spec(trials=2))
    mine = a.begin()
    b.begin()
    assert a.run.next_trial() is None
    assert a.seen.waited == []  # its own runs still
    a.train(mine, range(1, HORIZON + 1))
    for _ in range(2):
        assert a.run.next_trial() is None
    assert a.seen.waited == [1]


def test_a_driver_without_trials_of_its_own_shows_that_it_waits(two_drivers):
    a, b = two_drivers(spec())
    a.begin()
    assert b.run.next_trial() is None
    assert b.seen.waited == [1]


def test_a_waiting_driver_does_not_ask_the_ledger_all_the_time(two_drivers, monkeypatch):
    a, b = two_drivers(spec())
    a.begin()
    ask, asked = b.ledger.next_assignment, []
    monkeypatch.setattr(b.ledger, "next_assignment", lambda known: asked.append(known) or ask(known))
    assert [b.run.next_trial() for _ in range(3)] == [None] * 3
    assert len(asked) == 1


def test_rules_see_the_trials_of_other_drivers_that_ended(two_drivers):
    a, b = two_drivers(spec(trials=2, stopping={"cap": {"best": 1, "slack": 1.0}}, objective={"target": 0.4}))
    first = a.begin()
    a.train(first, range(1, HORIZON + 1))
    second = b.begin()
    assert b.run.results[first].epochs_to_target == 1
    assert b.run.epoch(second, epoch_record(1, 0.1))
    assert b.run.results[second].stopped_by == "cap"


def test_a_result_that_an_expired_driver_wrote_only_to_the_ledger_is_written_to_mlflow(two_drivers, runs):
    a, b = two_drivers(spec())
    number = a.begin()
    a.train(number, range(1, HORIZON))
    a.tracker.refresh()
    a.save(number, HORIZON)
    result = Result(Outcome.EXHAUSTED, HORIZON, 9.5, values=(0.5,) * HORIZON)
    a.ledger.tell(number, result)
    a.expire_lease()
    b.write_missing_ends()
    b.tracker.close("FINISHED", b.ledger.drivers.expired())
    assert runs(b) == [(number, "FINISHED", list(range(1, HORIZON + 1)))]


def test_a_trial_that_cannot_be_completed_does_not_keep_another_from_being_written(two_drivers, runs):
    a, b = two_drivers(spec(trials=2))
    lost, whole = a.begin(), a.begin()
    result = Result(Outcome.EXHAUSTED, HORIZON, 9.5, values=(0.5,) * HORIZON)
    for number in (lost, whole):
        a.train(number, [1])
        a.save(number, HORIZON)
        a.ledger.tell(number, result)
    checkpoint.remove(a.path(lost))
    a.expire_lease()
    b.write_missing_ends()
    b.tracker.close("FINISHED")
    assert runs(b) == [(lost, "RUNNING", [1]), (whole, "FINISHED", list(range(1, HORIZON + 1)))]


def test_a_trial_whose_epochs_only_the_expired_driver_has_stays_unfinished(two_drivers, runs):
    a, b = two_drivers(spec())
    number = a.begin()
    a.train(number, [1])
    a.ledger.tell(number, Result(Outcome.EXHAUSTED, HORIZON, 9.5))
    checkpoint.remove(a.path(number))
    a.expire_lease()
    b.write_missing_ends()
    b.tracker.close("FINISHED")
    assert runs(b) == [(number, "RUNNING", [1])]


def test_the_trials_of_a_driver_that_comes_back_are_left_to_it(two_drivers, runs, monkeypatch):
    a, b = two_drivers(spec())
    number = a.begin()
    a.train(number, range(1, HORIZON))
    a.save(number, HORIZON)
    a.ledger.tell(number, Result(Outcome.EXHAUSTED, HORIZON, 9.5, values=(0.5,) * HORIZON))
    a.expire_lease()
    find = b.ledger.claimable

    def come_back_meanwhile(numbers: Sequence[int]) -> dict[int, str]:
        found = find(numbers)
        assert a.ledger.drivers._lease is not None
        a.ledger.drivers._lease.renew()
        return found

    monkeypatch.setattr(b.ledger, "claimable", come_back_meanwhile)
    b.write_missing_ends()
    b.tracker.close("FINISHED")
    assert runs(b) == [(number, "RUNNING", list(range(1, HORIZON)))]


def test_each_driver_has_a_launch_of_its_own(two_drivers, store):
    a, b = two_drivers(spec())
    a.tracker.close("FINISHED")
    b.tracker.close("FINISHED")
    experiment = store.client.get_experiment_by_name(a.run.spec.name).experiment_id
    launches = store.client.search_runs([experiment], "tags.`sweeps.kind` = 'launch'")
    assert sorted(run.data.tags["sweeps.driver"] for run in launches) == ["a", "b"]
