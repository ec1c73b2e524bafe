"""Whole trainings of run 33 of post V with several seeds, so many at once in one process: a result and a timing in one.

    python -m tests.benchmarks.trainings --data DIR --out FILE.jsonl --seeds 33 0 1 2 ... [--at-once 8]

Needs torch, torchvision and resnet_core alone. A line an epoch is written as it comes: ``seed``, ``at`` (seconds since
the start), ``device`` and the fields of the epoch's record; a run cut short loses none. Printed at the end: seconds a
trial and epoch while ``--at-once`` trials ran, from the last one's first epoch to the first one's last; and of each
seed the epoch that reached 0.92.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import torch

from resnet_core.config import TrialConfig
from tests.benchmarks.loops import records
from tests.benchmarks.options import device, new_file, positive

RUN_33 = TrialConfig(
    schedule="[8e-4, 0] lin[1e-3, 5] lin[1e-3, 12] cos[1e-5, 20] lin[6e-6, 26]",
    weight_decay=0.18,
    shift=0.07,
    split="pooled",
    precision="bf16",
)
"""search_spaces/published/post5_run33.toml, in the precision that a GPU is fast in."""
TARGET = 0.92


class Trainings:
    """Trainings of one config with several seeds, a thread each, written as they go.

    Args:
        config: the run.
        data_dir: the folder that holds CIFAR-10.
        device: a torch device.
        out: JSON lines are appended to it.

    Attributes:
        ends: by seed, when each epoch had ended, in seconds since the start.
        accuracies: by seed, the validation accuracy after each epoch.
    """

    def __init__(self, config: TrialConfig, data_dir: Path, device: torch.device, out: Path) -> None:
        self._config, self._data_dir, self._device, self._out = config, data_dir, device, out
        self._name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
        self._writing, self._stopping = threading.Lock(), threading.Event()
        self._started = time.perf_counter()
        self.ends: dict[int, list[float]] = {}
        self.accuracies: dict[int, list[float]] = {}

    def run(self, seeds: list[int], at_once: int) -> bool:
        """Train all; return whether none failed. The first ones wait for each other after their first epoch."""
        self._begun = {seed: threading.Event() for seed in seeds[:at_once]}
        with ThreadPoolExecutor(at_once) as pool:
            try:
                return all([*pool.map(self._train, seeds)])
            except KeyboardInterrupt:
                self._stopping.set()
                pool.shutdown(cancel_futures=True)
                raise

    def _train(self, seed: int) -> bool:
        try:
            for record in records(replace(self._config, seed=seed), self._data_dir, self._device):
                with self._writing, self._out.open("a") as file:
                    at = time.perf_counter() - self._started
                    self.ends.setdefault(seed, []).append(at)
                    self.accuracies.setdefault(seed, []).append(record.val_acc)
                    line = {"seed": seed, "at": at, "device": self._name, **record.to_dict()}
                    file.write(json.dumps(line) + "\n")
                if record.epoch == 1 and seed in self._begun:
                    self._begun[seed].set()
                    for begun in self._begun.values():
                        begun.wait()
                if self._stopping.is_set():
                    return False
        except Exception:  # one that fails must not cost the others their turn
            traceback.print_exc()
            return False
        finally:
            if seed in self._begun:
                self._begun[seed].set()
        return True

    def seconds_at_once(self, seeds: list[int]) -> float | None:
        """Return the seconds a trial and epoch while all of ``seeds`` ran; None where they never did."""
        began = max(self.ends[seed][0] for seed in seeds)
        ended = min(self.ends[seed][-1] for seed in seeds)
        epochs = sum(sum(began < at <= ended for at in self.ends[seed]) for seed in seeds)
        return (ended - began) / epochs if epochs else None


def main() -> None:
    """Train, write and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder that holds CIFAR-10 (default: ./data)")
    parser.add_argument("--out", type=new_file, required=True, help="JSON lines are appended to this file")
    parser.add_argument("--seeds", type=int, nargs="+", required=True)
    parser.add_argument("--at-once", type=positive, default=8, help="trials at once (default: 8)")
    parser.add_argument("--device", type=device, default="cuda", help="torch device (default: cuda)")
    parser.add_argument("--tiny", action="store_true", help="only see that the program works, on digits")
    options = parser.parse_args()
    if len(set(options.seeds)) < len(options.seeds):
        parser.error("--seeds: each only once")
    tiny = {"model": "resnet11v2", "data": "digits", "image_size": 16, "train_limit": 80, "batch_size": 32}
    config = replace(RUN_33, **tiny) if options.tiny else RUN_33
    trainings = Trainings(config, options.data, options.device, options.out)
    whole = trainings.run(options.seeds, options.at_once)
    first = [seed for seed in options.seeds[: options.at_once] if seed in trainings.ends]
    seconds = trainings.seconds_at_once(first) if first else None
    if seconds is not None:
        print(f"{len(first)} at once: {seconds:.3f} s a trial and epoch")
    for seed, accuracies in trainings.accuracies.items():
        reached = next((epoch for epoch, acc in enumerate(accuracies, 1) if acc >= TARGET), None)
        ended = f"{len(accuracies)} epochs, best {max(accuracies):.4f}, last {accuracies[-1]:.4f}"
        print(f"seed {seed}: {ended}, {TARGET} at {reached}")
    sys.exit(0 if whole else 1)


if __name__ == "__main__":
    main()
