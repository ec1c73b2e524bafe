"""The bounds a range test suggests, on curves whose minimum and slope are known."""

import numpy as np
import pytest

from analysis.statistics.lr_range import RULES, Bounds, breaking_step, default_beta, smoothed, suggest

STEPS = 600
LRS = np.geomspace(1e-6, 10, STEPS, endpoint=False)
LOG = np.log10(LRS)
ACCS = 0.1 + 0.4 * np.exp(-((LOG + 1) ** 2))  # highest at 0.1
# Flat at 2.3, down from 1e-4 on with its steepest place at 1e-2, up from 0.1 on.
LOSSES = 2.3 - 1.5 / (1 + 10 ** (-2 * (LOG + 2))) + np.where(LOG > -1, 2 * (LOG + 1), 0)
# What is smoothed lags behind by a thirtieth of the test.
LAG = 10 ** (7 / 30)


def noisy(losses: np.ndarray, deviation: float = 0.1) -> np.ndarray:
    return losses + np.random.default_rng(0).normal(0, deviation, len(losses))


# Smoothing


def test_what_is_constant_stays_as_it_is():
    assert smoothed(np.full(50, 2.3), 0.98) == pytest.approx(np.full(50, 2.3))


def test_smoothing_is_the_weighted_mean_of_what_came_before():
    losses = np.array([3.0, 1.0, 2.0])
    weights = np.array([0.81, 0.9, 1.0])
    assert smoothed(losses, 0.9)[2] == pytest.approx((losses * weights).sum() / weights.sum())


def test_a_beta_of_zero_smooths_nothing():
    assert smoothed(LOSSES, 0.0) == pytest.approx(LOSSES)


@pytest.mark.parametrize("beta", [-0.1, 1.0, float("nan")])
def test_a_beta_out_of_range_is_refused(beta):
    with pytest.raises(ValueError, match="expected 0 <= beta < 1"):
        smoothed(LOSSES, beta)


def test_the_default_average_is_a_thirtieth_of_the_test_long():
    assert default_beta(1500) == pytest.approx(0.98)
    assert default_beta(60) == 0.5
    assert default_beta(10) == 0.0


# Bounds


@pytest.mark.parametrize("losses", [LOSSES, noisy(LOSSES)], ids=["smooth", "noisy"])
def test_the_upper_bound_is_where_the_loss_is_lowest(losses):
    assert 0.1 / LAG <= suggest(LRS, losses, ACCS).upper <= 0.1 * LAG


def test_the_lower_bound_is_a_tenth_of_the_upper():
    bounds = suggest(LRS, LOSSES, ACCS)
    assert bounds.lower == pytest.approx(bounds.upper / 10)


@pytest.mark.parametrize("losses", [LOSSES, noisy(LOSSES)], ids=["smooth", "noisy"])
def test_the_steepest_fall_is_found(losses):
    assert 0.01 / LAG <= suggest(LRS, losses, ACCS).steepest <= 0.01 * LAG**2


def test_the_best_accuracy_is_found():
    assert 0.1 <= suggest(LRS, LOSSES, ACCS).best_acc <= 0.1 * LAG


def test_of_two_dips_the_deeper_is_the_upper_bound():
    losses = LOSSES - 0.9 * np.exp(-(((LOG + 4) / 0.2) ** 2))
    assert suggest(LRS, losses, ACCS).upper > 0.05


def test_learning_rates_may_rise_in_a_straight_line():
    lrs = np.linspace(1e-6, 2, STEPS)
    assert suggest(lrs, 1 + (lrs - 0.8) ** 2, lrs).upper == pytest.approx(0.8, abs=2 / 20)


def test_a_loss_that_breaks_in_its_last_step_has_risen():
    end = int(np.argmin(LOSSES))
    losses = np.append(LOSSES[:end], np.nan)
    assert suggest(LRS[: end + 1], losses, ACCS[: end + 1]).upper == LRS[end - 1]


def test_every_bound_has_its_rule():
    assert list(RULES) == list(Bounds.__dataclass_fields__)


# Refusals


@pytest.mark.parametrize(
    ("losses", "said"),
    [
        (2.3 - 0.2 * (LOG + 6), r"still falls at the highest learning rate, 9\.\d+ \(--to\): raise it"),
        (2.3 + 0.2 * (LOG + 6), "only rises from 1e-06 to 9.7.*: lower --from"),
        (noisy(np.full(STEPS, 2.3)), "never falls from 1e-06 to 9.7.*: raise --to"),
        (np.full(STEPS, 2.3), "never falls"),
        (np.append(np.full(STEPS - 1, 2.3), np.inf), "only rises from .*: lower --from"),
    ],
)
def test_a_curve_without_a_minimum_between_its_ends_is_refused(losses, said):
    with pytest.raises(ValueError, match=said):
        suggest(LRS, losses, ACCS)


@pytest.mark.parametrize("steps", [0, 1, 19])
def test_too_few_steps_are_refused(steps):
    with pytest.raises(ValueError, match=rf"{steps} steps are too few .* at least 20 are needed: raise --epochs$"):
        suggest(LRS[:steps], LOSSES[:steps], ACCS[:steps])


def test_a_run_that_broke_at_once_is_told_to_start_lower():
    with pytest.raises(ValueError, match=r"too few .* or lower --from"):
        suggest(LRS[:3], np.array([2.3, 2.4, np.nan]), ACCS[:3])


def test_series_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="600 learning rates, 599 losses, 600 accuracies"):
        suggest(LRS, LOSSES[1:], ACCS)


def test_learning_rates_that_do_not_rise_are_refused():
    with pytest.raises(ValueError, match="do not rise"):
        suggest(LRS[::-1], LOSSES, ACCS)


def test_a_series_that_goes_on_after_it_broke_is_refused():
    losses = LOSSES.copy()
    losses[400] = np.nan
    with pytest.raises(ValueError, match="cut the series"):
        suggest(LRS, losses, ACCS)


# Breaking


def test_a_loss_that_stays_near_its_minimum_does_not_break():
    assert breaking_step(np.array([2.3, 1.0, 3.9, 2.0]), 0.0) is None


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_breaks_at_its_step(broken):
    assert breaking_step(np.array([2.3, 2.2, broken, 2.1]), 0.9) == 2


def test_a_smoothed_loss_above_four_times_its_minimum_breaks():
    assert breaking_step(np.array([2.3, 1.0, 3.9, 4.1, 9.0]), 0.0) == 3


def test_one_bad_batch_does_not_break():
    losses = np.full(100, 1.0)
    losses[50] = 20.0
    assert breaking_step(losses, 0.9) is None


def test_what_comes_first_breaks():
    assert breaking_step(np.array([2.3, 1.0, 4.1, float("nan")]), 0.0) == 2


def test_no_steps_break_nothing():
    assert breaking_step(np.array([]), 0.9) is None
