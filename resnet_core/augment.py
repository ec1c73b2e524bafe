"""Augmentation of whole batches on the device. The caller passes the random numbers, so nothing here is random."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def shift_and_flip(images: Tensor, offsets: Tensor | None, mirrored: Tensor | None) -> Tensor:
    """Move each image by a continuous offset, then mirror the chosen images.

    This equals Keras's ImageDataGenerator, which the published runs used: linear interpolation, edge
    pixels repeated outwards (``scipy.ndimage.shift(order=1, mode="nearest")``), the mirror last.

    Args:
        images: float [B, C, H, W].
        offsets: float [B, 2], pixels to move down and right; None moves nothing.
        mirrored: bool [B], True where an image is mirrored left to right; None mirrors none.

    Returns:
        float [B, C, H, W], in the memory format of ``images``.
    """
    if offsets is None:
        if mirrored is None:
            return images
        return torch.where(mirrored[:, None, None, None], images.flip(3), images)
    batch, _, height, width = images.shape
    y = torch.arange(height, device=images.device, dtype=torch.float32)
    x = torch.arange(width, device=images.device, dtype=torch.float32)
    rows = y[None, :] - offsets[:, 0:1]
    if mirrored is not None:
        x = torch.where(mirrored[:, None], x.flip(0)[None, :], x[None, :])
    columns = x - offsets[:, 1:2]
    # grid_sample counts from -1 to 1 between the centres of the outermost pixels.
    grid = torch.stack(
        (
            (columns * (2.0 / (width - 1)) - 1.0)[:, None, :].expand(batch, height, width),
            (rows * (2.0 / (height - 1)) - 1.0)[:, :, None].expand(batch, height, width),
        ),
        dim=3,
    )
    moved = F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=True)
    return _in_format_of(images, moved)


def crop(images: Tensor, corners: Tensor, padding: int) -> Tensor:
    """Pad each image with zeros on all sides and cut a window of the old size out of it.

    Args:
        images: uint8 or float [B, C, H, W].
        corners: int64 [B, 2], top and left of each window in the padded image, 0 to 2·padding;
            (padding, padding) is the image itself.
        padding: pixels added on each side, 0 or more.

    Returns:
        [B, C, H, W] in the dtype and memory format of ``images``.
    """
    _, _, height, width = images.shape
    padded = F.pad(images.permute(0, 2, 3, 1), (0, 0, padding, padding, padding, padding))
    windows = padded.unfold(1, height, 1).unfold(2, width, 1)  # a view: [B, 2·padding+1, 2·padding+1, C, H, W]
    image = torch.arange(len(images), device=images.device)
    return _in_format_of(images, windows[image, corners[:, 0], corners[:, 1]])


def cutout(images: Tensor, centres: Tensor, side: int) -> Tensor:
    """Set a square in each image to 0, the mean of images that are normalised.

    The square covers rows and columns centre - side//2 to centre - side//2 + side - 1, cut off at the image's edges
    (DeVries & Taylor 2017, arXiv 1708.04552).

    Args:
        images: float [B, C, H, W].
        centres: int64 [B, 2], row and column of each square's centre.
        side: of the square in pixels, 0 or more.

    Returns:
        float [B, C, H, W], in the memory format of ``images``.
    """
    _, _, height, width = images.shape
    start = centres - side // 2
    rows = _within(start[:, 0:1], side, height)
    columns = _within(start[:, 1:2], side, width)
    kept = ~(rows[:, :, None] & columns[:, None, :])[:, None]
    return images * kept.to(images.dtype)  # much faster than filling by a mask


def _within(start: Tensor, side: int, length: int) -> Tensor:
    """Return bool [B, length], True from ``start`` (int64 [B, 1]) on for ``side`` places."""
    place = torch.arange(length, device=start.device)
    return (place >= start) & (place < start + side)


def _in_format_of(images: Tensor, changed: Tensor) -> Tensor:
    layout = torch.channels_last if images.is_contiguous(memory_format=torch.channels_last) else torch.contiguous_format
    return changed.contiguous(memory_format=layout)
