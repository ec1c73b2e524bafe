"""The copy that a step goes through computes what the network itself does under autocast, and trains that network."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from resnet_core.config import TrialConfig
from resnet_core.flat import FlatParameters
from resnet_core.network import build
from resnet_core.working_copy import WorkingCopy

pytestmark = pytest.mark.usefixtures("one_thread")

PRECISIONS = ["fp32", "bf16"]
IMAGES = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0)).to(memory_format=torch.channels_last)
LABELS = torch.arange(4)


def network() -> nn.Module:
    config = TrialConfig("[0.1, 0] lin[0, 1]", model="resnet11v2", data="digits", image_size=16)
    return build(config).to(memory_format=torch.channels_last)


def loss_of(network: nn.Module, precision: str) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16", cache_enabled=False):
        return F.cross_entropy(network(IMAGES).float(), LABELS)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_its_gradients_are_those_of_the_network_to_the_bit(precision):
    plain, trained = network().train(), network()
    loss_of(plain, precision).backward()
    flat = FlatParameters(trained)
    working = WorkingCopy(trained, flat, precision)
    working.backward(loss_of(working.network, precision))
    wanted = {name: parameter.grad for name, parameter in plain.named_parameters()}
    found = {name: parameter.grad for name, parameter in trained.named_parameters()}  # views of the flat ones
    assert [name for name in wanted if not torch.equal(wanted[name], found[name])] == []


@pytest.mark.parametrize("precision", PRECISIONS)
def test_it_follows_the_network_once_refreshed(precision):
    trained = network()
    flat = FlatParameters(trained)
    working = WorkingCopy(trained, flat, precision)
    with torch.no_grad():
        flat.weights.mul_(1.5)
    working.refresh()
    # The statistics are shared: each pass moves them, and train mode does not look at them.
    assert torch.equal(loss_of(working.network, precision), loss_of(trained.train(), precision))


def test_its_statistics_are_the_networks_and_its_batches_are_counted_when_told():
    trained = network()
    working = WorkingCopy(trained, FlatParameters(trained), "bf16")
    before = trained.stem_bn.running_mean.clone()
    loss_of(working.network, "bf16")
    assert not torch.equal(trained.stem_bn.running_mean, before)
    assert trained.stem_bn.num_batches_tracked == 0
    working.count(3)
    assert trained.stem_bn.num_batches_tracked == 3


def test_a_mean_over_all_batches_keeps_its_count():
    trained = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, momentum=None))
    working = WorkingCopy(trained, FlatParameters(trained), "fp32")
    for _ in range(2):
        working.network(IMAGES)
    assert trained[1].num_batches_tracked == 2


def test_a_gradient_in_another_order_of_memory_is_put_in_that_of_the_weight():
    layer = nn.Conv2d(3, 4, 3)
    layer.weight.data = layer.weight.data.contiguous(memory_format=torch.channels_last)
    flat = FlatParameters(layer)
    working = WorkingCopy(layer, flat, "fp32")
    factor = torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(1))
    working.backward((layer.weight * factor.clone(memory_format=torch.contiguous_format)).sum())
    assert torch.equal(layer.weight.grad, factor)


def test_what_the_loss_does_not_depend_on_keeps_its_gradient():
    layers = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])
    flat = FlatParameters(layers)
    working = WorkingCopy(layers, flat, "fp32")
    working.backward(layers[0](torch.ones(1, 2)).sum())
    assert (layers[0].weight.grad == 1).all()
    assert (layers[1].weight.grad == 0).all()


def test_frozen_parameters_are_left_alone():
    layers = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    layers[0].weight.requires_grad_(False)
    flat = FlatParameters(layers)
    working = WorkingCopy(layers, flat, "bf16")
    with torch.autocast("cpu", torch.bfloat16):
        loss = working.network(torch.ones(1, 2)).float().sum()
    working.backward(loss)
    assert layers[0].weight.grad is None
    assert layers[0].bias.grad.abs().sum() > 0


def test_the_network_itself_stays_as_it_was():
    trained = network()
    before = copy.deepcopy(trained.state_dict())
    WorkingCopy(trained, FlatParameters(trained), "bf16")
    after = trained.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
