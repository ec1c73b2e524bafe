"""Tables, statistics, figures and the report of studies that look at another metric than val_acc."""

from dataclasses import replace

import pandas as pd
import pytest

import analysis
from analysis.tables.comparison import ValueComparison, compare_two, configuration_runs
from analysis.tables.confirmation import build_confirmation
from analysis.tables.summary import build_best_so_far, ended_runs, readable
from resnet_core.objective import Objective

CURVES = [[0.9, 0.6, 0.4], [0.9, 0.5, 0.3], [0.8, 0.7, 0.6], [0.9, 0.55, 0.35]]


@pytest.fixture
def make(make_study):
    """Make a study of two configurations with two seeds each, whose metric f1_error falls."""

    def made(target, **changes):
        trials = [
            {
                **{"val_accs": [0.5] * 3, "outcome": "reached" if target and min(curve) <= target else "exhausted"},
                **{"seed": place % 2, "shift": 0.05 if place < 2 else 0.1, "horizon": 3},
            }
            for place, curve in enumerate(CURVES)
        ]
        study = make_study(*trials, split=None)
        epochs = study.epochs.drop(columns=["val_acc", "acc", "loss", "val_loss"])
        epochs = epochs.assign(f1_error=[value for curve in CURVES for value in curve])
        for name in ("val_acc", "acc", "loss", "val_loss"):
            epochs[name] = float("nan")
        return replace(study, epochs=epochs, target=target, metric="f1_error", goal="min", **changes)

    return made


@pytest.fixture
def own(make):
    """A study of a trainer of somebody's own, which measures val_loss and rmse, and samples a rate and a kernel."""
    study, names = make(None), ["number", "trial", "outcome", "stop_reason", "horizon", "seed"]
    trials = study.trials[names].assign(rate=[1e-3, 1e-2, 1e-1, 1.0], kernel=["rbf", "poly", "rbf", "linear"])
    trials = trials.assign(**{f"space.{name}": trials[name] for name in ("rate", "kernel")}, end_time=pd.NaT)
    trials = trials.assign(start_time=pd.NaT, would_stop=None, stopped_by=None)
    epochs = study.epochs.rename(columns={"f1_error": "val_loss"})[["number", "epoch", "seconds"]]
    epochs = epochs.assign(val_loss=study.epochs["f1_error"], rmse=2.0)
    return replace(study, trials=trials, epochs=epochs, metric="val_loss")


def test_a_table_of_an_own_trainer_has_what_it_measures_and_samples(own):
    assert list(analysis.build_table(own)) == [
        *("trial", "epoch", "val_loss", "epoch_best", "val_loss_best", "final_val_loss", "rate", "kernel"),
        *("epochs_run", "outcome", "stop_reason"),
    ]


def test_the_costs_of_an_own_trainer_are_those_that_are_known(own):
    table = analysis.build_cost(own)
    assert list(table) == ["trial", "val_loss_best", "epoch_best", "seconds_per_epoch", "epochs_run", "hours"]
    assert "gpu" not in " ".join(analysis.cost_footnotes(own, table))


def test_curves_of_an_own_trainer_have_the_panels_of_what_it_measures(own):
    (axes,) = analysis.plot_curves(own).axes
    assert axes.get_ylabel() == "loss"
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["validation"]


def test_a_comparison_of_an_own_trainer_has_the_panels_of_what_it_measures(own):
    shown = [axes for axes in analysis.plot_comparison(own).axes if axes.get_visible()]
    assert [axes.get_ylabel() or axes.get_xlabel() for axes in shown] == ["val_loss", "mean seconds an epoch"]


@pytest.mark.parametrize(
    "word", ["nats", "cross-entropy", "accuracy", "gpu_util", "learning rate", "images", "batch_size"]
)
def test_the_report_of_an_own_trainer_says_nothing_of_the_one_that_ships(own, word):
    assert word not in analysis.build_report(own)


def test_the_study_says_what_it_looks_for(make):
    assert make(0.4).objective == Objective("f1_error", "min", 0.4, 2)


def test_the_table_has_the_metric_and_the_first_epoch_at_or_below_the_target(make):
    table = analysis.build_table(make(0.4))
    assert table["trial"].tolist() == ["trial-1", "trial-3", "trial-0", "trial-2"]
    assert table["epochs_to_target"].tolist()[:3] == [3, 3, 3]
    assert table["f1_error_best"].tolist() == [0.3, 0.35, 0.4, 0.6]
    assert table["f1_error"].tolist() == [0.3, 0.35, 0.4, 0.6]
    assert not {"val_acc", "val_acc_best"} & set(table)


def test_metrics_that_no_trial_has_are_shown_in_csv_and_json_alone(make):
    table = analysis.build_table(make(0.4))
    assert {"acc", "final_loss"} <= set(table)
    header = analysis.render(table, "markdown").splitlines()[0]
    assert "f1_error_best" in header
    assert " acc " not in header
    assert "final_loss" not in header


def test_without_a_target_the_best_value_sorts_and_no_column_is_about_a_target(make):
    table = analysis.build_table(make(None))
    assert table["f1_error_best"].tolist() == [0.3, 0.35, 0.4, 0.6]
    assert [name for name in table if "target" in name] == []
    notes = analysis.footnotes(make(None), table)
    assert notes[0] == "Target: none: the lowest f1_error counts."
    assert "below" not in " ".join(notes)


def test_another_target_can_be_asked_for(make):
    assert analysis.build_table(make(None), 0.55)["epochs_to_target"].tolist()[:3] == [2, 2, 3]


def test_the_best_columns_for_a_quick_look_begin_with_the_best_value(make):
    table = analysis.build_table(make(None))
    text = analysis.render(table, "text").splitlines()[0]
    assert text.split()[0] == "trial"
    assert "f1_error_best" in text


def test_statistics_with_a_target_to_fall_to(make):
    table = analysis.build_summary(make(0.45))
    assert table[["configuration", "reached"]].to_numpy().tolist() == [["trial-0", 2], ["trial-2", 1]]
    assert table["best_f1_error_mean"].tolist() == pytest.approx([0.35, 0.475])


def test_statistics_without_a_target_are_those_of_the_best_values(make):
    study = make(None)
    table = analysis.build_summary(study)
    assert table["configuration"].tolist() == ["trial-0", "trial-2"]
    assert table["mean_best"].tolist() == pytest.approx([0.35, 0.475])
    assert (table["mean_best_low"] < table["mean_best"]).all()
    assert "share" not in table
    assert "mean_best" in analysis.readable(table)
    assert "Student's t" in " ".join(analysis.summary_footnotes(study, table))


def test_best_so_far_is_the_lowest_value(make):
    assert build_best_so_far(make(None))["best_f1_error"].tolist() == [0.4, 0.3, 0.3, 0.3]


def test_a_comparison_without_a_target_is_of_the_best_values(make):
    found = compare_two(configuration_runs(make(None), "trial-0"), configuration_runs(make(None), "trial-2"))
    assert isinstance(found, ValueComparison)
    assert found.pairs == (0, 1)
    assert found.difference.value == pytest.approx(-0.125)
    assert "the means are not told apart" in str(found)
    assert found.to_dict()["a"]["best"] == (0.4, 0.3)


def test_studies_with_other_aims_are_not_compared(make):
    with pytest.raises(ValueError, match=r"aims at 0\.4 .* at none"):
        compare_two(configuration_runs(make(0.4), "trial-0"), configuration_runs(make(None), "trial-2"))


@pytest.mark.parametrize("target", [0.4, None])
def test_a_confirmation_says_the_metric(make, target):
    found = build_confirmation(make(target, phase="confirm", confirms="s trial 3"))
    text = str(found)
    assert "f1_error after the last epoch: 0.4125" in text
    assert ("mean of their best f1_error" in text) == (target is None)
    assert found.to_dict()["best_f1_error"]["mean"] == pytest.approx(0.4125)


@pytest.mark.parametrize("target", [0.4, None])
def test_figures_are_labelled_by_the_metric(make, target):
    study = make(target)
    assert analysis.plot_best_trials(study).axes[0].get_ylabel() == "f1_error"
    assert analysis.plot_curves(study).axes[0].get_ylabel() == "f1_error"
    assert analysis.plot_comparison(study).axes[2].get_ylabel() == "f1_error"
    expected = "epochs to f1_error 0.4" if target else "best f1_error"
    assert analysis.plot_best_so_far(study).axes[0].get_ylabel() == expected
    assert analysis.plot_slices(study).axes[0].get_ylabel() == expected
    assert analysis.plot_schedules(study).axes[1].get_ylabel() == expected


@pytest.mark.parametrize("draw", ["plot_share_reached", "plot_best_of_n"])
def test_figures_of_a_target_say_that_there_is_none(make, draw):
    with pytest.raises(ValueError, match="has no target"):
        getattr(analysis, draw)(make(None))


@pytest.mark.parametrize("target", [0.4, None])
def test_the_report_is_about_the_metric(make, target):
    study, time = make(target), pd.Timestamp("2026-01-01", tz="UTC")
    text = analysis.build_report(replace(study, trials=study.trials.assign(start_time=time, end_time=time)))
    assert "f1_error" in text
    assert "validation accuracy" not in text
    assert ("reached f1_error 0.4" in text) == (target is not None)


def test_runs_without_a_target_reach_nothing(make):
    assert not ended_runs(make(None))["reached"].any()


def test_transitions_need_an_accuracy(make):
    with pytest.raises(ValueError, match="its trials have no val_acc"):
        analysis.build_transitions(make(0.4))


@pytest.mark.parametrize("lacking", ["val_loss", "schedule"])
def test_the_noise_of_a_trainer_without_what_it_needs_is_refused(own, lacking):
    study = replace(own, trials=own.trials.assign(schedule="[0.1, 0] lin[0, 3]"))
    if lacking == "schedule":
        study = own
    else:
        study = replace(study, epochs=study.epochs.drop(columns="val_loss").assign(rmse=1.0), metric="rmse")
    with pytest.raises(ValueError, match=f"no {lacking}"):
        analysis.build_noise(study)


def test_a_ladder_without_levels_asks_for_values_of_the_metric(own):
    with pytest.raises(ValueError, match="expected levels of val_loss, such as --levels"):
        analysis.build_ladder(own)


def test_a_ladder_of_another_metric_is_read_by_people(make):
    shown = readable(analysis.build_ladder(make(0.4), [0.5, 0.35]))
    assert shown["target"].tolist() == [0.35, 0.5] * 2
    assert {"final_f1_error", "best_f1_error"} <= set(shown)
