"""The files of CIFAR-10 and CIFAR-100, which have one format, read and downloaded by torchvision."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from resnet_core.data import Images
from resnet_core.data.files import file_faults, opened

if TYPE_CHECKING:
    from torchvision.datasets import CIFAR10

FOLDERS = {"CIFAR-10": "cifar-10-batches-py", "CIFAR-100": "cifar-100-python"}
"""For each title, the folder of its files below the folder for data."""
Title = Literal["CIFAR-10", "CIFAR-100"]


def read_cifar(title: Title, data_dir: Path) -> tuple[Images, Images]:
    """Return the training and the test images as the files have them.

    Raises:
        DataError: they are not under ``data_dir`` and the download fails.
    """
    import numpy as np

    parts = [open_cifar(title, data_dir, train=train) for train in (True, False)]
    train, test = (
        (np.ascontiguousarray(part.data.transpose(0, 3, 1, 2)), np.asarray(part.targets, np.int64)) for part in parts
    )
    return train, test


def open_cifar(title: Title, data_dir: Path, *, train: bool) -> CIFAR10:
    """Return one part as torchvision's data set; it is downloaded unless it is under ``data_dir``.

    Raises:
        DataError: the download fails.
    """
    from torchvision.datasets import CIFAR10, CIFAR100  # takes seconds, which other data sets avoid

    kind = CIFAR10 if title == "CIFAR-10" else CIFAR100
    # The files are pickles: torchvision opens them after it has compared their MD5 sums with the published ones.
    content = f"the unpacked 'python version' of {title}"
    place = data_dir / FOLDERS[title]
    return opened(
        title,
        place,
        content,
        lambda: kind(root=str(data_dir), train=train, download=True),
        partial(faults, title, data_dir),
    )


def faults(title: Title, data_dir: Path) -> list[str]:
    """Return which files are missing, damaged or cannot be read, in words; their MD5 sums are compared."""
    from torchvision.datasets import CIFAR10, CIFAR100

    kind = CIFAR10 if title == "CIFAR-10" else CIFAR100
    return file_faults(
        data_dir / FOLDERS[title], [*kind.train_list, *kind.test_list, (kind.meta["filename"], kind.meta["md5"])]
    )
