"""Many tensors as one."""

import torch
from torch import nn

from resnet_core.flat import FlatParameters, flatten, flatten_statistics


def make() -> nn.Module:
    torch.manual_seed(0)
    layers = (nn.Linear(27, 27), nn.Unflatten(1, (3, 3, 3)), nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5))
    return nn.Sequential(*layers).to(memory_format=torch.channels_last)


def test_values_shapes_and_strides_stay():
    network = make()
    before = [(p.detach().clone(), p.shape, p.stride()) for p in network.parameters()]
    FlatParameters(network)
    for parameter, (value, shape, stride) in zip(network.parameters(), before, strict=True):
        assert torch.equal(parameter, value)
        assert (parameter.shape, parameter.stride()) == (shape, stride)


def test_changing_the_whole_changes_the_parts():
    network = make()
    flat = FlatParameters(network)
    with torch.no_grad():
        flat.weights.fill_(2.0)
    assert all((parameter == 2.0).all() for parameter in network.parameters())


def test_the_backward_pass_fills_the_whole_gradient():
    network, other = make(), make()
    flat = FlatParameters(network)
    for each in (network, other):
        each(torch.ones(4, 27)).square().sum().backward()
    for parameter, expected in zip(network.parameters(), other.parameters(), strict=True):
        assert torch.equal(parameter.grad, expected.grad)
    total = sum(p.grad.square().sum().item() for p in other.parameters())
    assert flat.gradients.square().sum().item() == torch.tensor(total).item()


def test_kernels_of_convolutions_and_nothing_else_are_the_first_part():
    network = make()
    flat = FlatParameters(network)
    with torch.no_grad():
        flat.kernels.fill_(7.0)
    sevens = {name for name, parameter in network.named_parameters() if (parameter == 7.0).all()}
    assert sevens == {"2.weight"}
    assert flat.kernel_gradients.shape == flat.kernels.shape


def test_a_network_without_convolutions_has_no_kernels():
    assert FlatParameters(nn.Linear(2, 2)).kernels.numel() == 0


def test_every_part_starts_at_a_multiple_of_64_bytes():
    parts = [torch.rand(3), torch.rand(17), torch.rand(2, 2)]
    flat = flatten(parts)
    assert [(part.data_ptr() - flat.data_ptr()) % 64 for part in parts] == [0, 0, 0]


def test_statistics_are_the_buffers_that_are_real_numbers():
    network = make()
    statistics = flatten_statistics(network)
    statistics.fill_(3.0)
    assert (network[3].running_mean == 3.0).all()
    assert (network[3].running_var == 3.0).all()
    assert network[3].num_batches_tracked == 0


def test_a_network_without_statistics_has_none():
    assert flatten_statistics(nn.Linear(2, 2)).numel() == 0
