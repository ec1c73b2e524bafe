"""Two configurations beside each other, and what a confirmation found."""

import dataclasses
import json
import math

import matplotlib.image
import numpy as np
import pytest

from analysis.plots.bands import plot_bands
from analysis.statistics.differences import compare, compare_independent, holm
from analysis.tables.comparison import (
    PhaseError,
    compare_configurations,
    compare_two,
    configuration_runs,
    setting_differences,
)
from analysis.tables.confirmation import build_confirmation

FAST, SLOW, MISS = [0.5, 0.93, 0.94, 0.94], [0.5, 0.6, 0.7, 0.95], [0.5, 0.6, 0.7, 0.75]


@pytest.fixture
def repeated(make_study):
    """A study of one configuration, a run for each curve, with seeds from the first on."""

    def make(*curves, first_seed=0, name="made", phase="confirm", target=0.92, **fields):
        runs = [
            {
                **{"val_accs": curve, "outcome": "reached" if max(curve) >= target else "exhausted", "horizon": 4},
                **{"seed": first_seed + i, "trial": f"a-s{first_seed + i}"},
                **fields,
            }
            for i, curve in enumerate(curves)
        ]
        return dataclasses.replace(make_study(*runs, target=target), name=name, phase=phase)

    return make


# One configuration


def test_an_arm_has_the_epochs_of_its_runs(repeated):
    found = configuration_runs(repeated(FAST, SLOW, MISS))
    assert (found.epochs, found.seeds, found.reached) == ((2.0, 4.0, math.inf), (0, 1, 2), 2)


def test_an_arm_is_counted_at_the_target_that_is_asked_for(repeated):
    assert configuration_runs(repeated(FAST, MISS), target=0.75).epochs == (2.0, 4.0)


def test_a_run_that_has_not_ended_is_left_out(repeated):
    study = repeated(FAST, SLOW)
    study.trials.loc[1, "outcome"] = None
    assert configuration_runs(study).epochs == (2.0,)


def test_a_study_of_two_configurations_needs_a_trial(make_study):
    study = make_study({"val_accs": FAST, "outcome": "reached"}, {"val_accs": SLOW, "outcome": "reached", "shift": 0.1})
    with pytest.raises(ValueError, match=r"2 configurations: name one .* made:TRIAL; its trials: trial-0, trial-1"):
        configuration_runs(study)


def test_a_trial_stands_for_all_runs_of_its_configuration(make_study):
    runs = [{"val_accs": FAST, "outcome": "reached", "seed": seed, "shift": shift} for seed, shift in ((0, 0), (1, 0))]
    study = make_study(*runs, {"val_accs": SLOW, "outcome": "reached", "seed": 0, "shift": 0.1})
    assert configuration_runs(study, "trial-1").epochs == (2.0, 2.0)


def test_a_missing_trial_is_an_error(repeated):
    with pytest.raises(ValueError, match="has no trial 'x'; its trials: a-s0"):
        configuration_runs(repeated(FAST), "x")


def test_a_configuration_of_which_no_run_has_ended_is_no_arm(repeated):
    with pytest.raises(ValueError, match="study 'made': no run of a has ended yet"):
        configuration_runs(repeated(FAST, outcome=None))


def test_a_configuration_that_crashed_says_why_and_where_to_see_more(make_study):
    crash = {"outcome": "crashed", "stop_reason": "mlp.py, line 5: KeyError: 'x'", "shift": 0.1}
    study = make_study({"val_accs": FAST, "outcome": "reached"}, crash)
    with pytest.raises(ValueError, match=r"study 'made', trial-1: .* KeyError: 'x'; `sweeps show made trial-1` tells"):
        configuration_runs(study, "trial-1")


# Two of them


def test_shared_seeds_are_compared_in_pairs(repeated):
    found = compare_two(configuration_runs(repeated(FAST, MISS)), configuration_runs(repeated(SLOW, SLOW)))
    assert found.pairs == (0, 1)
    assert found.result == compare([2, math.inf], [4, 4], 4)


def test_pairs_are_matched_by_seed_and_not_by_place(repeated):
    b = repeated(SLOW, FAST)
    b.trials["seed"] = [1, 0]
    assert compare_two(configuration_runs(repeated(FAST, SLOW)), configuration_runs(b)).result.difference.value == 0


def test_runs_without_shared_seeds_are_compared_as_independent(repeated):
    found = compare_two(
        configuration_runs(repeated(FAST, SLOW)), configuration_runs(repeated(SLOW, SLOW, first_seed=5))
    )
    assert (found.pairs, found.result.pairs) == ((), 0)
    assert any("independent" in note for note in found.notes)


def test_a_run_without_a_partner_is_left_out_and_said(repeated):
    found = compare_two(configuration_runs(repeated(FAST, FAST, FAST)), configuration_runs(repeated(FAST, FAST)))
    assert found.pairs == (0, 1)
    assert any("1 runs of made: a have no partner" in note for note in found.notes)


def test_a_search_is_not_compared_with_a_confirmation(repeated):
    with pytest.raises(PhaseError, match=r"is a search and .* a confirmation"):
        compare_two(configuration_runs(repeated(FAST, phase="search")), configuration_runs(repeated(FAST)))


def test_a_search_is_compared_with_a_confirmation_where_asked_and_that_is_said(repeated):
    found = compare_two(
        configuration_runs(repeated(FAST, phase="search")), configuration_runs(repeated(FAST)), mix=True
    )
    assert "no fair comparison" in found.notes[0]


def test_two_searches_are_said_to_be_exploratory(repeated):
    found = compare_two(
        configuration_runs(repeated(FAST, phase="search")), configuration_runs(repeated(SLOW, phase="search"))
    )
    assert found.notes[0].startswith("Both are of searches, exploratory")


def test_runs_that_were_stopped_early_are_counted_in_a_note(repeated):
    found = compare_two(
        configuration_runs(repeated(FAST, FAST)), configuration_runs(repeated(MISS[:2], MISS[:2], outcome="pruned"))
    )
    assert "2 runs of made: a were stopped early and count as misses." in found.notes


def test_two_targets_are_refused(repeated):
    with pytest.raises(ValueError, match=r"aims at 0\.92 and .* at 0\.9: name one target"):
        compare_two(configuration_runs(repeated(FAST)), configuration_runs(repeated(FAST), target=0.9))


def test_the_shorter_horizon_is_the_budget(repeated):
    found = compare_two(configuration_runs(repeated(FAST, SLOW)), configuration_runs(repeated(FAST, SLOW, horizon=3)))
    assert found.budget == 3
    assert any("epochs 4 and 3" in note for note in found.notes)


def test_what_differs_between_the_configurations_is_said(repeated):
    a, b = configuration_runs(repeated(FAST)), configuration_runs(repeated(FAST, weight_decay=0.2))
    assert setting_differences(a, b) == ["weight_decay: 0.18 -> 0.2"]


def test_a_different_validation_is_mentioned(repeated):
    found = compare_two(configuration_runs(repeated(FAST, ema=0.0)), configuration_runs(repeated(FAST, ema=0.99)))
    assert "Not validated alike: ema: 0.0 -> 0.99." in found.notes


def test_plain_values_are_json(repeated):
    shown = compare_two(configuration_runs(repeated(FAST, SLOW)), configuration_runs(repeated(MISS, SLOW))).to_dict()
    json.dumps(shown)
    assert (shown["paired_seeds"], shown["difference"]["value"], shown["share"]["value"]) == ([0, 1], -1.5, 0.5)


def test_the_text_names_both_and_the_difference(repeated):
    said = str(
        compare_two(configuration_runs(repeated(FAST, SLOW)), configuration_runs(repeated(SLOW, SLOW, name="other")))
    )
    assert "A: made: a: reached 0.92 in 2 of 2 runs" in said
    assert "B: other: a" in said
    assert "A minus B, up to epoch 4 (2 pairs of runs that share a seed):" in said
    assert "time given that both reached: -1 [-4, 4] epochs (2 pairs)" in said
    assert "both in one, a miss counting as 5 epochs: -1 [" in said


# Sustained crossings


def test_sustained_crossings_stand_beside_first_ones(repeated):
    touched = [0.93, 0.5, 0.93, 0.94]
    found = compare_two(configuration_runs(repeated(touched, FAST)), configuration_runs(repeated(FAST, FAST)))
    assert (found.a.epochs, found.a.sustained, found.a.unknown) == ((1, 2), (3, 2), 0)
    assert found.sustained == compare([3, 2], [2, 2], 4)
    assert "sustained for 2 epochs in a row: in 2, restricted mean 2.5 [" in str(found)
    assert "A minus B, of crossings sustained for 2 epochs in a row:" in str(found)


def test_a_run_that_ended_at_its_crossing_is_not_known_to_have_sustained_it(repeated):
    found = compare_two(
        configuration_runs(repeated(SLOW, [0.93, 0.5, 0.5, 0.5])), configuration_runs(repeated(FAST, FAST))
    )
    assert (found.a.sustained, found.a.unknown) == ((math.inf, math.inf), 1)
    assert "in 0; of 1 not known, they ended at it, restricted mean" in str(found)


# Several of them


def test_each_is_compared_with_the_first(repeated):
    arms = [configuration_runs(repeated(FAST, FAST, name=name)) for name in "abc"]
    found = compare_configurations(arms)
    assert [(each.a.study, each.b.study, each.names) for each in found] == [
        *(("a", "b", ("A", "B")), ("a", "c", ("A", "C")))
    ]


def test_verdicts_are_adjusted_for_all_that_are_made(repeated):
    arms = [
        configuration_runs(repeated(*[FAST] * 9)),
        *(configuration_runs(repeated(*[curve] * 9)) for curve in (SLOW, MISS, FAST)),
    ]
    found = compare_configurations(arms)
    expected = holm([p for each in found for p in (each.result.share_p, each.result.time_p)])
    assert [p for each in found for p in (each.share_p_holm, each.time_p_holm)] == expected
    assert found[0].p_values == 6
    assert "A is faster where both reach" in str(found[0])
    assert "A reaches more often" in str(found[1])
    assert "the shares are not told apart" in str(found[2])
    assert "the times given that both reached are not told apart" in str(found[2])


def test_a_verdict_that_is_one_of_many_needs_more(repeated):
    a, b = (configuration_runs(repeated(*[FAST] * 5)) for _ in "ab")
    b = dataclasses.replace(b, epochs=(3.0,) * 5)
    alone, among = compare_two(a, b), compare_configurations([a, *[b] * 8])[0]
    assert "A is faster where" in str(alone)
    assert "A is faster where" not in str(among)


def test_one_configuration_is_no_comparison(repeated):
    with pytest.raises(ValueError, match="1 configurations: expected two or more"):
        compare_configurations([configuration_runs(repeated(FAST))])


# Independent runs


def test_the_probability_is_the_share_of_pairs_that_a_wins_and_half_the_ties():
    found = compare_independent([2, 3, math.inf], [3, math.inf], 4)
    assert found.probability_faster.value == (2 + 1 + 0.5 + 0.5) / 6


def test_an_epoch_above_the_budget_is_a_miss():
    late = compare_independent([9, 9], [3, 3], 4)
    assert late == compare_independent([math.inf, math.inf], [3, 3], 4)


def test_the_sides_change_the_sign():
    one, other = compare_independent([2, 3, 4], [5, 6, 9], 10), compare_independent([5, 6, 9], [2, 3, 4], 10)
    assert one.difference.value == -other.difference.value
    assert one.probability_faster.value == 1 - other.probability_faster.value


def test_the_interval_of_a_difference_holds_no_difference_where_there_is_none():
    draw = np.random.default_rng(0)
    held = 0
    for _ in range(100):
        a, b = draw.normal(20, 2, 8), draw.normal(20, 2, 8)
        difference = compare_independent(a.tolist(), b.tolist(), 40).difference
        held += difference.low <= 0 <= difference.high
    assert held >= 90


# As a figure


def test_the_bands_go_from_quartile_to_quartile(repeated):
    figure = plot_bands(
        compare_two(configuration_runs(repeated(FAST, SLOW, MISS)), configuration_runs(repeated(SLOW, SLOW, SLOW)))
    )
    (line, *_) = figure.axes[0].lines
    assert line.get_ydata() == pytest.approx(np.median([FAST, SLOW, MISS], axis=0))
    band = figure.axes[0].collections[0].get_paths()[0].vertices[:, 1]
    assert band.max() == pytest.approx(np.quantile([FAST, SLOW, MISS], 0.75, axis=0).max())


def test_the_two_are_told_apart_in_grey(repeated):
    a, b, *_ = (
        plot_bands(compare_two(configuration_runs(repeated(FAST)), configuration_runs(repeated(SLOW)))).axes[0].lines
    )
    assert a.get_linestyle() != b.get_linestyle()


def test_the_figure_is_saved(repeated, tmp_path):
    path = tmp_path / "bands.png"
    plot_bands(compare_two(configuration_runs(repeated(FAST, MISS)), configuration_runs(repeated(SLOW, SLOW))), path)
    assert matplotlib.image.imread(path).std() > 0


# A confirmation


def test_a_confirmation_counts_those_that_reached(repeated):
    found = build_confirmation(repeated(FAST, SLOW, MISS))
    assert (found.runs, found.reached, found.share.value, found.budget) == (3, 2, pytest.approx(2 / 3), 4)


def test_a_confirmation_has_its_estimates(repeated):
    found = build_confirmation(repeated(FAST, SLOW, MISS))
    assert (found.median.value, found.restricted_mean.value) == (4, pytest.approx(10 / 3))
    assert found.expected_running_time.value == 5


def test_the_test_accuracy_is_that_of_the_last_epochs(repeated):
    study = repeated(FAST, SLOW, split="held-out")
    study.epochs["test_acc"] = np.where(study.epochs["epoch"] == 4, [0.9] * 4 + [0.92] * 4, math.nan)
    assert str(build_confirmation(study).test_acc) == "0.9100 ± 0.0141 (n = 2)"


def test_the_text_of_a_confirmation_has_its_test_accuracy(repeated):
    study = repeated(FAST, split="held-out")
    study.epochs["test_acc"] = [0.1, 0.2, 0.95, 0.9]
    assert "test accuracy after the last epoch: 0.9000 (n = 1)" in str(build_confirmation(study))


def test_the_test_accuracy_of_a_run_that_diverged_is_left_out(repeated):
    study = repeated(FAST, SLOW, split="held-out")
    study.epochs["test_acc"] = 0.9
    study.trials.loc[1, "outcome"] = "diverged"
    assert build_confirmation(study).test_acc.runs == 1


def test_a_confirmation_has_the_epochs_at_which_the_target_is_held(repeated):
    found = build_confirmation(repeated(FAST, [0.93, 0.5, 0.93, 0.93], SLOW))
    assert (found.reached, found.median.value) == (3, 2)
    assert (found.in_a_row, found.sustained.reached, found.sustained.median.value) == (2, 2, 3)
    assert "held for 2 epochs in a row: 2 of 3 runs, share 0.6667" in str(found)


def test_a_run_that_diverged_holds_no_target(repeated):
    study = repeated(FAST, FAST)
    study.trials.loc[1, "outcome"] = "diverged"
    assert build_confirmation(study).sustained.reached == 1


def test_a_confirmation_has_the_epochs_to_target_on_the_test_images(repeated):
    study = repeated(FAST, FAST, SLOW, split="held-out")
    study.epochs["test_acc"] = [0.1, 0.5, 0.92, 0.95, *[0.1, 0.92, 0.5, 0.93], *[0.1, 0.5, 0.5, 0.91]]
    found = build_confirmation(study)
    assert (found.test_first.reached, found.test_first.runs, found.test_first.median.value) == (2, 3, 3)
    assert (found.test_sustained.reached, found.test_sustained.median.value) == (1, math.inf)
    assert "reached 0.92 on the test images: 2 of 3 runs, share 0.6667" in str(found)


def test_runs_that_were_tested_after_their_last_epoch_alone_have_no_epochs_to_target_on_test_images(repeated):
    study = repeated(FAST, FAST, split="held-out")
    study.epochs["test_acc"] = [math.nan] * 3 + [0.95] * 5
    assert build_confirmation(study).test_first.runs == 1
    study.epochs["test_acc"] = [*[math.nan] * 3, 0.95] * 2
    assert (build_confirmation(study).test_first, build_confirmation(study).test_acc.runs) == (None, 2)


def test_untouched_images_that_were_not_used_are_not_mentioned(repeated):
    study = dataclasses.replace(repeated(FAST), split="held-out")
    assert "test accuracy" not in str(build_confirmation(study))


def test_a_confirmation_as_plain_values_is_json(repeated):
    shown = json.loads(json.dumps(build_confirmation(repeated(FAST, SLOW, MISS)).to_dict()))
    assert (shown["reached"], shown["median"]["value"], shown["test_acc"]) == (2, 4, None)


def test_a_run_that_crashed_is_left_out_and_counted(repeated):
    study = repeated(FAST, SLOW)
    study.trials.loc[1, "outcome"] = "crashed"
    found = build_confirmation(study)
    assert (found.runs, found.crashed) == (1, 1)
    assert "left out: 1 crashed" in str(found)


def test_a_split_without_untouched_images_has_no_test_accuracy_and_that_is_said(repeated):
    assert "no test accuracy: the official split leaves no images untouched" in str(build_confirmation(repeated(FAST)))


@pytest.mark.parametrize(
    ("lengthened", "said"),
    [("looked", "seeds were added after runs had ended: intervals assume a number of runs fixed in advance"),
     ("sequential", "a sequential test decided the number of runs"),
     ("", None), ("of a later version", None)],
)  # fmt: skip
def test_a_number_of_runs_that_was_not_fixed_in_advance_is_reported(repeated, lengthened, said):
    text = str(build_confirmation(dataclasses.replace(repeated(FAST), lengthened=lengthened)))
    assert said in text if said else text.endswith("confidence intervals")


def test_a_search_is_no_confirmation(repeated):
    with pytest.raises(ValueError, match="is a search; `sweeps confirm made`"):
        build_confirmation(repeated(FAST, phase="search"))


def test_a_confirmation_whose_runs_crashed_says_why(repeated):
    with pytest.raises(ValueError, match="every trial crashed; `sweeps show made a-s0` tells more"):
        build_confirmation(repeated(FAST, outcome="crashed"))


def test_a_confirmation_of_which_nothing_has_ended_has_nothing_to_say(repeated):
    with pytest.raises(ValueError, match="no run has ended yet"):
        build_confirmation(repeated(FAST, outcome=None))
