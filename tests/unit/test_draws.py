"""The randomness of an epoch: what it is made of, and what it depends on."""

import dataclasses
from typing import Any

import pytest
import torch

from resnet_core.config import TrialConfig
from resnet_core.draws import draw


def make(**fields: object) -> TrialConfig:
    values = {"schedule": "[0.01, 0] lin[0.002, 4]", "data": "digits", "image_size": 16, "shift": 0.1}
    return TrialConfig(**{**values, "crop": 2, "cutout": 4, **fields})  # type: ignore[arg-type]


def as_lists(config: TrialConfig, epoch: int) -> list[Any]:
    return [part if part is None else part.tolist() for part in dataclasses.astuple(draw(config, epoch, 70))]


def test_the_draws_of_an_epoch_do_not_depend_on_the_epochs_before_it():
    alone = as_lists(make(), 3)
    for epoch in (1, 2):
        draw(make(), epoch, 70)
        torch.rand(5)
    assert as_lists(make(), 3) == alone


@pytest.mark.parametrize(("seed", "epoch"), [(0, 2), (1, 1), (1, 0)])
def test_the_draws_differ_between_epochs_and_seeds(seed, epoch):
    one, other = as_lists(make(seed=0), 1), as_lists(make(seed=seed), epoch)
    assert all(a != b for a, b in zip(one, other, strict=True))


def test_each_epoch_takes_every_image_once():
    assert sorted(draw(make(), 1, 70).order.tolist()) == list(range(70))


def test_offsets_are_uniform_within_the_shift():
    offsets = draw(make(shift=0.25), 1, 20_000).offsets
    assert offsets.shape == (20_000, 2)
    for axis in (0, 1):
        quantiles = offsets[:, axis].quantile(torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0]))
        assert quantiles.tolist() == pytest.approx([-4, -2, 0, 2, 4], abs=0.1)
    assert offsets.abs().max() <= 4
    assert abs(torch.corrcoef(offsets.T)[0, 1]) < 0.03


def test_half_of_the_images_are_mirrored():
    assert draw(make(), 1, 20_000).mirrored.float().mean().item() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize(("table", "places"), [("corners", 5), ("centres", 16)])
def test_windows_and_squares_are_anywhere_alike(table, places):
    drawn = getattr(draw(make(), 1, 20_000), table)
    for axis in (0, 1):
        counts = torch.bincount(drawn[:, axis], minlength=places)
        assert len(counts) == places
        assert counts / 20_000 == pytest.approx(1 / places, rel=0.15)


@pytest.mark.parametrize("fields", [{"flip": False}, {"shift": 0.0}, {"crop": 0}, {"cutout": 0}], ids=str)
def test_turning_one_augmentation_off_leaves_the_other_draws_as_they_were(fields):
    draws, fewer = as_lists(make(), 1), as_lists(make(**fields), 1)
    assert fewer.count(None) == 1
    assert [part for part in fewer if part is not None] == [
        part for part, kept in zip(draws, fewer, strict=True) if kept is not None
    ]


def test_tables_are_overwritten_in_place():
    tables = draw(make(), 1, 70)
    held = [getattr(tables, field.name) for field in dataclasses.fields(tables)]
    tables.copy_(draw(make(), 2, 70))
    assert [table.tolist() for table in held] == as_lists(make(), 2)
