"""Processes that train several trials, each trial in its own thread and, on a GPU, its own CUDA stream.

The trials of one GPU share a process; without a GPU, those of one node do. The purpose: on some GPUs and nodes, one
process for each trial would need too much memory, most of it for copies of torch. The cost: if a trial kills its
process, the other trials in it are restarted from their last epochs.

Every trial still has its own Ray Tune actor (sweeps.execution.shared_trainable), which holds its share of the machine
and asks the shared process for one epoch after the other. The processes belong to the launch, not to a trial. This
module does not import Ray Tune, whose import takes as long as torch's.
"""

from __future__ import annotations

import logging
import os
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from logging.handlers import QueueHandler
from queue import SimpleQueue
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from resnet_core.records import EpochRecord
from sweeps.execution.machine import available_cores
from sweeps.execution.worker import Worker, prepare_worker, train_arguments

_POOL = "sweeps-processes"  # the name of the pool's actor; each launch has its own Ray namespace


class SharedProcess:
    """Trains the trials of one GPU, or of one node. A Ray actor.

    Args:
        visible_devices: CUDA_VISIBLE_DEVICES of the trials that share the process; None leaves it as it is.
    """

    def __init__(self, visible_devices: str | None) -> None:
        if visible_devices is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = visible_devices  # torch is not loaded yet
        # One hardware queue for each trial's stream. The default is 8; trials that share one wait for each other.
        os.environ.setdefault("CUDA_DEVICE_MAX_CONNECTIONS", "32")
        logging.captureWarnings(True)
        self._trials: dict[str, _Trial] = {}
        self._change = threading.Lock()

    def prepare(self, config: dict[str, Any]) -> Worker:
        """Prepare the process for trials with this Ray config."""
        return prepare_worker(config["threads"], trials_per_process(config) * config["gpus"])

    def begin(self, actor: str, config: dict[str, Any], device: str) -> None:
        """Begin or continue the trial of a Ray Tune actor.

        If the process still holds this trial for an actor that was killed, that one is ended first.

        Args:
            actor: the actor's id.
            config: the trial's Ray config.
            device: torch's device.
        """
        with self._change:
            before = [owner for owner, trial in self._trials.items() if trial.number == config["number"]]
        for owner in before:
            self.end(owner)
        with self._change:
            self._trials[actor] = _Trial(config, device)

    def epoch(self, actor: str) -> tuple[EpochRecord | str, list[logging.LogRecord]]:
        """Train the next epoch of the actor's trial.

        Returns:
            The epoch, or the traceback of an error; and the trial's log records since the last call.
        """
        trial = self._trials[actor]
        try:
            return trial.epoch(), trial.logged()
        except Exception:
            return traceback.format_exc(), trial.logged()

    def end(self, actor: str) -> None:
        """Close the actor's trial once its current epoch is over; an unknown actor changes nothing."""
        with self._change:
            trial = self._trials.pop(actor, None)
        if trial is not None:
            trial.close()

    def ping(self) -> None:
        """Do nothing. The call fails if the process has died."""


class _Trial:
    """A trial in its own thread: the C library keeps freed memory for the thread that freed it."""

    def __init__(self, config: dict[str, Any], device: str) -> None:
        from resnet_core.trainer import train  # here, so that the driver does not import torch

        self.number = config["number"]
        settings, arguments = train_arguments(config)
        self._epochs = train(settings, device=device, **arguments)
        self._thread = ThreadPoolExecutor(1)
        thread = self._thread.submit(threading.get_ident).result()
        self._logged: SimpleQueue[logging.LogRecord] = SimpleQueue()
        self._handler = QueueHandler(self._logged)
        self._handler.addFilter(lambda record: record.thread == thread)
        logging.getLogger().addHandler(self._handler)

    def epoch(self) -> EpochRecord:
        return self._thread.submit(next, self._epochs).result()

    def logged(self) -> list[logging.LogRecord]:
        """Return the trial's log records since the last call."""
        return [self._logged.get() for _ in range(self._logged.qsize())]

    def close(self) -> None:
        self._thread.submit(self._epochs.close).result()
        self._thread.shutdown()
        logging.getLogger().removeHandler(self._handler)


def trials_per_process(config: dict[str, Any]) -> int:
    """Return how many trials with the ``gpus`` and ``threads`` of this Ray config can share one process."""
    return int(1 / config["gpus"] + 1e-9) if config["gpus"] else max(1, available_cores() // config["threads"])


class _Pool:
    """Starts shared processes, and owns them. A Ray actor."""

    def __init__(self) -> None:
        self._processes: dict[tuple[str, str | None], Any] = {}

    def process(self, node: str, visible_devices: str | None, max_calls: int) -> Any:
        """Return the process for a node and its visible GPUs; a process that has died is replaced.

        Args:
            node: the node's id.
            visible_devices: CUDA_VISIBLE_DEVICES on that node.
            max_calls: how many calls the process must be able to take at the same time.
        """
        process = self._processes.get((node, visible_devices))
        if process is not None:
            with suppress(ray.exceptions.RayError):
                ray.get(process.ping.remote())
                return process
        there = NodeAffinitySchedulingStrategy(node, soft=False)
        actor = ray.remote(SharedProcess).options(num_cpus=0, max_concurrency=max_calls, scheduling_strategy=there)
        self._processes[node, visible_devices] = process = actor.remote(visible_devices)
        return process


def start_pool() -> Any:
    """Start the pool of this launch; the pool and its processes live as long as the returned handle."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(_Pool).options(num_cpus=0, name=_POOL, scheduling_strategy=here).remote()


def process_for(config: dict[str, Any]) -> Any:
    """Return the shared process of a trial as a Ray actor; the trial's own actor calls this function."""
    visible_devices = os.environ.get("CUDA_VISIBLE_DEVICES") if config["gpus"] else None
    node = ray.get_runtime_context().get_node_id()
    # A trial makes one call at a time; the last epoch of a killed trial may still be running.
    max_calls = 2 * trials_per_process(config) + 1
    return ray.get(ray.get_actor(_POOL).process.remote(node, visible_devices, max_calls))
