"""All private names of Ray that this package uses, each with its reason; sweeps.environment has its settings.

No other module uses a private name of Ray. If a new version of Ray lacks one of these names,
tests/unit/test_ray_and_mlflow_internals.py fails and names its purpose.
"""

from __future__ import annotations

import atexit
import logging
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray._private import ray_constants, services
from ray.job_config import JobConfig
from ray.tune import registry
from ray.tune.execution import class_cache
from ray.tune.experiment import Trial

from sweeps import environment
from sweeps.execution import no_agent, tied

LOGS = "session_latest/logs"
"""The logs of Ray's processes, in the folder of its files."""
_NEEDED = {"gcs_server", "raylet"}  # Ray's names of the processes without which it cannot go on
_UNUSED = ("start_api_server", "start_monitor", "start_log_monitor")  # methods that start processes
_raylet: Any = ray._raylet
_WORKER = "--python_worker_command"  # an option of the raylet; so are these, of agents that write these ports
_AGENTS = {
    "--dashboard_agent_command": (
        _raylet.METRICS_AGENT_PORT_NAME,
        _raylet.METRICS_EXPORT_PORT_NAME,
        _raylet.DASHBOARD_AGENT_LISTEN_PORT_NAME,
    ),
    "--runtime_env_agent_command": (_raylet.RUNTIME_ENV_AGENT_PORT_NAME,),
}
_OF_TUNE = {"PL_DISABLE_FORK": "1"}  # what Ray Tune sets for workers: Lightning may start none by a fork
_MOST_IDS = 1000  # random ids that a worker may draw in its main thread; at its start it draws one
_LOGGERS = ("ray", "ray.tune", "ray.data", "ray.train")  # each has its own level and handler
_ERROR_FILE, _ERROR_BEGINS = "error.txt", "Failure # "
_TRIAL_ERROR = "sweeps.execution.trainable.TrialError: "  # what Ray writes before the message of one
_ANSI = re.compile(r"\x1b\[[0-9;]*m")


def silence() -> None:
    """Suppress Ray's log messages."""
    for name in _LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL)


@contextmanager
def off_stdout(*, shown: bool) -> Iterator[None]:
    """Keep off stdout, which is for results, what Ray prints in the block: of a process that died, for example.

    Args:
        shown: print it on stderr.
    """
    module: Any = ray._private.worker
    write = module.print_to_stdstream

    def instead(data: dict[str, Any], *args: Any, **more: Any) -> None:
        if shown:
            write({**data, "is_err": True}, *args, **more)

    module.print_to_stdstream = instead
    try:
        yield
    finally:
        module.print_to_stdstream = write


@contextmanager
def on_loopback() -> Iterator[None]:
    """Have a cluster that is started in the block listen on 127.0.0.1 alone, as Ray does on macOS and Windows.

    On Linux, Ray would look for the address of this machine in a network: it would write warnings where there is none,
    be open to other machines, and end when a laptop changes its network.
    """
    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


def job_config() -> JobConfig:
    """Return a configuration with which trials import modules from where this process does.

    Ray would put the current folder ahead of all others on the path of its workers. There a file whose name is that of
    another module, such as ``random.py``, would be imported in its place.
    """
    config = JobConfig()
    config._py_driver_sys_path = _OnOwnPath()
    return config


class _OnOwnPath(list[str]):
    """A list to which Ray adds folders; it takes those that this process has ahead of the standard library."""

    def extend(self, folders: Iterable[str]) -> None:
        super().extend(folder for folder in folders if folder in environment.ahead_of_library())


@dataclass(frozen=True)
class Ahead:
    """The workers that Ray starts ahead of the first trial, while the study's databases are opened.

    Attributes:
        workers: how many.
        threads: threads of OpenMP in each; Ray itself would set this too late for what they import.
        module: what each imports at once; empty for nothing.
        socket: where a fork server is asked for them; empty without one.
    """

    workers: int = 0
    threads: int = 1
    module: str = ""
    socket: str = ""

    def settings(self) -> dict[str, Any]:
        """Return settings of Ray's system with which the workers import the module, and wait until they are used.

        Ray would end them after a second, since with torch in them they are large.
        """
        day = 24 * 60 * 60 * 1000
        waiting = {"idle_worker_killing_time_threshold_ms": day, "idle_worker_killing_memory_threshold_bytes": 2**40}
        return waiting | ({"preload_python_modules": [self.module]} if self.module else {})


@contextmanager
def lean_processes(ahead: Ahead, *, log: bool) -> Iterator[None]:
    """Start in the block no more of Ray's processes than a launch needs, each in a process group of its own.

    Left out are the dashboard's server, the autoscaler, the raylet's two agents and, unless asked for, what collects
    the workers' logs: each imports for a second or two at the moment at which the workers do. And a signal to the group
    of the launch, as `timeout` and many service managers send it, reaches the launch alone, which lets trials finish
    their epoch. Ray's processes would end at once.

    Args:
        ahead: the workers that Ray starts ahead of the first trial.
        log: whether what workers write is collected, and shown by this process.
    """
    module: Any = services
    before = module.ConsolePopen
    option = "--num_prestart_python_workers="

    def start(command: list[str], *args: Any, **more: Any) -> Any:
        command = [_tied(word, ahead.socket) for word in command]
        command = [f"{option}{ahead.workers}" if word.startswith(option) else word for word in command]
        more["env"] = {"OMP_NUM_THREADS": f"{ahead.threads}", **_OF_TUNE, **more["env"]}
        more["env"] |= environment.of_this_package()  # before Ray gives them the path of this process
        return before(command, *args, process_group=0, **more)

    utils: Any = ray._private.utils
    has_dashboard = utils.get_dashboard_dependency_error
    utils.get_dashboard_dependency_error = lambda: None  # it imports an HTTP server to see whether there is one
    node: Any = ray._private.node.Node
    unused = {name: getattr(node, name) for name in _UNUSED if not (log and name == "start_log_monitor")}
    module.ConsolePopen = start
    for name in unused:
        setattr(node, name, lambda _node, **_more: None)
    try:
        yield
    finally:
        module.ConsolePopen, utils.get_dashboard_dependency_error = before, has_dashboard
        for name, method in unused.items():
            setattr(node, name, method)


def _tied(word: str, socket: str = "") -> str:
    """Return an option of the raylet; if it is the command of a process that it starts, one that ends with the raylet.

    A raylet ends with the process that started it. The workers look once a second whether it has, and its agents would
    stay for a minute. The agents are replaced: a launch has no dashboard, and no environment to set up for its workers.
    """
    python = subprocess.list2cmdline([sys.executable])
    option, _, command = word.partition("=")
    if option not in (_WORKER, *_AGENTS) or not command.startswith(f"{python} "):
        return word
    program = [sys.executable, "-I", "-S", tied.__file__, socket or tied.NO_SERVER]
    if option in _AGENTS:
        program += ["-I", "-S", no_agent.__file__, ",".join(_AGENTS[option])]
    return f"{option}={subprocess.list2cmdline(program)}{command.removeprefix(python)}"


def begin_as_fork(number: int) -> None:
    """Make Ray, in a process that was forked after it had imported Ray, what it is in a new one.

    It reads its settings from the environment again. Its generator of random ids has the same state in every fork, so
    each fork passes over ids by its number: a worker crashes if another one uses the same id at the same time.

    Args:
        number: the number of this fork, from 1.
    """
    _raylet.Config.initialize("")
    for _ in range(_MOST_IDS * number):
        ray.ObjectID.from_random()


def take_started_workers() -> None:
    """Have Ray Tune train in the workers that Ray started ahead of the first trial.

    It would ask for workers with environment variables of their own, which are started one by one, a second each. The
    workers of a Ray that was started here have the variables of this process.
    """
    cache: Any = class_cache._ActorClassCache
    cache.get = lambda self, trainable: self._cache.setdefault(trainable, ray.remote(trainable))


@contextmanager
def without_signal_handler() -> Iterator[None]:
    """Have Ray, when it starts in the block, leave SIGTERM to the handler that is there.

    Ray's own would end this process without a word, in the seconds that Ray takes to start too. Its native part puts
    another one underneath Python's, which prints a page and may abort the process.
    """
    utils: Any = ray._private.utils
    before, handler = utils.set_sigterm_handler, signal.getsignal(signal.SIGTERM)
    utils.set_sigterm_handler = lambda _handler: None
    try:
        yield
    finally:
        utils.set_sigterm_handler = before
        if handler is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)


def is_own() -> bool:
    """Return whether this process has started the Ray that it is connected to."""
    node = ray._private.worker._global_node
    return node is not None and "raylet" in node.all_processes


def own_ray_died() -> bool:
    """Return whether a Ray that this process started has lost a process without which it cannot go on.

    Unlike a question to Ray, this does not wait for a minute for what has died, and then end this process.
    """
    node = ray._private.worker._global_node
    return node is not None and not _NEEDED.isdisjoint(kind for kind, _ in node.dead_processes())


def kill_started_processes() -> None:
    """Kill the processes that `ray.init` started on this machine.

    Used when Ray's node on this machine has died. Then `ray.shutdown` would end this process immediately. With neither
    call, the process would wait for a minute at its exit.
    """
    atexit.unregister(registry._unregister_all)  # it would ask Ray, and wait for a minute
    node = ray._private.worker._global_node
    if node is not None:
        node.kill_all_processes(check_alive=False, allow_graceful=False)


def forgive_failure(trial: Any) -> None:
    """Do not count a trial's last failure against its retries. Ray has no public way to do so."""
    trial.run_metadata.num_failures -= 1


def pending_trial(tune_controller: Any) -> Any:
    """Return the first trial that waits to be started, or None; for a scheduler's ``choose_trial_to_run``."""
    return next((trial for trial in tune_controller.get_trials() if trial.status == Trial.PENDING), None)


def is_running(trial: Any) -> bool:
    """Return whether Ray is running a trial."""
    return bool(trial.status == Trial.RUNNING)


def last_error(trial: Any) -> str:
    """Return the text of a trial's last error, without colours.

    Ray writes the error to the trial's folder immediately. The public `Trial.get_error` reads a copy that Ray makes
    later. An error of the trial itself is told without the frames of Ray and of the trainable.
    """
    written = Path(trial.local_path) / _ERROR_FILE
    text = without_colours(written.read_text() if written.exists() else "") or "unknown error"
    return text.rsplit(_ERROR_BEGINS, 1)[-1].rpartition(_TRIAL_ERROR)[2].strip()


def without_colours(text: str) -> str:
    """Return the text of an error without the terminal colours that Ray adds."""
    return _ANSI.sub("", text)


def unflattened(result: dict[str, Any], key: str) -> dict[str, Any]:
    """Return the dictionary that a trial reported under ``key``. A scheduler gets it as keys such as ``key/inner``.

    >>> unflattened({"number": 3, "record/epoch": 1, "record/loss": 0.5}, "record")
    {'epoch': 1, 'loss': 0.5}
    """
    prefix = f"{key}/"
    return {name.removeprefix(prefix): value for name, value in result.items() if name.startswith(prefix)}
