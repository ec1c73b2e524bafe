"""A copy of a network for training steps: its weights, some of them in bf16, and its gradients in one tensor.

Under autocast every convolution casts its weights to bf16, the backward pass casts every gradient back, and each
gradient is then added to the one of the parameter. These are three kernels for each parameter, and a GPU needs more
time to start such a kernel than to run it. Here all weights are cast at once, and all gradients of a type are copied at
once.
"""

from __future__ import annotations

import collections
import copy

import torch
from torch import Tensor, nn

from resnet_core.config import Precision
from resnet_core.flat import FlatParameters
from resnet_core.models.layers.resnet_v2 import Convolution, fuse

_CAST_BY_AUTOCAST = (nn.Conv2d, nn.Linear)


class WorkingCopy:
    """A copy of a network whose gradients train the original.

    Mixed precision with fp32 master weights (Micikevicius et al. 2018, arXiv 1710.03740). In ``bf16`` the weights and
    biases of convolutions and dense layers are those that ``refresh`` cast last. Shared with the original are the other
    parameters, those that are frozen or belong to several layers, and BN's running statistics. The results equal the
    original's under autocast, bit for bit.

    Args:
        network: the original.
        flat: its parameters; takes the gradients.
        precision: in ``fp32`` all parameters are the original's own.
        fused: use the kernels of resnet_core.fused where the network has places for them; their rounding differs.

    Attributes:
        network: the copy, in train mode.
    """

    def __init__(self, network: nn.Module, flat: FlatParameters, precision: Precision, *, fused: bool = False) -> None:
        self.network = copy.deepcopy(network).train()
        if fused:
            fuse(self.network)
        self._weights = flat.weights
        self._cast = flat.weights.to(torch.bfloat16) if precision == "bf16" else None
        self._leaves: list[tuple[nn.Parameter, Tensor]] = []  # parameters of the copy, and where their gradients go
        self._counters: list[Tensor] = []
        uses = collections.Counter(id(p) for module in network.modules() for p in module.parameters(recurse=False))
        known: set[int] = set()  # a parameter may belong to several layers
        for mine, original in zip(self.network.modules(), network.modules(), strict=True):
            for name, parameter in original.named_parameters(recurse=False):
                leaf, start = parameter, parameter.storage_offset()
                by_kernel = name == "bias" and isinstance(mine, Convolution) and mine.bias_is == "deferred"
                castable = (
                    isinstance(original, _CAST_BY_AUTOCAST) and parameter.requires_grad and uses[id(parameter)] == 1
                )
                if self._cast is not None and castable and not by_kernel:
                    leaf = nn.Parameter(self._cast.as_strided(parameter.shape, parameter.stride(), start))
                mine.register_parameter(name, leaf)
                if leaf.requires_grad and id(leaf) not in known:
                    known.add(id(leaf))
                    self._leaves.append((leaf, flat.gradients[start : start + leaf.numel()]))
            for name, buffer in original.named_buffers(recurse=False):
                mine.register_buffer(name, buffer)
            # ``count`` counts batches once an epoch. A BN without a momentum needs the number in every step.
            if isinstance(mine, nn.modules.batchnorm._BatchNorm) and mine.momentum is not None:
                if mine.num_batches_tracked is not None:
                    self._counters.append(mine.num_batches_tracked)
                mine.num_batches_tracked = None

    @torch.no_grad()
    def refresh(self) -> None:
        """Cast the current weights of the original."""
        if self._cast is not None:
            self._cast.copy_(self._weights)

    def backward(self, loss: Tensor) -> None:
        """Overwrite the flat gradients by those of ``loss``, except of parameters that ``loss`` does not depend on."""
        gradients = torch.autograd.grad(loss, [leaf for leaf, _ in self._leaves], allow_unused=True)
        by_type: dict[torch.dtype, tuple[list[Tensor], list[Tensor]]] = {}
        for (leaf, place), gradient in zip(self._leaves, gradients, strict=True):
            if gradient is not None:
                places, values = by_type.setdefault(gradient.dtype, ([], []))
                places.append(place)
                values.append(_in_memory_order(gradient, leaf))
        for places, values in by_type.values():
            torch._foreach_copy_(places, values)

    def count(self, batches: int) -> None:
        """Add a number of batches to the counters of BN."""
        if self._counters:
            torch._foreach_add_(self._counters, batches)


def _in_memory_order(gradient: Tensor, parameter: Tensor) -> Tensor:
    """Return a gradient as a 1-D tensor, in the order in which its parameter lies in memory."""
    # The stride of a side of 1 does not matter.
    sides = [side for side, size in enumerate(gradient.shape) if size > 1]
    if any(gradient.stride(side) != parameter.stride(side) for side in sides):
        gradient = torch.empty_like(parameter, dtype=gradient.dtype).copy_(gradient)
    return gradient.as_strided((gradient.numel(),), (1,))
