"""Images that train and validate: CIFAR-10 or scikit-learn's digits, in three splits."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from resnet_core import cifar10
from resnet_core.cifar10 import Images
from resnet_core.config import TrialConfig

# One split of the digits is everybody's "official" one: a fifth of them, stratified, from this seed.
_DIGITS_SEED = 0


@dataclass(frozen=True)
class Dataset:
    """Images that train and images that validate, as bytes.

    Attributes:
        train_images: uint8 [N, 3, H, W].
        train_labels: int64 [N].
        val_images: uint8 [M, 3, H, W].
        val_labels: int64 [M].
        mean: float32 [3, H, W], per-pixel mean of the training images / 255.
        test_images: uint8 [T, 3, H, W]; None where the config does not test.
        test_labels: int64 [T]; None likewise.
    """

    train_images: Tensor
    train_labels: Tensor
    val_images: Tensor
    val_labels: Tensor
    mean: Tensor
    test_images: Tensor | None = None
    test_labels: Tensor | None = None

    @property
    def test(self) -> tuple[Tensor, Tensor]:
        """Images and labels to test on; the config must ask for them."""
        assert self.test_images is not None
        assert self.test_labels is not None
        return self.test_images, self.test_labels

    def to(self, device: torch.device) -> Dataset:
        """Return the same data on ``device``, in channels_last, which is what training reads fastest."""
        last = torch.channels_last
        return Dataset(
            self.train_images.to(device, memory_format=last),
            self.train_labels.to(device),
            self.val_images.to(device, memory_format=last),
            self.val_labels.to(device),
            self.mean[None].to(device, memory_format=last)[0],
            None if self.test_images is None else self.test_images.to(device, memory_format=last),
            None if self.test_labels is None else self.test_labels.to(device),
        )


def take(images: Tensor, chosen: Tensor) -> Tensor:
    """Return the images [B, C, H, W] at ``chosen`` (int64 [B]); of images in channels_last, in channels_last."""
    return images.permute(0, 2, 3, 1).index_select(0, chosen).permute(0, 3, 1, 2)


def normalise(images: Tensor, mean: Tensor) -> Tensor:
    """Return x/255 minus the per-pixel mean: float32 [B, 3, H, W] in channels_last, of uint8 [B, 3, H, W]."""
    scaled = images.to(torch.float32, memory_format=torch.channels_last).mul_(1 / 255)
    return scaled.sub_(mean)


def load(config: TrialConfig, data_dir: Path) -> Dataset:
    """Return the images ``config`` trains and validates on.

    ``official`` trains on the data set's training images and validates on its test images.
    ``pooled`` puts both together and draws, from the config's seed, a stratified validation set of
    the test set's size. ``held-out`` takes a stratified tenth of the training images, the same for
    every seed, to validate on and leaves the test images alone, but for a config that tests: it gets all of
    them too. A limit above what there is takes all.

    Raises:
        cifar10.DataError: the images are not under ``data_dir`` and could not be downloaded.
    """
    if config.data == "cifar10":
        train, test = (_of_size(images, config.image_size) for images in cifar10.read(data_dir))
    else:
        train, test = _digits(config.image_size)
    if config.split == "official":
        train_set, val_set = train, test
    elif config.split == "pooled":
        pooled = (np.concatenate((train[0], test[0])), np.concatenate((train[1], test[1])))
        chosen = stratified(pooled[1], len(test[1]), config.seed)
        train_set, val_set = _without(pooled, chosen), _only(pooled, chosen)
    else:
        chosen = stratified(train[1], len(train[1]) // 10, seed=0)
        train_set, val_set = _without(train, chosen), _only(train, chosen)
    train_set = _limited(train_set, config.train_limit, config.seed)
    val_set = _limited(val_set, config.val_limit, config.seed)
    mean = train_set[0].mean(axis=0, dtype=np.float64) / 255
    return Dataset(
        torch.from_numpy(train_set[0]),
        torch.from_numpy(train_set[1]),
        torch.from_numpy(val_set[0]),
        torch.from_numpy(val_set[1]),
        torch.from_numpy(mean.astype(np.float32)),
        *(map(torch.from_numpy, test) if config.test else ()),
    )


def stratified(labels: NDArray[np.int64], count: int, seed: int) -> NDArray[np.int64]:
    """Choose ``count`` indices so that each class has its share, to within one image.

    Args:
        labels: int [N].
        count: how many to choose, at most N.
        seed: of the choice; the same seed chooses the same.

    Returns:
        int64 [count], rising.
    """
    random = np.random.default_rng([seed, count, len(labels)])
    classes, sizes = np.unique(labels, return_counts=True)
    exact = sizes * (count / len(labels))
    quota = np.floor(exact).astype(int)
    # What rounding left over goes to the classes that lost most by it.
    for position in np.argsort(quota - exact, kind="stable")[: count - quota.sum()]:
        quota[position] += 1
    chosen = [
        random.permutation(np.flatnonzero(labels == label))[:wanted]
        for label, wanted in zip(classes, quota, strict=True)
    ]
    return np.sort(np.concatenate(chosen)).astype(np.int64)


def _of_size(images: Images, size: int) -> Images:
    """Return 32x32 images as they are, or at half the height and width: each pixel the mean of four, rounded."""
    pixels, labels = images
    if size == pixels.shape[-1]:
        return images
    count, channels = pixels.shape[:2]
    sums = pixels.reshape(count, channels, size, 2, size, 2).sum(axis=(3, 5), dtype=np.uint16)
    return ((sums + np.uint16(2)) // 4).astype(np.uint8), labels


def _limited(images: Images, limit: int | None, seed: int) -> Images:
    if limit is None or limit >= len(images[1]):
        return images
    return _only(images, stratified(images[1], limit, seed))


def _only(images: Images, chosen: NDArray[np.int64]) -> Images:
    return images[0][chosen], images[1][chosen]


def _without(images: Images, chosen: NDArray[np.int64]) -> Images:
    return np.delete(images[0], chosen, axis=0), np.delete(images[1], chosen)


@lru_cache(maxsize=2)
def _digits(size: int) -> tuple[Images, Images]:
    # The file alone: importing scikit-learn takes a process two seconds before its first epoch.
    file = metadata.distribution("scikit-learn").locate_file("sklearn/datasets/data/digits.csv.gz")
    rows = np.loadtxt(str(file), delimiter=",", dtype=np.float32)  # 64 pixels and the digit
    grey = torch.from_numpy(rows[:, :-1]).reshape(-1, 1, 8, 8) * (255 / 16)
    large = F.interpolate(grey, size=(size, size), mode="bilinear", align_corners=False)
    images = large.round_().to(torch.uint8).expand(-1, 3, -1, -1).contiguous().numpy()
    labels = rows[:, -1].astype(np.int64)
    chosen = stratified(labels, len(labels) // 5, _DIGITS_SEED)
    return _without((images, labels), chosen), _only((images, labels), chosen)
