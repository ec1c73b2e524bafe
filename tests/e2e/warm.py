"""Commands from a process that has loaded what they load: on a slow core, starting Python anew takes each 2 to 4 s.

Each command still has a process of its own, forked from that one: with its own environment, folder and standard
streams. It ends as Python ends, but that nothing is freed one by one.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

# What the commands load that takes long.
LOADED = (
    *(
        "sweeps.cli",
        "sweeps.execution.launch",
        "sweeps.execution.placement",
        "analysis.report.document",
        "resnet_core.trainer",
    ),
    *("optuna", "alembic", "mlflow.store.tracking.sqlalchemy_store", "scipy.stats", "matplotlib.figure", "aiohttp"),
)


class Warm:
    """Starts commands.

    Args:
        env: the environment that the modules are loaded in. A command has its own, and what they set for Ray, which
            reads it when it is loaded.
        preexec: called in the process that loads them, before it does.
    """

    def __init__(self, env: dict[str, str], preexec: Callable[[], None] | None = None) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.e2e.warm"],
            cwd=Path(__file__).parents[2],
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=preexec,
        )

    def start(self, command: list[str], cwd: Path, env: dict[str, str], output: Path) -> int:
        """Start a command in the folder ``cwd``, in a session of its own; return the number of its process.

        What it prints is in the folder ``output``, in stdout and stderr, and at its end its exit code, in code.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        for name in ("stdout", "stderr"):
            (output / name).touch()
        request = {"command": command, "cwd": str(cwd), "env": env, "output": str(output)}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def kill(self) -> None:
        """End the process; what it started goes on."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def _become(request: dict[str, Any], loaded: dict[str, str]) -> None:
    """Be a process that was just started with this command."""
    output = Path(request["output"])
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(loaded | request["env"])
    for number, path in enumerate((os.devnull, output / "stdout", output / "stderr")):
        opened = os.open(path, os.O_WRONLY if number else os.O_RDONLY)
        os.dup2(opened, number)
        os.close(opened)
    sys.argv = request["command"]


def _command() -> int:
    from sweeps.cli import main

    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def _end(code: int) -> NoReturn:
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def main() -> None:
    """Fork for each request of standard input, and write the number of each process to standard output."""
    import importlib

    from sweeps import environment
    from sweeps.tracking.mlflow_internals import set_environment
    from tests.migrations import keep_mlflow_tables, keep_scripts

    set_environment()
    environment.for_ray(own=True)  # as a command does, before Ray is loaded
    before = dict(os.environ)
    for name in LOADED:
        importlib.import_module(name)
    loaded = {name: value for name, value in os.environ.items() if name not in before}
    keep_scripts()
    keep_mlflow_tables()
    gc.freeze()  # what is loaded is left alone: a page that a child's collector writes to is copied
    for line in sys.stdin:
        if os.fork() == 0:
            _watch(json.loads(line), loaded)
        while _ended_child():
            pass


def _watch(request: dict[str, Any], loaded: dict[str, str]) -> NoReturn:
    """Run a command in a process of its own, and write down how it ends."""
    child = os.fork()
    if child == 0:
        os.setsid()
        _become(request, loaded)
        _end(_command())
    print(child, flush=True)
    _, status = os.waitpid(child, 0)
    code = Path(request["output"]) / "code"
    code.with_suffix(".part").write_text(str(os.waitstatus_to_exitcode(status)))
    code.with_suffix(".part").rename(code)
    os._exit(0)


def _ended_child() -> bool:
    try:
        return os.waitpid(-1, os.WNOHANG)[0] != 0
    except ChildProcessError:
        return False


if __name__ == "__main__":
    main()
