"""Published figures: what the files say, and how they stand beside ours."""

import dataclasses
import math

import pytest

from analysis.tables.published import build_published, published_footnotes, published_text
from analysis.tables.rendering import render
from resnet_core.config import TrialConfig
from search_spaces.figures import QUANTITIES, PublishedFigure, published_rows, published_studies

FOUND = {source.study: source for source in published_studies()}
CONFIG = TrialConfig("[1e-3, 0] cos[1e-5, 4]", weight_decay=0.18)


def of(study, run):
    return [figure for figure in FOUND[study].figures if figure.run == run]


# The files


def test_four_published_studies_have_figures():
    assert FOUND.keys() == {"post1-batch-sizes", "post5", "report-optimizers", "super-convergence"}


@pytest.mark.parametrize("study", FOUND)
def test_every_figure_is_of_a_run_and_in_order(study):
    for figure in FOUND[study].figures:
        assert figure.run in FOUND[study].configs
        assert figure.quantity in QUANTITIES
        assert figure.low <= figure.high
        assert (figure.target is None) == figure.quantity.startswith("val_acc")


def test_run_33_reached_its_target_at_epoch_19():
    assert of("post5", "run33")[0] == PublishedFigure("run33", "epochs_to_target", 19, 19, 0.92)


def test_a_run_that_missed_its_target_lies_beyond_its_last_epoch():
    assert of("post5", "run31")[0] == PublishedFigure("run31", "epochs_to_target", 26, math.inf, 0.92)


def test_post1_has_transitions_at_its_levels():
    levels = {figure.target: (figure.low, figure.high) for figure in of("post1-batch-sizes", "bs128")[:-1]}
    inf = math.inf
    assert levels == {0.91: (82, 82), 0.92: (83, 83), 0.925: (92, 92), 0.927: (106, inf), 0.928: (120, inf),
                      0.93: (132, inf)}  # fmt: skip


def test_one_cycle_with_momentum_has_its_accuracy():
    (figure,) = of("super-convergence", "one-cycle-momentum")
    assert (figure.quantity, figure.low, figure.high) == ("val_acc_final", 0.9154, 0.9154)


def test_the_report_has_a_span():
    assert {(f.low, f.high) for f in FOUND["report-optimizers"].figures} == {(0.75, 0.80)}


def test_a_study_with_a_published_name_has_that_studys_rows_alone():
    assert {row["study"] for row in published_rows("post5")} == {"post5"}


def test_any_other_study_has_all_rows():
    assert {row["study"] for row in published_rows("mine")} == FOUND.keys()


# Beside ours


def figure(**fields):
    defaults = {"study": "source", "run": "a", "config": CONFIG.to_dict(), "quantity": "epochs_to_target"}
    return {**defaults, "target": 0.92, "low": 3.0, "high": 3.0, "note": "", **fields}


@pytest.fixture
def ours(make_study):
    def make(*curves, name="made", **fields):
        trials = [
            {
                **CONFIG.to_dict(),
                **{"val_accs": curve, "outcome": "reached" if max(curve) >= 0.92 else "exhausted", "horizon": 4},
                **{"seed": seed},
                **fields,
            }
            for seed, curve in enumerate(curves)
        ]
        return dataclasses.replace(make_study(*trials), name=name)

    return make


FAST, SLOW, MISS = [0.5, 0.93, 0.94, 0.94], [0.5, 0.6, 0.7, 0.95], [0.5, 0.6, 0.7, 0.75]


def one(study, **fields):
    (row,) = build_published(study, [figure(**fields)]).to_dict("records")
    return row


def test_ours_is_the_median_between_lowest_and_highest(ours):
    row = one(ours(FAST, SLOW, SLOW))
    assert (row["ours"], row["ours_low"], row["ours_high"], row["runs"]) == (4, 2, 4, 3)


@pytest.mark.parametrize(
    ("low", "high", "inside"),
    [(3, 3, True), (2, 2, True), (1, 1, False), (5, 5, False), (4, math.inf, False), (3, math.inf, True)],
)
def test_a_published_epoch_is_inside_of_ours_or_not(ours, low, high, inside):
    assert one(ours(FAST, SLOW), low=low, high=high)["inside"] is inside


def test_a_miss_of_theirs_is_inside_where_one_of_ours_missed(ours):
    assert one(ours(FAST, MISS), low=4, high=math.inf)["inside"] is True


def test_a_single_run_has_no_inside(ours):
    assert build_published(ours(FAST), [figure()])["inside"].isna().all()


def test_a_span_is_inside_where_it_meets_ours(ours):
    assert one(ours(FAST, SLOW), quantity="val_acc_best", target=None, low=0.93, high=0.945)["inside"] is True


def test_a_transition_is_counted_as_one(ours):
    dip = [0.93, 0.5, 0.93, 0.94]
    assert one(ours(dip), quantity="transition")["ours"] == 3


def test_the_accuracy_of_the_last_epoch_is_not_the_best(ours):
    study = ours([0.5, 0.95, 0.9, 0.91])
    assert one(study, quantity="val_acc_final", target=None)["ours"] == 0.91
    assert one(study, quantity="val_acc_best", target=None)["ours"] == 0.95


def test_a_diverged_run_reached_nothing(ours):
    assert one(ours(FAST, outcome="diverged"))["ours"] == math.inf


@pytest.mark.parametrize("quantity", ["val_acc_best", "val_acc_final"])
def test_a_run_without_a_finite_accuracy_has_an_accuracy_of_0(ours, quantity):
    assert one(ours([math.nan] * 2), quantity=quantity, target=None)["ours"] == 0


@pytest.mark.parametrize(
    ("name", "value"), [("split", "pooled"), ("train_limit", 100), ("ema", 0.9), ("precision", "bf16")]
)
def test_a_run_with_another_protocol_is_compared_and_the_difference_is_named(ours, name, value):
    said = one(ours(FAST, **{name: value}))["differs"]
    assert said.startswith(f"{name}: ")
    assert said.endswith(f"-> {value}")


def test_another_recipe_is_another_run(ours):
    assert build_published(ours(FAST, weight_decay=0.2), [figure()]).empty


def test_the_name_counts_in_a_study_of_the_published_name(ours):
    study = ours(FAST, SLOW, name="source", model="resnet11v2")
    study.trials["trial"] = ["a-s0", "a-s1"]
    row = one(study)
    assert (row["runs"], row["differs"]) == (2, "model: resnet56v2 -> resnet11v2")


def test_a_run_stopped_by_a_rule_is_marked(ours):
    assert one(ours(FAST, stopped_by="at_target"))["differs"] == "1 of 1 stopped early"


def test_a_crashed_run_is_left_out(ours):
    study = ours(FAST, SLOW)
    study.trials.loc[1, "outcome"] = "crashed"
    assert one(study)["runs"] == 1
    assert any("1 crashed" in note for note in published_footnotes(study, build_published(study, [figure()])))


def test_a_miss_is_shown_as_a_miss(ours):
    shown = published_text(build_published(ours(MISS, MISS), [figure(low=26.0, high=math.inf)])).loc[0]
    assert (shown["published"], shown["ours"], shown["quantity"]) == (">26", "never", "epochs to 0.92")


def test_accuracies_are_shown_with_four_digits(ours):
    fields = {"quantity": "val_acc_best", "target": None, "low": 0.94, "high": 0.94}
    shown = published_text(build_published(ours(SLOW), [figure(**fields)])).loc[0]
    assert (shown["published"], shown["ours"], shown["quantity"]) == ("0.9400", "0.9500", "best val_acc")


def test_what_differs_gives_way_to_the_terminals_width(ours):
    study = ours(FAST, val_limit=1000, split="held-out", precision="bf16", ema=0.99)
    table = published_text(build_published(study, [figure()]))
    lines = render(table, "text", width=110).splitlines()
    assert len(table["differs"][0]) > 40
    assert len(lines[0]) <= 110
    assert lines[1].endswith("…")


def test_footnotes_tell_how_sure_inside_is(ours):
    study = ours(FAST, SLOW, SLOW, SLOW)
    notes = published_footnotes(study, build_published(study, [figure()]))
    assert any("60% for n = 4" in note for note in notes)


def test_footnotes_tell_how_many_figures_are_outside_by_chance(ours):
    study = ours(FAST, SLOW, SLOW, SLOW)
    notes = published_footnotes(study, build_published(study, [figure(), figure(low=1.0, high=1.0)]))
    assert any("Of 2 figures, 1 are outside, and some 0.8 would be by chance" in note for note in notes)


@pytest.mark.parametrize(
    ("study", "rows", "said"),
    [
        ({}, {"quantity": "transition"}, "held from: the first epoch"),
        ({"ema": 0.9}, {}, "differs: published -> ours"),
    ],
)
def test_footnotes_explain_what_is_in_the_table_and_nothing_else(ours, study, rows, said):
    def notes(study, rows):
        return published_footnotes(found := ours(FAST, **study), build_published(found, [figure(**rows)]))

    assert any(note.startswith(said) for note in notes(study, rows))
    assert not any(note.startswith(said) for note in notes({}, {}))


def test_a_study_that_repeats_no_published_run_has_a_footnote(ours):
    study = ours(FAST, weight_decay=0.3)
    (note,) = published_footnotes(study, build_published(study, [figure()]))
    assert "repeats a published run" in note


def test_a_trial_of_another_trainer_repeats_nothing_published(ours):
    study = ours(FAST)
    assert build_published(dataclasses.replace(study, trials=study.trials.drop(columns="split")), [figure()]).empty


def test_an_imported_trial_that_says_too_little_to_be_compared_repeats_nothing(ours):
    study = ours(FAST)
    trials = study.trials[["number", "trial", "outcome", "horizon"]]
    assert build_published(dataclasses.replace(study, name="mine", imported="a.csv", trials=trials), [figure()]).empty
