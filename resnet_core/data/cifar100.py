"""CIFAR-100 with its 100 fine labels, read and downloaded by torchvision.

Source: Krizhevsky 2009, *Learning Multiple Layers of Features from Tiny Images*: 500 training and 100 test images of
32×32 pixels of each class.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from resnet_core.data import DatasetSpec, Images
from resnet_core.data.files import opened, reduced

if TYPE_CHECKING:
    from torchvision.datasets import CIFAR100

_FOLDER = "cifar-100-python"


def read(data_dir: Path, image_size: int) -> tuple[Images, Images]:
    """Return the training and the test images, of 32 or 16 pixels a side.

    Raises:
        DataError: they are not under ``data_dir`` and the download fails.
    """
    train, test = _read_files(data_dir)
    return reduced(train, 32 // image_size), reduced(test, 32 // image_size)


@lru_cache(maxsize=1)
def _read_files(data_dir: Path) -> tuple[Images, Images]:
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


def _open(data_dir: Path, *, train: bool) -> CIFAR100:
    from torchvision.datasets import CIFAR100

    # The files are pickles: torchvision opens them after it has compared their MD5 sums with the published ones.
    content = "the unpacked 'python version' of CIFAR-100"
    return opened(
        "CIFAR-100", data_dir / _FOLDER, content, lambda: CIFAR100(root=str(data_dir), train=train, download=True)
    )


DATASET = DatasetSpec(
    classes=100,
    train_size=50_000,
    test_size=10_000,
    image_sizes=(16, 32),
    read=read,
    folder=_FOLDER,
    download=download,
)
