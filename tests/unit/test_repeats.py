"""The noise of a run's accuracy, from repeats and from the size of the validation set."""

import math

import numpy as np
import pytest

from analysis.statistics.repeats import run_noise

BINOMIAL = math.sqrt(0.9 * 0.1 / 1000)


def runs(sd: float, count: int, epochs: int = 12, seed: int = 0) -> list[list[float]]:
    return (0.9 + sd * np.random.default_rng(seed).standard_normal((count, epochs))).tolist()


@pytest.mark.parametrize("found", [[], [[[0.5, 0.9]]], [[[], []]]])
def test_without_repeats_it_is_that_of_the_validation_set(found):
    assert run_noise(found, 0.9, 1000) == pytest.approx(BINOMIAL)


def test_many_repeats_decide():
    found = [runs(0.03, 5, seed=seed) for seed in range(40)]
    assert run_noise(found, 0.9, 1000) == pytest.approx(0.03, rel=0.1)


def test_few_repeats_are_weighed_by_their_degrees_of_freedom():
    one = [[0.5] * 3 + [0.9], [0.5] * 3 + [0.94]]
    expected = math.sqrt((4 * BINOMIAL**2 + 1 * 0.02**2 * 2) / 5)
    assert run_noise([one], 0.9, 1000) == pytest.approx(expected)


def test_only_the_last_quarter_of_the_common_epochs_counts():
    calm = [0.9, 0.9, 0.9, 0.9]
    assert run_noise([[[0.1, 0.2, 0.3, *calm[3:]], [0.7, 0.1, 0.6, *calm[3:], 0.1]]], 0.9, 1000) < BINOMIAL


def test_an_accuracy_that_is_not_known_is_passed_over():
    with_gap = [[0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.90, math.nan], [0.9] * 6 + [0.94, 0.9]]
    expected = math.sqrt((4 * BINOMIAL**2 + 0.02**2 * 2) / 5)
    assert run_noise([with_gap], 0.9, 1000) == pytest.approx(expected)
