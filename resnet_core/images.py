"""The images of a run as tensors: its training, validation and test images, and a network's input made from them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from resnet_core import own
from resnet_core.config import TrialConfig
from resnet_core.data import DataError, DatasetSpec, Images
from resnet_core.sampling import stratified


@dataclass(frozen=True)
class Dataset:
    """The images of a run: those that train, those that validate, and those that test.

    Attributes:
        train_images: uint8 [N, C, H, W].
        train_labels: int64 [N].
        val_images: uint8 [M, C, H, W].
        val_labels: int64 [M].
        mean: float32 [C, H, W], subtracted from images / 255; see DatasetSpec.
        test_images: uint8 [T, C, H, W]; None where the config does not test.
        test_labels: int64 [T]; None where the config does not test.
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
        """The test images and their labels; only for a config that tests."""
        assert self.test_images is not None
        assert self.test_labels is not None
        return self.test_images, self.test_labels

    def to(self, device: torch.device) -> Dataset:
        """Return the same data on ``device``, in channels_last, the fastest layout for training."""
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
    """Return the images [B, C, H, W] at the indices ``chosen`` (int64 [B]); a channels_last layout is kept."""
    return images.permute(0, 2, 3, 1).index_select(0, chosen).permute(0, 3, 1, 2)


def normalise(images: Tensor, mean: Tensor) -> Tensor:
    """Return images x (uint8 [B, C, H, W]) as x/255 minus the mean [C, H, W]: float32, in channels_last."""
    scaled = images.to(torch.float32, memory_format=torch.channels_last).mul_(1 / 255)
    return scaled.sub_(mean)


def load(config: TrialConfig, data_dir: Path) -> Dataset:
    """Return the images that ``config`` trains and validates on.

    ``official`` trains on the data set's training images and validates on its test images.
    ``pooled`` puts both together and draws, from the config's seed, a stratified validation set of
    the test set's size. ``held-out`` validates on a stratified tenth of the training images, the same for
    every seed. It leaves the test images out, unless the config tests: then all of them are there
    too. A limit above the number of images takes all.

    Args:
        config: names the data set, the image size, the split and its limits.
        data_dir: the folder for data.

    Raises:
        CodeError: the code of a data set of one's own cannot be imported.
        ConfigError: the config does not fit that code.
        DataError: the images are not as the data set says, or not under ``data_dir`` and could not be downloaded.
    """
    config = own.resolve(config)
    spec = own.dataset(config.data)
    train, test = _parts(config.data, spec.read(data_dir, config.side))
    for part, images, count in (("training", train, spec.train_size), ("test", test, spec.test_size)):
        _check(f"the {part} images of {config.data}", images, count, spec, config.side)
    _, val_size = spec.split_sizes(config.split)
    if config.split == "official":
        train_set, val_set = train, test
    elif config.split == "pooled":
        pooled = (np.concatenate((train[0], test[0])), np.concatenate((train[1], test[1])))
        chosen = stratified(pooled[1], val_size, config.seed)
        train_set, val_set = _without(pooled, chosen), _only(pooled, chosen)
    else:
        chosen = stratified(train[1], val_size, seed=0)
        train_set, val_set = _without(train, chosen), _only(train, chosen)
    train_set = _limited(train_set, config.train_limit, config.seed)
    val_set = _limited(val_set, config.val_limit, config.seed)
    return Dataset(
        torch.from_numpy(train_set[0]),
        torch.from_numpy(train_set[1]),
        torch.from_numpy(val_set[0]),
        torch.from_numpy(val_set[1]),
        torch.from_numpy(_mean(config.data, spec, train_set[0])),
        *(map(torch.from_numpy, test) if config.test else ()),
    )


def _parts(name: str, read: object) -> list[Images]:
    """Return the training and the test images that a data set's ``read`` has returned, contiguous in memory."""
    match read:
        case (np.ndarray(), np.ndarray()) as train, (np.ndarray(), np.ndarray()) as test:
            return [(np.ascontiguousarray(images), np.ascontiguousarray(labels)) for images, labels in (train, test)]
    expected = "((images, labels), (test images, test labels)), NumPy arrays all"
    raise DataError(f"read of {name} has returned {_shape(read)}: expected {expected}")


def _shape(value: object) -> str:
    """Return what a value is, in a few words: tuples by their elements, all else by its type."""
    if isinstance(value, tuple) and len(value) <= 4:
        return f"({', '.join(map(_shape, value))})"
    return type(value).__name__


def _mean(name: str, spec: DatasetSpec, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    mean: Any = spec.mean(images)
    shape, got = images.shape[1:], list(mean.shape) if isinstance(mean, np.ndarray) else []
    if len(got) != 3 or any(side not in (1, whole) for side, whole in zip(got, shape, strict=True)):
        said = got or f"a value of type {type(mean).__name__}"
        raise DataError(f"mean of {name} has returned {said}: expected an array {list(shape)}")
    return np.asarray(mean, np.float32)


def _check(what: str, part: Images, count: int, spec: DatasetSpec, side: int) -> None:
    images, labels = part
    shape = (count, spec.channels, side, side)
    if images.shape != shape or images.dtype != np.uint8:
        raise DataError(f"{what} are {images.dtype} {list(images.shape)}: expected uint8 {list(shape)}")
    if labels.shape != (count,) or labels.dtype != np.int64:
        raise DataError(f"the labels of {what} are {labels.dtype} {list(labels.shape)}: expected int64 [{count}]")
    if labels.min() < 0 or labels.max() >= spec.classes:
        low, high = labels.min(), labels.max()
        raise DataError(f"the labels of {what} are {low} to {high}: expected 0 to {spec.classes - 1}")


def _limited(images: Images, limit: int | None, seed: int) -> Images:
    if limit is None or limit >= len(images[1]):
        return images
    return _only(images, stratified(images[1], limit, seed))


def _only(images: Images, chosen: NDArray[np.int64]) -> Images:
    return images[0][chosen], images[1][chosen]


def _without(images: Images, chosen: NDArray[np.int64]) -> Images:
    return np.delete(images[0], chosen, axis=0), np.delete(images[1], chosen)
