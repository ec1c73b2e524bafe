"""What a launch says at its end, on one screen."""

import re
from pathlib import Path
from typing import Any

import pytest

from resnet_core.records import Outcome
from search_spaces.spec import StudySpec
from search_spaces.tables import Finalists
from sweeps.home import Home
from sweeps.inspection.end_screen import end_screen
from sweeps.ledger.confirmations import confirmation
from sweeps.ledger.ledger import Ledger
from sweeps.study.outcomes import Result
from tests.studies import CRASHED, fixed_study, run_trials, sampled_study

MISSED = Result(Outcome.EXHAUSTED, 4, 8.5, None, None, 0.8, 4, values=(0.5, 0.6, 0.7, 0.8))
STOPPED = Result(Outcome.PRUNED, 2, 9.0, None, None, 0.6, 2, None, None, "cap", "too slow", 8, values=(0.5, 0.6))


def reached(epoch: int) -> Result:
    """A run of four epochs that is at the target from this epoch on."""
    values = tuple(0.95 if done >= epoch else 0.5 for done in range(1, 5))
    return Result(Outcome.REACHED, 4, epoch - 0.1, epoch, None, 0.95, epoch, values=values)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def screen(home: Home, name: str, width: int = 80, **options: str) -> list[str]:
    text = end_screen(home, Ledger.read(home.ledger_uri, name), width, **options)
    return text.splitlines()


def said(lines: list[str], label: str) -> str:
    """The text behind a label, on one line."""
    start = next(i for i, line in enumerate(lines) if line.startswith(label))
    parts = [lines[start].removeprefix(label)]
    for line in lines[start + 1 :]:
        if not line.startswith(" "):
            break
        parts.append(line)
    return " ".join(" ".join(parts).split())


def searched(home: Home, *results: Result, **tables: Any) -> str:
    spec = sampled_study(trials=len(results), **tables)
    run_trials(home.ledger_uri, spec, *results)
    return spec.name


def test_the_best_stands_first_with_few_columns(home):
    name = searched(home, MISSED, reached(3), reached(2))
    lines = screen(home, name)
    assert lines[0].split() == ["trial", "epochs_to_target", "val_acc_best", "lr"]
    assert [line.split()[:3] for line in lines[1:4]] == [
        ["2", "2", "0.9500"],
        ["1", "3", "0.9500"],
        ["0", ">4", "0.8000"],
    ]
    assert lines[4] == ""


def test_of_many_configurations_five_are_shown_with_what_is_expected_of_them(home):
    lines = screen(home, searched(home, *[reached(1 + i % 4) for i in range(14)]))
    assert lines[0].split() == ["trial", "epochs_to_target", "val_acc_best", "expected", "lr"]
    assert lines[6] == ""
    assert re.search(r"\d\.\d ± \d\.\d", lines[1])


def test_the_result_counts_outcomes(home):
    lines = screen(home, searched(home, MISSED, reached(3), STOPPED))
    assert said(lines, "Result:") == (
        "trial 1 is best: val_acc 0.92 at epoch 3. 1 of 3 trials reached val_acc 0.92, 1 ended below the target, "
        "1 pruned."
    )


def test_stopping_is_told_with_what_it_saved(home):
    cost = said(screen(home, searched(home, MISSED, STOPPED)), "Cost:")
    assert re.fullmatch(r"6 epochs within .+; stopping early saved 8 more \(57% of 14\)\.", cost)


def test_one_run_of_each_is_exploratory(home):
    sure = said(screen(home, searched(home, reached(3), MISSED)), "How sure:")
    assert sure.startswith("one run each: exploratory. No winner yet")
    assert sure.endswith("Chosen on the test images (split official).")


def test_images_that_were_held_out_are_not_called_test_images(home):
    train = {"schedule": "[lr, 0] lin[1e-5, 4]", "split": "held-out"}
    assert "test images" not in said(screen(home, searched(home, reached(3), train=train)), "How sure:")


def test_the_chance_of_the_second_best_is_told(home):
    assert re.search(
        r"Trial 1 is better with a chance of \d+%", said(screen(home, searched(home, reached(2), reached(4))), "How")
    )


def test_repeats_have_a_share_and_its_interval(home):
    spec = fixed_study(search={"seeds": [0, 1, 2, 3]})
    run_trials(home.ledger_uri, spec, reached(3), reached(3), MISSED, reached(4))
    lines = screen(home, spec.name)
    assert lines[0].split()[:2] == ["trial", "runs"]
    assert said(lines, "How sure:").startswith(
        "its configuration: 3 of 4 runs at the target (95 % interval 19% to 99%)"
    )


def test_a_winner_of_the_finalists_is_named_with_its_fresh_runs(home):
    spec = fixed_study(run=[{"name": "a"}, {"name": "b", "l2": 1e-3}])
    ledger = run_trials(home.ledger_uri, spec, reached(2), reached(3))
    ledger.race(Finalists(top=2, seeds=2))
    while (job := ledger.next_assignment().job) is not None:
        ledger.tell(job.number, reached(2) if job.name.startswith("a") else MISSED)
    lines = screen(home, spec.name)
    assert said(lines, "How sure:").startswith("winner of the finalists, 2 of 2 runs at the target")
    assert f"sweeps confirm {spec.name}" in said(lines, "Next:")


def test_a_confirmation_counts_as_what_is_known(home):
    spec = sampled_study(trials=1)
    run_trials(home.ledger_uri, spec, reached(2))
    confirming = confirmation(home, spec.name, 2)
    run_trials(home.ledger_uri, confirming, reached(2), MISSED)
    assert said(screen(home, spec.name), "How sure:").startswith(f"{confirming.name}: 1 of 2 runs at the target (95 %")


def test_what_next_names_where_the_study_is(home):
    name = searched(home, reached(3), MISSED)
    following = screen(home, name, store=" --home here", driver=" --home here --data there")[-5:]
    commands = [re.split(r" {2,}", line.removeprefix("Next:").strip())[1] for line in following]
    assert commands == [
        f"sweeps table {name} --home here",
        f"sweeps report {name} --home here",
        f"sweeps race {name} --home here --data there",
        f"sweeps best {name} --toml --home here",
        f"sweeps ui {name} --home here",
    ]


def test_a_network_that_was_kept_is_offered(home):
    name = searched(home, reached(3), reached(2))
    (home.study(name) / "models").mkdir(parents=True)
    (home.study(name) / "models" / "1.safetensors").touch()
    assert f"a network it trained      sweeps model {name} 1\n" in "\n".join(screen(home, name))


def test_a_study_on_a_server_is_looked_at_there(home):
    name = searched(home, reached(3))
    assert screen(home, name, server="https://mlflow.lab")[-1].endswith("  https://mlflow.lab")


def test_without_a_target_the_best_value_counts(home):
    spec = StudySpec.model_validate(
        {**sampled_study(trials=2).model_dump(by_alias=True, exclude_defaults=True), "objective": {"target": False}}
    )
    run_trials(home.ledger_uri, spec, MISSED, Result(Outcome.EXHAUSTED, 4, -0.9, None, None, 0.9, 3, values=(0.5, 0.9)))
    lines = screen(home, spec.name)
    assert lines[0].split() == ["trial", "val_acc_best", "lr"]
    assert said(lines, "Result:") == "trial 1 is best: val_acc 0.9000 at epoch 3. 2 trained to the end."


def test_where_every_trial_crashed_it_says_why(home):
    lines = screen(home, searched(home, CRASHED))
    assert "disk full" in said(lines, "Result:")
    assert said(lines, "Next:").endswith(
        f"sweeps status {Ledger.read(home.ledger_uri, lines[-1].split()[-1]).spec.name}"
    )


def test_a_narrow_terminal_has_fewer_columns_and_shorter_lines(home):
    name = searched(home, *[reached(1 + i % 4) for i in range(14)])
    lines = screen(home, name, 40)
    assert lines[0].split() == ["trial", "epochs_to_target", "val_acc_best"]
    labelled = lines[lines.index("") + 1 : next(i for i, line in enumerate(lines) if line.startswith("Next:"))]
    assert max(map(len, labelled)) <= 40


def test_many_parameters_fill_no_more_than_the_screen(home):
    space = {f"model_options.{name * 9}": {"low": 0.1, "high": 0.9} for name in "abcdefgh"}
    spec = StudySpec.model_validate(
        {
            "name": "wide",
            "train": {"schedule": "[1e-3, 0] lin[1e-5, 4]", "model": "made:network"},
            "space": space,
            "search": {"trials": 14, "sampler": "random"},
        }
    )
    run_trials(home.ledger_uri, spec, *[reached(1 + i % 4) for i in range(14)])
    lines = screen(home, "wide")
    assert len(lines) < 24
    assert max(map(len, lines)) <= 80
