"""The views and figures of `sweeps table`, on a store without a sweep."""

import json

import pytest
from typer.testing import CliRunner

from sweeps.cli import app
from sweeps.errors import InputError

FAST = [0.5, 0.93, 0.94, 0.93, 0.94, 0.95]
MISS = [0.5, 0.6, 0.7, 0.8, 0.9, 0.91]


@pytest.fixture(scope="module")
def home(store):
    launch = store.launch("views")
    for number, val_accs in enumerate((FAST, FAST, MISS)):
        outcome = "reached" if max(val_accs) >= 0.92 else "exhausted"
        store.trial(launch, number, val_accs, outcome, seed=number)
    store.trial(launch, 3, MISS, "exhausted", weight_decay=0.2)
    return store.path.parent


@pytest.fixture
def table(home):
    def run(*options: str) -> str:
        done = CliRunner().invoke(app, ["table", "views", "--home", str(home), *map(str, options)])
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done.stdout

    return run


def test_trials_whose_runs_were_deleted_are_named_beside_a_table_for_programs(store):
    launch = store.launch("thinned")
    store.trial(launch, 0, FAST, "reached")
    store.client.delete_run(store.trial(launch, 1, FAST, "reached"))
    done = CliRunner().invoke(app, ["table", "thinned", "--home", str(store.path.parent), "--format", "csv"])
    assert len(done.stdout.splitlines()) == 2
    assert done.stderr.startswith("study 'thinned': 1 trial is left out: its run was deleted in MLflow (trial-1).")


def test_statistics_have_a_row_for_each_configuration(table):
    rows = json.loads(table("--view", "statistics", "--json"))
    assert [(row["configuration"], row["runs"], row["reached"]) for row in rows] == [
        ("trial-0", 3, 2),
        ("trial-3", 1, 0),
    ]


def test_statistics_are_at_the_target_that_is_asked_for(table):
    rows = json.loads(table("--view", "statistics", "--target", "0.9", "--json"))
    assert [row["reached"] for row in rows] == [3, 1]


def test_people_read_an_estimate_with_its_interval(table):
    text = table("--view", "statistics")
    assert "0.6667 [0.0943, 0.9916]" in text
    assert "Phase search" in text


def test_csv_has_the_ends_of_intervals_in_columns(table):
    assert "median,median_low,median_high" in table("--view", "statistics", "--format", "csv").splitlines()[0]


def test_a_ladder_has_the_levels_that_are_asked_for(table):
    rows = json.loads(table("--view", "ladder", "--levels", "0.9,0.94", "--json"))
    assert [row["target"] for row in rows] == [0.9, 0.94] * 2


def test_a_ladder_has_post_is_levels_unless_asked(table):
    assert len(json.loads(table("--view", "ladder", "--json"))) == 2 * 6


def test_noise_has_a_row_for_each_trial(table):
    assert len(json.loads(table("--view", "noise", "--json"))) == 4


def test_importance_of_too_few_trials_is_refused_with_the_reason(table):
    with pytest.raises(InputError, match="--view importance: study 'views': 4 trials ended"):
        table("--view", "importance")


@pytest.mark.parametrize("figure", ["slices", "best-so-far", "share-reached", "best-of-n", "schedules"])
def test_a_figure_is_drawn(table, tmp_path, figure):
    table("--plot", tmp_path / "a.png", "--figure", figure)
    assert (tmp_path / "a.png").stat().st_size > 1000


@pytest.mark.parametrize("options", [("--figure", "slices"), ("--view", "pie"), ("--levels", "0.9")])
def test_options_that_do_not_go_together_are_refused(table, options):
    with pytest.raises(InputError, match="expected"):
        table(*options)


@pytest.mark.parametrize("style", ["text", "markdown", "csv", "latex"])
def test_a_table_ends_with_one_newline(table, style):
    text = table("--format", style)
    assert text.endswith("\n")
    assert not text.endswith("\n\n")


@pytest.mark.parametrize("view", ["results", "statistics", "ladder", "cost", "noise"])
def test_a_narrow_terminal_is_shown_fewer_columns(table, monkeypatch, view):
    monkeypatch.setattr("sweeps.cli.tables.terminal_width", lambda: 40)
    text, _, notes = table("--view", view).partition("\n\n")
    assert max(map(len, text.splitlines())) <= 40
    assert text.split()[0] in ("trial", "configuration")
    assert "Left out to fit the width: " in notes


def test_the_rules_fit_a_narrow_terminal(home, monkeypatch):
    monkeypatch.setattr("sweeps.cli.tables.terminal_width", lambda: 40)
    text = CliRunner().invoke(app, ["stopping", "views", "--home", str(home)]).stdout.partition("\n\n")[0]
    assert max(map(len, text.splitlines())) <= 40
    assert text.startswith("rule ")
