import itertools
import math

from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.epochs_to_target import first_crossing
from analysis.statistics import (
    best_of_n,
    compare,
    expected_running_time,
    kaplan_meier,
    median_epochs,
    restricted_mean,
    share_reached,
)

BUDGET = 30
epochs = st.integers(1, BUDGET).map(float) | st.just(math.inf)
samples = st.lists(epochs, min_size=1, max_size=12)
pairs = st.lists(st.tuples(epochs, epochs), min_size=1, max_size=12)


# Two thousand draws each, and scipy's import in the first.
slow = settings(deadline=None, max_examples=60)


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


@slow
@given(pairs)
def test_a_comparison_turned_round_changes_its_sign(sample):
    a, b = zip(*sample, strict=True)
    there, back = compare(a, b, BUDGET), compare(b, a, BUDGET)
    assert there.difference.value == -back.difference.value
    assert math.isclose(there.probability_faster.value, 1 - back.probability_faster.value)
    assert math.isclose(there.probability_faster.low, 1 - back.probability_faster.high, abs_tol=1e-12)


@slow
@given(pairs)
def test_a_comparison_holds_its_estimates(sample):
    found = compare(*zip(*sample, strict=True), BUDGET)
    assert holds(found.difference)
    assert holds(found.probability_faster)


@slow
@given(samples, st.lists(st.booleans(), min_size=12, max_size=12), st.integers(1, BUDGET))
def test_bounds_hold_the_curve_that_pruning_hides(sample, chosen, at):
    hit = [math.isfinite(epoch) for epoch in sample]
    truth = kaplan_meier([*(min(epoch, BUDGET) for epoch in sample), BUDGET], [*hit, False])["below"]
    cut = [pick and epoch > at for pick, epoch in zip(chosen, sample, strict=False)]
    run = [at if was else min(epoch, BUDGET) for was, epoch in zip(cut, sample, strict=True)]
    seen = [h and not was for h, was in zip(hit, cut, strict=True)]
    found = kaplan_meier([*run, BUDGET], [*seen, False], [*cut, False], bounds=True)
    assert (found["below_least"] <= truth + 1e-12).all()
    assert (truth <= found["below_most"] + 1e-12).all()


@slow
@given(st.lists(st.integers(0, 100).map(lambda hits: hits / 100), max_size=20), st.integers(2, 100))
def test_a_higher_target_is_reached_no_earlier(curve, level):
    lower, higher = first_crossing(curve, (level - 1) / 100), first_crossing(curve, level / 100)
    assert (lower or math.inf) <= (higher or math.inf)
