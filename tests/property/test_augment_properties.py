"""What holds for every image and every offset, against scipy's interpolation and torchvision's transforms."""

import numpy as np
import scipy.ndimage
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms.v2 import functional as transforms

from resnet_core.augment import crop, cutout, shift_and_flip

SIZES = st.sampled_from([16, 32])
OFFSETS = st.floats(-20, 20, width=32)
BATCHES = st.lists(st.tuples(OFFSETS, OFFSETS, st.booleans()), min_size=1, max_size=5)
few = settings(max_examples=40)


def draw(size: int, seed: int, batch: list[tuple[float, float, bool]]) -> tuple[torch.Tensor, ...]:
    """Images at random, their offsets, and which of them are mirrored."""
    images = torch.rand(len(batch), 3, size, size, generator=torch.Generator().manual_seed(seed))
    offsets = torch.tensor([[down, right] for down, right, _ in batch])
    return images, offsets, torch.tensor([mirrored for _, _, mirrored in batch])


@few
@given(SIZES, st.integers(0, 99), BATCHES)
def test_moving_is_scipys_linear_shift_with_nearest_edges(size, seed, batch):
    images, offsets, mirrored = draw(size, seed, batch)
    moved = shift_and_flip(images, offsets, mirrored).numpy()
    for image, result, (down, right, mirror) in zip(images.double().numpy(), moved, batch, strict=True):
        expected = scipy.ndimage.shift(image, (0, down, right), order=1, mode="nearest")
        expected = expected[..., ::-1] if mirror else expected
        np.testing.assert_allclose(result, expected, rtol=0, atol=1e-5)


@few
@given(SIZES, BATCHES, st.floats(-1, 1, width=32))
def test_a_constant_image_stays_as_it_is(size, batch, value):
    images, offsets, mirrored = draw(size, 0, batch)
    images.fill_(value)
    torch.testing.assert_close(shift_and_flip(images, offsets, mirrored), images, rtol=1e-6, atol=1e-6)


@few
@given(SIZES, st.integers(0, 99), BATCHES)
def test_no_value_leaves_the_range_of_its_image_and_channel(size, seed, batch):
    images, offsets, mirrored = draw(size, seed, batch)
    moved = shift_and_flip(images, offsets, mirrored)
    assert (moved.amin((2, 3)) >= images.amin((2, 3)) - 1e-6).all()
    assert (moved.amax((2, 3)) <= images.amax((2, 3)) + 1e-6).all()


@few
@given(SIZES, st.integers(0, 99), BATCHES)
def test_an_image_moves_as_it_would_alone(size, seed, batch):
    images, offsets, mirrored = draw(size, seed, batch)
    alone = [shift_and_flip(images[i : i + 1], offsets[i : i + 1], mirrored[i : i + 1]) for i in range(len(batch))]
    assert torch.equal(shift_and_flip(images, offsets, mirrored), torch.cat(alone))


@few
@given(st.integers(8, 33), st.integers(8, 33), st.integers(0, 9), st.integers(0, 99), st.booleans(), st.data())
def test_a_crop_is_torchvisions_on_the_same_draws(height, width, padding, seed, last, data):
    corner = st.integers(0, 2 * padding)
    corners = data.draw(st.lists(st.tuples(corner, corner), min_size=1, max_size=5))
    shape = (len(corners), 3, height, width)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    images = images.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)
    padded = transforms.pad(images, padding)
    expected = [transforms.crop(i, *corner, height, width) for i, corner in zip(padded, corners, strict=True)]
    assert torch.equal(crop(images, torch.tensor(corners), padding), torch.stack(expected))


@few
@given(st.integers(8, 33), st.integers(8, 33), st.integers(0, 16), st.integers(0, 99), st.data())
def test_a_cutout_is_torchvisions_on_the_same_draws(height, width, side, seed, data):
    centres = data.draw(
        st.lists(st.tuples(st.integers(0, height - 1), st.integers(0, width - 1)), min_size=1, max_size=5)
    )
    images = torch.randn(len(centres), 3, height, width, generator=torch.Generator().manual_seed(seed))
    expected = []
    for image, (row, column) in zip(images, centres, strict=True):
        top, left = max(0, row - side // 2), max(0, column - side // 2)
        bottom, right = min(height, row - side // 2 + side), min(width, column - side // 2 + side)
        expected.append(transforms.erase(image, top, left, bottom - top, right - left, torch.zeros(3, 1, 1)))
    assert torch.equal(cutout(images, torch.tensor(centres), side), torch.stack(expected))
