"""How a trial ended, and what Optuna and MLflow call that."""

import json
from dataclasses import fields, replace

import pytest
from optuna.trial import TrialState

from resnet_core.config import TrialConfig
from resnet_core.records import Outcome
from search_spaces.plugins import samplers
from sweeps.ledger.outcomes import OPTUNA_STATE, OptunaResult, optuna_result
from sweeps.study.outcomes import Result, Stop, crash_result, make_result
from sweeps.study.stopping.base import Progress
from sweeps.tracking.writer import MLFLOW_STATUS
from tests.studies import epoch_record, epoch_records

CONFIG = TrialConfig(schedule="[1e-3, 0] lin[1e-5, 30]")
CAPPED = Stop("cap", "too slow")
NAN, INF = float("nan"), float("inf")


def result(val_accs: list[float], stop: Stop | None = None, loss: float = 0.25, acc: float = 0.8) -> Result:
    """The result of a trial with these validation accuracies and this training loss; target 0.92, twice."""
    records = epoch_records(val_accs, loss=loss, acc=acc)
    return make_result(Progress(CONFIG, records), longest_horizon=30, noise=0.0, stop=stop)


@pytest.mark.parametrize(
    ("val_accs", "stop", "loss", "outcome"),
    [
        ([0.5, 0.92], None, 0.25, Outcome.REACHED),
        ([0.92, 0.5], None, 0.25, Outcome.REACHED),
        ([0.5, 0.93, 0.93], Stop("at_target", "held"), 0.25, Outcome.REACHED),
        ([0.5, 0.91], None, 0.25, Outcome.EXHAUSTED),
        ([0.5, 0.91], CAPPED, 0.25, Outcome.PRUNED),
        ([0.5, 0.1], Stop("diverged", "broken"), NAN, Outcome.DIVERGED),
        ([0.95, 0.95], Stop("diverged", "broken"), INF, Outcome.DIVERGED),
        ([0.5, 0.1], None, NAN, Outcome.DIVERGED),
    ],
)
def test_a_trial_ends_with_the_outcome_that_its_curve_and_the_rule_make(val_accs, stop, loss, outcome):
    assert result(val_accs, stop, loss).outcome is outcome


def test_a_trial_that_reached_the_target_has_all_numbers():
    assert result([0.84, 0.94, 0.9, 0.93, 0.95]) == Result(
        outcome=Outcome.REACHED,
        epochs_run=5,
        objective=pytest.approx(1.8),
        epochs_to_target=2,
        epochs_to_target_sustained=4,
        best_value=0.95,
        best_epoch=5,
        final_loss=0.25,
        final_val_loss=0.5,
        values=(0.84, 0.94, 0.9, 0.93, 0.95),
    )


def test_the_final_losses_are_those_of_the_last_epoch():
    records = [replace(epoch_record(e, loss=1 / e), val_loss=2 / e) for e in (1, 2, 4)]
    ended = make_result(Progress(CONFIG, records), longest_horizon=30, noise=0.0, stop=None)
    assert (ended.final_loss, ended.final_val_loss) == (0.25, 0.5)


@pytest.mark.parametrize(("stop", "saved"), [(CAPPED, 28), (None, 0)])
def test_epochs_are_saved_by_rules_alone(stop, saved):
    assert result([0.5, 0.6], stop).epochs_saved == saved


def test_a_result_of_an_earlier_version_is_read():
    old = {k: v for k, v in result([0.5]).to_dict().items() if k not in ("epochs_saved", "would_stop", "val_accs")}
    assert Result.from_dict(old) == replace(result([0.5]), values=())


def test_accuracies_come_back_from_json_exactly():
    val_accs = (1 / 3, NAN, 0.1 + 0.2)
    back = Result.from_dict(json.loads(json.dumps(result(list(val_accs)).to_dict(), allow_nan=False)))
    assert list(map(repr, back.values)) == list(map(repr, val_accs))


def test_a_pruned_trial_says_by_which_rule_and_why():
    pruned = result([0.5, 0.6], CAPPED)
    assert (pruned.stopped_by, pruned.stop_reason, pruned.epochs_run) == ("cap", "too slow", 2)


def test_a_trial_ended_at_the_target_names_the_rule():
    assert result([0.93, 0.93], Stop("at_target", "held")).stopped_by == "at_target"


@pytest.mark.parametrize("val_accs", [[0.0], [0.5], [0.919], [0.5, NAN]])
@pytest.mark.parametrize("stop", [None, CAPPED])
def test_a_miss_is_worse_than_the_longest_horizon(val_accs, stop):
    assert 30 < result(val_accs, stop).objective <= 60


def test_a_better_miss_is_a_better_objective():
    assert result([0.9], CAPPED).objective < result([0.8], CAPPED).objective


def test_a_trial_that_only_touched_the_target_has_not_sustained_it():
    assert result([0.93, 0.5, 0.93]).epochs_to_target_sustained is None


@pytest.mark.parametrize("loss", [NAN, INF])
def test_a_diverged_trial_has_no_result_even_where_it_had_reached_the_target(loss):
    diverged = result([0.95, 0.96], None, loss)
    assert (diverged.epochs_to_target, diverged.epochs_to_target_sustained, diverged.objective) == (None, None, None)


def test_divergence_at_the_last_epoch_has_its_reason_without_a_rule():
    diverged = result([0.5, 0.5], None, NAN)
    assert (diverged.stopped_by, diverged.stop_reason) == (None, "the loss is nan at epoch 2")


def test_chance_is_divergence_without_a_rule():
    assert result([0.1] * 4, None, acc=0.1).outcome is Outcome.DIVERGED


def test_a_loss_that_is_not_finite_is_no_value():
    assert result([0.5], None, NAN).final_loss is None


def test_accuracies_that_are_no_numbers_are_no_best():
    exhausted = result([NAN, NAN])
    assert (exhausted.best_value, exhausted.best_epoch) == (None, None)


def test_a_crash_keeps_its_error_and_its_epochs():
    assert crash_result(3, "disk full") == Result(Outcome.CRASHED, epochs_run=3, stop_reason="disk full")


@pytest.mark.parametrize(
    "ended",
    [
        result([0.5, 0.95, 0.95]),
        result([0.5]),
        result([0.5], CAPPED),
        result([0.5], None, NAN),
        crash_result(0, "x: ü"),
    ],
    ids=lambda ended: ended.outcome,
)
def test_a_result_comes_back_from_json_as_it_was(ended):
    back = Result.from_dict(json.loads(json.dumps(ended.to_dict(), allow_nan=False)))
    assert back == ended
    assert back.outcome is ended.outcome


def test_a_result_as_plain_values_has_every_field():
    stored = {"best_value": "best_val_acc", "values": "val_accs"}  # the names of version 0.1.0
    assert result([0.5]).to_dict().keys() == {stored.get(field.name, field.name) for field in fields(Result)}


@pytest.mark.parametrize(
    ("outcome", "state", "status"),
    [
        ("reached", TrialState.COMPLETE, "FINISHED"),
        ("exhausted", TrialState.COMPLETE, "FINISHED"),
        ("pruned", TrialState.PRUNED, "KILLED"),
        ("diverged", TrialState.PRUNED, "FAILED"),
        ("crashed", TrialState.FAIL, "FAILED"),
    ],
)
def test_an_outcome_is_called_so_by_optuna_and_mlflow(outcome, state, status):
    assert (OPTUNA_STATE[Outcome(outcome)], MLFLOW_STATUS[Outcome(outcome)]) == (state, status)


@pytest.mark.parametrize("table", [OPTUNA_STATE, MLFLOW_STATUS])
def test_every_outcome_is_mapped(table):
    assert table.keys() == set(Outcome)


def told(result: Result, sampler: str) -> OptunaResult:
    return optuna_result(result, horizon=10, ignores_pruned=samplers()[sampler].ignores_pruned, worst=60.0)


@pytest.mark.parametrize("sampler", ["tpe", "random", "grid"])
def test_samplers_that_learn_from_pruned_trials_get_pruned_trials(sampler):
    pruned = told(Result(Outcome.PRUNED, 5, 12.0), sampler)
    assert pruned == OptunaResult(TrialState.PRUNED, None, {50: 12.0})
    assert told(Result(Outcome.DIVERGED, 5), sampler) == OptunaResult(TrialState.PRUNED)


@pytest.mark.parametrize("sampler", ["gp", "cmaes"])
def test_samplers_that_ignore_pruned_trials_get_complete_trials_with_a_value(sampler):
    assert told(Result(Outcome.PRUNED, 5, 12.0), sampler) == OptunaResult(TrialState.COMPLETE, 12.0)
    assert told(Result(Outcome.DIVERGED, 5), sampler) == OptunaResult(TrialState.COMPLETE, 60.0)


@pytest.mark.parametrize("sampler", ["tpe", "gp"])
def test_every_sampler_gets_the_same_of_a_trial_that_ended_by_itself_or_crashed(sampler):
    assert told(Result(Outcome.REACHED, 5, 4.5), sampler) == OptunaResult(TrialState.COMPLETE, 4.5)
    assert told(Result(Outcome.CRASHED, 5), sampler) == OptunaResult(TrialState.FAIL)
