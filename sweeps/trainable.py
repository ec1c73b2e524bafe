"""The trainer as Ray Tune sees it: a class whose ``step`` is one ``next``."""

from __future__ import annotations

import dataclasses
import os
import socket
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ray
from ray import tune

from resnet_core.config import TrialConfig
from resnet_core.records import EpochRecord
from sweeps.trial_log import TrialLog


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
        import torch  # here and below: the driver, which knows this class too, need not load it

        self._log = TrialLog(Path(config["log"]))
        torch.set_num_threads(config["threads"])
        self.device = "cuda" if config["gpus"] and torch.cuda.is_available() else "cpu"
        if self.device == "cuda":
            # A trial that shares its GPU runs out of memory by itself, before it takes that of the others.
            torch.cuda.set_per_process_memory_fraction(min(1.0, config["gpus"]))
        self._epochs = self.epochs(
            TrialConfig.from_dict(config["config"]), Path(config["data_dir"]), Path(config["checkpoint"])
        )
        self._number = config["number"]
        self._placement: dict[str, str] | None = {
            "device": torch.cuda.get_device_name() if self.device == "cuda" else "cpu",
            "gpus": f"{config['gpus']:g}",
            "gpu_ids": ",".join(str(gpu) for gpu in ray.get_gpu_ids()),
            "threads": str(torch.get_num_threads()),
            "node": socket.gethostname(),
        }

    def epochs(self, config: TrialConfig, data_dir: Path, checkpoint: Path) -> Iterator[EpochRecord]:
        """Return the trial's epochs; where another trainer is to be run, this is what a subclass changes."""
        from resnet_core.trainer import train

        return train(config, data_dir=data_dir, device=self.device, checkpoint=checkpoint)

    def step(self) -> dict[str, Any]:
        """Train one epoch. Where the trial runs is said first, as a result of its own."""
        if self._placement is not None:
            placement, self._placement = self._placement, None
            # Not before: Ray may set up an actor more than it uses after an error.
            placed = ", ".join(f"{key} {value}" for key, value in placement.items() if value)
            self._log.say(f"trial {self._number} starts: {placed}, process {os.getpid()}")
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
        self._epochs.close()  # type: ignore[attr-defined]  # a generator, whose network is freed by this
        self._log.close()


class TrialError(RuntimeError):
    """An error in a trial, as the text of its traceback."""
