"""What the machinery costs a trial: Ray, Optuna and MLflow together, beside plain Ray Tune.

    python -m tests.benchmarks.machinery [--trials 100] [--epochs 5] [--rounds 3]

Trials train nothing: their epochs are made up at once, so what is left is what the machinery takes. It is measured
as wall seconds from the first trial's end until the last trial is in the store, over all trials but the first: the
time to the first end, which is start-up, and the time to shut down count for nothing. Trials run as many at once as
there are cores, as in a real launch, so the figure is a study's time per trial, not a trial's own time.

Each round measures two things, one after the other, each in a Ray of its own:

- *sweeps*: a study with a space of four parameters through ``sweeps.execution.launch``: Optuna on SQLite proposes, Ray
  places, rules decide, the ledger and MLflow are written;
- *floor*: Ray Tune alone, with the same trainable class and settings, the same number of results, actors reused; no
  searcher, no Optuna, no MLflow. What is beyond it is ours.

The trainer itself, an empty generator, is timed in the same process for comparison.
"""

from __future__ import annotations

import argparse
import io
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ray import tune
from rich.console import Console

from resnet_core.config import TrialConfig
from resnet_core.records import EpochRecord
from search_spaces.spec import StudySpec
from search_spaces.study import load_study
from sweeps.execution import launch as launching
from sweeps.execution.machine import available_cores
from sweeps.execution.placement import ray_cluster
from sweeps.execution.trainable import TrialTrainable
from sweeps.home import Home
from sweeps.study.outcomes import Result
from sweeps.study.trials import Job
from sweeps.tracking.writer import Tracker

STUDY = """
name = "machinery"
[train]
model = "resnet11v2"
data = "digits"
image_size = 16
schedule = "[0.5*lr, 0] lin[lr, {peak}] cos[0.1*lr, {epochs}]"
[space]
lr = {{ low = 1e-4, high = 1e-2, log = true }}
weight_decay = {{ low = 0.01, high = 0.4, log = true }}
shift = {{ low = 0.0, high = 0.1 }}
momentum = {{ low = 0.8, high = 0.95 }}
[search]
trials = {trials}
[stopping]
cap = {{ best = 5, slack = 1.2 }}
"""


class InstantTrainable(TrialTrainable):
    """A trial whose epochs take no time."""

    def epochs(self, config: TrialConfig, *, data_dir: Path, checkpoint: Path, **more: Any) -> Iterator[EpochRecord]:
        """Return epochs that nobody trained."""
        return instant_epochs(config)


def instant_epochs(config: TrialConfig) -> Iterator[EpochRecord]:
    """Yield a curve that rises to 0.9 at most, below the target: no rule stops a trial, all have all epochs."""
    for epoch in range(1, config.horizon + 1):
        done = epoch / config.horizon
        yield EpochRecord(
            epoch=epoch,
            loss=2.3 - done,
            acc=0.3 + 0.6 * done,
            val_loss=2.4 - done,
            val_acc=0.2 + 0.7 * done - config.shift,
            lr=config.lr_schedule.value(epoch),
            wd_lr=0.0,
            seconds=0.0,
            images_per_second=0.0,
        )


class _TimedTracker(Tracker):
    """Notes when each trial ended, and when its end was in the store."""

    ends: list[float] = []  # noqa: RUF012  of the launch under measurement
    stored: list[float] = []  # noqa: RUF012

    def end(self, job: Job, result: Result, then: Callable[[], None] | None = None) -> None:
        """Write how the trial ended, and note when that is done."""
        self.ends.append(time.perf_counter())

        def note() -> None:
            if then is not None:
                then()
            self.stored.append(time.perf_counter())

        super().end(job, result, note)


def spec_of(folder: Path, trials: int, epochs: int) -> StudySpec:
    """Return the study."""
    path = folder / "study.toml"
    path.write_text(STUDY.format(trials=trials, epochs=epochs, peak=epochs // 2 or 0.5))
    return load_study(path)


def time_sweeps(trials: int, epochs: int) -> dict[str, float]:
    """Launch the study and return its figures in seconds."""
    _TimedTracker.ends.clear()
    _TimedTracker.stored.clear()
    launching.Tracker = _TimedTracker  # type: ignore[misc]
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder) / "home")
        console = Console(file=io.StringIO())
        started = time.perf_counter()
        end = launching.Launch(home, Path(folder), None, console, trainable=InstantTrainable).start(
            spec_of(Path(folder), trials, epochs)
        )
        finished = time.perf_counter()
    ended, written = _TimedTracker.ends, _TimedTracker.stored
    assert end is launching.LaunchStatus.FINISHED
    assert len(ended) == len(written) == trials
    return {
        "per_trial": (written[-1] - ended[0]) / (trials - 1),
        "per_trial_loop": (ended[-1] - ended[0]) / (trials - 1),
        "start_up": ended[0] - started,
        "shut_down": finished - written[-1],
    }


class _Ends(tune.Callback):
    """Notes when each trial ended."""

    def __init__(self) -> None:
        self.ended: list[float] = []

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.ended.append(time.perf_counter())


def time_floor(trials: int, epochs: int) -> float:
    """Run as many trials through plain Ray Tune and return seconds per trial."""
    with tempfile.TemporaryDirectory() as folder, ray_cluster(None):
        config = launching.Ledger.preview(spec_of(Path(folder), trials, epochs)).ask().config
        ends = _Ends()
        tune.Tuner(
            tune.with_resources(InstantTrainable, {"cpu": 1, "gpu": 0}),
            param_space={
                "number": tune.sample_from(lambda: 0),
                "name": "0",
                "trainer": None,
                "code": [],
                "metric": "val_acc",
                "config": config.to_dict(),
                "data_dir": folder,
                "checkpoint": f"{folder}/none.pt",
                "network": None,
                "log": f"{folder}/log.txt",
                "threads": 1,
                "gpus": 0,
            },
            tune_config=tune.TuneConfig(num_samples=trials, reuse_actors=True),
            run_config=tune.RunConfig(
                name="tune",
                storage_path=folder,
                # One result says where a trial runs, and one follows for each epoch.
                stop={"training_iteration": epochs + 1},
                callbacks=[ends],
                checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
                verbose=0,
                log_to_file=False,
            ),
        ).fit()
    assert len(ends.ended) == trials
    return (ends.ended[-1] - ends.ended[0]) / (trials - 1)


def time_trainer(trials: int, epochs: int) -> float:
    """Return the seconds that a trial's epochs take by themselves."""
    with tempfile.TemporaryDirectory() as folder:
        config = launching.Ledger.preview(spec_of(Path(folder), trials, epochs)).ask().config
    started = time.perf_counter()
    for _ in range(trials):
        assert len(list(instant_epochs(config))) == epochs
    return (time.perf_counter() - started) / trials


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=100, help="trials a round (default: 100)")
    parser.add_argument("--epochs", type=int, default=5, help="epochs a trial (default: 5)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds (default: 3)")
    options = parser.parse_args()
    trials, epochs = options.trials, options.epochs
    if trials < 2 or epochs < 1 or options.rounds < 1:
        parser.error("expected two trials or more, an epoch or more, a round or more")
    print(f"{trials} trials of {epochs} instant epochs, {available_cores()} at once, {options.rounds} rounds")
    rounds: list[dict[str, float]] = []
    for number in range(1, options.rounds + 1):
        found = time_sweeps(trials, epochs)
        found["floor"] = time_floor(trials, epochs)
        found["over"] = found["per_trial"] - found["floor"]
        rounds.append(found)
        print(
            f"round {number}: sweeps {found['per_trial']:.3f} s a trial (without waiting for MLflow "
            f"{found['per_trial_loop']:.3f}), floor {found['floor']:.3f}, start-up {found['start_up']:.1f} s, "
            f"shut-down {found['shut_down']:.1f} s",
            flush=True,
        )
    print("\nmedian (lowest to highest), seconds")
    names = {
        "per_trial": "a trial through sweeps",
        "per_trial_loop": "  of it before MLflow has all",
        "floor": "a trial through plain Ray Tune",
        "over": "sweeps over plain Ray Tune",
        "start_up": "start-up until the first end",
        "shut_down": "shut-down",
    }
    for key, name in names.items():
        values = [found[key] for found in rounds]
        print(f"{name:<32} {statistics.median(values):8.3f} ({min(values):.3f} to {max(values):.3f})")
    print(f"{'the trainer itself':<32} {time_trainer(trials, epochs):8.6f}")


if __name__ == "__main__":
    main()
