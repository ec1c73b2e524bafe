"""What holds for every schedule, and for every text that is none."""

import math
from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from resnet_core.schedule import KINDS, Schedule, ScheduleError, Segment, parse, parse_template

FINITE = st.floats(min_value=0, allow_infinity=False, allow_nan=False)
VALUES = st.one_of(st.just(0.0), st.floats(1e-9, 10))
GAPS = st.floats(0.01, 30)
SHARES = st.floats(0, 1)


@st.composite
def schedules(
    draw: st.DrawFn, values: st.SearchStrategy[float] = VALUES, wide: bool = False, min_size: int = 0
) -> Schedule:
    """Schedules of usual epochs, or of any epochs that floats have."""
    if wide:
        epochs = sorted(draw(st.sets(FINITE.filter(bool), min_size=min_size, max_size=6)))
    else:
        gaps = draw(st.lists(GAPS, min_size=min_size, max_size=6))
        epochs = [sum(gaps[: i + 1]) for i in range(len(gaps))]
    start = value = draw(values)
    segments = []
    for epoch in epochs:
        before, value = value, draw(values)
        kind = draw(st.sampled_from(KINDS))
        if kind == "exp" and not (before and value):
            kind = "lin"
        segments.append(Segment(kind, value, epoch))  # type: ignore[arg-type]
    return Schedule(start, tuple(segments))


@st.composite
def places(draw: st.DrawFn) -> tuple[Schedule, int]:
    """A schedule and the index of one of its segments."""
    schedule = draw(schedules(min_size=1))
    return schedule, draw(st.integers(0, len(schedule.segments) - 1))


def _spell(number: float, style: int) -> str:
    """Write a number in one of the ways the notation allows."""
    return (repr(number), f"{number:.17e}", f"{number:.16E}", f"0{number!r}")[style]


@given(schedules(FINITE, wide=True))
def test_parse_takes_back_what_str_wrote(schedule: Schedule) -> None:
    assert parse(str(schedule)) == schedule


@given(schedules(FINITE, wide=True), st.data())
def test_every_spelling_has_one_canonical_text(schedule: Schedule, data: st.DataObject) -> None:
    spaces = st.text(" \t\n", max_size=2)
    styles = st.integers(0, 3)
    parts = []
    for kind, (value, epoch) in zip(["", *(s.kind for s in schedule.segments)], schedule.knots, strict=True):
        parts += [kind, "[", _spell(value, data.draw(styles)), ",", _spell(epoch, data.draw(styles)), "]"]
    text = "".join(part + data.draw(spaces) for part in parts)
    assert str(parse(text)) == str(schedule)


@given(schedules(FINITE, wide=True, min_size=1), SHARES)
def test_values_lie_between_the_ends_of_the_segment(schedule: Schedule, share: float) -> None:
    for before, after in pairwise(schedule.knots):
        epoch = min(before.epoch + share * (after.epoch - before.epoch), after.epoch)
        low, high = sorted((before.value, after.value))
        assert low <= schedule.value(epoch) <= high


@given(places(), st.tuples(SHARES, SHARES))
def test_a_segment_never_turns_back(place: tuple[Schedule, int], shares: tuple[float, float]) -> None:
    schedule, i = place
    before, after = schedule.knots[i : i + 2]
    first, second = (
        schedule.value(min(before.epoch + s * (after.epoch - before.epoch), after.epoch)) for s in sorted(shares)
    )
    noise = 1e-12 * max(before.value, after.value)  # the last bits of cos and pow
    assert second >= first - noise if after.value >= before.value else second <= first + noise


@given(places())
def test_every_kind_but_step_is_continuous_at_its_knots(place: tuple[Schedule, int]) -> None:
    schedule, i = place
    before, after = schedule.knots[i : i + 2]
    close = {"rel": 1e-8, "abs": 1e-8 * max(before.value, after.value)}
    assert schedule.value(math.nextafter(before.epoch, math.inf)) == pytest.approx(before.value, **close)
    left = before.value if schedule.segments[i].kind == "step" else after.value
    assert schedule.value(math.nextafter(after.epoch, 0)) == pytest.approx(left, **close)


@given(schedules(FINITE, wide=True))
def test_a_knots_value_is_exact(schedule: Schedule) -> None:
    assert all(schedule.value(knot.epoch) == knot.value for knot in schedule.knots)


@given(schedules(), st.floats(0, 200))
def test_nothing_is_above_the_peak(schedule: Schedule, epoch: float) -> None:
    assert schedule.value(epoch) <= schedule.peak == schedule.value(schedule.peak_epoch)


@given(schedules(), st.integers(0, 100), st.integers(1, 50))
def test_epoch_values_is_value_at_every_step(schedule: Schedule, epoch: int, steps: int) -> None:
    expected = [schedule.value(epoch + i / steps) for i in range(steps)]
    assert schedule.epoch_values(epoch, steps) == expected


@given(
    st.lists(
        st.tuples(VALUES, st.sampled_from(["name", "product"]), st.floats(0, 4), GAPS, st.booleans()),
        min_size=1,
    )
)
def test_fill_is_parse_with_the_numbers_put_in(rows: list[tuple[float, str, float, float, bool]]) -> None:
    template, text, values, epoch = "", "", {}, 0.0
    for i, (value, form, factor, gap, relative) in enumerate(rows):
        values[f"v{i}"] = value
        value_text = f"v{i}" if form == "name" else f"{factor!r} * v{i}"
        number = value if form == "name" else factor * value
        if i == 0:
            template, text = f"[{value_text}, 0]", f"[{number!r}, 0]"
            continue
        epoch += gap
        values[f"e{i}"] = gap if relative else epoch
        sign = "+" if relative else ""
        template += f" lin[{value_text}, {sign}e{i}]"
        text += f" lin[{number!r}, {sign}{values[f'e{i}']!r}]"
    assert parse_template(template).fill(values) == parse(text)


@given(st.lists(st.decimals("0.01", 30, places=2), min_size=1, max_size=30))
@example([Decimal("1.3")] * 3)  # 3.9000000000000004 in floats
def test_relative_epochs_add_up_as_they_are_written(gaps: list[Decimal]) -> None:
    schedule = parse("[1, 0]" + "".join(f" lin[1, +{gap}]" for gap in gaps))
    assert [knot.epoch for knot in schedule.knots] == [float(sum(gaps[:i])) for i in range(len(gaps) + 1)]


ALPHABET = "[]()0123456789.,eE+*-_ \n\tlincoshexpstw²λ\x1c\u2028\ud800"
VALID = "[0.8*lr, 0] lin[lr, +warmup] cos[1.e-5, +8] hcos[0, 26] step[.5, 27] exp[1, 1e3]"


@st.composite
def damaged(draw: st.DrawFn) -> str:
    """A valid text with a stretch of it replaced: most errors lie close to a right text."""
    text = draw(st.sampled_from([VALID, VALID.replace("*lr", "").replace("lr", "1").replace("warmup", "2")]))
    start, end = sorted(draw(st.tuples(*[st.integers(0, len(text))] * 2)))
    return text[:start] + draw(st.text(ALPHABET, max_size=4)) + text[min(end, start + 4) :]


@given(st.one_of(st.text(ALPHABET), st.text(), damaged()))
@example("[1, 0] lin[1, " + "9" * 5000 + "]")
@example("[" * 5000)
def test_no_text_raises_anything_but_a_schedule_error(text: str) -> None:
    for read in (parse, lambda t: parse_template(t).fill({"lr": 1e-3, "warmup": 3})):
        try:
            schedule = read(text)
        except ScheduleError as error:
            _check_error(error, text)
        else:
            assert parse(str(schedule)) == schedule


def _check_error(error: ScheduleError, text: str) -> None:
    reason, shown, pointer = str(error).split("\n")
    assert reason
    assert 0 <= error.position <= len(text) == len(shown)
    assert pointer == " " * error.position + "^"
