"""Trials on a cluster that is already there, on shares of its GPUs.

The cluster says it has two GPUs. Ray keeps account of them; that they do not exist only means that trials train on
the CPU.
"""

import subprocess
import sys

import pytest

from tests.e2e.conftest import LONG, TRAIN

TRIALS = 6
STUDY = f"""
name = "shares"
[train]
{TRAIN}schedule = "[5e-3, 0] cos[1e-4, 16]"
[search]
seeds = {list(range(TRIALS))}
"""


# A second thread, as MLflow's writer is one, that collects garbage for as long as Ray's core is shut down.
COLLECTING = """
import gc, sys, threading, time
import ray
from sweeps.execution.placement import ray_cluster

def collect():
    while ray.is_initialized():
        time.sleep(0.0005)
    while hasattr(ray._private.worker.global_worker, "core_worker"):
        gc.collect()

gc.disable()
with ray_cluster(sys.argv[1]):
    for _ in range(3000):
        garbage = [ray.put(1)]
        garbage.append(garbage)
    other = threading.Thread(target=collect)
    other.start()
other.join()
print("ended")
"""


@pytest.fixture(scope="module")
def wide(ray_nodes):
    """A Ray cluster of so many cores that GPUs alone are what trials share."""
    ray_nodes.start(cpus=4, gpus=2)
    return ray_nodes


@pytest.mark.slow
@pytest.mark.parametrize(("share", "on_one", "epochs"), [(0.5, 2, 16), (1, 1, 4)])
def test_trials_share_gpus(sweeps, store, wide, tmp_path, share, on_one, epochs):
    study, home = tmp_path / "study.toml", tmp_path / "home"
    study.write_text(STUDY + f"[resources]\ngpus_per_trial = {share}\n")
    sweeps("launch", study, "--home", home, "--set", f"train.epochs={epochs}", on=wide)
    left = store(home, "shares")
    left.assert_whole(trials=TRIALS)
    runs = left.trials
    # What torch finds is what a trial trains on, whatever Ray says there is.
    assert {run.data.tags["device"] for run in runs.values()} == {"cpu"}
    assert {run.data.tags["gpus"] for run in runs.values()} == {str(share)}
    places = {name: run.data.tags["gpu_ids"] for name, run in runs.items()}
    assert set(places.values()) == {"0", "1"}
    spans = {}
    for name, run in runs.items():
        times = [point.timestamp for point in left.history(run, "val_acc")]
        spans[name] = (min(times), max(times))
    at_once = [
        sum(places[other] == places[name] and begin <= start < end for other, (begin, end) in spans.items())
        for name, (start, _) in spans.items()
    ]
    assert max(at_once) <= on_one
    if on_one == 2:
        assert max(at_once) == 2


def test_doctor_counts_what_a_cluster_has(sweeps, cluster, tmp_path):
    checks = {check["name"]: check for check in sweeps.json("doctor", "--home", tmp_path, on=cluster)}
    found = f"{cluster.address}: nodes 1, cores 1, GPUs 2"
    assert checks["cluster"] == {"name": "cluster", "ok": True, "found": found}


@pytest.mark.slow
def test_without_an_address_a_launch_starts_its_own(sweeps, store, wide, tmp_path):
    """Also on a machine where a cluster runs that Ray would find by itself."""
    study, home = tmp_path / "study.toml", tmp_path / "home"
    study.write_text(STUDY)
    changes = ("--set", "search.seeds=[0]", "--set", "train.epochs=1")
    sweeps.cold("launch", study, "--home", home, *changes, env={"RAY_TMPDIR": str(wide.folder)})
    (run,) = store(home, "shares").trials.values()
    assert run.data.tags["outcome"] == "exhausted"


def test_a_thread_that_collects_garbage_does_not_end_the_process(cluster):
    """Ray ends a process that frees a reference of its while its core shuts down."""
    done = subprocess.run(
        [sys.executable, "-c", COLLECTING, cluster.address], capture_output=True, text=True, timeout=LONG
    )
    assert (done.returncode, done.stdout) == (0, "ended\n"), done.stderr
