"""What every stopping rule keeps to. A new rule gets a class here that says how it is made and what it ends."""

import copy
import itertools
from typing import ClassVar

import pytest

from resnet_core.config import TrialConfig
from resnet_core.records import EpochRecord
from search_spaces.study import Stopping, StudySpec
from sweeps.stopping import AtTarget, Cap, Diverged, Progress, Standing, StoppingRule, rules_of

CONFIG = TrialConfig(schedule="[1e-4, 0] lin[1e-3, 2] lin[1e-5, 30]")
EMPTY = Standing(0.92, 2, [])


def trial(val_accs: list[float], accs: list[float] | None = None) -> Progress:
    accs = accs or [0.8] * len(val_accs)
    pairs = enumerate(zip(accs, val_accs, strict=True), start=1)
    return Progress(CONFIG, [EpochRecord(e, 0.5, acc, 0.6, val, 1e-3, 1e-4, 1.0, 1e3) for e, (acc, val) in pairs])


OTHERS = [
    trial([0.5]),
    trial([0.5, 0.93]),
    trial([0.93, 0.93, 0.93]),
    trial([0.1] * 6, [0.1] * 6),
    trial([0.6] * 29),
]


class StoppingContract:
    """The suite: a class of it for each rule fills in these three."""

    rule: ClassVar[StoppingRule]
    setting: ClassVar[object]
    """What switches the rule on in ``[stopping]``."""
    ended: ClassVar[tuple[Progress, Standing]]
    """A trial that the rule ends at this epoch and not at the one before."""

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

    def test_its_name_switches_it_on_in_a_study(self):
        off = dict.fromkeys(Stopping.model_fields.keys() & {"diverged", "at_target"}, False)
        study = {"name": "s", "train": {"schedule": "[1e-3, 0] lin[1e-5, 4]"}}
        spec = StudySpec.model_validate(study | {"stopping": off | {self.rule.name: self.setting}})
        assert [type(rule) for rule in rules_of(spec)] == [type(self.rule)]


class TestCap(StoppingContract):
    rule = Cap(best=2, slack=1.2)
    setting: ClassVar[object] = {"best": 2, "slack": 1.2}
    ended = trial([0.91] * 24), Standing(0.92, 2, [17, 20, 22])


class TestDiverged(StoppingContract):
    rule = Diverged()
    setting = True
    ended = trial([0.1] * 5, [0.1] * 5), EMPTY


class TestAtTarget(StoppingContract):
    rule = AtTarget()
    setting = True
    ended = trial([0.5, 0.93, 0.91, 0.92, 0.95]), EMPTY


def test_every_rule_has_its_suite():
    rules = {rule for rule in StoppingRule.__subclasses__() if rule.__module__.startswith("sweeps.")}
    assert {type(suite.rule) for suite in StoppingContract.__subclasses__()} == rules
