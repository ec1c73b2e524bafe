"""What holds for every image and every offset, against scipy's interpolation among others."""

import numpy as np
import scipy.ndimage
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from resnet_core.augment import shift_and_flip

SIZES = st.sampled_from([16, 32])
OFFSETS = st.floats(-20, 20, width=32)
BATCHES = st.lists(st.tuples(OFFSETS, OFFSETS, st.booleans()), min_size=1, max_size=5)
few = settings(max_examples=40, deadline=None)


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
