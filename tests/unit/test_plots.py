import math
import subprocess
import sys

import numpy as np
import pytest

from analysis.plots.curves import plot_comparison, plot_curves
from analysis.plots.lr_range import plot_lr_range
from analysis.plots.schedules import plot_schedule
from analysis.statistics.lr_range import Bounds
from resnet_core.schedule import parse

NAN = float("nan")
FAST = {"val_accs": [0.5, 0.93, 0.94], "outcome": "reached"}
SLOW = {"val_accs": [0.5, 0.6, 0.95], "outcome": "reached"}
MISS = {"val_accs": [0.5, 0.6, 0.7], "outcome": "exhausted"}
NEAR_MISS = {"val_accs": [0.5, 0.6, 0.91], "outcome": "exhausted"}
DIVERGED = {"val_accs": [0.99, NAN], "losses": [2.0, NAN], "outcome": "diverged"}
CRASHED = {"val_accs": [0.5], "outcome": "crashed"}


def lines(axes, label):
    return [line for line in axes.lines if line.get_label() == label]


def legend(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_there_are_three_panels_with_labels(make_study):
    axes = plot_curves(make_study(FAST)).axes
    assert [a.get_ylabel() for a in axes] == ["accuracy", "cross-entropy [nats]", "learning rate"]


def test_the_epochs_are_labelled(make_study):
    assert plot_curves(make_study(FAST)).axes[2].get_xlabel() == "epoch"


@pytest.mark.parametrize(
    ("panel", "label", "values"),
    [
        (0, "training", [0.1, 0.2, 0.3]),
        (0, "validation", [0.5, 0.93, 0.94]),
        (1, "training", [2.0, 1.0, 2 / 3]),
        (1, "validation", [4.0, 2.0, 4 / 3]),
    ],
)
def test_curves_have_the_epochs_values(make_study, panel, label, values):
    (line,) = lines(plot_curves(make_study(FAST)).axes[panel], label)
    assert line.get_ydata() == pytest.approx(values)


def test_a_curve_starts_at_epoch_one(make_study):
    (line,) = lines(plot_curves(make_study(FAST)).axes[0], "validation")
    assert list(line.get_xdata()) == [1, 2, 3]


@pytest.mark.parametrize(("label", "looks"), [("training", ("tab:red", "--")), ("validation", ("tab:blue", "-"))])
def test_training_and_validation_differ_in_colour_and_dashes(make_study, label, looks):
    (line,) = lines(plot_curves(make_study(FAST)).axes[0], label)
    assert (line.get_color(), line.get_linestyle()) == looks


def test_the_target_is_a_solid_green_line(make_study):
    (line,) = lines(plot_curves(make_study(FAST)).axes[0], "target 0.92")
    assert (line.get_color(), line.get_linestyle(), line.get_ydata()[0]) == ("green", "-", 0.92)


def test_the_first_crossing_is_marked(make_study):
    (line,) = lines(plot_curves(make_study(FAST)).axes[0], "target reached: epoch 2")
    assert (list(line.get_xdata()), list(line.get_ydata())) == ([2], [0.93])


@pytest.mark.parametrize("trial", [MISS, DIVERGED])
def test_without_a_crossing_nothing_is_marked(make_study, trial):
    assert legend(plot_curves(make_study(trial)).axes[0]) == ["training", "validation", "target 0.92"]


def test_the_schedule_is_drawn_to_the_horizon(make_study):
    (line,) = plot_curves(make_study(FAST | {"horizon": 8})).axes[2].lines
    assert (line.get_xdata()[-1], line.get_ydata()[-1]) == (8, 1e-5)


def test_the_schedule_is_drawn_without_a_horizon(make_study):
    (line,) = plot_curves(make_study(FAST | {"horizon": None})).axes[2].lines
    assert line.get_xdata()[-1] == 6


def test_the_schedule_is_drawn_finely(make_study):
    (line,) = plot_curves(make_study(FAST)).axes[2].lines
    assert max(line.get_ydata()) == pytest.approx(1.2e-3, rel=1e-3)


@pytest.mark.parametrize(
    ("schedule", "scale"),
    [
        ("[1e-3, 0] lin[1e-6, 6]", "log"),
        ("[1e-3, 0] lin[1e-4, 6]", "linear"),
        ("[1e-3, 0] lin[0, 6]", "linear"),
        ("[0, 0] lin[0, 6]", "linear"),
    ],
)
def test_the_learning_rate_is_logarithmic_where_it_spans_decades(make_study, schedule, scale):
    assert plot_curves(make_study(FAST | {"schedule": schedule})).axes[2].get_yscale() == scale


def test_the_title_names_study_and_trial(make_study):
    assert plot_curves(make_study(FAST)).get_suptitle() == "made: trial trial-0"


def test_of_several_the_title_names_the_best(make_study):
    assert plot_curves(make_study(SLOW, FAST)).get_suptitle() == "made: 2 trials, best: trial trial-1"


def test_the_best_is_named_in_the_legend(make_study):
    axes = plot_curves(make_study(SLOW, FAST)).axes
    assert [a.get_legend().get_title().get_text() for a in axes[:2]] == ["trial trial-1", "trial trial-1"]


@pytest.mark.parametrize(
    ("trials", "best"),
    [
        pytest.param((SLOW, FAST, NEAR_MISS), 1, id="fewest epochs to target"),
        pytest.param((MISS, NEAR_MISS), 1, id="else the highest accuracy"),
        pytest.param((DIVERGED, SLOW), 1, id="never a diverged one ahead"),
    ],
)
def test_the_best_is_drawn_strong(make_study, trials, best):
    (line,) = lines(plot_curves(make_study(*trials)).axes[0], "validation")
    assert list(line.get_ydata()) == trials[best]["val_accs"]


def test_the_others_are_thin_and_see_through(make_study):
    for drawn in plot_curves(make_study(FAST, SLOW, MISS)).axes[0].collections:
        assert len(drawn.get_segments()) == 2
        assert drawn.get_alpha() == 0.35
        assert drawn.get_linewidth()[0] < 1


def test_the_others_are_drawn_where_they_were(make_study):
    training, validation = plot_curves(make_study(FAST, MISS)).axes[0].collections
    (line,) = validation.get_segments()
    assert line.tolist() == [[epoch, value] for epoch, value in enumerate(MISS["val_accs"], start=1)]
    assert training.get_linestyle() != validation.get_linestyle()


def test_one_epoch_of_another_trial_is_a_point(make_study):
    top = plot_curves(make_study(FAST, {"val_accs": [0.5]})).axes[0]
    points = [line for line in top.lines if line.get_marker() == "o" and line.get_alpha() == 0.35]
    assert (1, 0.5) in [(line.get_xdata()[0], line.get_ydata()[0]) for line in points]


def test_crashed_trials_are_left_out(make_study):
    bottom = plot_curves(make_study(FAST, CRASHED)).axes[2]
    assert (len(bottom.lines), len(bottom.collections[0].get_segments())) == (1, 0)


def test_a_crashed_trial_can_be_asked_for(make_study):
    assert plot_curves(make_study(FAST, CRASHED), [1]).get_suptitle() == "made: trial trial-1"


def test_only_the_numbers_asked_for_are_drawn(make_study):
    assert plot_curves(make_study(FAST, SLOW, MISS), [2, 1]).get_suptitle() == "made: 2 trials, best: trial trial-1"


def test_an_unknown_number_is_refused(make_study):
    with pytest.raises(ValueError, match="no trial 7; its trials: 0, 1"):
        plot_curves(make_study(FAST, SLOW), [0, 7])


@pytest.mark.parametrize("trials", [(), (CRASHED,)])
def test_nothing_to_draw_is_refused(make_study, trials):
    with pytest.raises(ValueError, match="no trial to draw"):
        plot_curves(make_study(*trials))


def test_a_trial_without_an_epoch_is_drawn(make_study, tmp_path):
    plot_curves(make_study({"val_accs": []}), path=tmp_path / "a.png")
    assert (tmp_path / "a.png").exists()


def test_a_single_epoch_is_a_point(make_study):
    (line,) = lines(plot_curves(make_study({"val_accs": [0.5]})).axes[0], "validation")
    assert line.get_marker() == "o"


def test_losses_that_are_not_finite_are_gaps(make_study):
    trial = {"val_accs": [0.5, 0.1, 0.1], "losses": [2.0, math.inf, NAN], "outcome": "diverged"}
    (line,) = lines(plot_curves(make_study(trial)).axes[1], "training")
    assert [math.isnan(y) for y in line.get_ydata()] == [False, True, True]


def test_a_loss_out_of_bounds_does_not_flatten_the_others(make_study):
    trial = {"val_accs": [0.5, 0.1], "losses": [2.0, 1e9], "outcome": "diverged"}
    assert plot_curves(make_study(trial)).axes[1].get_ylim() == (0, 3)


@pytest.mark.parametrize(("name", "start"), [("a.png", b"\x89PNG"), ("a.PDF", b"%PDF"), ("a.svg", b"<?xml")])
def test_the_suffix_decides_the_format(make_study, tmp_path, name, start):
    plot_curves(make_study(FAST), path=tmp_path / name)
    assert (tmp_path / name).read_bytes().startswith(start)


@pytest.mark.parametrize("name", ["a.jpeg", "a"])
def test_an_unknown_suffix_is_refused(make_study, tmp_path, name):
    with pytest.raises(ValueError, match=r"expected one of \.png, \.pdf, \.svg"):
        plot_curves(make_study(FAST), path=tmp_path / name)


@pytest.mark.parametrize("suffix", ["png", "pdf", "svg"])
def test_the_same_study_makes_the_same_file(make_study, tmp_path, suffix):
    files = [tmp_path / f"{name}.{suffix}" for name in "ab"]
    for file in files:
        plot_curves(make_study(FAST, SLOW), path=file)
    assert files[0].read_bytes() == files[1].read_bytes()


def test_pyplot_is_not_loaded():
    code = "import sys, analysis.plots.curves; sys.exit('matplotlib.pyplot' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_comparison_has_four_panels(make_study):
    axes = plot_comparison(make_study(FAST, SLOW)).axes
    labels = [a.get_ylabel() or a.get_xlabel() for a in axes]
    assert labels == [
        "training loss [nats]",
        "test error (1 - val_acc)",
        "validation accuracy",
        "mean seconds an epoch",
    ]


@pytest.mark.parametrize(("panel", "values"), [(0, [2.0, 1.0, 2 / 3]), (1, [0.5, 0.07, 0.06]), (2, [0.5, 0.93, 0.94])])
def test_a_comparison_has_the_epochs_values(make_study, panel, values):
    (line,) = lines(plot_comparison(make_study(FAST, SLOW)).axes[panel], "trial-0")
    assert line.get_ydata() == pytest.approx(values)


def test_a_comparison_has_the_mean_time_as_bars(make_study):
    times = plot_comparison(make_study(FAST | {"seconds": [10, 20, 60]}, SLOW)).axes[3]
    assert [bar.get_width() for bar in times.patches] == [30, 10]


def test_no_two_of_35_compared_trials_look_alike(make_study):
    panel = plot_comparison(make_study(*[FAST] * 35)).axes[2]
    # Dashes of which matplotlib has no name are told as a pattern.
    assert len({(line.get_color(), str(line._unscaled_dash_pattern)) for line in panel.lines}) == 35


def test_neighbours_in_a_comparison_differ_without_their_colours(make_study):
    panel = plot_comparison(make_study(*[FAST] * 5)).axes[2]
    assert len({str(line._unscaled_dash_pattern) for line in panel.lines}) == 5


def test_a_comparison_names_every_trial_once(make_study):
    (shown,) = plot_comparison(make_study(FAST, SLOW)).legends
    assert [text.get_text() for text in shown.get_texts()] == ["trial-0", "trial-1"]


def test_a_comparison_draws_what_was_asked_for(make_study):
    panel = plot_comparison(make_study(FAST, SLOW, MISS), [2, 0]).axes[0]
    assert [line.get_label() for line in panel.lines] == ["trial-2", "trial-0"]


def test_a_comparison_cuts_off_a_loss_out_of_bounds(make_study):
    trial = {"val_accs": [0.5, 0.1], "losses": [2.0, 1e9], "outcome": "diverged"}
    assert plot_comparison(make_study(trial)).axes[0].get_ylim() == (0, 3)


def test_a_comparison_draws_a_trial_without_an_epoch(make_study, tmp_path):
    plot_comparison(make_study({"val_accs": []}, FAST), path=tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_a_comparison_of_nothing_is_refused(make_study):
    with pytest.raises(ValueError, match="no trial to draw"):
        plot_comparison(make_study(CRASHED))


# A schedule

ZIGZAG = "[1e-4, 0] lin[1e-3, 4] lin[1e-4, 8] lin[1e-3, 12] lin[1e-4, 16]"
MANY = "[1e-4, 0] " + "lin[1e-3, +1.3] lin[1e-4, +1.3] " * 200


def test_a_zigzag_is_drawn_through_each_of_its_knots():
    (line, marks) = plot_schedule(parse(ZIGZAG)).axes[0].lines
    points = set(zip(line.get_xdata(), line.get_ydata(), strict=True))
    assert points >= {(knot.epoch, knot.value) for knot in parse(ZIGZAG).knots}
    assert list(marks.get_xdata()) == [0, 4, 8, 12, 16]


def test_many_cycles_are_drawn_thin_and_without_marks():
    (line,) = plot_schedule(parse(MANY)).axes[0].lines
    assert line.get_linewidth() < 1
    assert len(line.get_xdata()) > 400


def test_a_long_text_leaves_room_for_the_curve(tmp_path):
    figure = plot_schedule(parse(MANY), tmp_path / "a.png")
    assert figure.axes[0].get_title().endswith(" …")
    assert figure.axes[0].get_position().height > 0.6


def test_a_short_text_is_the_whole_title():
    assert plot_schedule(parse(ZIGZAG)).axes[0].get_title() == ZIGZAG


@pytest.mark.parametrize(("text", "scale"), [("[1e-6, 0] exp[10, 2]", "log"), ("[0, 0] lin[10, 2]", "linear")])
def test_a_schedule_is_logarithmic_where_it_spans_decades(text, scale):
    assert plot_schedule(parse(text)).axes[0].get_yscale() == scale


# A range test

LRS = np.geomspace(1e-4, 1, 100)
LOSSES = np.append(np.linspace(2.3, 1.0, 90), [2.0] * 9 + [NAN])
ACCS = np.linspace(0.1, 0.6, 100)
BOUNDS = Bounds(upper=0.4, lower=0.04, steepest=0.1, best_acc=0.5)


def range_axes(bounds=BOUNDS, **more):
    return plot_lr_range(LRS, LOSSES, ACCS, bounds, **{"beta": 0.9} | more).axes


def test_a_range_test_has_loss_over_accuracy():
    assert [axes.get_ylabel() for axes in range_axes()] == ["cross-entropy [nats]", "accuracy"]


def test_a_range_test_is_over_the_learning_rate():
    assert range_axes()[1].get_xlabel() == "learning rate"


@pytest.mark.parametrize(("log", "scale"), [(True, "log"), (False, "linear")])
def test_the_learning_rates_axis_is_as_asked(log, scale):
    assert range_axes(log=log)[1].get_xscale() == scale


@pytest.mark.parametrize("panel", [0, 1])
def test_the_steps_are_faint_and_what_is_smoothed_strong(panel):
    axes = range_axes()[panel]
    (faint,), (strong,) = lines(axes, "each step"), lines(axes, "smoothed")
    assert faint.get_alpha() < 1 < strong.get_linewidth()


def test_a_loss_that_is_not_finite_is_left_out():
    (line,) = lines(range_axes()[0], "smoothed")
    assert len(line.get_xdata()) == 99
    assert np.isfinite(line.get_ydata()).all()


@pytest.mark.parametrize("panel", [0, 1])
def test_the_bounds_are_marked(panel):
    axes = range_axes()[panel]
    for label, rate in (("lower: 0.04", 0.04), ("upper: 0.4", 0.4), ("steepest: 0.1", 0.1), ("best acc: 0.5", 0.5)):
        (line,) = lines(axes, label)
        assert list(line.get_xdata()) == [rate, rate]


def test_without_bounds_nothing_is_marked():
    assert legend(range_axes(None)[0]) == ["each step", "smoothed"]


@pytest.mark.parametrize("title", ["resnet20v2, sgd", ""])
def test_a_range_test_has_the_title_that_it_is_given(title):
    assert plot_lr_range(LRS, LOSSES, ACCS, BOUNDS, beta=0.9, title=title).get_suptitle() == title


def test_a_loss_that_breaks_away_does_not_flatten_the_curve():
    losses = LOSSES.copy()
    losses[-5:-1] = 1e6
    assert plot_lr_range(LRS, losses, ACCS, None, beta=0.9).axes[0].get_ylim()[1] < 5


def test_a_range_test_of_one_step_that_broke_is_drawn(tmp_path):
    plot_lr_range(LRS[:1], np.array([NAN]), ACCS[:1], None, beta=0.9, path=tmp_path / "a.png")
    assert (tmp_path / "a.png").exists()
