"""Parameters side by side, what is expected over two of them, and the search over time."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from analysis.plots.canvas import marks_of
from analysis.plots.contour import plot_contour
from analysis.plots.parallel import plot_parallel
from analysis.plots.settings import sampled_parameters
from analysis.plots.timeline import plot_timeline

FAST = {"val_accs": [0.5, 0.93, 0.94], "outcome": "reached", "horizon": 3}
MISS = {"val_accs": [0.5, 0.6], "outcome": "exhausted", "horizon": 2}
SPACE = {"lr": {"low": 1e-4, "high": 1e-1, "log": True}, "width": {"choices": ["wide", "narrow"]}, "depth": {"low": 1}}


def sampled(trial, lr, width="wide", depth=1.0, **other):
    return trial | {"space.lr": lr, "space.width": width, "space.depth": depth} | other


@pytest.fixture
def study(make_study):
    trials = (sampled(FAST, 1e-3), sampled(MISS, 1e-1, "narrow", 2.0), sampled(FAST, 1e-2, depth=3.0))
    return replace(make_study(*trials), space=SPACE)


def lines(figure):
    """By trial number, the heights of its line on each axis."""
    found = {}
    for drawn in figure.axes[0].collections:
        for (number, _), segment in zip(marks_of(drawn), drawn.get_segments(), strict=True):
            found[number] = segment[:, 1].tolist()
    return found


def test_a_line_goes_through_a_trials_parameters_to_its_result(study):
    found = lines(plot_parallel(study))
    # lr is logarithmic, width in the order of the study file, depth a number, then epochs to target.
    assert found[0] == pytest.approx([0, 0, 0, 0])
    assert found[2][:3] == pytest.approx([0.5, 0, 1])


def test_a_trial_that_missed_ends_above_the_last_axis(study):
    assert lines(plot_parallel(study))[1][-1] > 1
    assert "not reached" in [text.get_text() for text in plot_parallel(study).axes[0].texts]


def test_a_parameter_that_was_not_asked_is_below_its_axis(make_study):
    trials = (sampled(FAST, 1e-3), sampled(FAST, None), sampled(FAST, 1e-2))
    assert lines(plot_parallel(replace(make_study(*trials), space=SPACE)))[1][0] < 0


def test_a_line_tells_its_trial_and_parameters(study):
    told = dict(mark for drawn in plot_parallel(study).axes[0].collections for mark in marks_of(drawn))
    assert told[1] == "trial trial-1: exhausted after epoch 2, best 0.6000; lr 0.1, width narrow, depth 2"


def test_parameters_that_do_not_vary_have_no_axis(make_study):
    study = replace(make_study(sampled(FAST, 1e-3), sampled(FAST, 1e-2)), space=SPACE)
    assert list(sampled_parameters(study)) == ["lr"]


def test_where_nothing_varies_there_are_no_parameters_to_draw(make_study):
    with pytest.raises(ValueError, match="no parameter varies"):
        plot_parallel(make_study(FAST, FAST))


@pytest.fixture
def searched(make_study):
    """A study in which a learning rate near 1e-2 is the fastest, whatever the depth."""
    random, trials = np.random.default_rng(0), []
    for _ in range(40):
        lr, depth = 10 ** random.uniform(-4, 0), random.uniform(1, 9)
        epoch = round(2 + 6 * abs(np.log10(lr) + 2))
        trials.append(
            sampled({"val_accs": [0.5] * epoch + [0.93], "outcome": "reached", "horizon": 20}, lr, depth=depth)
        )
    return replace(make_study(*trials), space=SPACE)


def test_a_contour_is_darkest_where_trials_were_fastest(searched):
    figure = plot_contour(searched, ("lr", "depth"))
    filled = figure.axes[0].collections[0]
    strongest = max(
        (path for path in filled.get_paths() if len(path.vertices)),
        key=lambda path: filled.get_facecolor()[filled.get_paths().index(path)][3],
    )
    assert 1e-3 < np.median(strongest.vertices[:, 0]) < 1e-1


def test_a_contour_has_a_mark_for_each_trial(searched):
    figure = plot_contour(searched, ("lr", "depth"))
    assert sum(len(marks_of(drawn)) for drawn in figure.axes[0].collections) == 40


def test_a_contour_of_a_text_is_refused(study):
    with pytest.raises(ValueError, match="width is no number"):
        plot_contour(study, ("lr", "width"))


def test_a_contour_of_trials_on_a_line_is_refused(make_study):
    trials = [sampled(FAST, 10.0**-i, depth=1.0 + i) for i in range(1, 4)]
    with pytest.raises(ValueError, match="too few trials differ"):
        plot_contour(replace(make_study(*trials), space=SPACE), ("lr", "depth"))


def at(start, end):
    times = [pd.Timestamp(60 * minute, unit="s", tz="UTC") for minute in (start, end)]
    return dict(zip(("start_time", "end_time"), times, strict=True))


def test_a_bar_goes_from_a_trials_start_to_its_end(make_study):
    figure = plot_timeline(make_study(FAST | at(10, 14), MISS | at(12, 20)))
    bars = {marks_of(drawn)[0][0]: drawn.get_paths()[0].vertices[:, 0] for drawn in figure.axes[0].collections}
    assert [(min(bar), max(bar)) for _, bar in sorted(bars.items())] == [pytest.approx((0, 4)), pytest.approx((2, 10))]
    assert figure.axes[1].get_xlabel() == "minutes since the first trial started"


def test_epochs_that_stopping_saved_are_told(make_study):
    pruned = MISS | {"outcome": "pruned", "horizon": 9}
    figure = plot_timeline(make_study(FAST | at(0, 4), pruned | at(0, 2)))
    labels = [text.get_text() for text in figure.axes[1].get_legend().get_texts()]
    assert labels == ["spent: 5", "had none been stopped: 12"]
    told = dict(mark for drawn in figure.axes[0].collections for mark in marks_of(drawn))
    assert told[1] == "trial trial-1: pruned after epoch 2, best 0.6000; 7 epochs saved"


def test_a_store_that_does_not_say_when_trials_ran_has_no_timeline(make_study):
    with pytest.raises(ValueError, match="does not say when"):
        plot_timeline(make_study(FAST))
