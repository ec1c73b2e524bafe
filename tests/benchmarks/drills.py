"""Kill drills: studies whose driver, workers and Ray are killed at random moments, and resumed until they are done.

    python -m tests.benchmarks.drills [--rounds 5] [--minutes 10] [--kills 3] [--seed 0]

A round is one study of four tiny trials of digits in a home of its own. After a random number of epochs one process
gets a SIGKILL: the driver, a worker, or Ray's node (raylet). Where the driver ends, or was killed, the study is
resumed. After so many kills it is left alone until it is done, and then looked at:

- the ledger and MLflow hold the trials asked for, none of them running, every epoch of each once;
- the curves are those of an undisturbed study, bit for bit;
- trials were continued from their checkpoints: a kill costs a trial one epoch at most.

Prints the kills by kind, and the epochs that were lost, doubled, and trained again; ends with 1 where anything is not
as it must be.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console

from resnet_core.checkpoint import load_records
from resnet_core.config import TrialConfig
from resnet_core.records import EpochRecord
from resnet_core.trainer import train
from search_spaces.study import load_study
from sweeps.execution.launch import Launch, LaunchStatus
from sweeps.execution.trainable import TrialTrainable
from sweeps.home import Home
from tests.e2e.conftest import LISTED, METRICS, Running, Store, environment

TRIALS, EPOCHS = 4, 8
KINDS = ("driver", "worker", "raylet")
PATIENCE = 150  # seconds for a driver to see that its Ray is gone


class CountingTrainable(TrialTrainable):
    """Trains, and writes down every epoch that it trained and did not take from the checkpoint."""

    def epochs(self, config: TrialConfig, *, data_dir: Path, checkpoint: Path, **more: Any) -> Iterator[EpochRecord]:
        """Return the trial's epochs."""
        kept = len(load_records(checkpoint))
        for record in train(config, data_dir=data_dir, device=self.device, checkpoint=checkpoint):
            if record.epoch > kept:
                with (checkpoint.parent.parent / "trained").open("a") as log:
                    log.write(f"{checkpoint.stem} {record.epoch}\n")
            yield record


def drive(home: Path, study: Path) -> int:
    """Launch or continue the study and return the command line's exit code."""
    launch = Launch(Home(home), home, None, Console(stderr=True), trainable=CountingTrainable)
    return 0 if launch.start(load_study(study)) is LaunchStatus.FINISHED else 1


def start(folder: Path, home: Path, study: Path) -> Running:
    """Start a driver in the background."""
    command = [sys.executable, "-m", "tests.benchmarks.drills", "--drive", str(home), str(study)]
    return Running(command, folder, environment({"PYTHONPATH": str(Path.cwd())}))


def disturb(home: Path, study: Path, folder: Path, kills: int, draws: random.Random, counts: Counter[str]) -> int:
    """Run a study to its end through so many kills; return how many trials' epochs a kill can have cost."""
    cost = 0
    for attempt in range(20):
        running = start(folder / f"{attempt:02d}", home, study)
        try:
            while kills:
                shown, wanted = len(running.epochs), draws.randint(1, 7)
                while running.code is None and len(running.epochs) < shown + wanted:
                    time.sleep(0.02)
                time.sleep(draws.uniform(0, 0.6))
                if running.code is not None:
                    break
                kind = draws.choice(KINDS)
                victims = [p for p in running.family() if p.name() == "raylet"] if kind == "raylet" else []
                victims = running.workers() if kind == "worker" else victims
                victims = [psutil.Process(running.pid)] if kind == "driver" else victims
                if not victims:
                    continue
                draws.choice(victims).send_signal(signal.SIGKILL)
                counts[kind] += 1
                kills -= 1
                cost += 1 if kind == "worker" else 2
                if kind != "worker":
                    break
            done = running.wait(PATIENCE)
            if done.code == 0:
                return cost
        finally:
            running.clean_up()
    raise AssertionError(f"{home}: not done after 20 resumes")


def look(home: Path, name: str, undisturbed: dict[str, dict[str, list[float]]], cost: int) -> Counter[str]:
    """Return what is not as it must be, and how many epochs were trained again."""
    store, found = Store(home, name), Counter[str]()
    states = Counter(trial.state.name for trial in store.optuna().get_trials(deepcopy=False))
    found["trials not done in the ledger"] = TRIALS - states["COMPLETE"] + states["RUNNING"] + states["WAITING"]
    runs = store.trials
    found["trials not done in MLflow"] = TRIALS - sum(run.info.status == "FINISHED" for run in runs.values())
    for run in runs.values():
        for metric in METRICS:
            steps = Counter(point.step for point in store.history(run, metric))
            found["epochs lost"] += len(set(range(1, EPOCHS + 1)) - steps.keys())
            found["epochs doubled"] += sum(times - 1 for times in steps.values())
    found["curves that differ"] = sum(curve != undisturbed.get(trial) for trial, curve in store.curves().items())
    trained = len((home / "studies" / name / "trained").read_text().splitlines())
    found["trained again"] = trained - TRIALS * EPOCHS
    found["trained again beyond one a kill and trial"] = max(0, trained - TRIALS * EPOCHS - cost)
    return found


def main() -> None:
    """Drill and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="studies (default: 5)")
    parser.add_argument("--minutes", type=float, default=10.0, help="start no round after so many (default: 10)")
    parser.add_argument("--kills", type=int, default=3, help="kills a round (default: 3)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: 0)")
    parser.add_argument("--drive", nargs=2, type=Path, metavar=("HOME", "STUDY"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.drive:
        sys.exit(drive(*options.drive))
    draws, kills, found = random.Random(options.seed), Counter[str](), Counter[str]()
    end, rounds = time.monotonic() + 60 * options.minutes, 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        study = folder / "study.toml"
        # As many tries as kills: a trial that uses them up has crashed, and is trained anew by the next launch.
        study.write_text(LISTED.replace("[search]", f"[search]\nretries = {options.kills}"))
        running = start(folder / "undisturbed", folder / "home", study)
        assert running.wait(600).code == 0, running.stderr
        undisturbed = Store(folder / "home", "listed").curves()
        while rounds < options.rounds and time.monotonic() < end:
            rounds += 1
            home = folder / f"home-{rounds}"
            cost = disturb(home, study, folder / f"round-{rounds}", options.kills, draws, kills)
            here = look(home, "listed", undisturbed, cost)
            found += here
            print(f"round {rounds}: kills {dict(kills)}, not as it must be or again: {dict(+here)}", flush=True)
    print(f"\n{rounds} rounds, {TRIALS} trials of {EPOCHS} epochs each; kills: {dict(kills)}")
    for name in ("epochs lost", "epochs doubled", "curves that differ", "trained again"):
        print(f"{name:<42} {found[name]}")
    for name in sorted(found):
        if "not done" in name or "beyond" in name:
            print(f"{name:<42} {found[name]}")
    sys.exit(int(any(count for name, count in found.items() if name != "trained again")))


if __name__ == "__main__":
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    main()
