"""The random numbers of an epoch, as tables with a row for each image; they depend on (seed, epoch) alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from resnet_core.config import TrialConfig


@dataclass(frozen=True)
class Draws:
    """The random choices for each training image of an epoch, in training order; None for an augmentation that is off.

    Attributes:
        order: int64 [N], the index of the image at each place.
        offsets: float32 [N, 2], pixels to move down and right.
        mirrored: bool [N].
        corners: int64 [N, 2], top and left of the crop's window in the padded image.
        centres: int64 [N, 2], row and column of the middle of the cutout's square.
    """

    order: Tensor
    offsets: Tensor | None
    mirrored: Tensor | None
    corners: Tensor | None
    centres: Tensor | None

    def to(self, device: torch.device) -> Draws:
        """Return the same tables on ``device``."""
        order, *others = (None if table is None else table.to(device) for table in self._tables())
        assert order is not None
        return Draws(order, *others)

    def copy_(self, other: Draws) -> None:
        """Overwrite these tables by another epoch's tables, without waiting for the device."""
        for mine, theirs in zip(self._tables(), other._tables(), strict=True):
            if mine is not None and theirs is not None:
                copy_over(mine, theirs)

    def _tables(self) -> tuple[Tensor | None, ...]:
        return (self.order, self.offsets, self.mirrored, self.corners, self.centres)


def copy_over(target: Tensor, source: Tensor) -> None:
    """Copy from the host to the device through pinned memory, so that neither waits for the other."""
    target.copy_(source.pin_memory() if target.is_cuda else source, non_blocking=True)


def draw(config: TrialConfig, epoch: int, images: int) -> Draws:
    """Return the draws of an epoch (1-based) of ``images`` images, on the CPU.

    They are always made on the CPU, so that a run on a GPU sees the same images in the same order.
    """
    generator = torch.Generator().manual_seed(_seed(config.seed, epoch))
    order = torch.randperm(images, generator=generator)
    unit = torch.rand(images, 2, generator=generator) * 2 - 1
    mirrored = torch.rand(images, generator=generator) < 0.5
    corners = torch.randint(2 * config.crop + 1, (images, 2), generator=generator)
    centres = torch.randint(config.side, (images, 2), generator=generator)
    return Draws(
        order,
        unit * (config.shift * config.side) if config.shift else None,
        mirrored if config.flip else None,
        corners if config.crop else None,
        centres if config.cutout else None,
    )


def seed_generators(config: TrialConfig, epoch: int, device: torch.device) -> None:
    """Seed torch's global generators of the CPU and of ``device`` for an epoch (1-based)."""
    seed = _seed(config.seed, epoch, 1)
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)


def _seed(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))
