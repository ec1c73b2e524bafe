"""How far studies are, and which trials of theirs run."""

import json
import os
from pathlib import Path

import optuna
import pytest

from resnet_core import checkpoint
from resnet_core.config import TrialConfig
from sweeps.errors import InputError
from sweeps.home import Home
from sweeps.inspection.status import describe_summary, running_trials, study_summaries, study_summary
from sweeps.ledger import attributes
from sweeps.ledger.studies import ledger_storage
from sweeps.tracking.spool import Spool
from tests.studies import CRASHED, MISSED, PRUNED, REACHED, SCHEDULE, epoch_records, fixed_study, run_trials

CONFIG = TrialConfig(schedule=SCHEDULE)


def save(path: Path, *val_accs: float) -> None:
    records = [record.to_dict() for record in epoch_records(val_accs)]
    checkpoint.save(path, {"config": CONFIG.to_dict(), "records": records})


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Home:
    """Four studies: one complete, one cut off with two trials running, one that reached nothing, one that crashed."""
    home = Home(tmp_path_factory.mktemp("home"))
    runs = [{"name": name} for name in ("a", "b")]
    run_trials(home.ledger_uri, fixed_study("done", description="About done", run=runs), MISSED, REACHED)
    run_trials(home.ledger_uri, fixed_study("cut-off", run=runs, search={"seeds": [0, 1]}), CRASHED, None, None)
    save(home.checkpoint("cut-off", 1), 0.5, 0.625)
    home.checkpoint("cut-off", 2).write_text("cut off")
    run_trials(home.ledger_uri, fixed_study("below", run=runs), MISSED, PRUNED)
    run_trials(home.ledger_uri, fixed_study("broken", run=runs), CRASHED, CRASHED)
    return home


def test_a_complete_study_is_summed_up(home):
    assert study_summary(home, "done") == {
        "study": "done",
        "description": "About done",
        "state": "complete",
        "imported_from": None,
        "process": None,
        "drivers": [],
        "finalists": 0,
        "trials": 2,
        "begun": 0,
        "reached": 1,
        "exhausted": 1,
        "pruned": 0,
        "diverged": 0,
        "crashed": 0,
        "crashes": None,
        "waiting": 0,
        "kept": {"trials": [], "bytes": 0},
        "metric": "val_acc",
        "goal": "max",
        "target": 0.92,
        "best_trial": "b",
        "best_epochs_to_target": 3,
        "best_val_acc": 0.9312,
    }


def test_a_study_that_was_cut_off_is_interrupted(home):
    row = study_summary(home, "cut-off")
    assert (row["state"], row["trials"], row["begun"], row["crashed"]) == ("interrupted", 4, 2, 1)
    assert (row["best_trial"], row["best_epochs_to_target"], row["best_val_acc"]) == (None, None, None)


def test_a_study_whose_trials_have_all_ended_is_not_interrupted(home):
    assert study_summary(home, "broken")["state"] == "crashed"


def test_a_study_that_a_process_holds_is_running(home):
    with home.lock("cut-off"):
        row = study_summary(home, "cut-off")
    assert (row["state"], row["process"]) == ("running", os.getpid())


def test_the_best_of_a_study_below_the_target_has_no_epoch(home):
    row = study_summary(home, "below")
    assert (row["best_trial"], row["best_epochs_to_target"], row["best_val_acc"]) == ("b", None, 0.85)


def test_an_unknown_study_is_named_with_the_known_ones(home):
    with pytest.raises(InputError, match="known: below, broken, cut-off, done"):
        study_summary(home, "nope")


def test_all_studies_are_listed(home):
    rows = study_summaries(home)
    assert rows == [study_summary(home, name) for name in ("below", "broken", "cut-off", "done")]
    assert json.loads(json.dumps(rows)) == rows


def test_a_home_without_studies_lists_none(tmp_path):
    assert study_summaries(Home(tmp_path)) == []


def test_a_study_that_cannot_be_read_leaves_the_others(tmp_path, caplog):
    home = Home(tmp_path)
    for name in ("newer", "readable"):
        run_trials(home.ledger_uri, fixed_study(name, run=[{"name": "a"}]), REACHED)
    study = optuna.load_study(storage=ledger_storage(home.ledger_uri), study_name="newer")
    study.set_user_attr(attributes.SPEC, json.dumps({**json.loads(study.user_attrs[attributes.SPEC]), "tomorrow": 1}))
    assert [row["study"] for row in study_summaries(home)] == ["readable"]
    assert "study 'newer' is left out: stored study: tomorrow = 1: unknown key" in caplog.text


def test_running_trials_are_listed_with_the_epochs_of_their_checkpoints(home):
    rows = running_trials(home, "cut-off")
    schedule = "[0.001, 0] lin[1e-05, 4]"
    assert [row | {"schedule": schedule} for row in rows] == [
        {"trial": "a-s1", "driver": None, "epoch": 2, "horizon": 4, "val_acc": 0.625, "schedule": schedule},
        {"trial": "b-s0", "driver": None, "epoch": 0, "horizon": 4, "val_acc": None, "schedule": schedule},
    ]
    assert rows[0]["schedule"] == CONFIG.schedule


def test_a_complete_study_has_no_running_trials(home):
    assert running_trials(home, "done") == []


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "done",
            "done: complete · 2 trials asked for · ended: 1 reached, 1 exhausted · begun: 0\n"
            "  best: trial b, reached the target 0.92 at epoch 3",
        ),
        (
            "below",
            "below: complete · 2 trials asked for · ended: 1 exhausted, 1 pruned · begun: 0\n"
            "  best: trial b, best val_acc 0.8500, below the target 0.92",
        ),
        (
            "broken",
            "broken: ended, some trials crashed · 2 trials asked for · ended: 2 crashed · begun: 0\n"
            "  no result yet\n"
            "  every trial crashed: disk full; `sweeps show broken a` tells more",
        ),
    ],
)
def test_the_text_has_a_line_for_the_study_and_one_for_its_best(home, name, text):
    assert describe_summary(study_summary(home, name)) == text


def test_the_text_says_that_a_study_was_cut_off(home):
    told = describe_summary(study_summary(home, "cut-off"))
    assert told.startswith("cut-off: interrupted · 4 trials asked for · ended: 1 crashed · begun: 2\n")


@pytest.mark.parametrize(("state", "told"), [("interrupted", "; `sweeps resume lacking` writes them"), ("running", "")])
def test_the_text_says_how_much_waits_for_mlflow(tmp_path, state, told):
    home = Home(tmp_path)
    run_trials(home.ledger_uri, fixed_study("lacking", run=[{"name": "a"}]), None)
    Spool(home.spool("lacking")).append([{"do": "pause", "trial": 0}, {"do": "pause", "trial": 1}])
    row = study_summary(home, "lacking")
    assert row["waiting"] == 2
    assert describe_summary(row | {"state": state}).endswith(f"\n  entries that wait for MLflow: 2{told}")


def test_the_text_says_that_nothing_has_ended(tmp_path):
    home = Home(tmp_path)
    run_trials(home.ledger_uri, fixed_study("begun", run=[{"name": "a"}]), None)
    assert describe_summary(study_summary(home, "begun")).endswith("ended: none · begun: 1\n  no result yet")


def test_the_text_says_which_process_runs_a_study(home):
    row = study_summary(home, "cut-off") | {"state": "running", "process": 77}
    assert describe_summary(row).startswith("cut-off: running by process 77 · ")
