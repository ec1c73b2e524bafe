"""Power and load of a GPU over an epoch, from NVIDIA's management library where it is there."""

from __future__ import annotations

import functools
import time
from types import TracebackType
from typing import Any, Self

import torch


class GpuMeter:
    """Reads the whole GPU when it is opened and when it is closed; on a CPU it does nothing.

    Attributes:
        power_watts: mean power in between, whatever else runs there: by NVML's counter of energy, which GPUs have from
            Volta on; None where it cannot be read.
        gpu_util_percent: share of time in which any kernel ran, over NVML's last sampling period, of a second at most;
            None where it cannot be read.
    """

    power_watts: float | None = None
    gpu_util_percent: float | None = None

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def __enter__(self) -> Self:
        self._begun = self._read()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        ended = self._read()
        if self._begun is not None and ended is not None:
            (began_at, joules_before, _), (ended_at, joules, self.gpu_util_percent) = self._begun, ended
            # The counter is moved on some ten times a second.
            self.power_watts = (joules - joules_before) / (ended_at - began_at) if joules > joules_before else None

    def _read(self) -> tuple[float, float, float] | None:
        """Return the time in seconds, the energy used so far in joules, and the load in percent."""
        if self._device.type != "cuda":
            return None
        try:
            nvml, gpu = _nvml(self._device)
            millijoules = nvml.nvmlDeviceGetTotalEnergyConsumption(gpu)
            return time.perf_counter(), millijoules / 1000, float(nvml.nvmlDeviceGetUtilizationRates(gpu).gpu)
        except Exception:  # nvidia-ml-py is not installed, or the GPU does not tell: figures that stay absent
            return None


@functools.cache
def _nvml(device: torch.device) -> tuple[Any, Any]:
    """Return NVIDIA's library and its handle for a device, which it numbers otherwise than CUDA does."""
    import pynvml

    pynvml.nvmlInit()
    return pynvml, pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
