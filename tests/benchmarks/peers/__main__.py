"""One job through four programs: how long each takes beside training, from its start to its end.

    python -m tests.benchmarks.peers [--rounds 2] [--only ours optuna] [--neps-python PYTHON] [--folder FOLDER]

The job is 14 trials, two at a time, of a perceptron on digits (`job.py`), with MLflow and everything else on SQLite in
an empty folder. *ours* is `sweeps launch` of `ours.toml`; *optuna*, *neps* and *ray* are the scripts beside this file,
as somebody new to them would write them. NePS runs with the Python that --neps-python names, which needs it, mlflow,
torch and scikit-learn. What is not installed is left out and said. The contenders take turns, round by round.

Each one is started, and killed with SIGKILL once it has done a third of its epochs: first the process that was started
alone, and two seconds later whatever else is left. Then the same command, for ours `sweeps resume`, goes on to the end.

- *first epoch*: seconds from the start until the first epoch of any trial was trained;
- *resume*: the same of the second start, until the first new epoch;
- *exit*: seconds from the end of the last epoch to the end of the process;
- *beside*: the seconds of both runs together (start to kill, start to exit) without training, which is half of all
  epochs' seconds, since two train at a time; what a kill has lost counts as beside;
- *beside, CPU*: CPU seconds of all its processes without those of the epochs, which a busy machine disturbs less;
- *lines*: on stdout and stderr in both runs, neither being a terminal;
- *left*: processes that are alive two seconds after the first process ended by itself, and after it was killed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.benchmarks.rounds import spread

HERE = Path(__file__).parent
MARK = "JOB_EVENTS"
FIGURES = ("first epoch", "resume", "exit", "beside", "beside, CPU", "lines", "left", "left, killed")
_POLL_SECONDS, _PATIENCE = 0.05, 280.0
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class _Processes:
    """The processes of one contender, found by a variable in their environment, and the CPU seconds of each."""

    mark: str
    seconds: dict[tuple[int, str], float] = field(default_factory=dict)

    def alive(self) -> list[int]:
        """Return the ids of those that are alive, and note their CPU seconds."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if self.mark.encode() not in (folder / "environ").read_bytes():
                    continue
                values = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if values[0] not in "ZX":
                found.append(int(folder.name))
                self.seconds[int(folder.name), values[19]] = (int(values[11]) + int(values[12])) / _TICKS
        return found

    def kill(self) -> None:
        """Kill all of them."""
        while found := self.alive():
            for process in found:
                try:
                    os.kill(process, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            time.sleep(_POLL_SECONDS)


def measure(commands: Sequence[Sequence[str]], folder: Path, *, trials: int, epochs: int) -> dict[str, float]:
    """Run a contender in an empty folder, kill it, let it go on, and return its figures.

    Args:
        commands: its first command, and the one that goes on.
        folder: the folder.
        trials: number of trials.
        epochs: epochs of each.
    """
    events, out = folder / "events.jsonl", folder / "out.txt"
    mark = f"{MARK}={events}"
    processes = _Processes(mark)
    environ = os.environ | {
        MARK: str(events),
        "JOB_TRIALS": str(trials),
        "JOB_EPOCHS": str(epochs),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(HERE.parents[2]), os.environ.get("PYTHONPATH")])),
        "SWEEPS_HOME": str(folder / "runs"),
    }
    figures: dict[str, float] = {}
    over = threading.Event()

    def watch() -> None:
        while not over.wait(_POLL_SECONDS * 4):
            processes.alive()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    total = 0.0
    try:
        for name, command in zip(("first epoch", "resume"), commands, strict=True):
            known = len(_events(events))
            with out.open("a") as file:
                started = time.time()
                process = subprocess.Popen(
                    command, cwd=folder, env=environ, stdin=subprocess.DEVNULL, stdout=file, stderr=file
                )
            if name == "first epoch":
                _until_trained(trials * epochs // 3, events, process)
                process.kill()
                process.wait()
                ended = time.time()
                time.sleep(2.0)
                figures["left, killed"] = len(processes.alive())
                processes.kill()
            else:
                process.wait(_PATIENCE)
                ended = time.time()
                time.sleep(2.0)
                figures["left"] = len(processes.alive())
                figures["exit"] = ended - max(event["ended"] for event in _events(events))
                if process.returncode:
                    raise SystemExit(f"{command} ended with {process.returncode}: {out.read_text()[-2000:]}")
            figures[name] = _events(events)[known]["ended"] - started
            total += ended - started
    finally:
        over.set()
        watcher.join()
        processes.kill()
    trained = _events(events)
    figures["beside"] = total - sum(event["wall"] for event in trained) / 2
    figures["beside, CPU"] = sum(processes.seconds.values()) - sum(event["cpu"] for event in trained)
    figures["lines"] = len(out.read_text().splitlines())
    figures["epochs"] = len(trained)
    return figures


def _events(path: Path) -> list[dict[str, Any]]:
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return sorted((json.loads(line) for line in lines if line.endswith("\n")), key=lambda event: event["ended"])


def _until_trained(epochs: int, events: Path, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + _PATIENCE
    while len(_events(events)) < epochs:
        if process.poll() is not None:
            raise SystemExit(f"it ended too early, with {process.returncode}")
        if time.monotonic() > until:
            raise SystemExit(f"it took longer than {_PATIENCE:g} s")
        time.sleep(_POLL_SECONDS)


def contenders(neps_python: str | None) -> dict[str, list[list[str]]]:
    """Return the two commands of each contender that is installed."""
    sweeps = str(Path(sys.executable).with_name("sweeps"))
    scripts = {
        "optuna": (sys.executable, "optuna_alone.py", "optuna"),
        "neps": (neps_python or sys.executable, "neps_search.py", "neps"),
        "ray": (sys.executable, "ray_tune.py", "ray.tune"),
    }
    found = {
        "ours": [
            [sweeps, "launch", str(HERE / "ours.toml"), "--yes", "--trials", "{trials}"],
            [sweeps, "resume", "digits"],
        ]
    }
    for name, (python, script, module) in scripts.items():
        if subprocess.run([python, "-c", f"import mlflow, sklearn, torch, {module}"], capture_output=True).returncode:
            print(f"{name} is left out: {python} cannot import {module}, mlflow, sklearn and torch", flush=True)
            continue
        found[name] = [[python, str(HERE / script)]] * 2
    return found


def print_table(results: dict[str, list[dict[str, float]]]) -> None:
    """Print the median of each figure over the rounds, with the lowest and the highest."""
    print("\n| | " + " | ".join(FIGURES) + " |\n|---|" + "---|" * len(FIGURES))
    for name, rounds in results.items():
        cells = [spread([found[figure] for found in rounds], 1) for figure in FIGURES]
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--trials", type=int, default=14)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--only", nargs="+", choices=("ours", "optuna", "neps", "ray"))
    parser.add_argument("--neps-python", help="a Python that has neural-pipeline-search")
    parser.add_argument("--folder", type=Path, help="keep what the contenders write here")
    options = parser.parse_args(arguments)
    root = options.folder or Path(tempfile.mkdtemp())
    found = {name: both for name, both in contenders(options.neps_python).items() if name in (options.only or [name])}
    results: dict[str, list[dict[str, float]]] = {name: [] for name in found}
    try:
        for number in range(options.rounds):
            for name, commands in found.items():
                folder = root / f"{name}-{number}"
                folder.mkdir(parents=True)
                both = [[word.format(trials=options.trials) for word in command] for command in commands]
                figures = measure(both, folder, trials=options.trials, epochs=options.epochs)
                results[name].append(figures)
                print(number, name, {key: round(value, 1) for key, value in figures.items()}, flush=True)
    finally:
        if options.folder is None:
            shutil.rmtree(root, ignore_errors=True)
    print_table(results)


if __name__ == "__main__":
    main()
