"""What the end-to-end tests share: the command, studies small enough for two cores, and readers of what it left.

Everything goes through the ``sweeps`` command, with real Ray, Optuna and MLflow. Starting those takes seconds, so what
costs them is shared where a test is not about it: launches by all of pytest's processes, a Ray cluster by the launches
of a process, and Python with the modules of a command by all commands (see tests.e2e.warm).
"""

import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import optuna
import psutil
import pytest

from tests.e2e.warm import Warm
from tests.postgres import postgres

__all__ = ["postgres"]

METRICS = ("loss", "acc", "val_loss", "val_acc", "lr", "wd_lr", "seconds", "images_per_second")

# What all studies here train: a network and images that take a fifth of a second an epoch.
TRAIN = """
model = "resnet11v2"
data = "digits"
image_size = 16
train_limit = 100
val_limit = 50
batch_size = 32
flip = false
"""

# The first four trials end in the four ways there are beside a crash, on any machine: a learning rate of 5e-3
# passes the low target, one of 1e-7 never does, and is long enough for the cap to find it running, one of 1e30 breaks
# the network in its first step; and trial 3 is a control, which the cap may not stop.
_SPACE = f"""
name = "space"
description = "How a ResNet11v2 comes to know a handful of digits"
[train]
{TRAIN}
optimizer = "adamw"
schedule = "[0.5*lr, 0] lin[lr, 4] cos[0.1*lr, +decay]"
[space]
lr = {{ choices = [5e-3, 1e-7, 1e30] }}
weight_decay = {{ low = 0.01, high = 0.4, log = true }}
decay = {{ low = 1, high = 24, int = true }}
shift = {{ low = 0.0, high = 0.1 }}
[objective]
target = 0.2
[search]
trials = 6
sampler = "random"
seed = 18
first = [
  {{ lr = 5e-3, weight_decay = 0.1, decay = 1, shift = 0.0 }},
  {{ lr = 1e-7, weight_decay = 0.1, decay = 24, shift = 0.0 }},
  {{ lr = 1e30, weight_decay = 0.1, decay = 1, shift = 0.0 }},
  {{ lr = 1e-7, weight_decay = 0.1, decay = 1, shift = 0.1 }},
]
[stopping]
cap = {{ best = 1, slack = 1.0 }}
control = 0.2
"""

_FEW = TRAIN.replace("train_limit = 100", "train_limit = 40").replace("val_limit = 50", "val_limit = 20")
LISTED = f"""
name = "listed"
[train]
{_FEW}
optimizer = "adamw"
schedule = "[5e-3, 0] cos[1e-4, 8]"
[objective]
target = 0.2
[search]
seeds = [0, 1]
[[run]]
name = "plain"
[[run]]
name = "decayed"
weight_decay = 0.1
shift = 0.05
"""

_GRID = f"""
name = "grid"
[train]
{TRAIN}
optimizer = "sgd"
schedule = "[lr, 0] lin[0.1*lr, 2]"
[space]
lr = {{ choices = [0.05, 0.01] }}
momentum = {{ low = 0.0, high = 0.9, step = 0.9 }}
[search]
sampler = "grid"
"""


# Seconds until a test gives up waiting: for what hangs, and far more than a machine needs that does much else.
LONG = 600.0

# Minutes each: whichever of them came at the end would run alone, beside an idle process of pytest's.
_LONGEST = ("test_tutorial.py", "test_faults.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest modules; the others in the reverse order of their names, which has short ones last."""
    items.sort(key=lambda item: item.path.name, reverse=True)
    items.sort(key=lambda item: item.path.name not in _LONGEST)


@dataclass(frozen=True)
class Done:
    """How a command ended, and what it said."""

    code: int
    stdout: str
    stderr: str


class Running:
    """A command that runs in the background, in a session of its own.

    Args:
        pid: the number of its process.
        folder: where its output is.
        nodes: the cluster that its trials are on, where that is not one of its own.
    """

    def __init__(self, pid: int, folder: Path, nodes: "RayNodes | None" = None) -> None:
        self.pid, self.folder = pid, folder
        self._nodes = nodes
        self._family: dict[int, psutil.Process] = {}

    @property
    def stdout(self) -> str:
        return (self.folder / "stdout").read_text()

    @property
    def stderr(self) -> str:
        return (self.folder / "stderr").read_text()

    @property
    def epochs(self) -> list[tuple[str, int]]:
        """Trial and epoch of every epoch that was shown so far."""
        found = re.findall(r"^trial (\S+): epoch (\d+)/", self.stderr, re.MULTILINE)
        return [(trial, int(epoch)) for trial, epoch in found]

    def until(self, happened: Callable[["Running"], Any], seconds: float = LONG) -> None:
        """Wait for something to happen while the command runs."""
        end = time.monotonic() + seconds
        while not happened(self):
            assert self.code is None, f"ended with {self.code} before:\n{self.stderr}"
            assert time.monotonic() < end, f"nothing in {seconds} s:\n{self.stderr}"
            time.sleep(0.02)

    def family(self) -> list[psutil.Process]:
        """Return the processes of the command that are alive: itself, and all it has started."""
        if self.code is None:  # its number is not yet another's
            with suppress(psutil.NoSuchProcess):
                command = psutil.Process(self.pid)
                for process in (command, *command.children(recursive=True)):
                    self._family[process.pid] = process
        return [process for process in self._family.values() if _alive(process)]

    def workers(self) -> list[psutil.Process]:
        """Return the processes that train, eldest first."""
        return sorted(self._titled("Trainable"), key=lambda process: process.create_time())

    def shared_process(self) -> psutil.Process:
        """Return the process that trains for all trials."""
        (found,) = self._titled("SharedProcess")
        return found

    def _titled(self, name: str) -> list[psutil.Process]:
        processes = self._nodes.processes() if self._nodes else self.family()
        return [process for process in processes if name in _title(process)]

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """Hold the processes that train for as long as the block lasts, so that the study cannot end in it."""
        workers = self.workers()
        for worker in workers:
            worker.suspend()
        try:
            yield
        finally:
            for worker in workers:
                with suppress(psutil.NoSuchProcess):
                    worker.resume()

    @property
    def code(self) -> int | None:
        """How it ended; None while it runs."""
        try:
            return int((self.folder / "code").read_text())
        except FileNotFoundError:
            return None

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill the command and everything that it started, at once."""
        with suppress(ProcessLookupError):
            self.signal(signal.SIGSTOP)  # to look for what it started takes a while, in which a short study would end
        self.clean_up()
        self.wait()

    def wait(self, seconds: float = LONG) -> Done:
        end = time.monotonic() + seconds
        while (code := self.code) is None:
            if time.monotonic() > end:
                self.clean_up()
                pytest.fail(f"still running after {seconds} s:\n{self.stderr}")
            time.sleep(0.01)
        return Done(code, self.stdout, self.stderr)

    def clean_up(self) -> None:
        for process in self.family():
            _kill(process)


def _alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def _kill(process: psutil.Process) -> None:
    with suppress(psutil.NoSuchProcess):
        process.kill()


class Sweeps:
    """The ``sweeps`` command, run in folders of its own.

    Args:
        folder: where those are.
        preexec: called in the process of the commands before it begins.
    """

    def __init__(self, folder: Path, preexec: Callable[[], None] | None = None) -> None:
        self._folder, self._count, self._preexec = folder, 0, preexec
        self._started: list[Running] = []
        self._warm: Warm | None = None
        self.command = Path(sys.executable).parent / "sweeps"

    def __call__(
        self,
        *arguments: object,
        on: "RayNodes | None" = None,
        env: dict[str, str] | None = None,
        cwd: Path | None = None,
        code: int | None = 0,
        timeout: float = LONG,
    ) -> Done:
        """Run a command to its end and expect an exit code; None expects any."""
        done = self.start(*arguments, on=on, env=env, cwd=cwd).wait(timeout)
        return self._expected(arguments, done, code)

    def cold(self, *arguments: object, env: dict[str, str] | None = None) -> Done:
        """Run a command as a shell does, for a test that is about starting it too, and expect it to succeed."""
        done = subprocess.run(
            [str(self.command), *map(str, arguments)],
            cwd=self._place(),
            env=environment(env),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LONG,
        )
        return self._expected(arguments, Done(done.returncode, done.stdout, done.stderr), 0)

    def _expected(self, arguments: tuple[object, ...], done: Done, code: int | None) -> Done:
        said = f"sweeps {' '.join(map(str, arguments))}\nended with {done.code}\n{done.stdout}\n{done.stderr}"
        assert code is None or done.code == code, said
        assert "Traceback" not in done.stderr, said
        return done

    def json(self, *arguments: object, on: "RayNodes | None" = None) -> Any:
        """Run a command with ``--json`` and return what it printed."""
        return json.loads(self(*arguments, "--json", on=on).stdout, parse_constant=_no_constant)

    def start(
        self,
        *arguments: object,
        on: "RayNodes | None" = None,
        env: dict[str, str] | None = None,
        cwd: Path | None = None,
    ) -> Running:
        """Start a command in the background; a launch ``on`` a cluster that is there, or on one of its own."""
        self._warm = self._warm or Warm(environment(None), self._preexec)
        place = self._place()
        command = [str(self.command), *map(str, arguments), *(("--address", on.address) if on else ())]
        running = Running(self._warm.start(command, cwd or place, environment(env), place), place, on)
        self._started.append(running)
        return running

    def clean_up(self) -> None:
        for running in self._started:
            running.clean_up()
        if self._warm is not None:
            self._warm.kill()

    def _place(self) -> Path:
        self._count += 1
        place = self._folder / f"{self._count:03d}"
        place.mkdir(parents=True)
        return place


def _no_constant(name: str) -> Any:
    raise AssertionError(f"{name} is not JSON")


def environment(changes: dict[str, str] | None) -> dict[str, str]:
    """The environment without what would make the command behave otherwise than on a new machine."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("SWEEPS_", "RAY_", "TUNE_", "MLFLOW_", "OPTUNA_", "OMP_")) and name != "COLUMNS"
    }
    # A report takes seconds at the end of each launch: those whose test is about it ask for it.
    # Tests wait for epochs, which are short ones: every one is shown.
    return kept | {"SWEEPS_REPORT": "0", "SWEEPS_VERBOSE": "1"} | (changes or {})


def run_script(script: Path, *arguments: object) -> Done:
    """Run a Python program that uses the project as a library, to its end."""
    done = subprocess.run(
        [sys.executable, str(script), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=LONG,
        stdin=subprocess.DEVNULL,
        env=environment({"PYTHONPATH": str(Path(__file__).parents[2])}),
    )
    return Done(done.returncode, done.stdout, done.stderr)


class Store:
    """Reads what a study left, through MLflow's client and through Optuna."""

    def __init__(self, home: Path, study: str, mlflow: str = "", ledger: str = "") -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        from mlflow import MlflowClient

        self.home, self.study = home, study
        self.client = MlflowClient(mlflow or f"sqlite:///{home / 'mlflow.db'}")
        self._ledger = ledger or f"sqlite:///{home / 'optuna.db'}"

    @property
    def experiment(self) -> Any:
        return self.client.get_experiment_by_name(self.study)

    def _runs(self, kind: str) -> list[Any]:
        query = f"tags.`sweeps.kind` = '{kind}'"
        return list(self.client.search_runs([self.experiment.experiment_id], query, max_results=1000))

    @property
    def launches(self) -> list[Any]:
        return self._runs("launch")

    @property
    def trials(self) -> dict[str, Any]:
        """The runs of the trials by name, in the order of their numbers."""
        runs = sorted(self._runs("trial"), key=lambda run: int(run.data.tags["sweeps.trial"]))
        return {run.info.run_name: run for run in runs}

    def history(self, run: Any, metric: str) -> list[Any]:
        return self.client.get_metric_history(run.info.run_id, metric)

    def curves(self) -> dict[str, dict[str, list[float]]]:
        """Losses and accuracies of every trial, by trial and metric, in the order of epochs."""
        return {
            name: {
                metric: [point.value for point in sorted(self.history(run, metric), key=lambda point: point.step)]
                for metric in ("loss", "acc", "val_loss", "val_acc", "lr")
            }
            for name, run in self.trials.items()
        }

    def optuna(self) -> optuna.Study:
        return optuna.load_study(storage=self._ledger, study_name=self.study)

    def assert_whole(self, trials: int) -> None:
        """Check that a study ended with nothing left open, and every epoch of every trial once in the store."""
        states = [trial.state.name for trial in self.optuna().get_trials(deepcopy=False)]
        assert len(states) - states.count("FAIL") == trials
        assert not {"RUNNING", "WAITING"} & set(states)
        (parent,) = self.launches
        assert parent.info.status == "FINISHED"
        self.assert_epochs_once()
        assert all(run.data.tags["mlflow.parentRunId"] == parent.info.run_id for run in self._runs("trial"))

    def assert_epochs_once(self) -> None:
        """Check that every trial of the ledger has one run, closed, with each of its epochs once."""
        runs = self._runs("trial")
        numbers = [int(run.data.tags["sweeps.trial"]) for run in runs]
        assert sorted(numbers) == [trial.number for trial in self.optuna().get_trials(deepcopy=False)]
        for run in runs:
            assert run.info.status in ("FINISHED", "KILLED", "FAILED")
            if run.data.tags["outcome"] == "crashed":
                continue
            epochs = int(run.data.metrics["epochs_run"])
            for metric in METRICS:
                steps = [point.step for point in self.history(run, metric)]
                assert sorted(steps) == list(range(1, epochs + 1)), f"{metric} of {run.info.run_name}"


def _family(node: subprocess.Popen[bytes]) -> list[psutil.Process]:
    if node.poll() is not None:
        return []
    process = psutil.Process(node.pid)
    return [*process.children(recursive=True), process]


class RayNodes:
    """The nodes of a Ray cluster, all of them on this machine. The first one started is its head."""

    def __init__(self) -> None:
        # Ray puts sockets under it, whose paths may be no longer than 107 characters.
        self.folder = Path(tempfile.mkdtemp(prefix="r", dir="/tmp"))
        self._address = ""
        self._nodes: list[subprocess.Popen[bytes]] = []

    def start(self, cpus: int, gpus: int = 0, before: Sequence[str] = ()) -> int:
        """Start a node and return its place among those started; ``before`` is a command that runs Ray's."""
        command = [str(Path(sys.executable).parent / "ray"), "start", "--block", "--disable-usage-stats"]
        command += [f"--num-cpus={cpus}", f"--num-gpus={gpus}", f"--object-store-memory={128 * 1024**2}"]
        command += ["--include-log-monitor=false"]  # it reads what all processes write, for drivers that show it
        if self._address:
            command += [f"--address={self._address}"]
        else:
            command += ["--head", "--port=0", "--include-dashboard=false", f"--temp-dir={self.folder}"]
        log = self.folder / f"node{len(self._nodes)}.log"
        # Ray asks for a token where it once made one, and a client must then be told of it.
        env = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        with log.open("w") as out:
            node = subprocess.Popen(
                [*before, *command],
                env=env | {"RAY_AUTH_MODE": "disabled"},
                stdout=out,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
            )
        self._nodes.append(node)
        end = time.monotonic() + LONG
        # What the head prints last of what is needed here: a line further up is there before its address is.
        started = "Ray runtime started" if self._address else r"--address='([\d.]+:\d+)'"
        while not (found := re.search(started, log.read_text())):
            assert node.poll() is None, log.read_text()
            assert time.monotonic() < end, f"no node:\n{log.read_text()}"
            time.sleep(0.1)
        self._address = self._address or found[1]
        return len(self._nodes) - 1

    @property
    def address(self) -> str:
        """Where launches find it. Where no node was started, one is: one core and, in name, two GPUs.

        With one core, one process trains all trials of a study, one after the other: to start a second takes longer.
        """
        if not self._nodes:
            self.start(cpus=1, gpus=2)
        return self._address

    def processes(self) -> list[psutil.Process]:
        """Return all processes of the nodes."""
        return [process for node in self._nodes for process in _family(node)]

    def kill(self, place: int) -> None:
        """Kill a node and all that runs on it, at once."""
        node = self._nodes[place]
        for process in _family(node):
            _kill(process)
        node.wait(LONG)

    def clean_up(self) -> None:
        for place in reversed(range(len(self._nodes))):
            self.kill(place)
        shutil.rmtree(self.folder, ignore_errors=True)


@dataclass(frozen=True)
class Studies:
    """Study files.

    Attributes:
        space: six trials of a space that end in every way but a crash.
        listed: two runs with two seeds each, eight epochs each.
        grid: four points, two epochs each.
        text: of any of them, by its name.
    """

    space: Path
    listed: Path
    grid: Path
    text: dict[str, str]


@dataclass(frozen=True)
class Launched:
    """A study that was launched undisturbed."""

    home: Path
    name: str
    file: Path
    done: Done
    store: Store


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home folder that does not exist yet."""
    return tmp_path / "home"


@pytest.fixture(scope="session")
def sweeps(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sweeps]:
    command = Sweeps(tmp_path_factory.mktemp("run"))
    yield command
    command.clean_up()


@pytest.fixture(scope="session")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Studies:
    folder = tmp_path_factory.mktemp("studies")
    text = {"space": _SPACE, "listed": LISTED, "grid": _GRID}
    for name, content in text.items():
        (folder / f"{name}.toml").write_text(content)
    return Studies(*(folder / f"{name}.toml" for name in text), text)


@pytest.fixture(scope="session")
def store() -> Callable[..., Store]:
    return Store


@pytest.fixture(scope="module")
def ray_nodes() -> Iterator[RayNodes]:
    """A Ray cluster to start, and to join and leave."""
    nodes = RayNodes()
    yield nodes
    nodes.clean_up()


@pytest.fixture(scope="session")
def cluster() -> Iterator[RayNodes]:
    """A Ray cluster for launches that are not about starting one, by its ``option``."""
    nodes = RayNodes()
    yield nodes
    nodes.clean_up()


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], Done]], tuple[Path, Done]]:
    """Run a command once for all of pytest's processes: the first makes it, the others wait for it.

    Returns a function of a name, and of what runs the command in a home folder, which returns that folder and how the
    command ended.
    """
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # the one that they have in common

    def once(name: str, run: Callable[[Path], Done]) -> tuple[Path, Done]:
        home, kept = folder / f"{name}-home", folder / f"{name}.json"
        with (folder / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not kept.exists():
                kept.write_text(json.dumps(asdict(run(home))))
        return home, Done(**json.loads(kept.read_text()))

    return once


@pytest.fixture(scope="session")
def launched(sweeps: Sweeps, studies: Studies, once: Any) -> Launched:
    """The study with a space, launched into a home of its own, as a user does: with a Ray of its own."""
    home, done = once(
        "space", lambda home: sweeps.cold("launch", studies.space, "--home", home, env={"SWEEPS_REPORT": "1"})
    )
    return Launched(home, "space", studies.space, done, Store(home, "space"))


@pytest.fixture
def copied(launched: Launched, home: Path) -> Path:
    """A copy of the home of the study with a space, for what writes to it: all of pytest's processes read that one."""
    return Path(shutil.copytree(launched.home, home))


@pytest.fixture(scope="session")
def listed(sweeps: Sweeps, studies: Studies, cluster: RayNodes, once: Any) -> Launched:
    """The listed study, launched into a home of its own: what the disturbed ones are compared with."""
    home, done = once("listed", lambda home: sweeps("launch", studies.listed, "--home", home, on=cluster))
    return Launched(home, "listed", studies.listed, done, Store(home, "listed"))


@pytest.fixture(scope="session")
def crashed(sweeps: Sweeps, studies: Studies, cluster: RayNodes, once: Any) -> tuple[Path, Done]:
    """The home of a grid of which one trial finds a file that is no checkpoint where its own would be."""

    def launch(home: Path) -> Done:
        damaged = home / "studies" / "grid" / "checkpoints" / "00001.pt"
        damaged.parent.mkdir(parents=True)
        damaged.write_bytes(b"no checkpoint")
        return sweeps("launch", studies.grid, "--home", home, on=cluster, code=3)

    return once("grid", launch)
