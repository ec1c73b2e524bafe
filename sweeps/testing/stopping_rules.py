"""The contract suite of stopping rules.

    class TestPlateau(StoppingRuleContract):
        rule = Plateau(epochs=4)
        ended = trial([0.5, 0.6, 0.6, 0.6, 0.6, 0.6]), EMPTY

A rule must be registered: as a shipped one, or in the entry-point group ``sweeps.rules``.
"""

from __future__ import annotations

import copy
import itertools
import math
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import pytest
from pydantic import ValidationError

from resnet_core.config import TrialConfig
from resnet_core.objective import Objective
from resnet_core.records import EpochRecord, Outcome
from search_spaces.plugins import rules
from search_spaces.spec import StudySpec
from search_spaces.study import from_json, to_json
from sweeps.study.stopping.base import Curve, Progress, StoppingRule, StudyState
from sweeps.study.stopping.rules import rule_modes, rules_of

CONFIG = TrialConfig(schedule="[1e-4, 0] lin[1e-3, 2] lin[1e-5, 30]")
"""The configuration of all trials of the suite: 30 epochs, with a warm-up in the first two."""
TARGET = 0.92
EMPTY = StudyState(TARGET, 2, [])
"""A study without other trials."""
NAN = math.nan


def trial(val_accs: Sequence[float], accs: Sequence[float] = ()) -> Progress:
    """Return a trial with these validation accuracies; its training accuracies are 0.8 unless given."""
    pairs = enumerate(zip(accs or [0.8] * len(val_accs), val_accs, strict=True), start=1)
    return Progress(CONFIG, [EpochRecord(e, 0.5, acc, 0.6, val, 1e-3, 1e-4, 1.0, 1e3) for e, (acc, val) in pairs])


def state(*curves: Curve) -> StudyState:
    """Return a study with these other trials."""
    reached = (curve.epochs_to_target(TARGET) for curve in curves)
    return StudyState(TARGET, 2, sorted(epoch for epoch in reached if epoch is not None), curves, 30, 0.003)


ERROR = Objective("error", "min", -TARGET)
"""An objective whose values are the negatives of accuracies: the scores are the same."""


def as_error(progress: Progress, target: float | None = ERROR.target) -> Progress:
    """Return a trial in a study whose metric should fall, with the same scores; None is no target."""
    records = [
        replace(record, val_acc=None, metrics={} if record.val_acc is None else {ERROR.metric: -record.val_acc})
        for record in progress.records
    ]
    return replace(progress, records=records, objective=replace(ERROR, target=target))


GOOD = [Curve([0.8] * 20 + [0.93 + 0.001 * i] * 10, 30, Outcome.REACHED) for i in range(12)]
"""Trials that reached the target, all with a schedule of the same length."""
UNCOMMON = [
    Curve([], 30, Outcome.REACHED),
    Curve([NAN] * 30, 30, Outcome.REACHED),
    Curve([0.5, NAN] * 15, 30, Outcome.EXHAUSTED),
    Curve([0.95], 30, Outcome.DIVERGED),
    Curve([0.95], 30),
    Curve([0.7, 0.95], 2),
    Curve([0.4] * 20, 90, Outcome.PRUNED),
]
"""Unusual curves: without epochs, with NaN, running, diverged, of other lengths."""
_SHOWN = [trial([0.5]), trial([0.5, 0.93]), trial([0.93] * 3), trial([0.1] * 6, [0.1] * 6), trial([0.6] * 29)]


class StoppingRuleContract:
    """The suite: a subclass sets the rule and a trial that it ends.

    Attributes:
        rule: the rule, with settings with which it ends ``ended``.
        ended: a trial that the rule ends at the trial's last epoch and not earlier, and the state of its study.
        absolute: whether the rule ignores the other trials.
        after: share of a schedule before which the rule ends no trial, if the rule has such a setting.
        accuracy_only: whether the rule ends ``ended`` because of its accuracies of training, and not of its scores.
    """

    rule: ClassVar[StoppingRule]
    ended: ClassVar[tuple[Progress, StudyState]]
    absolute: ClassVar[bool] = False
    after: ClassVar[float] = 0.0
    accuracy_only: ClassVar[bool] = False

    def test_it_ends_a_trial_at_its_epoch_and_not_before(self) -> None:
        progress, study = self.ended
        before = replace(progress, records=progress.records[:-1])
        assert not before.records or self.rule.reason_to_stop(before, study) is None
        assert self.rule.reason_to_stop(progress, study) is not None

    def test_the_reason_is_one_line_that_begins_with_the_epoch(self) -> None:
        reason = self.rule.reason_to_stop(*self.ended)
        assert reason is not None
        assert reason.startswith(f"stopped at epoch {self.ended[0].epoch}: ")
        assert reason.isprintable()

    def test_the_answer_is_the_same_every_time(self) -> None:
        answers = {self.rule.reason_to_stop(*copy.deepcopy(self.ended)) for _ in range(3)}
        assert len(answers) == 1

    def test_the_order_in_which_trials_are_shown_changes_no_answer(self) -> None:
        study = self.ended[1]
        shown = [*_SHOWN, self.ended[0]]
        alone = [copy.deepcopy(self.rule).reason_to_stop(progress, study) for progress in shown]
        for order in itertools.islice(itertools.permutations(range(len(shown))), 0, None, 37):
            rule = copy.deepcopy(self.rule)
            answers = {i: rule.reason_to_stop(shown[i], study) for i in order}
            assert [answers[i] for i in range(len(shown))] == alone

    def test_it_leaves_what_it_is_shown_alone(self) -> None:
        before = copy.deepcopy(self.ended)
        self.rule.reason_to_stop(*self.ended)
        assert self.ended == before

    @pytest.mark.parametrize("epochs", range(1, 30))
    def test_a_healthy_trial_alone_in_its_study_goes_on(self, epochs: int) -> None:
        assert self.rule.reason_to_stop(trial([0.9 * e / 30 for e in range(epochs)]), EMPTY) is None

    def test_the_order_of_the_studys_trials_changes_no_answer(self) -> None:
        progress, study = self.ended
        curves, answers = [*study.curves, *UNCOMMON], set()
        for seed in range(20):
            random.Random(seed).shuffle(curves)
            answers.add(self.rule.reason_to_stop(progress, state(*curves)))
        assert len(answers) == 1

    @pytest.mark.parametrize("val_accs", [[0.3] * 30, [0.6, 0.1] * 15, [NAN] * 30], ids=["low", "erratic", "unknown"])
    def test_a_trial_with_no_other_goes_on_unless_the_rule_looks_at_it_alone(self, val_accs: list[float]) -> None:
        if not self.absolute:
            reasons = {self.rule.reason_to_stop(trial(val_accs[:epochs]), EMPTY) for epochs in range(1, 30)}
            assert reasons == {None}

    @pytest.mark.parametrize("last", [NAN, 0.5])
    def test_a_missing_accuracy_raises_no_error_and_is_in_no_reason(self, last: float) -> None:
        study = state(*self.ended[1].curves, *UNCOMMON)
        for epochs in range(30):
            reason = self.rule.reason_to_stop(trial([NAN] * epochs + [last]), study) or ""
            assert not {"nan", "inf", "-inf"} & set(reason.replace(",", " ").replace(";", " ").split())

    def test_before_its_share_of_the_schedule_nothing_is_ended(self) -> None:
        for epochs in range(1, math.ceil(self.after * CONFIG.horizon)):
            assert self.rule.reason_to_stop(trial([0.1] * epochs, [0.5] * epochs), state(*GOOD)) is None

    @pytest.mark.parametrize("others", [[], GOOD, [*GOOD, *UNCOMMON]], ids=["alone", "good", "uncommon"])
    def test_it_revives_no_trial_that_it_would_end(self, others: list[Curve]) -> None:
        progress, study = self.ended
        ended = [replace(progress.curve, outcome=Outcome.PRUNED), *UNCOMMON]
        revived = self.rule.trials_to_revive(ended, state(*study.curves, *others, *ended))
        assert revived == [] or self.rule.revives
        for i in revived:
            shown = replace(trial(list(ended[i].scores)), coordinates=ended[i].coordinates)
            assert self.rule.reason_to_stop(shown, state(*study.curves, *others, *ended)) is None

    def test_a_metric_that_should_fall_is_judged_by_the_same_scores(self) -> None:
        progress, study = self.ended
        falling = replace(study, start=ERROR.start)
        before = replace(progress, records=progress.records[:-1])
        assert not before.records or self.rule.reason_to_stop(as_error(before), falling) is None
        reason = self.rule.reason_to_stop(as_error(progress), falling)
        assert (reason is None) == self.accuracy_only
        assert "val_acc" not in (reason or "")

    @pytest.mark.parametrize("epochs", range(1, 30))
    def test_a_healthy_trial_whose_metric_falls_goes_on(self, epochs: int) -> None:
        healthy = as_error(trial([0.9 * e / 30 for e in range(epochs)]))
        assert self.rule.reason_to_stop(healthy, replace(EMPTY, start=ERROR.start)) is None

    def test_without_a_target_it_judges_by_scores_or_is_refused_with_the_reason(self) -> None:
        if self.rule.needs_target:
            with pytest.raises(ValidationError, match="the rule needs a target, and the study has none"):
                self._study(target=False)
            return
        progress, study = self.ended
        free = replace(study, target=None, start=ERROR.start)
        assert self._study(target=False).stopping.rules == {self.rule.name: self.rule}
        assert (self.rule.reason_to_stop(as_error(progress, None), free) is None) == self.accuracy_only

    def test_it_is_registered(self) -> None:
        assert rules()[self.rule.name] is type(self.rule)

    def test_its_name_switches_it_on_in_a_study(self) -> None:
        spec = self._study()
        assert rules_of(spec) == [self.rule]
        assert rule_modes(spec) == {self.rule.name: "active"}

    def test_a_stored_study_keeps_its_settings(self) -> None:
        assert from_json(to_json(self._study())).stopping.rules == {self.rule.name: self.rule}

    def test_its_docstring_says_what_it_ends_and_describes_every_setting(self) -> None:
        doc = type(self.rule).__doc__ or ""
        assert doc.splitlines()[0].startswith("Ends a trial ")
        assert [name for name in type(self.rule).model_fields if f"\n        {name}: " not in doc] == []

    def test_a_number_that_is_no_number_is_refused(self) -> None:
        for name, field in type(self.rule).model_fields.items():
            if field.annotation in (int, float):
                with pytest.raises(ValidationError, match=name):
                    type(self.rule).model_validate({**dict(self.rule), name: NAN})

    def _study(self, **objective: Any) -> StudySpec:
        stopping: dict[str, Any] = {name: False for name, rule in rules().items() if rule.on_by_default}
        stopping[self.rule.name] = dict(self.rule) if type(self.rule).model_fields else True
        train = {"schedule": "[1e-3, 0] lin[1e-5, 4]"}
        return StudySpec.model_validate({"name": "s", "train": train, "stopping": stopping, "objective": objective})
