"""Many tensors as views of one, so that one operation changes all of them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

_ALIGNMENT = 16


def flatten(tensors: Sequence[Tensor]) -> Tensor:
    """Turn ``tensors`` (of one type, on one device) into views of one flat tensor [N], and return that tensor.

    Each keeps its shape, strides and values, and starts at a multiple of 16 numbers; the gaps hold zeros.
    """
    ends = _ends(tensors)
    flat = tensors[0].detach().new_zeros(ends[-1])
    for tensor, start in zip(tensors, [0, *ends], strict=False):
        tensor.data = flat.as_strided(tensor.shape, tensor.stride(), start).copy_(tensor.detach())
    return flat


def _ends(tensors: Sequence[Tensor]) -> list[int]:
    return list(itertools.accumulate(-(-tensor.numel() // _ALIGNMENT) * _ALIGNMENT for tensor in tensors))


class FlatParameters:
    """The parameters of a network as views of one tensor, and their gradients as views of another.

    Attributes:
        weights: [P], all trainable parameters, convolution kernels first, each in its memory order.
        gradients: [P]; the backward pass adds to them.
        kernels: [K], the convolution kernels among the weights.
        kernel_gradients: [K], their gradients.
    """

    def __init__(self, network: nn.Module) -> None:
        # A parameter may be frozen, or belong to several layers.
        found = {
            id(m.weight): m.weight for m in network.modules() if isinstance(m, nn.Conv2d) and m.weight.requires_grad
        }
        kernels = list(found.values())
        parameters = [*kernels, *(p for p in network.parameters() if p.requires_grad and id(p) not in found)]
        ends = _ends(parameters)
        self.weights = flatten(parameters)
        self.gradients = torch.zeros_like(self.weights)
        for parameter, start in zip(parameters, [0, *ends], strict=False):
            parameter.grad = self.gradients.as_strided(parameter.shape, parameter.stride(), start)
        last = ends[len(kernels) - 1] if kernels else 0
        self.kernels, self.kernel_gradients = self.weights[:last], self.gradients[:last]


def flatten_statistics(network: nn.Module) -> Tensor:
    """Turn the network's floating-point buffers (BN's running statistics) into views of one tensor: [S]."""
    buffers = [buffer for buffer in network.buffers() if buffer.is_floating_point()]
    return flatten(buffers) if buffers else torch.zeros(0)
