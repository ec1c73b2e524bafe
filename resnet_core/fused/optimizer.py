"""The optimizer's step as one launch: what resnet_core.optim.Optimizer.apply does, by a Triton kernel."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from resnet_core.config import TrialConfig
from resnet_core.flat import FlatParameters
from resnet_core.fused.support import runs_on

_BLOCK = 1024


def covers(flat: FlatParameters) -> bool:
    """Return whether ``step`` takes these parameters: fp32, fewer than 2³¹, on a GPU (or in Triton's interpreter)."""
    return flat.weights.dtype == torch.float32 and flat.weights.numel() < 2**31 and runs_on(flat.weights.device)


def step(
    config: TrialConfig,
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
        config: which optimizer, and its constants.
        flat: the parameters.
        buffers: the optimizer's, by name, each [P] like the weights; changed in place.
        coefficients: [steps, 5], fp32, rows of ``Optimizer.plan`` on the device.
        counter: [1], int64, on the device: which row, from 0 to steps - 1. It is not counted up.

    Raises:
        ValueError: if ``covers(flat)`` is false.
    """
    weights = flat.weights
    if not covers(flat):
        raise ValueError(f"cannot take {weights.numel()} parameters of {weights.dtype} on {weights.device}")
    from resnet_core.fused import optimizer_kernels as kernels

    state = [weights, flat.gradients, *(buffers[name] for name in ("momentum", "mean", "square") if name in buffers)]
    kernels_end = flat.kernels.numel() if config.l2 else 0
    common = [coefficients, counter, weights.numel(), kernels_end, 2.0 * config.l2]
    grid = (-(-weights.numel() // _BLOCK),)
    with torch.cuda.device_of(weights):  # type: ignore[no-untyped-call]
        if config.optimizer == "sgd":
            kernels.sgd[grid](*state, *common, NESTEROV=config.nesterov, BLOCK=_BLOCK, enable_fp_fusion=False)
        else:
            power = 2.0 * config.padam_p if config.optimizer == "padam" else 1.0
            kernels.adaptive[grid](
                *(*state, buffers.get("largest"), *common),
                *(config.beta2, 1.0 - config.beta2, config.eps, power),
                NADAM=config.optimizer == "nadam",
                POWER=power != 1.0,
                BLOCK=_BLOCK,
                enable_fp_fusion=False,
            )
