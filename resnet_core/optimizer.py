"""An optimizer on all weights of a network at once, with L2, decoupled decay, and schedules applied at every step.

The weights of a network become views of one flat tensor, so that a step is a few element-wise operations for any number
of layers. The numbers that change from step to step (learning rate, λ, momentum, bias corrections) are computed
beforehand on the host, in double precision, as a table with one row per step. Applying a row reads nothing from the
host, so a CUDA graph can capture a step.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from resnet_core import own
from resnet_core.code import is_reference
from resnet_core.config import TrialConfig
from resnet_core.flat import FlatParameters
from resnet_core.fused import optimizer as fused
from resnet_core.fused.support import is_correct
from resnet_core.optim import OPTIMIZERS, StepTensors


@dataclass(frozen=True)
class StepValues:
    """Learning rate, λ and momentum of each step of an epoch."""

    lr: list[float]
    weight_decay: list[float]
    momentum: list[float]


def step_values(config: TrialConfig, epoch: int, steps: int, lr_scale: float = 1.0) -> StepValues:
    """Return the values of an epoch (1-based): schedule(epoch - 1 + i/steps) for i in 0 … steps-1.

    Args:
        config: the config with the schedules.
        epoch: number of the epoch, 1-based.
        steps: number of steps in the epoch.
        lr_scale: factor on the learning rate.
    """
    wd, momentum = config.wd_schedule, config.mom_schedule
    return StepValues(
        lr=[lr_scale * lr for lr in config.lr_schedule.epoch_values(epoch - 1, steps)],
        weight_decay=[config.weight_decay] * steps if wd is None else wd.epoch_values(epoch - 1, steps),
        momentum=[config.momentum] * steps if momentum is None else momentum.epoch_values(epoch - 1, steps),
    )


class Optimizer:
    """The optimizer that the config names, with L2 and decay as in the published runs.

    Decay is decoupled for every optimizer: each step first subtracts lr·λ·w from every weight w
    (Loshchilov & Hutter 2019, arXiv 1711.05101, in the form torch and Keras share). L2 adds 2·l2·w to
    the gradient of convolution kernels, which equals the gradient of Keras's ``l2(l2)`` in the loss. The rest
    of a step is the optimizer's own; see resnet_core.optim.

    The network's parameters become views of ``flat``; the network must stay on its device from then on.
    """

    coefficients = 5
    """Number of coefficients of a step."""

    def __init__(self, network: nn.Module, config: TrialConfig) -> None:
        self.flat = FlatParameters(network)
        self._config = config
        self._rule = OPTIMIZERS[config.optimizer].of(config)
        self._buffers = {name: torch.zeros_like(self.flat.weights) for name in self._rule.buffers}
        self._steps = 0
        self._momenta = 1.0  # product of the momenta of all steps so far
        self._fused = config.fused and fused.supports(self._rule, self.flat) and self._fused_is_correct()

    def _fused_is_correct(self) -> bool:
        config, device = self._config, self.flat.weights.device
        return is_correct(f"step of {config.optimizer}", device, lambda: relative_error(config, device))

    def step(self, lr: float, weight_decay: float, momentum: float | None = None) -> None:
        """Change the weights by one step and clear the gradients; the default momentum is the config's."""
        momentum = self._config.momentum if momentum is None else momentum
        row = self.plan(StepValues([lr], [weight_decay], [momentum])).to(self.flat.weights.device)
        self.apply(row, torch.zeros(1, dtype=torch.int64, device=row.device))
        self.flat.gradients.zero_()

    def plan(self, values: StepValues) -> Tensor:
        """Return the next steps' coefficients, [steps, 5] in the weights' type, on the host; counts the steps."""
        rows = [self._row(*row) for row in zip(values.lr, values.weight_decay, values.momentum, strict=True)]
        return torch.tensor(rows, dtype=torch.float64).to(self.flat.weights.dtype)

    def _row(self, lr: float, weight_decay: float, momentum: float) -> tuple[float, ...]:
        """Return the factor of decay, the momentum, and the optimizer's three factors."""
        self._steps += 1
        *factors, self._momenta = self._rule.factors(self._steps, lr, momentum, self._momenta)
        return (1.0 - lr * weight_decay, momentum, *factors)

    @torch.no_grad()
    def apply(self, coefficients: Tensor, counter: Tensor) -> None:
        """Change the weights by the step whose coefficients are ``coefficients[counter]``.

        Args:
            coefficients: [steps, 5], rows of ``plan`` on the device.
            counter: [1], int64, on the device.
        """
        if self._fused:
            fused.step(self._rule, self._config.l2, self.flat, self._buffers, coefficients, counter)
        else:
            self._apply(coefficients.index_select(0, counter)[0])

    def _apply(self, row: Tensor) -> None:
        decay, *factors = row.unbind()
        _add_l2(self.flat, self._config.l2)
        self.flat.weights.mul_(decay)
        self._rule.update(self.flat.weights, self.flat.gradients, self._buffers, StepTensors(*factors))

    def tensors(self) -> Iterable[Tensor]:
        """Return every tensor that a step changes."""
        return (self.flat.weights, self.flat.gradients, *self._buffers.values())

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps, besides the network."""
        return {"steps": self._steps, "product": self._momenta, "buffers": self._buffers}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        self._steps, self._momenta = state["steps"], state["product"]
        for name, buffer in self._buffers.items():
            buffer.copy_(state["buffers"][name])


class OwnOptimizer:
    """An optimizer of one's own, or one of torch's, with L2, decay and schedules as Optimizer applies them.

    Before each step its parameter groups get the step's learning rate and momentum (``momentum``, or the first of
    ``betas``). Its own weight decay is off. These numbers are set on the host, so no CUDA graph captures a step.

    Raises:
        ConfigError: the class is no such optimizer, or its options do not fit it.
        CodeError: its code cannot be imported.
    """

    coefficients = 0
    """The device has no table of coefficients: the host keeps them."""

    def __init__(self, network: nn.Module, config: TrialConfig) -> None:
        self.flat = FlatParameters(network)
        self._config = config
        self._parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
        self._optimizer: torch.optim.Optimizer = own.optimizer(config, self._parameters)
        self._planned: deque[tuple[float, float, float]] = deque()

    def step(self, lr: float, weight_decay: float, momentum: float | None = None) -> None:
        """Change the weights by one step and clear the gradients; the default momentum is the config's."""
        self.plan(StepValues([lr], [weight_decay], [self._config.momentum if momentum is None else momentum]))
        self.apply()
        self.flat.gradients.zero_()

    def plan(self, values: StepValues) -> Tensor:
        """Keep the next steps' learning rates, λ and momenta; return a tensor without columns, [steps, 0]."""
        self._planned.extend(zip(values.lr, values.weight_decay, values.momentum, strict=True))
        return torch.zeros(len(values.lr), 0)

    @torch.no_grad()
    def apply(self, coefficients: Tensor | None = None, counter: Tensor | None = None) -> None:  # noqa: ARG002
        """Change the weights by the next step that was planned; the arguments are those of Optimizer, and not used."""
        lr, weight_decay, momentum = self._planned.popleft()
        _add_l2(self.flat, self._config.l2)
        self.flat.weights.mul_(1.0 - lr * weight_decay)
        for group in self._optimizer.param_groups:
            group["lr"] = lr
        own.set_momentum(self._optimizer, momentum)
        self._optimizer.step()

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps, besides the network."""
        return self._optimizer.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        self._optimizer.load_state_dict(state)
        # torch casts the tensors to the type of the weights. Here they keep their own, so that no digit is lost.
        for place, kept in state["state"].items():
            mine = self._optimizer.state[self._parameters[place]]
            for name, value in kept.items():
                if isinstance(value, Tensor):
                    mine[name] = value.clone().to(mine[name].device)


def make_optimizer(network: nn.Module, config: TrialConfig) -> Optimizer | OwnOptimizer:
    """Return the optimizer that a config names, on the parameters of a network."""
    return (OwnOptimizer if is_reference(config.optimizer) else Optimizer)(network, config)


def _add_l2(flat: FlatParameters, l2: float) -> None:
    # It belongs to the loss, whose gradient is taken at the weights before any decay.
    if l2:
        flat.kernel_gradients.add_(flat.kernels, alpha=2.0 * l2)


def relative_error(config: TrialConfig, device: torch.device) -> float:
    """Return the relative difference between weights and buffers after three fused steps and three of torch's."""
    generator = torch.Generator(device).manual_seed(0)
    network = nn.Conv2d(16, 16, 3, device="meta").to_empty(device=device)  # its weights are set below
    by_torch, by_kernel = (Optimizer(copy.deepcopy(network), replace(config, fused=False)) for _ in range(2))
    start = torch.randn(by_torch.flat.weights.shape, generator=generator, device=device)
    coefficients = by_torch.plan(StepValues([1e-2] * 3, [0.1] * 3, [config.momentum] * 3)).to(device)
    for optimizer in (by_torch, by_kernel):
        optimizer.flat.weights.copy_(start)
    for step in range(3):
        gradients = torch.randn(start.shape, generator=generator, device=device)
        counter = torch.full((1,), step, device=device)
        for optimizer in (by_torch, by_kernel):
            optimizer.flat.gradients.copy_(gradients)
        by_torch.apply(coefficients, counter)
        fused.step(by_kernel._rule, config.l2, by_kernel.flat, by_kernel._buffers, coefficients, counter)
    pairs = [(by_kernel.flat.weights - start, by_torch.flat.weights - start)]
    pairs += [(by_kernel._buffers[name], true) for name, true in by_torch._buffers.items()]
    return max(float((got - true).norm() / true.norm()) for got, true in pairs)
