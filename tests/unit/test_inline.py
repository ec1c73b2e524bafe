"""A figure as an SVG element: what it draws, what names its trials, and its colours on light and on dark paper."""

import itertools
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from matplotlib.figure import Figure

from analysis.plots.canvas import COLOURS, mark, new_figure
from analysis.plots.inline import PALETTE, inline_svg, variables

TEXTS = ["ink", "muted"]
MARKS = [name for name in PALETTE if name not in ("paper", "grid", "band")]
# Machado, Oliveira and Fernandes, IEEE TVCG 2009: how linear RGB looks to those who lack a kind of cone.
SEEN = {
    "all": np.eye(3),
    "protanopia": np.array([[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]]),
    "deuteranopia": np.array([[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]]),
    "tritanopia": np.array([[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]]),
}


def drawn(figure, key="k", label="what it shows"):
    return ET.fromstring(inline_svg(figure, key, label))


def marks(svg):
    return [(shape.get("data-trial"), shape.findtext("title")) for shape in svg.iter() if shape.get("data-trial")]


def linear(colour):
    parts = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)


def contrast(one, other):
    """WCAG 2.2's contrast ratio."""
    darker, lighter = sorted(float(linear(colour) @ [0.2126, 0.7152, 0.0722]) for colour in (one, other))
    return (lighter + 0.05) / (darker + 0.05)


def oklab(rgb):
    """Ottosson 2020, times 100: a distance of 2 is just seen."""
    cones = np.cbrt(
        np.array([[0.41222, 0.53633, 0.05145], [0.21190, 0.68070, 0.10740], [0.08830, 0.28172, 0.62998]])
        @ np.clip(rgb, 0, 1)
    )
    return 100 * (
        np.array([[0.21045, 0.79362, -0.00407], [1.97800, -2.42859, 0.45059], [0.02590, 0.78277, -0.80868]]) @ cones
    )


@pytest.fixture
def figure():
    figure = new_figure(4, 3)
    axes = figure.subplots()
    (line,) = axes.plot([1, 2, 3], [0.1, 0.5, 0.9], color=COLOURS[0], label="a curve")
    mark(line, [7], ["trial-7: <b> & more"])
    dots = axes.scatter([1, 2, 3, 4], [0.2, np.nan, 0.4, 0.6], color=COLOURS[1])
    mark(dots, [0, 1, 2, 3], ["zero", "one", "two", "three"])
    axes.set_ylabel("accuracy")
    axes.legend()
    return figure


def test_every_shape_has_its_trial_and_its_text(figure):
    assert marks(drawn(figure)) == [("0", "zero"), ("2", "two"), ("3", "three"), ("7", "trial-7: <b> & more")]


def test_it_is_an_image_with_a_label(figure):
    svg = drawn(figure, label='"loss" < 1')
    assert (svg.get("role"), svg.get("aria-label"), svg.get("viewBox")) == ("img", '"loss" < 1', "0 0 384 288")


def test_its_text_is_text(figure):
    texts = [text.text for text in drawn(figure).iter("text")]
    assert {"accuracy", "a curve", "1.0"} <= set(texts)


def test_a_space_ahead_of_a_text_is_kept():
    figure = new_figure(4, 3)
    figure.subplots().text(0.5, 0.5, " rank 1")
    assert "\u00a0rank\u00a01" in [text.text for text in drawn(figure).iter() if text.tag.endswith("text")]


def test_a_curve_goes_through_its_points():
    figure = Figure((4, 3))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, 4), ylim=(0, 3))
    axes.plot([0, 1, 2, np.nan, 3, 4], [0, 1, 1, 2, 2, 3], color=COLOURS[0])
    paths = [path.get("d") for path in drawn(figure).iter("path")]
    assert "M0 288l96-96 96 0M288 96l96-96" in paths


def test_dots_of_one_look_share_a_shape_and_a_group(figure):
    svg = drawn(figure)
    (group,) = [group for group in svg.iter("g") if group.findall("use")]
    assert len({use.get("href") for use in group}) == 1
    assert [use.get("data-trial") for use in group] == ["0", "2", "3"]


def places(**look):
    figure = new_figure(4, 3)
    dots = figure.subplots().scatter([1, 2, 3], [0.2, 0.8, 0.4], **look)
    mark(dots, [4, 5, 6], ["four", "five", "six"])
    svg = drawn(figure)
    return marks(svg), [(use.get("x"), use.get("y")) for use in svg.iter("use") if use.get("data-trial")]


def test_dots_of_one_look_are_where_they_are_with_a_look_each():
    named, at = places(color=COLOURS[0])
    assert (named, at) == places(color=[COLOURS[0], COLOURS[1], COLOURS[0]])
    assert len(set(at)) == 3
    assert named == [("4", "four"), ("5", "five"), ("6", "six")]


def test_marks_that_are_too_short_to_refer_to_are_all_drawn():
    named, at = places(marker="_")
    assert (named, at) == ([("4", "four"), ("5", "five"), ("6", "six")], [])


def test_ids_begin_with_the_key_and_are_those_that_are_asked_for(figure):
    text = inline_svg(figure, "slices-1", "")
    svg = ET.fromstring(text)
    ids = {shape.get("id") for shape in svg.iter() if shape.get("id")}
    asked = {use.get("href")[1:] for use in svg.iter("use")}
    asked |= {shape.get("clip-path")[5:-1] for shape in svg.iter() if shape.get("clip-path")}
    assert ids == asked
    assert all(name.startswith("slices-1-") for name in ids)


def test_colours_are_those_of_the_page(figure):
    svg = drawn(figure)
    used = {shape.get(kind) for shape in svg.iter() for kind in ("fill", "stroke") if shape.get(kind)} - {"none"}
    assert used == {f"var(--{name})" for name in ("paper", "ink", "grid", "c0", "c1")}


def test_a_colour_that_the_page_does_not_have_stays():
    figure = new_figure(2, 2)
    figure.subplots().plot([0, 1], color="#123456")
    assert 'stroke="#123456"' in inline_svg(figure, "k", "")


def test_text_is_no_smaller_than_ten_pixels_at_its_narrowest():
    figure = new_figure(4, 3)
    figure.text(0.5, 0.5, "small", fontsize=6)  # 8 CSS pixels
    assert drawn(figure).get("style") == "min-width:480px"


def test_the_figure_is_left_as_it_was(figure):
    inline_svg(figure, "k", "")
    assert (figure.dpi, figure.patch.get_visible()) == (100, True)
    assert figure.axes[0].lines[0].get_url() is None


def test_the_same_figure_is_the_same_text(figure):
    assert inline_svg(figure, "k", "") == inline_svg(figure, "k", "")


def test_a_formula_is_drawn_as_shapes():
    figure = new_figure(2, 2)
    figure.text(0.1, 0.5, "$10^{-3}$")
    svg = drawn(figure)
    assert not list(svg.iter("text"))
    assert len(list(svg.iter("path"))) == 1


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("name", MARKS)
def test_a_curve_stands_out_from_its_paper(name, dark):
    least = 4.5 if name in TEXTS else 3
    assert contrast(PALETTE[name][dark], PALETTE["paper"][dark]) >= least


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("eyes", SEEN)
def test_colours_are_told_apart_by_all_eyes(eyes, dark):
    names = [name for name in MARKS if name != "muted"]  # of grey lines, beside those of trials
    seen = {name: oklab(SEEN[eyes] @ linear(PALETTE[name][dark])) for name in names}
    near = {pair: np.linalg.norm(seen[pair[0]] - seen[pair[1]]) for pair in itertools.combinations(names, 2)}
    assert min(near.values()) > 8, min(near, key=near.get)


def test_every_colour_is_declared_for_both_papers():
    for dark in (False, True):
        assert variables(dark=dark).count("--") == len(PALETTE)
