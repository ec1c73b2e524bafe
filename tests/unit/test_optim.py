"""The optimizers against formulas written out by hand and against torch's own."""

import copy

import pytest
import torch
from torch import nn

from resnet_core.config import TrialConfig
from resnet_core.optim import Optimizer, step_values

LRS = [0.1, 0.03, 0.2, 0.0, 0.05]


def make_config(**fields: object) -> TrialConfig:
    return TrialConfig(**{"schedule": "[1, 0] lin[0, 5]", **fields})  # type: ignore[arg-type]


@pytest.fixture
def network() -> nn.Module:
    """One of each kind of layer, in double precision so that a formula can be held against it."""
    torch.manual_seed(0)
    layers = (
        nn.Conv2d(2, 3, 3),
        nn.BatchNorm2d(3),
        nn.ReLU(),
        nn.Conv2d(3, 2, 1),
        nn.Flatten(),
        nn.Linear(8, 2),
    )
    return nn.Sequential(*layers).double()


def loss_of(network: nn.Module) -> torch.Tensor:
    images = torch.rand(6, 2, 4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return (network(images) ** 2).mean()


def assert_same_parameters(one: nn.Module, other: nn.Module) -> None:
    for (name, a), b in zip(one.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12, msg=lambda text, name=name: f"{name}: {text}")


def take_steps(network: nn.Module, config: TrialConfig, weight_decay: float) -> None:
    optimizer = Optimizer(network, config)
    for lr in LRS:
        loss_of(network).backward()
        optimizer.step(lr, weight_decay)


def take_reference_steps(network: nn.Module, optimizer: torch.optim.Optimizer, l2: float = 0.0) -> None:
    for lr in LRS:
        kernels = [m.weight for m in network.modules() if isinstance(m, nn.Conv2d)]
        (loss_of(network) + l2 * sum((w**2).sum() for w in kernels)).backward()
        for group in optimizer.param_groups:
            group["lr"] = lr
        optimizer.step()
        optimizer.zero_grad()


def test_adam_takes_the_steps_of_its_paper():
    layer = nn.Linear(2, 1, bias=False).double()
    w = layer.weight.detach().clone()
    optimizer = Optimizer(layer, make_config(optimizer="adam", momentum=0.8, beta2=0.95, eps=1e-3))
    m = v = torch.zeros_like(w)
    for t, gradient in enumerate(([[1.0, -0.5]], [[0.2, 0.3]], [[-2.0, 1e-4]]), 1):
        g = torch.tensor(gradient, dtype=torch.float64)
        m, v = 0.8 * m + 0.2 * g, 0.95 * v + 0.05 * g * g
        w = w - 0.1 * (m / (1 - 0.8**t)) / ((v / (1 - 0.95**t)).sqrt() + 1e-3)
        layer.weight.grad = g
        optimizer.step(0.1, 0.0)
        torch.testing.assert_close(layer.weight.detach(), w, rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_decay_beside_adam_is_torchs_adamw(network, name):
    other = copy.deepcopy(network)
    take_steps(network, make_config(optimizer=name, momentum=0.8, beta2=0.99, eps=1e-5), weight_decay=0.18)
    adamw = torch.optim.AdamW(other.parameters(), betas=(0.8, 0.99), eps=1e-5, weight_decay=0.18)
    take_reference_steps(other, adamw)
    assert_same_parameters(network, other)


@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, False), (0.9, False), (0.9, True)])
def test_sgd_is_torchs(network, momentum, nesterov):
    other = copy.deepcopy(network)
    take_steps(network, make_config(optimizer="sgd", momentum=momentum, nesterov=nesterov), weight_decay=0.0)
    sgd = torch.optim.SGD(other.parameters(), lr=1.0, momentum=momentum, nesterov=nesterov)
    take_reference_steps(other, sgd)
    assert_same_parameters(network, other)


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("sgd", lambda parameters: torch.optim.SGD(parameters, lr=1.0, momentum=0.9)),
        ("adam", lambda parameters: torch.optim.Adam(parameters, eps=1e-3)),
    ],
)
def test_l2_is_l2_times_the_squares_of_the_conv_kernels_in_the_loss(network, name, reference):
    other = copy.deepcopy(network)
    take_steps(network, make_config(optimizer=name, l2=0.05, eps=1e-3), weight_decay=0.0)
    take_reference_steps(other, reference(other.parameters()), l2=0.05)
    assert_same_parameters(network, other)


def test_l2_beside_decay_is_still_the_gradient_of_the_loss(network):
    # The loss knows the weights before the decay.
    other = copy.deepcopy(network)
    take_steps(network, make_config(optimizer="adamw", l2=0.05, eps=1e-3), weight_decay=0.5)
    adamw = torch.optim.AdamW(other.parameters(), eps=1e-3, weight_decay=0.5)
    take_reference_steps(other, adamw, l2=0.05)
    assert_same_parameters(network, other)


def test_l2_pulls_at_conv_kernels_by_2_l2_w_and_at_nothing_else(network):
    before = copy.deepcopy(network)
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    Optimizer(network, make_config(optimizer="sgd", momentum=0.0, l2=0.05)).step(0.1, 0.0)
    with torch.no_grad():
        for layer in (before[0], before[3]):
            layer.weight -= 0.1 * 2 * 0.05 * layer.weight
    assert_same_parameters(network, before)


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_decay_takes_its_share_off_every_parameter(network, name):
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 1
    before = copy.deepcopy(network)
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    Optimizer(network, make_config(optimizer=name)).step(0.1, 0.5)
    for parameter, old in zip(network.parameters(), before.parameters(), strict=True):
        assert torch.equal(parameter, old * (1 - 0.1 * 0.5))


def test_the_decay_of_the_config_is_not_applied_twice(network):
    # step is told λ; the config's own is there for step_values.
    other = copy.deepcopy(network)
    take_steps(network, make_config(optimizer="adamw", weight_decay=0.3), weight_decay=0.1)
    take_steps(other, make_config(optimizer="adamw", weight_decay=0.0), weight_decay=0.1)
    assert_same_parameters(network, other)


def test_the_learning_rate_follows_the_schedule_step_by_step():
    config = make_config(schedule="[0, 0] lin[0.6, 2] cos[0.1, 5]")
    for epoch in (1, 2, 3, 5):
        expected = [config.lr_schedule.value(epoch - 1 + i / 7) for i in range(7)]
        assert step_values(config, epoch, 7).lr == expected
    assert step_values(config, 1, 4).lr == pytest.approx([0, 0.075, 0.15, 0.225])


def test_a_constant_decay_is_the_same_at_every_step():
    assert step_values(make_config(weight_decay=0.2), 2, 3).weight_decay == [0.2, 0.2, 0.2]


def test_a_decay_schedule_is_followed_step_by_step():
    config = make_config(weight_decay_schedule="[0.4, 0] lin[0, 4]")
    assert step_values(config, 2, 4).weight_decay == pytest.approx([0.3, 0.275, 0.25, 0.225])
