"""What each stopping rule ends, at which epoch, and in which words."""

import math
from collections.abc import Sequence

import pytest

from resnet_core.config import TrialConfig
from resnet_core.records import EpochRecord
from search_spaces.study import StudySpec
from sweeps.stopping import AtTarget, Cap, Diverged, Progress, Standing, is_control, rules_of

NAN, INF = float("nan"), float("inf")


def curve(val_accs: Sequence[float], loss: float = 0.5, accs: Sequence[float] = (), warmup: int = 1) -> Progress:
    """A trial with these epochs: validation accuracies, the last training loss, and training accuracies."""
    records = [
        EpochRecord(i + 1, 0.5, accs[i] if accs else 0.8, 0.6, val_acc, 1e-3, 1e-4, 1.0, 1e3)
        for i, val_acc in enumerate(val_accs)
    ]
    last = records[-1]
    records[-1] = EpochRecord(last.epoch, loss, last.acc, 0.6, last.val_acc, 1e-3, 1e-4, 1.0, 1e3)
    return Progress(TrialConfig(schedule=f"[1e-4, 0] lin[1e-3, {warmup}] lin[1e-5, 60]"), records)


def standing(*epochs_to_target: int, sustained: int = 2) -> Standing:
    return Standing(0.92, sustained, epochs_to_target)


def slow(epochs: int) -> Progress:
    return curve([0.5] * epochs)


# Cap


def test_cap_says_which_trial_was_faster_and_what_is_used_up():
    reason = Cap(5, 1.2).reason_to_stop(slow(24), standing(12, 15, 18, 19, 20, 22))
    assert reason == (
        "stopped at epoch 24: the 5th-best trial reached 0.92 at epoch 20, and 1.2 x 20 epochs are used up"
    )


RANKS = {1: "", 2: "2nd-", 3: "3rd-", 4: "4th-", 11: "11th-", 12: "12th-", 13: "13th-", 21: "21st-", 111: "111th-"}


@pytest.mark.parametrize("best", RANKS)
def test_cap_names_the_rank_in_words(best):
    assert f": the {RANKS[best]}best trial " in Cap(best, 1.0).reason_to_stop(slow(5), standing(*[5] * best))


# 1.16 x 25 and 1.4 x 45 come out a little below 29 and 63 in binary.
@pytest.mark.parametrize(
    ("slack", "bar", "allowed"),
    [(1.0, 7, 7), (1.2, 5, 6), (1.2, 20, 24), (1.16, 25, 29), (1.4, 45, 63), (1.5, 5, 7), (1.99, 3, 5)],
)
def test_cap_stops_at_the_last_whole_epoch_below_the_bound(slack, bar, allowed):
    cap = Cap(1, slack)
    assert cap.reason_to_stop(slow(allowed - 1), standing(bar)) is None
    assert cap.reason_to_stop(slow(allowed), standing(bar)).startswith(f"stopped at epoch {allowed}: ")


def test_cap_waits_for_as_many_crossings_as_the_rank():
    assert Cap(3, 1.2).reason_to_stop(slow(50), standing(5, 6)) is None
    assert Cap(3, 1.2).reason_to_stop(slow(50), standing(5, 6, 7)) is not None


@pytest.mark.parametrize("after", [[], [0.93] * 20, [0.5] * 20])
def test_cap_lets_a_trial_go_on_that_reached_the_target_once(after):
    assert Cap(1, 1.0).reason_to_stop(curve([0.5] * 9 + [0.92, *after]), standing(5)) is None


@pytest.mark.parametrize(("best", "slack"), [(0, 1.2), (-1, 1.2), (1, 0.99), (1, 0.0), (1, NAN)])
def test_cap_refuses_bounds_that_could_stop_the_best(best, slack):
    with pytest.raises(ValueError, match=r"^(best|slack) = .*: expected 1 or more"):
        Cap(best, slack)


# Diverged


@pytest.mark.parametrize(("loss", "word"), [(NAN, "nan"), (INF, "inf"), (-INF, "-inf")])
def test_a_loss_that_is_not_finite_is_divergence(loss, word):
    reason = Diverged().reason_to_stop(curve([0.95, 0.1], loss), standing())
    assert reason == f"stopped at epoch 2: the loss is {word} at epoch 2"


def test_chance_is_divergence_at_the_third_epoch_after_the_warm_up():
    chance = [0.1] * 20
    assert Diverged().reason_to_stop(curve(chance[:6], accs=chance, warmup=4), standing()) is None
    reason = Diverged().reason_to_stop(curve(chance[:7], accs=chance, warmup=4), standing())
    assert reason == "stopped at epoch 7: training accuracy is at chance (0.100) since epoch 5"


def test_the_warm_up_ends_where_the_rate_is_first_highest():
    trial = curve([0.1] * 5, accs=[0.1] * 5)
    plateau = TrialConfig(schedule="[1e-4, 0] lin[1e-3, 2] lin[1e-3, 30] lin[1e-5, 40]")
    assert Diverged().reason_to_stop(Progress(plateau, trial.records), standing()) is not None


@pytest.mark.parametrize("accs", [[0.1, 0.1, 0.13], [0.1, 0.13, 0.1], [0.13, 0.1, 0.1]])
def test_one_epoch_above_chance_is_enough(accs):
    assert Diverged().reason_to_stop(curve([0.1] * 4, accs=[0.1, *accs]), standing()) is None


def test_chance_is_divergence_after_better_epochs_too():
    trial = curve([0.5] * 6, accs=[0.3, 0.5, 0.6, 0.1, 0.1, 0.1])
    assert Diverged().reason_to_stop(trial, standing()).endswith("since epoch 4")


@pytest.mark.parametrize("val_acc", [0.0, 0.1, NAN])
def test_validation_accuracy_alone_is_no_divergence(val_acc):
    assert Diverged().reason_to_stop(curve([val_acc] * 20, accs=[0.6] * 20), standing()) is None


def test_a_loss_that_was_not_finite_before_is_not_asked_about():
    early = curve([0.5], NAN).records
    assert Diverged().reason_to_stop(Progress(slow(2).config, [*early, slow(2).records[1]]), standing()) is None


# AtTarget


@pytest.mark.parametrize("sustained", [1, 2, 3])
def test_at_target_stops_at_the_last_epoch_of_those_in_a_row(sustained):
    trial = curve([0.5] * 4 + [0.92] * sustained)
    reason = AtTarget().reason_to_stop(trial, standing(sustained=sustained))
    assert reason == f"stopped at epoch {4 + sustained}: 0.92 reached at epoch 5 and held for {sustained} epochs"


@pytest.mark.parametrize("val_accs", [[0.5, 0.95], [0.95, 0.5, 0.95], [0.95, 0.91, 0.95, 0.91]])
def test_at_target_does_not_stop_at_a_single_crossing(val_accs):
    assert AtTarget().reason_to_stop(curve(val_accs), standing()) is None


# From [stopping] to rules


def study(**tables: object) -> StudySpec:
    return StudySpec.model_validate({"name": "s", "train": {"schedule": "[1e-3, 0] lin[1e-5, 4]"}, **tables})


@pytest.mark.parametrize(
    ("stopping", "names"),
    [
        ({}, ["diverged"]),
        ({"diverged": False}, []),
        ({"diverged": False, "at_target": True}, ["at_target"]),
        ({"diverged": False, "cap": {"best": 2, "slack": 1.5}}, ["cap"]),
        ({"at_target": True, "cap": {"best": 2, "slack": 1.5}}, ["diverged", "at_target", "cap"]),
    ],
)
def test_a_study_switches_its_rules_on(stopping, names):
    assert [rule.name for rule in rules_of(study(stopping=stopping))] == names


def test_cap_takes_its_numbers_from_the_study():
    (cap,) = rules_of(study(stopping={"diverged": False, "cap": {"best": 2, "slack": 1.5}}))
    assert "the 2nd-best trial reached 0.92 at epoch 4, and 1.5 x 4" in cap.reason_to_stop(slow(6), standing(3, 4, 9))


# The control share


def controls(share: float, seed: int = 0, trials: int = 10_000) -> list[bool]:
    spec = study(stopping={"control": share}, search={"seed": seed})
    return [is_control(spec, number) for number in range(trials)]


def test_the_control_trials_are_the_same_every_time():
    assert controls(0.1, trials=500) == controls(0.1, trials=500)


def test_the_control_trials_are_these_in_every_process():
    assert [number for number, control in enumerate(controls(0.1, trials=40)) if control] == [12, 25, 27, 31, 39]


def test_another_seed_has_other_control_trials():
    assert controls(0.1, seed=0, trials=500) != controls(0.1, seed=1, trials=500)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_the_share_is_about_what_was_asked_for(share):
    deviation = math.sqrt(share * (1 - share) / 10_000)
    assert sum(controls(share)) / 10_000 == pytest.approx(share, abs=4 * deviation)


def test_a_share_of_zero_is_no_trial():
    assert not any(controls(0.0))
