"""AMSGrad (Reddi et al. 2018): Adam that divides by the largest v so far."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from resnet_core.optim.adam import Adam

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class AmsGrad(Adam):
    """Adam that divides by the largest v so far."""

    buffers = ("mean", "square", "largest")

    def _square(self, square: Tensor, buffers: Mapping[str, Tensor]) -> Tensor:
        import torch

        return torch.maximum(buffers["largest"], square, out=buffers["largest"])


OPTIMIZER = AmsGrad
