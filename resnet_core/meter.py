"""Power and load of a GPU over an epoch, from NVIDIA's management library (NVML), if it is installed."""

from __future__ import annotations

import functools
import time
from types import TracebackType
from typing import Any, Self

import torch


class GpuMeter:
    """A context manager that reads the whole GPU at its start and its end; on a CPU it does nothing.

    Attributes:
        power_watts: mean power of the whole GPU between start and end, other processes included, from NVML's energy
            counter (GPUs since Volta); None where it cannot be read.
        gpu_util_percent: percentage of time in which any kernel ran, in NVML's last sampling period of at most a
            second; None where it cannot be read.
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
            # The counter is updated about ten times a second.
            self.power_watts = (joules - joules_before) / (ended_at - began_at) if joules > joules_before else None

    def _read(self) -> tuple[float, float, float] | None:
        """Return the time in seconds, the energy used so far in joules, and the load in percent."""
        if self._device.type != "cuda":
            return None
        try:
            nvml, gpu = _nvml(self._device)
            millijoules = nvml.nvmlDeviceGetTotalEnergyConsumption(gpu)
            return time.perf_counter(), millijoules / 1000, float(nvml.nvmlDeviceGetUtilizationRates(gpu).gpu)
        except Exception:  # nvidia-ml-py is not installed, or the GPU has no such counter
            return None


@functools.cache
def _nvml(device: torch.device) -> tuple[Any, Any]:
    """Return NVML and its handle for a device, found by UUID, since NVML and CUDA number devices differently."""
    import pynvml

    pynvml.nvmlInit()
    return pynvml, pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
