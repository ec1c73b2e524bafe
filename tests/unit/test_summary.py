import json
import math
import time

import numpy as np
import pandas as pd
import pytest

from analysis.statistics.estimates import expected_running_time, median_epochs, restricted_mean, share_reached
from analysis.store.loader import Study
from analysis.tables.rendering import render
from analysis.tables.summary import (
    build_best_of_n,
    build_best_so_far,
    build_ladder,
    build_summary,
    configurations,
    ended_runs,
    readable,
    summary_footnotes,
)
from analysis.tables.trials import build_table

NAN = float("nan")
FAST = {"val_accs": [0.5, 0.93, 0.94, 0.93, 0.94, 0.95], "outcome": "reached"}
SLOW = {"val_accs": [0.5, 0.6, 0.7, 0.8, 0.92, 0.93], "outcome": "reached"}
MISS = {"val_accs": [0.5, 0.6, 0.7, 0.8, 0.9, 0.91], "outcome": "exhausted"}
PRUNED = {"val_accs": [0.4, 0.6], "outcome": "pruned", "stop_reason": "cap"}
DIVERGED = {"val_accs": [0.97, NAN], "outcome": "diverged", "stop_reason": "loss is nan"}
CRASHED = {"val_accs": [0.99], "outcome": "crashed"}
RUNNING = {"val_accs": [0.2]}


def seeds(*trials: dict, **more: object) -> list[dict]:
    """Runs of one configuration."""
    return [trial | {"trial": f"a-s{seed}", "seed": seed} | more for seed, trial in enumerate(trials)]


def test_trials_that_differ_in_the_seed_are_one_configuration(make_study):
    assert configurations(make_study(*seeds(FAST, MISS)))["configuration"].tolist() == ["a", "a"]


def test_trials_that_differ_in_a_setting_are_two(make_study):
    study = make_study(FAST | {"seed": 0}, FAST | {"seed": 0, "weight_decay": 0.2})
    assert configurations(study)["configuration"].tolist() == ["trial-0", "trial-1"]


def test_a_setting_that_is_missing_is_no_difference(make_study):
    study = make_study(FAST | {"ema": None}, FAST | {"ema": NAN})
    assert configurations(study)["configuration"].nunique() == 1


def test_what_a_trial_came_to_is_no_setting(make_study):
    study = make_study(FAST | {"stopped_by": "cap"}, MISS | {"status": "KILLED", "run_id": "b"})
    assert configurations(study)["configuration"].nunique() == 1


def test_two_configurations_keep_two_names(make_study):
    study = make_study(FAST | {"trial": "a-s0", "seed": 0}, FAST | {"trial": "a", "seed": 1, "shift": 0.1})
    assert configurations(study)["configuration"].tolist() == ["a-s0", "a"]


@pytest.fixture
def three(make_study):
    return build_summary(make_study(*seeds(FAST, SLOW, MISS))).loc[0]


def test_a_configuration_is_one_row(three):
    assert three[["configuration", "phase", "runs", "reached", "cut_short", "budget"]].tolist() == [
        *("a", "search", 3, 2, 0, 6)
    ]


@pytest.mark.parametrize(
    ("column", "estimate"),
    [
        ("share", share_reached(2, 3)),
        ("median", median_epochs([2, 5, math.inf])),
        ("restricted_mean", restricted_mean([2, 5, math.inf], 6)),
        ("expected_running_time", expected_running_time([2, 5, 6], [True, True, False], budget=6)),
    ],
)
def test_a_row_has_the_estimates_of_its_runs(three, column, estimate):
    assert three[[column, f"{column}_low", f"{column}_high"]].tolist() == [estimate.value, estimate.low, estimate.high]


@pytest.mark.parametrize(
    ("column", "values"), [("final_val_acc", [0.95, 0.93, 0.91]), ("best_val_acc", [0.95, 0.93, 0.91])]
)
def test_a_row_has_mean_and_sd_of_accuracies(three, column, values):
    assert three[[f"{column}_mean", f"{column}_sd"]].tolist() == pytest.approx(
        [np.mean(values), np.std(values, ddof=1)]
    )


def test_a_pruned_run_is_a_miss_that_spent_the_whole_budget(make_study):
    pruned, missed = (build_summary(make_study(*seeds(FAST, trial))).loc[0] for trial in (PRUNED, MISS))
    columns = [c for c in pruned.index if c.startswith(("share", "median", "restricted", "expected", "reached"))]
    assert pruned[columns].tolist() == missed[columns].tolist()


def test_a_pruned_run_is_marked_as_cut_short(make_study):
    assert build_summary(make_study(*seeds(FAST, PRUNED))).loc[0, "cut_short"] == 1


def test_where_a_run_was_cut_short_the_final_accuracy_is_not_known(make_study):
    assert math.isnan(build_summary(make_study(*seeds(FAST, PRUNED))).loc[0, "final_val_acc_mean"])


def test_a_run_that_ended_at_the_studys_target_is_cut_short_below_a_higher_one(make_study):
    ended = {"val_accs": [0.5, 0.92, 0.93], "outcome": "reached"}
    row = build_summary(make_study(ended), target=0.94).loc[0]
    assert row[["reached", "cut_short", "restricted_mean"]].tolist() == [0, 1, 6]


def test_a_diverged_run_is_a_miss_that_spent_what_it_ran(make_study):
    row = ended_runs(make_study(DIVERGED)).loc[0]
    assert row[["epochs_to_target", "reached", "cut_short", "epochs_spent"]].tolist() == [math.inf, False, False, 2]


@pytest.mark.parametrize("trial", [CRASHED, RUNNING])
def test_a_trial_that_crashed_or_runs_is_no_run(make_study, trial):
    assert build_summary(make_study(*seeds(FAST, trial))).loc[0, "runs"] == 1


def test_epochs_to_target_are_those_of_the_table(make_study):
    study = make_study(FAST, SLOW, MISS, PRUNED, DIVERGED)
    table = build_table(study)["epochs_to_target"].sort_index().astype("float64").fillna(math.inf)
    assert ended_runs(study)["epochs_to_target"].tolist() == table.tolist()


def test_the_fastest_configuration_comes_first(make_study):
    study = make_study(MISS | {"shift": 0.1}, FAST | {"shift": 0.2}, SLOW | {"shift": 0.3})
    assert build_summary(study)["configuration"].tolist() == ["trial-1", "trial-2", "trial-0"]


def test_a_study_without_trials_has_no_row(make_study):
    assert render(build_summary(make_study()), "json") == "[]\n"


@pytest.mark.parametrize("build", [build_summary, build_best_so_far, build_best_of_n])
def test_a_target_that_is_no_accuracy_is_refused(make_study, build):
    with pytest.raises(ValueError, match="target"):
        build(make_study(FAST), 92)


def test_a_ladder_has_a_row_for_each_target(make_study):
    ladder = build_ladder(make_study(*seeds(FAST, SLOW)), [0.93, 0.92])
    assert ladder[["target", "reached", "restricted_mean"]].to_numpy().tolist() == [[0.92, 2, 3.5], [0.93, 2, 4]]


def test_a_ladder_keeps_a_configurations_targets_together(make_study):
    ladder = build_ladder(make_study(SLOW | {"shift": 0.1}, FAST | {"shift": 0.2}), [0.9, 0.92])
    assert ladder["configuration"].tolist() == ["trial-1", "trial-1", "trial-0", "trial-0"]


@pytest.mark.parametrize("levels", [[], [0.9, 0.9], [1.2]])
def test_a_ladder_of_no_level_or_a_wrong_one_is_refused(make_study, levels):
    with pytest.raises(ValueError, match=r"level|target"):
        build_ladder(make_study(FAST), levels)


def test_best_so_far_adds_up_what_all_trials_spent(make_study):
    table = build_best_so_far(make_study(MISS, SLOW, CRASHED, FAST, PRUNED, RUNNING))
    assert table["epochs_spent"].tolist() == [6, 12, 13, 19, 21]
    assert table["epochs_to_target"].tolist()[1:] == [5, 5, 2, 2]


def test_without_a_trial_at_the_target_there_is_no_best_so_far(make_study):
    assert build_best_so_far(make_study(MISS))["epochs_to_target"].isna().all()


def test_best_so_far_comes_in_the_order_in_which_trials_ended(make_study):
    first, second = (pd.Timestamp(day, unit="D", tz="UTC") for day in (1, 2))
    study = make_study(FAST | {"end_time": second}, SLOW | {"end_time": first})
    assert build_best_so_far(study)["trial"].tolist() == ["trial-1", "trial-0"]


def test_the_best_of_n_is_given_for_every_n(make_study):
    table = build_best_of_n(make_study(*seeds(FAST, SLOW, MISS)))
    assert table[["n", "epochs_to_target"]].to_numpy().tolist() == [[1, 5], [2, 2], [3, 2]]


# What people read


def test_an_estimate_and_its_interval_are_one_cell(make_study):
    row = readable(build_summary(make_study(*seeds(FAST, SLOW, MISS)))).loc[0]
    assert row["share"] == str(share_reached(2, 3))
    assert row["best_val_acc"] == "0.9300 ± 0.0200"


def test_one_run_has_no_sd(make_study):
    assert readable(build_summary(make_study(FAST))).loc[0, "final_val_acc"] == "0.9500"


def test_cut_short_is_shown_where_a_run_was(make_study):
    shown = [set(readable(build_summary(make_study(trial)))) for trial in (FAST, PRUNED)]
    assert shown[1] - shown[0] == {"cut_short"}


@pytest.mark.parametrize("style", ["text", "markdown", "latex"])
def test_it_is_rendered(make_study, style):
    study = make_study(*seeds(MISS, PRUNED))
    table = build_summary(study)
    text = render(readable(table), style, notes=summary_footnotes(study, table))
    assert ("infty" if style == "latex" else "∞") in text


def test_json_has_null_where_a_figure_is_infinite(make_study):
    (row,) = json.loads(render(build_summary(make_study(MISS)), "json"))
    assert (row["median"], row["restricted_mean"], row["runs"]) == (None, 6, 1)


@pytest.mark.parametrize(
    ("trials", "words"),
    [
        ((FAST,), "Phase search: exploratory"),
        ((FAST,), "Budget: 6 epochs"),
        ((PRUNED,), "count as misses that spent the whole budget"),
        ((FAST, CRASHED, RUNNING), "Left out: 1 crashed, 1 running."),
    ],
)
def test_footnotes_say(make_study, trials, words):
    study = make_study(*trials)
    assert words in " ".join(summary_footnotes(study, build_summary(study)))


def test_footnotes_do_not_speak_of_pruning_where_there_was_none(make_study):
    study = make_study(FAST)
    assert "cut_short" not in " ".join(summary_footnotes(study, build_summary(study)))


@pytest.mark.parametrize(("others", "flattered"), [([], False), ([{"seed": 1}], False), ([{"shift": 0.1}], True)])
def test_the_best_of_several_configurations_alone_is_flattered(make_study, others, flattered):
    first = FAST | {"seed": 0}
    study = make_study(first, *(first | other for other in others))
    notes = " ".join(summary_footnotes(study, build_summary(study)))
    assert ("flattered" in notes) == flattered
    assert "Phase search" in notes


def test_a_confirmation_is_not_called_flattered():
    study = made(10, seeds=10, phase="confirm")
    notes = " ".join(summary_footnotes(study, build_summary(study)))
    assert "Phase confirm: made trial 3, fresh seeds." in notes
    assert "flattered" not in notes


def test_two_thousand_trials_are_summed_up_at_once():
    study = made(2000)
    build_summary(made(3))  # what is imported late
    start = time.process_time()
    build_summary(study)
    assert time.process_time() - start < 3  # half a second on an idle machine


def made(count: int, seeds: int = 1, phase: str = "search") -> Study:
    """A large study, faster than by make_study."""
    random = np.random.default_rng(0)
    numbers = np.arange(count)
    trials = pd.DataFrame({"number": numbers, "outcome": "exhausted", "horizon": 26, "seed": numbers % seeds})
    trials["trial"] = [f"{n // seeds}-s{n % seeds}" for n in numbers]
    trials["weight_decay"] = (numbers // seeds) / count
    for name in range(40):
        trials[f"setting_{name}"] = 0.1
    val_accs = 0.9 + 0.001 * np.arange(1, 27) + random.normal(0, 0.002, (count, 26))
    trials.loc[val_accs.max(axis=1) >= 0.92, "outcome"] = "reached"
    epochs = pd.DataFrame(
        {"number": numbers.repeat(26), "epoch": np.tile(np.arange(1, 27), count), "val_acc": val_accs.ravel()}
    )
    return Study("made", "", 0.92, 2, "official", trials, epochs, phase=phase, confirms="made trial 3")
