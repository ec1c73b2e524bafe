"""The trainer as Ray Tune sees it: a class whose ``step`` is one ``next``."""

from __future__ import annotations

import dataclasses
import os
import socket
import traceback
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray import tune

from resnet_core.config import TrialConfig
from resnet_core.records import EpochRecord
from sweeps.trial_log import TrialLog

Epochs = Generator[EpochRecord]
"""A trial's epochs; to close them frees its network."""


@dataclass(frozen=True)
class Place:
    """Where on a machine a trial trains.

    Attributes:
        device: torch's.
        device_name: what it is.
        threads: torch's, on a CPU.
        process: its id.
    """

    device: str
    device_name: str
    threads: int
    process: int


def prepared(threads: int, gpus: float) -> Place:
    """Make this process ready for trials.

    Args:
        threads: of each trial.
        gpus: how much of a GPU trials may take the memory of; 0 for none.
    """
    import torch  # here: the driver need not load it

    torch.set_num_threads(threads)
    device = "cuda" if gpus and torch.cuda.is_available() else "cpu"
    if device == "cuda":
        # A trial that shares its GPU runs out of memory by itself, before it takes that of other processes.
        torch.cuda.set_per_process_memory_fraction(min(1.0, gpus))
    name = torch.cuda.get_device_name() if device == "cuda" else "cpu"
    return Place(device, name, torch.get_num_threads(), os.getpid())


def arguments(config: dict[str, Any]) -> tuple[TrialConfig, Path, Path]:
    """Return a trial's configuration, the folder of the images and its checkpoint."""
    return TrialConfig.from_dict(config["config"]), Path(config["data_dir"]), Path(config["checkpoint"])


class TrialTrainable(tune.Trainable):
    """Trains one trial; the actor is kept for the next one.

    Its config has ``number``, ``config`` (a TrialConfig's fields), ``data_dir``, ``checkpoint``, ``log``,
    ``threads`` and ``gpus``. It saves and continues by the trainer's own checkpoint file, so that a trial goes on
    wherever and whenever it is started again; Ray's checkpoints are not used.
    """

    def setup(self, config: dict[str, Any]) -> None:
        """Start, or continue, the trial.

        Raises:
            TrialError: the home folder is not there on this node.
        """
        folder = Path(config["checkpoint"]).parent
        if not folder.is_dir():
            # To make it here would train anew what another node has begun.
            raise TrialError(
                f"node {socket.gethostname()} does not have {folder}: the home folder must lie on a file system that "
                "all nodes of the cluster share"
            )
        self._log = TrialLog(Path(config["log"]))
        self._number = config["number"]
        place, self._epochs = self.begin(config)
        self._placement: dict[str, str] | None = {
            "device": place.device_name,
            "gpus": f"{config['gpus']:g}",
            "gpu_ids": ",".join(str(gpu) for gpu in ray.get_gpu_ids()),
            "threads": str(place.threads),
            "node": socket.gethostname(),
        }
        self._process = place.process

    def begin(self, config: dict[str, Any]) -> tuple[Place, Epochs]:
        """Return where on this machine the trial trains, and its epochs."""
        place = prepared(config["threads"], config["gpus"])
        self.device = place.device
        return place, self.epochs(*arguments(config))

    def epochs(self, config: TrialConfig, data_dir: Path, checkpoint: Path) -> Epochs:
        """Return the trial's epochs; where another trainer is to be run, this is what a subclass changes."""
        from resnet_core.trainer import train  # here: the driver, which knows this class too, need not load torch

        return train(config, data_dir=data_dir, device=self.device, checkpoint=checkpoint)

    def step(self) -> dict[str, Any]:
        """Train one epoch. Where the trial runs is said first, as a result of its own."""
        if self._placement is not None:
            placement, self._placement = self._placement, None
            # Not before: Ray may set up an actor more than it uses after an error.
            placed = ", ".join(f"{key} {value}" for key, value in placement.items() if value)
            self._log.say(f"trial {self._number} starts: {placed}, process {self._process}")
            return {"number": self._number, "placement": placement}
        try:
            record = next(self._epochs)
        except Exception:
            # Ray wraps what is raised here; the text survives that, and reaches `sweeps show`.
            error = traceback.format_exc()
            self._log.say(error)
            raise TrialError(error) from None
        return {"number": self._number, "record": dataclasses.asdict(record)}

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next trial."""
        self.cleanup()
        self.setup(new_config)
        return True

    def cleanup(self) -> None:
        """Let go of the trial."""
        self._epochs.close()
        self._log.close()


class TrialError(RuntimeError):
    """An error in a trial, as the text of its traceback."""
