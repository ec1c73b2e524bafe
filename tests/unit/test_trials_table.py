import csv
import io
import json
import math
from dataclasses import replace

import pytest

from analysis.tables.rendering import render
from analysis.tables.trials import COLUMNS, OutcomeCounts, build_table, count_outcomes, footnotes

NAN = float("nan")
REACHED = {"val_accs": [0.5, 0.93, 0.91, 0.94, 0.95, 0.94], "outcome": "reached"}
EXHAUSTED = {"val_accs": [0.3, 0.8, 0.7], "outcome": "exhausted"}
PRUNED = {"val_accs": [0.4, 0.6], "outcome": "pruned", "stop_reason": "cap"}
DIVERGED = {
    "val_accs": [0.97, NAN],
    "losses": [2.0, NAN],
    "outcome": "diverged",
    "stop_reason": "loss is nan",
}
CRASHED = {"val_accs": [0.99], "outcome": "crashed"}
RUNNING = {"val_accs": [0.2]}
ONE_OF_EACH = (REACHED, EXHAUSTED, PRUNED, DIVERGED, CRASHED, RUNNING)


def test_the_columns_are_the_published_ones():
    assert (
        *("trial", "epoch", "val_acc", "acc", "epoch_best", "val_acc_best", "final_loss", "final_val_loss"),
        *("shift", "l2", "weight_decay", "lr_alpha", "schedule", "epochs_to_target"),
        *("epochs_to_target_sustained", "epochs_run", "outcome", "stop_reason"),
    ) == COLUMNS


def test_a_table_has_the_columns_in_order(make_study):
    assert tuple(build_table(make_study(REACHED)).columns) == COLUMNS


def test_a_trial_that_reached_is_read_at_its_first_crossing(make_study):
    row = build_table(make_study(REACHED)).loc[0]
    assert row[["epoch", "val_acc", "acc"]].tolist() == [2, 0.93, 0.2]


def test_a_trial_that_did_not_reach_is_read_at_its_best_epoch(make_study):
    row = build_table(make_study(EXHAUSTED)).loc[0]
    assert row[["epoch", "val_acc", "acc"]].tolist() == [2, 0.8, 0.2]


def test_both_epochs_to_target_are_columns(make_study):
    row = build_table(make_study(REACHED)).loc[0]
    assert row[["epochs_to_target", "epochs_to_target_sustained"]].tolist() == [2, 4]


def test_the_best_epoch_and_accuracy_are_columns(make_study):
    row = build_table(make_study(REACHED)).loc[0]
    assert row[["epoch_best", "val_acc_best"]].tolist() == [5, 0.95]


def test_the_last_epoch_is_told(make_study):
    row = build_table(make_study(EXHAUSTED)).loc[0]
    assert row[["final_loss", "final_val_loss", "epochs_run"]].tolist() == [2 / 3, 4 / 3, 3]


def test_the_settings_are_told(make_study):
    row = build_table(make_study(REACHED)).loc[0]
    settings = ["shift", "l2", "weight_decay", "lr_alpha", "schedule"]
    assert row[settings].tolist() == [0.07, 0.0, 0.18, 0.0012, "[1e-3, 0] lin[1.2e-3, 2] cos[1e-5, 6]"]


@pytest.mark.parametrize("trial", [EXHAUSTED, PRUNED, DIVERGED, RUNNING])
def test_without_a_crossing_epochs_to_target_is_missing(make_study, trial):
    assert build_table(make_study(trial))["epochs_to_target"].isna().all()


def test_a_crashed_trial_is_no_row(make_study):
    assert build_table(make_study(REACHED, CRASHED)).index.tolist() == [0]


def test_a_running_trial_has_no_outcome(make_study):
    assert build_table(make_study(RUNNING))["outcome"].tolist() == [None]


def test_a_trial_without_an_epoch_is_a_row(make_study):
    row = build_table(make_study({"val_accs": []})).loc[0]
    assert (row["epochs_run"], row[["epoch", "val_acc", "final_loss"]].isna().all()) == (0, True)


def test_an_epoch_that_is_missing_in_the_store_keeps_the_others_in_place(make_study):
    study = make_study(REACHED)
    study = replace(study, epochs=study.epochs.drop(index=0))
    assert build_table(study).loc[0, "epochs_to_target"] == 2


def test_a_trial_of_which_the_store_has_the_last_epochs_alone_keeps_their_numbers(make_study):
    study = make_study(REACHED, {"val_accs": [0.5] * 13 + [0.95], "outcome": "reached"})
    study = replace(study, epochs=study.epochs.drop(index=range(6, 18)))
    assert build_table(study).loc[1, ["epochs_run", "epochs_to_target"]].tolist() == [14, 14]


def test_another_target_may_be_asked_for(make_study):
    row = build_table(make_study(REACHED), target=0.94).loc[0]
    assert row[["epochs_to_target", "epoch"]].tolist() == [4, 4]


@pytest.mark.parametrize("trials", [(), (REACHED,)])
def test_a_target_that_is_no_accuracy_is_refused(make_study, trials):
    with pytest.raises(ValueError, match="target"):
        build_table(make_study(*trials), target=92)


def test_the_studys_sustained_is_used(make_study):
    row = build_table(make_study(REACHED, sustained=1)).loc[0]
    assert row["epochs_to_target_sustained"] == 2


def test_those_that_reached_come_first_the_fastest_ahead(make_study):
    slow = {"val_accs": [0.1, 0.2, 0.99], "outcome": "reached"}
    assert build_table(make_study(EXHAUSTED, slow, REACHED)).index.tolist() == [2, 1, 0]


def test_the_rest_comes_by_its_best_accuracy(make_study):
    assert build_table(make_study(RUNNING, PRUNED, EXHAUSTED)).index.tolist() == [2, 1, 0]


@pytest.mark.parametrize("target", [0.92, None])
def test_diverged_trials_come_last_whatever_they_had(make_study, target):
    study = replace(make_study(DIVERGED, EXHAUSTED, PRUNED), target=target)
    assert build_table(study)["outcome"].tolist() == ["exhausted", "pruned", "diverged"]


def test_equals_come_by_number(make_study):
    assert build_table(make_study(PRUNED, PRUNED, PRUNED)).index.tolist() == [0, 1, 2]


def test_a_study_without_trials_is_an_empty_table(make_study):
    table = build_table(make_study())
    assert (len(table), tuple(table.columns)) == (0, COLUMNS)


def test_counts_add_up(make_study):
    study = make_study(*ONE_OF_EACH)
    assert count_outcomes(study, build_table(study)) == OutcomeCounts(6, 1, 1, 1, 1, 1, 1)


def test_counts_follow_the_target_of_the_table(make_study):
    study = make_study(REACHED, EXHAUSTED)
    assert count_outcomes(study, build_table(study, target=0.96)) == OutcomeCounts(2, 0, 2, 0, 0, 0, 0)


@pytest.mark.parametrize(
    ("trial", "shown"),
    [
        pytest.param(REACHED, "2", id="reached"),
        pytest.param(EXHAUSTED, ">3", id="censored at the horizon"),
        pytest.param(PRUNED, ">2", id="censored where it was stopped"),
        pytest.param(DIVERGED, "-", id="diverged"),
        pytest.param(RUNNING, "-", id="running"),
    ],
)
def test_markdown_shows_epochs_to_target(make_study, trial, shown):
    assert cells(render(build_table(make_study(trial)), "markdown"))["epochs_to_target"] == shown


def test_reached_below_a_higher_target_is_censored_too(make_study):
    text = render(build_table(make_study(REACHED), target=0.96), "markdown")
    assert cells(text)["epochs_to_target"] == ">6"


def test_markdown_escapes_bars(make_study):
    text = render(build_table(make_study(PRUNED | {"stop_reason": "a|b"})), "markdown")
    assert r"a\|b" in text


def test_a_reason_of_several_lines_stays_in_its_row(make_study):
    text = render(build_table(make_study(PRUNED | {"stop_reason": "a\nb"})), "markdown")
    assert cells(text)["stop_reason"] == "a b"


@pytest.mark.parametrize("name", ["val_acc", "acc", "val_acc_best", "final_loss", "final_val_loss"])
def test_accuracies_and_losses_have_four_decimals(make_study, name):
    trial = {"val_accs": [1 / 3], "losses": [1 / 3], "outcome": "exhausted"}
    assert len(cells(render(build_table(make_study(trial)), "markdown"))[name]) == len("0.3333")


def test_text_lines_up(make_study):
    lines = render(build_table(make_study(REACHED, EXHAUSTED)), "text").splitlines()[:3]
    ends = [line.index(word) + len(word) for line, word in zip(lines, ("val_acc", "0.9300", "0.8000"), strict=True)]
    assert len(set(ends)) == 1


def test_text_never_shortens_by_itself(make_study):
    schedule = "[1e-3, 0] " + "lin[1e-3, 6] " * 30
    assert schedule.strip() in render(build_table(make_study(REACHED | {"schedule": schedule})), "text")


def test_text_shortens_the_schedule_to_the_width(make_study):
    schedule = "[1e-3, 0] " + "lin[1e-3, 6] " * 30
    text = render(build_table(make_study(REACHED | {"schedule": schedule})), "text", width=240)
    assert (max(map(len, text.splitlines())), "…" in text) == (240, True)


@pytest.mark.parametrize("width", [80, 120, 180])
def test_text_fits_a_terminal_by_leaving_columns_out(make_study, width):
    text = render(build_table(make_study(*ONE_OF_EACH)), "text", width=width)
    assert max(map(len, text.split("\n\n")[0].splitlines())) <= width


def test_text_says_which_columns_it_left_out(make_study):
    text = render(build_table(make_study(REACHED)), "text", width=120)
    shown = text.splitlines()[0].split()
    left_out = text.split("Left out to fit the width: ")[1].strip(".\n").split(", ")
    assert [name for name in COLUMNS if name not in shown] == left_out


def test_a_width_that_is_wide_enough_changes_nothing(make_study):
    table = build_table(make_study(*ONE_OF_EACH))
    assert render(table, "text", width=1000) == render(table, "text")


def test_csv_is_read_back(make_study):
    rows = list(csv.DictReader(io.StringIO(render(build_table(make_study(REACHED, PRUNED)), "csv"))))
    assert [(row["trial"], row["epochs_to_target"], row["outcome"]) for row in rows] == [
        ("trial-0", "2", "reached"),
        ("trial-1", "", "pruned"),
    ]


def test_csv_has_the_published_header(make_study):
    assert render(build_table(make_study()), "csv") == ",".join(COLUMNS) + "\n"


def test_csv_keeps_every_digit(make_study):
    text = render(build_table(make_study(EXHAUSTED | {"val_accs": [1 / 3]})), "csv")
    assert float(next(csv.DictReader(io.StringIO(text)))["val_acc"]) == 1 / 3


def test_json_is_a_list_of_objects_with_the_columns(make_study):
    rows = json.loads(render(build_table(make_study(*ONE_OF_EACH)), "json"))
    assert [tuple(row) for row in rows] == [COLUMNS] * 5


def test_json_has_null_where_a_value_does_not_exist(make_study):
    row = json.loads(render(build_table(make_study({"val_accs": []})), "json"))[0]
    missing = {name for name, value in row.items() if value is None}
    assert missing == {
        *("epoch", "val_acc", "acc", "epoch_best", "val_acc_best", "final_loss", "final_val_loss"),
        *("epochs_to_target", "epochs_to_target_sustained", "outcome", "stop_reason"),
    }


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_json_has_no_word_for_what_is_not_finite(make_study, loss):
    text = render(build_table(make_study(DIVERGED | {"losses": [2.0, loss]})), "json")
    assert json.loads(text)[0]["final_loss"] is None


def test_json_epochs_are_whole_numbers(make_study):
    row = json.loads(render(build_table(make_study(REACHED, RUNNING)), "json"))[0]
    assert isinstance(row["epochs_to_target"], int)


def test_latex_is_a_booktabs_tabular(make_study):
    lines = render(build_table(make_study(REACHED)), "latex").splitlines()
    assert [lines[0], lines[1], lines[3], *lines[5:]] == [
        *(r"\begin{tabular}{lrrrrrrrrrrrlrrrll}", r"\toprule", r"\midrule", r"\bottomrule", r"\end{tabular}"),
    ]


def test_latex_escapes_what_it_would_read(make_study):
    text = render(build_table(make_study(PRUNED | {"stop_reason": r"a&b_c%d#e\f"})), "latex")
    assert r"a\&b\_c\%d\#e\textbackslash{}f" in text


def test_latex_shows_a_censored_trial(make_study):
    assert " & $>$2 & " in render(build_table(make_study(PRUNED)), "latex")


def test_latex_protects_a_row_that_starts_with_a_bracket(make_study):
    text = render(build_table(make_study(REACHED | {"trial": "[a]"})), "latex")
    assert "\n{}[a] & " in text


def test_notes_stand_below(make_study):
    text = render(build_table(make_study(REACHED)), "markdown", notes=["One.", "Two."])
    assert text.endswith("|\n\n- One.\n- Two.\n")


def test_latex_escapes_notes(make_study):
    text = render(build_table(make_study(REACHED)), "latex", notes=["val_acc"])
    assert text.endswith(r"\par val\_acc" + "\n")


def test_html_escapes_what_a_trial_is_called(make_study):
    html = render(build_table(make_study(REACHED | {"trial": "a<b"})), "html", notes=["x & y"])
    assert '<th scope="row" class="text">a&lt;b</th>' in html
    assert "<li>x &amp; y</li>" in html


def test_an_unknown_style_is_refused(make_study):
    with pytest.raises(ValueError, match="expected one of text, markdown, csv, latex, html, json"):
        render(build_table(make_study(REACHED)), "word")


@pytest.mark.parametrize(
    ("split", "words"),
    [
        ("official", "chosen on the test set: validation images are the 10,000 test images"),
        ("pooled", "anew for each trial's seed"),
        ("held-out", "the test set is untouched"),
    ],
)
def test_footnotes_say_what_the_split_means(make_study, split, words):
    study = make_study(REACHED, split=split)
    assert words in footnotes(study, build_table(study))[0]


@pytest.mark.parametrize(
    ("split", "data", "images"),
    [
        ("official", "cifar10", "the 10,000 test images."),
        ("official", "digits", "the 359 test images."),
        ("pooled", "cifar10", "10,000 of all 60,000 images,"),
        ("pooled", "digits", "359 of all 1,797 images,"),
        ("held-out", "cifar10", "5,000 of the training images,"),
        ("held-out", "digits", "143 of the training images,"),
    ],
)
def test_footnotes_count_the_images_of_the_data_set(make_study, split, data, images):
    study = make_study(REACHED | {"data": data}, split=split)
    assert f"validation images are {images}" in footnotes(study, build_table(study))[0]


@pytest.mark.parametrize(("tested", "rest"), [(None, "is untouched"), (True, "is evaluated, and nothing acts upon it")])
def test_footnotes_say_whether_a_held_out_study_looked_at_the_test_set(make_study, tested, rest):
    study = make_study(REACHED | {"test": tested}, REACHED | {"test": None}, split="held-out")
    assert footnotes(study, build_table(study))[0].endswith(f"the test set {rest}.")


def test_footnotes_claim_no_10000_images_where_there_are_fewer(make_study):
    study = make_study(REACHED | {"val_limit": 1000})
    assert "10,000" not in " ".join(footnotes(study, build_table(study)))


def test_footnotes_name_the_target_and_how_long_it_is_held(make_study):
    study = make_study(REACHED, sustained=3)
    text = " ".join(footnotes(study, build_table(study, target=0.9)))
    assert ("accuracy 0.9 or more" in text, "the first of 3 in a row" in text) == (True, True)


def test_footnotes_say_where_the_outcome_has_another_target(make_study):
    study = make_study(REACHED)
    assert "the study's own target, 0.92" in " ".join(footnotes(study, build_table(study, target=0.9)))


def test_footnotes_count(make_study):
    study = make_study(*ONE_OF_EACH)
    counted = footnotes(study, build_table(study))[2]
    assert counted.split(", ") == [
        *("Reached by 1 of 5 trials", "1 ended below the target", "1 pruned", "1 diverged", "1 running"),
        "1 crashed and left out.",
    ]


def test_footnotes_without_a_target_say_what_exhausted_means(make_study):
    study = make_study(EXHAUSTED, PRUNED, target=None)
    assert "2 trials, 1 exhausted (trained to their end), 1 pruned." in footnotes(study, build_table(study))


@pytest.mark.parametrize(("setting", "value"), [("ema", 0.999), ("bn_recalibration", 5000), ("skip_conv_bias", True)])
def test_footnotes_name_the_trials_of_another_protocol(make_study, setting, value):
    study = make_study(REACHED, REACHED | {setting: value}, REACHED | {setting: 0})
    last = footnotes(study, build_table(study))[-1]
    assert last.startswith("Not the published protocol: ")
    assert last.endswith(f"({setting}): trial-1.")


def test_footnotes_do_not_speak_of_a_protocol_that_is_the_published_one(make_study):
    study = make_study(REACHED | {"ema": 0.0, "bn_recalibration": 0})
    assert "protocol" not in " ".join(footnotes(study, build_table(study)))


def cells(markdown: str) -> dict[str, str]:
    """The first row of a markdown table by column."""
    row = markdown.splitlines()[2].strip("| ").split(" | ")
    return dict(zip(COLUMNS, row, strict=True))


ERRORS = ("mlp.py, line 5: KeyError: 'a'", "mlp.py, line 9: ValueError: 7", "mlp.py, line 9: ValueError: 7")


def test_a_table_without_a_trial_is_what_they_crashed_of_and_no_heading(make_study):
    study = make_study(*(CRASHED | {"stop_reason": error} for error in ERRORS))
    table = build_table(study)
    told = render(table, "text", width=80, notes=footnotes(study, table))
    error = "mlp.py, line 9: ValueError: 7 (2 of the 3 crashes)"
    assert told.splitlines()[-1] == f"Every trial crashed: {error}; `sweeps show made trial-1` tells more."
    assert "epochs_to_target" not in told


def test_footnotes_say_what_some_trials_crashed_of(make_study):
    study = make_study(REACHED, CRASHED | {"stop_reason": ERRORS[0]})
    said = f"Crashed: {ERRORS[0]}; `sweeps show made trial-1` tells more."
    assert said in footnotes(study, build_table(study))


def test_footnotes_of_a_store_without_the_error_name_the_trial(make_study):
    study = make_study(CRASHED)
    assert "Every trial crashed; `sweeps show made trial-0` tells more." in footnotes(study, build_table(study))


def test_footnotes_of_a_study_without_a_trial_say_so(make_study):
    study = make_study()
    assert "No trial has begun." in footnotes(study, build_table(study))
