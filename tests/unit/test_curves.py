"""The spark lines of the live table, and the places of trials."""

import math

import pytest

from sweeps.execution.curves import Scale, ordinal, place, spark_line

SCALE = Scale(0.0, 0.8)


def test_only_the_target_is_a_full_block():
    assert spark_line([0.0, 0.4, 0.7999999, 0.8, 0.9], 5, 12, SCALE) == "▁▄▇██"


def test_what_is_lower_than_usual_is_drawn_lowest():
    assert spark_line([-1e9, 0.0], 2, 12, SCALE) == "▁▁"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_marked(value):
    assert spark_line([0.8, value], 2, 12, SCALE) == "█×"


@pytest.mark.parametrize("horizon", [13, 24, 100, 1000])
@pytest.mark.parametrize("width", [1, 12, 40])
def test_a_long_run_is_shortened_and_has_its_whole_width_at_its_horizon(horizon, width):
    lengths = [len(spark_line([0.1] * done, horizon, width, SCALE)) for done in range(1, horizon + 1)]
    assert lengths[-1] == min(width, horizon)
    assert lengths[0] == 1
    assert lengths == sorted(lengths)


def test_a_shortened_curve_ends_with_the_last_epoch():
    values = [0.0] * 99
    for done in range(1, 100):
        assert spark_line([*values[: done - 1], 0.8], 99, 12, SCALE)[-1] == "█"


def test_no_epoch_is_no_character():
    assert spark_line([], 10, 12, SCALE) == ""


def test_the_scale_reaches_from_a_usual_worst_score_to_the_target():
    assert Scale.of([[0.1, 0.5], [0.2, 0.95], [-1e9, 0.3]], 0.9) == Scale(0.1, 0.9)


def test_without_a_target_the_best_score_is_the_top():
    assert Scale.of([[0.1, 0.5], [0.3, math.nan]], None) == Scale(0.2, 0.5)


@pytest.mark.parametrize("target", [0.9, None])
def test_without_a_finite_score_there_is_still_a_scale(target):
    scale = Scale.of([[], [math.nan]], target)
    assert spark_line([math.nan, -1.0], 2, 12, scale) == "×▁"


def test_equal_curves_have_a_scale():
    scale = Scale.of([[0.5, 0.5]], None)
    assert spark_line([0.5, 0.4], 2, 12, scale) == "█▁"


def test_equal_scores_share_the_better_place():
    assert place(0.5, [0.5, 0.5, 0.6]) == (2, 4)
    assert place(math.nan, [0.1, math.nan]) == (2, 3)
    assert place(0.5, []) == (1, 1)


def test_places_in_words():
    assert [ordinal(n) for n in (1, 2, 3, 11, 22, 113)] == ["1st", "2nd", "3rd", "11th", "22nd", "113th"]
