"""NAdam (Dozat 2016), with torch's momentum schedule μ = β₁·(1 − 0.96^(0.004·t)/2) at step t."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from resnet_core.optim import Factors, StepTensors
from resnet_core.optim.adam import Adam

if TYPE_CHECKING:
    from torch import Tensor

_BASE, _DECAY = 0.96, 4e-3  # of the momentum schedule, as in torch


@dataclass(frozen=True)
class NAdam(Adam):
    """Adam with Nesterov's momentum."""

    def factors(self, step: int, lr: float, momentum: float, momenta: float) -> Factors:
        """See UpdateRule."""
        now, following = (momentum * (1.0 - 0.5 * _BASE ** (_DECAY * t)) for t in (step, step + 1))
        momenta *= now
        mean = lr * following / (1.0 - momenta * following)
        return Factors(mean, lr * (1.0 - now) / (1.0 - momenta), self._root(step), momenta)

    def _change(self, mean: Tensor, gradients: Tensor, denominator: Tensor, step: StepTensors) -> Tensor:
        return (mean * step.mean).addcmul_(gradients, step.gradient).div_(denominator)

    def kernel(self) -> tuple[str, dict[str, Any]]:
        """See UpdateRule."""
        name, own = super().kernel()
        return name, {**own, "NADAM": True}


OPTIMIZER = NAdam
