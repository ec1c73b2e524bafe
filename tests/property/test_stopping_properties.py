"""What early stopping must never cost, whatever the trials and whatever their order."""

import math
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from resnet_core.config import TrialConfig
from resnet_core.objective import first_crossing, sustained_crossing
from resnet_core.records import Outcome
from sweeps.study.stopping.asha import Asha
from sweeps.study.stopping.at_target import AtTarget
from sweeps.study.stopping.base import Curve, Progress, StudyState
from sweeps.study.stopping.cannot_reach import CannotReach
from sweeps.study.stopping.cap import Cap
from sweeps.study.stopping.diverged import Diverged
from sweeps.study.stopping.median import Median
from sweeps.study.stopping.patience import Patience
from tests.studies import epoch_record

HORIZON, TARGET = 14, 0.92
CONFIG = TrialConfig(schedule=f"[1e-3, 0] lin[1e-5, {HORIZON}]")

crossings = st.none() | st.integers(1, HORIZON)
ranks = st.integers(1, 4)
slacks = st.floats(1, 2.5)
accuracies = st.sampled_from([0.1, 0.5, 0.91, 0.92, 0.95, float("nan")])
known = st.floats(0, 1)
curves = st.builds(
    Curve,
    st.lists(accuracies | known, max_size=HORIZON),
    st.integers(HORIZON, 3 * HORIZON),
    st.sampled_from([None, *set(Outcome) - {Outcome.CRASHED}]),
    st.sampled_from([None, "sgd", "adamw"]),
)
ranking = st.sampled_from(
    [
        CannotReach(after=0.3, trials=1),
        CannotReach(after=0.5, trials=2, margin=0.1),
        Asha(reduction=2, after=0.2),
        Asha(reduction=3, after=0.25),
        Median(after=0.3, trials=2),
    ]
)


def state(others: list[Curve]) -> StudyState:
    found = (curve.epochs_to_target(TARGET) for curve in others)
    return StudyState(TARGET, 2, sorted(epoch for epoch in found if epoch is not None), others)


def progress(val_accs: list[float], accs: list[float] | None = None) -> Progress:
    accs = accs or [0.8] * len(val_accs)
    pairs = enumerate(zip(accs, val_accs, strict=True), start=1)
    return Progress(CONFIG, [epoch_record(epoch, val, acc=acc) for epoch, (acc, val) in pairs])


def stopped_by_cap(cap: Cap, curves: list[list[float]], at_once: int, order: Random) -> dict[int, int]:
    """Run a study's curves, so many at once and an epoch of any of them at a time; return where cap ended which."""
    waiting, active, reached, stopped = list(range(len(curves))), {}, {}, {}
    while waiting or active:
        while waiting and len(active) < at_once:
            active[waiting.pop(0)] = 0
        number = order.choice(sorted(active))
        active[number] += 1
        trial = progress(curves[number][: active[number]])
        if number not in reached and trial.scores[-1] >= TARGET:
            reached[number] = trial.epoch
        if cap.reason_to_stop(trial, StudyState(TARGET, 2, sorted(reached.values()))):
            stopped[number] = trial.epoch
        if number in stopped or trial.epoch == HORIZON:
            del active[number]
    return stopped


@given(
    st.lists(st.tuples(crossings, st.booleans()), min_size=1, max_size=12),
    ranks,
    slacks,
    st.integers(1, 5),
    st.randoms(use_true_random=False),
)
def test_cap_never_stops_one_of_the_best_trials_before_it_reaches_the_target(trials, best, slack, at_once, order):
    """The best are those that nothing but their own curve ranks: with no rule at all, of all trials."""
    curves = [
        [0.5] * HORIZON
        if crossing is None
        else [0.5] * (crossing - 1) + [0.92] + [0.95 if holds else 0.5] * (HORIZON - crossing)
        for crossing, holds in trials
    ]
    ranked = sorted(crossing for crossing, _ in trials if crossing is not None)
    bar = ranked[best - 1] if len(ranked) >= best else HORIZON
    among_best = {number for number, (crossing, _) in enumerate(trials) if crossing is not None and crossing <= bar}
    assert not among_best & stopped_by_cap(Cap(best=best, slack=slack), curves, at_once, order).keys()


@given(st.lists(accuracies, min_size=1, max_size=HORIZON), st.lists(st.integers(1, HORIZON), max_size=8), ranks, slacks)
def test_cap_ends_nothing_that_has_reached_the_target_or_could_still_be_better(val_accs, reached, best, slack):
    study = StudyState(TARGET, 2, sorted(reached))
    if Cap(best=best, slack=slack).reason_to_stop(progress(val_accs), study):
        assert first_crossing(val_accs, TARGET) is None
        assert len(val_accs) >= study.epochs_to_target[best - 1]


@given(st.integers(1, HORIZON), st.lists(st.integers(1, HORIZON), max_size=8), ranks, slacks, slacks)
def test_more_slack_never_ends_more(epochs, reached, best, slack, other):
    study = StudyState(TARGET, 2, sorted(reached))
    less, more = (
        Cap(best=best, slack=s).reason_to_stop(progress([0.5] * epochs), study) for s in sorted((slack, other))
    )
    assert less or not more


@given(st.integers(1, HORIZON), st.lists(st.integers(1, HORIZON), max_size=8), st.integers(1, HORIZON), ranks, slacks)
def test_one_more_trial_at_the_target_never_lets_a_stopped_one_go_on(epochs, reached, another, best, slack):
    cap, trial = Cap(best=best, slack=slack), progress([0.5] * epochs)
    before = cap.reason_to_stop(trial, StudyState(TARGET, 2, sorted(reached)))
    after = cap.reason_to_stop(trial, StudyState(TARGET, 2, sorted([*reached, another])))
    assert after or not before


@given(st.lists(st.tuples(accuracies, st.floats(0.12, 1)), min_size=1, max_size=HORIZON))
def test_a_trial_that_learns_its_training_images_has_not_diverged(epochs):
    val_accs, accs = map(list, zip(*epochs, strict=True))
    assert Diverged().reason_to_stop(progress(val_accs, accs), StudyState(TARGET, 2, [1, 1, 1])) is None


@given(st.lists(accuracies, min_size=1, max_size=HORIZON), st.integers(1, 4))
def test_at_target_ends_exactly_those_whose_result_is_known(val_accs, sustained):
    stopped = AtTarget().reason_to_stop(progress(val_accs), StudyState(TARGET, sustained, []))
    assert (stopped is not None) == (sustained_crossing(val_accs, TARGET, sustained) is not None)


@given(
    st.lists(st.tuples(known, known), min_size=HORIZON, max_size=HORIZON),
    st.integers(1, HORIZON),
    st.integers(1, HORIZON),
    st.lists(curves, max_size=6),
    st.floats(0, 0.5),
    st.floats(0.01, 0.9),
)
def test_cannot_reach_never_ends_a_trial_that_was_always_as_good_as_one_that_reached(
    epochs, crossing, done, others, margin, after
):
    """As one of the same schedule's length, epoch by epoch; whatever the other trials are."""
    epochs[crossing - 1] = (TARGET, max(TARGET, *epochs[crossing - 1]))
    reached = Curve([min(pair) for pair in epochs], HORIZON, Outcome.REACHED)
    trial = progress([max(pair) for pair in epochs][:done])
    assert CannotReach(after=after, trials=1, margin=margin).reason_to_stop(trial, state([reached, *others])) is None


@given(st.lists(known, min_size=1, max_size=HORIZON - 1), st.lists(curves, max_size=8))
def test_asha_never_ends_the_best_trial_at_a_rung(val_accs, others):
    trial = progress(val_accs)
    best = max((value for curve in others for value in curve.smoothed if not math.isnan(value)), default=0)
    if trial.curve.smoothed[-1] >= best:
        assert Asha(reduction=3, after=0.25).reason_to_stop(trial, state(others)) is None


@given(ranking, st.lists(accuracies | known, min_size=1, max_size=HORIZON), st.lists(curves, max_size=8))
def test_no_rule_that_ranks_ends_a_trial_that_reached_the_target(rule, val_accs, others):
    if rule.reason_to_stop(progress(val_accs), state(others)):
        assert first_crossing(val_accs, TARGET) is None


@given(
    ranking
    | st.sampled_from([Cap(best=1, slack=1.0, per="optimizer"), Patience(epochs=2), Patience(epochs=3, min_delta=0.1)]),
    st.lists(accuracies | known, min_size=1, max_size=HORIZON),
    st.lists(curves, max_size=8),
    st.randoms(use_true_random=False),
)
def test_no_order_of_the_other_trials_changes_an_answer(rule, val_accs, others, order):
    answer = rule.reason_to_stop(progress(val_accs), state(others))
    shuffled = list(others)
    order.shuffle(shuffled)
    assert rule.reason_to_stop(progress(val_accs), state(shuffled)) == answer


@given(st.lists(known, min_size=1, max_size=HORIZON), st.integers(1, 5), st.floats(0, 0.5))
def test_patience_ends_nothing_whose_best_is_recent(val_accs, epochs, min_delta):
    if Patience(epochs=epochs, min_delta=min_delta).reason_to_stop(progress(val_accs), StudyState(TARGET, 2, [])):
        assert max(val_accs[-epochs:]) <= max(val_accs[:-epochs]) + min_delta
