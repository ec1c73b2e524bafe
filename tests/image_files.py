"""Files in the formats of the data sets that ship, with few images, so that tests read what a download would bring."""

from __future__ import annotations

import gzip
import hashlib
import pickle
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torchvision.datasets
from numpy.typing import NDArray
from scipy.io import savemat

from resnet_core import data
from resnet_core.data import DATASETS, DatasetSpec

Part = tuple[NDArray[np.uint8], NDArray[np.int64]]
"""Images [N, C, H, W] and labels [N]."""


def small(spec: DatasetSpec, per_class: int = 12, tests_per_class: int = 3) -> DatasetSpec:
    """Return a data set with fewer images."""
    return replace(spec, train_size=per_class * spec.classes, test_size=tests_per_class * spec.classes)


def made(spec: DatasetSpec, seed: int = 0) -> tuple[Part, Part]:
    """Return training and test images of random pixels, with every class in each part."""
    random = np.random.default_rng(seed)
    parts = []
    for count in (spec.train_size, spec.test_size):
        shape = (count, spec.channels, spec.image_sizes[-1], spec.image_sizes[-1])
        labels = random.permutation(np.arange(count) % spec.classes)
        parts.append((random.integers(0, 256, shape, np.uint8), labels))
    return parts[0], parts[1]


def write(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch, **sizes: int) -> tuple[Part, Part]:
    """Write a small data set in the format of ``name``, and have the project take it for the whole one.

    Returns:
        The training and the test images that the files hold.
    """
    spec = small(DATASETS[name], **sizes)
    parts = made(spec)
    monkeypatch.setitem(DATASETS._entries, name, spec)
    _WRITERS[name](folder, *parts, monkeypatch)
    return parts


def _cifar(folder: Path, train: Part, test: Part, monkeypatch: pytest.MonkeyPatch, kind: str, label: str) -> None:
    """Write pickled batches, and have torchvision expect their MD5 sums."""
    dataset = getattr(torchvision.datasets, kind)
    place = folder / dataset.base_folder
    place.mkdir(parents=True)
    first, *others = dataset.train_list
    batches = [(first[0], train), *((name, (train[0][:0], train[1][:0])) for name, _ in others)]
    sums = {}
    for name, (images, labels) in [*batches, (dataset.test_list[0][0], test)]:
        content = pickle.dumps({"data": images.reshape(-1, 3072), label: labels.tolist()})
        (place / name).write_bytes(content)
        sums[name] = hashlib.md5(content).hexdigest()
    meta = pickle.dumps({dataset.meta["key"]: [str(i) for i in range(100)]})
    (place / dataset.meta["filename"]).write_bytes(meta)
    monkeypatch.setattr(dataset, "train_list", [[name, sums[name]] for name, _ in batches])
    monkeypatch.setattr(dataset, "test_list", [[name, sums[name]] for name, _ in dataset.test_list])
    monkeypatch.setattr(dataset, "meta", {**dataset.meta, "md5": hashlib.md5(meta).hexdigest()})


def _cifar10(folder: Path, train: Part, test: Part, monkeypatch: pytest.MonkeyPatch) -> None:
    _cifar(folder, train, test, monkeypatch, "CIFAR10", "labels")


def _cifar100(folder: Path, train: Part, test: Part, monkeypatch: pytest.MonkeyPatch) -> None:
    _cifar(folder, train, test, monkeypatch, "CIFAR100", "fine_labels")


def _svhn(folder: Path, train: Part, test: Part, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write MATLAB files of [H, W, C, N], in which the digit 0 has the label 10."""
    place = folder / "svhn"
    place.mkdir(parents=True)
    known = {}
    for name, (images, labels) in {"train": train, "test": test}.items():
        url, file, _ = torchvision.datasets.SVHN.split_list[name]
        digits = np.where(labels == 0, 10, labels).astype(np.uint8)[:, None]
        savemat(place / file, {"X": images.transpose(2, 3, 1, 0), "y": digits})
        known[name] = [url, file, hashlib.md5((place / file).read_bytes()).hexdigest()]
    monkeypatch.setattr(torchvision.datasets.SVHN, "split_list", known)


def _fashion_mnist(folder: Path, train: Part, test: Part, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write idx files: a magic number, the sizes and the bytes."""
    place = folder / "FashionMNIST" / "raw"
    place.mkdir(parents=True)
    for name, (images, labels) in {"train": train, "t10k": test}.items():
        count, _, height, width = images.shape
        pixels = struct.pack(">4i", 0x803, count, height, width) + images.tobytes()
        digits = struct.pack(">2i", 0x801, count) + labels.astype(np.uint8).tobytes()
        for kind, content in (("images-idx3", pixels), ("labels-idx1", digits)):
            (place / f"{name}-{kind}-ubyte").write_bytes(content)
            (place / f"{name}-{kind}-ubyte.gz").write_bytes(gzip.compress(content, 1))


def _stl10(folder: Path, train: Part, test: Part, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write images by channel and column, and labels from 1."""
    place = folder / "stl10_binary"
    place.mkdir(parents=True)
    for name, (images, labels) in {"train": train, "test": test}.items():
        (place / f"{name}_X.bin").write_bytes(np.ascontiguousarray(images.transpose(0, 1, 3, 2)).tobytes())
        (place / f"{name}_y.bin").write_bytes((labels + 1).astype(np.uint8).tobytes())


_WRITERS: dict[str, Callable[[Path, Part, Part, pytest.MonkeyPatch], None]] = {
    "cifar10": _cifar10,
    "cifar100": _cifar100,
    "svhn": _svhn,
    "fashion_mnist": _fashion_mnist,
    "stl10": _stl10,
}
FROM_FILES = tuple(_WRITERS)
"""The data sets that are read from files."""
assert set(FROM_FILES) == {name for name, spec in data.DATASETS.items() if spec.folder is not None}
