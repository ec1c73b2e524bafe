"""The moving average of a network, and batch norm measured anew."""

import copy

import pytest
import torch
from torch import nn

from resnet_core.averaging import ExponentialMovingAverage, recalibrated
from resnet_core.flat import FlatParameters


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, momentum=0.25))


def follow(network: nn.Module, decay: float) -> ExponentialMovingAverage:
    return ExponentialMovingAverage(network, FlatParameters(network).weights, decay)


@pytest.mark.parametrize("decay", [0.5, 0.999])
def test_the_average_is_that_of_the_formula(network, decay):
    average = follow(network, decay)
    values = [0.3, -1.0, 2.0, 0.5]
    weight = network[0].weight
    expected = weight[0, 0, 0, 0].item()
    for t, value in enumerate(values, 1):
        with torch.no_grad():
            weight.fill_(value)
        average.update()
        share = min(decay, (1 + t) / (10 + t))
        expected = share * expected + (1 - share) * value
    assert average.network[0].weight[0, 0, 0, 0].item() == pytest.approx(expected, rel=1e-6)


def test_running_statistics_are_averaged_alike(network):
    average = follow(network, 0.999)
    with torch.no_grad():
        network[1].running_mean.fill_(11.0)
    average.update()
    assert average.network[1].running_mean.tolist() == pytest.approx([11.0 * 9 / 11] * 4)


def test_the_network_that_is_followed_is_left_alone(network):
    before = copy.deepcopy(network.state_dict())
    average = follow(network, 0.9)
    average.update()
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_an_average_that_is_carried_over_goes_on_as_it_was(network):
    average = follow(network, 0.9)
    average.update()
    other = follow(copy.deepcopy(network), 0.9)
    other.load_state_dict(copy.deepcopy(average.state_dict()))
    for each in (average, other):
        with torch.no_grad():
            each._followed[0].fill_(3.0)
        each.update()
    assert torch.equal(average.network[0].weight, other.network[0].weight)


def test_recalibrated_statistics_are_the_mean_over_the_batches(network):
    batches = torch.rand(3, 8, 3, 6, 6)
    with recalibrated(network, batches, network):
        mean, variance = network[1].running_mean.clone(), network[1].running_var.clone()
    maps = [network[0](batch).transpose(0, 1).flatten(1) for batch in batches]
    torch.testing.assert_close(mean, torch.stack([m.mean(1) for m in maps]).mean(0))
    torch.testing.assert_close(variance, torch.stack([m.var(1) for m in maps]).mean(0))


def test_after_it_the_statistics_and_their_momentum_are_what_they_were(network):
    network(torch.rand(8, 3, 6, 6))
    before = copy.deepcopy(network.state_dict())
    with recalibrated(network, torch.rand(2, 8, 3, 6, 6), network):
        pass
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert network[1].momentum == 0.25


def test_they_are_put_back_when_something_fails(network):
    before = copy.deepcopy(network.state_dict())
    with pytest.raises(ValueError, match="stop"), recalibrated(network, torch.rand(2, 8, 3, 6, 6), network):
        raise ValueError("stop")
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
