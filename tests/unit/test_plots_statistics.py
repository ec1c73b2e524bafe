import itertools
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from analysis.plots.canvas import COLOURS, logarithmic, marks_of, new_figure
from analysis.plots.schedules import plot_schedules
from analysis.plots.slices import plot_slices
from analysis.plots.statistics import plot_best_of_n, plot_best_so_far, plot_importance, plot_share_reached

FAST = {"val_accs": [0.5, 0.93, 0.94, 0.93, 0.94, 0.95], "outcome": "reached"}
SLOW = {"val_accs": [0.5, 0.6, 0.7, 0.8, 0.92, 0.93], "outcome": "reached"}
MISS = {"val_accs": [0.5, 0.6, 0.7, 0.8, 0.9, 0.91], "outcome": "exhausted"}
PRUNED = {"val_accs": [0.4, 0.6], "outcome": "pruned"}
CRASHED = {"val_accs": [0.5], "outcome": "crashed"}
SWEEP = (
    FAST | {"lr_alpha": 1e-3, "weight_decay": 0.2, "schedule": "[1e-3, 0] lin[1e-3, 3] cos[1e-5, 6]"},
    MISS | {"lr_alpha": 5e-4, "weight_decay": 0.1, "schedule": "[5e-4, 0] lin[5e-4, 2] cos[1e-5, 6]"},
    PRUNED | {"lr_alpha": 2e-3, "weight_decay": 0.3, "schedule": "[2e-3, 0] lin[2e-3, 4] cos[1e-5, 6]"},
)
TABLE = pd.DataFrame(
    {"parameter": ["lr", "shift"], "importance": [0.8, 0.2], "rank": [1, 2], "rank_low": [1, 1], "rank_high": [2, 2]}
)
FIGURES = [plot_slices, plot_best_so_far, plot_share_reached, plot_best_of_n, plot_schedules]


@pytest.fixture
def sweep(make_study):
    return make_study(*SWEEP)


@pytest.fixture
def repeated(make_study):
    a = [trial | {"trial": f"a-s{seed}", "seed": seed} for seed, trial in enumerate((FAST, SLOW, MISS))]
    b = [trial | {"trial": f"b-s{seed}", "seed": seed, "shift": 0.1} for seed, trial in enumerate((SLOW, MISS))]
    return make_study(*a, *b)


def lines(axes, label):
    return [line for line in axes.lines if line.get_label() == label]


def dots(axes, label):
    """The places, (x, y), of the marks with a label; NaN where one is not drawn."""
    (drawn,) = [drawn for drawn in axes.collections if drawn.get_label() == label]
    return np.ma.filled(drawn.get_offsets(), np.nan)


def labels(axes):
    return [axis.get_xlabel() for axis in axes if axis.get_visible()]


# Slices


@pytest.mark.parametrize("values", [[0.98761, 0.98765], [1e-5, 6e-5], [-2e300, 7e300]])
def test_ticks_of_results_are_whole_numbers_whatever_their_scale(make_study, values):
    """Matplotlib writes a factor or an offset beside the axis, which texts of one's own do not have."""
    study = make_study(*({"val_accs": [v], "outcome": "exhausted", "shift": v, "horizon": 1} for v in values))
    axes = plot_slices(replace(study, target=None)).axes[0]
    ticks = [text.get_text() for text in axes.get_yticklabels()]
    assert len(ticks) >= 3
    assert [float(text) for text in ticks] == pytest.approx(list(axes.get_yticks()), rel=1e-12)
    assert all(values[0] - (values[1] - values[0]) < float(text) < values[1] * 2 for text in ticks)


def test_choices_are_drawn_as_they_stand(make_study, tmp_path, recwarn):
    names = ["$x_1$ and $\\frac{$", "two\nlines", "", "漢字 🎉", "_x"]
    study = make_study(*(FAST | {"optimizer": name} for name in names))
    study = replace(study, space={"optimizer": {"choices": names}})
    axes = next(axes for axes in plot_slices(study, tmp_path / "x.png").axes if axes.get_xlabel() == "optimizer")
    texts = [text.get_text() for text in axes.get_xticklabels()]
    assert texts == ["\\$x_1\\$ …\\frac{\\$", "two lines", '""', "漢字 🎉", "_x"]
    assert not [str(warning.message) for warning in recwarn if "Glyph" in str(warning.message)]


def test_slices_are_over_the_settings_that_vary(sweep):
    assert labels(plot_slices(sweep).axes) == ["highest learning rate", "weight decay λ", "breakpoint 1 [epoch]"]


def test_a_slice_shows_epochs_to_target_of_what_reached(sweep):
    assert dots(plot_slices(sweep).axes[0], "reached").tolist() == [[1e-3, 2]]


@pytest.mark.parametrize(
    ("label", "trial"),
    [
        ("missed: its schedule ended", MISS | {"horizon": 3, "val_accs": [0.5, 0.6, 0.7]}),
        ("cut short before it reached", PRUNED),
        ("diverged", {"val_accs": [0.5], "outcome": "diverged"}),
        ("crashed", CRASHED),
    ],
)
def test_a_trial_without_a_result_is_beyond_all_that_reached(make_study, label, trial):
    study = make_study(FAST, SLOW, trial | {"shift": 0.1})
    axes = plot_slices(study).axes[0]
    assert dots(axes, label)[:, 1].min() > dots(axes, "reached")[:, 1].max()
    assert [text.get_text() for text in axes.get_yticklabels()][-1] == "not reached"


@pytest.mark.parametrize(("goal", "worse"), [("max", min), ("min", max)])
def test_without_a_target_what_diverged_or_crashed_is_at_the_bad_end(make_study, goal, worse):
    ended = [{"val_accs": [0.5, value], "outcome": "exhausted", "shift": value, "horizon": 2} for value in (0.6, 0.7)]
    study = make_study(
        *ended, {"val_accs": [0.99, 0.01], "outcome": "diverged"}, {"val_accs": [0.99], "outcome": "crashed"}
    )
    axes = plot_slices(replace(study, target=None, goal=goal)).axes[0]
    heights = {label: dots(axes, label)[:, 1].tolist() for label in ("a trial", "diverged", "crashed")}
    best = heights["a trial"]
    assert [worse(*best, height) for height in (*heights["diverged"], *heights["crashed"])] == [
        *heights["diverged"],
        *heights["crashed"],
    ]


def test_the_band_of_a_study_that_none_reached_has_all_trials(make_study):
    axes = plot_slices(make_study(MISS, PRUNED | {"shift": 0.1})).axes[0]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["not reached"]


def test_kinds_of_trials_differ_in_marker_and_colour(sweep):
    marks = plot_slices(sweep).axes[0].collections
    looks = [
        (marks.get_paths()[0].vertices.shape, tuple(marks.get_edgecolor()[0]), marks.get_sizes()[0]) for marks in marks
    ]
    assert len(set(looks)) == 3


def test_a_trial_that_did_not_reach_the_target_is_an_arrow_upwards(sweep):
    axes = plot_slices(sweep).axes[0]
    for label in ("missed: its schedule ended", "cut short before it reached"):
        (drawn,) = [drawn for drawn in axes.collections if drawn.get_label() == label]
        heights = drawn.get_paths()[0].vertices[:, 1]
        assert heights.argmin() == 0
        assert heights[0] < 0 < heights.max()


def test_without_a_target_a_trial_that_trained_to_its_end_is_a_dot(sweep):
    axes = plot_slices(replace(sweep, target=None)).axes[0]
    (drawn,) = [drawn for drawn in axes.collections if drawn.get_label() == "a trial"]
    assert drawn.get_paths()[0].codes is not None
    assert np.allclose(np.ptp(drawn.get_paths()[0].vertices, axis=0), [1, 1])


def test_a_mark_of_a_slice_names_its_trial_result_and_setting(sweep):
    (drawn,) = [drawn for drawn in plot_slices(sweep).axes[0].collections if drawn.get_label() == "reached"]
    said = "trial trial-0: 0.92 at epoch 2, best 0.9500; highest learning rate 0.001"
    assert marks_of(drawn) == [(0, said)]


POST5 = {"model": "resnet56v2", "data": "cifar10", "optimizer": "adamw"}


def spans(figure, label="post V's range"):
    return [patch for axes in figure.axes for patch in axes.patches if patch.get_label() == label]


def test_the_published_ranges_are_drawn_into_a_study_of_what_was_published(make_study):
    drawn = spans(plot_slices(make_study(*(trial | POST5 for trial in SWEEP))))
    ends = [(span.get_x(), span.get_x() + span.get_width()) for span in drawn]
    assert ends == [pytest.approx((8e-4, 1.1e-3)), pytest.approx((0.15, 0.25))]


@pytest.mark.parametrize(
    "other", [{"model": "resnet20v2"}, {"model": "nets:Own"}, {"data": "digits"}, {"optimizer": "sgd"}]
)
def test_the_published_ranges_are_not_drawn_into_other_studies(make_study, other):
    assert not spans(plot_slices(make_study(*(trial | POST5 | other for trial in SWEEP))))


def test_the_published_ranges_are_not_drawn_into_a_study_of_an_own_trainer(make_study):
    study = make_study(*(trial | POST5 for trial in SWEEP))
    assert not spans(plot_slices(replace(study, trials=study.trials.drop(columns="split"))))


def test_slices_of_settings_that_do_not_vary_are_refused(make_study):
    with pytest.raises(ValueError, match="varies"):
        plot_slices(make_study(FAST, MISS))


@pytest.mark.parametrize(("highest", "scale"), [(9e-3, "linear"), (2e-2, "log")])
def test_a_slice_is_logarithmic_where_its_setting_spans_more_than_a_decade(make_study, highest, scale):
    study = make_study(FAST | {"lr_alpha": 1e-3}, MISS | {"lr_alpha": highest})
    assert plot_slices(study).axes[0].get_xscale() == scale


def test_trials_of_a_category_are_side_by_side_in_the_order_of_the_study_file(make_study):
    kernels = ["rbf", "poly", "rbf", "linear"]
    trials = [FAST | {"kernel": kernel, "space.kernel": kernel} for kernel in kernels]
    study = replace(make_study(*trials), space={"kernel": {"choices": ["linear", "rbf", "poly"]}})
    (axes,) = [axes for axes in plot_slices(study).axes if axes.get_visible()]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["linear", "rbf", "poly"]
    assert dots(axes, "reached")[:, 0].tolist() == [0.75, 2.0, 1.25, 0.0]


def test_a_category_that_was_not_asked_is_not_drawn(make_study):
    trials = [FAST | {"kernel": "rbf", "space.kernel": asked} for asked in ("rbf", None)]
    trials.append(FAST | {"kernel": "poly", "space.kernel": "poly"})
    study = replace(make_study(*trials), space={"kernel": {"choices": ["rbf", "poly"], "when": {"shift": [0.07]}}})
    assert np.isnan(dots(plot_slices(study).axes[0], "reached")[1, 0])


@pytest.mark.parametrize(("highest", "ticks"), [(9e-3, ["0.001", "0.002", "0.005"]), (0.9, ["0.001", "0.01", "0.1"])])
def test_the_ticks_of_a_logarithmic_axis_are_few_plain_numbers(highest, ticks):
    figure = new_figure(4, 3)
    axes = figure.subplots()
    axes.plot([1e-3, highest], [0, 1])
    axes.set_xscale("log")
    logarithmic(axes.xaxis, 1e-3, highest)
    axes.set_xlim(1e-3, highest)
    figure.draw_without_rendering()
    labels = [label.get_text() for label in axes.get_xticklabels(which="both")]
    assert [label for label in labels if label and 1e-3 <= float(label) <= highest] == ticks


def overlapping(figure):
    """The texts of neighbouring ticks that touch each other, of every axis that is shown."""
    figure.draw_without_rendering()
    found = []
    for axes in figure.axes:
        for axis, side in ((axes.xaxis, "x"), (axes.yaxis, "y")):
            if not axes.get_visible():
                continue
            low, high = sorted(axis.get_view_interval())
            ticks = [t for t in (*axis.get_major_ticks(), *axis.get_minor_ticks()) if low <= t.get_loc() <= high]
            shown = sorted((t.label1 for t in ticks if t.label1.get_text()), key=lambda label: label.get_position())
            boxes = [(label.get_text(), label.get_window_extent()) for label in shown if label.get_visible()]
            boxes.sort(key=lambda box: getattr(box[1], side + "0"))
            found += [
                (before, after)
                for (before, first), (after, second) in itertools.pairwise(boxes)
                if getattr(first, side + "1") > getattr(second, side + "0")
            ]
    return found


@pytest.mark.parametrize(
    "values",
    [
        (1e-3, 1.0001e-3),
        (1e-3, 9e-3),
        (1e-3, 1.1e-2),
        (3e-4, 0.09),
        (1e-9, 1e9),
        (2e-300, 1e-290),
        (123456.0, 123457.0),
        (1, 2),
        (8, 1024),
        (-1e6, 1e6),
        (0.0, 1e-12),
        ("adamw", "sgd"),
        tuple(f"a very long name of an optimizer, {i}" for i in range(12)),
    ],
    ids=lambda values: f"{values[0]} to {values[-1]}",
)
def test_the_ticks_of_a_slice_do_not_touch_each_other(make_study, values):
    name = "kernel" if isinstance(values[0], str) else "lr_alpha"
    trials = [(FAST, SLOW, MISS)[i % 3] | {name: value} for i, value in enumerate(values)]
    space = {"kernel": {"choices": list(values)}} if name == "kernel" else None
    assert overlapping(plot_slices(replace(make_study(*trials), space=space))) == []


def test_without_a_target_the_title_does_not_count_who_reached_it(sweep):
    assert plot_slices(replace(sweep, target=None)).get_suptitle() == "made: 3 trials"


def test_panels_without_a_setting_are_not_shown(make_study):
    first, *others = SWEEP
    axes = plot_slices(make_study(first | {"shift": 0.1}, *others)).axes
    assert [panel.get_visible() for panel in axes] == [True] * 4 + [False] * 2


# Importance


def test_bars_are_importances_the_first_on_top():
    axes = plot_importance(TABLE).axes[0]
    assert [bar.get_width() for bar in axes.patches] == [0.8, 0.2]
    assert axes.yaxis_inverted()


def test_bars_tell_the_intervals_of_ranks():
    assert [text.get_text().strip() for text in plot_importance(TABLE).axes[0].texts] == [
        *("rank 1 (1 to 2)", "rank 2 (1 to 2)")
    ]


# Best so far


def test_best_so_far_is_over_all_epochs_spent(make_study):
    (line,) = lines(plot_best_so_far(make_study(SLOW, CRASHED, FAST)).axes[0], "best so far")
    assert (list(line.get_xdata()), list(line.get_ydata())) == ([6, 7, 13], [5, 5, 2])


def test_a_crashed_try_has_no_dot_of_the_trial_that_took_its_place(make_study):
    figure = plot_best_so_far(make_study(CRASHED | {"trial": "a"}, FAST | {"trial": "a"}))
    assert np.isnan(dots(figure.axes[0], "a trial that reached")[:, 1]).tolist() == [True, False]


def test_the_value_of_a_diverged_trial_is_not_the_best_so_far(make_study):
    study = make_study({"val_accs": [0.9], "outcome": "diverged"}, MISS | {"val_accs": [0.5, 0.6]})
    axes = plot_best_so_far(replace(study, target=None)).axes[0]
    (line,) = axes.lines
    assert np.nanmax(line.get_ydata()) == np.nanmax(dots(axes, "a trial")[:, 1]) == 0.6


def test_a_study_in_which_none_reached_says_so(make_study):
    assert "none reached" in plot_best_so_far(make_study(MISS)).axes[0].get_title()


# Share reached


def test_a_curve_for_each_configuration(repeated):
    names = [line.get_label() for line in plot_share_reached(repeated).axes[0].lines]
    assert names == ["a: 2 of 3", "b: 1 of 2"]


def test_a_curve_is_the_share_that_has_reached(repeated):
    (line,) = lines(plot_share_reached(repeated).axes[0], "a: 2 of 3")
    assert list(line.get_ydata()) == pytest.approx([0, 0, 1 / 3, 1 / 3, 1 / 3, 2 / 3, 2 / 3])


def test_without_repeats_there_is_one_curve_of_all_trials(sweep):
    assert plot_share_reached(sweep).axes[0].lines[0].get_label() == "all trials: 1 of 3"


def test_trials_cut_short_bound_the_share_from_above(sweep):
    (line,) = lines(plot_share_reached(sweep).axes[0], "all trials, had those cut short reached")
    assert line.get_ydata()[-1] == pytest.approx(2 / 3)


def test_there_is_an_interval(repeated):
    assert len(plot_share_reached(repeated).axes[0].collections) == 2


def test_seven_configurations_are_drawn_at_most(make_study):
    many = [FAST | {"trial": f"{i}-s{seed}", "seed": seed, "shift": i / 100} for i in range(9) for seed in (0, 1)]
    assert len(plot_share_reached(make_study(*many)).axes[0].lines) == len(COLOURS)


# Best of n


def test_the_best_of_n_is_over_n(repeated):
    (line,) = lines(plot_best_of_n(repeated).axes[0], "a")
    assert (list(line.get_xdata()), list(line.get_ydata())) == ([1, 2, 3], [5, 2, 2])


def test_the_best_of_n_of_single_runs_is_refused(sweep):
    with pytest.raises(ValueError, match="no configuration has two runs"):
        plot_best_of_n(sweep)


# Schedules


def test_every_ended_trial_has_its_schedule(sweep):
    assert len(plot_schedules(sweep).axes[0].lines) == 3


def test_a_schedule_is_drawn_from_its_first_rate_to_its_last(sweep):
    fastest = max(plot_schedules(sweep).axes[0].lines, key=lambda line: line.get_linewidth())
    assert np.asarray(fastest.get_ydata())[[0, -1]] == pytest.approx([1e-3, 1e-5])


def test_the_schedule_of_a_diverged_trial_has_no_colour_of_a_result(make_study):
    study = make_study({"val_accs": [0.9], "outcome": "diverged"}, MISS)
    looks = {line.get_color() for line in plot_schedules(replace(study, target=None)).axes[0].lines}
    assert "grey" in looks


def test_the_colours_are_explained(sweep):
    assert plot_schedules(sweep).axes[1].get_ylabel() == "epochs to 0.92"


def test_where_none_reached_there_is_no_colour_to_explain(make_study):
    assert len(plot_schedules(make_study(MISS)).axes) == 1


# All


@pytest.mark.parametrize("draw", FIGURES)
def test_axes_are_labelled(make_study, sweep, repeated, draw):
    study = sweep if draw is plot_slices else repeated
    shown = [axes for axes in draw(study).axes if axes.get_visible()]
    assert all(axes.get_xlabel() for axes in shown[:1])
    assert shown[0].get_ylabel()


@pytest.mark.parametrize("draw", FIGURES)
def test_a_figure_is_saved(repeated, sweep, draw, tmp_path):
    draw(sweep if draw is plot_slices else repeated, tmp_path / "a.svg")
    assert (tmp_path / "a.svg").stat().st_size > 1000


@pytest.mark.parametrize("draw", FIGURES)
def test_another_suffix_is_refused(repeated, draw):
    with pytest.raises(ValueError, match="expected one of"):
        draw(repeated, "a.txt")


@pytest.mark.parametrize("draw", FIGURES)
def test_a_study_without_an_ended_trial_is_refused(make_study, draw):
    with pytest.raises(ValueError, match=r"no trial has ended|two runs"):
        draw(make_study(CRASHED))


def test_importances_are_saved(tmp_path):
    plot_importance(TABLE, tmp_path / "a.png")
    assert (tmp_path / "a.png").exists()


def test_where_none_reached_the_axis_has_no_fractions_of_an_epoch(make_study):
    axes = plot_best_so_far(make_study(MISS, MISS)).axes[0]
    assert list(axes.get_yticks()) == []
    assert axes.get_title() == "made: 2 trials, none reached"
