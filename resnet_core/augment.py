"""Augmentation of whole batches on the device. The draws come from outside, so nothing here is random."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def shift_and_flip(images: Tensor, offsets: Tensor | None, mirrored: Tensor | None) -> Tensor:
    """Move each image by a continuous offset, then mirror it where asked.

    As Keras's ImageDataGenerator does it, which the published runs used: linear interpolation, edge
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
    if images.is_contiguous(memory_format=torch.channels_last):
        return moved.contiguous(memory_format=torch.channels_last)
    return moved
