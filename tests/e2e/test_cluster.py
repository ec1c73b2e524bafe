"""A study on a Ray cluster whose nodes join and leave. All of them are on this machine, and share its file system."""

import re
import subprocess

import pytest

from tests.e2e.conftest import TRAIN

pytestmark = pytest.mark.slow

TRIALS = 2
STUDY = f"""
name = "nodes"
[train]
{TRAIN}schedule = "[5e-3, 0] cos[1e-4, 30]"
[search]
seeds = {list(range(TRIALS))}
"""


@pytest.fixture(scope="module")
def head(ray_nodes):
    """A cluster of one node with one core."""
    ray_nodes.start(cpus=1)
    return ray_nodes


@pytest.fixture
def study(tmp_path):
    path = tmp_path / "study.toml"
    path.write_text(STUDY)
    return path


def lost(command):
    """Return the trials that were on a machine that is gone."""
    return re.findall(r"^trial (\S+): its machine, .* is gone; started again", command.stderr, re.M)


def test_a_node_joins_and_is_lost(sweeps, store, study, head, tmp_path):
    """The study spreads onto the node, and what was on it goes on elsewhere from its last epoch."""
    home = tmp_path / "home"
    command = sweeps.start("launch", study, "--home", home, on=head)
    command.until(lambda command: command.epochs)
    first = command.epochs[0][0]
    with command.suspended():  # the trial is still there when the other one begins
        joined = head.start(cpus=1)
        command.until(lambda command: {trial for trial, _ in command.epochs} > {first})
        head.kill(joined)
    done = command.wait()
    assert done.code == 0, done.stderr
    (moved,) = lost(command)
    left = store(home, "nodes")
    left.assert_whole(trials=TRIALS)
    assert len(command.epochs) == len(set(command.epochs)), "an epoch was shown twice"
    seed = left.trials[moved].data.tags["seed"]
    alone = sweeps.json("train", study, "--set", f"search.seeds=[{seed}]")["epochs"]
    assert left.curves()[moved]["val_loss"] == [epoch["val_loss"] for epoch in alone]


def test_a_study_waits_for_a_node_that_fits(sweeps, store, study, head, tmp_path):
    """Where the only node that fits is lost, the study waits for another one."""
    home = tmp_path / "home"
    change = ("--set", "search.seeds=[0]", "--set", "resources.cpus_per_trial=2")
    first = head.start(cpus=2)
    command = sweeps.start("launch", study, "--home", home, *change, on=head)
    command.until(lambda command: command.epochs)
    with command.suspended():
        head.kill(first)
    command.until(lost)
    second = head.start(cpus=2)
    done = command.wait()
    head.kill(second)
    assert done.code == 0, done.stderr
    store(home, "nodes").assert_whole(trials=1)


def test_a_node_without_the_home_folder_is_refused(sweeps, study, head, tmp_path):
    """As on a cluster whose nodes do not share it."""
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode:
        pytest.skip("may not make a mount namespace here")
    other = head.start(
        cpus=1, before=["unshare", "--mount", "sh", "-c", f'mount -t tmpfs none {hidden} && exec "$@"', "sh"]
    )
    done = sweeps("launch", study, "--home", hidden / "home", on=head, code=1)
    head.kill(other)
    assert "of the Ray cluster does not have" in done.stderr
    assert "choose a --home on a file system that all nodes share" in done.stderr
