"""What the machinery costs a trial: trials that train nothing, through everything but the trainer.

    python -m tests.benchmarks.machinery [--trials 100] [--epochs 5] [--rounds 3]

Each round runs the trials twice: through a launch (Ray Tune, Optuna's ledger on SQLite, MLflow on SQLite), and
through Ray Tune alone with reused actors, which is the floor. A figure is the wall time from the first trial's start
to the last one's end, divided by the number of trials; starting Ray and making the databases is left out.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console

import analysis
from resnet_core.config import TrialConfig
from resnet_core.records import EpochRecord
from search_spaces.study import StudySpec
from sweeps.home import Home
from sweeps.launch import End, Launch
from sweeps.placement import available_cores, cluster  # sets Ray's environment, so ahead of ray itself
from sweeps.trainable import TrialTrainable


class InstantTrainable(TrialTrainable):
    """A trial whose epochs are made up at once."""

    def epochs(self, config: TrialConfig, data_dir: Path, checkpoint: Path) -> Iterator[EpochRecord]:
        """Yield a rising curve."""
        for epoch in range(1, config.horizon + 1):
            yield EpochRecord(epoch, 1 / epoch, 0.5, 1 / epoch, 0.1 + 0.01 * epoch, 1e-3, 0.0, 0.0, 0.0)


def machinery(trials: int, epochs: int) -> float:
    """Return the seconds a trial takes in a launch."""
    spec = StudySpec.model_validate(
        {
            "name": "machinery",
            "train": {"data": "digits", "schedule": f"[lr, 0] lin[1e-5, {epochs}]"},
            "space": {
                "lr": {"low": 5e-4, "high": 2e-3, "log": True},
                "weight_decay": {"low": 0.05, "high": 0.4, "log": True},
                "shift": {"low": 0.0, "high": 0.1},
            },
            "search": {"trials": trials},
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder))
        quiet = Console(stderr=True, quiet=True)
        end = Launch(home, home.root, None, quiet, trainable=InstantTrainable).start(spec)
        ran = analysis.load(home.mlflow_db, spec.name).trials
    assert end is End.DONE, end
    assert len(ran) == trials, f"{len(ran)} of {trials} trials were run"
    return float((ran["end_time"].max() - ran["start_time"].min()).total_seconds()) / trials


def floor(trials: int, epochs: int) -> float:
    """Return the seconds a trial takes in Ray Tune alone."""
    from ray import tune

    class Instant(tune.Trainable):
        def setup(self, config: dict[str, Any]) -> None:
            self.done = 0

        def step(self) -> dict[str, Any]:
            self.done += 1
            return {"epoch": self.done, "done": self.done >= epochs}

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self.setup(new_config)
            return True

    class Times(tune.Callback):
        first = last = 0.0

        def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: Any, **info: Any) -> None:
            self.first = self.first or time.perf_counter()

        def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            self.last = time.perf_counter()

    times = Times()
    with tempfile.TemporaryDirectory() as folder, cluster(None):
        tune.Tuner(
            tune.with_resources(Instant, {"cpu": 1}),
            tune_config=tune.TuneConfig(num_samples=trials, reuse_actors=True),
            run_config=tune.RunConfig(
                storage_path=folder,
                callbacks=[times],
                verbose=0,
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            ),
        ).fit()
    return (times.last - times.first) / trials


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    print(f"{asked.trials} trials of {asked.epochs} instant epochs, {available_cores()} at once; seconds a trial")
    ours, ray_alone = [], []
    for number in range(1, asked.rounds + 1):
        ours.append(machinery(asked.trials, asked.epochs))
        ray_alone.append(floor(asked.trials, asked.epochs))
        print(f"round {number}: launch {ours[-1]:.3f}, Ray Tune alone {ray_alone[-1]:.3f}", flush=True)
    over = [a - b for a, b in zip(ours, ray_alone, strict=True)]
    for name, figures in (("launch", ours), ("Ray Tune alone", ray_alone), ("launch over Ray Tune alone", over)):
        low, high = min(figures), max(figures)
        print(f"{name}: median {statistics.median(figures):.3f}, from {low:.3f} to {high:.3f}")


if __name__ == "__main__":
    main()
