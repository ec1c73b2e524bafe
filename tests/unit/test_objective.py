import math
import subprocess
import sys

import numpy as np
import pytest

from resnet_core import objective as ett
from resnet_core.objective import Objective

NAN = float("nan")


@pytest.mark.parametrize(
    ("val_accs", "expected"),
    [
        pytest.param([0.5, 0.93, 0.91, 0.94], 2, id="the first of several"),
        pytest.param([0.92], 1, id="exactly at the target"),
        pytest.param([0.95, 0.5], 1, id="in the first epoch"),
        pytest.param([0.5, 0.9199], None, id="just below"),
        pytest.param([], None, id="no epochs"),
        pytest.param([NAN, 0.93], 2, id="after NaN"),
        pytest.param([NAN, NAN], None, id="only NaN"),
    ],
)
def test_first_crossing(val_accs, expected):
    assert ett.first_crossing(val_accs, 0.92) == expected


@pytest.mark.parametrize(
    ("val_accs", "sustained", "expected"),
    [
        pytest.param([0.5, 0.93, 0.91, 0.94, 0.92], 2, 4, id="a lone crossing does not count"),
        pytest.param([0.93, 0.93, 0.5], 2, 1, id="at the start"),
        pytest.param([0.5, 0.93], 2, None, id="ends before it is held"),
        pytest.param([0.93, NAN, 0.93, 0.93], 2, 3, id="NaN breaks the row"),
        pytest.param([0.93, 0.93, 0.5, 0.93, 0.93, 0.93], 3, 4, id="three in a row"),
    ],
)
def test_sustained_crossing(val_accs, sustained, expected):
    assert ett.sustained_crossing(val_accs, 0.92, sustained) == expected


def test_sustained_means_two_in_a_row_unless_set():
    assert ett.sustained_crossing([0.93, 0.5, 0.93, 0.93], 0.92) == 3


@pytest.mark.parametrize(
    ("val_accs", "expected"),
    [
        pytest.param([0.5, 0.75, 1.0], 2.5, id="between two epochs"),
        pytest.param([0.5, 0.875], 2.0, id="exactly at the target"),
        pytest.param([1.0], 0.875, id="epoch 1 starts at 0"),
        pytest.param([0.5, NAN, 1.0], 2.875, id="NaN before counts as 0"),
        pytest.param([0.5, 0.6], None, id="not reached"),
    ],
)
def test_interpolated_crossing(val_accs, expected):
    assert ett.interpolated_crossing(val_accs, 0.875) == expected


@pytest.mark.parametrize(
    ("val_accs", "expected"),
    [
        pytest.param([0.25, 0.75], 1.5, id="reached: the interpolated crossing"),
        pytest.param([0.125, 0.25, 0.125], 45 + 0.25 / 15, id="missed by half of the target"),
        pytest.param([], 60.0, id="no epochs"),
        pytest.param([NAN], 60.0, id="only NaN"),
    ],
)
def test_objective(val_accs, expected):
    assert ett.objective(val_accs, 0.5, longest_horizon=30) == pytest.approx(expected)


def test_trials_of_one_epoch_are_ranked():
    assert ett.objective([0.25], 0.5, longest_horizon=1) == 1.5 + 0.25 / 2 / 0.5


CURVE = [0.3, 0.62, 0.55, 0.71, 0.69, 0.74]


@pytest.mark.parametrize("noise", [0.001, 0.02, 0.05])
def test_the_objective_is_the_mean_over_shifts_of_the_curve(noise):
    levels = 0.7 + math.sqrt(2) * noise * np.random.default_rng(0).standard_normal(20_000)
    values = [ett.objective(CURVE, level, 30) for level in levels if 0 < level <= 1]
    # What v adds to H is a share of its own target; here that is the level's, so misses weigh a little otherwise.
    assert ett.objective(CURVE, 0.7, 30, noise) == pytest.approx(np.mean(values), rel=0.05)


def test_without_noise_a_hair_decides_and_with_it_it_does_not():
    just, not_quite = [0.5, 0.7], [0.5, 0.7 - 1e-9]
    assert ett.objective(not_quite, 0.7, 30) - ett.objective(just, 0.7, 30) > 27
    assert ett.objective(not_quite, 0.7, 30, 0.003) == pytest.approx(ett.objective(just, 0.7, 30, 0.003), abs=1e-4)


def test_a_lucky_run_is_worse_than_a_sure_one_that_is_slower():
    lucky, sure = [0.5, 0.701, 0.69, 0.69, 0.69], [0.5, 0.6, 0.68, 0.75, 0.8]
    assert ett.objective(lucky, 0.7, 30) < ett.objective(sure, 0.7, 30)
    assert ett.objective(lucky, 0.7, 30, 0.005) > ett.objective(sure, 0.7, 30, 0.005)


def test_of_two_misses_alike_the_one_that_was_there_earlier_is_better():
    assert ett.objective([0.6, 0.5, 0.5], 0.7, 30) < ett.objective([0.5, 0.5, 0.6], 0.7, 30)


def test_a_noise_below_zero_is_refused():
    with pytest.raises(ValueError, match="noise"):
        ett.objective([0.95], 0.92, 30, -0.1)


@pytest.mark.parametrize(
    ("val_accs", "expected"),
    [
        pytest.param([0.5, 0.75, 0.75], (2, 0.75), id="the first on ties"),
        pytest.param([NAN, 0.5, float("inf")], (2, 0.5), id="only finite values"),
        pytest.param([NAN], None, id="none finite"),
        pytest.param([], None, id="no epochs"),
    ],
)
def test_best(val_accs, expected):
    assert ett.best(val_accs) == expected


@pytest.mark.parametrize("target", [NAN, float("inf")])
@pytest.mark.parametrize("function", [ett.first_crossing, ett.sustained_crossing, ett.interpolated_crossing])
def test_a_target_that_is_not_finite_is_refused(function, target):
    with pytest.raises(ValueError, match="target"):
        function([0.5], target)


@pytest.mark.parametrize("target", [0.0, -0.5, 1.01, 92.0, NAN])
def test_a_target_that_is_no_accuracy_is_refused(target):
    with pytest.raises(ValueError, match=r"target = .*: expected an accuracy above 0 and at most 1"):
        Objective(target=target)


@pytest.mark.parametrize("wrong", [{"goal": "up"}, {"sustained": 0}, {"metric": "f1", "target": NAN}])
def test_an_objective_that_is_impossible_is_refused(wrong):
    with pytest.raises(ValueError, match=next(reversed(wrong))):
        Objective(**wrong)


LOSSES = [0.9, 0.6, 0.4, 0.45, 0.3]


def test_a_loss_is_reached_where_it_falls_to_the_target():
    falls = Objective("val_loss", "min", 0.5)
    assert (falls.first_crossing(LOSSES), falls.sustained_crossing(LOSSES)) == (3, 3)
    assert falls.interpolated_crossing(LOSSES) == pytest.approx(2.5)
    assert falls.best(LOSSES) == (5, 0.3)
    assert falls.minimised(LOSSES, 30) == pytest.approx(2.5)


def test_a_crossing_in_the_first_epoch_counts_as_one_where_the_start_is_not_known():
    assert Objective("val_loss", "min", 0.5).minimised([0.4], 30) == 1.0


def test_a_miss_counts_by_its_distance_as_a_share_of_the_target():
    falls = Objective("val_loss", "min", 0.5)
    assert falls.minimised([1.0], 30) == pytest.approx(30 + 30 * 0.5 / (0.5 + 0.5))
    assert falls.minimised([], 30) == falls.minimised([NAN], 30) == 60.0
    assert Objective("reward", "max", 0.0).minimised([-1.0], 30) == pytest.approx(45.0)


@pytest.mark.parametrize(("goal", "expected"), [("max", -0.9), ("min", 0.3)])
def test_without_a_target_the_best_value_counts(goal, expected):
    sought = Objective("f1", goal, None)
    assert sought.minimised(LOSSES, 30) == expected
    assert sought.minimised([NAN], 30) is None
    assert (sought.first_crossing(LOSSES), sought.interpolated_crossing(LOSSES)) == (None, None)


@pytest.mark.parametrize(
    ("sought", "text", "words"),
    [
        (Objective(), "0.92", "validation accuracy 0.92 or more"),
        (Objective("val_loss", "min", 0.3), "val_loss 0.3", "val_loss 0.3 or less"),
        (Objective("f1", "max", None), "", "none: the highest f1 counts"),
    ],
)
def test_a_target_in_words(sought, text, words):
    assert (sought.target_text, sought.target_words) == (text, words)


def test_sustained_below_one_is_refused():
    with pytest.raises(ValueError, match="sustained"):
        ett.sustained_crossing([0.5], 0.92, sustained=0)


@pytest.mark.parametrize("horizon", [0, -1, NAN])
def test_a_horizon_that_is_not_above_zero_is_refused(horizon):
    with pytest.raises(ValueError, match="longest_horizon"):
        ett.objective([0.95], 0.92, horizon)


def test_importing_it_loads_no_pandas():
    code = "import sys, resnet_core.objective; sys.exit('pandas' in sys.modules or 'numpy' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("val_accs", "known"),
    [
        ([0.5, 0.93], False),
        ([0.93, 0.5, 0.93], False),
        ([0.93, 0.5], True),
        ([0.93, 0.93], True),
        ([0.5], True),
        ([], True),
        ([0.93, math.nan], True),
    ],
)
def test_a_run_that_ended_at_the_target_does_not_tell_whether_it_held(val_accs, known):
    assert ett.sustained_is_known(val_accs, 0.92) is known
