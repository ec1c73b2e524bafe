"""What Ray Tune is told to do with a trial."""

from types import SimpleNamespace

import pytest
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler

from sweeps.execution.placement import _EpochTimeouts, _StudyScheduler

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
