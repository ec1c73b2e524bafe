import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from resnet_core.data import DataError
from resnet_core.image_file import read_image

RANDOM = np.random.default_rng(0)
COLOURS = RANDOM.integers(0, 256, (32, 32, 3), dtype=np.uint8)
GREY = COLOURS[:, :, 0]


@pytest.fixture
def saved(tmp_path):
    def save(pixels, name="image.png", **options):
        image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
        image.save(tmp_path / name, **options)
        return tmp_path / name

    return save


def test_an_image_of_the_right_size_is_taken_as_it_is(saved):
    read = read_image(saved(COLOURS), 32)
    assert np.array_equal(read.pixels, COLOURS.transpose(2, 0, 1))
    assert read.changes == ()


@pytest.mark.parametrize(("channels", "grey"), [(1, False), (1, True), (3, True), (3, False)])
def test_a_grey_image_has_its_pixels_in_every_channel(saved, channels, grey):
    read = read_image(saved(GREY), 32, channels=channels, grey=grey)
    assert np.array_equal(read.pixels, np.stack([GREY] * channels))


@pytest.mark.parametrize("channels", [1, 3])
def test_colours_become_grey_where_the_data_set_is(saved, channels):
    read = read_image(saved(COLOURS), 32, channels=channels, grey=True)
    luma = COLOURS @ np.array([0.299, 0.587, 0.114])  # ITU-R 601-2, as Pillow says
    assert read.pixels.shape == (channels, 32, 32)
    assert np.abs(read.pixels - luma).max() < 1


def test_a_smaller_image_is_the_mean_of_squares(saved):
    read = read_image(saved(COLOURS), 16, by_mean=True)
    means = COLOURS.reshape(16, 2, 16, 2, 3).mean((1, 3)).transpose(2, 0, 1)
    assert np.abs(read.pixels - means).max() <= 1  # rounded once in each direction
    assert read.changes == ("resized from 32×32 pixels to 16×16",)


def test_of_a_wide_image_the_middle_is_taken(saved):
    wide = np.concatenate((np.zeros_like(COLOURS), COLOURS, np.full_like(COLOURS, 255)), axis=1)
    read = read_image(saved(wide), 32)
    assert np.array_equal(read.pixels, COLOURS.transpose(2, 0, 1))
    assert read.changes == ("its middle resized from 96×32 pixels to 32×32",)


def test_an_image_is_turned_as_its_camera_notes(saved):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    read = read_image(saved(COLOURS, exif=exif.tobytes()), 32)
    assert np.array_equal(read.pixels, np.rot90(COLOURS, -1).transpose(2, 0, 1))


def test_of_16_bits_the_upper_8_are_kept(saved):
    read = read_image(saved(Image.fromarray(GREY.astype(np.uint16) * 256 + 99)), 32)
    assert np.array_equal(read.pixels, np.stack([GREY] * 3))


def test_transparency_is_left_out_and_said(saved):
    see_through = np.dstack((COLOURS, np.full((32, 32), 10, np.uint8)))
    read = read_image(saved(see_through), 32)
    assert np.array_equal(read.pixels, COLOURS.transpose(2, 0, 1))
    assert read.changes == ("transparency left out",)
    see_through[:, :, 3] = 255
    assert read_image(saved(see_through), 32).changes == ()


def test_of_an_animation_the_first_frame_is_taken(saved):
    others = [Image.fromarray(255 - COLOURS), Image.fromarray(COLOURS)]
    read = read_image(saved(COLOURS, save_all=True, append_images=others), 32)
    assert np.array_equal(read.pixels, COLOURS.transpose(2, 0, 1))
    assert read.changes == ("the first of its frames",)


@pytest.mark.parametrize("mode", ["CMYK", "P", "1", "LA", "YCbCr"])
def test_other_colours_are_converted(saved, mode):
    image = Image.fromarray(COLOURS).convert(mode)
    name = "image.jpg" if mode in ("CMYK", "YCbCr") else "image.png"
    read = read_image(saved(image, name), 32, formats=("PNG", "JPEG"))
    assert read.pixels.shape == (3, 32, 32)
    assert read.pixels.std() > 20


def bomb(path):
    """A PNG file of 64 KB, which is an image of 2.5 gigapixels."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 0, 0, 0, 0)
    rows = zlib.compress(b"\0" * 50_001 * 1000)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b""))


def truncated(path):
    Image.fromarray(COLOURS).save(path, format="PNG")
    path.write_bytes(path.read_bytes()[:-500])


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: None, "no such file"),
        (lambda path: path.mkdir(), r"a folder; expected the file of an image, such as .*/\*\.png"),
        (os.mkfifo, "expected a regular file"),
        (lambda path: path.write_text("a text\n" * 100), "not a PNG or JPEG file, or a damaged one"),
        (lambda path: path.write_bytes(b""), "not a PNG or JPEG file, or a damaged one"),
        (lambda path: Image.fromarray(COLOURS).save(path, format="BMP"), "not a PNG or JPEG file"),
        (truncated, "truncated"),
        (bomb, "decompression bomb"),
    ],
)
def test_what_is_no_image_is_named(tmp_path, make, said):
    path = tmp_path / "image.png"
    make(path)
    with pytest.raises(DataError, match=f"{path}: .*{said}"):
        read_image(path, 32, formats=("PNG", "JPEG"))


def test_other_numbers_of_channels_are_refused(saved):
    with pytest.raises(DataError, match="for 1 or 3 channels; this one takes images of 4"):
        read_image(saved(COLOURS), 32, channels=4)
