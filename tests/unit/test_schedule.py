"""The schedule notation: values against hand-computed ones, errors against their exact place."""

import dataclasses
import math
import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest

from resnet_core.schedule import (
    Knot,
    Schedule,
    ScheduleError,
    Segment,
    parse,
    parse_template,
)

ROOT = Path(__file__).parents[2]
STUDY = "[0.8*lr, 0] lin[lr, +warmup] lin[lr, +plateau] cos[0.01*lr, +decay] lin[6e-6, +6]"


# Values


@pytest.mark.parametrize(
    ("text", "at", "value"),
    [
        ("[1, 0] lin[3, 4]", 1, 1.5),
        ("[3, 0] lin[1, 4]", 1, 2.5),
        ("[3, 0] cos[1, 4]", 2, 1 + math.sqrt(2)),  # cos(π/4) = √2/2
        ("[4, 0] cos[0, 3]", 2, 2.0),  # cos(π/3) = 1/2
        ("[1, 0] cos[3, 4]", 2, 3 - math.sqrt(2)),
        ("[3, 0] hcos[1, 4]", 2, 2.0),
        ("[4, 0] hcos[0, 3]", 1, 3.0),  # (1 + cos(π/3))/2 = 3/4
        ("[0, 0] hcos[4, 3]", 1, 1.0),
        ("[1e-4, 0] exp[1e-2, 2]", 1, 1e-3),
        ("[8, 0] exp[1, 3]", 1, 4.0),
        ("[1, 0] step[0.1, 10]", 9.999, 1.0),
        ("[1, 0] step[0.1, 10]", 10, 0.1),
        ("[1, 0] lin[2, 0.5] lin[4, 1.5]", 1.25, 3.5),
    ],
)
def test_value_within_a_segment(text: str, at: float, value: float) -> None:
    assert parse(text).value(at) == pytest.approx(value, rel=1e-14)


@pytest.mark.parametrize("kind", ["lin", "cos", "hcos", "exp", "step"])
def test_value_at_a_knot_is_the_knots_value_exactly(kind: str) -> None:
    schedule = parse(f"[0.1, 0] {kind}[0.3, 0.7] {kind}[1e-5, 1.1]")
    assert [schedule.value(e) for e in (0, 0.7, 1.1)] == [0.1, 0.3, 1e-5]


@pytest.mark.parametrize("kind", ["lin", "cos", "hcos", "exp", "step"])
def test_value_stays_after_the_last_knot(kind: str) -> None:
    schedule = parse(f"[0.1, 0] {kind}[0.3, 2]")
    assert [schedule.value(e) for e in (2.001, 50, math.inf)] == [0.3, 0.3, 0.3]


@pytest.mark.parametrize(
    ("text", "at", "values"),
    [
        ("[1.e-3, 0]cos[0, 56]", [0, 28, 56, 60], [1e-3, 7.0710678e-4, 0, 0]),
        (
            "[1.e-3, 0]cos[1.e-5, 50]lin[5.e-6, 60]",
            [0, 25, 50, 55, 60],
            [1e-3, 7.1003571e-4, 1e-5, 7.5e-6, 5e-6],
        ),
        ("[8.e-4, 0]lin[8.e-4, 16]cos[1.e-5, 28]lin[2.e-6, 34]", [8, 24, 31], [8e-4, 4.05e-4, 6e-6]),
        (
            "[8.e-4, 0]lin[1.2e-3, 8]lin[1.2e-3, 14]cos[1.e-5, 24]lin[6.e-6, 34]",
            [4, 11, 29],
            [1e-3, 1.2e-3, 8e-6],
        ),
        (
            "[1.e-3, 0]lin[1.20e-3, 5]lin[1.20e-3, 10]cos[1.e-5, 19]lin[6.e-6, 26]",
            [2.5, 16],
            [1.1e-3, 6.05e-4],
        ),
        (
            "[8.e-4, 0]lin[1.e-3, 5]lin[1.e-3, 12]cos[1.e-5, 20]lin[6.e-6, 26]",
            [2.5, 16, 23],
            [9e-4, 7.1003571e-4, 8e-6],
        ),
    ],
)
def test_values_of_published_schedules(text: str, at: list[float], values: list[float]) -> None:
    schedule = parse(text)
    assert [schedule.value(epoch) for epoch in at] == pytest.approx(values, rel=1e-7)


@pytest.mark.parametrize("epoch", [-1e-9, -math.inf, math.nan])
def test_value_refuses_an_epoch_that_is_none(epoch: float) -> None:
    with pytest.raises(ValueError, match="expected 0 or more"):
        parse("[1, 0]").value(epoch)


@pytest.mark.parametrize("kind", ["lin", "cos", "hcos", "exp", "step"])
@pytest.mark.parametrize(("start", "end"), [("1e308", "1e-308"), ("1.7e308", "1.7e308"), ("5e-324", "1.7e308")])
def test_the_largest_and_smallest_numbers_do_not_overflow(kind: str, start: str, end: str) -> None:
    schedule = parse(f"[{start}, 0] {kind}[{end}, 1e308]")
    low, high = sorted((float(start), float(end)))
    assert all(low <= schedule.value(s * 1e308) <= high for s in (1e-300, 0.1, 0.5, 0.999999))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("[1.6e308, 0] hcos[0, 3]", 1.2e308),
        ("[1e-300, 0] exp[1e300, 3]", 1e-100),
        ("[1e300, 0] exp[1e-300, 3]", 1e100),
    ],
)
def test_a_segment_between_far_numbers_is_exact_within(text: str, value: float) -> None:
    assert parse(text).value(1) == pytest.approx(value, rel=1e-12)


def test_epoch_values_are_the_steps_of_one_epoch() -> None:
    assert parse("[0, 0] lin[8, 2]").epoch_values(1, 4) == [4, 5, 6, 7]


def test_epoch_values_crosses_a_knot_inside_the_epoch() -> None:
    assert parse("[1, 0] step[0, 2.5]").epoch_values(2, 4) == [1, 1, 0, 0]


@pytest.mark.parametrize(("epoch_index", "steps"), [(-1, 4), (0, 0), (0, -3)])
def test_epoch_values_refuses_what_is_no_epoch(epoch_index: int, steps: int) -> None:
    with pytest.raises(ValueError, match="expected"):
        parse("[1, 0]").epoch_values(epoch_index, steps)


# What a schedule tells about itself


def test_parts() -> None:
    assert parse("[1e-3, 0] lin[2e-3, 6] cos[0, +20.5]") == Schedule(
        1e-3, (Segment("lin", 2e-3, 6.0), Segment("cos", 0.0, 26.5))
    )


def test_knots() -> None:
    assert parse("[1, 0] step[2, 3]").knots == (Knot(value=1, epoch=0), Knot(value=2, epoch=3))


def test_a_first_knot_alone_is_a_constant() -> None:
    schedule = parse("[0.1, 0]")
    assert (schedule.value(0), schedule.value(7.5), schedule.last_epoch) == (0.1, 0.1, 0)


def test_last_epoch() -> None:
    assert parse("[1, 0] lin[2, 3] lin[2, +1.5]").last_epoch == 4.5


@pytest.mark.parametrize(
    ("text", "peak", "peak_epoch"),
    [
        ("[1e-3, 0] cos[1e-5, 20]", 1e-3, 0),
        ("[8e-4, 0] lin[1e-3, 5] lin[1e-3, 12] cos[1e-5, 20]", 1e-3, 5),
        ("[1, 0] step[2, 3] lin[1, 4]", 2, 3),
        ("[1, 0] lin[0, 1] lin[1, 2]", 1, 0),
        ("[0.1, 0]", 0.1, 0),
    ],
)
def test_peak(text: str, peak: float, peak_epoch: float) -> None:
    schedule = parse(text)
    assert (schedule.peak, schedule.peak_epoch) == (peak, peak_epoch)


@pytest.mark.parametrize(
    ("text", "peak_end"),
    [
        ("[8e-4, 0] lin[1e-3, 5] lin[1e-3, 12] cos[1e-5, 20]", 12),
        ("[1e-3, 0] cos[1e-5, 20]", 0),
        ("[1e-3, 0] step[1e-4, 80] step[1e-5, 120]", 80),
        ("[1e-4, 0] lin[1e-3, 5] lin[1e-4, 10] lin[1e-3, 15] lin[1e-4, 20]", 15),
        ("[1e-3, 0]", math.inf),
        ("[1e-4, 0] lin[1e-3, 5]", math.inf),
    ],
)
def test_the_peak_ends_where_it_is_left_for_good(text: str, peak_end: float) -> None:
    assert parse(text).peak_end == peak_end


def test_equal_texts_make_equal_keys() -> None:
    assert len({parse("[1.e-3,0]lin[1,5]"), parse("[1e-3, 0] lin[1.0, +5]")}) == 1


def test_schedules_survive_pickle() -> None:
    schedule = parse("[1e-3, 0] cos[1e-5, 20]")
    schedule.value(1)  # fills the caches, which travel too
    assert pickle.loads(pickle.dumps(schedule)) == schedule  # noqa: S301


def test_schedules_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        parse("[1, 0]").start = 2  # type: ignore[misc]


@pytest.mark.parametrize(
    ("start", "segments"),
    [
        (-1.0, ()),
        (math.nan, ()),
        (1.0, (Segment("lin", math.inf, 1.0),)),
        (1.0, (Segment("lin", 1.0, 0.0),)),
        (1.0, (Segment("lin", 1.0, math.inf),)),
        (1.0, (Segment("lin", 1.0, math.nan),)),
        (0.0, (Segment("exp", 1.0, 1.0),)),
        (1.0, (Segment("exp", 0.0, 1.0),)),
        (1.0, (Segment("cubic", 1.0, 1.0),)),  # type: ignore[arg-type]
    ],
)
def test_a_schedule_made_by_hand_keeps_the_rules(start: float, segments: tuple[Segment, ...]) -> None:
    with pytest.raises(ValueError, match=r"of knot \d: expected"):
        Schedule(start, segments)


# Canonical text


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("[1.e-3, 0] lin[1.2e-3, 6] cos[1.e-5, 20]", "[1e-3, 0] lin[1.2e-3, 6] cos[1e-5, 20]"),
        ("[1.e-3,0]lin[1.2e-3,+6]cos[1.e-5,+14]", "[1e-3, 0] lin[1.2e-3, 6] cos[1e-5, 20]"),
        ("\n [ .5 , 0.0 ]\tlin [ 05.0 , + 2.50 ] ", "[0.5, 0] lin[5, 2.5]"),
        ("[0.01, 0]", "[0.01, 0]"),
        ("[0.0099, 0]", "[9.9e-3, 0]"),
        ("[0.00125, 0]", "[1.25e-3, 0]"),
        ("[0e7, 0]", "[0, 0]"),
        ("[1E+2, 0]", "[100, 0]"),
        ("[123456789.5, 0]", "[123456789.5, 0]"),
        ("[1e16, 0]", "[1e16, 0]"),
        ("[.1e-9, 0] hcos[26, 1e-3]", "[1e-10, 0] hcos[26, 1e-3]"),
        ("[0.30000000000000004, 0]", "[0.30000000000000004, 0]"),
    ],
)
def test_canonical_text(text: str, canonical: str) -> None:
    assert str(parse(text)) == canonical


def test_a_negative_zero_is_written_as_zero() -> None:
    assert str(Schedule(-0.0)) == "[0, 0]"


# Errors


@pytest.mark.parametrize(
    ("text", "caret", "expected"),
    [
        ("", 0, "'['"),
        ("   ", 3, "'['"),
        ("lin[1, 2]", 0, "'['"),
        ("0.1", 0, "'['"),
        ("[", 1, "a number"),
        ("[, 0]", 1, "a number"),
        ("[-1, 0]", 1, "a number"),
        ("[+1, 0]", 1, "a number"),
        ("[inf, 0]", 1, "a number"),
        ("[lr, 0]", 1, "a number"),
        ("[0.8*lr, 0]", 5, "a number"),
        ("[²x, 0]", 1, "a number"),
        ("[e5, 0]", 1, "a number"),
        ("[1_000, 0]", 2, "','"),
        ("[1.2.3, 0]", 4, "','"),
        ("[1e, 0]", 2, "','"),
        ("[1 2, 0]", 3, "','"),
        ("[1; 0]", 2, "','"),
        ("[1e999, 0]", 1, "a finite number"),
        ("[1, 1]", 4, "0, the epoch of the first knot"),
        ("[1, +0]", 4, "0, the epoch of the first knot"),
        ("[1, -0]", 4, "a number"),
        ("[1, warmup]", 4, "a number"),
        ("[1, 0", 5, "']'"),
        ("[1, 0, 2]", 5, "']'"),
        ("[1, 0*2]", 5, "']'"),
        ("[1, 0][1, 1]", 6, "a segment (lin, cos, hcos, exp, step) or the end"),
        ("[1, 0], lin[1, 1]", 6, "a segment (lin, cos, hcos, exp, step) or the end"),
        ("[1, 0] linear[1, 1]", 7, "a segment (lin, cos, hcos, exp, step) or the end"),
        ("[1, 0] LIN[1, 1]", 7, "a segment (lin, cos, hcos, exp, step) or the end"),
        ("[1, 0] 5", 7, "a segment (lin, cos, hcos, exp, step) or the end"),
        ("[1, 0] lin", 10, "'['"),
        ("[1, 0] lin(1, 1)", 10, "'['"),
        ("[1, 0] lin[1, ++1]", 15, "a number"),
        ("[1, 0] lin[1, 0]", 14, "an epoch after 0"),
        ("[1, 0] lin[1, 6] lin[1, 6]", 24, "an epoch after 6"),
        ("[1, 0] lin[1, 6] lin[1, 5.5]", 24, "an epoch after 6"),
        ("[1, 0] lin[1, 6] lin[1, +0]", 24, "an epoch after 6"),
        ("[1, 0] lin[1, 6] lin[1, + 1e-20]", 24, "an epoch after 6"),
        ("[1, 0] lin[1, 1e999]", 14, "a finite number"),
        ("[1, 0] lin[1, 1e308] lin[1, +1e308]", 28, "a finite epoch"),
        ("[0, 0] exp[1, 5]", 1, "a value above 0 where exp starts"),
        ("[1, 0] lin[0, 5] exp[1, 9]", 11, "a value above 0 where exp starts"),
        ("[1, 0] exp[0, 5]", 11, "a value above 0 where exp ends"),
    ],
)
def test_an_error_shows_its_place_and_what_was_expected(text: str, caret: int, expected: str) -> None:
    with pytest.raises(ScheduleError) as caught:
        parse(text)
    reason, shown, pointer = str(caught.value).split("\n")
    assert (caught.value.text, caught.value.position, caught.value.expected) == (text, caret, expected)
    assert reason.startswith(f"expected {expected}, found ")
    assert (shown, pointer) == (text, " " * caret + "^")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[1, 0] lim[1, 2]", "expected a segment (lin, cos, hcos, exp, step) or the end, found 'lim'"),
        ("[1, 0", "expected ']', found the end"),
        ("[1, 0] lin[1, 6] lin[1, 3]", "expected an epoch after 6, found 3"),
        ("[1, 0] lin[1, 6] lin[1, +1e-20]", "expected an epoch after 6, found 6 from +1e-20"),
    ],
)
def test_reason(text: str, reason: str) -> None:
    with pytest.raises(ScheduleError, match=f"^{re.escape(reason)}\n"):
        parse(text)


def test_line_breaks_and_tabs_are_shown_as_spaces_so_that_the_caret_fits() -> None:
    with pytest.raises(ScheduleError) as caught:
        parse("[1, 0]\n\tlin[1;\r\n 2]")
    assert str(caught.value).split("\n")[1:] == ["[1, 0]  lin[1;   2]", "             ^"]


def test_an_error_survives_pickle() -> None:
    error = ScheduleError("[1; 0]", 2, "','")
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert (str(copy), copy.text, copy.position, copy.expected) == (str(error), "[1; 0]", 2, "','")


# Templates


def test_fill() -> None:
    filled = parse_template(STUDY).fill({"lr": 1e-3, "warmup": 5, "plateau": 7, "decay": 8})
    assert str(filled) == "[8e-4, 0] lin[1e-3, 5] lin[1e-3, 12] cos[1e-5, 20] lin[6e-6, 26]"


def test_parameters_are_told_apart_by_where_they_stand() -> None:
    template = parse_template("[a, 0] lin[2*b, t] cos[a, +u]")
    assert template.value_parameters == {"a", "b"}
    assert template.epoch_parameters == {"t", "u"}
    assert template.parameters == {"a", "b", "t", "u"}


def test_a_template_without_parameters_is_filled_with_nothing() -> None:
    assert parse_template("[1, 0] lin[2, 3]").fill({}) == parse("[1, 0] lin[2, 3]")


def test_a_parameter_may_be_called_like_a_segment() -> None:
    assert parse_template("[lin, 0] cos[2 * cos, + λ_1]").fill({"lin": 1, "cos": 3, "λ_1": 4}) == parse(
        "[1, 0] cos[6, 4]"
    )


def test_fill_ignores_parameters_of_others() -> None:
    assert parse_template("[lr, 0]").fill({"lr": 1, "weight_decay": "unused"}) == parse("[1, 0]")  # type: ignore[dict-item]


def test_templates_survive_pickle() -> None:
    template = parse_template(STUDY)
    assert pickle.loads(pickle.dumps(template)) == template  # noqa: S301


@pytest.mark.parametrize(
    ("text", "caret", "expected"),
    [
        ("[, 0]", 1, "a number, a parameter or number*parameter"),
        ("[²x, 0]", 1, "a number, a parameter or number*parameter"),
        ("[lr*0.8, 0]", 3, "','"),
        ("[0.8lr, 0]", 4, "','"),
        ("[0.8*, 0]", 5, "a parameter"),
        ("[0.8*2, 0]", 5, "a parameter"),
        ("[2*3*lr, 0]", 3, "a parameter"),
        ("[lr, start]", 5, "0, the epoch of the first knot"),
        ("[lr, 0] lin[lr, -warmup]", 16, "a number or a parameter"),
        ("[lr, 0] lin[lr, 2*warmup]", 17, "']'"),
        ("[lr, 0] lin[lr, warmup", 22, "']'"),
    ],
)
def test_an_error_in_a_template_shows_its_place(text: str, caret: int, expected: str) -> None:
    with pytest.raises(ScheduleError) as caught:
        parse_template(text)
    assert (caught.value.position, caught.value.expected) == (caret, expected)


@pytest.mark.parametrize(
    ("values", "caret", "reason"),
    [
        ({}, 1, "no parameter 'lr'; known: none"),
        ({"lr": 1e-3, "decay": 8}, 20, "no parameter 'warmup'; known: decay, lr"),
        ({"warmup": 0}, 20, "expected an epoch after 0, found 0 from +warmup with warmup = 0"),
        (
            {"plateau": -2},
            STUDY.index("+plateau"),
            "expected an epoch after 5, found 3 from +plateau with plateau = -2",
        ),
        (
            {"decay": math.nan},
            STUDY.index("+decay"),
            "expected an epoch after 12, found nan from +decay with decay = nan",
        ),
        (
            {"decay": math.inf},
            STUDY.index("+decay"),
            "expected a finite epoch, found inf from +decay with decay = inf",
        ),
        ({"lr": -1e-3}, 1, "expected a finite value of 0 or more, found -8e-4 from 0.8*lr with lr = -1e-3"),
        ({"lr": math.inf}, 1, "expected a finite value of 0 or more, found inf from 0.8*lr with lr = inf"),
        ({"lr": "1e-3"}, 1, "expected a number for parameter 'lr', found '1e-3'"),
        ({"lr": True}, 1, "expected a number for parameter 'lr', found True"),
    ],
)
def test_fill_shows_the_place_of_a_number_that_breaks_a_rule(values: dict[str, float], caret: int, reason: str) -> None:
    known = {"lr": 1e-3, "warmup": 5, "plateau": 7, "decay": 8}
    filled = values if reason.startswith("no parameter") else known | values
    with pytest.raises(ScheduleError) as caught:
        parse_template(STUDY).fill(filled)
    assert str(caught.value) == f"{reason}\n{STUDY}\n{' ' * caret}^"


def test_fill_puts_the_caret_under_a_number_that_a_parameter_overtook() -> None:
    with pytest.raises(ScheduleError, match="expected an epoch after 12, found 10\n") as caught:
        parse_template("[lr, 0] lin[lr, +warmup] cos[0, 10]").fill({"lr": 1, "warmup": 12})
    assert caught.value.position == 32


def test_fill_refuses_a_zero_before_exp() -> None:
    with pytest.raises(ScheduleError, match="expected a value above 0 where exp starts") as caught:
        parse_template("[low, 0] exp[1, 5]").fill({"low": 0})
    assert caught.value.position == 1


# The room around it


def test_importing_it_loads_neither_torch_nor_numpy() -> None:
    check = "import sys, resnet_core.schedule; assert not {'torch', 'numpy'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", check], cwd=ROOT, check=True)


def test_every_schedule_in_the_reference_is_one() -> None:
    blocks = re.findall(r"```schedule\n(.*?)```", (ROOT / "docs" / "notation.md").read_text(encoding="utf-8"), re.S)
    texts = [line for block in blocks for line in block.splitlines() if line]
    assert len(texts) > 10
    for text in texts:
        parse(text)
