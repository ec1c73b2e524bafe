"""What holds for every range test."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.statistics.lr_range import breaking_step, smoothed, suggest

SERIES = st.lists(st.floats(0, 10), min_size=1, max_size=60).map(np.array)
BETAS = st.floats(0, 0.999)


@given(SERIES, BETAS)
def test_smoothing_stays_in_the_range_of_what_came_before(losses: np.ndarray, beta: float) -> None:
    means = smoothed(losses, beta)
    assert (means >= np.minimum.accumulate(losses) - 1e-9).all()
    assert (means <= np.maximum.accumulate(losses) + 1e-9).all()


@given(SERIES, BETAS, st.integers(1, 60))
def test_smoothing_does_not_look_ahead(losses: np.ndarray, beta: float, end: int) -> None:
    assert (smoothed(losses[:end], beta) == smoothed(losses, beta)[:end]).all()


@given(SERIES, BETAS, st.integers(0, 60))
def test_a_break_stays_where_it_is_when_more_steps_come(losses: np.ndarray, beta: float, end: int) -> None:
    broken = breaking_step(losses[:end], beta)
    assert broken is None or broken == breaking_step(losses, beta)


@given(
    lowest=st.floats(0.3, 0.8),
    decades=st.floats(3, 8),
    depth=st.floats(0.5, 2),
    rise=st.floats(1, 20),
    steps=st.integers(100, 800),
    scale=st.floats(0.1, 10),
)
def test_bounds_lie_where_the_curve_has_them(
    lowest: float, decades: float, depth: float, rise: float, steps: int, scale: float
) -> None:
    """A valley: flat, a straight fall over a tenth of the test or more to its minimum, a straight rise."""
    share = np.arange(steps) / steps
    lrs = 1e-6 * 10 ** (decades * share)
    fall = np.interp(share, [0, lowest / 2, lowest, 1], [2.5, 2.5, 2.5 - depth, 2.5 - depth + rise])
    bounds = suggest(lrs, scale * fall, 1 - fall / 25)
    at = {name: np.log10(getattr(bounds, name) / 1e-6) / decades for name in ("upper", "steepest", "best_acc")}
    late = 0.1  # of the test: what is smoothed turns after what it smooths, where the rise is slower than the fall
    assert lowest - 0.01 <= at["upper"] <= lowest + late
    assert lowest - 0.01 <= at["best_acc"] <= lowest + late
    assert lowest / 2 <= at["steepest"] <= lowest + late
    assert bounds.lower * 10 == pytest.approx(bounds.upper)
