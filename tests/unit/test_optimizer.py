"""The optimizers against formulas written out by hand and against torch's own."""

import copy
import math
from collections.abc import Iterator

import pytest
import torch
from torch import nn

from resnet_core.config import TrialConfig
from resnet_core.optimizer import Optimizer, step_values

LRS = [0.1, 0.03, 0.2, 0.0, 0.05]
EPS = 1e-3


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


@pytest.fixture
def double_by_default() -> Iterator[None]:
    """torch's NAdam keeps the product of its momenta in the default type, not in that of the weights."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


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
    for t, lr in enumerate(LRS, 1):
        kernels = [m.weight for m in network.modules() if isinstance(m, nn.Conv2d)]
        (loss_of(network) + l2 * sum((w**2).sum() for w in kernels)).backward()
        for group in optimizer.param_groups:
            group["lr"] = lr
            if "betas" in group:  # torch adds ε behind the correction of v's bias, we ahead of it
                group["eps"] = EPS / math.sqrt(1 - group["betas"][1] ** t)
        optimizer.step()
        optimizer.zero_grad()


GRADIENTS = ([[1.0, -0.5]], [[0.2, 0.3]], [[-2.0, 1e-4]])
BETA1, BETA2, LR = 0.8, 0.95, 0.1


def steps_by_hand(name: str) -> list[float]:
    """Three steps of one weight at a time in plain Python, from the formulas."""
    weights = []
    for place in (0, 1):
        w, m, v, largest, product = 1.0, 0.0, 0.0, 0.0, 1.0
        for t, gradient in enumerate(GRADIENTS, 1):
            g = gradient[0][place]
            m, v = BETA1 * m + (1 - BETA1) * g, BETA2 * v + (1 - BETA2) * g * g
            largest = max(largest, v)
            used = largest if name in ("amsgrad", "padam") else v
            root = (math.sqrt(used) + EPS) / math.sqrt(1 - BETA2**t)
            mean = m / (1 - BETA1**t)
            if name == "nadam":
                now, following = (BETA1 * (1 - 0.5 * 0.96 ** (0.004 * step)) for step in (t, t + 1))
                product *= now
                mean = following * m / (1 - product * following) + (1 - now) * g / (1 - product)
            w -= LR * mean / (root ** (2 * 0.125) if name == "padam" else root)
        weights.append(w)
    return weights


@pytest.mark.parametrize("name", ["adam", "adamw", "amsgrad", "nadam", "padam"])
def test_the_first_steps_are_those_of_the_formulas(name):
    layer = nn.Linear(2, 1, bias=False).double()
    nn.init.ones_(layer.weight)
    optimizer = Optimizer(layer, make_config(optimizer=name, momentum=BETA1, beta2=BETA2, eps=EPS))
    for gradient in GRADIENTS:
        layer.weight.grad.copy_(torch.tensor(gradient, dtype=torch.float64))
        optimizer.step(LR, 0.0)
    assert layer.weight.detach()[0].tolist() == pytest.approx(steps_by_hand(name), rel=1e-13)


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("amsgrad", lambda parameters: torch.optim.Adam(parameters, betas=(0.8, 0.99), eps=EPS, amsgrad=True)),
        ("nadam", lambda parameters: torch.optim.NAdam(parameters, betas=(0.8, 0.99), eps=EPS)),
    ],
)
def test_amsgrad_and_nadam_are_torchs(network, name, reference, double_by_default):
    other = copy.deepcopy(network)
    take_steps(network, make_config(optimizer=name, momentum=0.8, beta2=0.99, eps=EPS), weight_decay=0.0)
    take_reference_steps(other, reference(other.parameters()))
    assert_same_parameters(network, other)


def test_padam_at_one_half_is_amsgrad(network):
    other = copy.deepcopy(network)
    take_steps(network, make_config(optimizer="padam", padam_p=0.5), weight_decay=0.1)
    take_steps(other, make_config(optimizer="amsgrad"), weight_decay=0.1)
    assert_same_parameters(network, other)


def test_padam_near_zero_is_momentum_with_its_bias_corrected(network):
    # v to the power of nothing is 1: what is left is the mean of the gradients.
    other = copy.deepcopy(network)
    take_steps(network, make_config(optimizer="padam", padam_p=1e-12), weight_decay=0.0)
    means = [torch.zeros_like(parameter) for parameter in other.parameters()]
    for t, lr in enumerate(LRS, 1):
        for mean, gradient in zip(means, torch.autograd.grad(loss_of(other), list(other.parameters())), strict=True):
            mean.mul_(0.9).add_(gradient, alpha=0.1)
        with torch.no_grad():
            for parameter, mean in zip(other.parameters(), means, strict=True):
                parameter -= lr * mean / (1 - 0.9**t)
    for a, b in zip(network.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-9)


def test_momentum_may_change_from_step_to_step(network):
    other = copy.deepcopy(network)
    momenta = [0.95, 0.9, 0.8, 0.85, 0.95]
    optimizer = Optimizer(network, make_config(optimizer="sgd"))
    sgd = torch.optim.SGD(other.parameters(), lr=1.0, momentum=0.5)
    for lr, momentum in zip(LRS, momenta, strict=True):
        loss_of(network).backward()
        optimizer.step(lr, 0.0, momentum)
        sgd.param_groups[0].update(lr=lr, momentum=momentum)
        loss_of(other).backward()
        sgd.step()
        sgd.zero_grad()
    assert_same_parameters(network, other)


def test_the_bias_of_adams_mean_is_corrected_for_the_momenta_there_were():
    # A gradient of one at all times has a mean of one, whatever the momenta: the steps are those of the sign.
    layer = nn.Linear(1, 1, bias=False).double()
    nn.init.zeros_(layer.weight)
    optimizer = Optimizer(layer, make_config(optimizer="adam", eps=1e-12))
    for momentum in (0.9, 0.5, 0.99, 0.1):
        layer.weight.grad.fill_(1.0)
        optimizer.step(0.1, 0.0, momentum)
    assert layer.weight.item() == pytest.approx(-0.4, rel=1e-9)


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_decay_beside_adam_is_torchs_adamw(network, name):
    other = copy.deepcopy(network)
    take_steps(network, make_config(optimizer=name, momentum=0.8, beta2=0.99, eps=EPS), weight_decay=0.18)
    adamw = torch.optim.AdamW(other.parameters(), betas=(0.8, 0.99), eps=EPS, weight_decay=0.18)
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
        ("adam", lambda parameters: torch.optim.Adam(parameters, eps=EPS)),
    ],
)
def test_l2_is_l2_times_the_squares_of_the_conv_kernels_in_the_loss(network, name, reference):
    other = copy.deepcopy(network)
    take_steps(network, make_config(optimizer=name, l2=0.05, eps=EPS), weight_decay=0.0)
    take_reference_steps(other, reference(other.parameters()), l2=0.05)
    assert_same_parameters(network, other)


def test_l2_beside_decay_is_still_the_gradient_of_the_loss(network):
    # The loss knows the weights before the decay.
    other = copy.deepcopy(network)
    take_steps(network, make_config(optimizer="adamw", l2=0.05, eps=EPS), weight_decay=0.5)
    adamw = torch.optim.AdamW(other.parameters(), eps=1e-3, weight_decay=0.5)
    take_reference_steps(other, adamw, l2=0.05)
    assert_same_parameters(network, other)


def test_l2_pulls_at_conv_kernels_by_2_l2_w_and_at_nothing_else(network):
    before = copy.deepcopy(network)
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


def test_a_momentum_schedule_is_followed_step_by_step():
    config = make_config(momentum_schedule="[0.9, 0] lin[0.5, 4]")
    assert step_values(config, 2, 4).momentum == pytest.approx([0.8, 0.775, 0.75, 0.725])


def test_a_scale_is_on_the_learning_rate_alone():
    config = make_config(weight_decay=0.2)
    plain, scaled = step_values(config, 1, 3), step_values(config, 1, 3, lr_scale=0.1)
    assert scaled.lr == pytest.approx([0.1 * lr for lr in plain.lr])
    assert (scaled.weight_decay, scaled.momentum) == (plain.weight_decay, plain.momentum)


def test_a_decay_schedule_is_followed_step_by_step():
    config = make_config(weight_decay_schedule="[0.4, 0] lin[0, 4]")
    assert step_values(config, 2, 4).weight_decay == pytest.approx([0.3, 0.275, 0.25, 0.225])
