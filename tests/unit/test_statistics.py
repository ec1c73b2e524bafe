import math

import numpy as np
import pytest
from scipy import stats

from analysis.statistics.differences import compare, compare_independent, holm
from analysis.statistics.estimates import (
    best_of_n,
    expected_running_time,
    kaplan_meier,
    median_epochs,
    restricted_mean,
    share_reached,
)
from analysis.statistics.intervals import Estimate, mean_sd

INF, NAN = math.inf, math.nan
TEN = [19, 20, 20, 21, 22, 20, 19, 23, 21, INF]


def ends(estimate: Estimate) -> tuple[float, float]:
    return estimate.low, estimate.high


def test_an_estimate_is_shown_with_its_interval():
    assert str(Estimate(20.5, 19, 22, 0.95)) == "20.5 [19, 22]"


# Share reached


@pytest.mark.parametrize(("reached", "runs"), [(0, 10), (3, 10), (9, 10), (10, 10), (1, 1), (150, 200)])
@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_the_share_has_scipys_exact_interval(reached, runs, confidence):
    found = share_reached(reached, runs, confidence)
    expected = stats.binomtest(reached, runs).proportion_ci(confidence, method="exact")
    assert (found.value, *ends(found)) == pytest.approx((reached / runs, expected.low, expected.high))


def test_no_share_is_below_none_or_above_all():
    assert {share_reached(0, runs).low for runs in range(1, 200)} == {0}
    assert {share_reached(runs, runs).high for runs in range(1, 200)} == {1}


@pytest.mark.parametrize(("reached", "runs"), [(0, 0), (3, 2), (-1, 2)])
def test_a_share_of_no_runs_or_of_too_many_is_refused(reached, runs):
    with pytest.raises(ValueError, match="expected 1 run or more"):
        share_reached(reached, runs)


# Median


def test_a_miss_joins_the_median_as_infinite():
    assert median_epochs([19, INF, INF]).value == INF


def test_the_median_of_an_even_number_is_between_the_middle_two():
    assert median_epochs([22, 19, 20, 25]).value == 21


def test_the_median_of_an_odd_number_is_the_middle_one():
    assert median_epochs([22, 19, 20, 25, 30]).value == 22


@pytest.mark.parametrize("n", [6, 9, 10, 30, 101])
def test_the_medians_interval_is_that_of_scipys_quantile_test(n):
    values = np.arange(1.0, n + 1)
    expected = stats.quantile_test(values, p=0.5).confidence_interval(0.95)
    assert ends(median_epochs(values)) == (expected.low, expected.high)


def test_the_medians_interval_holds_a_miss():
    assert ends(median_epochs([19, 20, 20, 21, INF, INF])) == (19, INF)


def test_too_few_runs_say_nothing_of_the_median():
    assert ends(median_epochs([19, 20, 20, 21, 22])) == (1, INF)
    assert ends(median_epochs([0.5, 20])) == (0.5, INF)


# Restricted mean


def test_the_restricted_mean_takes_a_miss_for_the_budget():
    assert restricted_mean([20, INF], 30).value == 25


def test_a_network_may_be_there_before_it_trains():
    assert restricted_mean([0, 1, 2], 30).value == 1


def test_a_run_that_reaches_in_the_last_epoch_is_no_miss():
    assert restricted_mean([30] * 3, 30).low > restricted_mean([INF] * 3, 30).low


def test_of_one_run_the_next_may_take_anything_from_nothing_to_the_budget():
    assert ends(restricted_mean([20], 30)) == pytest.approx((0, 30), abs=0.5)


def test_the_interval_of_two_runs_is_students():
    assert restricted_mean([10, 20], 30).low < 5


def test_an_interval_is_longer_where_runs_lie_further_away():
    assert restricted_mean([30] * 9 + [10], 30).low < 25


@pytest.mark.parametrize("runs", [1, 5])
def test_with_a_budget_of_one_epoch_the_mean_is_between_none_and_one(runs):
    assert 0 <= restricted_mean([INF] * runs, 1, 0.99).low < 0.9


def test_epochs_above_the_budget_are_the_budget():
    assert restricted_mean([20, 40], 30) == restricted_mean([20, INF], 30)


def test_the_restricted_mean_is_the_area_under_scipys_curve():
    sample = stats.CensoredData(uncensored=[epoch for epoch in TEN if epoch < INF], right=[30])
    below = stats.ecdf(sample).sf.evaluate(np.arange(30))  # it steps at whole epochs alone
    assert restricted_mean(TEN, 30).value == pytest.approx(below.sum())


def test_the_interval_of_many_runs_is_students():
    values = np.random.default_rng(0).normal(20, 2, 2000)
    found = restricted_mean(values, 30)
    expected = stats.t.interval(0.95, 1999, values.mean(), values.std(ddof=1) / math.sqrt(2000))
    assert ends(found) == pytest.approx(expected, abs=0.02)


def test_the_interval_of_three_that_agree_is_no_point():
    low, high = ends(restricted_mean([20, 20, 20], 30))
    assert low < 19.5 < 20.5 < high


def test_where_none_reached_the_interval_starts_below_the_budget():
    found = restricted_mean([INF] * 10, 30)
    assert (found.value, found.high) == (30, 30)
    assert 20 < found.low < 30


def test_where_all_reached_the_interval_knows_of_misses_to_come():
    found = restricted_mean([20] * 10, 30)
    assert found.high > 21


def test_where_no_run_missed_the_lower_end_is_students():
    epochs = [20 + i / 3 for i in range(30)]
    low, _ = stats.t.interval(0.95, 29, np.mean(epochs), stats.sem(epochs))
    assert restricted_mean(epochs, budget=100).low == pytest.approx(low, abs=0.04)


def test_the_order_of_runs_does_not_matter():
    assert restricted_mean(TEN[::-1], 30) == restricted_mean(TEN, 30)


@pytest.mark.parametrize("epochs", [[], [-1], [NAN]])
def test_epochs_that_are_none_are_refused(epochs):
    with pytest.raises(ValueError, match="epochs"):
        restricted_mean(epochs, 30)


@pytest.mark.parametrize("budget", [0, -1, INF, NAN])
def test_a_budget_that_is_none_is_refused(budget):
    with pytest.raises(ValueError, match="budget"):
        restricted_mean(TEN, budget)


@pytest.mark.parametrize("confidence", [0, 1, 95])
def test_a_confidence_that_is_none_is_refused(confidence):
    with pytest.raises(ValueError, match="confidence"):
        restricted_mean(TEN, 30, confidence)


# Expected running time


def test_the_running_time_is_epochs_spent_over_successes():
    assert expected_running_time([20, 22, 30], [True, True, False]).value == 36


def test_the_running_time_without_success_is_infinite():
    found = expected_running_time([30] * 10, [False] * 10)
    assert (found.value, found.high) == (INF, INF)


def test_the_running_time_without_success_has_a_lower_end():
    assert 30 < expected_running_time([30] * 10, [False] * 10).low < INF


def test_the_running_time_without_a_miss_is_the_mean():
    assert expected_running_time([20, 22], [True, True]).value == 21


def test_the_running_time_of_a_rare_success_has_both_ends():
    found = expected_running_time([20] + [30] * 9, [True] + [False] * 9)
    assert 40 < found.low < found.value < found.high


def test_without_success_the_lower_end_has_the_misses_ahead_of_the_highest_share_alone():
    share = share_reached(0, 10).high
    assert expected_running_time([30] * 10, [False] * 10).low == pytest.approx((1 - share) / share * 30)


def test_the_running_time_of_one_quick_run_is_below_it_and_not_negative():
    assert 0 <= expected_running_time([0.5], [True], 0.99, budget=1).low < 0.3


def test_a_larger_budget_makes_the_misses_to_come_dearer():
    few, many = (expected_running_time([20] * 10, [True] * 10, budget=budget).high for budget in (30, 60))
    assert few < many


@pytest.mark.parametrize(("spent", "reached"), [([20], [True, False]), ([INF], [False])])
def test_epochs_spent_are_finite_and_one_for_each_run(spent, reached):
    with pytest.raises(ValueError, match="expected a finite number of epochs"):
        expected_running_time(spent, reached)


# Mean, best of n


def test_the_sample_standard_deviation_is_given():
    assert mean_sd([1, 2, 3, NAN]) == (2, 1)


def test_one_value_has_no_standard_deviation():
    mean, sd = mean_sd([2])
    assert (mean, math.isnan(sd)) == (2, True)


def test_no_value_has_no_mean():
    assert all(map(math.isnan, mean_sd([NAN])))


def test_the_best_of_one_is_the_median():
    assert best_of_n(TEN, 1) == median_epochs(TEN).value


def test_the_best_of_all_is_the_fastest():
    assert best_of_n(TEN, 10) == 19


def test_the_best_of_two_is_the_median_over_all_pairs():
    pairs = [min(TEN[i], TEN[j]) for i in range(10) for j in range(i)]
    assert best_of_n(TEN, 2) == np.median(pairs)


@pytest.mark.parametrize("n", [0, 11])
def test_a_best_of_more_runs_than_there_are_is_refused(n):
    with pytest.raises(ValueError, match="expected 1 to 10"):
        best_of_n(TEN, n)


# Kaplan and Meier

RUN, HIT = [19, 20, 20, 22, 30, 30], [True, True, True, True, False, False]


@pytest.mark.parametrize(
    ("crossings", "misses"),
    [(RUN[:4], 2), ([19, 30, 30], 2), ([30], 1), ([], 3), ([1, 1, 2, 3, 5, 8, 13, 21], 40)],
)
def test_the_curve_is_scipys(crossings, misses):
    curve = kaplan_meier([*crossings, *[30] * misses], [True] * len(crossings) + [False] * misses)
    sample = stats.CensoredData(uncensored=crossings, right=[30] * misses)
    assert curve["below"].tolist() == pytest.approx(stats.ecdf(sample).sf.evaluate(curve.index).tolist())


def test_the_curve_goes_from_epoch_zero_to_the_budget():
    curve = kaplan_meier(RUN, HIT)
    assert (curve.index.name, curve.index.tolist()) == ("epoch", list(range(31)))


def test_the_curves_interval_is_that_of_the_share():
    row = kaplan_meier(RUN, HIT).loc[20]
    assert (row["low"], row["high"]) == ends(share_reached(3, 6))


def test_pruned_runs_are_refused_with_the_reason():
    with pytest.raises(ValueError, match="1 of 2 runs were pruned, so a Kaplan-Meier curve would overstate"):
        kaplan_meier([20, 10], [True, False], [False, True])


def test_pruned_runs_are_bounded_from_both_sides():
    last = kaplan_meier([20, 10, 30], [True, False, False], [False, True, False], bounds=True).iloc[-1]
    assert (last["below_least"], last["below_most"]) == pytest.approx((1 / 3, 2 / 3))


def test_a_pruned_run_may_have_reached_an_epoch_later_at_the_soonest():
    curve = kaplan_meier([10, 30], [False, False], [True, False], bounds=True)
    assert curve["below_least"].loc[9:12].tolist() == [1, 1, 0.5, 0.5]


def test_where_every_miss_was_pruned_the_budget_is_asked_for():
    with pytest.raises(ValueError, match="give the budget"):
        kaplan_meier([20, 10], [True, False], [False, True], bounds=True)


def test_a_pruned_run_may_reach_after_all_that_were_run():
    curve = kaplan_meier([10, 25], [True, False], [False, True], bounds=True, budget=30)
    assert curve.index[-1] == 30
    assert curve["below_least"].loc[24:27].tolist() == [0.5, 0.5, 0, 0]
    assert curve["below_most"].loc[30] == 0.5


@pytest.mark.parametrize("budget", [19, 29])
def test_a_budget_that_runs_contradict_is_refused(budget):
    with pytest.raises(ValueError, match="expected one budget"):
        kaplan_meier([20, 30], [True, False], budget=budget)


@pytest.mark.parametrize(
    ("run", "reached", "pruned"),
    [
        ([20, 20], [True], None),
        ([20, 30], [True, False], [False]),
        ([20, INF], [True, False], None),
        ([20, 30], [True, False], [True, False]),
    ],
)
def test_a_curve_needs_an_end_for_each_run(run, reached, pruned):
    with pytest.raises(ValueError, match="expected a finite number of epochs for every run"):
        kaplan_meier(run, reached, pruned, bounds=True)


@pytest.mark.parametrize("run", [[20, 26, 30], [40, 30, 30]])
def test_runs_of_different_budgets_are_refused(run):
    with pytest.raises(ValueError, match="expected one budget"):
        kaplan_meier(run, [True, False, False])


# Comparison


def test_the_difference_is_that_of_the_restricted_means():
    a, b = [19, 20, INF], [21, INF, 22]
    found = compare(a, b, 30).difference.value
    assert found == pytest.approx(restricted_mean(a, 30).value - restricted_mean(b, 30).value)


def test_a_miss_is_an_epoch_later_than_the_budget():
    assert compare([30, INF], [INF, INF], 30).difference.value == -0.5
    assert compare_independent([30, INF], [INF, INF], 30).difference.value == -0.5


@pytest.mark.parametrize(("a", "b", "gap"), [(20, 25, -5), (20, INF, -11), (INF, 20, 11), (INF, INF, 0)])
def test_the_interval_of_many_pairs_of_one_kind_is_about_their_difference(a, b, gap):
    difference = compare([a] * 200, [b] * 200, budget=30).difference
    assert ends(difference) == pytest.approx((gap, gap), abs=0.7)


@pytest.mark.parametrize("one", [1, -1])
def test_the_interval_of_pairs_of_two_kinds_is_about_their_difference(one):
    a, b = [25] * 50 + [20] * 50, [20] * 50 + [INF] * 50
    found = compare(*(a, b)[::one], 30).difference
    assert sum(ends(found)) / 2 == pytest.approx(found.value, abs=0.3)


@pytest.mark.parametrize("function", [compare, compare_independent])
def test_what_reaches_in_the_last_epoch_is_always_faster_than_a_miss(function):
    found = function([20] * 10, [INF] * 10, 20)
    assert found.probability_faster.value == 1
    assert ends(found.probability_faster) == pytest.approx((0.722, 1), abs=1e-3)
    assert (found.difference.value, found.share.value, found.time) == (-1, 1, None)
    assert found.share_p < 1e-3


@pytest.mark.parametrize(("a", "b", "share"), [(20, INF, 1), (30, INF, 1), (INF, 30, 0), (INF, INF, 0.5), (INF, 20, 0)])
def test_what_reaches_is_faster_than_what_misses(a, b, share):
    assert compare([a], [b], 30).probability_faster.value == share


@pytest.mark.parametrize("turn", [1, -1])
def test_what_reaches_in_the_last_epoch_is_no_miss(turn):
    reached, missed = ([30] * 5, [INF] * 5), ([INF] * 5, [INF] * 5)
    assert compare(*reached[::turn], 30).difference != compare(*missed, 30).difference


def test_ties_count_half():
    assert compare([19, 20, INF, 25], [20, 20, INF, 24], 30).probability_faster.value == 0.5


def test_a_configuration_that_is_faster_on_every_seed_is_significantly_faster():
    fast, slow = [18, 19, 18, 20, 19, 18, 19, 18, 19, 20], [22, 23, 23, 24, 22, 22, INF, 23, 24, 23]
    found = compare(fast, slow, 30)
    assert found.difference.high < 0
    assert found.probability_faster.low > 0.5


def test_a_configuration_beside_itself_is_no_faster():
    found = compare(TEN, TEN, 30)
    assert found.difference.low < 0 < found.difference.high


def test_pairs_that_go_together_are_worth_more():
    seeds = np.random.default_rng(0).normal(20, 3, 10).round()
    paired, mixed = (compare(seeds, other + 1, 30).time for other in (seeds, np.roll(seeds, 3)))
    assert paired.high - paired.low < (mixed.high - mixed.low) / 1.5


def test_the_time_is_that_of_pairs_in_which_both_reached():
    found = compare([19, 20, INF, 22], [21, 24, 20, INF], 30)
    assert (found.both, found.time.value) == (2, -3)


def test_the_time_of_pairs_is_students_but_for_what_rounding_hides():
    gaps = np.random.default_rng(0).normal(0, 50, 10)
    found = compare(500 + gaps, [500] * 10, 1000)
    assert ends(found.time) == pytest.approx(stats.t.interval(0.95, 9, gaps.mean(), stats.sem(gaps)), rel=1e-3)
    assert found.time_p == pytest.approx(stats.ttest_1samp(gaps, 0).pvalue, rel=1e-3)


def test_the_time_of_independent_runs_is_students_but_for_the_degrees_of_freedom():
    a, b = np.random.default_rng(0).normal(500, 50, (2, 10))
    found = compare_independent(a, b, 1000)
    error = math.sqrt((a.var(ddof=1) + b.var(ddof=1)) / 10)
    assert ends(found.time) == pytest.approx(stats.t.interval(0.95, 9, a.mean() - b.mean(), error), rel=1e-3)


def test_a_few_runs_that_agree_have_the_spread_of_the_others():
    few, many = [20.0, 20.0, 20.0], [16.0, 24.0] * 10
    found = compare_independent(few, many, 30).time
    assert found.high - found.low > 10


def test_times_that_agree_may_still_be_apart_by_what_rounding_hides():
    found = compare([20] * 5, [20] * 5, 30).time
    assert found.low < -0.4 < 0.4 < found.high


@pytest.mark.parametrize("function", [compare, compare_independent])
def test_of_one_run_that_reached_in_both_nothing_is_known_of_the_time(function):
    found = function([20, INF], [22, INF], 30)
    assert (found.both, found.time.value, *ends(found.time), found.time_p) == (1, -2, -30, 30, 1)


def test_the_difference_of_shares_is_that_of_pairs_of_one_kind_alone():
    found = compare([20, 20, 20, INF], [INF, INF, 20, 20], 30).share
    assert found.value == 0.25
    alike = compare([20] * 20 + [INF] * 20, [20] * 20 + [INF] * 20, 30).share
    assert alike.high < compare_independent([20] * 20 + [INF] * 20, [20] * 20 + [INF] * 20, 30).share.high


@pytest.mark.parametrize(("p", "q"), [(0.02, 0.02), (0.3, 0.1), (0.5, 0.5), (0.45, 0.05), (0.6, 0.3)])
@pytest.mark.parametrize("pairs", [5, 10, 25])
def test_the_difference_of_shares_of_pairs_holds_the_truth_as_often_as_it_claims(p, q, pairs):
    held = 0.0
    for x in range(pairs + 1):
        for y in range(pairs + 1 - x):
            a = [20] * x + [INF] * y + [20] * (pairs - x - y)
            b = [INF] * x + [20] * y + [20] * (pairs - x - y)
            found = compare(a, b, 30).share
            chance = stats.multinomial.pmf([x, y, pairs - x - y], pairs, [p, q, 1 - p - q])
            held += chance * (found.low <= p - q <= found.high)
    assert held >= 0.93


def test_a_p_value_is_that_of_the_interval_that_ends_at_no_difference():
    a, b = [20] * 9 + [INF], [20] * 2 + [INF] * 8
    found = compare_independent(a, b, 30)
    assert compare_independent(a, b, 30, 1 - found.share_p).share.low == pytest.approx(0, abs=1e-6)


# Several comparisons


def test_holms_p_values_are_those_of_his_procedure():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


@pytest.mark.parametrize("p", [-0.1, 1.1, NAN])
def test_a_p_value_that_is_none_is_refused(p):
    with pytest.raises(ValueError, match="expected numbers from 0 to 1"):
        holm([0.5, p])


def test_samples_of_different_sizes_are_refused():
    with pytest.raises(ValueError, match="2 runs of A and 1 of B"):
        compare([1, 2], [1], 30)


def test_the_lower_end_of_a_restricted_mean_is_no_rounding_error():
    assert restricted_mean([7], 8).low == 0
