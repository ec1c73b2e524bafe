"""How large a report is, and how long it takes: of 14 trials and of 2,000, with this code and with that of a folder.

    $ python -m tests.benchmarks.report
    $ git worktree add build/before COMMIT && python -m tests.benchmarks.report --against build/before

The trials are made up: six parameters, schedules of 13 to 28 epochs, a quarter of them pruned. Each report is made by a
process of its own, on one core, those of the two codes in turn; the seconds are those of `build_report` alone.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

_SPACE = {
    "lr": {"low": 1e-4, "high": 0.03, "log": True},
    "weight_decay": {"low": 0.01, "high": 0.4, "log": True},
    "warmup": {"low": 1, "high": 8, "int": True},
    "decay": {"low": 6, "high": 14, "int": True},
    "shift": {"low": 0.05, "high": 0.1},
    "optimizer": {"choices": ["adamw", "sgd", "lion"]},
}


def made_study(trials: int, seed: int = 0) -> Any:
    """A study of made-up trials, four of which ran at a time."""
    import numpy as np
    import pandas as pd

    from analysis import Study

    random = np.random.default_rng(seed)
    rows, epochs, begun = [], [], pd.Timestamp("2026-01-01", tz="UTC")
    for number in range(trials):
        lr, decayed = 10 ** random.uniform(-4, -1.5), 10 ** random.uniform(-2, -0.4)
        warmup, decay = int(random.integers(1, 9)), int(random.integers(6, 15))
        horizon = warmup + decay + 6
        highest = 0.94 - 0.02 * (np.log10(lr) + 3) ** 2 - 0.01 * (np.log10(decayed) + 0.8) ** 2
        epoch = np.arange(1, horizon + 1)
        val_acc = highest - (highest - 0.1) * np.exp(-epoch / (3 + 0.2 * warmup)) + random.normal(0, 0.004, horizon)
        outcome, run = ("reached" if (val_acc >= 0.92).any() else "exhausted"), horizon
        if outcome == "exhausted" and random.uniform() < 0.5:
            outcome, run = "pruned", int(random.integers(3, horizon))
        start = begun + pd.Timedelta(seconds=100 * (number // 4) + float(random.uniform(0, 50)))
        sampled = {"lr": lr, "weight_decay": decayed, "warmup": warmup, "decay": decay}
        sampled |= {"shift": random.uniform(0.05, 0.1), "optimizer": ["adamw", "sgd", "lion"][random.integers(3)]}
        rows.append(
            {
                **{"number": number, "trial": f"trial-{number}", "run_id": str(number), "status": "FINISHED"},
                **{"outcome": outcome, "stop_reason": None, "stopped_by": "cap" if outcome == "pruned" else None},
                **{"would_stop": f'{{"cap": {run}}}' if outcome == "pruned" else None, "gpus": 0.25},
                **{"start_time": start, "end_time": start + pd.Timedelta(seconds=20 * run)},
                **{"model": "resnet56v2", "data": "cifar10", "split": "official", "batch_size": 64, "l2": 0.0},
                **{"lr_alpha": lr, "horizon": horizon, "seed": number},
                "schedule": f"[{0.8 * lr:.3g}, 0] lin[{lr:.3g}, {warmup}] cos[{lr / 100:.3g}, +{decay}] lin[6e-6, +6]",
                **{name: sampled[name] for name in ("weight_decay", "shift", "optimizer")},
                **{f"space.{name}": value for name, value in sampled.items()},
            }
        )
        for i in range(run):
            losses = (2.3 * np.exp(-(i + 1) / 4) + 0.05, 2.3 * np.exp(-(i + 1) / 5) + 0.25)
            epochs.append((number, i + 1, losses[0], min(1.0, val_acc[i] + 0.03), losses[1], val_acc[i], 20.0))
    frame = pd.DataFrame(epochs, columns=["number", "epoch", "loss", "acc", "val_loss", "val_acc", "seconds"])
    frame[["power_watts", "gpu_util_percent"]] = np.nan
    return Study(
        **{"name": "made", "description": "", "target": 0.92, "sustained": 2, "split": "official"},
        **{"trials": pd.DataFrame(rows), "epochs": frame, "stopping_rules": {"cap": "active"}, "space": _SPACE},
    )


def make(trials: int) -> dict[str, float]:
    """Make one report in this process, and return its megabytes, seconds of wall time and of the processor."""
    from analysis.report.document import build_report

    study = made_study(trials)
    wall, cpu = time.perf_counter(), time.process_time()
    text = build_report(study)
    return {
        "megabytes": len(text.encode()) / 1e6,
        "wall": time.perf_counter() - wall,
        "cpu": time.process_time() - cpu,
    }


def measured(code: Path, trials: int) -> dict[str, float]:
    """Make a report with the code in a folder, by a process of its own on one core, and return what `make` returned."""
    # The folder's own packages, and this file beside them.
    script = f"import sys; sys.path[:0] = [{str(code)!r}, {str(Path(__file__).parent)!r}]; import json, report; "
    script += f"print(json.dumps(report.make({trials})))"
    one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    pinned = (lambda: os.sched_setaffinity(0, {0})) if hasattr(os, "sched_setaffinity") else None
    command = [sys.executable, "-P", "-c", script]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | one
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, cwd="/", env=environment, preexec_fn=pinned
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main(arguments: list[str] | None = None) -> None:
    """Print a line for each code and number of trials."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, help="folder of other code, such as a worktree of an earlier commit")
    parser.add_argument("--trials", type=int, nargs="+", default=[14, 2000])
    parser.add_argument("--rounds", type=int, default=1)
    given = parser.parse_args(arguments)
    codes = {"this code": Path(__file__).parents[2]}
    if given.against is not None:
        codes = {"before": given.against.resolve()} | codes
    print(f"{'code':<10} {'trials':>6} {'MB':>7} {'wall [s]':>9} {'CPU [s]':>8}")
    for trials in given.trials:
        for _ in range(given.rounds):
            for name, code in codes.items():
                found = measured(code, trials)
                print(f"{name:<10} {trials:>6} {found['megabytes']:>7.2f} {found['wall']:>9.1f} {found['cpu']:>8.1f}")


if __name__ == "__main__":
    main()
