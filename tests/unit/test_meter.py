"""The GPU's meter: absent figures where there is nothing to read, means where there is."""

import time

import pytest
import torch

from resnet_core.meter import GpuMeter


def test_on_a_cpu_there_are_no_figures():
    with GpuMeter(torch.device("cpu")) as meter:
        pass
    assert (meter.power_watts, meter.gpu_util_percent) == (None, None)


def test_a_gpu_that_cannot_be_read_has_no_figures(monkeypatch):
    def refuse(_device: object) -> float:
        raise ModuleNotFoundError("nvidia-ml-py")

    monkeypatch.setattr(torch.cuda, "power_draw", refuse)
    with GpuMeter(torch.device("cuda")) as meter:
        time.sleep(0.01)
    assert (meter.power_watts, meter.gpu_util_percent) == (None, None)


def test_figures_are_means_over_the_time_it_is_open(monkeypatch):
    powers = iter([100_000, 200_000, *[300_000] * 1000])
    monkeypatch.setattr(torch.cuda, "power_draw", lambda _device: next(powers))
    monkeypatch.setattr(torch.cuda, "utilization", lambda _device: 50)
    monkeypatch.setattr("resnet_core.meter._PERIOD", 0.001)
    with GpuMeter(torch.device("cuda")) as meter:
        time.sleep(0.05)
    assert meter.power_watts is not None
    assert 100 < meter.power_watts <= 300
    assert meter.gpu_util_percent == pytest.approx(50)
