"""The optimizer's step as one launch: what resnet_core.optimizer.Optimizer.apply does, by a Triton kernel."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from resnet_core.flat import FlatParameters
from resnet_core.fused.support import runs_on
from resnet_core.optim import UpdateRule

_BLOCK = 1024


def supports(rule: UpdateRule, flat: FlatParameters) -> bool:
    """Return whether an optimizer has a kernel that accepts these parameters.

    It accepts fewer than 2³¹ numbers of fp32, on a GPU (or in Triton's interpreter).
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

    It does the same as ``Optimizer.apply``, in the same order and with the same rounding; division and square root are
    exact to the last bit. On a GPU, some versions of torch round two operations at once; each of these then differs by
    a unit in the last place. The power of padam has a relative difference of up to 1e-5 from torch's.

    It works on torch's current stream and does not wait for the device: a CUDA graph can capture it.

    Args:
        rule: the optimizer.
        l2: factor of Σw² over convolution kernels in the loss.
        flat: the parameters.
        buffers: the optimizer's buffers, by name, each [P] like the weights; changed in place.
        coefficients: [steps, 5], fp32, rows of ``Optimizer.plan`` on the device.
        counter: [1], int64, on the device: the row to use, from 0 to steps - 1. It is not changed.

    Raises:
        ValueError: if ``supports(rule, flat)`` is false.
    """
    weights, kernel = flat.weights, rule.kernel()
    if kernel is None or not supports(rule, flat):
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
