import numpy as np
import pandas as pd
import pytest

from analysis.plots.curves import plot_best_trials

FAST = {"val_accs": [0.5, 0.93, 0.94], "outcome": "reached"}
SLOW = {"val_accs": [0.5, 0.6, 0.95], "outcome": "reached"}
MISS = {"val_accs": [0.5, 0.6, 0.7], "outcome": "exhausted"}
CRASHED = {"val_accs": [0.5], "outcome": "crashed"}
PUBLISHED = pd.DataFrame(
    {
        "run": [7, 33],
        "epoch": [30, 19],
        "val_acc": [0.9195, 0.9207],
        "schedule": ["[1e-3, 0] cos[1e-5, 30]", "[8e-4, 0] lin[1e-3, 12] cos[1e-5, 20]"],
        "epochs_to_092": [np.nan, 19],
    }
)


def labels(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_the_best_come_first(make_study):
    figure = plot_best_trials(make_study(MISS, SLOW, FAST))
    told = ["trial trial-2: epoch 2", "trial trial-1: epoch 3", "trial trial-0: not reached", "target 0.92"]
    assert labels(figure.axes[0]) == told


def test_no_more_are_drawn_than_asked_for(make_study):
    assert len(plot_best_trials(make_study(FAST, SLOW, MISS), count=2).axes[1].lines) == 2


def test_a_crashed_trial_is_not_drawn(make_study):
    assert len(plot_best_trials(make_study(CRASHED, MISS)).axes[1].lines) == 1


def test_colour_and_line_style_tell_trials_apart(make_study):
    lines = plot_best_trials(make_study(*[FAST] * 4)).axes[1].lines
    assert len({line.get_color() for line in lines}) == 4
    assert len({str(line.get_linestyle()) for line in lines}) == 4


def test_a_trial_has_the_same_looks_in_both_panels(make_study):
    top, bottom = plot_best_trials(make_study(MISS)).axes
    assert (top.lines[0].get_color(), top.lines[0].get_linestyle()) == (
        bottom.lines[0].get_color(),
        bottom.lines[0].get_linestyle(),
    )


def test_published_runs_are_points(make_study):
    top = plot_best_trials(make_study(FAST), published=PUBLISHED).axes[0]
    (points,) = [line for line in top.lines if str(line.get_label()).startswith("published")]
    assert list(zip(points.get_xdata(), points.get_ydata(), strict=True)) == [(30, 0.9195), (19, 0.9207)]


def test_the_schedule_of_the_fastest_published_run_is_drawn(make_study):
    bottom = plot_best_trials(make_study(FAST), published=PUBLISHED).axes[1]
    assert labels(bottom) == ["published run 33"]


def test_accuracies_far_below_a_target_that_was_reached_are_cut_off(make_study):
    assert plot_best_trials(make_study(FAST)).axes[0].get_ylim()[0] == pytest.approx(0.8)


def test_nothing_is_cut_off_where_the_target_is_far(make_study):
    assert plot_best_trials(make_study(MISS)).axes[0].get_ylim()[0] < 0.5


def test_without_an_epoch_there_is_nothing_to_draw(make_study):
    with pytest.raises(ValueError, match="no trial has finished an epoch"):
        plot_best_trials(make_study({"val_accs": []}))


def test_it_is_saved(make_study, tmp_path):
    plot_best_trials(make_study(FAST), path=tmp_path / "best.svg")
    assert (tmp_path / "best.svg").stat().st_size > 0
