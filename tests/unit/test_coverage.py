"""Made runs of which the truth is known: intervals hold it as often as they claim, pruning flatters nothing."""

import math

import numpy as np
import pytest
from scipy.stats import binom

from tests.benchmarks.coverage import BUDGET, CLAIMED, World, coverage, errors, flattery, spent
from tests.benchmarks.power import power

REPEATS = 150
# As few as a right interval would hold once in ten thousand such tests.
FEWEST = binom.ppf(1e-4, REPEATS, CLAIMED) / REPEATS
DIFFERENCES = ("shares", "time", "difference")
OURS = (
    *("share", "median", "restricted mean", "running time", "faster", "faster (i)"),
    *(kind + name + how for kind in ("", "unlike ") for name in DIFFERENCES for how in ("", " (i)")),
)


@pytest.fixture(scope="module", params=[(5, 0.1), (5, 0.5), (5, 1.0), (10, 0.9), (30, 0.7)], ids=str)
def held(request):
    runs, share = request.param
    return coverage(World(share), runs, REPEATS, usual=False)


@pytest.mark.parametrize("name", OURS)
def test_an_interval_holds_the_truth_as_often_as_it_claims(held, name):
    assert math.isnan(held[name]) or held[name] >= FEWEST


@pytest.mark.parametrize("shape", ["tail", "two", "uneven"])
def test_with_other_epochs_they_hold_it_too(shape):
    held = coverage(World(0.9, shape), 10, REPEATS, usual=False)
    assert min(held[name] for name in OURS) >= FEWEST


def test_the_usual_bootstrap_is_too_narrow_for_ten_runs():
    held = coverage(World(0.9), 10, REPEATS)
    assert max(held["percentile"], held["BCa"]) < FEWEST


def test_the_truth_that_is_claimed_is_that_of_many_runs():
    world = World(0.7)
    epochs = world.draw(200_000, np.random.default_rng(0))
    hit = np.isfinite(epochs)
    assert spent(epochs).mean() == pytest.approx(world.restricted_mean, abs=0.05)
    assert spent(epochs).sum() / hit.sum() == pytest.approx(world.running_time, abs=0.2)
    assert np.median(epochs) == world.median


def test_two_epochs_are_told_apart_as_often_as_by_a_t_test():
    for paired in (True, False):
        told = power(10, 2.0, 300, paired=paired)
        assert told["time"] >= 0.65
        assert told["time"] >= told["t-test"] - 0.1


def test_what_is_nothing_is_told_apart_as_seldom_as_claimed():
    assert max(power(10, 0.0, 300).values()) <= binom.ppf(1 - 1e-4, 300, 0.05) / 300


@pytest.mark.parametrize("name", ["share", "restricted mean", "log running time"])
def test_estimates_come_to_the_truth(name):
    bias, error = errors(World(0.7), 1000, 200)[name]
    few = errors(World(0.7), 10, 200)[name][1]
    assert abs(bias) < 4 * error / math.sqrt(200)
    assert error < few / 5  # √100 times smaller, with some room


@pytest.mark.parametrize("at", [18, 20, 21])
def test_pruning_flatters_no_estimate(at):
    found = flattery(World(0.7), 30, at, 200)  # asserts it for every repeat
    assert found["share"][1] < found["share"][0]


def test_taking_pruned_runs_for_censored_would():
    without, _, censored = flattery(World(0.5), 30, 20, 300)["share"]
    assert censored > without + 0.02


def test_the_budget_is_the_last_epoch_there_is():
    assert spent(np.array([math.inf, 20.0])).tolist() == [BUDGET, 20]
