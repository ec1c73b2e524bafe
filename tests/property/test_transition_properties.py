import math

from hypothesis import given
from hypothesis import strategies as st

from analysis.tables.transitions import transition
from resnet_core.objective import first_crossing

# Accuracies are shares of up to 10,000 images, as measured ones are.
accuracies = st.integers(0, 10_000).map(lambda hits: hits / 10_000)
curves = st.lists(accuracies | st.just(math.nan), max_size=40)
levels = st.integers(1, 10_000).map(lambda hits: hits / 10_000)


def or_never(epoch):
    return math.inf if epoch is None else epoch


@given(curves, levels)
def test_a_level_is_never_held_before_it_is_reached(curve, level):
    assert or_never(transition(curve, level)) >= or_never(first_crossing(curve, level))


@given(st.lists(accuracies, max_size=40), levels)
def test_a_curve_that_never_falls_holds_what_it_reaches(curve, level):
    curve.sort()
    assert transition(curve, level) == first_crossing(curve, level)


@given(curves, levels)
def test_the_definition_holds_at_the_transition_and_nowhere_before(curve, level):
    def holds(epoch):
        later = [a for a in curve[epoch - 1 :] if not math.isnan(a)]
        # Hundredths of a percent are counted whole: floats would round.
        enough = sum(round(a * 10_000) for a in later) >= round(level * 10_000) * len(later)
        return curve[epoch - 1] >= level and enough

    held = [epoch for epoch in range(1, len(curve) + 1) if holds(epoch)]
    assert transition(curve, level) == min(held, default=None)
