import itertools
import math

from hypothesis import assume, example, given
from hypothesis import strategies as st

from resnet_core.objective import (
    Objective,
    best,
    first_crossing,
    interpolated_crossing,
    objective,
    sustained_crossing,
)

# Accuracies are shares of up to 10,000 images, as measured ones are.
accuracies = st.integers(0, 10_000).map(lambda hits: hits / 10_000)
curves = st.lists(accuracies | st.just(float("nan")), max_size=40)
targets = st.integers(1, 10_000).map(lambda hits: hits / 10_000)
HORIZON = 80


def or_never(epoch):
    return float("inf") if epoch is None else epoch


@given(curves, curves, targets)
def test_more_epochs_never_move_a_first_crossing(curve, more, target):
    crossing = first_crossing(curve, target)
    assume(crossing is not None)
    assert first_crossing(curve + more, target) == crossing


@given(curves, targets, st.integers(1, 4))
def test_a_target_is_never_sustained_before_it_is_reached(curve, target, sustained):
    assert or_never(sustained_crossing(curve, target, sustained)) >= or_never(first_crossing(curve, target))


@given(curves, targets, st.integers(1, 4))
def test_holding_longer_is_never_earlier(curve, target, sustained):
    shorter, longer = (sustained_crossing(curve, target, m) for m in (sustained, sustained + 1))
    assert or_never(longer) >= or_never(shorter)


@given(curves, targets)
def test_sustained_for_one_epoch_is_the_first_crossing(curve, target):
    assert sustained_crossing(curve, target, sustained=1) == first_crossing(curve, target)


@given(curves, targets)
def test_an_interpolated_crossing_lies_in_the_epoch_of_the_first(curve, target):
    first = first_crossing(curve, target)
    assume(first is not None)
    assert first - 1 < interpolated_crossing(curve, target) <= first


@given(curves, targets)
def test_interpolated_and_first_crossing_exist_together(curve, target):
    assert (interpolated_crossing(curve, target) is None) == (first_crossing(curve, target) is None)


@given(curves, st.data(), curves, targets)
def test_any_that_reaches_beats_any_that_does_not(one, data, other, target):
    # Made to reach and to miss, rather than waited for: few of all curves do.
    place = data.draw(st.integers(0, len(one)))
    one = [*one[:place], data.draw(st.floats(target, 1.0)), *one[place:]]
    other = [accuracy for accuracy in other if not accuracy >= target]
    assert objective(one, target, HORIZON) < objective(other, target, HORIZON)


@given(curves, targets, targets)
def test_a_higher_target_is_never_reached_earlier(curve, one, other):
    low, high = sorted((one, other))
    for crossing in (first_crossing, sustained_crossing, interpolated_crossing):
        assert or_never(crossing(curve, low)) <= or_never(crossing(curve, high))


@given(st.lists(curves, min_size=2, max_size=4), targets)
def test_among_misses_a_better_best_is_worse_by_less_than_the_epoch_it_came_later(tries, target):
    misses = [curve for curve in tries if first_crossing(curve, target) is None]
    for one, other in itertools.permutations(misses, 2):
        if (best(one) or (0, 0.0))[1] >= (best(other) or (0, 0.0))[1]:
            assert objective(one, target, HORIZON) < objective(other, target, HORIZON) + len(one) / HORIZON + 1e-9


@given(curves, st.data(), targets, st.sampled_from([0.0, 0.003, 0.05]))
def test_a_rising_curve_that_is_nowhere_lower_is_never_worse(curve, data, target, noise):
    lower = list(itertools.accumulate((it for it in curve if it >= 0), max))
    higher = list(itertools.accumulate((data.draw(st.floats(it, 1.0)) for it in lower), max))
    # An epoch for where the line into a crossing starts, an epoch at most for when the best came.
    assert objective(higher, target, HORIZON, noise) <= objective(lower, target, HORIZON, noise) + 2


@given(curves, targets.filter(lambda target: target >= 0.05), st.sampled_from([0.003, 0.05]), st.data())
def test_with_noise_the_objective_is_continuous_in_every_accuracy(curve, target, noise, data):
    assume(curve)
    place = data.draw(st.integers(0, len(curve) - 1))
    assume(curve[place] < 1 - 1e-6)
    moved = [*curve]
    moved[place] += 1e-7
    steep = HORIZON / noise  # epochs an accuracy
    before, after = (objective(it, target, HORIZON, noise) for it in (curve, moved))
    assert abs(before - after) <= max(1e-7 * steep * 4, 1e-3)


@given(curves)
def test_the_best_is_the_first_epoch_at_its_own_value(curve):
    found = best(curve)
    assume(found is not None and found[1] > 0)
    assert first_crossing(curve, found[1]) == found[0]


# Any metric, either goal

values = st.lists(st.floats(-50, 50) | st.just(float("nan")), max_size=20)
any_targets = st.floats(-20, 20)
noises = st.sampled_from([0.0, 0.05, 2.0])


@given(values, any_targets, noises)
def test_a_metric_that_should_fall_is_its_negative_that_should_rise(curve, target, noise):
    falls, rises = Objective("x", "min", target), Objective("x", "max", 0.0 - target)
    turned = [0.0 - value for value in curve]
    assert falls.minimised(curve, HORIZON, noise) == rises.minimised(turned, HORIZON, noise)
    assert falls.first_crossing(curve) == rises.first_crossing(turned)
    assert falls.sustained_crossing(curve) == rises.sustained_crossing(turned)
    assert falls.interpolated_crossing(curve) == rises.interpolated_crossing(turned)
    assert (falls.best(curve) or (0,))[0] == (rises.best(turned) or (0,))[0]


@given(values, st.data(), any_targets | st.none(), noises)
def test_a_better_value_in_any_epoch_is_never_worse(curve, data, target, noise):
    known = [place for place, value in enumerate(curve) if not math.isnan(value)]
    assume(known)
    place = data.draw(st.sampled_from(known))
    better = [*curve]
    better[place] -= data.draw(st.floats(0, 20))
    falls = Objective("x", "min", target)
    assert falls.minimised(better, HORIZON, noise) <= falls.minimised(curve, HORIZON, noise) + 1e-6


@given(values, any_targets, noises)
def test_no_miss_is_worse_than_twice_the_longest_schedule(curve, target, noise):
    assert 0 <= Objective("x", "min", target).minimised(curve, HORIZON, noise) <= 2 * HORIZON + 1e-9


@given(st.floats(0.01, 20), st.floats(0, 20), any_targets)
def test_misses_are_ranked_by_their_distance(near, further, target):
    falls = Objective("x", "min", target)
    one, other = (falls.minimised([target + distance], HORIZON) for distance in (near, near + further))
    assert HORIZON < one <= other


at_any_scale = st.lists(st.floats(-1e12, 1e12), min_size=1, max_size=20)


@given(at_any_scale.flatmap(lambda curve: st.tuples(st.just(curve), st.floats(min(curve), max(curve)))))
@example(([2e-313, 0.0], 0.0))
def test_without_noise_the_number_of_a_hit_is_its_crossing_at_any_scale(hit):
    curve, target = hit
    falls = Objective("x", "min", target)
    assert math.isclose(falls.minimised(curve, HORIZON), falls.interpolated_crossing(curve), abs_tol=1e-6)


@given(values, any_targets, st.sampled_from([0.5, 2.0]))
@example([2e-313, 0.0], 0.0, 0.5)  # a step so small that its inverse is infinite
def test_with_noise_the_number_is_continuous_at_the_target(curve, target, noise):
    falls = Objective("x", "min", target)
    above, below = (falls.minimised([*curve, target + step], HORIZON, noise) for step in (1e-9, -1e-9))
    assert math.isclose(above, below, abs_tol=1e-3)
