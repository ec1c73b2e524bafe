"""A winner's lead beside noise."""

import math

import pytest

from analysis.lead import crossing_error, lead

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


def test_the_noise_is_that_of_the_difference_of_two_runs():
    found = lead(20.0, 21.0, RISING, 0.92, 10_000)
    assert (found.epochs, found.source) == (1.0, "validation set")
    assert found.noise == pytest.approx(1.96 * math.sqrt(2) * SE / 0.02, rel=1e-4)


def test_three_confirmations_know_better_than_the_validation_set():
    found = lead(20.0, 21.0, RISING, 0.92, 10_000, [19.0, 20.0, 21.0])
    assert (found.noise, found.source) == (pytest.approx(1.96 * math.sqrt(2), rel=1e-4), "confirmations")


def test_two_confirmations_do_not():
    assert lead(20.0, 21.0, RISING, 0.92, 10_000, [10.0, 30.0]).source == "validation set"


@pytest.mark.parametrize(("second", "within"), [(20.3, True), (22.0, False)])
def test_a_lead_is_within_noise_or_not(second, within):
    assert lead(20.0, second, RISING, 0.92, 10_000).within_noise is within
