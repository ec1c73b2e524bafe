"""Processes that train. Trials that share a GPU do so in one: a thread and, on a GPU, a stream each.

Without a GPU, those of a node share one. A trial has an actor of Ray Tune's of its own still, which holds its share of
the machine, and asks the process they share for one epoch after the other; see sweeps.execution.trainable.
Processes belong to the launch, not to the trial that came first. Nothing here loads Ray Tune, which takes as long as
torch does.
"""

from __future__ import annotations

import gc
import logging
import os
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from logging.handlers import QueueHandler
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeVar

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from resnet_core.config import TrialConfig
from resnet_core.records import EpochRecord
from sweeps.execution.cluster import available_cores

_T = TypeVar("_T")
PROCESSES = "sweeps-processes"
"""The actor that starts processes and owns them; Ray keeps the names of each launch apart."""


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
    gc.disable()  # else a seventh of the time to load torch is spent looking for garbage
    try:
        import torch  # here: the driver need not load it
    finally:
        gc.enable()
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


class SharedProcess:
    """Trains the trials of one GPU, or of one node.

    Args:
        visible: CUDA_VISIBLE_DEVICES of the trials that share the process; None leaves it as it is.
    """

    def __init__(self, visible: str | None) -> None:
        if visible is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = visible  # torch is not loaded yet
        # A queue for each trial's stream. There are 8 otherwise, and trials in one would wait for each other.
        os.environ.setdefault("CUDA_DEVICE_MAX_CONNECTIONS", "32")
        logging.captureWarnings(True)
        self._trials: dict[str, _Trial] = {}
        self._change = threading.Lock()

    def place(self, config: dict[str, Any]) -> Place:
        """Make the process ready for trials like this one; return where it trains them."""
        return prepared(config["threads"], at_once(config) * config["gpus"])

    def begin(self, actor: str, config: dict[str, Any], device: str) -> None:
        """Take in the trial of an actor of Ray Tune's, by its id.

        The trial may be here still for an actor that was killed; it is ended first.
        """
        with self._change:
            before = [owner for owner, trial in self._trials.items() if trial.number == config["number"]]
        for owner in before:
            self.end(owner)
        with self._change:
            self._trials[actor] = _Trial(config, device)

    def epoch(self, actor: str) -> tuple[EpochRecord | str, list[logging.LogRecord]]:
        """Return the next epoch of the actor's trial, or the traceback of what it failed with, and what it logged."""
        trial = self._trials[actor]
        try:
            return trial.epoch(), trial.logged()
        except Exception:
            return traceback.format_exc(), trial.logged()

    def end(self, actor: str) -> None:
        """Let go of the actor's trial, once the epoch under way is over; of one that is not here too."""
        with self._change:
            trial = self._trials.pop(actor, None)
        if trial is not None:
            trial.close()

    def ping(self) -> None:
        """Do nothing; a process that is gone cannot."""


class _Trial:
    """A trial in a thread of its own: what a thread frees, the C library keeps for that thread."""

    def __init__(self, config: dict[str, Any], device: str) -> None:
        from resnet_core.trainer import train  # here: the driver need not load torch

        self.number = config["number"]
        settings, data_dir, checkpoint = arguments(config)
        self._epochs = train(settings, data_dir=data_dir, device=device, checkpoint=checkpoint)
        self._thread = ThreadPoolExecutor(1)
        thread = self._thread.submit(threading.get_ident).result()
        self._logged: SimpleQueue[logging.LogRecord] = SimpleQueue()
        self._handler = QueueHandler(self._logged)
        self._handler.addFilter(lambda entry: entry.thread == thread)
        logging.getLogger().addHandler(self._handler)

    def epoch(self) -> EpochRecord:
        return self._thread.submit(next, self._epochs).result()

    def logged(self) -> list[logging.LogRecord]:
        """Return what the trial logged since the last time."""
        return [self._logged.get() for _ in range(self._logged.qsize())]

    def close(self) -> None:
        self._thread.submit(self._epochs.close).result()
        self._thread.shutdown()
        logging.getLogger().removeHandler(self._handler)


def at_once(config: dict[str, Any]) -> int:
    """Return how many trials with these ``gpus`` and ``threads`` can come to be in one process."""
    return int(1 / config["gpus"] + 1e-9) if config["gpus"] else max(1, available_cores() // config["threads"])


class _Processes:
    """Starts processes, and owns them."""

    def __init__(self) -> None:
        self._actors: dict[tuple[str, str | None], Any] = {}

    def on(self, node: str, visible: str | None, calls: int) -> Any:
        """Return the process on a node, by its id, for the GPUs that are visible there; ``calls`` at once."""
        actor = self._actors.get((node, visible))
        if actor is not None:
            with suppress(ray.exceptions.RayError):
                ray.get(actor.ping.remote())
                return actor
        there = NodeAffinitySchedulingStrategy(node, soft=False)
        process = ray.remote(SharedProcess).options(num_cpus=0, max_concurrency=calls, scheduling_strategy=there)
        self._actors[node, visible] = actor = process.remote(visible)
        return actor


def offer_processes() -> Any:
    """Make it possible for trials to share processes, for as long as the handle is kept."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(_Processes).options(num_cpus=0, name=PROCESSES, scheduling_strategy=here).remote()
