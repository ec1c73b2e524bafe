"""One image file as a network's input, converted as the images of a data set are."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from resnet_core.data import DataError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

_MODES = {1: "L", 3: "RGB"}


@dataclass(frozen=True)
class ImageFile:
    """An image that was read from a file.

    Attributes:
        pixels: uint8 [C, H, W].
        changes: what was changed or left out beside the colours, in words; empty where nothing was.
    """

    pixels: NDArray[np.uint8]
    changes: tuple[str, ...]


def read_image(
    file: Path,
    size: int,
    *,
    channels: int = 3,
    grey: bool = False,
    by_mean: bool = False,
    formats: tuple[str, ...] | None = None,
) -> ImageFile:
    """Read an image: its shorter side is resized to ``size`` pixels, and the middle is cut out.

    It is turned as the camera notes in it; of several frames it is the first. Transparency is left out, and of 16 bits
    a pixel the upper 8 are kept.

    Args:
        file: the file.
        size: height and width of the result in pixels.
        channels: 1 for grey, 3 for colours.
        grey: whether all channels are to be equal.
        by_mean: whether a pixel of a smaller image is the mean of the pixels that it covers, as in the data sets that
            ship; else the image is resized by linear interpolation, as in a folder of images.
        formats: the formats that are read, by Pillow's names, such as ``("PNG", "JPEG")``; None reads all.

    Raises:
        DataError: the file cannot be read as an image; the message names it.
    """
    import numpy as np
    from PIL import Image, ImageOps, UnidentifiedImageError

    if channels not in _MODES:
        raise DataError(f"{file}: expected a network for 1 or 3 channels; this one takes images of {channels}")
    if file.is_dir():
        raise DataError(f"{file}: a folder; expected the file of an image, such as {file}/*.png")
    if file.exists() and not file.is_file():  # a pipe would never be opened
        raise DataError(f"{file}: expected a regular file")
    try:
        with warnings.catch_warnings():
            # Pillow warns of what is large, and refuses what is very large. Its other warnings are of broken notes.
            warnings.filterwarnings("ignore", module="PIL")
            with Image.open(file, formats=formats) as opened:
                changes = _left_out(opened)
                image = _of_8_bits(ImageOps.exif_transpose(opened))
                if image.size != (size, size):
                    changes.append(_resized_from(image, size))
                by = Image.Resampling.BOX if by_mean and min(image.size) > size else Image.Resampling.BILINEAR
                image = ImageOps.fit(image.convert("L" if grey else _MODES[channels]), (size, size), by)
                pixels = np.asarray(image.convert(_MODES[channels]), np.uint8)
    except FileNotFoundError:
        raise DataError(f"{file}: no such file") from None
    except UnidentifiedImageError:
        kinds = " or ".join(formats) if formats else "readable"
        raise DataError(f"{file}: cannot be read as an image: not a {kinds} file, or a damaged one") from None
    except Exception as error:  # a damaged file may raise anything at all
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise DataError(f"{file}: cannot be read as an image: {reason}") from error
    return ImageFile(pixels[None] if channels == 1 else pixels.transpose(2, 0, 1), tuple(changes))


def _left_out(image: Image) -> list[str]:
    """Return what of a file is not looked at, in words."""
    found = []
    if getattr(image, "is_animated", False):
        found.append("the first of its frames")
    if image.has_transparency_data and image.convert("RGBA").getchannel("A").getextrema() != (255, 255):
        found.append("transparency left out")
    return found


def _of_8_bits(image: Image) -> Image:
    """Return an image whose pixels have 8 bits a channel; one that has them already is returned as it is."""
    import numpy as np
    from PIL.Image import fromarray

    if image.mode[0] not in "IF":
        return image
    pixels = np.asarray(image)  # convert would cut off at 255
    if image.mode == "F" or pixels.min() < 0 or pixels.max() > 0xFFFF:
        raise ValueError("expected whole numbers of 8 or 16 bits a pixel")
    return fromarray((pixels >> 8).astype(np.uint8))


def _resized_from(image: Image, size: int) -> str:
    width, height = image.size
    cut = "" if width == height else "its middle "
    return f"{cut}resized from {width}×{height} pixels to {size}×{size}"
