"""Studies that are killed in the middle: nothing is lost, nothing comes twice, and the curves are the undisturbed ones.

What they must come out as is the listed study of conftest, launched undisturbed: its seeds fix every trial.
"""

import os
import signal
import time

import psutil
import pytest

from tests import home_0_1_0

TRIALS, EPOCHS = 4, 8


def assert_undisturbed(store, home, listed):
    disturbed = store(home, listed.name)
    disturbed.assert_whole(trials=TRIALS)
    assert disturbed.curves() == listed.store.curves()
    assert {name: run.data.tags["outcome"] for name, run in disturbed.trials.items()} == {
        name: run.data.tags["outcome"] for name, run in listed.store.trials.items()
    }
    assert not list((home / "studies" / listed.name / "checkpoints").iterdir())


def gone(processes, seconds):
    """Wait until none of these processes is left; return whether that happened."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in processes):
            return True
        time.sleep(0.1)
    return False


def test_everything_killed_then_the_driver_alone(sweeps, store, listed, cluster, home):
    """The power goes, and while the study is being continued the driver is killed, but not its workers."""
    first = sweeps.start("launch", listed.file, "--home", home)
    # Past the middle, where two trials at a time may both have ended with no other begun.
    first.until(lambda command: len(command.epochs) >= TRIALS * EPOCHS // 2 + EPOCHS // 2)
    first.kill()
    status = sweeps.json("status", listed.name, "--home", home)
    assert status["state"] == "interrupted"
    assert status["begun"] + status["reached"] + status["exhausted"] <= TRIALS
    assert status["begun"] == len(status["running"]) >= 1

    second = sweeps.start("resume", listed.name, "--home", home)
    # A trial that had an epoch goes on behind it, beside those that are new.
    continued = {trial["trial"]: trial["epoch"] for trial in status["running"]}
    second.until(lambda command: any(trial in continued for trial, _ in command.epochs))
    trial, epoch = next((trial, epoch) for trial, epoch in second.epochs if trial in continued)
    assert epoch >= continued[trial]
    assert second.workers()
    processes = second.family()
    second.signal(signal.SIGKILL)
    assert second.wait().code == -signal.SIGKILL
    # All of them: Ray's agents would stay for a minute, and workers train on for a second.
    assert gone(processes, seconds=5)

    # At once, as someone would who sees the prompt come back.
    third = sweeps("resume", listed.name, "--home", home, on=cluster)
    assert "sweeps resume" not in third.stdout
    assert_undisturbed(store, home, listed)


@pytest.fixture(scope="module")
def two_cores(ray_nodes):
    """A cluster where two trials train at a time."""
    ray_nodes.start(cpus=2)
    return ray_nodes


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shared", "victim"),
    [
        ("false", lambda command: command.workers()[0]),
        ("true", lambda command: command.workers()[0]),
        ("true", lambda command: command.shared_process()),
    ],
    ids=["that trains", "that has another one train", "that trains for all"],
)
def test_a_process_killed_while_the_driver_lives(sweeps, store, listed, two_cores, home, shared, victim):
    """A process dies, as it does where memory is short: the study takes care of itself."""
    sharing = ("--set", f"resources.shared_process={shared}")
    command = sweeps.start("launch", listed.file, "--home", home, *sharing, on=two_cores)
    command.until(lambda running: len(running.epochs) >= 3)
    victim(command).kill()
    done = command.wait()
    assert done.code == 0, done.stderr
    assert "started again" in done.stderr
    assert "raylet" not in done.stdout + done.stderr
    shown = command.epochs
    assert len(shown) == len(set(shown)) == TRIALS * EPOCHS
    assert_undisturbed(store, home, listed)


def test_the_warning_of_a_batch_system(sweeps, studies, cluster, home):
    """SIGUSR1, which Ray Tune would take as its own, is as Ctrl-C."""
    command = sweeps.start("launch", studies.listed, "--home", home, on=cluster)
    command.until(lambda running: running.epochs)
    with command.suspended():
        command.signal(signal.SIGUSR1)
    done = command.wait()
    assert done.code == 130, done.stderr
    assert "\nstopping: running trials finish their epoch" in done.stderr
    assert f"sweeps resume listed --home {home}" in done.stdout


@pytest.mark.slow
def test_interrupted_and_resumed(sweeps, store, listed, cluster, home):
    """Ctrl-C: the study says how to go on, and goes on. While it runs, it is nobody else's."""
    command = sweeps.start("launch", listed.file, "--home", home, on=cluster)
    command.until(lambda running: len(running.epochs) >= 2)
    with command.suspended():
        status = sweeps.json("status", listed.name, "--home", home)
        assert (status["state"], status["process"]) == ("running", command.pid)
        assert {trial["trial"] for trial in status["running"]} >= {trial for trial, _ in command.epochs[-1:]}
        refused = sweeps("launch", listed.file, "--home", home, on=cluster, code=2)
        assert f"study 'listed' is being run by process {command.pid}" in refused.stderr
        assert refused.stdout == ""
        command.signal(signal.SIGINT)
    done = command.wait()
    assert done.code == 130, done.stderr
    assert f"sweeps resume listed --home {home}" in done.stdout
    assert "Traceback" not in done.stderr
    runs = store(home, listed.name)
    assert [run.info.status for run in runs.launches] == ["SCHEDULED"]
    assert {run.info.status for run in runs.trials.values()} <= {"FINISHED", "SCHEDULED"}
    assert sweeps.json("status", listed.name, "--home", home)["state"] == "interrupted"

    resumed = sweeps("resume", listed.name, "--home", home, on=cluster)
    assert sweeps.json("status", listed.name, "--home", home)["state"] == "complete"
    assert resumed.stdout.splitlines()[0].startswith("trial")
    assert_undisturbed(store, home, listed)


@pytest.mark.slow
def test_a_signal_to_the_group_of_a_launch(sweeps, listed, home):
    """As `timeout` sends it: it reaches none of Ray's processes, so that running trials finish their epoch."""
    command = sweeps.start("launch", listed.file, "--home", home)
    command.until(lambda running: running.epochs)
    os.killpg(os.getpgid(command.pid), signal.SIGTERM)
    done = command.wait()
    assert done.code == 130, done.stderr
    assert f"sweeps resume listed --home {home}" in done.stdout
    assert "started again" not in done.stderr
    assert "SIGTERM" not in done.stderr  # Ray's native handler prints a page


def test_a_study_that_0_1_0_left_is_resumed(sweeps, store, cluster, home):
    """Its trial goes on behind the epochs that its checkpoint has."""
    home.mkdir()
    home_0_1_0.restore(home)
    sweeps("resume", home_0_1_0.KILLED, "--home", home, on=cluster)
    store(home, home_0_1_0.KILLED).assert_whole(trials=2)
