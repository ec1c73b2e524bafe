"""What all runs of a study say of each configuration: a Gaussian process."""

import numpy as np
import pytest

from analysis.statistics.surrogate import Posterior, posterior, posterior_mean

LINE = np.linspace(0, 1, 21)[:, None]


def test_a_smooth_function_is_found_under_noise():
    drawn = np.random.default_rng(0)
    truth = 30 + 10 * (LINE[:, 0] - 0.3) ** 2 / 0.49
    known = posterior(LINE, range(21), truth + drawn.normal(0, 2, 21))
    assert np.abs(known.mean - truth).mean() < 1.2  # a single run is off by 1.6 in the mean
    assert 1 < known.noise**0.5 < 4


def test_a_lucky_run_among_slow_neighbours_is_not_the_best():
    values = np.where(LINE[:, 0] < 0.5, 20.0, 30.0) + np.tile([0.5, -0.5, 0.0], 7)
    values[17] = 18
    assert LINE[posterior(LINE, range(21), values).mean.argmin(), 0] < 0.5


def test_what_is_expected_is_the_mean_of_the_posterior():
    runs, values = [0, 0, 7, 20, 13], [20.0, 22.0, 31.0, 18.0, 25.0]
    assert posterior_mean(LINE, runs, values) == pytest.approx(posterior(LINE, runs, values).mean, rel=1e-12)


def test_what_was_not_run_is_known_from_its_neighbours_and_less_surely():
    known = posterior(LINE, [0, 1, 2, 18, 19, 20], [20, 21, 20, 30, 31, 30])
    assert 20 < known.mean[10] < 31
    assert known.sd[10] > 1.5 * known.sd[1]


def test_repeats_make_one_surer():
    apart = np.eye(6)
    once = posterior(apart, range(6), [20, 22, 24, 26, 28, 30])
    often = posterior(apart, [*range(6), 0, 0, 0, 0], [20, 22, 24, 26, 28, 30, 20.4, 19.8, 20.1, 19.9])
    assert often.sd[0] < 0.7 * once.sd[0]


def test_of_those_that_are_for_themselves_one_run_each_keeps_their_order():
    values = [25.0, 21.0, 38.0, 22.0]
    assert list(posterior(np.eye(4), range(4), values).mean.argsort()) == [1, 3, 0, 2]


def test_values_in_other_units_are_known_in_those():
    values = np.array([20.0, 24, 23, 30, 31])
    known, scaled = (posterior(np.eye(5), range(5), 100 + k * values) for k in (1, 60))
    assert scaled.mean - 100 == pytest.approx(60 * (known.mean - 100))
    assert scaled.sd == pytest.approx(60 * known.sd)


def test_equal_values_tell_no_difference():
    known = posterior(np.eye(3), range(3), [38.0] * 3)
    assert known.mean == pytest.approx([38.0] * 3)
    assert known.chance_lower(0, 1) == pytest.approx(0.5)


def test_the_chance_is_that_of_two_normals_that_depend_on_each_other():
    known = Posterior(np.array([20.0, 22.0]), np.array([[2.0, 1.0], [1.0, 4.0]]), 1.0)
    assert known.chance_lower(0, 1) == pytest.approx(0.84134, abs=1e-5)  # 2 ahead, with a variance of 2 + 4 - 2·1
    assert known.chance_lower(1, 0) == pytest.approx(1 - 0.84134, abs=1e-5)


@pytest.mark.parametrize(("means", "chance"), [((1.0, 2.0), 1.0), ((2.0, 1.0), 0.0), ((1.0, 1.0), 0.5)])
def test_what_is_known_for_sure_leaves_no_chance(means, chance):
    assert Posterior(np.array(means), np.zeros((2, 2)), 1.0).chance_lower(0, 1) == chance


def test_the_posterior_is_that_of_the_textbook():
    # One length and one share of noise, worked out by solving the equations instead of by eigenvalues.
    import analysis.statistics.surrogate as surrogate

    x, y = np.array([[0.0], [0.2], [0.9]]), np.array([1.0, 2.0, 4.0])
    z = (y - y.mean()) / y.std()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(surrogate, "_LENGTHS", (0.6,))
        patch.setattr(surrogate, "_NOISES", (0.3,))
        known = posterior(x, range(3), y)
    r = np.sqrt(5) * np.abs(x - x.T) / 0.6
    kernel = (1 + r + r**2 / 3) * np.exp(-r)
    gain = kernel @ np.linalg.inv(kernel + 0.3 * np.eye(3))
    variance = (z @ np.linalg.inv(kernel + 0.3 * np.eye(3)) @ z + 1) / 4
    assert known.mean == pytest.approx(y.mean() + y.std() * gain @ z)
    assert known.covariance == pytest.approx(y.var() * variance * (kernel - gain @ kernel))


def test_runs_of_one_configuration_may_come_in_any_order():
    one = posterior(LINE, [0, 5, 5, 20], [20, 25, 27, 30])
    other = posterior(LINE, [5, 20, 0, 5], [27, 30, 20, 25])
    assert one.mean == pytest.approx(other.mean)
