"""What the data sets that are read from files share: a download that says what to do, and smaller images."""

from __future__ import annotations

import contextlib
import hashlib
import io
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from resnet_core.data import DataError, Images

_T = TypeVar("_T")


def opened(
    title: str,
    place: Path,
    content: str,
    open_or_download: Callable[[], _T],
    faults: Callable[[], Sequence[str]],
) -> _T:
    """Return what ``open_or_download`` returns.

    Args:
        title: the data set's usual name.
        place: the folder that holds its files, in the folder for data.
        content: what a user has to put into the folder for data, in words.
        open_or_download: reads the files and downloads them first where they are missing. What it prints is dropped,
            since stdout is for results.
        faults: returns what is wrong with the files in ``place``, in words.

    Raises:
        DataError: the files are not there and cannot be downloaded, or cannot be read.
    """
    for folder in (place.parent, place):
        if folder.exists() and not folder.is_dir():
            raise DataError(f"{title}: {folder} is no folder. {_put(content)}")
    missing = [folder for folder in (place, *place.parents) if not folder.exists()]
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            return open_or_download()
    except (OSError, RuntimeError, ValueError) as error:
        below = sorted(place.rglob("*/"), reverse=True) if place in missing else []
        for folder in (*below, *missing):
            with contextlib.suppress(OSError):  # it holds something, or was not made
                folder.rmdir()
        if place.is_dir() and (found := faults()):
            raise DataError(
                f"{title} in {place} cannot be used: {', '.join(found)} ({error}). Put {content} there again, or name "
                "another folder with --data or SWEEPS_DATA."
            ) from error
        raise DataError(
            f"{title} is not in {place.parent} (looked for {place}) and could not be downloaded: {error}. "
            f"{_put(content)}"
        ) from error


def _put(content: str) -> str:
    return f"Put {content} there, or name the folder that holds it with --data or SWEEPS_DATA."


def file_faults(place: Path, files: Iterable[tuple[str, str | int]]) -> list[str]:
    """Return which files are missing, damaged or cannot be read, in words.

    Args:
        place: the folder of the files.
        files: the name of each, with its MD5 sum, or its size in bytes where no sum is published.
    """
    found = []
    for name, expected in files:
        try:
            with (place / name).open("rb") as file:
                if isinstance(expected, int):
                    whole = file.seek(0, io.SEEK_END) == expected
                else:
                    md5 = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False))
                    whole = md5.hexdigest() == expected
            if not whole:
                found.append(f"{name} is damaged")
        except FileNotFoundError:
            found.append(f"{name} is missing")
        except OSError as error:
            found.append(f"{name} cannot be read ({error.strerror})")
    return found


def reduced(images: Images, factor: int) -> Images:
    """Return images at 1/factor of their height and width: each pixel is the mean of factor·factor, rounded.

    Args:
        images: uint8 [N, C, H, W] and their labels; factor divides H and W.
        factor: 1 or more; 1 returns the images unchanged.
    """
    import numpy as np

    if factor == 1:
        return images
    pixels, labels = images
    count, channels, height, width = pixels.shape
    blocks = pixels.reshape(count, channels, height // factor, factor, width // factor, factor)
    sums, area = blocks.sum(axis=(3, 5), dtype=np.uint16), factor * factor
    return ((sums + np.uint16(area // 2)) // area).astype(np.uint8), labels
