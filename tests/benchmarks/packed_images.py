"""CIFAR-10 packed small, for a machine that takes few megabytes at a time and reaches nothing else.

``pack`` writes two folders of 55 MB: the first has two fifths of the training images and all test images, the second
the others. ``unpack`` makes arrays of them; ``read`` returns those as cifar10.read_files does, where the others
are missing with mirror images of the first in their place, which is enough for timing.
"""

from __future__ import annotations

import functools
import lzma
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from resnet_core.data import Images, cifar10

FOLDER = "SWEEPS_BENCHMARK_IMAGES"
"""Names, in the environment, the folder of unpacked images that benchmarks read instead of CIFAR-10's."""
_PARTS = ("train_1", "test", "train_2")
_FIRST = _PARTS[:2]
_SHARE = 0.4  # of the training images, in the first part: so the folders are as large
_PIECES = 8  # of a part, packed and unpacked at once


def pack(data_dir: Path, folder: Path) -> list[Path]:
    """Write ``folder``/1 and ``folder``/2 from the CIFAR-10 in ``data_dir``; return the two."""
    (images, labels), test = cifar10.read_files(data_dir)
    cut = round(_SHARE * len(labels))
    parts = {"train_1": (images[:cut], labels[:cut]), "test": test, "train_2": (images[cut:], labels[cut:])}
    folders = [folder / "1", folder / "2"]
    for name, (pictures, classes) in parts.items():
        place = folders[name not in _FIRST]
        place.mkdir(parents=True, exist_ok=True)
        np.save(place / f"{name}_labels.npy", classes.astype(np.uint8))
        with ProcessPoolExecutor() as pool:
            pieces = np.array_split(pictures, _PIECES)
            for number, packed in enumerate(pool.map(_packed, pieces)):
                (place / f"{name}_{number}.xz").write_bytes(packed)
    return folders


def unpack(packed: Path, folder: Path) -> None:
    """Unpack one of those folders into ``folder``, beside what is there."""
    folder.mkdir(parents=True, exist_ok=True)
    for labels in sorted(packed.glob("*_labels.npy")):
        name = labels.name.removesuffix("_labels.npy")
        files = [packed / f"{name}_{number}.xz" for number in range(_PIECES)]
        with ProcessPoolExecutor() as pool:
            images = np.concatenate(list(pool.map(_unpacked, files)))
        np.savez(folder / f"{name}.npz", images=images, labels=np.load(labels).astype(np.int64))


@functools.lru_cache(maxsize=1)
def read(folder: Path) -> tuple[Images, Images]:
    """Return training and test images and labels, as cifar10.read_files does."""
    first, test = (_load(folder / f"{name}.npz") for name in _FIRST)
    second = (first[0][:, :, :, ::-1], first[1]) if _is_incomplete(folder) else _load(folder / "train_2.npz")
    images, labels = (np.concatenate(pair) for pair in zip(first, second, strict=True))
    every = np.arange(round(len(first[1]) / _SHARE)) % len(labels)
    return (images[every], labels[every]), test


def read_instead() -> None:
    """Have this process read unpacked images where the environment names them."""
    folder = os.environ.get(FOLDER)
    if folder is not None:
        cifar10.read_files = lambda _data_dir: read(Path(folder))  # type: ignore[assignment]


def incomplete() -> bool:
    """Return whether this process reads unpacked images of which the second folder is missing."""
    folder = os.environ.get(FOLDER)
    return folder is not None and _is_incomplete(Path(folder))


def _is_incomplete(folder: Path) -> bool:
    return not (folder / "train_2.npz").exists()


def _load(path: Path) -> Images:
    with np.load(path) as arrays:
        return arrays["images"], arrays["labels"]


def _packed(images: NDArray[np.uint8]) -> bytes:
    """Pack uint8 [N, 3, H, W]: differences to the pixels above and to the left, and of red and blue to green."""
    wrapped = images.copy()  # sums and differences of bytes wrap around, and so come back whole
    wrapped[:, 0] -= images[:, 1]
    wrapped[:, 2] -= images[:, 1]
    for axis in (2, 3):
        wrapped = np.diff(wrapped, axis=axis, prepend=np.zeros_like(wrapped.take([0], axis=axis)))
    return lzma.compress(np.array(images.shape, np.int64).tobytes() + wrapped.tobytes(), preset=1)


def _unpacked(path: Path) -> NDArray[np.uint8]:
    data = lzma.decompress(path.read_bytes())
    shape = np.frombuffer(data, np.int64, 4)
    images = np.frombuffer(data, np.uint8, offset=4 * 8).reshape(shape)
    for axis in (3, 2):
        images = np.cumsum(images, axis=axis, dtype=np.uint8)
    images[:, 0] += images[:, 1]
    images[:, 2] += images[:, 1]
    return images
