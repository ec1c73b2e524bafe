"""What the command line prints of studies in the ledger."""

import json
import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from resnet_core import checkpoint
from resnet_core.config import TrialConfig
from resnet_core.records import EpochRecord, Outcome
from search_spaces.spec import StudySpec
from sweeps.errors import InputError
from sweeps.home import Home
from sweeps.inspection import views
from sweeps.inspection.drawing import draw_rates
from sweeps.ledger.ledger import Ledger
from sweeps.study.outcomes import Result
from sweeps.study.ranking import best_entry
from sweeps.study.trials import Entry, Job
from sweeps.trial_log import add_failure

CONFIG = TrialConfig(schedule="[1e-3, 0] lin[1e-5, 4]")
REACHED = Result(Outcome.REACHED, 4, 2.5, 3, None, 0.9312, 4, 0.25, 0.5)
MISSED = Result(Outcome.EXHAUSTED, 4, 8.5, None, None, 0.8, 4, 0.25, 0.5)
PRUNED = Result(Outcome.PRUNED, 2, 6.5, None, None, 0.85, 2, 0.25, 0.5, "cap", "too slow")
SPEC = StudySpec.model_validate({"name": "one", "train": {"schedule": "[1e-3, 0] lin[1e-5, 4]"}})
CRASHED = Result(Outcome.CRASHED, 0, stop_reason="disk full")


def study(name: str, **tables: Any) -> StudySpec:
    fields = {"name": name, "description": f"About {name}", "train": {"schedule": "[1e-3, 0] lin[1e-5, 4]"}}
    return StudySpec.model_validate(fields | tables)


def run(home: Home, spec: StudySpec, *results: Result | None) -> Ledger:
    """Begin a trial for each result; None is one that still runs."""
    ledger = Ledger.create(home.ledger_uri, spec)
    for result in results:
        number = ledger.ask().number
        if result is not None:
            ledger.tell(number, result)
    return ledger


def save(path: Path, *val_accs: float) -> None:
    epochs = enumerate(val_accs, start=1)
    records = [asdict(EpochRecord(e, 0.25, 0.8, 0.5, val_acc, 1e-3, 1e-4, 1.5, 1e3)) for e, val_acc in epochs]
    checkpoint.save(path, {"config": CONFIG.to_dict(), "records": records})


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Home:
    """Three studies: one complete, one cut off with two trials running, one that reached nothing."""
    home = Home(tmp_path_factory.mktemp("home"))
    runs = [{"name": name} for name in ("a", "b")]
    run(home, study("done", run=runs), MISSED, REACHED)
    run(home, study("cut-off", run=runs, search={"seeds": [0, 1]}), CRASHED, None, None)
    save(home.checkpoint("cut-off", 1), 0.5, 0.625)
    home.checkpoint("cut-off", 2).write_text("cut off")
    run(home, study("below", run=runs), MISSED, PRUNED)
    return home


def entry(number: int, result: Result | None, name: str = "", params: dict[str, Any] | None = None) -> Entry:
    return Entry(Job(number, name or str(number), CONFIG, params or {}), result)


# Where a study stands


def test_a_complete_study_is_summed_up(home):
    assert views.summary(home, "done") == {
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
        "target": 0.92,
        "best_trial": "b",
        "best_epochs_to_target": 3,
        "best_val_acc": 0.9312,
    }


def test_a_study_that_was_cut_off_is_interrupted(home):
    row = views.summary(home, "cut-off")
    assert (row["state"], row["trials"], row["begun"], row["crashed"]) == ("interrupted", 4, 2, 1)
    assert (row["best_trial"], row["best_epochs_to_target"], row["best_val_acc"]) == (None, None, None)


def test_a_study_that_a_process_holds_is_running(home):
    with home.lock("cut-off"):
        row = views.summary(home, "cut-off")
    assert (row["state"], row["process"]) == ("running", os.getpid())


def test_the_best_of_a_study_below_the_target_has_no_epoch(home):
    row = views.summary(home, "below")
    assert (row["best_trial"], row["best_epochs_to_target"], row["best_val_acc"]) == ("b", None, 0.85)


def test_an_unknown_study_is_named_with_the_known_ones(home):
    with pytest.raises(InputError, match="known: below, cut-off, done"):
        views.summary(home, "nope")


def test_all_studies_are_listed(home):
    rows = views.list_studies(home)
    assert rows == [views.summary(home, name) for name in ("below", "cut-off", "done")]
    assert json.loads(json.dumps(rows)) == rows


def test_a_home_without_studies_lists_none(tmp_path):
    assert views.list_studies(Home(tmp_path)) == []


def test_running_trials_are_told_with_the_epochs_of_their_checkpoints(home):
    rows = views.running(home, "cut-off")
    schedule = "[0.001, 0] lin[1e-05, 4]"
    assert [row | {"schedule": schedule} for row in rows] == [
        {"trial": "a-s1", "driver": None, "epoch": 2, "horizon": 4, "val_acc": 0.625, "schedule": schedule},
        {"trial": "b-s0", "driver": None, "epoch": 0, "horizon": 4, "val_acc": None, "schedule": schedule},
    ]
    assert rows[0]["schedule"] == CONFIG.schedule


def test_a_complete_study_has_no_running_trials(home):
    assert views.running(home, "done") == []


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "done",
            "done: complete · 2 trials asked for · ended: 1 reached, 1 exhausted · begun: 0\n"
            "  best: trial b, 0.92 at epoch 3",
        ),
        (
            "below",
            "below: complete · 2 trials asked for · ended: 1 exhausted, 1 pruned · begun: 0\n"
            "  best: trial b, best val_acc 0.8500, below the target 0.92",
        ),
    ],
)
def test_people_are_told_in_two_lines(home, name, text):
    assert views.describe_summary(views.summary(home, name)) == text


def test_people_are_told_of_a_study_that_was_cut_off(home):
    told = views.describe_summary(views.summary(home, "cut-off"))
    assert told.startswith("cut-off: interrupted · 4 trials asked for · ended: 1 crashed · begun: 2\n")


def test_people_are_told_that_nothing_has_ended(tmp_path):
    home = Home(tmp_path)
    run(home, study("begun", run=[{"name": "a"}]), None)
    assert views.describe_summary(views.summary(home, "begun")).endswith("ended: none · begun: 1\n  no result yet")


def test_people_are_told_which_process_runs_a_study(home):
    row = views.summary(home, "cut-off") | {"state": "running", "process": 77}
    assert views.describe_summary(row).startswith("cut-off: running by process 77 · ")


# One trial


def test_the_best_trial_has_the_smallest_objective():
    entries = [entry(0, MISSED), entry(1, REACHED), entry(2, PRUNED), entry(3, CRASHED), entry(4, None)]
    assert best_entry(SPEC, entries) == entries[1]


def test_of_equals_the_first_trial_is_the_best():
    assert best_entry(SPEC, [entry(1, REACHED), entry(0, REACHED)]) == entry(0, REACHED)


@pytest.mark.parametrize("results", [[], [None], [CRASHED, Result(Outcome.DIVERGED, 2)]])
def test_without_an_objective_there_is_no_best_trial(results):
    assert best_entry(SPEC, [entry(number, result) for number, result in enumerate(results)]) is None


@pytest.mark.parametrize(("text", "number"), [("a-s1", 1), ("1", 1), ("b-s0", 2)])
def test_a_trial_is_found_by_name_or_number(home, text, number):
    assert views.find_trial(Ledger.open(home.ledger_uri, "cut-off"), text).job.number == number


def test_of_several_tries_of_a_run_the_last_is_found(tmp_path):
    home, spec = Home(tmp_path), study("again", run=[{"name": "7"}])
    run(home, spec, CRASHED)
    assert views.find_trial(run(home, spec, MISSED), "7").result == MISSED


def test_a_name_goes_before_a_number(tmp_path):
    ledger = run(Home(tmp_path), study("numbers", run=[{"name": "1"}, {"name": "0"}]), MISSED, REACHED)
    assert views.find_trial(ledger, "1").result == MISSED


@pytest.mark.parametrize("text", ["c", "9", "", "-1"])
def test_an_unknown_trial_is_named_with_those_there_are(home, text):
    with pytest.raises(InputError, match=rf"^no trial '{text}' in study 'done'; there are: a, b$"):
        views.find_trial(Ledger.open(home.ledger_uri, "done"), text)


def test_a_trial_is_plain_values():
    view = views.trial_view(entry(2, PRUNED, "b-s0", {"lr": 1e-3}))
    assert json.loads(json.dumps(view)) == {
        "trial": "b-s0",
        "number": 2,
        "parameters": {"lr": 1e-3},
        "thawed": [],
        "config": CONFIG.to_dict(),
        "result": PRUNED.to_dict(),
    }


def test_a_running_trial_has_no_result():
    assert views.trial_view(entry(2, None))["result"] is None


def test_people_are_told_what_a_trial_trained_and_how_it_ended():
    text = views.describe_trial(entry(2, PRUNED, "b-s0", {"lr": 1e-3, "optimizer": "adam"}))
    assert text.splitlines() == [
        "trial b-s0 (number 2)",
        "  lr = 0.001",
        "  optimizer = 'adam'",
        f"  schedule: {CONFIG.schedule}",
        f"  {draw_rates(CONFIG)}",
        "  outcome: pruned",
        "  epochs_run: 2",
        "  objective: 6.5000",
        "  best_val_acc: 0.8500",
        "  best_epoch: 2",
        "  final_loss: 0.2500",
        "  final_val_loss: 0.5000",
        "  stopped_by: cap",
        "  stop_reason: too slow",
    ]


def test_people_are_told_that_a_trial_ended_and_went_on():
    ended = entry(2, REACHED)
    text = views.describe_trial(replace(ended, job=replace(ended.job, thawed=(3, 5))))
    assert "\n  ended after epoch 3, and went on later\n  ended after epoch 5, and went on later\n" in text


def test_people_are_told_that_a_trial_runs():
    assert views.describe_trial(entry(2, None)).endswith("\n  has not ended")


# What went wrong


def test_errors_of_every_try_of_a_run_are_listed_under_its_name(tmp_path):
    home, spec = Home(tmp_path), study("tried")
    run(home, spec, CRASHED)
    ledger = run(home, spec, REACHED)  # the next launch tries it again
    add_failure(home.error_log("tried", 0), "Traceback\nOSError: disk full")
    add_failure(home.error_log("tried", 1), "Traceback\nOSError: still full")
    tries = views.failed_tries(home, ledger, views.find_trial(ledger, "tried"))
    assert [(row["number"], row["summary"]) for row in tries] == [(0, "OSError: disk full"), (1, "OSError: still full")]
    assert tries[0]["error"] == "Traceback\nOSError: disk full"


def test_the_log_of_a_run_is_that_of_all_its_tries(tmp_path):
    home, spec = Home(tmp_path), study("tried")
    run(home, spec, CRASHED)
    ledger = run(home, spec, REACHED)
    for number, text in enumerate(("first\n", "second\n")):
        home.trial_log("tried", number).parent.mkdir(parents=True, exist_ok=True)
        home.trial_log("tried", number).write_text(text)
    assert views.logged(home, ledger, views.find_trial(ledger, "tried")) == "first\nsecond\n"


def test_a_trial_without_errors_has_no_failed_tries_and_no_log(home):
    ledger = Ledger.open(home.ledger_uri, "done")
    found = views.find_trial(ledger, "a")
    assert (views.failed_tries(home, ledger, found), views.logged(home, ledger, found)) == ([], "")
