"""The contract suite of optimizers, for every optimizer and all its settings."""

from __future__ import annotations

import copy
import io

import pytest
import torch
from torch import Tensor, nn

from resnet_core.config import TrialConfig
from resnet_core.optim import OPTIMIZERS
from resnet_core.optimizer import Optimizer, OwnOptimizer, StepValues, make_optimizer


def config_of(optimizer: str, **fields: object) -> TrialConfig:
    """Return a config with an optimizer."""
    return TrialConfig.from_dict({"schedule": "[1, 0] lin[0, 5]", "optimizer": optimizer, **fields})


def every_optimizer() -> list[TrialConfig]:
    """Return configs of each shipped optimizer: the defaults, each setting changed, and without momentum."""
    configs = []
    for name, rule in OPTIMIZERS.items():
        plain = config_of(name)
        configs += [plain, *(_with_other(plain, setting) for setting in rule.settings()), config_of(name, momentum=0.0)]
    return configs


def label(config: TrialConfig) -> str:
    """Return the settings that distinguish a config of ``every_optimizer``, for the name of a test."""
    plain = config_of(config.optimizer).to_dict()
    changed = [f"{name}={value}" for name, value in config.to_dict().items() if value != plain[name]]
    return "-".join([config.optimizer, *changed])


class OptimizerContract:
    """Tests of an optimizer. A subclass whose name begins with Test gives its ``config``, as a parameter or a fixture.

    @pytest.mark.parametrize("config", [config_of("torch.optim:RMSprop")])
    class TestOptimizer(OptimizerContract): ...
    """

    @pytest.fixture
    def network(self) -> nn.Sequential:
        """A small network."""
        torch.manual_seed(0)
        layers = (nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2))
        return nn.Sequential(*layers).to(memory_format=torch.channels_last)

    def test_a_learning_rate_of_zero_changes_no_parameter(self, network: nn.Module, config: TrialConfig) -> None:
        optimizer = _optimizer(network, config, l2=0.1)
        _take_steps(network, optimizer, 2)
        before = copy.deepcopy(list(network.parameters()))
        _take_steps(network, optimizer, 3, lr=0.0)
        assert _equal(network.parameters(), before)

    def test_a_step_changes_every_parameter(self, network: nn.Module, config: TrialConfig) -> None:
        before = copy.deepcopy(list(network.parameters()))
        _take_steps(network, make_optimizer(network, config), 1)
        # The batch norm subtracts the first bias, so the gradient of this bias is only rounding error.
        pairs = zip(list(network.parameters())[2:], before[2:], strict=True)
        assert not any(torch.equal(a, b) for a, b in pairs)

    def test_the_loss_of_a_small_regression_falls(self, network: nn.Module, config: TrialConfig) -> None:
        start = _loss(network).item()
        _take_steps(network, make_optimizer(network, config), 60)
        assert _loss(network).item() < start / 3

    def test_gradients_are_cleared_after_a_step(self, network: nn.Module, config: TrialConfig) -> None:
        _take_steps(network, make_optimizer(network, config), 1)
        assert all(p.grad is not None and (p.grad == 0).all() for p in network.parameters())

    def test_a_state_from_a_file_continues_the_same_steps(self, network: nn.Module, config: TrialConfig) -> None:
        optimizer = _optimizer(network, config, l2=1e-3)
        _take_steps(network, optimizer, 3)
        file = io.BytesIO()
        torch.save(optimizer.state_dict(), file)
        other = copy.deepcopy(network)
        restored = _optimizer(other, config, l2=1e-3)
        restored.load_state_dict(torch.load(io.BytesIO(file.getvalue()), weights_only=True))

        _take_steps(network, optimizer, 3)
        _take_steps(other, restored, 3)
        assert _equal(network.state_dict().values(), other.state_dict().values())

    def test_steps_from_a_table_are_the_steps_one_by_one(self, network: nn.Module, config: TrialConfig) -> None:
        other = copy.deepcopy(network)
        lrs, decays, momenta = [0.01, 0.02, 0.005], [0.1, 0.0, 0.2], [0.9, 0.5, 0.0]
        one, all_at_once = make_optimizer(network, config), make_optimizer(other, config)
        table = all_at_once.plan(StepValues(lrs, decays, momenta))
        for i, values in enumerate(zip(lrs, decays, momenta, strict=True)):
            _backward(network)
            one.step(*values)
            _backward(other)
            all_at_once.apply(table, torch.tensor([i]))
            all_at_once.flat.gradients.zero_()
        assert _equal(network.parameters(), other.parameters())

    def test_the_memory_format_of_the_network_does_not_matter(
        self, network: nn.Sequential, config: TrialConfig
    ) -> None:
        other = copy.deepcopy(network).to(memory_format=torch.contiguous_format)
        _take_steps(network, _optimizer(network, config, l2=1e-3), 1)
        _take_steps(other, _optimizer(other, config, l2=1e-3), 1)
        kernels = network.get_parameter("0.weight"), other.get_parameter("0.weight")
        assert kernels[0].stride() != kernels[1].stride()
        torch.testing.assert_close(*kernels, rtol=1e-4, atol=1e-5)


class UpdateRuleContract(OptimizerContract):
    """Further tests of an optimizer in resnet_core.optim.

    @pytest.mark.parametrize("config", every_optimizer(), ids=label)
    class TestOptimizer(UpdateRuleContract): ...
    """

    def test_tensors_are_all_that_a_step_changes(self, network: nn.Module, config: TrialConfig) -> None:
        optimizer = Optimizer(network, config)
        _backward(network)
        row, first = optimizer.plan(StepValues([0.01], [0.1], [0.9])), torch.tensor([0])
        kept = [(tensor, tensor.clone()) for tensor in optimizer.tensors()]
        optimizer.apply(row, first)
        after = copy.deepcopy(list(network.parameters()))
        for tensor, value in kept:
            tensor.copy_(value)
        optimizer.apply(row, first)  # with the same gradients, weights and buffers: the same step
        assert _equal(network.parameters(), after)

    def test_its_settings_are_those_that_matter(self, network: nn.Module, config: TrialConfig) -> None:
        if config.momentum == 0:
            return  # without momentum, its settings have no effect
        settings = OPTIMIZERS[config.optimizer].settings()
        others = {name for rule in OPTIMIZERS.values() for name in rule.settings()} - {"nesterov"}
        plain = _trained(network, config)
        for setting in {*settings, *others}:
            changed = _trained(network, _with_other(config, setting))
            assert (setting in settings) is not _equal(plain, changed), setting


def _with_other(config: TrialConfig, setting: str) -> TrialConfig:
    """Return a config with another value of a setting: the opposite of a boolean, nine tenths of a number."""
    value = getattr(config, setting)
    return TrialConfig.from_dict(
        config.to_dict() | {setting: not value if isinstance(value, bool) else 0.9 * float(value)}
    )


def _optimizer(network: nn.Module, config: TrialConfig, **fields: object) -> Optimizer | OwnOptimizer:
    return make_optimizer(network, TrialConfig.from_dict(config.to_dict() | fields))


def _loss(network: nn.Module) -> Tensor:
    random = torch.Generator().manual_seed(1)
    images, targets = torch.rand(8, 3, 4, 4, generator=random), torch.rand(8, 2, generator=random)
    loss: Tensor = ((network(images) - targets) ** 2).mean()
    return loss


def _backward(network: nn.Module) -> None:
    _loss(network).backward()  # type: ignore[no-untyped-call]


def _take_steps(network: nn.Module, optimizer: Optimizer | OwnOptimizer, count: int, lr: float = 0.01) -> None:
    for _ in range(count):
        _backward(network)
        optimizer.step(lr, 0.1)


def _trained(network: nn.Module, config: TrialConfig) -> list[Tensor]:
    """Return the parameters of a copy of ``network`` after some steps."""
    trained = copy.deepcopy(network)
    _take_steps(trained, Optimizer(trained, config), 5)
    return list(trained.parameters())


def _equal(some: object, others: object) -> bool:
    return all(torch.equal(a, b) for a, b in zip(some, others, strict=True))  # type: ignore[call-overload]
