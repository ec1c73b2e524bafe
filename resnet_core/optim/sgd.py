"""SGD with momentum, or with Nesterov's momentum (Sutskever et al. 2013).

b ← β₁·b + g; w ← w − lr·b, or lr·(g + β₁·b) by Nesterov, for gradient g and momentum β₁.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from resnet_core.optim import Factors, StepTensors, UpdateRule

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Sgd(UpdateRule):
    """SGD with momentum."""

    nesterov: bool

    buffers = ("momentum",)

    def factors(self, step: int, lr: float, momentum: float, momenta: float) -> Factors:  # noqa: ARG002
        """See UpdateRule."""
        return Factors(lr * momentum if self.nesterov else lr, lr, 1.0, momenta)

    def update(self, weights: Tensor, gradients: Tensor, buffers: Mapping[str, Tensor], step: StepTensors) -> None:
        """See UpdateRule."""
        buffer = buffers["momentum"].mul_(step.momentum).add_(gradients)
        weights.addcmul_(buffer, step.mean, value=-1)
        if self.nesterov:
            weights.addcmul_(gradients, step.gradient, value=-1)

    def kernel(self) -> tuple[str, dict[str, Any]]:
        """See UpdateRule."""
        return "sgd", {"NESTEROV": self.nesterov}


OPTIMIZER = Sgd
