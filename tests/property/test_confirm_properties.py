"""Fresh seeds, crossing errors and comparisons, for any input."""

import math

from hypothesis import given
from hypothesis import strategies as st

from analysis.statistics.differences import compare_independent
from analysis.statistics.lead import crossing_error
from sweeps.study.finalists import fresh_seeds

SEEDS = st.integers(0, 2**32 - 1)
EPOCHS = st.lists(st.integers(1, 30).map(float) | st.just(math.inf), min_size=1, max_size=8)


@given(SEEDS, st.integers(0, 20), st.data())
def test_fresh_seeds_are_distinct_unused_and_the_same_again(seed, count, data):
    near = st.integers(0, 30).map(lambda step: (seed + 1_000_000 + step) % 2**32)
    used = data.draw(st.sets(SEEDS | near, max_size=20))
    found = fresh_seeds(seed, count, used)
    assert len(set(found)) == count
    assert not set(found) & used
    assert found == fresh_seeds(seed, count, used)
    assert all(0 <= value < 2**32 for value in found)


@given(SEEDS, st.integers(0, 10), st.integers(0, 10), st.sets(SEEDS, max_size=5))
def test_more_seeds_begin_with_the_fewer(seed, count, more, used):
    assert fresh_seeds(seed, count + more, used)[:count] == fresh_seeds(seed, count, used)


@given(st.lists(st.floats(0, 1) | st.just(math.nan), max_size=30), st.floats(0.1, 1), st.integers(1, 60_000))
def test_a_crossing_error_is_above_zero_and_shrinks_with_images(val_accs, target, images):
    error = crossing_error(val_accs, target, images)
    assert error >= 0
    assert crossing_error(val_accs, target, 4 * images) <= error


@given(EPOCHS, EPOCHS)
def test_an_independent_comparison_holds_its_value_and_changes_sign(a, b):
    one, other = compare_independent(a, b, 30), compare_independent(b, a, 30)
    assert one.difference.low <= one.difference.value <= one.difference.high
    assert math.isclose(one.difference.value, -other.difference.value, abs_tol=1e-9)
    assert math.isclose(one.probability_faster.value + other.probability_faster.value, 1)
    assert 0 <= one.probability_faster.low <= one.probability_faster.high <= 1
