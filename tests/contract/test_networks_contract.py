"""Every network that ships keeps to the contract."""

import pytest

from resnet_core.network import build, trainable_parameters
from sweeps.testing.networks import NetworkContract, config_of, every_network, label


@pytest.mark.parametrize("config", every_network(), ids=label)
class TestNetwork(NetworkContract): ...


def test_frozen_parameters_are_not_counted_as_trainable():
    network = build(config_of("resnet11v2"))
    every = trainable_parameters(network)
    frozen = next(network.parameters()).requires_grad_(False)
    assert trainable_parameters(network) == every - frozen.numel()
