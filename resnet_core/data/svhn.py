"""SVHN, cropped digits, without the extra images; read and downloaded by torchvision.

Source: Netzer et al. 2011, *Reading Digits in Natural Images with Unsupervised Feature Learning*: 73,257 training and
26,032 test images of 32×32 pixels, ten classes of unequal size. The files label the digit 0 as 10; here its label is 0.
A mirrored digit is no digit: a study of it sets ``flip = false``.
"""

from __future__ import annotations

from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from resnet_core.data import DatasetSpec, Images
from resnet_core.data.files import file_faults, opened, reduced

if TYPE_CHECKING:
    from torchvision.datasets import SVHN

_FOLDER = "svhn"


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

    parts = [_open(data_dir, split) for split in ("train", "test")]
    train, test = ((np.ascontiguousarray(part.data), np.asarray(part.labels, np.int64)) for part in parts)
    return train, test


def download(data_dir: Path) -> None:
    """Download the images unless they are under ``data_dir``.

    Raises:
        DataError: the download fails.
    """
    for split in ("train", "test"):
        _open(data_dir, split)


def _open(data_dir: Path, split: str) -> SVHN:
    from torchvision.datasets import SVHN

    place = data_dir / _FOLDER
    content = f"train_32x32.mat and test_32x32.mat of SVHN in a folder {_FOLDER!r}"
    return opened(
        "SVHN", place, content, lambda: SVHN(root=str(place), split=split, download=True), partial(_faults, data_dir)
    )


def _faults(data_dir: Path) -> list[str]:
    from torchvision.datasets import SVHN

    parts = (SVHN.split_list["train"], SVHN.split_list["test"])
    return file_faults(data_dir / _FOLDER, [(name, md5) for _, name, md5 in parts])


DATASET = DatasetSpec(
    classes=10,
    train_size=73_257,
    test_size=26_032,
    image_sizes=(16, 32),
    read=read,
    folder=_FOLDER,
    faults=_faults,
    download=download,
)
