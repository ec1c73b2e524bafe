"""Trials that share a GPU in one process: a thread and, on a GPU, a stream each. Without a GPU, those of a node.

A trial has an actor of Ray Tune's of its own still, which holds its share of the machine, and asks the process they
share for one epoch after the other. Processes belong to the launch, not to the trial that came first.
"""

from __future__ import annotations

import logging
import os
import threading
import traceback
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from logging.handlers import QueueHandler
from queue import SimpleQueue
from typing import Any, TypeVar

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from resnet_core.records import EpochRecord
from sweeps.cluster import available_cores
from sweeps.trainable import Epochs, Place, TrialError, TrialTrainable, arguments, prepared

_T = TypeVar("_T")
_PROCESSES = "sweeps-processes"  # Ray keeps the names of each launch apart


class SharedProcess:
    """Trains the trials of one GPU, or of one node.

    Args:
        visible: CUDA_VISIBLE_DEVICES of the trials that share the process; None leaves it as it is.
    """

    def __init__(self, visible: str | None) -> None:
        if visible is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = visible  # torch is not loaded yet
        logging.captureWarnings(True)
        self._trials: dict[str, _Trial] = {}
        self._change = threading.Lock()

    def place(self, config: dict[str, Any]) -> Place:
        """Make the process ready for trials like this one; return where it trains them."""
        return prepared(config["threads"], _at_once(config) * config["gpus"])

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
        import torch  # here: the driver need not load it

        from resnet_core.trainer import train

        self.number = config["number"]
        settings, data_dir, checkpoint = arguments(config)
        self._epochs = train(settings, data_dir=data_dir, device=device, checkpoint=checkpoint)
        self._stream = torch.cuda.Stream() if device == "cuda" else None  # type: ignore[no-untyped-call]
        self._thread = ThreadPoolExecutor(1)
        thread = self._thread.submit(threading.get_ident).result()
        self._logged: SimpleQueue[logging.LogRecord] = SimpleQueue()
        self._handler = QueueHandler(self._logged)
        self._handler.addFilter(lambda entry: entry.thread == thread)
        logging.getLogger().addHandler(self._handler)

    def epoch(self) -> EpochRecord:
        return self._thread.submit(self._on_stream, lambda: next(self._epochs)).result()

    def logged(self) -> list[logging.LogRecord]:
        """Return what the trial logged since the last time."""
        return [self._logged.get() for _ in range(self._logged.qsize())]

    def close(self) -> None:
        self._thread.submit(self._on_stream, self._epochs.close).result()
        self._thread.shutdown()
        logging.getLogger().removeHandler(self._handler)

    def _on_stream(self, do: Callable[[], _T]) -> _T:
        import torch

        with torch.cuda.stream(self._stream):  # None is none
            return do()


def _at_once(config: dict[str, Any]) -> int:
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
    return ray.remote(_Processes).options(num_cpus=0, name=_PROCESSES, scheduling_strategy=here).remote()


class SharedTrainable(TrialTrainable):
    """A trial in the process that it shares."""

    def begin(self, config: dict[str, Any]) -> tuple[Place, Epochs]:
        """See TrialTrainable.begin."""
        visible = os.environ.get("CUDA_VISIBLE_DEVICES") if config["gpus"] else None
        node = ray.get_runtime_context().get_node_id()
        # A trial asks for one thing at a time; one that was killed may have its last epoch under way still.
        calls = 2 * _at_once(config) + 1
        process: Any = ray.get(ray.get_actor(_PROCESSES).on.remote(node, visible, calls))
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
