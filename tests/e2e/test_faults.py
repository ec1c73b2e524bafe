"""Whatever fails around a study (MLflow's server, the disk, the databases): nothing is lost, and it says what to do.

What the studies must come out as is the listed study of conftest, launched undisturbed.
"""

import shutil
import sqlite3
import subprocess
import time
from contextlib import closing, suppress

import psutil
import pytest

from tests.e2e.conftest import run_script
from tests.mlflow_server import Server

TRIALS, EPOCHS = 4, 8


def assert_undisturbed(store, home, listed):
    left = store(home, listed.name)
    left.assert_whole(trials=TRIALS)
    assert left.curves() == listed.store.curves()
    assert not list((home / "studies" / listed.name / "checkpoints").iterdir())
    assert not (home / "studies" / listed.name / "spool.jsonl").exists()


@pytest.fixture
def server(home):
    """An MLflow server with the home's own SQLite file behind it, so that the same readers read it."""
    home.mkdir()
    server = Server(f"sqlite:///{home / 'mlflow.db'}")
    server.start()
    yield server
    server.kill()


@pytest.mark.slow
def test_a_server_that_is_down_for_a_while(sweeps, store, listed, cluster, home, server):
    """Training goes on, and the same launch writes what waited."""
    command = sweeps.start("launch", listed.file, "--home", home, "--mlflow", server.uri, on=cluster)
    command.until(lambda running: len(running.epochs) >= 4)
    server.kill()
    spool = home / "studies" / listed.name / "spool.jsonl"
    command.until(lambda running: spool.exists() and len(running.epochs) >= 10)
    with command.suspended():
        server.start()
    done = command.wait()
    assert done.code == 0, done.stderr
    assert "cannot be written: " in done.stderr
    assert f"waits in {spool}" in done.stderr
    assert "is written again" in done.stderr
    assert server.uri in done.stdout
    assert done.stdout.splitlines()[0].startswith("trial")  # its table, read from the server
    assert_undisturbed(store, home, listed)


@pytest.mark.slow
def test_a_server_that_stays_down_and_a_driver_that_is_killed(sweeps, store, listed, cluster, home, server):
    """The study is trained to its end without its store; `resume` writes what waited when the server is back."""
    assert f"ok  mlflow store  {server.uri}" in sweeps("doctor", "--home", home, "--mlflow", server.uri).stdout
    first = sweeps.start("launch", listed.file, "--home", home, "--mlflow", server.uri, on=cluster)
    first.until(lambda running: len(running.epochs) >= 4)
    server.kill()
    spool = home / "studies" / listed.name / "spool.jsonl"
    first.until(lambda running: spool.exists() and len(running.epochs) >= 8)
    first.kill()
    assert len(spool.read_text().splitlines()) >= 1

    down = sweeps("resume", listed.name, "--home", home, "--mlflow", server.uri, on=cluster, code=1)
    assert f"MLflow ({server.uri}) cannot be used" in down.stderr

    server.start()
    second = sweeps.start("resume", listed.name, "--home", home, "--mlflow", server.uri, on=cluster)
    second.until(lambda running: running.epochs)
    server.kill()
    done = second.wait()
    assert done.code == 1, done.stderr
    assert f"Nothing is lost: `sweeps resume {listed.name}` writes what is missing; it waits in {spool}." in done.stderr

    server.start()
    sweeps("resume", listed.name, "--home", home, "--mlflow", server.uri, on=cluster)
    assert_undisturbed(store, home, listed)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own, with room for a checkpoint, but not for the next one beside it."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=7m", "none", str(disk)], capture_output=True).returncode:
        pytest.skip("may not mount a file system here")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


@pytest.mark.slow
def test_a_full_disk(sweeps, store, listed, cluster, small_disk):
    home = small_disk / "home"
    done = sweeps("launch", listed.file, "--home", home, on=cluster, code=1)
    assert f"no space left on the disk of {home}" in done.stderr
    assert f"`sweeps resume {listed.name}`" in done.stderr

    subprocess.run(["mount", "-o", "remount,size=200m", str(small_disk)], check=True)
    sweeps("resume", listed.name, "--home", home, on=cluster)
    assert_undisturbed(store, home, listed)


@pytest.mark.slow
def test_databases_that_another_process_locks(sweeps, store, listed, cluster, home):
    """Longer than MLflow itself waits for a lock."""
    command = sweeps.start("launch", listed.file, "--home", home, on=cluster)
    command.until(lambda running: len(running.epochs) >= 3)
    with (
        closing(sqlite3.connect(home / "mlflow.db", timeout=30, isolation_level=None)) as mlflow,
        closing(sqlite3.connect(home / "optuna.db", timeout=30, isolation_level=None)) as ledger,
    ):
        for connection in (mlflow, ledger):
            connection.execute("BEGIN EXCLUSIVE")
        time.sleep(8)
        for connection in (mlflow, ledger):
            connection.execute("ROLLBACK")
    done = command.wait()
    assert done.code == 0, done.stderr
    assert_undisturbed(store, home, listed)


@pytest.mark.slow
def test_what_people_change_in_mlflow_while_a_study_runs(sweeps, store, listed, cluster, home):
    """A run that is deleted is restored, and the experiment keeps its new name; every epoch is there once."""
    command = sweeps.start("launch", listed.file, "--home", home, on=cluster)
    command.until(lambda running: len(running.epochs) >= 2)
    with command.suspended():
        found = store(home, listed.name)
        experiment = found.experiment.experiment_id
        # The writer may be behind what is shown.
        command.until(lambda _: "RUNNING" in {run.info.status for run in found.trials.values()})
        name = next(name for name, run in found.trials.items() if run.info.status == "RUNNING")
        found.client.delete_run(found.trials[name].info.run_id)
        found.client.rename_experiment(experiment, "a name of my own")
    done = command.wait()
    assert done.code == 0, done.stderr
    assert f"the run of trial {name} was deleted, and is restored" in done.stderr
    assert found.client.get_experiment(experiment).name == "a name of my own"
    assert name in sweeps("table", listed.name, "--home", home).stdout
    found.client.rename_experiment(experiment, listed.name)  # the fixture looks for this name
    assert_undisturbed(store, home, listed)


@pytest.mark.slow
def test_a_ledger_that_is_taken_away(sweeps, store, listed, cluster, home, tmp_path):
    """In mid-study, and before a resume or a launch: nothing is written over, and the study goes on once it is back."""
    command = sweeps.start("launch", listed.file, "--home", home, on=cluster)
    command.until(lambda running: len(running.epochs) >= 3)
    (home / "optuna.db").rename(tmp_path / "optuna.db")
    done = command.wait()
    assert done.code == 1, done.stderr
    assert f"the ledger {home / 'optuna.db'} was deleted or exchanged while the study ran" in done.stderr

    before = store(home, listed.name).curves()
    for arguments in (("resume", listed.name), ("launch", listed.file)):
        refused = sweeps(*arguments, "--home", home, on=cluster, code=1)
        assert "optuna.db is gone" in refused.stderr
        assert not (home / "optuna.db").exists()
    assert store(home, listed.name).curves() == before

    (home / "optuna.db").write_text("no database " * 1000)
    refused = sweeps("resume", listed.name, "--home", home, on=cluster, code=1)
    assert "file is not a database; move it away" in refused.stderr
    assert (home / "optuna.db").read_text() == "no database " * 1000

    shutil.move(tmp_path / "optuna.db", home / "optuna.db")
    sweeps("resume", listed.name, "--home", home, on=cluster)
    assert_undisturbed(store, home, listed)


@pytest.mark.slow
def test_ray_killed_under_the_driver(sweeps, store, listed, cluster, home):
    """The part of Ray that is on this machine is gone: the study ends by itself, and can be resumed."""
    command = sweeps.start("launch", listed.file, "--home", home)
    command.until(lambda running: running.epochs)
    (raylet,) = [process for process in command.family() if process.name() == "raylet"]
    raylet.kill()
    command.until(lambda running: raylet not in running.family())
    # Ray takes seconds to notice; by then the workers might have come to the end without it. They are held only now:
    # a stopped process goes on when its parent dies, where it ignores SIGHUP (under nohup, say).
    with command.suspended():
        done = command.wait()
    assert done.code == 1, (done.code, done.stderr)
    assert "`sweeps resume listed`" in done.stderr
    sweeps("resume", listed.name, "--home", home, on=cluster)
    assert_undisturbed(store, home, listed)


@pytest.mark.slow
def test_a_batch_system_ends_the_whole_job(sweeps, store, listed, cluster, home):
    """SIGTERM to every process, as Slurm sends it: the study ends by itself, and can be resumed."""
    command = sweeps.start("launch", listed.file, "--home", home)
    command.until(lambda running: running.epochs)
    for process in command.family():
        with suppress(psutil.NoSuchProcess):  # with its parent
            process.terminate()
    done = command.wait()
    # Interrupted, where the trials end before the driver hears of the end of Ray.
    assert done.code in (1, 130), (done.code, done.stderr)
    assert "sweeps resume listed" in (done.stderr.splitlines()[-1] if done.code == 1 else done.stdout)
    assert "GCS" not in done.stderr
    sweeps("resume", listed.name, "--home", home, on=cluster)
    assert_undisturbed(store, home, listed)


_SHORT_OF_MEMORY = """
import sys
from pathlib import Path
import torch
from rich.console import Console
from resnet_core.trainer import train
from search_spaces.study import load_study
from sweeps.home import Home
from sweeps.execution.launch import Launch
from sweeps.execution.trainable import TrialTrainable

class ShortOfMemory(TrialTrainable):
    def epochs(self, config, checkpoint, **more):
        for record in train(config, checkpoint=checkpoint, **more):
            yield record
            tried = checkpoint.with_suffix(".tried")
            if checkpoint.stem == "00001" and not tried.exists():
                tried.touch()
                raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
            if checkpoint.stem == "00002":
                torch.empty(2**60)

home, study, address = sys.argv[1:]
launch = Launch(Home(Path(home)), Path(home), address, Console(stderr=True), trainable=ShortOfMemory)
print(launch.start(load_study(Path(study))).value)
"""


@pytest.mark.slow
def test_memory_that_runs_out_in_one_trial(store, listed, cluster, home, tmp_path):
    """Trial 1 is short of the GPU's memory once, trial 2 of the CPU's every time; the others do not notice."""
    script = tmp_path / "short_of_memory.py"
    script.write_text(_SHORT_OF_MEMORY)
    done = run_script(script, home, listed.file, cluster.address)
    assert done.stdout.strip() == "crashed", done.stderr
    assert "out of memory on the GPU: CUDA out of memory. Tried to allocate 2.00 GiB.; started again" in done.stderr
    assert done.stderr.count("out of memory: DefaultCPUAllocator: ") == 3  # started again, given up, crashed
    left = store(home, listed.name)
    outcomes = [run.data.tags["outcome"] for run in left.trials.values()]
    assert [outcome == "crashed" for outcome in outcomes] == [False, False, True, False]
    assert list(left.trials.values())[2].data.tags["stop_reason"].startswith("out of memory: DefaultCPUAllocator")
    whole = {name: curve for name, curve in left.curves().items() if left.trials[name].info.status == "FINISHED"}
    assert whole == {name: curve for name, curve in listed.store.curves().items() if name in whole}
