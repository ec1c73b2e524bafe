"""The Triton kernels of resnet_core.fused.batch_norm; importing this needs Triton.

A tensor is a matrix [M, C] in memory: a row for each pixel of the batch, a column for each channel. Program
(c, g) of a grid works on channels c·CHANNELS … and on rows g·TILE·TILES …, in TILES tiles of TILE rows.
No program waits for another. In the next launch, each program combines the results of its channels' programs, always in
the same order. So results are the same every time, bit for bit.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _place(tile, rows, C: tl.constexpr, CHANNELS: tl.constexpr, TILE: tl.constexpr, TILES: tl.constexpr):
    """Return the places in memory of this program's tile ``tile``, [TILE, CHANNELS], and which rows exist."""
    row = (tl.program_id(1) * TILES + tile) * TILE + tl.arange(0, TILE)[:, None]
    channel = tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS)[None, :]
    return row * C + channel, row < rows


@triton.jit
def _load(values, at, here):
    return tl.load(values + at, mask=here, other=0.0).to(tl.float32)


@triton.jit
def _bias(bias, channel, kind):
    """Return a convolution's bias, [1, CHANNELS], rounded as autocast rounds it."""
    return tl.load(bias + channel)[None, :].to(kind).to(tl.float32)


@triton.jit
def _biased(y, y_bias, at, here, channel):
    """Return a tile of y + y_bias, rounded to y's type."""
    kind = y.dtype.element_ty
    values = _load(y, at, here)
    if y_bias is not None:
        values = (values + _bias(y_bias, channel, kind)).to(kind).to(tl.float32)
    return values


@triton.jit
def _combined(count, mean, m2):
    """Return mean and sum of squared deviations, [CHANNELS], of the union of N sets of numbers.

    ``count`` [N, 1] is the size of each set, which may be 0; ``mean`` and ``m2`` are those of each set, [N, CHANNELS].
    The formula of Chan, Golub & LeVeque 1979, for all sets at once. Unlike E[x²] - E[x]², it does not subtract two
    large numbers.
    """
    total = tl.sum(count, 0)
    center = tl.sum(count * mean, 0) / total
    difference = mean - center[None, :]
    return center, tl.sum(m2 + count * difference * difference, 0)


@triton.jit
def _partials(partial, channel, blocks, C: tl.constexpr, BLOCKS: tl.constexpr):
    """Return the row blocks' two partial results per channel, each [BLOCKS, CHANNELS]; zero where there is no block."""
    block = tl.arange(0, BLOCKS)[:, None]
    at = partial + block * C + channel[None, :]
    here = block < blocks
    return tl.load(at, mask=here, other=0.0), tl.load(at + blocks * C, mask=here, other=0.0)


@triton.jit
def _store_partials(partial, channel, first, second, C: tl.constexpr):
    at = partial + tl.program_id(1) * C + channel
    tl.store(at, first)
    tl.store(at + tl.num_programs(1) * C, second)


@triton.jit
def moments(
    y, y_bias, residual, residual_bias, s, partial, rows,
    C: tl.constexpr, CHANNELS: tl.constexpr, TILE: tl.constexpr, TILES: tl.constexpr,
):  # fmt: skip
    """Store partial means and sums of squared deviations, [2, blocks, C]; with a residual, the sum ``s`` as well."""
    channel = tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS)
    # Welford's update for every place of the tile, and one reduction over places after the loop.
    mean = tl.zeros((TILE, CHANNELS), tl.float32)
    m2 = tl.zeros((TILE, CHANNELS), tl.float32)
    count = tl.zeros((TILE, 1), tl.float32)
    for tile in range(TILES):
        at, here = _place(tile, rows, C, CHANNELS, TILE, TILES)
        values = _biased(y, y_bias, at, here, channel)
        if residual is not None:
            kind = s.dtype.element_ty
            values = (values + _biased(residual, residual_bias, at, here, channel)).to(kind)
            tl.store(s + at, values, mask=here)
            values = values.to(tl.float32)
        count += here.to(tl.float32)
        difference = tl.where(here, values - mean, 0.0)
        mean += difference * (1.0 / (tile + 1))
        m2 += difference * (values - mean)
    mean, m2 = _combined(count, mean, m2)
    _store_partials(partial, channel, mean, m2, C)


@triton.jit
def normalize(
    s, s_bias, z, partial, weight, bias, running_mean, running_var, statistics, rows, blocks, momentum, eps,
    C: tl.constexpr, CHANNELS: tl.constexpr, TILE: tl.constexpr, TILES: tl.constexpr, BLOCKS: tl.constexpr,
):  # fmt: skip
    """Store z = relu(batch_norm(s + s_bias)) and statistics [2, C] (mean, 1/√(variance + eps)); update running ones."""
    channel = tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS)
    means, m2s = _partials(partial, channel, blocks, C, BLOCKS)
    first = tl.arange(0, BLOCKS)[:, None] * TILES * TILE
    count = tl.minimum(tl.maximum(rows - first, 0), TILES * TILE).to(tl.float32)
    mean, m2 = _combined(count, means, m2s)
    rstd = tl.div_rn(1.0, tl.sqrt_rn(m2 / rows + eps))
    if tl.program_id(1) == 0:
        tl.store(statistics + channel, mean)
        tl.store(statistics + C + channel, rstd)
        before = tl.load(running_mean + channel)
        tl.store(running_mean + channel, momentum * mean + (1 - momentum) * before)
        before = tl.load(running_var + channel)
        tl.store(running_var + channel, momentum * (m2 / (rows - 1)) + (1 - momentum) * before)
    scale = (rstd * tl.load(weight + channel))[None, :]
    shift = tl.load(bias + channel)[None, :]
    for tile in range(TILES):
        at, here = _place(tile, rows, C, CHANNELS, TILE, TILES)
        values = (_biased(s, s_bias, at, here, channel) - mean[None, :]) * scale + shift
        # NaN is not <= 0 and stays, as in torch.
        tl.store(z + at, tl.where(values <= 0.0, 0.0, values).to(z.dtype.element_ty), mask=here)


@triton.jit
def _centered(dz, s, s_bias, z, statistics, at, here, channel):
    """Return a tile of the gradient of BN's output and one of s + s_bias - mean."""
    gradient = tl.where(_load(z, at, here) <= 0.0, 0.0, _load(dz, at, here))
    return gradient, _biased(s, s_bias, at, here, channel) - tl.load(statistics + channel)[None, :]


@triton.jit
def gradient_sums(
    dz, s, s_bias, z, statistics, partial, rows,
    C: tl.constexpr, CHANNELS: tl.constexpr, TILE: tl.constexpr, TILES: tl.constexpr,
):  # fmt: skip
    """Store partial sums of d and of d·(s - mean), [2, blocks, C], where d is the gradient of BN's output."""
    channel = tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS)
    plain = tl.zeros((TILE, CHANNELS), tl.float32)
    product = tl.zeros((TILE, CHANNELS), tl.float32)
    for tile in range(TILES):
        at, here = _place(tile, rows, C, CHANNELS, TILE, TILES)
        gradient, centered = _centered(dz, s, s_bias, z, statistics, at, here, channel)
        plain += gradient  # 0 outside the tensor
        product += gradient * centered
    _store_partials(partial, channel, tl.sum(plain, 0), tl.sum(product, 0), C)


@triton.jit
def gradients(
    dz, ds, s, s_bias, z, statistics, partial, weight, dx, dweight, dbias, bias_partial, rows, blocks,
    C: tl.constexpr, CHANNELS: tl.constexpr, TILE: tl.constexpr, TILES: tl.constexpr, BLOCKS: tl.constexpr,
):  # fmt: skip
    """Store the gradients of s, of weight and of bias, and partial sums of the first, [blocks, C]."""
    channel = tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS)
    plain, product = _partials(partial, channel, blocks, C, BLOCKS)
    plain = tl.sum(plain, 0)
    product = tl.sum(product, 0)
    rstd = tl.load(statistics + C + channel)
    if tl.program_id(1) == 0:
        tl.store(dweight + channel, product * rstd)
        tl.store(dbias + channel, plain)
    # dx = w·rstd·(d - Σd/M - (s - mean)·rstd²·Σd(s - mean)/M), Ioffe & Szegedy 2015, section 3.
    scale = tl.load(weight + channel) * rstd
    slope = (-scale * rstd * rstd * product / rows)[None, :]
    constant = (-scale * plain / rows)[None, :]
    total = tl.zeros((TILE, CHANNELS), tl.float32)
    for tile in range(TILES):
        at, here = _place(tile, rows, C, CHANNELS, TILE, TILES)
        gradient, centered = _centered(dz, s, s_bias, z, statistics, at, here, channel)
        values = scale[None, :] * gradient + slope * centered + constant
        if ds is not None:
            values += _load(ds, at, here)
        values = values.to(dx.dtype.element_ty)
        tl.store(dx + at, values, mask=here)
        if bias_partial is not None:
            total += tl.where(here, values.to(tl.float32), 0.0)
    if bias_partial is not None:
        tl.store(bias_partial + tl.program_id(1) * C + channel, tl.sum(total, 0))
