"""CIFAR-10 through torchvision: found, checked, downloaded where it is missing, read."""

from __future__ import annotations

import contextlib
import io
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torchvision.datasets import CIFAR10

Images = tuple[NDArray[np.uint8], NDArray[np.int64]]
"""Images [N, 3, H, W] and their labels [N]."""


class DataError(RuntimeError):
    """Images could not be had; the message says which, where they were looked for and what to do."""


def ensure_available(data_dir: Path) -> None:
    """Download the images where they are missing; once, ahead of many trials that would all do it.

    Raises:
        DataError: they are not under ``data_dir`` and could not be downloaded.
    """
    _opened(data_dir, train=False)


# A worker trains many trials on the same images: they are read once a process.
@lru_cache(maxsize=1)
def read(data_dir: Path) -> tuple[Images, Images]:
    """Return the training and the test images.

    Raises:
        DataError: they are not under ``data_dir`` and could not be downloaded.
    """
    parts = [_opened(data_dir, train=train) for train in (True, False)]
    train, test = (
        (np.ascontiguousarray(part.data.transpose(0, 3, 1, 2)), np.asarray(part.targets, np.int64)) for part in parts
    )
    return train, test


def _opened(data_dir: Path, *, train: bool) -> CIFAR10:
    from torchvision.datasets import CIFAR10  # takes seconds, which a study of other images need not spend

    try:
        # torchvision announces downloads on stdout, which belongs to results.
        with contextlib.redirect_stdout(io.StringIO()):
            return CIFAR10(root=str(data_dir), train=train, download=True)
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"CIFAR-10 is not in {data_dir} (looked for {data_dir / 'cifar-10-batches-py'}) and could not be "
            f"downloaded: {error}. Put the unpacked 'python version' of CIFAR-10 there, or name the folder "
            "that holds it with --data or SWEEPS_DATA."
        ) from error
