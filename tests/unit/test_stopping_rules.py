"""What each stopping rule ends, at which epoch, and in which words."""

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from random import Random

import pytest
from pydantic import ValidationError

from resnet_core.config import TrialConfig
from resnet_core.data import DatasetInfo
from resnet_core.own_config import OwnConfig
from resnet_core.records import Outcome
from sweeps.study.stopping.asha import Asha
from sweeps.study.stopping.at_target import AtTarget
from sweeps.study.stopping.base import Curve, Progress, StudyState, first_epoch_at, last_epoch_by
from sweeps.study.stopping.cannot_reach import CannotReach
from sweeps.study.stopping.cap import Cap
from sweeps.study.stopping.diverged import Diverged
from sweeps.study.stopping.forecast import Forecast
from sweeps.study.stopping.median import Median
from sweeps.study.stopping.patience import Patience
from sweeps.study.stopping.rules import group_of, is_control, rule_modes, rules_of
from tests.studies import SCHEDULE, epoch_record, fixed_study, sampled_study

NAN, INF = float("nan"), float("inf")


def curve(val_accs: Sequence[float], loss: float = 0.5, accs: Sequence[float] = (), warmup: int = 1) -> Progress:
    """A trial with these epochs: validation accuracies, the last training loss, and training accuracies."""
    epochs = enumerate(zip(val_accs, accs or [0.8] * len(val_accs), strict=False), start=1)
    records = [epoch_record(epoch, val_acc, acc=acc) for epoch, (val_acc, acc) in epochs]
    records[-1] = replace(records[-1], loss=loss)
    return Progress(TrialConfig(schedule=f"[1e-4, 0] lin[1e-3, {warmup}] lin[1e-5, 60]"), records)


def state(*epochs_to_target: int, sustained: int = 2) -> StudyState:
    return StudyState(0.92, sustained, epochs_to_target)


def slow(epochs: int) -> Progress:
    return curve([0.5] * epochs)


# Cap


def test_cap_says_which_trial_was_faster_and_what_is_used_up():
    reason = Cap(best=5, slack=1.2).reason_to_stop(slow(24), state(12, 15, 18, 19, 20, 22))
    assert reason == (
        "stopped at epoch 24: the 5th-best trial reached 0.92 at epoch 20, and 1.2 x 20 epochs are used up"
    )


RANKS = {1: "", 2: "2nd-", 3: "3rd-", 4: "4th-", 11: "11th-", 12: "12th-", 13: "13th-", 21: "21st-", 113: "113th-"}


@pytest.mark.parametrize("best", RANKS)
def test_cap_names_the_rank_in_words(best):
    assert f": the {RANKS[best]}best trial " in Cap(best=best, slack=1.0).reason_to_stop(slow(5), state(*[5] * best))


# 1.16 x 25 and 1.4 x 45 come out a little below 29 and 63 in binary.
@pytest.mark.parametrize(
    ("slack", "bar", "allowed"),
    [(1.0, 7, 7), (1.2, 5, 6), (1.2, 20, 24), (1.16, 25, 29), (1.4, 45, 63), (1.5, 5, 7), (1.99, 3, 5)],
)
def test_cap_stops_at_the_last_whole_epoch_below_the_bound(slack, bar, allowed):
    cap = Cap(best=1, slack=slack)
    assert cap.reason_to_stop(slow(allowed - 1), state(bar)) is None
    assert cap.reason_to_stop(slow(allowed), state(bar)).startswith(f"stopped at epoch {allowed}: ")


def test_cap_waits_for_as_many_crossings_as_the_rank():
    assert Cap(best=3, slack=1.2).reason_to_stop(slow(50), state(5, 6)) is None
    assert Cap(best=3, slack=1.2).reason_to_stop(slow(50), state(5, 6, 7)) is not None


@pytest.mark.parametrize("after", [[], [0.93] * 20, [0.5] * 20])
def test_cap_lets_a_trial_go_on_that_reached_the_target_once(after):
    assert Cap(best=1, slack=1.0).reason_to_stop(curve([0.5] * 9 + [0.92, *after]), state(5)) is None


# Diverged


@pytest.mark.parametrize(("loss", "word"), [(NAN, "nan"), (INF, "inf"), (-INF, "-inf")])
def test_a_loss_that_is_not_finite_is_divergence(loss, word):
    reason = Diverged().reason_to_stop(curve([0.95, 0.1], loss), state())
    assert reason == f"stopped at epoch 2: the loss is {word} at epoch 2"


def test_chance_is_divergence_at_the_third_epoch_after_the_warm_up():
    chance = [0.1] * 20
    assert Diverged().reason_to_stop(curve(chance[:6], accs=chance, warmup=4), state()) is None
    reason = Diverged().reason_to_stop(curve(chance[:7], accs=chance, warmup=4), state())
    assert reason == "stopped at epoch 7: training accuracy is at chance (0.100) since epoch 5"


def test_the_warm_up_ends_where_the_rate_is_first_highest():
    trial = curve([0.1] * 5, accs=[0.1] * 5)
    plateau = TrialConfig(schedule="[1e-4, 0] lin[1e-3, 2] lin[1e-3, 30] lin[1e-5, 40]")
    assert Diverged().reason_to_stop(Progress(plateau, trial.records), state()) is not None


@pytest.mark.parametrize("accs", [[0.1, 0.1, 0.13], [0.1, 0.13, 0.1], [0.13, 0.1, 0.1]])
def test_one_epoch_above_chance_is_enough(accs):
    assert Diverged().reason_to_stop(curve([0.1] * 4, accs=[0.1, *accs]), state()) is None


def test_an_accuracy_of_just_1_2_times_chance_is_no_divergence():
    assert Diverged().reason_to_stop(curve([0.1] * 4, accs=[0.12] * 4), state()) is None


@pytest.mark.parametrize(
    ("classes", "images", "at_chance", "better"),
    [
        (2, 50_000, 0.519, 0.521),
        (2, 400, 0.549, 0.551),
        (10, 50_000, 0.119, 0.121),
        (100, 50_000, 0.0119, 0.0121),
        (100, 500, 0.0188, 0.019),
    ],
)
def test_chance_is_that_of_the_data_set(classes, images, at_chance, better):
    info = DatasetInfo(classes, images, 100)
    config = TrialConfig(schedule="[1e-3, 0] lin[1e-5, 60]", data="own:DATA", data_info=info)

    def reason(acc):
        trial = Progress(config, curve([0.1] * 4, accs=[acc] * 4).records)
        return Diverged().reason_to_stop(trial, state())

    assert reason(at_chance) is not None
    assert reason(better) is None


def test_a_trainer_of_ones_own_has_no_chance_that_is_known():
    trial = curve([0.1] * 4, accs=[0.01] * 4)
    assert (
        Diverged().reason_to_stop(Progress(OwnConfig((("schedule", SCHEDULE),), ("schedule",)), trial.records), state())
        is None
    )


def test_chance_is_divergence_after_better_epochs_too():
    trial = curve([0.5] * 6, accs=[0.3, 0.5, 0.6, 0.1, 0.1, 0.1])
    assert Diverged().reason_to_stop(trial, state()).endswith("since epoch 4")


@pytest.mark.parametrize("val_acc", [0.0, 0.1, NAN])
def test_validation_accuracy_alone_is_no_divergence(val_acc):
    assert Diverged().reason_to_stop(curve([val_acc] * 20, accs=[0.6] * 20), state()) is None


def test_a_loss_that_was_not_finite_before_is_not_asked_about():
    early = curve([0.5], NAN).records
    assert Diverged().reason_to_stop(Progress(slow(2).config, [*early, slow(2).records[1]]), state()) is None


# AtTarget


@pytest.mark.parametrize("sustained", [1, 2, 3])
def test_at_target_stops_at_the_last_epoch_of_those_in_a_row(sustained):
    trial = curve([0.5] * 4 + [0.92] * sustained)
    reason = AtTarget().reason_to_stop(trial, state(sustained=sustained))
    assert reason == f"stopped at epoch {4 + sustained}: 0.92 reached at epoch 5 and held for {sustained} epochs"


@pytest.mark.parametrize("val_accs", [[0.5, 0.95], [0.95, 0.5, 0.95], [0.95, 0.91, 0.95, 0.91]])
def test_at_target_does_not_stop_at_a_single_crossing(val_accs):
    assert AtTarget().reason_to_stop(curve(val_accs), state()) is None


# Curves, and shares of schedules


def test_a_curve_is_smoothed_over_its_last_three_epochs():
    assert Curve([0.1, 0.3, 0.8, 0.4], 9).smoothed == pytest.approx([0.1, 0.2, 0.4, 0.5])


def test_missing_accuracies_are_left_out_of_means():
    assert Curve([NAN, 0.2, NAN, 0.4], 9).smoothed == pytest.approx([NAN, 0.2, 0.2, 0.3], nan_ok=True)


def test_the_best_so_far_never_falls():
    assert Curve([NAN, 0.6, 0.0, 0.0, 0.9], 9).best_smoothed == pytest.approx([-INF, 0.6, 0.6, 0.6, 0.6])


def test_an_average_is_over_all_epochs_so_far():
    assert Curve([0.1, 0.3, NAN, 0.8], 9).averages == pytest.approx([0.1, 0.2, 0.2, 0.4])


@pytest.mark.parametrize(("outcome", "epochs"), [(None, 2), (Outcome.REACHED, 2), (Outcome.DIVERGED, None)])
def test_a_diverged_trial_never_reached_the_target(outcome, epochs):
    assert Curve([0.5, 0.92, 0.9], 9, outcome).epochs_to_target(0.92) == epochs


# 0.3 x 10 comes out as 3.0, 0.07 x 100 a little above 7, 0.29 x 100 a little below 29 in binary.
@pytest.mark.parametrize(
    ("share", "horizon", "first", "last"),
    [
        (0.3, 10, 3, 3),
        (0.07, 100, 7, 7),
        (0.29, 100, 29, 29),
        (0.25, 30, 8, 7),
        (0.01, 30, 1, 0),
        (1e-12, 30, 1, 0),
        (1.0, 30, 30, 30),
    ],
)
def test_a_share_of_a_schedule_falls_on_these_epochs(share, horizon, first, last):
    assert (first_epoch_at(share, horizon), last_epoch_by(share, horizon)) == (first, last)


# Cap within groups


def test_a_cap_per_group_looks_at_trials_of_the_same_group_alone():
    config = slow(10).config
    others = [Curve([0.95], 60, Outcome.REACHED, "sgd"), Curve([0.5] * 8 + [0.95], 60, Outcome.REACHED, "adamw")]
    cap, study = Cap(best=1, slack=1.0, per="optimizer"), StudyState(0.92, 2, [1, 9], others)
    assert cap.reason_to_stop(Progress(config, slow(8).records, "adamw"), study) is None
    assert cap.reason_to_stop(Progress(config, slow(9).records, "adamw"), study) == (
        "stopped at epoch 9: the best trial with optimizer = adamw reached 0.92 at epoch 9, "
        "and 1 x 9 epochs are used up"
    )
    assert cap.reason_to_stop(Progress(config, slow(60).records, "adam"), study) is None


# CannotReach: of 60 epochs, in trials of 60


def reached(*before: float, horizon: int = 60) -> list[Curve]:
    """Trials that reached the target after epochs at one accuracy each."""
    return [Curve([val_acc] * (horizon - 1) + [0.93], horizon, Outcome.REACHED) for val_acc in before]


def seen(curves: Sequence[Curve]) -> StudyState:
    return StudyState(0.92, 2, [], curves)


def test_cannot_reach_says_the_numbers():
    reason = CannotReach(after=0.3, trials=2, margin=0.05).reason_to_stop(
        curve([0.3] * 17 + [0.4]), seen(reached(0.5, 0.6))
    )
    assert reason == (
        "stopped at epoch 18: after 30% of its schedule its best val_acc over three epochs is 0.3333; "
        "the 2 trials that reached 0.92 had at least 0.5000 less 0.05 by then"
    )


@pytest.mark.parametrize(("val_acc", "margin", "stops"), [(0.49, 0, True), (0.5, 0, False), (0.46, 0.05, False)])
def test_cannot_reach_lets_a_trial_go_on_that_is_no_further_below_than_one_that_reached(val_acc, margin, stops):
    reason = CannotReach(after=0.3, trials=2, margin=margin).reason_to_stop(
        curve([val_acc] * 20), seen(reached(0.5, 0.6))
    )
    assert (reason is not None) is stops


def test_cannot_reach_calls_the_best_of_no_accuracy_zero():
    reason = CannotReach(after=0.3, trials=1).reason_to_stop(curve([NAN] * 18), seen(reached(0.5)))
    assert "its best val_acc over three epochs is 0.0000;" in reason


def test_cannot_reach_waits_for_enough_trials_that_reached():
    missed = [Curve([0.9] * 60, 60, Outcome.EXHAUSTED)] * 9 + [Curve([0.9, 0.95], 60, Outcome.DIVERGED)]
    assert CannotReach(after=0.3, trials=3).reason_to_stop(slow(30), seen(reached(0.8, 0.8) + missed)) is None
    assert CannotReach(after=0.3, trials=3).reason_to_stop(slow(30), seen(reached(0.8, 0.8, 0.8) + missed)) is not None


def test_cannot_reach_compares_at_the_same_share_of_schedules_of_other_lengths():
    """At half of its six epochs the short one had 0.2; after the 30 epochs this trial has done, 0.93."""
    short = [Curve([0.2, 0.2, 0.2, 0.2, 0.2, 0.93], 6, Outcome.REACHED)]
    assert CannotReach(after=0.3, trials=1).reason_to_stop(curve([0.3] * 30), seen(short)) is None
    assert CannotReach(after=0.3, trials=1).reason_to_stop(curve([0.1] * 30), seen(short)) is not None


def test_cannot_reach_takes_the_last_value_of_a_trial_that_was_ended_at_the_target():
    ended = [Curve([0.5, 0.5, 0.5, 0.95], 60, Outcome.REACHED)]  # its mean over three epochs came to 0.65
    assert CannotReach(after=0.3, trials=1).reason_to_stop(curve([0.66] * 40), seen(ended)) is None
    assert CannotReach(after=0.3, trials=1).reason_to_stop(curve([0.64] * 40), seen(ended)) is not None


def test_cannot_reach_stops_nothing_where_a_trial_had_no_epoch_by_that_share():
    assert (
        CannotReach(after=0.3, trials=1).reason_to_stop(curve([0.0] * 20), seen([Curve([0.95], 2, Outcome.REACHED)]))
        is None
    )


@pytest.mark.parametrize(
    "rule", [CannotReach(after=0.3, trials=1), Asha(reduction=2, after=0.3), Median(after=0.3, trials=1)]
)
def test_rules_that_rank_let_a_trial_go_on_that_reached_the_target(rule):
    assert rule.reason_to_stop(curve([0.93] + [0.1] * 17), seen(reached(0.8, 0.8, 0.8))) is None
    assert rule.reason_to_stop(curve([0.1] * 18), seen(reached(0.8, 0.8, 0.8))) is not None


# Asha


def test_asha_says_the_rank():
    reason = Asha(reduction=3, after=0.25).reason_to_stop(curve([0.4] * 15), seen(reached(0.3, 0.5, 0.6, 0.7, 0.8)))
    assert reason == (
        "stopped at epoch 15: with val_acc 0.4000 over three epochs it is number 5 of the 6 trials at 25% of "
        "their schedules, of which the best 2 go on"
    )


@pytest.mark.parametrize("epoch", range(1, 60))
def test_asha_ends_trials_at_its_rungs_alone(epoch):
    reason = Asha(reduction=3, after=0.1).reason_to_stop(curve([0.1] * epoch), seen(reached(*[0.8] * 9)))
    assert (reason is not None) is (epoch in (6, 18, 54))


@pytest.mark.parametrize(("others", "rank_goes_on"), [(1, None), (2, 1), (4, 1), (5, 2), (8, 3)])
def test_asha_lets_the_top_share_go_on(others, rank_goes_on):
    """Trials of equal accuracies but one: the asked one has so many above it."""
    for above in range(others + 1):
        study = seen(reached(*[0.8] * above, *[0.2] * (others - above)))
        stops = Asha(reduction=3, after=0.25).reason_to_stop(curve([0.5] * 15), study) is not None
        assert stops is (rank_goes_on is not None and above + 1 > rank_goes_on)


def test_asha_lets_equals_go_on():
    assert Asha(reduction=3, after=0.25).reason_to_stop(curve([0.5] * 15), seen(reached(*[0.5] * 9))) is None


def test_asha_counts_only_trials_that_have_been_at_the_rung():
    young = [Curve([0.9] * 14, 60, None)] * 9 + [Curve([0.9] * 14, 60, Outcome.PRUNED)]
    assert Asha(reduction=3, after=0.25).reason_to_stop(curve([0.1] * 15), seen([*young, *reached(0.8)])) is None
    assert (
        Asha(reduction=3, after=0.25).reason_to_stop(curve([0.1] * 15), seen([*young, *reached(0.8, 0.8)])) is not None
    )


def test_asha_compares_each_trial_at_its_own_rung():
    """The long ones had 0.2 at a quarter of their schedules, whatever they had later."""
    long = [Curve([0.2] * 50 + [0.9] * 150, 200, Outcome.EXHAUSTED)] * 5
    assert Asha(reduction=3, after=0.25).reason_to_stop(curve([0.3] * 15), seen(long)) is None
    assert Asha(reduction=3, after=0.25).reason_to_stop(curve([0.1] * 15), seen(long)) is not None


def test_asha_compares_with_the_epoch_at_the_rung_and_not_the_one_before_it():
    late = [Curve([0.2] * 14 + [0.8] * 46, 60, Outcome.EXHAUSTED)] * 5  # over three epochs 0.4 at epoch 15
    assert Asha(reduction=3, after=0.25).reason_to_stop(curve([0.39] * 15), seen(late)) is not None
    assert Asha(reduction=3, after=0.25).reason_to_stop(curve([0.41] * 15), seen(late)) is None


def test_asha_judges_a_trial_by_its_last_epochs():
    assert (
        Asha(reduction=3, after=0.25).reason_to_stop(curve([0.1] * 12 + [0.9] * 3), seen(reached(*[0.8] * 5))) is None
    )


def test_asha_counts_a_trial_that_was_ended_at_the_rung():
    ended = [Curve([0.8] * 15, 60, Outcome.PRUNED)] * 2
    assert Asha(reduction=3, after=0.25).reason_to_stop(curve([0.1] * 15), seen(ended)) is not None


def test_asha_has_no_rung_at_the_end_of_a_schedule():
    assert Asha(reduction=2, after=0.5).reason_to_stop(curve([0.1] * 30), seen(reached(0.8, 0.8))) is not None
    assert Asha(reduction=2, after=0.5).reason_to_stop(curve([0.1] * 60), seen(reached(0.8, 0.8))) is None


def test_asha_ranks_a_trial_without_an_accuracy_last_and_calls_it_zero():
    reason = Asha(reduction=3, after=0.25).reason_to_stop(curve([NAN] * 15), seen(reached(0.1, 0.2)))
    assert reason.startswith("stopped at epoch 15: with val_acc 0.0000 over three epochs it is number 3 of the 3 ")


# Median


def test_median_says_the_numbers():
    reason = Median(after=0.3, trials=3).reason_to_stop(curve([0.4] * 18), seen(reached(0.3, 0.5, 0.9)))
    assert reason == (
        "stopped at epoch 18: its best val_acc over three epochs is 0.4000; the median of 3 trials' averages "
        "up to 30% of their schedules is 0.5000"
    )


def test_median_compares_with_averages_and_not_with_the_last_value():
    rising = [Curve([0.1] * 10 + [0.9] * 10 + [0.9] * 40, 60, Outcome.EXHAUSTED)] * 3  # 0.5 on average at a third
    assert Median(after=0.3, trials=3).reason_to_stop(curve([0.5] * 20), seen(rising)) is None
    assert Median(after=0.3, trials=3).reason_to_stop(curve([0.49] * 20), seen(rising)) is not None


def test_median_waits_for_enough_trials_that_have_come_as_far():
    others = [*reached(0.8, 0.8), Curve([0.8] * 29, 60, None)]
    assert Median(after=0.3, trials=3).reason_to_stop(slow(29), seen(others)) is not None
    assert Median(after=0.3, trials=3).reason_to_stop(slow(30), seen(others)) is None


def test_median_looks_at_the_best_and_not_at_the_last():
    assert Median(after=0.3, trials=1).reason_to_stop(curve([0.9] * 3 + [0.1] * 27), seen(reached(0.8))) is None


def test_median_judges_a_trial_by_what_its_last_epochs_have_brought():
    assert Median(after=0.3, trials=1).reason_to_stop(curve([0.1] * 27 + [0.9] * 3), seen(reached(0.8))) is None


def test_median_takes_a_trial_of_few_epochs_from_its_first_one_on():
    assert (
        Median(after=0.3, trials=1).reason_to_stop(slow(18), seen([Curve([0.8] * 5, 5)])) is not None
    )  # one of five by 30 %
    assert Median(after=0.3, trials=1).reason_to_stop(slow(18), seen([Curve([0.8] * 2, 2)])) is None


def test_median_calls_the_best_of_no_accuracy_zero():
    reason = Median(after=0.3, trials=1).reason_to_stop(curve([NAN] * 18), seen(reached(0.5)))
    assert "its best val_acc over three epochs is 0.0000;" in reason


# Patience: of a rate that is highest at epoch 1


def test_patience_says_the_best():
    reason = Patience(epochs=3, min_delta=0.01).reason_to_stop(curve([0.5, 0.6, 0.605, 0.609, 0.2]), state())
    assert reason == (
        "stopped at epoch 5: no val_acc above the best (0.6000 at epoch 2) by more than 0.01 in 3 epochs "
        "after the learning rate's peak"
    )


@pytest.mark.parametrize(
    ("val_accs", "stops"),
    [([0.5, 0.5, 0.5], False), ([0.5] * 4, True), ([NAN] * 3, False), ([NAN] * 4, True)],
)
def test_patience_ends_a_trial_after_so_many_epochs(val_accs, stops):
    assert (Patience(epochs=3).reason_to_stop(curve(val_accs), state()) is not None) is stops


def test_patience_says_where_there_is_no_best():
    assert "above the best (none)" in Patience(epochs=3).reason_to_stop(curve([NAN] * 4), state())


def test_patience_begins_again_at_a_higher_accuracy():
    assert Patience(epochs=3).reason_to_stop(curve([0.5, 0.5, 0.5, 0.51, 0.51, 0.51]), state()) is None


def test_patience_counts_no_epoch_before_the_rate_has_left_its_peak():
    plateau = TrialConfig(schedule="[1e-4, 0] lin[1e-3, 2] lin[1e-3, 10] lin[1e-5, 40]")
    assert Patience(epochs=3).reason_to_stop(Progress(plateau, slow(12).records), state()) is None
    assert Patience(epochs=3).reason_to_stop(Progress(plateau, slow(13).records), state()) is not None


@pytest.mark.parametrize("schedule", ["[1e-3, 0]", "[1e-3, 0] lin[1e-3, 20]"])
def test_patience_counts_from_the_start_where_nothing_is_annealed(schedule):
    flat = TrialConfig(schedule=schedule, epochs=20)
    assert Patience(epochs=3).reason_to_stop(Progress(flat, slow(3).records), state()) is None
    assert Patience(epochs=3).reason_to_stop(Progress(flat, slow(4).records), state()) is not None


# Bounds


@pytest.mark.parametrize(
    ("rule", "settings"),
    [
        (Cap, {"best": 0, "slack": 1.2}),
        (Cap, {"best": 1, "slack": 0.99}),
        (CannotReach, {"after": 0.0}),
        (CannotReach, {"after": 1.0}),
        (CannotReach, {"trials": 0}),
        (CannotReach, {"margin": -0.1}),
        (CannotReach, {"margin": INF}),
        (Asha, {"reduction": 1}),
        (Asha, {"after": 0.0}),
        (Median, {"after": 1.0}),
        (Median, {"trials": 0}),
        (Patience, {"epochs": 0}),
        (Patience, {"min_delta": -1.0}),
        (Forecast, {"chance": 0.0}),
        (Forecast, {"chance": 1.0}),
        (Forecast, {"best": 0}),
        (Forecast, {"trials": 2}),
    ],
)
def test_a_rule_refuses_settings_out_of_bounds(rule, settings):
    with pytest.raises(ValidationError, match="1 validation error"):
        rule(**settings)


# From [stopping] to rules


@pytest.mark.parametrize(
    ("stopping", "names"),
    [
        ({}, ["diverged"]),
        ({"diverged": False}, []),
        ({"diverged": False, "at_target": True}, ["at_target"]),
        ({"diverged": False, "cap": {"best": 2, "slack": 1.5}}, ["cap"]),
        ({"at_target": True, "cap": {"best": 2, "slack": 1.5}}, ["diverged", "at_target", "cap"]),
        ({"patience": {}, "median": {}, "asha": {}}, ["diverged", "asha", "median", "patience"]),
        ({"asha": {}, "forecast": {}, "cannot_reach": {}}, ["diverged", "cannot_reach", "forecast", "asha"]),
        ({"diverged": False, "cannot_reach": {}, "shadow": ["cannot_reach"]}, ["cannot_reach"]),
    ],
)
def test_a_study_switches_its_rules_on(stopping, names):
    assert [rule.name for rule in rules_of(fixed_study(stopping=stopping))] == names


def test_cap_takes_its_numbers_from_the_study():
    (cap,) = rules_of(fixed_study(stopping={"diverged": False, "cap": {"best": 2, "slack": 1.5}}))
    assert "the 2nd-best trial reached 0.92 at epoch 4, and 1.5 x 4" in cap.reason_to_stop(slow(6), state(3, 4, 9))


def test_modes_name_the_rules_in_shadow():
    spec = fixed_study(stopping={"asha": {}, "cap": {"best": 2, "slack": 1.5}, "shadow": ["asha", "diverged"]})
    assert rule_modes(spec) == {"diverged": "shadow", "cap": "active", "asha": "shadow"}


@pytest.mark.parametrize(("per", "group"), [("lr", 1e-3), ("optimizer", "adamw"), ("batch_size", 64), (None, None)])
def test_a_trial_is_grouped_by_a_parameter_or_a_field(per, group):
    cap = {"best": 1, "slack": 1.0} | ({"per": per} if per else {})
    space = {"lr": {"choices": [1e-3, 1e-2]}}
    spec = sampled_study(horizon=4, space=space, stopping={"cap": cap})
    assert group_of(spec, TrialConfig(schedule=SCHEDULE), {"lr": 1e-3}) == group


# The control share


def controls(share: float, seed: int = 0, trials: int = 10_000) -> list[bool]:
    spec = fixed_study(stopping={"control": share}, search={"seed": seed})
    return [is_control(spec, number) for number in range(trials)]


def test_the_control_trials_are_the_same_every_time():
    assert controls(0.1, trials=500) == controls(0.1, trials=500)


def test_the_control_trials_are_the_same_in_every_process():
    assert [number for number, control in enumerate(controls(0.1, trials=40)) if control] == [12, 25, 27, 31, 39]


def test_another_seed_has_other_control_trials():
    assert controls(0.1, seed=0, trials=500) != controls(0.1, seed=1, trials=500)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_the_control_share_is_about_as_large_as_configured(share):
    deviation = math.sqrt(share * (1 - share) / 10_000)
    assert sum(controls(share)) / 10_000 == pytest.approx(share, abs=4 * deviation)


def test_a_control_share_of_zero_has_no_trials():
    assert not any(controls(0.0))


# Forecast


def at(place: float, epochs: int = 20, outcome: Outcome = Outcome.REACHED) -> Curve:
    """A trial at a place that reached the target at an epoch of 40, or was ended there."""
    last = [0.5] if outcome is Outcome.PRUNED else [0.95]
    return Curve([0.5] * (epochs - 1) + last, 40, outcome, None, (place,))


def state_of(curves: Sequence[Curve]) -> StudyState:
    return StudyState(0.92, 2, (), curves, longest=40, noise=0.003)


SLOPE = [at(i / 19, 11 + i) for i in range(20)]
"""Trials that are the slower the further to the right they lie."""


def placed(place: float | None, val_accs: Sequence[float] = (0.5,)) -> Progress:
    trial = curve(val_accs)
    return Progress(trial.config, trial.records, None, () if place is None else (place,))


def test_forecast_names_the_chance_and_the_expected_epochs():
    reason = Forecast(chance=0.1, best=5, trials=10).reason_to_stop(placed(0.97), state_of(SLOPE))
    assert re.fullmatch(
        r"stopped at epoch 1: 0% chance to be among the best 5 \(expected 29\.\d epochs, number 5 14\.\d\)", reason
    )


def test_forecast_lets_a_trial_go_on_among_the_best():
    assert Forecast(chance=0.1, best=5, trials=10).reason_to_stop(placed(0.0), state_of(SLOPE)) is None


def test_forecast_stops_more_with_a_higher_chance():
    study = state_of([at(i / 19, 11 + i + 6 * (i % 2)) for i in range(20)])
    stopped = [
        sum(
            Forecast(chance=chance, best=5, trials=10).reason_to_stop(placed(i / 50), study) is not None
            for i in range(50)
        )
        for chance in (0.001, 0.5, 0.999)
    ]
    assert stopped[0] < stopped[1] < stopped[2]


def test_forecast_lets_a_trial_go_on_that_reached_the_target():
    assert Forecast(chance=0.1, best=5, trials=10).reason_to_stop(placed(0.97, [0.92, 0.5]), state_of(SLOPE)) is None


def test_forecast_stops_no_trial_without_coordinates():
    assert Forecast(chance=0.1, best=5, trials=10).reason_to_stop(placed(None), state_of(SLOPE)) is None


def test_forecast_waits_for_as_many_configurations_as_configured():
    rule = Forecast(chance=0.1, best=3, trials=10)
    assert rule.reason_to_stop(placed(0.97), state_of(SLOPE[:9])) is None
    assert rule.reason_to_stop(placed(0.97), state_of(SLOPE[:10])) is not None


def test_forecast_counts_a_configuration_once_however_often_it_ran():
    assert (
        Forecast(chance=0.1, best=3, trials=10).reason_to_stop(placed(0.97), state_of([*SLOPE[:9], *SLOPE[:9]])) is None
    )


def test_forecast_learns_nothing_from_a_trial_that_was_ended_before_it_showed_anything():
    early = [at(0.0, 2, Outcome.PRUNED)] * 30
    rule, trial = Forecast(chance=0.1, best=5, trials=10), placed(0.97)
    assert rule.reason_to_stop(trial, state_of([*SLOPE, *early])) == rule.reason_to_stop(trial, state_of(SLOPE))


def test_forecast_learns_from_a_trial_that_was_ended_behind_the_best():
    flat = [at(i / 19, 20 - i % 2) for i in range(10)]
    late = [at(i / 19, 36, Outcome.PRUNED) for i in range(10, 20)]
    assert Forecast(chance=0.1, best=5, trials=10).reason_to_stop(placed(0.8), state_of(flat)) is None
    assert Forecast(chance=0.1, best=5, trials=10).reason_to_stop(placed(0.8), state_of([*flat, *late])) is not None


def test_forecast_counts_a_diverged_trial_as_a_miss():
    near, far = [at(i / 19, 20 - i % 2) for i in range(10)], [i / 19 for i in range(10, 20)]
    diverged = [at(place, 3, Outcome.DIVERGED) for place in far]
    missed = [Curve([0.5] * 40, 40, Outcome.EXHAUSTED, None, (place,)) for place in far]
    reasons = {
        Forecast(chance=0.1, best=5, trials=10).reason_to_stop(placed(0.8), state_of([*near, *some]))
        for some in (diverged, missed)
    }
    assert len(reasons) == 1
    assert None not in reasons


def test_forecast_compares_with_the_best_of_many_trials_anywhere_in_the_space():
    many = [at(i / 999, 11 + i // 50) for i in range(1000)]
    reason = Forecast(chance=0.1, best=5, trials=10).reason_to_stop(placed(0.8), state_of(many))
    assert re.search(r"expected 2[67]\.\d epochs, number 5 1[01]\.\d", reason)


def test_forecast_revives_a_trial_whose_neighbours_turned_out_fast():
    ended = [at(0.97, 2, Outcome.PRUNED), at(0.6, 2, Outcome.PRUNED)]
    rule, fast = Forecast(chance=0.1, best=5, trials=10), [at(0.9 + i / 100, 8) for i in range(8)]
    assert rule.trials_to_revive(ended, state_of([*SLOPE, *ended])) == []
    assert rule.trials_to_revive(ended, state_of([*SLOPE, *fast, *ended])) == [0]


def test_forecast_revives_at_twice_the_chance_that_it_stops_below():
    draw = Random(1)
    study = state_of([at(i / 19, 11 + i // 2 + draw.randrange(12)) for i in range(20)])
    ended = [at(i / 20, 2, Outcome.PRUNED) for i in range(20)]
    let, let_at_twice = (
        {
            i
            for i in range(20)
            if Forecast(chance=chance, best=5, trials=10).reason_to_stop(placed(i / 20), study) is None
        }
        for chance in (0.05, 0.1)
    )
    assert set(Forecast(chance=0.05, best=5, trials=10).trials_to_revive(ended, study)) == let_at_twice < let


def test_forecast_revives_no_trial_that_could_not_be_among_the_best_any_more():
    ended = [at(0.0, epochs, Outcome.PRUNED) for epochs in (10, 30)]
    assert Forecast(chance=0.1, best=5, trials=10).trials_to_revive(ended, state_of([*SLOPE, *ended])) == [0]


@pytest.mark.parametrize("curves", [SLOPE[:9], []])
def test_forecast_revives_nothing_while_it_knows_little(curves):
    assert (
        Forecast(chance=0.1, best=5, trials=10).trials_to_revive([at(0.0, 2, Outcome.PRUNED)], state_of(curves)) == []
    )


def test_forecast_revives_by_the_trials_that_are_nearest_to_any_of_many():
    many, ended = (
        [at(i / 999, 11 + i // 50) for i in range(1000)],
        [at(place, 2, Outcome.PRUNED) for place in (0.8, 0.0)],
    )
    assert Forecast(chance=0.1, best=5, trials=10).trials_to_revive(ended, state_of([*many, *ended])) == [1]
