"""Whatever fails around a study (MLflow's server, the disk, the databases): nothing is lost, and it says what to do.

What the studies must come out as is the listed study of conftest, launched undisturbed.
"""

import shutil
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from contextlib import closing, suppress
from pathlib import Path

import psutil
import pytest

from tests.e2e.conftest import environment

TRIALS, EPOCHS = 4, 8


@pytest.fixture
def home(tmp_path):
    return tmp_path / "home"


def assert_undisturbed(store, home, listed):
    left = store(home, listed.name)
    left.assert_whole(trials=TRIALS)
    assert left.curves() == listed.store.curves()
    assert not list((home / "studies" / listed.name / "checkpoints").iterdir())
    assert not (home / "studies" / listed.name / "spool.jsonl").exists()


class Server:
    """``mlflow server`` on 127.0.0.1, with the home's own SQLite file behind it, so that the same readers read it."""

    def __init__(self, home: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self._home = home
        self.uri = f"http://127.0.0.1:{self._port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._home.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self._port)]
        command += ["--backend-store-uri", f"sqlite:///{self._home / 'mlflow.db'}", "--workers", "1"]
        command += ["--default-artifact-root", str(self._home / "artifacts")]
        with (self._home / "server.log").open("a") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        end = time.monotonic() + 120
        while True:
            with suppress(OSError), urllib.request.urlopen(f"{self.uri}/health", timeout=5) as answer:
                if answer.status == 200:
                    return
            assert time.monotonic() < end, (self._home / "server.log").read_text()
            time.sleep(0.2)

    def kill(self) -> None:
        if self._process is None:
            return
        family = psutil.Process(self._process.pid).children(recursive=True)
        self._process.kill()
        self._process.wait(20)
        for member in family:
            with suppress(psutil.NoSuchProcess):
                member.kill()
        psutil.wait_procs(family, timeout=10)
        self._process = None


@pytest.fixture
def server(home):
    server = Server(home)
    server.start()
    yield server
    server.kill()


@pytest.mark.slow
def test_a_server_that_is_down_for_a_while(sweeps, store, listed, home, server):
    """Training goes on, and the same launch writes what waited."""
    command = sweeps.start("launch", listed.file, "--home", home, "--mlflow", server.uri)
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
def test_a_server_that_stays_down_and_a_driver_that_is_killed(sweeps, store, listed, home, server):
    """The study is trained to its end without its store; `resume` writes what waited when the server is back."""
    assert f"ok  mlflow store  {server.uri}" in sweeps("doctor", "--home", home, "--mlflow", server.uri).stdout
    first = sweeps.start("launch", listed.file, "--home", home, "--mlflow", server.uri)
    first.until(lambda running: len(running.epochs) >= 4)
    server.kill()
    spool = home / "studies" / listed.name / "spool.jsonl"
    first.until(lambda running: spool.exists() and len(running.epochs) >= 8)
    first.kill()
    assert len(spool.read_text().splitlines()) >= 1

    down = sweeps("resume", listed.name, "--home", home, "--mlflow", server.uri, code=1)
    assert f"MLflow ({server.uri}) cannot be used" in down.stderr

    server.start()
    second = sweeps.start("resume", listed.name, "--home", home, "--mlflow", server.uri)
    second.until(lambda running: running.epochs)
    server.kill()
    done = second.wait()
    assert done.code == 1, done.stderr
    assert f"Nothing is lost: `sweeps resume {listed.name}` writes what is missing; it waits in {spool}." in done.stderr

    server.start()
    sweeps("resume", listed.name, "--home", home, "--mlflow", server.uri)
    assert_undisturbed(store, home, listed)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own, too small for the checkpoints of two trials."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "none", str(disk)], capture_output=True).returncode:
        pytest.skip("may not mount a file system here")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


@pytest.mark.slow
def test_a_full_disk(sweeps, store, listed, small_disk):
    home = small_disk / "home"
    done = sweeps("launch", listed.file, "--home", home, code=1)
    assert f"no space left on the disk of {home}" in done.stderr
    assert f"`sweeps resume {listed.name}`" in done.stderr

    subprocess.run(["mount", "-o", "remount,size=200m", str(small_disk)], check=True)
    sweeps("resume", listed.name, "--home", home)
    assert_undisturbed(store, home, listed)


@pytest.mark.slow
def test_databases_that_another_process_locks(sweeps, store, listed, home):
    """Longer than MLflow itself waits for a lock."""
    command = sweeps.start("launch", listed.file, "--home", home)
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
def test_a_ledger_that_is_taken_away(sweeps, store, listed, home, tmp_path):
    """In mid-study, and before a resume or a launch: nothing is written over, and the study goes on once it is back."""
    command = sweeps.start("launch", listed.file, "--home", home)
    command.until(lambda running: len(running.epochs) >= 3)
    (home / "optuna.db").rename(tmp_path / "optuna.db")
    done = command.wait()
    assert done.code == 1, done.stderr
    assert f"the ledger {home / 'optuna.db'} was deleted or exchanged while the study ran" in done.stderr

    before = store(home, listed.name).curves()
    for arguments in (("resume", listed.name), ("launch", listed.file)):
        refused = sweeps(*arguments, "--home", home, code=1)
        assert "optuna.db is gone" in refused.stderr
        assert not (home / "optuna.db").exists()
    assert store(home, listed.name).curves() == before

    (home / "optuna.db").write_text("no database " * 1000)
    refused = sweeps("resume", listed.name, "--home", home, code=1)
    assert "file is not a database; move it away" in refused.stderr
    assert (home / "optuna.db").read_text() == "no database " * 1000

    shutil.move(tmp_path / "optuna.db", home / "optuna.db")
    sweeps("resume", listed.name, "--home", home)
    assert_undisturbed(store, home, listed)


@pytest.mark.slow
def test_ray_killed_under_the_driver(sweeps, store, listed, home):
    """The part of Ray that is on this machine is gone: the study ends by itself, and can be resumed."""
    command = sweeps.start("launch", listed.file, "--home", home)
    command.until(lambda running: len(running.epochs) >= 3)
    (raylet,) = [process for process in command.family() if process.name() == "raylet"]
    # Ray takes seconds to notice; by then the workers might have come to the end without it.
    with command.suspended():
        raylet.kill()
        done = command.wait(150)
    assert done.code == 1, (done.code, done.stderr)
    assert "`sweeps resume listed`" in done.stderr
    sweeps("resume", listed.name, "--home", home)
    assert_undisturbed(store, home, listed)


_SHORT_OF_MEMORY = """
import sys
from pathlib import Path
import torch
from rich.console import Console
from resnet_core.trainer import train
from search_spaces.study import load_study
from sweeps.home import Home
from sweeps.launch import Launch
from sweeps.trainable import TrialTrainable

class ShortOfMemory(TrialTrainable):
    def epochs(self, config, data_dir, checkpoint):
        for record in train(config, data_dir=data_dir, checkpoint=checkpoint):
            yield record
            tried = checkpoint.with_suffix(".tried")
            if checkpoint.stem == "00001" and not tried.exists():
                tried.touch()
                raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
            if checkpoint.stem == "00002":
                torch.empty(2**60)

home, study = map(Path, sys.argv[1:])
print(Launch(Home(home), home, None, Console(stderr=True), trainable=ShortOfMemory).start(load_study(study)).value)
"""


@pytest.mark.slow
def test_memory_that_runs_out_in_one_trial(store, listed, home, tmp_path):
    """Trial 1 is short of the GPU's memory once, trial 2 of the CPU's every time; the others do not notice."""
    script = tmp_path / "short_of_memory.py"
    script.write_text(_SHORT_OF_MEMORY)
    done = subprocess.run(
        [sys.executable, script, home, listed.file],
        capture_output=True,
        text=True,
        timeout=240,
        stdin=subprocess.DEVNULL,
        env=environment({"PYTHONPATH": str(Path(__file__).parents[2])}),
    )
    assert done.stdout.strip() == "crashes", done.stderr
    assert "out of memory on the GPU: CUDA out of memory. Tried to allocate 2.00 GiB.; started again" in done.stderr
    assert done.stderr.count("out of memory: DefaultCPUAllocator: ") == 3  # started again, given up, crashed
    left = store(home, listed.name)
    outcomes = [run.data.tags["outcome"] for run in left.trials.values()]
    assert [outcome == "crashed" for outcome in outcomes] == [False, False, True, False]
    assert list(left.trials.values())[2].data.tags["stop_reason"].startswith("out of memory: DefaultCPUAllocator")
    whole = {name: curve for name, curve in left.curves().items() if left.trials[name].info.status == "FINISHED"}
    assert whole == {name: curve for name, curve in listed.store.curves().items() if name in whole}
