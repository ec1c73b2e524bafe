"""A folder of images as a data set, as torchvision lays it out: a folder for each class, in ``train`` and in ``val``.

``PATH/train/CLASS/*.png`` train, and those of ``PATH/val`` (or ``PATH/test``) are the test images. Where there is
neither, a stratified fifth of the training images takes their place.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from resnet_core.data import DataError, DatasetSpec, Images
from resnet_core.image_file import read_image

_KINDS = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
_TESTS = ("val", "test")
_TEST_SHARE = 5  # without val and test, one image in so many is a test image
IMAGE_SIZES = range(8, 1025)
"""Heights, equal to widths, in pixels, to which the images can be resized."""


def image_folder(root: Path) -> DatasetSpec:
    """Return the data set of a folder. The images are counted, not opened.

    Raises:
        DataError: there is no such folder, a class has no image, or train and val have other classes.
    """
    train, tests = _files(root)
    test_size = sum(map(len, tests.values())) if tests else sum(map(len, train.values())) // _TEST_SHARE
    train_size = sum(map(len, train.values())) - (0 if tests else test_size)

    def read(data_dir: Path, image_size: int) -> tuple[Images, Images]:  # noqa: ARG001  # the folder has its own path
        return _read(root, image_size)

    return DatasetSpec(len(train), train_size, test_size, image_sizes=IMAGE_SIZES, read=read, names=tuple(train))


def _files(root: Path) -> tuple[dict[str, list[Path]], dict[str, list[Path]]]:
    """Return the image files of each class that train, and that test; the second is empty without val and test."""
    train = _classes(root / "train")
    part = next((part for part in _TESTS if (root / part).is_dir()), None)
    if part is None:
        if sum(map(len, train.values())) // _TEST_SHARE < 1:
            raise DataError(f"{root}: expected a folder val or test, or {_TEST_SHARE} images or more in train")
        return train, {}
    tests = _classes(root / part)
    if train.keys() != tests.keys():
        only = [
            f"{', '.join(sorted(mine.keys() - other.keys()))} only in {name}"
            for name, mine, other in (("train", train, tests), (part, tests, train))
            if mine.keys() - other.keys()
        ]
        raise DataError(f"{root}: train and {part} have other classes: {'; '.join(only)}")
    return train, tests


def _classes(folder: Path) -> dict[str, list[Path]]:
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; expected PATH/train/CLASS/IMAGE.png below imagefolder:PATH")
    classes = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    found = {path.name: _images(path) for path in classes}
    if len(found) < 2:
        raise DataError(f"{folder}: expected two folders or more, one a class; found {len(found)}")
    for name, files in found.items():
        if not files:
            raise DataError(f"{folder / name}: a class without an image; expected files of {', '.join(_KINDS)}")
    return found


def _images(folder: Path) -> list[Path]:
    """Return the image files in a folder and below it; in hidden ones, systems keep notes about others, and copies."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in _KINDS
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and not path.is_dir()
    )


@lru_cache(maxsize=2)  # a process trains many trials on the same images, and decodes them once
def _read(root: Path, image_size: int) -> tuple[Images, Images]:
    import numpy as np

    from resnet_core.sampling import stratified

    train, tests = _files(root)
    images, labels = _decoded(train, image_size)
    if tests:
        return (images, labels), _decoded(tests, image_size)
    chosen = stratified(labels, len(labels) // _TEST_SHARE, seed=0)
    rest = (np.delete(images, chosen, axis=0), np.delete(labels, chosen))
    return rest, (images[chosen], labels[chosen])


def _decoded(classes: dict[str, list[Path]], size: int) -> Images:
    import numpy as np

    files = [(file, label) for label, name in enumerate(classes) for file in classes[name]]
    images = np.empty((len(files), 3, size, size), np.uint8)
    for place, (file, _) in zip(images, files, strict=True):
        place[:] = read_image(file, size).pixels
    return images, np.asarray([label for _, label in files], np.int64)
