"""CUDA streams, each leased to one run at a time.

torch has 32 streams for a device and then gives the first one again. If each run of a process asked torch for a stream,
two runs would soon share one, and the graph that one of them captures would hold the work of the other as well.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

STREAMS_PER_DEVICE = 32
"""Number of streams that torch has for a device."""


class Streams:
    """Leases streams, each to one holder at a time. It makes a new stream only if all others are held.

    Args:
        make: returns a new stream of a device.
    """

    def __init__(self, make: Callable[[torch.device], torch.cuda.Stream]) -> None:
        self._make, self._change = make, threading.Lock()
        self._free: dict[torch.device, list[torch.cuda.Stream]] = defaultdict(list)
        self._made: dict[torch.device, int] = defaultdict(int)

    @contextmanager
    def leased(self, device: torch.device) -> Iterator[torch.cuda.Stream | None]:
        """Yield a stream of ``device`` that no other holder has until the block ends; None for a CPU.

        Raises:
            RuntimeError: all streams that torch has for the device are held.
        """
        if device.type != "cuda":
            yield None
            return
        stream = self._take(device)
        try:
            yield stream
        finally:
            with self._change:
                self._free[device].append(stream)

    def _take(self, device: torch.device) -> torch.cuda.Stream:
        with self._change:
            if self._free[device]:
                return self._free[device].pop()
            if self._made[device] == STREAMS_PER_DEVICE:
                raise RuntimeError(
                    f"{STREAMS_PER_DEVICE} runs of this process train on {device} already, as many as it has streams"
                )
            stream = self._make(device)
            self._made[device] += 1
            return stream


STREAMS = Streams(lambda device: torch.cuda.Stream(device))  # type: ignore[no-untyped-call]
"""The streams of this process."""
