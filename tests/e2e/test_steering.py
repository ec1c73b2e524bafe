"""Commands that steer a study from outside: stop it, extend it, fork it, look at what went wrong."""

import re
import shutil
import signal
import time

import pytest

TRIALS, EPOCHS = 4, 8


@pytest.fixture(scope="module")
def searched(sweeps, studies, cluster, tmp_path_factory):
    """The home of the study with a space, which has run to its end."""
    home = tmp_path_factory.mktemp("searched") / "home"
    sweeps("launch", studies.space, "--home", home, on=cluster)
    return home


@pytest.fixture
def copied(searched, home):
    """A home of its own for what is searched."""
    shutil.copytree(searched, home)
    return home


@pytest.mark.slow
def test_stopped_from_another_process_and_resumed(sweeps, store, listed, cluster, home):
    command = sweeps.start("launch", listed.file, "--home", home, "--data", home / "my images", on=cluster)
    command.until(lambda running: len(running.epochs) >= 2)
    stopped = sweeps("stop", listed.name, "--home", home)
    assert f"asked process {command.pid} to stop" in stopped.stderr
    assert stopped.stdout.startswith("listed: interrupted · ")
    done = command.wait()  # the study was let go of, and its last lines are being printed
    assert done.code == 130, done.stderr
    assert "stopping: running trials finish their epoch" in done.stderr
    where = f"--home {home} --data '{home}/my images' --address {cluster.address}"
    assert f"interrupted; continue with:  sweeps resume listed {where}\n" in done.stdout
    assert {path.name for path in (home / "studies" / "listed").iterdir()} <= {
        "lock",
        "driver",
        "checkpoints",
        "logs",
        "models",
    }

    again = sweeps("stop", listed.name, "--home", home, code=1)
    assert again.stderr == "sweeps: study 'listed' is not running; see `sweeps status listed`\n"
    refused = sweeps("resume", listed.name, "--trials", "+4", "--home", home, code=2)
    assert "the trials of study 'listed' are the runs that its file lists" in refused.stderr

    sweeps("resume", listed.name, "--home", home, on=cluster)
    after = store(home, listed.name)
    after.assert_whole(trials=TRIALS)
    assert after.curves() == listed.store.curves()


@pytest.mark.slow
def test_an_epoch_under_way_is_waited_for_however_long_it_takes(sweeps, listed, cluster, home):
    command = sweeps.start("launch", listed.file, "--home", home, on=cluster)
    command.until(lambda running: running.epochs)
    with command.suspended():  # an epoch that takes long
        time.sleep(2)  # until the driver has asked for it
        command.signal(signal.SIGINT)
        command.until(lambda running: "stopping: " in running.stderr)
        before = len(command.epochs)
        time.sleep(8)  # Ray by itself would end it after five
        assert command.code is None
    done = command.wait()
    assert done.code == 130, done.stderr
    assert len(command.epochs) == before + 1
    status = sweeps.json("status", listed.name, "--home", home)
    assert sum(trial["epoch"] for trial in status["running"]) == len(command.epochs)


def ray_starts(command) -> bool:
    """Whether a process of Ray's runs: Ray itself is not ready yet."""
    return any(process.name() == "gcs_server" for process in command.family())


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_asked_to_stop_while_ray_starts(sweeps, listed, home, number):
    """Before any trial has begun: nothing hangs, and the study can be continued."""
    command = sweeps.start("launch", listed.file, "--home", home)
    command.until(lambda _: ray_starts(command))
    command.signal(number)
    done = command.wait()
    assert done.code == 130, done.stderr
    assert f"interrupted; continue with:  sweeps resume listed --home {home}" in done.stdout
    assert command.epochs == []
    assert sweeps.json("status", listed.name, "--home", home)["state"] == "interrupted"


@pytest.mark.slow
def test_a_second_interrupt_stops_at_once(sweeps, listed, cluster, home):
    command = sweeps.start("launch", listed.file, "--home", home, on=cluster)
    command.until(lambda running: running.epochs)
    with command.suspended():  # an epoch that takes long
        assert sweeps("stop", listed.name, "--no-wait", "--home", home).stdout == ""
        command.until(lambda running: "stopping: " in running.stderr)
        command.signal(signal.SIGINT)
        done = command.wait()
    assert done.code == 130, done.stderr
    assert "stopped at once; continue with:  sweeps resume listed" in done.stderr
    status = sweeps.json("status", listed.name, "--home", home)
    assert status["state"] == "interrupted"
    assert max(trial["epoch"] for trial in status["running"]) >= 1


@pytest.mark.slow
def test_a_study_is_extended(sweeps, store, cluster, copied):
    before = {row["trial"]: row for row in sweeps.json("table", "space", "--home", copied)}
    done = sweeps("resume", "space", "--trials", "+2", "--home", copied, on=cluster)
    assert "sweeps resume" not in done.stdout
    after = {row["trial"]: row for row in sweeps.json("table", "space", "--home", copied)}
    assert set(after) == set("01234567")
    assert {name: after[name] for name in before} == before
    status = sweeps.json("status", "space", "--home", copied)
    assert (status["state"], status["trials"]) == ("complete", 8)
    store(copied, "space").assert_whole(trials=8)

    refused = sweeps("resume", "space", "--trials", "7", "--home", copied, code=2)
    assert "--trials 7: 8 trials of study 'space' have begun or ended; expected 8 or more" in refused.stderr
    assert sweeps.json("status", "space", "--home", copied)["trials"] == 8


@pytest.mark.slow
def test_a_study_is_forked(sweeps, store, studies, cluster, copied):
    changes = ("--set", "space.shift.high=0.05", "--set", "search.first=", "--trials", "2", "--home", copied)
    shifts = [trial.params["shift"] for trial in store(copied, "space").optuna().get_trials()]
    taken = sum(shift <= 0.05 for shift in shifts)
    assert 0 < taken < len(shifts)
    done = sweeps("launch", studies.space, "--fork", "narrow", *changes, on=cluster)
    assert f"the sampler knows {taken} of the 6 trials of 'space':" in done.stderr
    assert f"{len(shifts) - taken} left out: shift was not a number from 0 to 0.05" in done.stderr

    forked = store(copied, "narrow")
    assert [trial.user_attrs.get("forked_from", {}).get("study") for trial in forked.optuna().get_trials()] == [
        *["space"] * taken,
        *[None] * 2,
    ]
    assert list(forked.trials) == ["0", "1"]
    assert {row["trial"] for row in sweeps.json("table", "narrow", "--home", copied)} == {"0", "1"}
    status = sweeps.json("status", "narrow", "--home", copied)
    ended = sum(status[name] for name in ("reached", "exhausted", "pruned", "diverged", "crashed"))
    assert (status["state"], status["trials"], ended) == ("complete", 2, 2)
    assert sweeps.json("status", "space", "--home", copied)["trials"] == 6

    exists = sweeps("launch", studies.space, "--fork", "narrow", *changes, code=2)
    assert "--fork narrow: there is a study of this name" in exists.stderr


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (("--fork", "../x"), 'name = "../x": expected 1 to 64 ASCII letters'),
        (("--fork", "space"), "--fork space: there is a study of this name"),
        (("--fork", "new", "--name", "nothing"), "no study 'nothing'"),
        (("--fork", "new", "--set", "objective.target=0.3"), "objective.target: 0.2 -> 0.3"),
        (("--fork", "new", "--set", "train.batch_size=16"), "6 left out: it trained with another batch_size"),
    ],
)
def test_a_fork_that_cannot_be(sweeps, launched, changes, said):
    done = sweeps("launch", launched.file, *changes, "--home", launched.home, code=2)
    assert said in done.stderr
    assert done.stdout == ""
    assert {path.name for path in (launched.home / "studies").iterdir()} == {"space"}


@pytest.mark.parametrize("trials", ["-3", "0", "+0", "+", "many", "1.5", "", "+-3", "٣"])
def test_trials_that_are_no_number_of_trials(sweeps, launched, trials):
    done = sweeps("resume", "space", f"--trials={trials}", "--home", launched.home, code=2)
    assert done.stdout == ""
    assert f"--trials {trials}: expected how many in all, such as 200, or how many more, such as +50" in done.stderr


def test_every_failed_try_of_a_trial_is_shown(sweeps, crashed):
    home, _ = crashed
    shown = sweeps.json("show", "grid", "1", "--log", "--home", home)
    tries = shown["failed_tries"]
    assert [row["number"] for row in tries] == [1, 1]
    assert all(row["summary"].startswith("resnet_core.checkpoint.CheckpointError: no checkpoint") for row in tries)
    assert tries[0]["time"] <= tries[1]["time"]
    assert shown["error"] == tries[1]["error"]
    text = sweeps("show", "grid", "1", "--home", home).stdout
    assert len(re.findall(r"^  20\S+  number 1: resnet_core\.checkpoint\.CheckpointError", text, re.MULTILINE)) == 2
    assert "(--log shows it)" in text


def test_the_log_of_a_trial_is_shown(sweeps, crashed):
    home, _ = crashed
    log = sweeps("show", "grid", "1", "--log", "--home", home).stdout
    starts = r"INFO trial 1 starts: device cpu, gpus 0, threads 1, node \S+, process \d+$"
    assert len(re.findall(starts, log, re.M)) == 2
    assert re.search(r"WARNING checkpoint \S+00001.pt cannot be read", log)
    assert "Traceback (most recent call last)" in log
    other = sweeps("show", "grid", "0", "--log", "--home", home).stdout
    assert "trial 0 starts" in other
    assert "trial 1" not in other
