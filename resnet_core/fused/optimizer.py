"""The optimizer's step as one launch: what resnet_core.optimizer.Optimizer.apply does, by a Triton kernel."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from resnet_core.flat import FlatParameters
from resnet_core.fused.support import runs_on
from resnet_core.optim import UpdateRule

_BLOCK = 1024


def covers(rule: UpdateRule, flat: FlatParameters) -> bool:
    """Return whether there is a kernel for an optimizer, and it takes these parameters.

    It takes fewer than 2³¹, of fp32, on a GPU (or in Triton's interpreter).
    """
    if rule.kernel() is None:
        return False
    return flat.weights.dtype == torch.float32 and flat.weights.numel() < 2**31 and runs_on(flat.weights.device)


def step(
    rule: UpdateRule,
    l2: float,
    flat: FlatParameters,
    buffers: Mapping[str, Tensor],
    coefficients: Tensor,
    counter: Tensor,
) -> None:
    """Change the weights by the step whose coefficients are ``coefficients[counter]``.

    It is ``Optimizer.apply``, in the same order and with the same rounding, division and square root being exact to
    the last bit. What torch's kernels on a GPU round at once is theirs to choose, so that bits there may differ from
    one version of torch to another: each operation by a unit in the last place. The power of padam is within
    1e-5 of torch's, relatively.

    Everything happens on torch's current stream, without waiting for the device: a CUDA graph can record it.

    Args:
        rule: the optimizer.
        l2: factor of Σw² over convolution kernels in the loss.
        flat: the parameters.
        buffers: the optimizer's, by name, each [P] like the weights; changed in place.
        coefficients: [steps, 5], fp32, rows of ``Optimizer.plan`` on the device.
        counter: [1], int64, on the device: which row, from 0 to steps - 1. It is not counted up.

    Raises:
        ValueError: if ``covers(rule, flat)`` is false.
    """
    weights, kernel = flat.weights, rule.kernel()
    if kernel is None or not covers(rule, flat):
        raise ValueError(f"cannot take {weights.numel()} parameters of {weights.dtype} on {weights.device}")
    from resnet_core.fused import optimizer_kernels as kernels

    name, own = kernel
    common = {
        **{"weights": weights, "gradients": flat.gradients, "coefficients": coefficients, "counter": counter},
        **{"size": weights.numel(), "kernels": flat.kernels.numel() if l2 else 0, "double_l2": 2.0 * l2},
    }
    grid = (-(-weights.numel() // _BLOCK),)
    with torch.cuda.device_of(weights):  # type: ignore[no-untyped-call]
        getattr(kernels, name)[grid](**common, **(own | dict(buffers)), BLOCK=_BLOCK, enable_fp_fusion=False)
