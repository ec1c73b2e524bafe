"""Fashion-MNIST, grey images of clothes; read and downloaded by torchvision.

Source: Xiao, Rasul & Vollgraf 2017 (arXiv 1708.07747): 60,000 training and 10,000 test images of 28×28 pixels and one
channel, ten classes of equal size.
"""

from __future__ import annotations

from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from resnet_core.data import DatasetSpec, Images
from resnet_core.data.files import file_faults, opened, reduced

if TYPE_CHECKING:
    from torchvision.datasets import FashionMNIST

_FOLDER = "FashionMNIST"  # the folder that torchvision makes
_BYTES = {
    "train-images-idx3-ubyte": 16 + 60_000 * 28 * 28,
    "train-labels-idx1-ubyte": 8 + 60_000,
    "t10k-images-idx3-ubyte": 16 + 10_000 * 28 * 28,
    "t10k-labels-idx1-ubyte": 8 + 10_000,
}


def read(data_dir: Path, image_size: int) -> tuple[Images, Images]:
    """Return the training and the test images, of 28 or 14 pixels a side.

    Raises:
        DataError: they are not under ``data_dir`` and the download fails.
    """
    train, test = _read_files(data_dir)
    return reduced(train, 28 // image_size), reduced(test, 28 // image_size)


@lru_cache(maxsize=1)
def _read_files(data_dir: Path) -> tuple[Images, Images]:
    import numpy as np

    parts = [_open(data_dir, train=train) for train in (True, False)]
    train, test = ((part.data.numpy()[:, None], part.targets.numpy().astype(np.int64)) for part in parts)
    return train, test


def download(data_dir: Path) -> None:
    """Download the images unless they are under ``data_dir``.

    Raises:
        DataError: the download fails.
    """
    _open(data_dir, train=False)


def _open(data_dir: Path, *, train: bool) -> FashionMNIST:
    from torchvision.datasets import FashionMNIST

    content = f"the four idx files of Fashion-MNIST, such as {_FOLDER}/raw/train-images-idx3-ubyte,"
    return opened(
        "Fashion-MNIST",
        data_dir / _FOLDER,
        content,
        lambda: FashionMNIST(root=str(data_dir), train=train, download=True),
        partial(_faults, data_dir),
    )


def _faults(data_dir: Path) -> list[str]:
    return file_faults(data_dir / _FOLDER / "raw", _BYTES.items())


DATASET = DatasetSpec(
    classes=10,
    train_size=60_000,
    test_size=10_000,
    image_sizes=(14, 28),
    channels=1,
    read=read,
    folder=_FOLDER,
    faults=_faults,
    download=download,
    names=("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
