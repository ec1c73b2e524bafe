"""Data sets by name: one module each, which defines a ``DATASET``. Importing them loads neither torch nor numpy.

To add a data set, add a module here. Its classes, sizes and splits follow from its ``DATASET`` everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from resnet_core.registry import Registry

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Images: TypeAlias = "tuple[NDArray[np.uint8], NDArray[np.int64]]"
"""Images [N, C, H, W] and their labels [N], from 0 to classes - 1."""

Split = Literal["official", "pooled", "held-out"]


class DataError(RuntimeError):
    """A data set cannot be read; the message names it, the place that was searched, and what to do."""


def pixel_mean(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the mean of images [N, C, H, W], divided by 255, at each pixel: float32 [C, H, W]."""
    mean: NDArray[np.float32] = (images.mean(axis=0, dtype="float64") / 255).astype("float32")
    return mean


@dataclass(frozen=True)
class DatasetInfo:
    """The sizes of a data set. A trial on a data set of one's own carries them, so that no reader has to import it.

    Attributes:
        classes: number of classes; labels are 0 to classes - 1.
        train_size: number of training images.
        test_size: number of test images.
    """

    classes: int
    train_size: int
    test_size: int

    def __str__(self) -> str:
        return f"{self.classes} classes, {self.train_size:,} training and {self.test_size:,} test images"

    def split_sizes(self, split: Split) -> tuple[int, int]:
        """Return how many images train and how many validate.

        >>> DatasetInfo(classes=10, train_size=50_000, test_size=10_000).split_sizes("held-out")
        (45000, 5000)
        """
        if split == "held-out":
            held_out = self.train_size // 10
            return self.train_size - held_out, held_out
        return self.train_size, self.test_size


@dataclass(frozen=True)
class DatasetSpec(DatasetInfo):
    """The properties of a data set, and how to get its images.

    Attributes:
        classes: see DatasetInfo.
        train_size: see DatasetInfo.
        test_size: see DatasetInfo.
        image_sizes: heights, equal to widths, in pixels, in which the images can be read, in rising order. The largest
            is the default of a config's ``image_size``, except where this is a range: then a config must name one.
        read: takes the folder for data and one of ``image_sizes``; returns the training and the test images, and
            raises DataError if they are not available.
        folder: name of the images' folder below the folder for data; None where a package brings the images.
        faults: takes the folder for data, where ``folder`` is in it, and returns which files are missing or damaged, in
            words. None where that cannot be told.
        download: takes the folder for data and puts the images there; returns at once where they are complete, and
            raises DataError where it fails. None where there is nothing to download.
        channels: number of an image's channels, such as 3 for colours and 1 for grey.
        mean: takes the training images; returns the mean, float32 [C, H, W], that is subtracted from x/255.
        names: names of the classes, by label; empty where they have none.
        grey: whether the images are grey, as those of one channel always are: the channels are equal. An image file
            that is predicted is then made grey, too.
    """

    image_sizes: Sequence[int]
    read: Callable[[Path, int], tuple[Images, Images]]
    folder: str | None = None
    faults: Callable[[Path], Sequence[str]] | None = None
    download: Callable[[Path], None] | None = None
    channels: int = 3
    mean: Callable[[NDArray[np.uint8]], NDArray[np.float32]] = pixel_mean
    names: Sequence[str] = ()
    grey: bool = False

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, by label; their numbers where they have no names."""
        return tuple(map(str, self.names or range(self.classes)))

    @property
    def default_image_size(self) -> int | None:
        """The image size of a config that names none; None where it must name one."""
        return None if isinstance(self.image_sizes, range) else self.image_sizes[-1]

    def is_available(self, data_dir: Path) -> bool:
        """Return whether the images are there without a download; whether they are complete is not checked."""
        return self.folder is None or (data_dir / self.folder).is_dir()

    def ensure_available(self, data_dir: Path) -> None:
        """Download missing images. Called once before many trials start, so that they do not all download them.

        Raises:
            DataError: they are not under ``data_dir`` and the download fails.
        """
        if self.download is not None:
            self.download(data_dir)

    @property
    def info(self) -> DatasetInfo:
        """The sizes alone."""
        return DatasetInfo(self.classes, self.train_size, self.test_size)


DATASETS: Registry[DatasetSpec] = Registry(__name__, "DATASET")
"""The built-in data sets."""
