"""The GPU's part of the trainer where there is no GPU: on tensors that have a device, a shape and no numbers.

torch refuses to compute with tensors of two devices, and to tell the host a number that a device has yet to compute,
for which the host would wait; a CUDA graph can hold neither. The backward pass needs a real device and is left out.
"""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from resnet_core import training_run
from resnet_core.config import TrialConfig
from resnet_core.images import load
from resnet_core.network import build
from resnet_core.optim import OPTIMIZERS

GPU = torch.device("cuda")


class OneFakeTensorMode(FakeTensorMode):
    """A mode that tensors share with their copies.

    A copied tensor takes a copy of its mode along, which frees torch's references to storages once more than they were
    taken: the memory is then freed twice, and the process dies later, at any other place.
    """

    def __deepcopy__(self, memo: dict[int, Any]) -> "OneFakeTensorMode":
        return self


def config(**fields: object) -> TrialConfig:
    values = {
        **{"schedule": "[0.01, 0] lin[0.002, 4]", "model": "resnet11v2", "data": "digits", "image_size": 16},
        **{"train_limit": 70, "val_limit": 30, "batch_size": 32, "shift": 0.1},
    }
    return TrialConfig(**{**values, **fields})  # type: ignore[arg-type]


def build_there(config: TrialConfig) -> nn.Module:
    """The network with all that it holds on the GPU; such tensors cannot be moved there."""
    network = build(config)
    for module in network.modules():
        for name, parameter in module.named_parameters(recurse=False):
            there = torch.empty(parameter.shape, device=GPU)
            if there.dim() == 4:
                there = there.contiguous(memory_format=torch.channels_last)
            module._parameters[name] = nn.Parameter(there)
        for name, buffer in module.named_buffers(recurse=False):
            module._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype, device=GPU)
    network.to = lambda *_args, **_kwargs: network  # type: ignore[method-assign,assignment]
    return network


@pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")
@pytest.mark.parametrize(
    "fields",
    [
        *({"optimizer": name, "l2": 1e-4} for name in OPTIMIZERS),
        *({"model": name} for name in ("resnet9", "resnet18")),
        pytest.param({"model": "densenet121"}, marks=pytest.mark.slow),
        {"model": "vgg16", "image_size": 32},
        {"optimizer": "sgd", "nesterov": True},
        {"head": "max", "shortcut_kernel": 3, "conv_bias": False},
        {"head": "flatten", "bottleneck": 0.25},
        {"crop": 2, "cutout": 4, "shift": 0.0},
        {"ema": 0.9},
        {"bn_recalibration": 40},
    ],
    ids=lambda fields: ", ".join(f"{key} {value}" for key, value in fields.items()),
)
def test_steps_and_validation_wait_for_nothing_and_stay_on_their_device(fields, monkeypatch):
    monkeypatch.setattr(training_run, "build", build_there)
    monkeypatch.setattr(torch.autograd, "grad", lambda _loss, leaves, **_: [torch.empty_like(leaf) for leaf in leaves])
    settings = config(fused=False, **fields)  # its kernels are not torch's
    data = load(settings, Path("nowhere"))
    with OneFakeTensorMode(allow_non_fake_inputs=True):
        run = training_run.TrainingRun(settings, data, GPU, graph=False)
        run._take_step(32)
        run._take_step(6)
        sums = run._validate()
    assert sums.device.type == "cuda"
    assert {tensor.device.type for tensor in run._state()} == {"cuda"}


@pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")
def test_a_copy_of_such_a_tensor_has_the_same_mode():
    with OneFakeTensorMode() as mode:
        copied = copy.deepcopy(nn.Linear(2, 2, device=GPU))
    assert {parameter.fake_mode for parameter in copied.parameters()} == {mode}


def test_such_tensors_tell_no_number_and_do_not_mix():
    with OneFakeTensorMode():
        there = torch.ones(2, device=GPU)
        with pytest.raises(DataDependentOutputException):
            there.sum().item()
        with pytest.raises(RuntimeError, match="devices"):
            there + torch.ones(2)
