"""Adam (Kingma & Ba 2015, arXiv 1412.6980).

m ← β₁·m + (1−β₁)·g, v ← β₂·v + (1−β₂)·g², w ← w − lr·m̂/√v̂, where m̂ = m/(1−Πβ₁) and √v̂ = (√v + ε)/√(1−β₂ᵗ) at
step t. ε is the ε̂ at the end of the paper's section 2, as in Keras; torch adds its ε after the division.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from resnet_core.optim import Factors, StepTensors, UpdateRule

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Adam(UpdateRule):
    """Adam; the base class of its variants."""

    beta2: float
    eps: float

    buffers: ClassVar[tuple[str, ...]] = ("mean", "square")

    @property
    def power(self) -> float:
        """The power to which √v̂ is raised."""
        return 1.0

    def factors(self, step: int, lr: float, momentum: float, momenta: float) -> Factors:
        """See UpdateRule."""
        momenta *= momentum
        return Factors(lr / (1.0 - momenta), 0.0, self._root(step), momenta)

    def _root(self, step: int) -> float:
        return 1.0 / math.sqrt(1.0 - self.beta2**step)

    def update(self, weights: Tensor, gradients: Tensor, buffers: Mapping[str, Tensor], step: StepTensors) -> None:
        """See UpdateRule."""
        mean = buffers["mean"].lerp_(gradients, 1.0 - step.momentum)
        square = buffers["square"].mul_(self.beta2).addcmul_(gradients, gradients, value=1.0 - self.beta2)
        denominator = self._square(square, buffers).sqrt().add_(self.eps).mul_(step.root)
        if self.power != 1.0:
            denominator.pow_(self.power)
        weights.sub_(self._change(mean, gradients, denominator, step))

    def _square(self, square: Tensor, buffers: Mapping[str, Tensor]) -> Tensor:  # noqa: ARG002
        """Return the mean of squares that the step divides by."""
        return square

    def _change(self, mean: Tensor, gradients: Tensor, denominator: Tensor, step: StepTensors) -> Tensor:  # noqa: ARG002
        """Return the amount to subtract from the weights; ``denominator`` may be overwritten."""
        import torch

        return torch.div(mean, denominator, out=denominator).mul_(step.mean)

    def kernel(self) -> tuple[str, dict[str, Any]]:
        """See UpdateRule."""
        constants = {"beta2": self.beta2, "complement": 1.0 - self.beta2, "eps": self.eps, "power": self.power}
        return "adaptive", {**constants, "largest": None, "NADAM": False, "POWER": self.power != 1.0}


OPTIMIZER = Adam
