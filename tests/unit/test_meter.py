"""The GPU's meter: absent figures where there is nothing to read, those of NVML's counters where there is."""

import sys
from types import SimpleNamespace

import pytest
import torch

from resnet_core import meter
from resnet_core.meter import GpuMeter

GPU = torch.device("cuda")


@pytest.fixture(autouse=True)
def _forget():
    meter._nvml.cache_clear()
    yield
    meter._nvml.cache_clear()


def gpu_that_tells(monkeypatch: pytest.MonkeyPatch, millijoules: list[int], uuid: str = "1-2-3") -> list[str]:
    """A GPU whose counter says these figures at 10 s and at 12 s; the names that it was asked for."""
    asked: list[str] = []
    energies, ticks = iter(millijoules), iter([10.0, 12.0])
    monkeypatch.setitem(
        sys.modules,
        "pynvml",
        SimpleNamespace(
            nvmlInit=lambda: None,
            nvmlDeviceGetHandleByUUID=lambda name: asked.append(name) or "handle",
            nvmlDeviceGetTotalEnergyConsumption=lambda _: next(energies),
            nvmlDeviceGetUtilizationRates=lambda _: SimpleNamespace(gpu=87, memory=3),
        ),
    )
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(uuid=uuid))
    monkeypatch.setattr(meter, "time", SimpleNamespace(perf_counter=lambda: next(ticks)))
    return asked


def read(device: torch.device) -> tuple[float | None, float | None]:
    with GpuMeter(device) as opened:
        pass
    return opened.power_watts, opened.gpu_util_percent


def test_on_a_cpu_there_are_no_figures():
    assert read(torch.device("cpu")) == (None, None)


def test_a_gpu_that_cannot_be_read_has_no_figures(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)  # not installed
    assert read(GPU) == (None, None)


def test_power_is_energy_over_time_and_load_is_the_last(monkeypatch):
    gpu_that_tells(monkeypatch, [5_000_000, 5_900_000])  # 900 J in 2 s
    assert read(GPU) == (450.0, 87.0)


def test_a_counter_that_has_not_moved_tells_no_power(monkeypatch):
    gpu_that_tells(monkeypatch, [5_000_000, 5_000_000])
    assert read(GPU) == (None, 87.0)


def test_the_gpu_is_found_by_what_cuda_calls_it(monkeypatch):
    asked = gpu_that_tells(monkeypatch, [1, 2], uuid="ab-cd")
    read(GPU)
    assert asked == ["GPU-ab-cd"]
