"""What Ray Tune is told to do with a trial."""

import logging
from types import SimpleNamespace

import pytest
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler

from sweeps.execution import placement
from sweeps.execution.placement import _EpochTimeouts, _StudyScheduler
from sweeps.execution.trainable import TrialTrainable
from sweeps.execution.worker import Worker
from sweeps.trial_log import read_log

BEGUN = {"number": 3, "placement/device": "cpu", "process": 1, "node_id": "node"}


@pytest.mark.parametrize(
    ("requested", "decision", "placed", "next_trial"),
    [(False, TrialScheduler.CONTINUE, [3], "waiting"), (True, TrialScheduler.STOP, [], None)],
)
def test_no_trial_begins_once_the_launch_was_asked_to_stop(requested, decision, placed, next_trial):
    """A trial that was being set up at the signal trains no epoch, and nobody is told that it started."""
    seen = []
    run = SimpleNamespace(place=lambda number, _placement: seen.append(number))
    scheduler = _StudyScheduler(run, SimpleNamespace(requested=requested), _EpochTimeouts(None))
    assert scheduler.on_trial_result(None, None, BEGUN) == decision
    assert seen == placed
    waiting = SimpleNamespace(status=Trial.PENDING, name="waiting")
    controller = SimpleNamespace(get_trials=lambda: [waiting])
    assert getattr(scheduler.choose_trial_to_run(controller), "name", None) == next_trial


# How long an epoch may take


@pytest.fixture
def clock(monkeypatch):
    """The seconds that have passed, to be set."""
    now = [0.0]
    monkeypatch.setattr(placement, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


@pytest.fixture
def killed(monkeypatch):
    """The processes that Ray was asked to kill."""
    processes = []
    task = SimpleNamespace(options=lambda **_: SimpleNamespace(remote=processes.append))
    monkeypatch.setattr(placement, "ray", SimpleNamespace(remote=lambda **_: lambda _: task))
    return processes


def looks(timeouts, clock, seconds):
    """Look at the trials every half second, as Ray Tune has it done more often."""
    for _ in range(int(2 * seconds)):
        clock[0] += 0.5
        timeouts.check()


def test_a_trial_whose_epoch_takes_too_long_is_killed(clock, killed):
    timeouts = _EpochTimeouts(10)
    timeouts.heard(3, {"process": 4711, "node_id": "ab" * 28})
    looks(timeouts, clock, 10)
    assert killed == []
    looks(timeouts, clock, 1)
    assert killed == [4711]
    assert timeouts.error_of(3) == "no epoch ended within 10 s (resources.epoch_timeout)"


def test_the_time_in_which_the_launch_itself_was_held_is_not_an_epochs(clock, killed):
    """After Ctrl-Z and `fg`, the epochs that ended meanwhile are still to be heard of."""
    timeouts = _EpochTimeouts(10)
    timeouts.heard(3, {"process": 4711, "node_id": "ab" * 28})
    looks(timeouts, clock, 2)
    for _ in range(2):
        clock[0] += 60
        timeouts.check()
    assert killed == []
    looks(timeouts, clock, 9)
    assert killed == [4711]


# What is in the log of a trial


class Waiting(TrialTrainable):
    """A trial that trains nothing."""

    def begin(self, config):
        self._log.write("begins")
        return Worker("cpu", "cpu", 1, 1), (record for record in ())


@pytest.fixture
def talking_ray(monkeypatch):
    """Ray's loggers as in a worker."""
    loggers = [logging.getLogger(name) for name in ("ray", "ray.tune")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.INFO)
        monkeypatch.setattr(logger, "propagate", True)
    yield
    for logger, level in zip(loggers, before, strict=True):
        logger.setLevel(level)


def test_ray_gives_no_advice_in_the_log_of_a_trial(monkeypatch, tmp_path, talking_ray):
    monkeypatch.setattr("ray.get_gpu_ids", list)
    monkeypatch.setattr("ray.tune.trainable.trainable.SETUP_TIME_THRESHOLD", -1)
    trial = Waiting({"checkpoint": str(tmp_path / "0.pt"), "log": str(tmp_path / "0.txt"), "number": 0, "gpus": 0})
    trial.cleanup()
    assert [line.partition(" ")[2] for line in read_log(tmp_path / "0.txt").splitlines()] == ["INFO begins"]
