import itertools
import math

from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.statistics.differences import compare, compare_independent, holm
from analysis.statistics.estimates import (
    best_of_n,
    expected_running_time,
    kaplan_meier,
    median_epochs,
    restricted_mean,
    share_reached,
)
from resnet_core.objective import first_crossing

BUDGET = 30
epochs = st.integers(1, BUDGET).map(float) | st.just(math.inf)
samples = st.lists(epochs, min_size=1, max_size=12)
pairs = st.lists(st.tuples(epochs, epochs), min_size=1, max_size=12)


# scipy is imported in the first.
slow = settings(max_examples=60)


def holds(estimate):
    return estimate.low <= estimate.value <= estimate.high


@slow
@given(samples)
def test_every_estimate_lies_in_its_interval(sample):
    hit = [math.isfinite(epoch) for epoch in sample]
    spent = [min(epoch, BUDGET) for epoch in sample]
    assert holds(share_reached(sum(hit), len(hit)))
    assert holds(median_epochs(sample))
    assert holds(restricted_mean(sample, BUDGET))
    assert holds(expected_running_time(spent, hit, budget=BUDGET))


@slow
@given(samples)
def test_the_restricted_mean_is_within_the_budget(sample):
    found = restricted_mean(sample, BUDGET)
    assert 0 <= found.low <= found.high <= BUDGET


@slow
@given(samples, st.randoms(use_true_random=False))
def test_the_order_of_the_runs_does_not_matter(sample, random):
    mixed = sample.copy()
    random.shuffle(mixed)
    assert median_epochs(mixed) == median_epochs(sample)
    assert restricted_mean(mixed, BUDGET) == restricted_mean(sample, BUDGET)


@slow
@given(samples, st.integers(0, 11))
def test_a_run_that_is_taken_for_a_miss_makes_nothing_better(sample, place):
    worse = sample.copy()
    worse[place % len(sample)] = math.inf
    hits = [[math.isfinite(epoch) for epoch in some] for some in (sample, worse)]
    spent = [[min(epoch, BUDGET) for epoch in some] for some in (sample, worse)]
    assert sum(hits[1]) <= sum(hits[0])
    assert median_epochs(worse).value >= median_epochs(sample).value
    assert restricted_mean(worse, BUDGET).value >= restricted_mean(sample, BUDGET).value
    times = [expected_running_time(some, hit).value for some, hit in zip(spent, hits, strict=True)]
    assert times[1] >= times[0]


@slow
@given(samples)
def test_more_runs_to_choose_from_are_never_slower(sample):
    curve = [best_of_n(sample, n) for n in range(1, len(sample) + 1)]
    assert all(later <= earlier for earlier, later in itertools.pairwise(curve))


def mirrored(there, back):
    return (there.value, there.low, there.high) == (-back.value, -back.high, -back.low)


@slow
@given(pairs, st.sampled_from([compare, compare_independent]))
def test_a_comparison_turned_round_is_its_mirror_image(sample, function):
    a, b = zip(*sample, strict=True)
    there, back = function(a, b, BUDGET), function(b, a, BUDGET)
    assert mirrored(there.difference, back.difference)
    assert mirrored(there.share, back.share)
    assert there.time is back.time is None or mirrored(there.time, back.time)
    assert (there.share_p, there.time_p) == (back.share_p, back.time_p)
    chance, other = there.probability_faster, back.probability_faster
    assert math.isclose(chance.value, 1 - other.value, abs_tol=1e-12)
    assert math.isclose(chance.low, 1 - other.high, abs_tol=1e-12)
    assert math.isclose(chance.high, 1 - other.low, abs_tol=1e-12)


@slow
@given(samples, samples)
def test_a_comparison_of_unlike_numbers_of_runs_turned_round_is_its_mirror_image(a, b):
    there, back = compare_independent(a, b, BUDGET), compare_independent(b, a, BUDGET)
    assert mirrored(there.difference, back.difference)
    assert mirrored(there.share, back.share)
    assert there.time is back.time is None or mirrored(there.time, back.time)


@slow
@given(pairs)
def test_a_comparison_holds_its_estimates(sample):
    found = compare(*zip(*sample, strict=True), BUDGET)
    assert holds(found.difference)
    assert holds(found.share)
    assert found.time is None or holds(found.time)
    assert holds(found.probability_faster)
    assert -BUDGET - 1 <= found.difference.low <= found.difference.high <= BUDGET + 1


@slow
@given(pairs)
def test_a_p_value_is_low_where_the_interval_leaves_no_difference_out(sample):
    found = compare(*zip(*sample, strict=True), BUDGET)
    assert (found.share_p < 0.05) == (not found.share.low <= 0 <= found.share.high)
    if found.time is not None:
        assert (found.time_p < 0.05) == (not found.time.low <= 0 <= found.time.high)


chances = st.lists(st.floats(0, 1), max_size=8)


@given(chances)
def test_holms_p_values_are_between_one_and_all_of_bonferronis(ps):
    for p, adjusted in zip(ps, holm(ps), strict=True):
        assert p <= adjusted <= min(1, len(ps) * p)


@given(chances)
def test_holms_p_values_have_the_order_of_what_they_adjust(ps):
    pairs = sorted(zip(ps, holm(ps), strict=True))
    assert [adjusted for _, adjusted in pairs] == sorted(adjusted for _, adjusted in pairs)


@given(chances, st.randoms(use_true_random=False))
def test_holms_p_values_do_not_depend_on_the_order(ps, random):
    places = list(range(len(ps)))
    random.shuffle(places)
    assert holm([ps[place] for place in places]) == [holm(ps)[place] for place in places]


@slow
@given(samples, st.lists(st.booleans(), min_size=12, max_size=12), st.integers(1, BUDGET))
def test_bounds_hold_the_curve_that_pruning_hides(sample, chosen, at):
    hit = [math.isfinite(epoch) for epoch in sample]
    truth = kaplan_meier([*(min(epoch, BUDGET) for epoch in sample), BUDGET], [*hit, False])["below"]
    cut = [pick and epoch > at for pick, epoch in zip(chosen, sample, strict=False)]
    run = [at if was else min(epoch, BUDGET) for was, epoch in zip(cut, sample, strict=True)]
    seen = [h and not was for h, was in zip(hit, cut, strict=True)]
    # No run that was not pruned missed: how far they could have gone is told.
    found = kaplan_meier([*run, at], [*seen, False], [*cut, True], bounds=True, budget=BUDGET)
    assert (found["below_least"] <= truth + 1e-12).all()
    assert (truth <= found["below_most"] + 1e-12).all()


@slow
@given(st.lists(st.integers(0, 100).map(lambda hits: hits / 100), max_size=20), st.integers(2, 100))
def test_a_higher_target_is_reached_no_earlier(curve, level):
    lower, higher = first_crossing(curve, (level - 1) / 100), first_crossing(curve, level / 100)
    assert (lower or math.inf) <= (higher or math.inf)
