import json

import pytest

from analysis.tables.rendering import render
from analysis.tables.transitions import build_transitions, transition, transition_footnotes

NAN = float("nan")
HELD = {"val_accs": [0.5, 0.93, 0.88, 0.92, 0.94], "outcome": "reached"}
MISSED = {"val_accs": [0.5, 0.6, 0.7], "outcome": "exhausted"}
PRUNED = {"val_accs": [0.5, 0.6], "outcome": "pruned"}
DIVERGED = {"val_accs": [0.95, NAN], "outcome": "diverged"}
RUNNING = {"val_accs": [0.5]}
CRASHED = {"val_accs": [0.99], "outcome": "crashed"}


@pytest.mark.parametrize(
    ("val_accs", "epoch"),
    [
        pytest.param([0.5, 0.92, 0.93], 2, id="from the first crossing on"),
        pytest.param([0.5, 0.93, 0.89, 0.92, 0.92], 4, id="an early peak that does not last is none"),
        pytest.param([0.5, 0.92, 0.91, 0.95], 2, id="a dip that the mean forgives"),
        pytest.param([0.9, 0.95, 0.95], 2, id="an epoch below the level is none, whatever comes after"),
        pytest.param([0.5, 0.92], 2, id="the last epoch alone"),
        pytest.param([0.95, 0.91], 1, id="a level that a later epoch misses, and the mean does not"),
        pytest.param([0.93, 0.5], None, id="a level that is lost again"),
        pytest.param([0.92] * 7, 1, id="exactly at the level"),
        pytest.param([0.5, 0.93, NAN, 0.93], 2, id="an unknown accuracy is left out of the mean"),
        pytest.param([NAN, NAN], None, id="nothing is known"),
        pytest.param([], None, id="no epoch"),
    ],
)
def test_a_transition_is_where_the_level_holds_from(val_accs, epoch):
    assert transition(val_accs, 0.92) == epoch


@pytest.mark.parametrize("level", [0, -0.1, 92, NAN])
def test_a_level_that_is_no_accuracy_is_refused(level):
    with pytest.raises(ValueError, match="level"):
        transition([0.5], level)


def test_there_is_a_column_for_each_published_level(make_study):
    columns = ["trial", "0.91", "0.92", "0.925", "0.927", "0.928", "0.93", "epochs_run", "outcome"]
    assert list(build_transitions(make_study(HELD)).columns) == columns


def test_levels_may_be_asked_for(make_study):
    row = build_transitions(make_study(HELD), [0.7, 0.92]).loc[0]
    assert row[["0.7", "0.92"]].tolist() == [2, 4]


@pytest.mark.parametrize("levels", [[0.9, 0.9], [0.9, 90]])
def test_levels_that_make_no_table_are_refused(make_study, levels):
    with pytest.raises(ValueError, match="level"):
        build_transitions(make_study(), levels)


def test_rows_come_by_number_without_crashed_ones(make_study):
    assert build_transitions(make_study(MISSED, CRASHED, HELD)).index.tolist() == [0, 2]


def test_a_diverged_trial_has_no_transition(make_study):
    assert build_transitions(make_study(DIVERGED))["0.91"].isna().all()


@pytest.mark.parametrize(
    ("trial", "shown"), [(HELD, "4"), (MISSED, ">3"), (PRUNED, ">2"), (DIVERGED, "-"), (RUNNING, "-")]
)
def test_markdown_shows_how_far_a_trial_was_followed(make_study, trial, shown):
    text = render(build_transitions(make_study(trial)), "markdown")
    assert text.splitlines()[2].split(" | ")[2] == shown


def test_json_has_whole_epochs_and_null(make_study):
    rows = json.loads(render(build_transitions(make_study(HELD, MISSED)), "json"))
    assert [row["0.92"] for row in rows] == [4, None]


@pytest.mark.parametrize("style", ["text", "csv", "latex"])
def test_it_is_rendered(make_study, style):
    assert "0.925" in render(build_transitions(make_study(HELD, MISSED)), style)


def test_it_fits_a_terminal(make_study):
    text = render(build_transitions(make_study(HELD, MISSED)), "text", width=80)
    assert max(map(len, text.splitlines())) <= 80


def test_footnotes_say_that_post_i_read_by_eye(make_study):
    assert "read by eye" in " ".join(transition_footnotes(make_study(HELD)))
