"""A long study through the whole machinery: what it costs in wall time, what is recorded, the driver's memory.

    python -m tests.benchmarks.endurance [--trials 1000] [--epochs 30] [--seconds 0]

Epochs train nothing and take ``--seconds`` each. Printed are:

- epochs recorded in MLflow per second, from the first trial's end to the last's;
- with epochs that take time, what the study took beyond them, as a share: goal at most 1 % at one second. Ideal is
  trials x epochs x seconds / slots, from the first epoch's begin;
- the driver's resident memory at every tenth of the trials;
- epochs that MLflow lacks or has twice: none.
"""

from __future__ import annotations

import argparse
import io
import os
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console

from resnet_core.config import TrialConfig
from resnet_core.records import EpochRecord
from sweeps.execution import launch as launching
from sweeps.execution.machine import available_cores
from sweeps.execution.trainable import TrialTrainable
from sweeps.home import Home
from sweeps.study.outcomes import Result
from sweeps.study.trials import Job
from sweeps.tracking.writer import Tracker
from tests.benchmarks.machinery import instant_epochs, spec_of

_SECONDS = "ENDURANCE_SECONDS"  # how the workers, which are other processes, are told


class WaitingTrainable(TrialTrainable):
    """A trial whose epochs take time and nothing else."""

    def epochs(self, config: TrialConfig, *, data_dir: Path, checkpoint: Path, **more: Any) -> Iterator[EpochRecord]:
        """Yield epochs that nobody trained."""
        for record in instant_epochs(config):
            time.sleep(float(os.environ[_SECONDS]))
            yield record


class _WatchedTracker(Tracker):
    """Notes when the first trial began, when each ended, and the driver's memory then."""

    begun: list[float] = []  # noqa: RUF012
    ended: list[float] = []  # noqa: RUF012
    memory: list[int] = []  # noqa: RUF012

    def place(self, job: Job, placement: dict[str, str]) -> None:
        """Note when a trial begins its first epoch."""
        self.begun.append(time.perf_counter())
        super().place(job, placement)

    def end(self, job: Job, result: Result, then: Callable[[], None] | None = None) -> None:
        """Note when a trial ends."""
        self.ended.append(time.perf_counter())
        self.memory.append(psutil.Process().memory_info().rss)
        super().end(job, result, then)


def recorded(db: Path) -> tuple[int, int]:
    """Return how many epochs of trials MLflow has, and how many of them more than once."""
    with closing(sqlite3.connect(db)) as connection:
        counts = connection.execute(
            "SELECT COUNT(*) FROM metrics WHERE key = 'val_acc' GROUP BY run_uuid, step"
        ).fetchall()
    return len(counts), sum(count > 1 for (count,) in counts)


def main() -> None:
    """Run the study and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seconds", type=float, default=0.0, help="of an epoch (default: 0)")
    options = parser.parse_args()
    trials, epochs, slots = options.trials, options.epochs, available_cores()
    os.environ[_SECONDS] = str(options.seconds)
    launching.Tracker = _WatchedTracker  # type: ignore[misc]
    print(f"{trials} trials of {epochs} epochs of {options.seconds:g} s, {slots} at once", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder) / "home")
        launch = launching.Launch(home, Path(folder), None, Console(file=io.StringIO()), trainable=WaitingTrainable)
        started = time.perf_counter()
        end = launch.start(spec_of(Path(folder), trials, epochs))
        finished = time.perf_counter()
        assert end is launching.LaunchStatus.FINISHED
        there, twice = recorded(home.own_mlflow_db)
    begun, ended, memory = (_WatchedTracker.begun, _WatchedTracker.ended, _WatchedTracker.memory)
    wall = ended[-1] - begun[0]
    print(f"whole launch: {finished - started:.1f} s, of which the trials {wall:.1f} s")
    print(f"a trial: {wall * slots / trials:.3f} s of a slot; {trials * epochs / wall:.1f} epochs a second")
    if options.seconds:
        ideal = trials * epochs * options.seconds / slots
        share = 100 * (wall - ideal) / ideal
        print(f"beyond the epochs: {wall - ideal:.2f} s, {share:.2f} % (goal: at most 1)")
    tenths = [memory[min(trials - 1, i * trials // 10)] / 2**20 for i in range(11)]
    print("driver's memory at each tenth of the trials, MiB: " + " ".join(f"{m:.0f}" for m in tenths))
    print(f"epochs recorded: {there} of {trials * epochs}; twice: {twice}")


if __name__ == "__main__":
    main()
