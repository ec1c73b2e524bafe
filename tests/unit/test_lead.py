"""A winner's lead beside noise."""

import math

import numpy as np
import pytest
from scipy import stats

from analysis.statistics.lead import crossing_error, lead

RISING = [0.88, 0.90, 0.92, 0.94, 0.96]  # two points an epoch
SE = math.sqrt(0.92 * 0.08 / 10_000)


def test_the_error_of_a_crossing_is_the_accuracys_over_the_slope():
    assert crossing_error(RISING, 0.92, 10_000) == pytest.approx(SE / 0.02)


def test_fewer_images_make_a_larger_error():
    assert crossing_error(RISING, 0.92, 2_500) == pytest.approx(2 * SE / 0.02)


def test_the_slope_is_taken_around_the_crossing_alone():
    assert crossing_error([0.1, 0.1, *RISING, 0.1], 0.92, 10_000) == pytest.approx(SE / 0.02)


def test_a_curve_that_ends_at_the_crossing_has_the_slope_ahead_of_it():
    assert crossing_error(RISING[:3], 0.92, 10_000) == pytest.approx(SE / 0.02)


@pytest.mark.parametrize("val_accs", [[0.5, 0.6], [0.95], [0.95, 0.94, 0.93], [math.nan, 0.95]], ids=str)
def test_what_a_curve_cannot_tell_is_infinite(val_accs):
    assert math.isinf(crossing_error(val_accs, 0.92, 10_000))


def test_without_repeats_the_noise_is_not_known():
    found = lead(20.0, 21.0, RISING, 0.92, 10_000, [[20.0], [21.0], []])
    assert (found.epochs, found.noise, found.degrees, found.within_noise) == (1.0, None, 0, None)
    assert found.rough == pytest.approx(1.96 * math.sqrt(2) * SE / 0.02, rel=1e-4)


def test_the_noise_of_repeats_is_students():
    found = lead(20.0, 21.0, RISING, 0.92, 10_000, [[19.0, 20.0, 21.0]])
    assert (found.noise, found.degrees) == (pytest.approx(stats.t.ppf(0.975, 2) * math.sqrt(2)), 2)


def test_the_spread_is_pooled_over_configurations():
    found = lead(20.0, 21.0, RISING, 0.92, 10_000, [[19.0, 20.0, 21.0], [40.0, 44.0], [7.0]])
    pooled = math.sqrt((2 * 1 + 1 * 8) / 3)
    assert (found.noise, found.degrees) == (pytest.approx(stats.t.ppf(0.975, 3) * math.sqrt(2) * pooled), 3)


@pytest.mark.parametrize(("second", "within"), [(20.3, True), (27.0, False)])
def test_a_lead_is_within_noise_or_not(second, within):
    assert lead(20.0, second, RISING, 0.92, 10_000, [[19.0, 20.0, 21.0]]).within_noise is within


@pytest.mark.parametrize("configurations", [2, 20])
def test_the_best_of_many_that_are_alike_seldom_leads_by_more_than_noise(configurations):
    random, told = np.random.default_rng(0), 0
    for _ in range(400):
        best, second = np.sort(random.normal(20, 1, configurations))[:2]
        repeats = random.normal(20, 1, (1, 6)).tolist()
        told += not lead(best, second, RISING, 0.92, 10_000, repeats).within_noise
    assert told <= stats.binom.ppf(1 - 1e-4, 400, 0.05)
