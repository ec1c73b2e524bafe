"""CIFAR-10, read and downloaded by torchvision (Krizhevsky 2009, *Learning Multiple Layers of Features*)."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from resnet_core.data import DatasetSpec, Images
from resnet_core.data.files import opened, reduced

if TYPE_CHECKING:
    from torchvision.datasets import CIFAR10

_FOLDER = "cifar-10-batches-py"


def read(data_dir: Path, image_size: int) -> tuple[Images, Images]:
    """Return the training and the test images, of 32 or 16 pixels a side.

    Raises:
        DataError: they are not under ``data_dir`` and the download fails.
    """
    train, test = read_files(data_dir)
    return reduced(train, 32 // image_size), reduced(test, 32 // image_size)


# A process trains many trials on the same images, and reads them once.
@lru_cache(maxsize=1)
def read_files(data_dir: Path) -> tuple[Images, Images]:
    """Return the training and the test images as the files have them.

    Raises:
        DataError: they are not under ``data_dir`` and the download fails.
    """
    import numpy as np

    parts = [_open(data_dir, train=train) for train in (True, False)]
    train, test = (
        (np.ascontiguousarray(part.data.transpose(0, 3, 1, 2)), np.asarray(part.targets, np.int64)) for part in parts
    )
    return train, test


def download(data_dir: Path) -> None:
    """Download the images unless they are under ``data_dir``.

    Raises:
        DataError: the download fails.
    """
    _open(data_dir, train=False)


def _open(data_dir: Path, *, train: bool) -> CIFAR10:
    from torchvision.datasets import CIFAR10  # takes seconds, which other data sets avoid

    # The files are pickles: torchvision opens them after it has compared their MD5 sums with the published ones.
    content = "the unpacked 'python version' of CIFAR-10"
    return opened(
        "CIFAR-10", data_dir / _FOLDER, content, lambda: CIFAR10(root=str(data_dir), train=train, download=True)
    )


DATASET = DatasetSpec(
    classes=10,
    train_size=50_000,
    test_size=10_000,
    image_sizes=(16, 32),
    read=read,
    folder=_FOLDER,
    download=download,
)
