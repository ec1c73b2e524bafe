"""Trials that share a GPU, or without one a node, in one process: the curves are those of trials with their own."""

import re

import psutil
import pytest
import ray

from resnet_core.config import TrialConfig
from sweeps.execution.shared_process import start_pool
from sweeps.execution.shared_trainable import SharedTrainable
from tests.e2e.conftest import LONG
from tests.e2e.test_kill_and_resume import TRIALS, assert_undisturbed
from tests.e2e.test_placement import STUDY
from tests.e2e.test_placement import TRIALS as SHARES

SHARED = ("--set", "resources.shared_process=true")


def places(home, name):
    """Return the GPU and the process of each start that a trial's log tells of, by trial."""
    logs = sorted((home / "studies" / name / "logs").glob("*.txt"))
    return [re.findall(r" starts: .*?(?:gpu_ids (\d).*)?process (\d+)$", log.read_text(), re.M) for log in logs]


@pytest.fixture(scope="module")
def broken(sweeps, listed, cluster, tmp_path_factory):
    """The home of a study in one process with a trial that finds a file that is no checkpoint, and what was said."""
    home = tmp_path_factory.mktemp("broken") / "home"
    checkpoint = home / "studies" / listed.name / "checkpoints" / "00001.pt"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.write_bytes(b"no checkpoint")
    alone = ("--set", "search.retries=0")
    return home, sweeps("launch", listed.file, "--home", home, *SHARED, *alone, on=cluster, code=3).stderr


def test_trials_without_a_gpu_share_the_process_of_their_node(broken, listed):
    home, _ = broken
    starts = places(home, listed.name)
    assert len(starts) == TRIALS
    assert len({process for trial in starts for _, process in trial}) == 1


def test_a_trial_that_fails_is_told_of(broken, store, listed):
    home, said = broken
    (crashed,) = [run for run in store(home, listed.name).trials.values() if run.data.tags["outcome"] == "crashed"]
    assert "checkpoint" in crashed.data.tags["stop_reason"]
    assert "00001.pt" in said


def test_a_trial_that_fails_leaves_the_others_alone(broken, store, listed):
    """Their curves are those of trials with processes of their own."""
    home, _ = broken
    curves, undisturbed = store(home, listed.name).curves(), listed.store.curves()
    whole = {name for name, curve in curves.items() if curve["val_acc"]}
    assert len(whole) == TRIALS - 1
    assert {name: curves[name] for name in whole} == {name: undisturbed[name] for name in whole}


def test_what_a_trial_logs_is_in_its_own_log(broken, listed):
    home, _ = broken
    logs = home / "studies" / listed.name / "logs"
    warning, after = "WARNING checkpoint ", "CheckpointError: no checkpoint"
    said = (logs / "00001.txt").read_text()
    assert 0 < said.index(warning) < said.index(after)
    assert not any("WARNING" in (logs / f"{number:05d}.txt").read_text() for number in (0, 2, 3))


@pytest.mark.slow
def test_trials_on_one_gpu_share_a_process(sweeps, store, ray_nodes, home, tmp_path):
    """The cluster says it has two GPUs; trials train on the CPU."""
    ray_nodes.start(cpus=4, gpus=2)
    study = tmp_path / "study.toml"
    study.write_text(STUDY + "[resources]\ngpus_per_trial = 0.5\nshared_process = true\n")
    sweeps("launch", study, "--home", home, "--set", "train.epochs=4", on=ray_nodes)
    store(home, "shares").assert_whole(trials=SHARES)
    of_gpu = {(gpu, process) for starts in places(home, "shares") for gpu, process in starts}
    assert [gpu for gpu, _ in sorted(of_gpu)] == ["0", "1"]
    assert len({process for _, process in of_gpu}) == 2


@pytest.fixture
def own_processes(cluster):
    """Trials can share a process that the test starts."""
    ray.init(address=cluster.address, log_to_driver=False)
    processes = start_pool()
    yield
    ray.kill(processes)
    ray.shutdown()


@pytest.fixture
def trials(tmp_path):
    """Two trials, as an actor of Ray Tune's is given them."""
    network = TrialConfig(
        "[5e-3, 0] cos[1e-4, 4]", model="resnet11v2", data="digits", train_limit=50, val_limit=50, image_size=16
    )
    return [
        {
            "number": number,
            "config": network.to_dict(),
            "data_dir": "",
            "checkpoint": str(tmp_path / f"{number}.pt"),
            "network": None,
            "log": str(tmp_path / f"{number}.txt"),
            "threads": 1,
            "trainer": None,
            "code": [],
            "gpus": 0,
        }
        for number in range(2)
    ]


def actor(trial):
    return ray.remote(SharedTrainable).remote(trial)


@pytest.mark.usefixtures("own_processes")
def test_an_actor_that_is_set_up_and_not_used_leaves_the_trial_alone(trials, tmp_path):
    """Ray may set up two actors for a trial that it starts again, and gives the second one the next trial."""
    this, following = trials
    used = actor(this)
    ray.get([used.step.remote(), used.step.remote()])  # the first says where
    (tmp_path / "0.pt").unlink()  # a trial that is begun anew starts with its first epoch
    unused = actor(this)
    ray.get([unused.step.remote(), unused.reset_config.remote(following)])
    epochs = ray.get([unused.step.remote(), unused.step.remote(), used.step.remote()])[1:]
    assert [(epoch["number"], epoch["record"]["epoch"]) for epoch in epochs] == [(1, 1), (0, 2)]


@pytest.mark.slow
def test_nothing_trains_on_without_the_driver(sweeps, store, listed, cluster, home):
    command = sweeps.start("launch", listed.file, "--home", home, *SHARED, on=cluster)
    command.until(lambda running: len(running.epochs) >= 3)
    shared = command.shared_process()
    psutil.Process(command.pid).kill()
    shared.wait(LONG)
    sweeps("resume", listed.name, "--home", home, on=cluster)
    assert_undisturbed(store, home, listed)
