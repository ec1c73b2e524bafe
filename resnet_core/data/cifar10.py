"""CIFAR-10, read and downloaded by torchvision (Krizhevsky 2009, *Learning Multiple Layers of Features*)."""

from __future__ import annotations

from functools import lru_cache, partial
from pathlib import Path

from resnet_core.data import DatasetSpec, Images
from resnet_core.data.files import reduced
from resnet_core.data.files.cifar import FOLDERS, Title, faults, open_cifar, read_cifar

_TITLE: Title = "CIFAR-10"


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
    return read_cifar(_TITLE, data_dir)


def download(data_dir: Path) -> None:
    """Download the images unless they are under ``data_dir``.

    Raises:
        DataError: the download fails.
    """
    open_cifar(_TITLE, data_dir, train=False)


DATASET = DatasetSpec(
    classes=10,
    train_size=50_000,
    test_size=10_000,
    image_sizes=(16, 32),
    read=read,
    folder=FOLDERS[_TITLE],
    faults=partial(faults, _TITLE),
    download=download,
    names=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
)
