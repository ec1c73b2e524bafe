"""Commands from a process that has loaded what they load: on a slow core, starting Python anew takes each 2 to 4 s.

Each command still has a process of its own, forked from that one: with its own environment, folder and standard
streams. It ends as Python ends, but that nothing is freed one by one.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import select
import signal
import subprocess
import sys
import threading
import traceback
from pathlib import Path
from typing import Any, NoReturn

# What the commands load that takes long.
LOADED = (
    *("sweeps.cli", "sweeps.launch", "sweeps.placement", "analysis.report", "resnet_core.trainer"),
    *("optuna", "alembic", "mlflow.store.tracking.sqlalchemy_store", "scipy.stats", "matplotlib.figure", "aiohttp"),
)


class Warm:
    """Starts commands, one at a time.

    Args:
        env: the environment that the modules are loaded in. A command has its own, and what they set for Ray, which
            reads it when it is loaded.
    """

    def __init__(self, env: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.e2e.warm"],
            cwd=Path(__file__).parents[2],
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, command: list[str], place: Path, env: dict[str, str], seconds: float) -> int:
        """Run a command to its end; return its exit code. Its output is in ``place``, in stdout and stderr.

        Raises:
            TimeoutError: it did not end in time. It is killed then, and this process with it.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        request = {"command": command, "place": str(place), "env": env}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        if not select.select([self._process.stdout], [], [], seconds)[0]:
            self.kill()
            raise TimeoutError(f"{' '.join(command)}: not ended in {seconds:g} s")
        return int(self._process.stdout.readline())

    def kill(self) -> None:
        """End the process, and what runs in it."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def _become(request: dict[str, Any], loaded: dict[str, str]) -> None:
    """Be a process that was just started with this command."""
    place = Path(request["place"])
    os.chdir(place)
    os.environ.clear()
    os.environ.update(loaded | request["env"])
    streams = (os.devnull, os.O_RDONLY), ("stdout", os.O_WRONLY | os.O_CREAT), ("stderr", os.O_WRONLY | os.O_CREAT)
    for number, (path, flags) in enumerate(streams):
        opened = os.open(path, flags, 0o644)
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
    """Fork for each request of standard input, and write each exit code to standard output."""
    import importlib

    from sweeps.mlflow_runs import quiet
    from tests.migrations import keep_mlflow_tables, keep_scripts

    quiet()
    before = dict(os.environ)
    for name in LOADED:
        importlib.import_module(name)
    loaded = {name: value for name, value in os.environ.items() if name not in before}
    keep_scripts()
    keep_mlflow_tables()
    gc.freeze()  # what is loaded is left alone: a page that a child's collector writes to is copied
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            _become(json.loads(line), loaded)
            _end(_command())
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
