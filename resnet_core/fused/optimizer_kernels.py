"""The Triton kernels of resnet_core.fused.optimizer; importing this needs Triton.

Each program changes BLOCK numbers of the flat tensors. Operations are those of resnet_core.optim, each rounded by
itself but where torch's kernels round a product and a sum at once: there stands ``tl.fma``. To be launched with
enable_fp_fusion=False, so that the compiler makes no others.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _gradient(gradients, weight, at, here, kernels, double_l2):
    """Return the gradient with L2's, which kernels have."""
    gradient = tl.load(gradients + at, mask=here)
    return tl.where(at < kernels, tl.fma(double_l2, weight, gradient), gradient)


@triton.jit
def sgd(
    weights, gradients, momenta, coefficients, counter, size, kernels, double_l2,
    NESTEROV: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Take a step of SGD with momentum; ``momenta`` is its buffer."""
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    here = at < size
    row = coefficients + tl.load(counter) * 5
    weight = tl.load(weights + at, mask=here)
    gradient = _gradient(gradients, weight, at, here, kernels, double_l2)
    buffer = tl.load(momenta + at, mask=here) * tl.load(row + 1) + gradient
    tl.store(momenta + at, buffer, mask=here)
    weight = weight * tl.load(row) - buffer * tl.load(row + 2)
    if NESTEROV:
        weight -= gradient * tl.load(row + 3)
    tl.store(weights + at, weight, mask=here)


@triton.jit
def adaptive(
    weights, gradients, means, squares, largests, coefficients, counter, size, kernels, double_l2,
    beta2, complement, eps, power,
    NADAM: tl.constexpr, POWER: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Take a step of Adam or a relative; ``complement`` is 1 - beta2, ``power`` that of the denominator if POWER."""
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    here = at < size
    row = coefficients + tl.load(counter) * 5
    weight = tl.load(weights + at, mask=here)
    gradient = _gradient(gradients, weight, at, here, kernels, double_l2)
    weight *= tl.load(row)

    # torch's lerp, which starts from the nearer end.
    mean = tl.load(means + at, mask=here)
    share = 1.0 - tl.load(row + 1)
    difference = gradient - mean
    near = tl.abs(share) < 0.5
    mean = tl.fma(tl.where(near, share, share - 1.0), difference, tl.where(near, mean, gradient))
    tl.store(means + at, mean, mask=here)

    square = tl.load(squares + at, mask=here) * beta2
    square = tl.fma(complement, gradient * gradient, square)
    tl.store(squares + at, square, mask=here)
    if largests is not None:
        square = tl.maximum(tl.load(largests + at, mask=here), square, propagate_nan=tl.PropagateNan.ALL)
        tl.store(largests + at, square, mask=here)

    denominator = (tl.sqrt_rn(square) + eps) * tl.load(row + 4)
    if POWER:
        denominator = tl.exp2(tl.log2(denominator) * power)
    of_mean = tl.load(row + 2)
    if NADAM:
        update = tl.div_rn(tl.fma(gradient, tl.load(row + 3), mean * of_mean), denominator)
    else:
        update = tl.div_rn(mean, denominator) * of_mean
    tl.store(weights + at, weight - update, mask=here)
