"""A training step recorded once as a CUDA graph and replayed: one launch instead of some seven hundred."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

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
    """A step as CUDA graphs, one for each batch size.

    Args:
        step: takes one step on a batch of so many images. It reads all that changes from one step to the next
            from tensors of fixed address, and never waits for the device.
        state: every tensor that the step changes and the next one reads.
    """

    def __init__(self, step: Callable[[int], None], state: Iterable[Tensor]) -> None:
        self._step, self._state = step, list(state)
        self._graphs: dict[int, torch.cuda.CUDAGraph] = {}
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, size: int) -> None:
        """Take the step; the first of each size records it."""
        if size not in self._graphs:
            self._graphs[size] = self._record(size)
        self._graphs[size].replay()

    def _record(self, size: int) -> torch.cuda.CUDAGraph:
        graph = torch.cuda.CUDAGraph()
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        with _recording:
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                rehearse(self._step, size, self._state)
            torch.cuda.current_stream().wait_stream(stream)
            # Errors are for this thread alone: other trials go on launching work while this one records.
            with torch.cuda.graph(graph, pool=self._pool, stream=stream, capture_error_mode="thread_local"):
                self._step(size)
        return graph
