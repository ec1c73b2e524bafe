"""Batch norm, ReLU, the residual sum and convolutions' biases as two launches forward and two backward.

A training step of ResNet56v2 has 54 such places. torch needs about ten launches for each, forward and backward, and
most of them read and write whole maps; here each pass reads the maps twice and writes them once.

``supports`` says whether the kernels accept a tensor; ``usable`` also checks their results on its device.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from resnet_core.fused.support import is_correct, runs_on

_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
_CHANNELS = 16  # of a program: 32 bytes of a row in bf16, the smallest unit of a memory access
_WARPS = 8
# Rows that a program reads at a time. A multiprocessor's registers hold the rows of two programs. The backward pass
# reads more tensors, so fewer rows fit.
_FORWARD_TILE, _BACKWARD_TILE = 512, 256
_LEAST_ROWS = 256  # of a program: with fewer, combining partial results takes as long as computing them
_PROGRAMS = 256  # about two for each multiprocessor of an H100 (132), all running at once
_MOST_BLOCKS = 128


class Tiles(NamedTuple):
    """How programs share a matrix [M, C]: each takes 16 channels of ``tiles`` tiles of ``tile`` rows.

    Attributes:
        groups: number of groups of 16 channels, C/16.
        blocks: number of blocks of rows; groups·blocks programs run.
        tiles: number of tiles of a program, which works on one after the other.
        tile: number of rows of a tile, a power of two.
    """

    groups: int
    blocks: int
    tiles: int
    tile: int


def tiles(rows: int, channels: int, largest: int) -> Tiles:
    """Return how programs share a matrix of ``rows`` rows and ``channels`` channels, a multiple of 16.

    With few programs, some of a GPU's multiprocessors have no work. With many row blocks, each program of the second
    launch has much to combine: two numbers for each block and channel. Narrow groups of channels give many programs
    with few row blocks. So groups are as narrow as memory allows, and there are as many blocks as give about 256
    programs.

    Args:
        rows: M.
        channels: C.
        largest: largest number of rows of a tile, a power of two, 256 or more.
    """
    groups = channels // _CHANNELS
    blocks = min(max(_PROGRAMS // groups, 1), _MOST_BLOCKS)
    share = max(-(-rows // blocks), _LEAST_ROWS)
    tile = largest if share > _LEAST_ROWS else _LEAST_ROWS
    count = -(-share // tile)
    return Tiles(groups, -(-rows // (count * tile)), count, tile)


def supports(y: Tensor) -> bool:
    """Return whether ``batch_norm_relu`` accepts ``y``.

    It must be [B, C, H, W], contiguous as channels_last, of fp32, bf16 or fp16, on a GPU (or on a CPU, in Triton's
    interpreter). C must be a multiple of 16 up to 2048. A channel must have more than one number, and all together
    fewer than 2³¹.
    """
    return (
        y.dim() == 4
        and y.dtype in _DTYPES
        and y.shape[1] % _CHANNELS == 0
        and 0 < y.shape[1] <= 2048
        and y.shape[1] < y.numel() < 2**31
        and y.is_contiguous(memory_format=torch.channels_last)
        and runs_on(y.device)
    )


def usable(y: Tensor, *, with_residual: bool, with_biases: bool) -> bool:
    """Return whether ``batch_norm_relu`` accepts ``y`` and is correct on its device; a process checks once.

    Args:
        y: [B, C, H, W].
        with_residual: whether there will be a residual.
        with_biases: whether there will be biases of convolutions.
    """
    if not supports(y):
        return False
    batch, channels, side, _ = y.shape
    options = [name for name, on in (("a residual", with_residual), ("biases", with_biases)) if on]
    maps = f"{batch} maps of {channels}×{side}×{side} in {str(y.dtype).removeprefix('torch.')}"
    return is_correct(
        " with ".join([f"batch norm of {maps}", *[" and ".join(options)][: len(options)]]),
        y.device,
        lambda: relative_error(
            *(channels, side, batch, y.dtype, y.device), with_residual=with_residual, with_biases=with_biases
        ),
    )


def batch_norm_relu(
    y: Tensor,
    weight: Tensor,
    bias: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    *,
    momentum: float,
    eps: float,
    y_bias: Tensor | None = None,
    residual: Tensor | None = None,
    residual_bias: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return z = relu(batch_norm(s)) and s = (y + y_bias) + (residual + residual_bias), both differentiable.

    Batch norm (Ioffe & Szegedy 2015, arXiv 1502.03167) uses the batch's own mean and variance, as in training. Each
    sum, and each bias, is rounded to y's type, as torch's operations do under autocast; the rest is computed in fp32,
    and z and the gradients are rounded once. The same arguments give the same bits every time.

    s is returned because the next unit's shortcut uses it again. Without a residual, y is returned in its place.

    It works on torch's current stream of y's device and does not wait for it: a CUDA graph can capture it.

    Args:
        y: [B, C, H, W]; see ``supports``.
        weight: [C], fp32, factor of the normalized values.
        bias: [C], fp32, added to them.
        running_mean: [C], fp32, changed in place.
        running_var: [C], fp32, changed in place by the unbiased variance, as in torch.
        momentum: the share of the batch's statistics in the running ones.
        eps: added to the variance.
        y_bias: [C], bias of the convolution that y comes from.
        residual: like y.
        residual_bias: [C], bias of the convolution that the residual comes from.

    Raises:
        ValueError: if ``supports(y)`` is false, if the residual differs from y in shape, type or layout, or if there is
            a residual_bias without it.
    """
    if not supports(y):
        raise ValueError(f"cannot take {y.dtype} of shape {list(y.shape)} and strides {y.stride()} on {y.device}")
    if residual is None:
        if residual_bias is not None:
            raise ValueError("residual_bias is without a residual")
    elif (residual.shape, residual.dtype) != (y.shape, y.dtype) or not supports(residual):
        raise ValueError(
            f"residual is {residual.dtype} of shape {list(residual.shape)} and strides {residual.stride()}"
        )
    arguments = (y, y_bias, residual, residual_bias, weight, bias, running_mean, running_var)
    z, s = _BatchNormReLU.apply(*arguments, float(momentum), float(eps))
    return z, y if residual is None else s


class _BatchNormReLU(torch.autograd.Function):
    """The kernels and their gradients. Autocast does not change it: autocast casts none of torch's operations here."""

    @staticmethod
    def forward(
        ctx: Any,
        y: Tensor,
        y_bias: Tensor | None,
        residual: Tensor | None,
        residual_bias: Tensor | None,
        weight: Tensor,
        bias: Tensor,
        running_mean: Tensor,
        running_var: Tensor,
        momentum: float,
        eps: float,
    ) -> tuple[Tensor, Tensor | None]:
        from resnet_core.fused import batch_norm_kernels as kernels

        channels = y.shape[1]
        rows = y.numel() // channels
        grid = tiles(rows, channels, _FORWARD_TILE)
        partial = torch.empty(2, grid.blocks, channels, dtype=torch.float32, device=y.device)
        statistics = torch.empty(2, channels, dtype=torch.float32, device=y.device)
        z = torch.empty_like(y)
        s, s_bias = (y, y_bias) if residual is None else (torch.empty_like(y), None)
        shape = {"C": channels, "CHANNELS": _CHANNELS, "TILE": grid.tile, "TILES": grid.tiles, "num_warps": _WARPS}
        with torch.cuda.device_of(y):  # type: ignore[no-untyped-call]
            kernels.moments[grid.groups, grid.blocks](y, y_bias, residual, residual_bias, s, partial, rows, **shape)
            kernels.normalize[grid.groups, grid.blocks](
                *(s, s_bias, z, partial, weight, bias, running_mean, running_var, statistics),
                *(rows, grid.blocks, momentum, eps),
                BLOCKS=_power_of_two(grid.blocks),
                **shape,
            )
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(s, s_bias, z, statistics, weight)
        ctx.bias_dtypes = [None if given is None else given.dtype for given in (y_bias, residual_bias)]
        return z, None if residual is None else s

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dz: Tensor | None, ds: Tensor | None) -> tuple[Tensor | None, ...]:
        from resnet_core.fused import batch_norm_kernels as kernels

        s, s_bias, z, statistics, weight = ctx.saved_tensors
        channels = s.shape[1]
        rows = s.numel() // channels
        grid = tiles(rows, channels, _BACKWARD_TILE)
        dz = torch.zeros_like(z) if dz is None else dz.contiguous(memory_format=torch.channels_last)
        ds = None if ds is None else ds.contiguous(memory_format=torch.channels_last)
        partial = torch.empty(2, grid.blocks, channels, dtype=torch.float32, device=s.device)
        dx, dweight, dbias = torch.empty_like(s), torch.empty_like(weight), torch.empty_like(weight)
        biased = any(dtype is not None for dtype in ctx.bias_dtypes)
        bias_partial = torch.empty_like(partial[0]) if biased else None
        shape = {"C": channels, "CHANNELS": _CHANNELS, "TILE": grid.tile, "TILES": grid.tiles, "num_warps": _WARPS}
        with torch.cuda.device_of(s):  # type: ignore[no-untyped-call]
            kernels.gradient_sums[grid.groups, grid.blocks](dz, s, s_bias, z, statistics, partial, rows, **shape)
            kernels.gradients[grid.groups, grid.blocks](
                *(dz, ds, s, s_bias, z, statistics, partial, weight, dx, dweight, dbias, bias_partial),
                *(rows, grid.blocks),
                BLOCKS=_power_of_two(grid.blocks),
                **shape,
            )
        total = None if bias_partial is None else bias_partial.sum(0)
        dy_bias, dresidual_bias = (
            None if total is None or dtype is None else total.to(dtype) for dtype in ctx.bias_dtypes
        )
        dresidual = dx if ctx.needs_input_grad[2] else None
        return dx, dy_bias, dresidual, dresidual_bias, dweight, dbias, None, None, None, None


def _power_of_two(number: int) -> int:
    """Return the least power of two that is not below ``number``."""
    return 1 << (number - 1).bit_length()


def relative_error(
    channels: int,
    side: int,
    batch: int,
    dtype: torch.dtype,
    device: torch.device | str,
    *,
    with_residual: bool,
    with_biases: bool,
) -> float:
    """Return the error of ``batch_norm_relu`` on random data, against torch's operations in double precision.

    It is the largest relative error (norm of the difference over norm of the true value) of z, s, the gradients and the
    running statistics. Rounding alone gives about 1e-6 in fp32 and 3e-3 in bf16. Both computations round s in the
    same way. The gradient of a convolution's bias is a sum of numbers that mostly cancel, so its error is relative to
    the sum of their absolute values. The error is NaN if a result is NaN.

    torch's global random state does not change.

    Args:
        channels: C.
        side: H and W.
        batch: B.
        dtype: of y.
        device: to compute on.
        with_residual: whether there is a residual, and a gradient of s.
        with_biases: whether y has a bias, and the residual if there is one.
    """
    generator = torch.Generator(device).manual_seed(0)

    def normal(*shape: int, scale: float = 1.0, offset: float = 0.0) -> Tensor:
        return torch.randn(shape, generator=generator, device=device) * scale + offset

    def image(scale: float = 1.0, offset: float = 0.0) -> Tensor:
        return normal(batch, channels, side, side, scale=scale, offset=offset).to(
            dtype, memory_format=torch.channels_last
        )

    y, dz = image(2.0, 1.0), image()
    residual, ds = (image(), image()) if with_residual else (None, None)
    y_bias = normal(channels) if with_biases else None
    residual_bias = normal(channels) if with_biases and with_residual else None
    weight, bias = normal(channels, scale=0.2, offset=1.0), normal(channels)
    running_mean, running_var = normal(channels), normal(channels).square() + 0.5
    momentum, eps = 0.1, 1e-3

    def biased(values: Tensor, added: Tensor | None) -> Tensor:
        return values if added is None else values + added.to(dtype)[:, None, None]

    with torch.enable_grad():
        true_s = biased(y, y_bias)
        if residual is not None:
            true_s = true_s + biased(residual, residual_bias)
        true_mean, true_var = running_mean.double(), running_var.double()
        x, factor, shift = (tensor.double().requires_grad_() for tensor in (true_s, weight, bias))
        true_z = F.relu(F.batch_norm(x, true_mean, true_var, factor, shift, True, momentum, eps))
        true_dx, true_dweight, true_dbias = torch.autograd.grad(true_z, [x, factor, shift], dz.double())
        if ds is not None:
            true_dx += ds.double()

        given = {"y": y, "y_bias": y_bias, "residual": residual, "residual_bias": residual_bias}
        inputs = {name: tensor.clone().requires_grad_() for name, tensor in given.items() if tensor is not None}
        weight.requires_grad_()
        bias.requires_grad_()
        z, s = batch_norm_relu(
            weight=weight, bias=bias, running_mean=running_mean, running_var=running_var, momentum=momentum, eps=eps,
            **inputs,
        )  # fmt: skip
        outputs, outer = ([z], [dz]) if ds is None else ([z, s], [dz, ds])
        dweight, dbias, *others = torch.autograd.grad(outputs, [weight, bias, *inputs.values()], outer)

    gradients = dict(zip(inputs, others, strict=True))
    pairs = [(z, true_z), (dweight, true_dweight), (dbias, true_dbias)]
    pairs += [(running_mean, true_mean), (running_var, true_var)]
    pairs += [(gradients[name], true_dx) for name in ("y", "residual") if name in gradients]
    if with_residual:
        pairs.append((s, true_s))
    errors = [_distance(got, true) / true.detach().double().norm() for got, true in pairs]
    dx = gradients["y"].double()
    for name in gradients.keys() & {"y_bias", "residual_bias"}:
        errors.append(_distance(gradients[name], dx.sum((0, 2, 3))) / dx.abs().sum((0, 2, 3)).norm())
    return torch.stack(errors).max().item()


def _distance(got: Tensor, true: Tensor) -> Tensor:
    distance: Tensor = torch.linalg.vector_norm(got.detach().double() - true.detach().double())
    return distance
