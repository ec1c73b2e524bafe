"""The Triton kernels of resnet_core.fused.optimizer; importing this needs Triton.

Each program changes BLOCK numbers of the flat tensors. The operations are those of resnet_core.optim, each rounded
separately. Where torch's kernels round a product and a sum at once, ``tl.fma`` does so too. enable_fp_fusion=False
keeps the compiler from doing it elsewhere. Tensors have the names of the optimizer's buffers.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _gradient(gradients, weight, at, here, kernels, double_l2):
    """Return the gradient; for convolution kernels, L2's is added."""
    gradient = tl.load(gradients + at, mask=here)
    return tl.where(at < kernels, tl.fma(double_l2, weight, gradient), gradient)


@triton.jit
def sgd(
    weights, gradients, momentum, coefficients, counter, size, kernels, double_l2,
    NESTEROV: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Take a step of SGD with momentum; ``momentum`` is its buffer."""
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    here = at < size
    row = coefficients + tl.load(counter) * 5
    weight = tl.load(weights + at, mask=here)
    gradient = _gradient(gradients, weight, at, here, kernels, double_l2)
    buffer = tl.load(momentum + at, mask=here) * tl.load(row + 1) + gradient
    tl.store(momentum + at, buffer, mask=here)
    weight = weight * tl.load(row) - buffer * tl.load(row + 2)
    if NESTEROV:
        weight -= gradient * tl.load(row + 3)
    tl.store(weights + at, weight, mask=here)


@triton.jit
def adaptive(
    weights, gradients, mean, square, largest, coefficients, counter, size, kernels, double_l2,
    beta2, complement, eps, power,
    NADAM: tl.constexpr, POWER: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Take a step of Adam or a variant; ``complement`` is 1 - beta2, ``power`` the denominator's exponent if POWER."""
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    here = at < size
    row = coefficients + tl.load(counter) * 5
    weight = tl.load(weights + at, mask=here)
    gradient = _gradient(gradients, weight, at, here, kernels, double_l2)
    weight *= tl.load(row)

    # torch's lerp, which starts from the nearer end.
    old = tl.load(mean + at, mask=here)
    share = 1.0 - tl.load(row + 1)
    difference = gradient - old
    near = tl.abs(share) < 0.5
    new_mean = tl.fma(tl.where(near, share, share - 1.0), difference, tl.where(near, old, gradient))
    tl.store(mean + at, new_mean, mask=here)

    new_square = tl.load(square + at, mask=here) * beta2
    new_square = tl.fma(complement, gradient * gradient, new_square)
    tl.store(square + at, new_square, mask=here)
    if largest is not None:
        new_square = tl.maximum(tl.load(largest + at, mask=here), new_square, propagate_nan=tl.PropagateNan.ALL)
        tl.store(largest + at, new_square, mask=here)

    denominator = (tl.sqrt_rn(new_square) + eps) * tl.load(row + 4)
    if POWER:
        denominator = tl.exp2(tl.log2(denominator) * power)
    of_mean = tl.load(row + 2)
    if NADAM:
        update = tl.div_rn(tl.fma(gradient, tl.load(row + 3), new_mean * of_mean), denominator)
    else:
        update = tl.div_rn(new_mean, denominator) * of_mean
    tl.store(weights + at, weight - update, mask=here)
