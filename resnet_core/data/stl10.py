"""STL-10, its labelled images; downloaded by torchvision.

Source: Coates, Lee & Ng 2011, *An Analysis of Single Layer Networks in Unsupervised Feature Learning*: 5,000 training
and 8,000 test images of 96×96 pixels, ten classes of equal size. The 100,000 images without labels are not used, and
need not be there.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from typing import TypeVar

from resnet_core.data import DatasetSpec, Images
from resnet_core.data.files import file_faults, opened, reduced

_T = TypeVar("_T")
_FOLDER = "stl10_binary"
_SIDE = 96
_BYTES_PER_IMAGE = 3 * _SIDE * _SIDE
_FILES = ("train_X.bin", "train_y.bin", "test_X.bin", "test_y.bin")


def read(data_dir: Path, image_size: int) -> tuple[Images, Images]:
    """Return the training and the test images, of 96, 48 or 32 pixels a side.

    Raises:
        DataError: they are not under ``data_dir`` and the download fails, or a file is damaged.
    """
    train, test = _read_files(data_dir)
    return reduced(train, _SIDE // image_size), reduced(test, _SIDE // image_size)


@lru_cache(maxsize=1)
def _read_files(data_dir: Path) -> tuple[Images, Images]:
    download(data_dir)
    place = data_dir / _FOLDER
    return _opened(data_dir, lambda: (_read_part(place, "train"), _read_part(place, "test")))


def _read_part(place: Path, part: str) -> Images:
    """Return a part's images and labels: each image by channel and column, each label a byte from 1 to 10."""
    import numpy as np

    pixels, labels = (np.fromfile(place / f"{part}_{kind}.bin", np.uint8) for kind in "Xy")
    if len(pixels) != _BYTES_PER_IMAGE * len(labels):
        raise ValueError(
            f"{place}/{part}_X.bin has {len(pixels):,} bytes: expected {_BYTES_PER_IMAGE:,} for each of the "
            f"{len(labels):,} labels in {part}_y.bin"
        )
    images = pixels.reshape(-1, 3, _SIDE, _SIDE).transpose(0, 1, 3, 2)
    return np.ascontiguousarray(images), labels.astype(np.int64) - 1


def download(data_dir: Path) -> None:
    """Download the images unless they are under ``data_dir``.

    Raises:
        DataError: the download fails.
    """
    if not all((data_dir / _FOLDER / name).is_file() for name in _FILES):
        _opened(data_dir, lambda: _fetch(data_dir))


def _opened(data_dir: Path, open_or_download: Callable[[], _T]) -> _T:
    content = f"the unpacked 'binary files' of STL-10 ({', '.join(_FILES)} in a folder {_FOLDER!r})"
    return opened("STL-10", data_dir / _FOLDER, content, open_or_download, partial(_faults, data_dir))


def _faults(data_dir: Path) -> list[str]:
    from torchvision.datasets import STL10

    known = dict([*STL10.train_list, *STL10.test_list])
    return file_faults(data_dir / _FOLDER, [(name, known[name]) for name in _FILES])


def _fetch(data_dir: Path) -> None:
    from torchvision.datasets import STL10
    from torchvision.datasets.utils import download_and_extract_archive

    download_and_extract_archive(STL10.url, str(data_dir), filename=STL10.filename, md5=STL10.tgz_md5)


DATASET = DatasetSpec(
    classes=10,
    train_size=5_000,
    test_size=8_000,
    image_sizes=(32, 48, 96),
    read=read,
    folder=_FOLDER,
    faults=_faults,
    download=download,
    names=("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck"),
)
