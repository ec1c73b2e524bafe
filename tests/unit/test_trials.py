"""One trial: how it is found, what people are told of it, and how its schedule is drawn."""

import json
from dataclasses import replace
from typing import Any

import pytest

from resnet_core.config import TrialConfig
from resnet_core.objective import DEFAULT
from resnet_core.schedule import parse
from sweeps.errors import InputError
from sweeps.home import Home
from sweeps.inspection.trials import (
    describe_trial,
    draw_learning_rate,
    draw_schedule,
    failed_tries,
    printed_output,
    trial_to_dict,
)
from sweeps.ledger.ledger import Ledger
from sweeps.study.outcomes import Result
from sweeps.study.trials import Entry, Job
from sweeps.trial_log import add_failure
from tests.studies import CRASHED, MISSED, PRUNED, REACHED, SCHEDULE, fixed_study, run_trials

CONFIG = TrialConfig(schedule=SCHEDULE)


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Home:
    """Two studies: one complete, one cut off with two trials running."""
    home = Home(tmp_path_factory.mktemp("home"))
    runs = [{"name": name} for name in ("a", "b")]
    run_trials(home.ledger_uri, fixed_study("done", run=runs), MISSED, REACHED)
    run_trials(home.ledger_uri, fixed_study("cut-off", run=runs, search={"seeds": [0, 1]}), CRASHED, None, None)
    return home


def entry(number: int, result: Result | None, name: str = "", params: dict[str, Any] | None = None) -> Entry:
    return Entry(Job(number, name or str(number), CONFIG, params or {}), result)


@pytest.mark.parametrize(("text", "number"), [("a-s1", 1), ("1", 1), ("b-s0", 2)])
def test_a_trial_is_found_by_name_or_number(home, text, number):
    assert Ledger.open(home.ledger_uri, "cut-off").find(text).job.number == number


def test_of_several_tries_of_a_run_the_last_is_found(tmp_path):
    home, spec = Home(tmp_path), fixed_study("again", run=[{"name": "7"}])
    run_trials(home.ledger_uri, spec, CRASHED)
    assert run_trials(home.ledger_uri, spec, MISSED).find("7").result == MISSED


def test_a_name_goes_before_a_number(tmp_path):
    ledger = run_trials(
        Home(tmp_path).ledger_uri, fixed_study("numbers", run=[{"name": "1"}, {"name": "0"}]), MISSED, REACHED
    )
    assert ledger.find("1").result == MISSED


@pytest.mark.parametrize("text", ["c", "9", "", "-1"])
def test_an_unknown_trial_is_named_with_those_there_are(home, text):
    with pytest.raises(InputError, match=rf"^no trial '{text}' in study 'done'; there are: a, b$"):
        Ledger.open(home.ledger_uri, "done").find(text)


def test_a_trial_is_plain_values():
    view = trial_to_dict(entry(2, PRUNED, "b-s0", {"lr": 1e-3}), DEFAULT)
    assert json.loads(json.dumps(view)) == {
        "trial": "b-s0",
        "number": 2,
        "parameters": {"lr": 1e-3},
        "thawed": [],
        "config": CONFIG.to_dict(),
        "result": PRUNED.to_dict(),
    }


def test_a_running_trial_has_no_result():
    assert trial_to_dict(entry(2, None), DEFAULT)["result"] is None


def test_the_text_says_what_a_trial_trained_and_how_it_ended():
    text = describe_trial(entry(2, PRUNED, "b-s0", {"lr": 1e-3, "optimizer": "adam"}), DEFAULT)
    assert text.splitlines() == [
        "trial b-s0 (number 2)",
        "  lr = 0.001",
        "  optimizer = 'adam'",
        f"  schedule: {CONFIG.schedule}",
        f"  {draw_learning_rate(CONFIG)}",
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


def test_the_text_says_that_a_trial_ended_and_went_on():
    ended = entry(2, REACHED)
    text = describe_trial(replace(ended, job=replace(ended.job, thawed=(3, 5))), DEFAULT)
    assert "\n  ended after epoch 3, and went on later\n  ended after epoch 5, and went on later\n" in text


def test_the_text_says_that_a_trial_runs():
    assert describe_trial(entry(2, None), DEFAULT).endswith("\n  has not ended")


# What went wrong


def test_errors_of_every_try_of_a_run_are_listed_under_its_name(tmp_path):
    home, spec = Home(tmp_path), fixed_study("tried")
    run_trials(home.ledger_uri, spec, CRASHED)
    ledger = run_trials(home.ledger_uri, spec, REACHED)  # the next launch tries it again
    add_failure(home.error_log("tried", 0), "Traceback\nOSError: disk full")
    add_failure(home.error_log("tried", 1), "Traceback\nOSError: still full")
    tries = failed_tries(home, ledger, ledger.find("tried"))
    assert [(row["number"], row["summary"]) for row in tries] == [(0, "OSError: disk full"), (1, "OSError: still full")]
    assert tries[0]["error"] == "Traceback\nOSError: disk full"


def test_the_log_of_a_run_is_that_of_all_its_tries(tmp_path):
    home, spec = Home(tmp_path), fixed_study("tried")
    run_trials(home.ledger_uri, spec, CRASHED)
    ledger = run_trials(home.ledger_uri, spec, REACHED)
    for number, text in enumerate(("first\n", "second\n")):
        home.trial_log("tried", number).parent.mkdir(parents=True, exist_ok=True)
        home.trial_log("tried", number).write_text(text)
    assert printed_output(home, ledger, ledger.find("tried")) == "first\nsecond\n"


def test_a_trial_without_errors_has_no_failed_tries_and_no_log(home):
    ledger = Ledger.open(home.ledger_uri, "done")
    found = ledger.find("a")
    assert (failed_tries(home, ledger, found), printed_output(home, ledger, found)) == ([], "")


# The drawing of a schedule

BARS = " ▁▂▃▄▅▆▇█"
SHAPES = ["[1e-3, 0] lin[1.2e-3, 6] cos[1e-5, 20] lin[6e-6, 26]", "[0, 0] lin[1, 5] lin[0, 10]", "[1, 0]"]


@pytest.mark.parametrize("text", SHAPES)
@pytest.mark.parametrize("width", [1, 7, 60])
def test_a_drawing_is_as_wide_as_asked(text, width):
    assert len(draw_schedule(parse(text), 26, width)) == width


@pytest.mark.parametrize("text", SHAPES)
def test_the_peak_is_a_full_block(text):
    assert "█" in draw_schedule(parse(text), 26)


def test_zero_is_blank():
    assert draw_schedule(parse("[1, 0] step[0, 5]"), 10, 10) == "█████     "


def test_a_schedule_of_zeros_is_blank():
    assert draw_schedule(parse("[0, 0] lin[0, 5]"), 5, 4) == "    "


def test_a_value_above_zero_is_never_blank():
    assert draw_schedule(parse("[1, 0] step[1e-9, 5]"), 10, 10) == "█████▁▁▁▁▁"


def test_a_rising_line_rises_through_all_bars():
    drawn = draw_schedule(parse("[0, 0] lin[1, 10]"), 10, 60)
    assert [BARS.index(bar) for bar in drawn] == sorted(BARS.index(bar) for bar in drawn)
    assert set(drawn) == set(BARS[1:])


def test_what_follows_the_last_knot_is_drawn():
    assert draw_schedule(parse("[1, 0] step[0, 5]"), 20, 4) == "█   "


def test_peak_and_length_stand_beside_the_drawing():
    config = TrialConfig(schedule="[1e-3, 0] lin[1.2e-3, 6] cos[1e-5, 20]", epochs=22)
    assert draw_learning_rate(config, 8) == draw_schedule(config.lr_schedule, 22, 8) + "  peak 0.0012, 22 epochs"
