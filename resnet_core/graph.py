"""A training step captured once as a CUDA graph and replayed: one launch instead of hundreds."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

_WARM_UP_STEPS = 3
# Trials in threads of one process cannot capture at the same time.
_capturing = threading.Lock()


def warm_up(step: Callable[[int], None], size: int, state: Iterable[Tensor]) -> None:
    """Take the step a few times, so that libraries choose their algorithms and allocate; restore ``state``."""
    kept = [(tensor, tensor.clone()) for tensor in state]
    for _ in range(_WARM_UP_STEPS):
        step(size)
        for tensor, value in kept:
            tensor.copy_(value)


class CapturedStep:
    """A step as CUDA graphs, one for each batch size, captured on the current stream, which must not be the default.

    It does not wait for other streams of the device, where other trials train.

    Args:
        step: takes one step on a batch of the given number of images. It reads everything that changes between steps
            from tensors of fixed address, and never waits for the device.
        sizes: numbers of images of the batches.
        state: every tensor that the step changes and the next one reads.
    """

    def __init__(self, step: Callable[[int], None], sizes: Iterable[int], state: Iterable[Tensor]) -> None:
        pool, kept = torch.cuda.graph_pool_handle(), list(state)
        with _capturing:
            self._graphs = {size: _capture(step, size, kept, pool) for size in sizes}

    def __call__(self, size: int) -> None:
        """Take the step on a batch of ``size`` images."""
        self._graphs[size].replay()


def _capture(step: Callable[[int], None], size: int, state: list[Tensor], pool: Any) -> torch.cuda.CUDAGraph:
    warm_up(step, size, state)
    gc.collect()  # memory that is freed during the capture would be captured too, or an error
    torch.cuda.current_stream().synchronize()
    graph = torch.cuda.CUDAGraph()
    # Not torch.cuda.graph, which waits for the whole device. "thread_local": other trials may launch work meanwhile.
    graph.capture_begin(pool=pool, capture_error_mode="thread_local")
    try:
        step(size)
    finally:
        graph.capture_end()
    return graph
