"""What every stopping rule keeps to. A new rule gets a class here that says how it is made and what it ends."""

import copy
import itertools
import math
import random
from dataclasses import replace
from typing import ClassVar

import pytest

from resnet_core.config import TrialConfig
from resnet_core.records import EpochRecord, Outcome
from search_spaces.spec import StudySpec
from search_spaces.tables import Stopping
from sweeps.study.stopping import (
    Asha,
    AtTarget,
    CannotReach,
    Cap,
    Curve,
    Diverged,
    Forecast,
    Median,
    Patience,
    Progress,
    StoppingRule,
    StudyState,
    rules_of,
)

CONFIG = TrialConfig(schedule="[1e-4, 0] lin[1e-3, 2] lin[1e-5, 30]")
EMPTY = StudyState(0.92, 2, [])


def trial(val_accs: list[float], accs: list[float] | None = None) -> Progress:
    accs = accs or [0.8] * len(val_accs)
    pairs = enumerate(zip(accs, val_accs, strict=True), start=1)
    return Progress(CONFIG, [EpochRecord(e, 0.5, acc, 0.6, val, 1e-3, 1e-4, 1.0, 1e3) for e, (acc, val) in pairs])


NAN = float("nan")


def curve(val_accs: list[float], outcome: Outcome | None = Outcome.REACHED, horizon: int = 30) -> Curve:
    return Curve(val_accs, horizon, outcome)


def standing(*curves: Curve) -> StudyState:
    reached = (shown.epochs_to_target(0.92) for shown in curves)
    return StudyState(0.92, 2, sorted(epoch for epoch in reached if epoch is not None), curves, 30, 0.003)


GOOD = [curve([0.8] * 20 + [0.93 + 0.001 * i] * 10) for i in range(12)]
"""Trials that reached the target, of one schedule's length."""
UNCOMMON = [
    curve([]),
    curve([NAN] * 30),
    curve([0.5, NAN] * 15, Outcome.EXHAUSTED),
    curve([0.95], Outcome.DIVERGED),
    curve([0.95], None),
    curve([0.7, 0.95], None, horizon=2),
    curve([0.4] * 20, Outcome.PRUNED, horizon=90),
]
"""Curves that rules meet too: without an epoch, without a number, running, diverged, of other lengths."""

OTHERS = [
    trial([0.5]),
    trial([0.5, 0.93]),
    trial([0.93, 0.93, 0.93]),
    trial([0.1] * 6, [0.1] * 6),
    trial([0.6] * 29),
]


class StoppingContract:
    """The suite: a class of it for each rule fills in these."""

    rule: ClassVar[StoppingRule]
    setting: ClassVar[object]
    """What switches the rule on in ``[stopping]``."""
    ended: ClassVar[tuple[Progress, StudyState]]
    """A trial that the rule ends at this epoch and not at the one before."""
    absolute: ClassVar[bool] = False
    """It looks at the trial alone."""
    after: ClassVar[float] = 0.0
    """Share of its own schedule a trial is let alone for, where the rule has one."""

    def test_it_ends_a_trial_at_its_epoch_and_not_before(self):
        progress, study = self.ended
        before = Progress(progress.config, progress.records[:-1])
        assert self.rule.reason_to_stop(before, study) is None
        assert self.rule.reason_to_stop(progress, study) is not None

    def test_the_reason_is_one_line_that_begins_with_the_epoch(self):
        reason = self.rule.reason_to_stop(*self.ended)
        assert reason.startswith(f"stopped at epoch {self.ended[0].epoch}: ")
        assert reason.isprintable()

    def test_the_answer_is_the_same_every_time(self):
        answers = {self.rule.reason_to_stop(*copy.deepcopy(self.ended)) for _ in range(3)}
        assert len(answers) == 1

    def test_the_order_in_which_trials_are_shown_changes_no_answer(self):
        study = self.ended[1]
        shown = [*OTHERS, self.ended[0]]
        alone = [copy.deepcopy(self.rule).reason_to_stop(progress, study) for progress in shown]
        for order in itertools.islice(itertools.permutations(range(len(shown))), 0, None, 37):
            rule = copy.deepcopy(self.rule)
            answers = {i: rule.reason_to_stop(shown[i], study) for i in order}
            assert [answers[i] for i in range(len(shown))] == alone

    def test_what_it_is_shown_stays_as_it_was(self):
        before = copy.deepcopy(self.ended)
        self.rule.reason_to_stop(*self.ended)
        assert self.ended == before

    @pytest.mark.parametrize("epochs", range(1, 30))
    def test_a_healthy_trial_alone_in_its_study_goes_on(self, epochs):
        assert self.rule.reason_to_stop(trial([0.9 * e / 30 for e in range(epochs)]), EMPTY) is None

    def test_the_order_of_the_studys_trials_changes_no_answer(self):
        progress, study = self.ended
        curves, shuffled = [*study.curves, *UNCOMMON], set()
        for seed in range(20):
            random.Random(seed).shuffle(curves)
            shuffled.add(self.rule.reason_to_stop(progress, standing(*curves)))
        assert len(shuffled) == 1

    @pytest.mark.parametrize("val_accs", [[0.3] * 30, [0.6, 0.1] * 15, [NAN] * 30], ids=["low", "erratic", "unknown"])
    def test_a_trial_with_no_other_goes_on_unless_the_rule_looks_at_it_alone(self, val_accs):
        if not self.absolute:
            reasons = {self.rule.reason_to_stop(trial(val_accs[:epochs]), EMPTY) for epochs in range(1, 30)}
            assert reasons == {None}

    @pytest.mark.parametrize("last", [NAN, 0.5])
    def test_accuracies_that_are_missing_are_met_without_an_error(self, last):
        study = standing(*self.ended[1].curves, *UNCOMMON)
        for epochs in range(30):
            reason = self.rule.reason_to_stop(trial([NAN] * epochs + [last]), study) or ""
            assert not {"nan", "inf", "-inf"} & set(reason.replace(",", " ").replace(";", " ").split())

    def test_before_its_share_of_the_schedule_nothing_is_ended(self):
        for epochs in range(1, math.ceil(self.after * CONFIG.horizon)):
            assert self.rule.reason_to_stop(trial([0.1] * epochs, [0.5] * epochs), standing(*GOOD)) is None

    @pytest.mark.parametrize("others", [[], GOOD, [*GOOD, *UNCOMMON]], ids=["alone", "good", "uncommon"])
    def test_what_it_would_have_go_on_is_what_it_would_not_end(self, others):
        progress, study = self.ended
        ended = [replace(progress.curve, outcome=Outcome.PRUNED), *UNCOMMON]
        revived = self.rule.revived(ended, standing(*study.curves, *others, *ended))
        assert revived == [] or self.rule.revives
        for i in revived:
            shown = replace(trial(list(ended[i].val_accs)), place=ended[i].place)
            assert self.rule.reason_to_stop(shown, standing(*study.curves, *others, *ended)) is None

    def test_its_name_switches_it_on_in_a_study(self):
        off = dict.fromkeys(Stopping.model_fields.keys() & {"diverged", "at_target"}, False)
        study = {"name": "s", "train": {"schedule": "[1e-3, 0] lin[1e-5, 4]"}}
        spec = StudySpec.model_validate(study | {"stopping": off | {self.rule.name: self.setting}})
        assert [type(rule) for rule in rules_of(spec)] == [type(self.rule)]


class TestCap(StoppingContract):
    rule = Cap(best=2, slack=1.2)
    setting: ClassVar[object] = {"best": 2, "slack": 1.2}
    ended = trial([0.91] * 24), StudyState(0.92, 2, [17, 20, 22])


class TestCapPerGroup(StoppingContract):
    rule = Cap(best=2, slack=1.2, per="model")
    setting: ClassVar[object] = {"best": 2, "slack": 1.2, "per": "model"}
    ended = trial([0.91] * 25), standing(*GOOD)


class TestCannotReach(StoppingContract):
    rule = CannotReach(after=0.3, trials=10, margin=0.02)
    setting: ClassVar[object] = {"after": 0.3, "trials": 10, "margin": 0.02}
    ended = trial([0.77] * 9), standing(*GOOD)
    after = 0.3


class TestAsha(StoppingContract):
    rule = Asha(reduction=3, after=0.25)
    setting: ClassVar[object] = {"reduction": 3, "after": 0.25}
    ended = trial([0.7] * 8), standing(*GOOD)
    after = 0.25


class TestMedian(StoppingContract):
    rule = Median(after=0.3, trials=5)
    setting: ClassVar[object] = {"after": 0.3, "trials": 5}
    ended = trial([0.7] * 9), standing(*GOOD)
    after = 0.3


class TestPatience(StoppingContract):
    rule = Patience(epochs=4, min_delta=0.01)
    setting: ClassVar[object] = {"epochs": 4, "min_delta": 0.01}
    ended = trial([0.5, 0.6, 0.7, 0.705, 0.7, 0.709, 0.2]), EMPTY
    absolute = True


class TestForecast(StoppingContract):
    rule = Forecast(chance=0.1, best=2, trials=10)
    setting: ClassVar[object] = {"chance": 0.1, "best": 2, "trials": 10}
    # Trials are the slower the further to the right they lie; it looks at no epoch but whether there is one.
    ended = (
        Progress(CONFIG, trial([0.5]).records, None, (1.0,)),
        standing(*(Curve([0.8] * (9 + i) + [0.95], 30, Outcome.REACHED, None, (i / 19,)) for i in range(20))),
    )


class TestDiverged(StoppingContract):
    rule = Diverged()
    setting = True
    absolute = True
    ended = trial([0.1] * 5, [0.1] * 5), EMPTY


class TestAtTarget(StoppingContract):
    rule = AtTarget()
    setting = True
    absolute = True
    ended = trial([0.5, 0.93, 0.91, 0.92, 0.95]), EMPTY


def test_every_rule_has_its_suite():
    rules = {rule for rule in StoppingRule.__subclasses__() if rule.__module__.startswith("sweeps.")}
    assert {type(suite.rule) for suite in StoppingContract.__subclasses__()} == rules
