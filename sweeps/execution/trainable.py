"""The trainer as Ray Tune sees it: a class whose ``step`` is one ``next``."""

from __future__ import annotations

import dataclasses
import logging
import os
import socket
import traceback
from collections.abc import Generator
from contextlib import suppress
from pathlib import Path
from typing import Any

import ray
from ray import tune

from resnet_core import schema
from resnet_core.config import TrialConfig
from resnet_core.records import EpochRecord
from sweeps.execution.shared_process import PROCESSES, Place, arguments, at_once, prepared
from sweeps.trial_log import TrialLog

Epochs = Generator[EpochRecord]
"""A trial's epochs; to close them frees its network."""


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
            schema.DEVICE: place.device_name,
            schema.GPUS: f"{config['gpus']:g}",
            schema.GPU_IDS: ",".join(str(gpu) for gpu in ray.get_gpu_ids()),
            schema.THREADS: str(place.threads),
            schema.NODE: socket.gethostname(),
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


class SharedTrainable(TrialTrainable):
    """A trial in the process that it shares."""

    def begin(self, config: dict[str, Any]) -> tuple[Place, Epochs]:
        """See TrialTrainable.begin."""
        visible = os.environ.get("CUDA_VISIBLE_DEVICES") if config["gpus"] else None
        node = ray.get_runtime_context().get_node_id()
        # A trial asks for one thing at a time; one that was killed may have its last epoch under way still.
        calls = 2 * at_once(config) + 1
        process: Any = ray.get(ray.get_actor(PROCESSES).on.remote(node, visible, calls))
        place: Place = ray.get(process.place.remote(config))
        return place, _epochs(process, config, place.device)


def _epochs(process: Any, config: dict[str, Any], device: str) -> Generator[EpochRecord]:
    # The process has the trial from its first epoch on: Ray may set up an actor more than it uses after an error,
    # and that one must neither begin the trial nor end it.
    actor = ray.get_runtime_context().get_actor_id()
    ray.get(process.begin.remote(actor, config, device))
    try:
        while True:
            outcome, logged = ray.get(process.epoch.remote(actor))
            for entry in logged:
                logging.getLogger(entry.name).handle(entry)  # into the trial's log
            if isinstance(outcome, str):
                raise TrialError(outcome)
            yield outcome
    finally:
        with suppress(ray.exceptions.RayError):
            ray.get(process.end.remote(actor))


class TrialError(RuntimeError):
    """An error in a trial, as the text of its traceback."""
