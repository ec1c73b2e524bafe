import math

import numpy as np
import pytest

from analysis.tables.noise import build_noise, fluctuation, noise_footnotes
from analysis.tables.rendering import render

PLATEAU = "[8e-4, 0] lin[1e-3, 2] lin[1e-3, 8] cos[1e-5, 12]"
LOSSES = [2.0, 1.5, 1.2, 1.1, 1.2, 1.0, 1.1, 0.9, 0.5, 0.4, 0.3, 0.3]
TRIAL = {
    "val_accs": [0.5] * 12,
    "losses": LOSSES,  # val_loss is twice as high in made studies
    "outcome": "exhausted",
    "schedule": PLATEAU,
    "momentum": 0.9,
    "horizon": 12,
}


@pytest.mark.parametrize(("slope", "start"), [(0.0, 1.0), (-0.3, 5.0)])
def test_a_straight_trend_is_no_fluctuation(slope, start):
    assert fluctuation([start + slope * i for i in range(10)]) == pytest.approx(0, abs=1e-12)


def test_the_fluctuation_is_the_noise_around_a_falling_curve():
    epochs = np.arange(4000)
    values = 2 * np.exp(-epochs / 1000) + np.random.default_rng(0).normal(0, 0.05, 4000)
    assert fluctuation(values.tolist()) == pytest.approx(0.05, rel=0.05)


def test_what_is_not_finite_is_left_out():
    assert fluctuation([1, 2, 3, math.nan, 5, 6, 7]) == 0


def test_two_values_have_no_fluctuation():
    assert math.isnan(fluctuation([1, 2]))


def test_the_noise_is_that_of_the_epochs_ahead_of_annealing(make_study):
    row = build_noise(make_study(TRIAL)).loc[0]
    assert row[["epoch_from", "epoch_to"]].tolist() == [3, 8]
    assert row["val_loss_noise"] == pytest.approx(fluctuation([2 * loss for loss in LOSSES[2:8]]))


def test_the_noise_scale_stands_beside_it(make_study):
    row = build_noise(make_study(TRIAL)).loc[0]
    assert row["lr_mean"] == pytest.approx(1e-3)
    assert row["noise_scale"] == pytest.approx(1e-3 * 50_000 / (64 * 0.1))


@pytest.mark.parametrize(
    ("settings", "images"),
    [
        ({"split": "held-out"}, 45_000),
        ({"train_limit": 1000}, 1000),
        ({"data": "digits", "train_limit": 5000}, 1438),
    ],
)
def test_training_images_follow_data_split_and_limit(make_study, settings, images):
    assert build_noise(make_study(TRIAL | settings)).loc[0, "train_images"] == images


def test_a_momentum_schedule_counts_with_its_mean(make_study):
    trial = TRIAL | {"momentum_schedule": "[0.9, 0] lin[0.9, 2] lin[0.8, 8]"}
    assert build_noise(make_study(trial)).loc[0, "momentum"] == pytest.approx(0.85)


@pytest.mark.parametrize("changes", [{"schedule": "[1e-3, 0] cos[1e-5, 12]"}, {"val_accs": [0.5] * 5}])
def test_too_few_epochs_ahead_of_annealing_give_none(make_study, changes):
    row = build_noise(make_study(TRIAL | changes)).loc[0]
    assert row[["val_loss_noise", "noise_scale", "epoch_to"]].isna().all()


@pytest.mark.parametrize("changes", [{"momentum": None}, {"data": "mnist"}, {"split": None}])
def test_without_momentum_or_training_images_the_noise_has_no_scale_beside_it(make_study, changes):
    row = build_noise(make_study(TRIAL | changes)).loc[0]
    assert row[["val_loss_noise", "noise_scale"]].isna().tolist() == [False, True]


@pytest.mark.parametrize("style", ["text", "markdown", "csv", "latex", "json"])
def test_it_is_rendered(make_study, style):
    study = make_study(TRIAL)
    assert "trial-0" in render(build_noise(study), style, notes=noise_footnotes(study))
