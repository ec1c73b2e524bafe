"""Moving, mirroring, cropping and cutting out, where the result is known exactly."""

import pytest
import torch
from torchvision.transforms.v2 import functional as transforms

from resnet_core.augment import crop, cutout, shift_and_flip


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(0))


NONE, ALL = torch.zeros(6, dtype=torch.bool), torch.ones(6, dtype=torch.bool)
SOME = torch.tensor([True, False, True, True, False, False])


def test_nothing_to_do_returns_the_images(images):
    assert shift_and_flip(images, None, None) is images


@pytest.mark.parametrize("mirrored", [NONE, SOME, ALL])
def test_mirroring_alone_turns_the_chosen_images_left_to_right(images, mirrored):
    expected = torch.stack([i.flip(2) if m else i for i, m in zip(images, mirrored, strict=True)])
    assert torch.equal(shift_and_flip(images, None, mirrored), expected)


@pytest.mark.parametrize("mirrored", [None, NONE, SOME, ALL])
def test_an_offset_of_zero_only_mirrors(images, mirrored):
    moved = shift_and_flip(images, torch.zeros(6, 2), mirrored)
    torch.testing.assert_close(moved, shift_and_flip(images, None, mirrored), rtol=0, atol=5e-6)


@pytest.mark.parametrize(("down", "right"), [(1, 0), (0, 1), (-2, 3), (4, -5), (-15, 15), (40, 0)])
def test_a_whole_offset_repeats_the_edge(images, down, right):
    rows = (torch.arange(16) - down).clamp(0, 15)
    columns = (torch.arange(16) - right).clamp(0, 15)
    offsets = torch.tensor([[down, right]], dtype=torch.float32).expand(6, 2)
    expected = images[:, :, rows][:, :, :, columns]
    torch.testing.assert_close(shift_and_flip(images, offsets, None), expected, rtol=0, atol=5e-6)


def test_half_a_pixel_is_the_mean_of_two(images):
    moved = shift_and_flip(images, torch.tensor([[0.0, 0.5]]).expand(6, 2), None)
    torch.testing.assert_close(moved[..., 1:], (images[..., 1:] + images[..., :-1]) / 2, rtol=0, atol=5e-6)


def test_the_mirror_comes_after_the_move(images):
    offsets = torch.tensor([[0.0, 3.0]]).expand(6, 2)
    expected = shift_and_flip(images, offsets, None).flip(3)
    torch.testing.assert_close(shift_and_flip(images, offsets, ALL), expected, rtol=0, atol=5e-6)


@pytest.mark.parametrize("offsets", [None, torch.full((6, 2), 1.5)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_memory_format_is_kept(images, offsets, layout):
    moved = shift_and_flip(images.to(memory_format=layout), offsets, SOME)
    assert moved.is_contiguous(memory_format=layout)


# Crop

CORNERS = torch.tensor([[0, 0], [8, 8], [4, 4], [0, 8], [3, 5], [7, 1]])


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_a_crop_is_torchvisions_pad_and_crop(images, dtype):
    images = (images * 255).to(dtype)
    padded = transforms.pad(images, 4)
    pairs = zip(padded, CORNERS.tolist(), strict=True)
    expected = torch.stack([transforms.crop(image, top, left, 16, 16) for image, (top, left) in pairs])
    cropped = crop(images, CORNERS, 4)
    assert cropped.dtype == dtype
    assert torch.equal(cropped, expected)


def test_the_middle_corner_crops_the_image_itself(images):
    assert torch.equal(crop(images, torch.full((6, 2), 3), 3), images)


def test_without_padding_a_crop_changes_nothing(images):
    assert torch.equal(crop(images, torch.zeros(6, 2, dtype=torch.int64), 0), images)


def test_the_first_corner_shows_padding_above_and_to_the_left(images):
    cropped = crop(images + 1, torch.zeros(6, 2, dtype=torch.int64), 4)
    assert (cropped[:, :, :4] == 0).all()
    assert (cropped[:, :, :, :4] == 0).all()
    assert (cropped[:, :, 4:, 4:] > 0).all()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_crop_keeps_the_memory_format(images, dtype, layout):
    cropped = crop((images * 255).to(dtype).contiguous(memory_format=layout), CORNERS, 4)
    assert cropped.is_contiguous(memory_format=layout)


# Cutout

CENTRES = torch.tensor([[0, 0], [15, 15], [8, 8], [0, 15], [3, 12], [14, 2]])


@pytest.mark.parametrize("side", [1, 2, 5, 8])
def test_a_cutout_is_torchvisions_erase(images, side):
    expected = []
    for image, (row, column) in zip(images, CENTRES.tolist(), strict=True):
        top, left = max(0, row - side // 2), max(0, column - side // 2)
        bottom, right = min(16, row - side // 2 + side), min(16, column - side // 2 + side)
        expected.append(transforms.erase(image, top, left, bottom - top, right - left, torch.zeros(3, 1, 1)))
    assert torch.equal(cutout(images, CENTRES, side), torch.stack(expected))


def test_a_cutout_of_no_size_changes_nothing(images):
    assert torch.equal(cutout(images, CENTRES, 0), images)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_cutout_keeps_the_memory_format(images, layout):
    assert cutout(images.to(memory_format=layout), CENTRES, 8).is_contiguous(memory_format=layout)


# All of them


@pytest.mark.parametrize(
    "change",
    [
        lambda x: shift_and_flip(x, torch.ones(6, 2), SOME),
        lambda x: crop(x, CORNERS, 4),
        lambda x: cutout(x, CENTRES, 8),
    ],
    ids=["shift and flip", "crop", "cutout"],
)
def test_the_images_given_are_left_alone(images, change):
    before = images.clone()
    change(images)
    assert torch.equal(images, before)


def test_flips_are_torchvisions(images):
    expected = torch.stack([transforms.horizontal_flip(i) if m else i for i, m in zip(images, SOME, strict=True)])
    assert torch.equal(shift_and_flip(images, None, SOME), expected)


@pytest.mark.parametrize("change", [crop, cutout])
def test_no_value_is_asked_of_the_device(change):
    # Tensors on "meta" have shapes and no values: what would wait for one, or take its shape from one, raises.
    images, places = torch.empty(6, 3, 16, 16, device="meta"), torch.empty(6, 2, dtype=torch.int64, device="meta")
    assert change(images, places, 4).shape == images.shape
