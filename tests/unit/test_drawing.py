"""Schedules drawn as a line of text."""

import pytest

from resnet_core.config import TrialConfig
from resnet_core.schedule import parse
from sweeps.inspection.drawing import draw, draw_rates

BARS = " ▁▂▃▄▅▆▇█"
SHAPES = ["[1e-3, 0] lin[1.2e-3, 6] cos[1e-5, 20] lin[6e-6, 26]", "[0, 0] lin[1, 5] lin[0, 10]", "[1, 0]"]


@pytest.mark.parametrize("text", SHAPES)
@pytest.mark.parametrize("width", [1, 7, 60])
def test_a_drawing_is_as_wide_as_asked(text, width):
    assert len(draw(parse(text), 26, width)) == width


@pytest.mark.parametrize("text", SHAPES)
def test_the_peak_is_a_full_block(text):
    assert "█" in draw(parse(text), 26)


def test_zero_is_blank():
    assert draw(parse("[1, 0] step[0, 5]"), 10, 10) == "█████     "


def test_a_schedule_of_zeros_is_blank():
    assert draw(parse("[0, 0] lin[0, 5]"), 5, 4) == "    "


def test_a_value_above_zero_is_never_blank():
    assert draw(parse("[1, 0] step[1e-9, 5]"), 10, 10) == "█████▁▁▁▁▁"


def test_a_rising_line_rises_through_all_bars():
    drawn = draw(parse("[0, 0] lin[1, 10]"), 10, 60)
    assert [BARS.index(bar) for bar in drawn] == sorted(BARS.index(bar) for bar in drawn)
    assert set(drawn) == set(BARS[1:])


def test_what_follows_the_last_knot_is_drawn():
    assert draw(parse("[1, 0] step[0, 5]"), 20, 4) == "█   "


def test_peak_and_length_stand_beside_the_drawing():
    config = TrialConfig(schedule="[1e-3, 0] lin[1.2e-3, 6] cos[1e-5, 20]", epochs=22)
    assert draw_rates(config, 8) == draw(config.lr_schedule, 22, 8) + "  peak 0.0012, 22 epochs"
