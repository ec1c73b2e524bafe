"""A data set of the size of CIFAR-100 that is made from a seed, a small network, and an optimizer.

Each class has a smooth random pattern. An image is the pattern of its class, moved by some pixels, under noise.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from resnet_core.data import DatasetSpec, Images

CLASSES, SIDE = 100, 32


@lru_cache(maxsize=1)  # a process trains several trials on the same images
def _made() -> tuple[Images, Images]:
    patterns = np.random.default_rng(0).normal(size=(CLASSES, 3, 4, 4)).astype(np.float32)
    large = nn.functional.interpolate(torch.from_numpy(patterns), size=(SIDE, SIDE), mode="bicubic").numpy()
    return _images(large, MADE.train_size, seed=1), _images(large, MADE.test_size, seed=2)


def _images(patterns: NDArray[np.float32], count: int, seed: int) -> Images:
    random = np.random.default_rng(seed)
    labels = np.arange(count, dtype=np.int64) % CLASSES
    images = np.empty((count, 3, SIDE, SIDE), np.uint8)
    moves = random.integers(-4, 5, size=(count, 2))
    for i, (label, (down, right)) in enumerate(zip(labels, moves, strict=True)):
        moved = np.roll(patterns[label], (down, right), axis=(1, 2))
        noisy = moved + random.standard_normal((3, SIDE, SIDE), dtype=np.float32)
        images[i] = np.clip(128 + 40 * noisy, 0, 255)
    return images, labels


def read(_data_dir: Path, _image_size: int) -> tuple[Images, Images]:
    """Return the training and the test images: uint8 [N, 3, 32, 32], and their labels, int64 [N]."""
    return _made()


MADE = DatasetSpec(classes=CLASSES, train_size=50_000, test_size=10_000, image_sizes=(SIDE,), read=read)


def small(classes: int, channels: int, width: int = 16) -> nn.Module:
    """Return a network of three convolutions, from [B, channels, H, W] to [B, classes]."""
    layers: list[nn.Module] = []
    inputs = channels
    for filters in (width, 2 * width, 4 * width):
        layers += [nn.Conv2d(inputs, filters, 3, stride=2, padding=1), nn.BatchNorm2d(filters), nn.ReLU()]
        inputs = filters
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, classes))


class Lion(torch.optim.Optimizer):
    """Lion (Chen et al. 2023, arXiv 2302.06675): the sign of a mean of gradients. Decay is applied by the trainer."""

    def __init__(self, params: object, lr: float, betas: tuple[float, float] = (0.9, 0.99)) -> None:
        super().__init__(params, {"lr": lr, "betas": betas})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """Take a step."""
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for parameter in group["params"]:
                gradient: Tensor = parameter.grad
                mean = self.state[parameter].setdefault("mean", torch.zeros_like(parameter))
                parameter.sub_(mean.lerp(gradient, 1 - beta1).sign_(), alpha=group["lr"])
                mean.lerp_(gradient, 1 - beta2)
