"""Power and load of a GPU over an epoch, from NVIDIA's management library where it is there."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Self

import torch

_PERIOD = 0.1


class GpuMeter:
    """Samples the whole GPU ten times a second while it is open; on a CPU it does nothing.

    Attributes:
        power_watts: mean power, whatever else runs there; None where it cannot be read.
        gpu_util_percent: mean share of time in which any kernel ran; None where it cannot be read.
    """

    power_watts: float | None = None
    gpu_util_percent: float | None = None

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._samples: list[tuple[float, float]] = []
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="gpu-meter", daemon=True)

    def __enter__(self) -> Self:
        if self._device.type == "cuda":
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        if self._thread.ident is not None:
            self._thread.join()
        if self._samples:
            power, load = (sum(column) / len(column) for column in zip(*self._samples, strict=True))
            self.power_watts, self.gpu_util_percent = power, load

    def _sample(self) -> None:
        try:
            while not self._closing.is_set():
                milliwatts, percent = torch.cuda.power_draw(self._device), torch.cuda.utilization(self._device)
                self._samples.append((milliwatts / 1000, float(percent)))
                self._closing.wait(_PERIOD)
        except Exception:  # nvidia-ml-py is not installed, or the GPU does not tell: figures that stay absent
            return
