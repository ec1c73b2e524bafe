"""The table of stopping rules: what they saved, and what is known of their errors."""

from collections.abc import Mapping, Sequence

import pytest

from analysis.tables.rendering import render
from analysis.tables.stopping import TrialHistory, build_stopping, histories, stopping_footnotes
from resnet_core.records import Outcome

HORIZON = 10
RISES = [0.5] * 5 + [0.93] * 5  # reaches 0.92 at epoch 6
MISSES = [0.5] * HORIZON


def history(
    val_accs: Sequence[float],
    outcome: Outcome = Outcome.REACHED,
    stopped_by: str | None = None,
    would_stop: Mapping[str, int] | None = None,
    seconds: float = 360.0,
) -> TrialHistory:
    return TrialHistory("t", val_accs, HORIZON, seconds, outcome, stopped_by, would_stop or {})


def rows(*trials: TrialHistory, **options: object) -> dict[str, dict]:
    built = build_stopping(trials, 0.92, **options)
    return {row["rule"]: row for row in build_rows(built)}


def build_rows(built) -> list[dict]:
    return built.astype(object).where(built.notna(), None).to_dict("records")


def pruned(epochs: int, rule: str, **would_stop: int) -> TrialHistory:
    return history([0.5] * epochs, Outcome.PRUNED, rule, {rule: epochs, **would_stop})


def test_an_active_rule_saved_what_was_left_of_the_schedules():
    row = rows(pruned(4, "cap"), pruned(9, "cap"), history(MISSES, Outcome.EXHAUSTED))["cap"]
    assert (row["mode"], row["stopped"], row["epochs_saved"]) == ("active", 2, 7)
    assert row["hours_saved"] == pytest.approx(0.7)
    assert (row["judged"], row["false_stops"], row["best_lost"]) == (0, None, None)


def test_a_shadow_rule_would_have_saved_the_epochs_after_its_stop():
    row = rows(history(MISSES, Outcome.EXHAUSTED, None, {"asha": 3}), history(RISES, would_stop={"asha": 8}))["asha"]
    assert (row["mode"], row["stopped"], row["epochs_saved"], row["judged"]) == ("shadow", 2, 9, 2)


@pytest.mark.parametrize(
    ("trial", "judged", "false"),
    [
        (history(RISES, would_stop={"asha": 5}), 1, 1),
        (history(RISES, would_stop={"asha": 6}), 1, 0),
        (history(MISSES, Outcome.EXHAUSTED, None, {"asha": 5}), 1, 0),
        (history(RISES[:5], Outcome.PRUNED, "cap", {"asha": 3, "cap": 5}), 0, None),
        (history(RISES[:7], Outcome.REACHED, "at_target", {"asha": 3, "at_target": 7}), 1, 1),
        (history([0.93, 0.1], Outcome.DIVERGED, "diverged", {"asha": 1, "diverged": 2}), 1, 0),
        (history([0.1, 0.93], Outcome.DIVERGED, None, {"asha": 1}), 1, 0),
    ],
    ids=["early", "at the target", "missed", "stopped by another", "ended at the target", "diverged", "diverged late"],
)
def test_a_stop_is_judged_where_the_trial_ran_on(trial, judged, false):
    row = rows(trial)["asha"]
    assert (row["judged"], row["false_stops"]) == (judged, false)


def test_on_a_control_trial_an_active_rule_is_judged_and_saved_nothing():
    row = rows(pruned(4, "cap"), history(RISES, would_stop={"cap": 3}))["cap"]
    assert (row["mode"], row["stopped"], row["epochs_saved"]) == ("active", 1, 6)
    assert (row["judged"], row["false_stops"], row["best_lost"]) == (1, 1, 1)


def test_only_the_best_trials_can_be_lost():
    faster = [history([0.5] * epoch + [0.93] * (HORIZON - epoch)) for epoch in (1, 2, 3)]
    late = history(RISES, would_stop={"asha": 2})
    assert rows(*faster, late, keep=3)["asha"]["best_lost"] == 0
    assert rows(*faster, late, keep=4)["asha"]["best_lost"] == 1


def test_of_equals_the_earlier_trial_is_the_better():
    equals = [history(RISES), history(RISES, would_stop={"asha": 2})]
    assert rows(*equals, keep=1)["asha"]["best_lost"] == 0
    assert rows(*equals[::-1], keep=1)["asha"]["best_lost"] == 1


def test_all_rules_are_the_active_ones_each_trial_counted_once():
    table = rows(
        pruned(4, "cap", asha=2),
        pruned(6, "median"),
        history(RISES, would_stop={"cap": 7, "median": 5, "asha": 1}),
        modes={"cap": "active", "median": "active", "asha": "shadow"},
    )
    row = table["all rules"]
    assert list(table) == ["cap", "median", "asha", "all rules"]
    assert (row["mode"], row["stopped"], row["epochs_saved"], row["judged"]) == ("active", 2, 10, 1)
    assert (row["false_stops"], row["best_lost"]) == (1, 1)
    assert table["cap"]["false_stops"] == 0


def test_rules_that_stopped_nothing_have_rows_too():
    table = rows(history(RISES), modes={"diverged": "active", "asha": "shadow"})
    assert [(row["rule"], row["mode"], row["stopped"]) for row in table.values()] == [
        ("diverged", "active", 0),
        ("asha", "shadow", 0),
        ("all rules", "active", 0),
    ]


def test_crashed_trials_are_passed_over():
    row = rows(history([0.95], Outcome.CRASHED, None, {"asha": 1}), history(RISES, would_stop={"asha": 1}))["asha"]
    assert (row["stopped"], row["judged"]) == (1, 1)


def test_a_study_without_trials_has_a_table():
    assert [row["rule"] for row in rows().values()] == ["all rules"]


def test_no_best_trials_are_refused():
    with pytest.raises(ValueError, match="keep = 0"):
        build_stopping([], 0.92, 0)


def test_what_is_not_known_is_a_dash_and_a_null():
    table = build_stopping([pruned(4, "cap")], 0.92)
    assert render(table, "text").splitlines()[1].split() == ["cap", "active", "1", "6", *("36", "min"), "0", "-", "-"]
    assert '"false_stops": null' in render(table, "json")


# From a study


def test_histories_are_the_ended_trials_of_a_study(make_study):
    study = make_study(
        {"val_accs": [0.5, 0.93], "outcome": "reached", "would_stop": '{"asha": 1}', "stopped_by": None},
        {"val_accs": [0.5], "outcome": "pruned", "stopped_by": "cap", "would_stop": '{"cap": 1}'},
        {"val_accs": [0.5]},
        {"val_accs": [0.5], "outcome": "crashed"},
    )
    first, second = histories(study)
    assert first == TrialHistory("trial-0", [0.5, 0.93], 6, 10.0, Outcome.REACHED, None, {"asha": 1})
    assert (second.name, second.stopped_by, second.would_stop) == ("trial-1", "cap", {"cap": 1})


def test_footnotes_say_what_is_known_and_from_how_many(make_study):
    study = make_study(
        {"val_accs": [0.5, 0.93], "outcome": "reached", "would_stop": '{"asha": 1}'},
        {"val_accs": [0.5], "outcome": "pruned", "stopped_by": "cap", "would_stop": '{"cap": 1}'},
    )
    trials = histories(study)
    notes = "\n".join(stopping_footnotes(study, trials, build_stopping(trials, 0.92), keep=5))
    assert "2 trials ended, 1 of them at 0.92; rules ended 1." in notes
    assert "In shadow, stopping nothing: asha;" in notes
    assert "(1 of all rules)" in notes
    assert "of the best 1 trials" in notes


def test_footnotes_say_that_nothing_is_known_where_no_trial_ran_on(make_study):
    study = make_study({"val_accs": [0.5], "outcome": "pruned", "stopped_by": "cap", "would_stop": '{"cap": 1}'})
    trials = histories(study)
    notes = "\n".join(stopping_footnotes(study, trials, build_stopping(trials, 0.92)))
    assert "What stopping cost is not known" in notes
    assert "best_lost" not in notes
