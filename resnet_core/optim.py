"""Optimizers by name, L2 on convolution kernels, decoupled decay, schedules applied at every step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from resnet_core.config import TrialConfig


@dataclass(frozen=True)
class StepValues:
    """Learning rate and λ at every step of one epoch; floats, one a step."""

    lr: list[float]
    weight_decay: list[float]


def step_values(config: TrialConfig, epoch: int, steps: int) -> StepValues:
    """Return the values of an epoch (1-based): schedule(epoch - 1 + i/steps) for i in 0 … steps-1."""
    wd = config.wd_schedule
    return StepValues(
        lr=config.lr_schedule.epoch_values(epoch - 1, steps),
        weight_decay=[config.weight_decay] * steps if wd is None else wd.epoch_values(epoch - 1, steps),
    )


class Optimizer:
    """torch's optimizer of the config's name, with L2 and decay as the published runs mean them.

    Decay is decoupled for every optimizer: each step first takes lr·λ·w off every weight
    (Loshchilov & Hutter 2019, arXiv 1711.05101, in the form torch and Keras share). L2 adds 2·l2·w to
    the gradient of convolution kernels, which is what Keras's ``l2(l2)`` in the loss comes to.
    """

    def __init__(self, network: nn.Module, config: TrialConfig) -> None:
        self._parameters: list[Tensor] = list(network.parameters())
        self._l2 = config.l2
        self._kernels = [m.weight for m in network.modules() if isinstance(m, nn.Conv2d)] if config.l2 else []
        self._torch = _torch_optimizer(self._parameters, config)

    def step(self, lr: float, weight_decay: float) -> None:
        """Change the weights by one step and clear the gradients."""
        with torch.no_grad():
            # L2 first: it belongs to the loss, whose gradient is taken at the weights before any decay.
            if self._kernels:
                gradients = [_gradient(kernel) for kernel in self._kernels]
                torch._foreach_add_(gradients, self._kernels, alpha=2.0 * self._l2)
            if weight_decay:
                torch._foreach_mul_(self._parameters, 1.0 - lr * weight_decay)
        for group in self._torch.param_groups:
            group["lr"] = lr
        self._torch.step()
        self._torch.zero_grad(set_to_none=True)

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return self._torch.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what ``state_dict`` returned."""
        self._torch.load_state_dict(state)


def _gradient(kernel: Tensor) -> Tensor:
    assert kernel.grad is not None, "L2 is added after the backward pass"
    return kernel.grad


def _torch_optimizer(parameters: list[Tensor], config: TrialConfig) -> torch.optim.Optimizer:
    if config.optimizer == "sgd":
        return torch.optim.SGD(parameters, lr=0.0, momentum=config.momentum, nesterov=config.nesterov, fused=True)
    # AdamW is Adam beside decoupled decay, which Optimizer.step applies for all of them.
    return torch.optim.Adam(parameters, lr=0.0, betas=(config.momentum, config.beta2), eps=config.eps, fused=True)
