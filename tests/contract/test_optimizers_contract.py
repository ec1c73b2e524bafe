"""What every optimizer keeps to, whatever its name."""

import copy
import io

import pytest
import torch
from torch import nn

from resnet_core.config import TrialConfig
from resnet_core.optimizer import Optimizer, StepValues

OPTIMIZERS = [
    {"optimizer": "adam"},
    {"optimizer": "adamw"},
    {"optimizer": "amsgrad"},
    {"optimizer": "nadam"},
    {"optimizer": "padam"},
    {"optimizer": "padam", "padam_p": 0.5},
    {"optimizer": "sgd"},
    {"optimizer": "sgd", "nesterov": True},
    {"optimizer": "sgd", "momentum": 0.0},
]
pytestmark = pytest.mark.parametrize("fields", OPTIMIZERS, ids=lambda f: "-".join(map(str, f.values())))


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2))
    return nn.Sequential(*layers).to(memory_format=torch.channels_last)


def make(network: nn.Module, fields: dict[str, object], **others: object) -> Optimizer:
    config = TrialConfig(**{"schedule": "[1, 0] lin[0, 5]", **fields, **others})  # type: ignore[arg-type]
    return Optimizer(network, config)


def loss_of(network: nn.Module) -> torch.Tensor:
    random = torch.Generator().manual_seed(1)
    images, targets = torch.rand(8, 3, 4, 4, generator=random), torch.rand(8, 2, generator=random)
    return ((network(images) - targets) ** 2).mean()


def take_steps(network: nn.Module, optimizer: Optimizer, count: int, lr: float = 0.01) -> None:
    for _ in range(count):
        loss_of(network).backward()
        optimizer.step(lr, 0.1)


def test_a_learning_rate_of_zero_changes_no_parameter(network, fields):
    optimizer = make(network, fields, l2=0.1)
    take_steps(network, optimizer, 2)
    before = copy.deepcopy(list(network.parameters()))
    take_steps(network, optimizer, 3, lr=0.0)
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), before, strict=True))


def test_a_step_changes_every_parameter(network, fields):
    before = copy.deepcopy(list(network.parameters()))
    take_steps(network, make(network, fields), 1)
    # The first bias is absorbed by the batch norm behind it: nothing but rounding pulls at it.
    pairs = zip(list(network.parameters())[2:], before[2:], strict=True)
    assert not any(torch.equal(a, b) for a, b in pairs)


def test_the_loss_of_a_small_regression_falls(network, fields):
    start = loss_of(network).item()
    take_steps(network, make(network, fields), 60)
    assert loss_of(network).item() < start / 3


def test_gradients_are_cleared_after_a_step(network, fields):
    take_steps(network, make(network, fields), 1)
    assert all((parameter.grad == 0).all() for parameter in network.parameters())


def test_a_state_carried_over_in_a_file_continues_as_if_nothing_had_been(network, fields):
    optimizer = make(network, fields, l2=1e-3)
    take_steps(network, optimizer, 3)
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    other = copy.deepcopy(network)
    restored = make(other, fields, l2=1e-3)
    restored.load_state_dict(torch.load(io.BytesIO(file.getvalue()), weights_only=True))

    take_steps(network, optimizer, 3)
    take_steps(other, restored, 3)
    pairs = zip(network.state_dict().values(), other.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_steps_from_a_table_are_steps_one_by_one(network, fields):
    other = copy.deepcopy(network)
    lrs, decays, momenta = [0.01, 0.02, 0.005], [0.1, 0.0, 0.2], [0.9, 0.5, 0.0]
    one, all_at_once = make(network, fields), make(other, fields)
    table = all_at_once.plan(StepValues(lrs, decays, momenta))
    for i, values in enumerate(zip(lrs, decays, momenta, strict=True)):
        loss_of(network).backward()
        one.step(*values)
        loss_of(other).backward()
        all_at_once.apply(table, torch.tensor([i]))
        all_at_once.flat.gradients.zero_()
    pairs = zip(network.parameters(), other.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_every_tensor_that_a_step_changes_is_told(network, fields):
    optimizer = make(network, fields)
    loss_of(network).backward()
    row, first = optimizer.plan(StepValues([0.01], [0.1], [0.9])), torch.tensor([0])
    kept = [(tensor, tensor.clone()) for tensor in optimizer.tensors()]
    optimizer.apply(row, first)
    after = copy.deepcopy(list(network.parameters()))
    for tensor, value in kept:
        tensor.copy_(value)
    optimizer.apply(row, first)  # on the same gradients, weights and moments: the same step
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), after, strict=True))


def test_a_network_whose_layers_are_channels_last_is_trained_alike(network, fields):
    other = copy.deepcopy(network).to(memory_format=torch.contiguous_format)
    take_steps(network, make(network, fields, l2=1e-3), 1)
    take_steps(other, make(other, fields, l2=1e-3), 1)
    kernels = network[0].weight, other[0].weight
    assert kernels[0].stride() != kernels[1].stride()
    torch.testing.assert_close(*kernels, rtol=1e-4, atol=1e-5)
