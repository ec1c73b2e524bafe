"""Streams of GPUs, leased to one run at a time.

torch hands out 32 streams a device and then the first again. Runs of one process that asked for a new one each would
soon share one, and a step that one of them records would hold the other's work as well.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

MOST = 32
"""How many streams torch has for a device."""


class Streams:
    """Hands out streams, each to one holder at a time, and makes no more than are held at once.

    Args:
        make: returns a new stream of a device.
    """

    def __init__(self, make: Callable[[torch.device], torch.cuda.Stream]) -> None:
        self._make, self._change = make, threading.Lock()
        self._free: dict[torch.device, list[torch.cuda.Stream]] = defaultdict(list)
        self._made: dict[torch.device, int] = defaultdict(int)

    @contextmanager
    def leased(self, device: torch.device) -> Iterator[torch.cuda.Stream | None]:
        """Within it, a stream of ``device`` is nobody else's; a CPU has none.

        Raises:
            RuntimeError: as many are held as torch has.
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
            if self._made[device] == MOST:
                raise RuntimeError(f"{MOST} runs of this process train on {device} already, as many as it has streams")
            stream = self._make(device)
            self._made[device] += 1
            return stream


STREAMS = Streams(lambda device: torch.cuda.Stream(device))  # type: ignore[no-untyped-call]
"""Those of this process."""
