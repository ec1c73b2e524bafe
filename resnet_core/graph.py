"""A training step recorded once as a CUDA graph and replayed: one launch instead of some hundreds."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

_WARM_UPS = 3
# Recording is the one thing that trials in threads of one process cannot do side by side.
_recording = threading.Lock()


def rehearse(step: Callable[[int], None], size: int, state: Iterable[Tensor]) -> None:
    """Take the step a few times, so that libraries choose and allocate, and put ``state`` back as it was."""
    kept = [(tensor, tensor.clone()) for tensor in state]
    for _ in range(_WARM_UPS):
        step(size)
        for tensor, value in kept:
            tensor.copy_(value)


class RecordedStep:
    """A step as CUDA graphs, one for each batch size, recorded on the current stream, which must not be the default.

    Nothing here waits for other streams of the device, where other trials train.

    Args:
        step: takes one step on a batch of so many images. It reads all that changes from one step to the next
            from tensors of fixed address, and never waits for the device.
        sizes: of the batches.
        state: every tensor that the step changes and the next one reads.
    """

    def __init__(self, step: Callable[[int], None], sizes: Iterable[int], state: Iterable[Tensor]) -> None:
        pool, kept = torch.cuda.graph_pool_handle(), list(state)
        with _recording:
            self._graphs = {size: _recorded(step, size, kept, pool) for size in sizes}

    def __call__(self, size: int) -> None:
        """Take the step."""
        self._graphs[size].replay()


def _recorded(step: Callable[[int], None], size: int, state: list[Tensor], pool: Any) -> torch.cuda.CUDAGraph:
    rehearse(step, size, state)
    gc.collect()  # what CUDA frees while it records, it would record or refuse
    torch.cuda.current_stream().synchronize()
    graph = torch.cuda.CUDAGraph()
    # Not torch.cuda.graph, which waits for the whole device. Errors are for this thread alone: other trials go on
    # launching work while this one records.
    graph.capture_begin(pool=pool, capture_error_mode="thread_local")
    try:
        step(size)
    finally:
        graph.capture_end()
    return graph
