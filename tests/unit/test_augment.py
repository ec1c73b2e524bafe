"""Moving and mirroring images, where the result is known exactly."""

import pytest
import torch

from resnet_core.augment import shift_and_flip


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


def test_the_images_given_are_left_alone(images):
    before = images.clone()
    shift_and_flip(images, torch.ones(6, 2), SOME)
    assert torch.equal(images, before)
