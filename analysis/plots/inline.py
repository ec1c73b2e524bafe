"""A figure as an SVG element of a page: small, its text selectable, its colours those of the page, its trials named.

Matplotlib draws; what it draws on is a renderer of ours, since its own SVG has fixed colours, long coordinates, and no
place for what a shape stands for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from html import escape
from itertools import cycle
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.backend_bases import GraphicsContextBase, RendererBase
from matplotlib.collections import Collection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.path import Path
from matplotlib.text import Text
from matplotlib.transforms import BboxTransformTo

from analysis.plots.canvas import COLOURS, marks_of, without_font_warnings

_DPI = 96  # so that a length in the SVG is one of CSS
_SMALLEST_TEXT = 10.0  # CSS pixels
_SHORT = 3  # points of a path that is shorter than a reference to it, such as the mark of a tick

PALETTE = {
    "paper": ("#ffffff", "#15191d"),
    "ink": ("#000000", "#f5f5f2"),
    "muted": ("#595959", "#a8adb3"),
    "grid": ("#c4c4c4", "#454b52"),
    "band": ("#ebebeb", "#23292f"),
    "c0": ("#06488d", "#3b6fca"),
    "c1": ("#bb6a00", "#ff6506"),
    "c2": ("#0c7767", "#19ae80"),
    "c3": ("#998abb", "#b084dd"),
    "c4": ("#51381a", "#e6d345"),
    "c5": ("#1874fb", "#a7c8f2"),
}
"""The page's colours by name, each on light and on dark paper.

All but grid and band, which say nothing by themselves, have a contrast of 3 and more with the paper (WCAG 2.2, 1.4.11),
ink and muted one of 4.5 and more (1.4.3). The others can be told apart with any kind of colour-blindness.
"""

_NAMES = {
    **{colour.lower(): f"c{place}" for place, colour in enumerate(COLOURS[:6])},
    **{"#d62728": "c1", "#1f77b4": "c0", "#008000": "c2", "#ff0000": "c1"},
    **{"#ffffff": "paper", "#000000": "ink", "#b0b0b0": "grid", "#cccccc": "grid", "#ebebeb": "band"},
    **dict.fromkeys(("#737373", "#696969", "#4c4c4c", "#4d4d4d", "#808080"), "muted"),
}
"""The name in PALETTE of each colour that figures are drawn with."""


def inline_svg(figure: Figure, key: str, label: str) -> str:
    """Return a figure as an ``svg`` element to put into a page.

    Each shape that `analysis.plots.canvas.mark` said the trial of has the attribute ``data-trial`` with the trial's
    number, and a ``title`` child with the text. Colours are CSS variables, ``var(--c0)`` and so on, which `variables`
    declares; colours that PALETTE lacks stay as they are. The element has ``role="img"``, the label, and as its
    ``min-width`` the width below which its text would be smaller than 10 CSS pixels. Hatches are left out.

    Args:
        figure: the figure; it is left as it was.
        key: a name that no other figure of the page has; ids begin with it.
        label: what the figure shows, for those who do not see it.
    """
    marked = [(artist, marks) for artist in figure.findobj() if (marks := marks_of(artist))]
    trials = [mark for _, marks in marked for mark in marks]
    dpi, face = figure.dpi, figure.patch.get_visible()
    place = 0
    try:
        figure.set_dpi(_DPI)
        figure.patch.set_visible(False)
        for artist, marks in marked:
            # A shape's URL is all that matplotlib tells a renderer of what the shape is.
            _set_urls(artist, [str(place + i) for i in range(len(marks))])
            place += len(marks)
        renderer = _Renderer(figure, key, trials)
        with without_font_warnings():
            figure.draw(renderer)
    finally:
        for artist, _ in marked:
            _set_urls(artist, [])
        figure.patch.set_visible(face)
        figure.set_dpi(dpi)
    return renderer.element(label)


def variables(*, dark: bool) -> str:
    """Return the CSS declarations of the variables that figures have as colours, on light or on dark paper."""
    return " ".join(f"--{name}: {colours[dark]};" for name, colours in PALETTE.items())


def _set_urls(artist: Artist, urls: Sequence[str]) -> None:
    if isinstance(artist, Collection):
        artist.set_urls(list(urls) or [None])
    else:
        artist.set_url(urls[0] if urls else None)


class _Renderer(RendererBase):
    """Writes an SVG element. The methods without a docstring are those of matplotlib's renderers."""

    def __init__(self, figure: Figure, key: str, trials: Sequence[tuple[int, str]]) -> None:
        super().__init__()
        self.key, self.trials = key, trials
        self.width, self.height = (float(size) for size in figure.get_size_inches() * _DPI)
        self.shapes: list[str] = []
        self.definitions: list[str] = []
        self._clips: dict[Any, str] = {}
        self._symbols: dict[tuple[Any, ...], tuple[str, Path]] = {}  # with the path, so that its id stays its own
        self._style = ""  # of the group that is open
        self._repeated = False  # whether what is drawn now is one shape at many places
        self._symbol_at: tuple[str, float, float] | None = None  # the symbol that was drawn last, and where
        self._smallest_text = math.inf

    def element(self, label: str) -> str:
        """Return what was drawn as an element."""
        self._use_style("")
        narrowest = self.width * _SMALLEST_TEXT / self._smallest_text
        defined = f"<defs>{''.join(self.definitions)}</defs>" if self.definitions else ""
        return (
            f'<svg viewBox="0 0 {_number(self.width)} {_number(self.height)}" role="img" aria-label="{escape(label)}" '
            f'style="min-width:{math.ceil(narrowest)}px">{defined}{"".join(self.shapes)}</svg>'
        )

    def get_canvas_width_height(self) -> tuple[float, float]:
        return self.width, self.height

    def points_to_pixels(self, points: Any) -> Any:
        return points * _DPI / 72

    def draw_markers(self, *args: Any, **kwargs: Any) -> None:
        self._repeated = True
        super().draw_markers(*args, **kwargs)
        self._repeated = False

    def draw_path_collection(self, *args: Any, **kwargs: Any) -> None:
        gc, master, paths, transforms, offsets, offset_transform, *looks, antialiased, urls, position = args
        places = offset_transform.transform(offsets)
        self._repeated = len(places) > 1
        alike = self._repeated and len(paths) == 1 and len(paths[0].vertices) > _SHORT and np.isfinite(places).all()
        alike = alike and max(map(len, (transforms, *looks))) <= 1
        drawn, self._symbol_at = offsets[:1] if alike else offsets, None
        super().draw_path_collection(
            *(gc, master, paths, transforms, drawn, offset_transform, *looks, antialiased, urls, position), **kwargs
        )
        if alike and self._symbol_at is not None:
            # What is drawn thousands of times differs in place and name alone.
            symbol, x, y = self._symbol_at
            moved = (places - places[0]) * (1, -1) + (x, y)
            for (x, y), url in list(zip(moved.tolist(), cycle(urls), strict=False))[1:]:
                self.shapes.append(self._named(_reference(symbol, x, y), url))
        self._repeated = False

    def draw_path(self, gc: GraphicsContextBase, path: Any, transform: Any, rgbFace: Any = None) -> None:  # noqa: N803
        if self._repeated and len(path.vertices) > _SHORT:
            matrix = transform.get_matrix()
            self._symbol_at = self._symbol(path, matrix), float(matrix[0, 2]), self.height - float(matrix[1, 2])
            shape = _reference(*self._symbol_at)
        elif data := self._data(path, transform):
            shape = f'path d="{data}"'
        else:
            return
        self._use_style(self._path_style(gc, rgbFace))
        self.shapes.append(self._named(shape, gc.get_url()))

    def draw_text(
        self,
        gc: GraphicsContextBase,
        x: float,
        y: float,
        s: str,
        prop: FontProperties,
        angle: float,
        ismath: Any = False,
        mtext: Text | None = None,
    ) -> None:
        if ismath:  # a formula has glyphs of several sizes
            super().draw_text(gc, x, y, s, prop, angle, ismath, mtext)
            return
        size = float(self.points_to_pixels(prop.get_size_in_points()))
        self._smallest_text = min(self._smallest_text, size)
        anchor = "start"
        if mtext is not None and (angle == 0 or mtext.get_rotation_mode() == "anchor"):
            # The reader's font may be wider than the one that was measured: hold the text where it is aligned.
            ax, ay = mtext.get_transform().transform(mtext.get_unitless_position())
            ay = self.height - ay
            down = np.array([math.sin(math.radians(angle)), math.cos(math.radians(angle))])
            x, y = np.array([ax, ay]) + down * np.dot(down, [x - ax, y - ay])
            anchor = {"left": "start", "center": "middle", "right": "end"}[mtext.get_horizontalalignment()]
        elif mtext is not None and angle % 180 == 90:
            # A text that is turned to stand upright, such as the label of an axis, is held at its middle.
            width, _, _ = self.get_text_width_height_descent(s, prop, ismath)
            y, anchor = y - math.sin(math.radians(angle)) * width / 2, "middle"
        style = f'fill="{_colour(gc.get_rgb())}" font-size="{_number(size)}"'
        if prop.get_weight() not in ("normal", "regular", 400):
            style += ' font-weight="bold"'
        if anchor != "start":
            style += f' text-anchor="{anchor}"'
        turned = f' transform="rotate({_number(-angle)} {_number(x)} {_number(y)})"' if angle else ""
        self._use_style(style)
        kept = s.replace(" ", "\u00a0") if s != s.strip() else s  # SVG leaves out spaces at a text's ends
        self.shapes.append(f'<text x="{_number(x)}" y="{_number(y)}"{turned}>{escape(kept)}</text>')

    def _data(self, path: Any, transform: Any) -> str:
        """Return a path as an SVG has it."""
        drawn = transform.transform_path(path)
        return _path_data(drawn.vertices * (1, -1) + (0, self.height), drawn.codes)

    def _path_style(self, gc: Any, face: Any) -> str:
        """Return the attributes of a shape's colours, line and clipping."""
        alpha, dashes = gc.get_alpha() if gc.get_forced_alpha() else None, gc.get_dashes()[1]
        style = _style(
            *(None if face is None else tuple(face), tuple(gc.get_rgb()), alpha),
            self.points_to_pixels(gc.get_linewidth()),
            () if dashes is None else tuple(self.points_to_pixels(length) for length in dashes),
        )
        clip = self._clip(gc)
        return f'{style} clip-path="url(#{clip})"' if clip else style

    def _clip(self, gc: Any) -> str:
        """Return the id of what a shape is cut to; empty if it is not cut."""
        path, transform = gc.get_clip_path()
        if path is not None:
            cut: Any = self._data(path, transform)
        elif (box := gc.get_clip_rectangle()) is not None:
            cut = box.extents.tobytes()
        else:
            return ""
        if cut not in self._clips:
            self._clips[cut] = f"{self.key}-clip{len(self._clips)}"
            data = cut if path is not None else self._data(Path.unit_rectangle(), BboxTransformTo(box))
            self.definitions.append(f'<clipPath id="{self._clips[cut]}"><path d="{data}"/></clipPath>')
        return self._clips[cut]

    def _symbol(self, path: Path, matrix: Any) -> str:
        """Return the id of a shape that is drawn at many places."""
        known = (id(path), *matrix[:2, :2].flat)
        if known not in self._symbols:
            name = f"{self.key}-mark{len(self._symbols)}"
            self._symbols[known] = name, path
            data = _path_data(np.asarray(path.vertices) @ matrix[:2, :2].T * (1, -1), path.codes)
            self.definitions.append(f'<path id="{name}" d="{data}"/>')
        return self._symbols[known][0]

    def _use_style(self, style: str) -> None:
        """Draw what comes in a group of this style; shapes of one style in a row share a group."""
        if style != self._style:
            self.shapes.append("</g>" * bool(self._style) + f"<g {style}>" * bool(style))
            self._style = style

    def _named(self, shape: str, url: str | None) -> str:
        """Return a shape as an element, with its trial if it has one."""
        if not url:
            return f"<{shape}/>"
        number, text = self.trials[int(url)]
        return f'<{shape} data-trial="{number}"><title>{escape(text)}</title></{shape.partition(" ")[0]}>'


def _reference(symbol: str, x: float, y: float) -> str:
    """Return the inside of the tag that draws a symbol at a place."""
    return f'use href="#{symbol}" x="{_number(x)}" y="{_number(y)}"'


@lru_cache(maxsize=1 << 12)  # thousands of curves look alike
def _style(
    face: tuple[float, ...] | None,
    line: tuple[float, ...],
    alpha: float | None,
    width: float,
    dashes: tuple[float, ...],
) -> str:
    """Return the attributes of a shape's colours and line; lengths in pixels."""
    found = ['fill="none"'] if face is None else [f'fill="{_colour(face)}"', *_opacity("fill", alpha, face)]
    if width and line[3]:
        found.append(f'stroke="{_colour(line)}" stroke-width="{_number(width)}"')
        found += _opacity("stroke", alpha, line)
        if dashes:
            found.append(f'stroke-dasharray="{" ".join(map(_number, dashes))}"')
    return " ".join(found)


def _opacity(kind: str, alpha: float | None, colour: Any) -> list[str]:
    """Return the attribute of an opacity below 1: the artist's, or else the colour's own."""
    opacity = alpha if alpha is not None else colour[3] if len(colour) == 4 else 1.0
    return [f'{kind}-opacity="{opacity:.2g}"'] if opacity < 1 else []


def _colour(colour: Any) -> str:
    """Return a colour as an attribute's value."""
    text = to_hex(colour)
    return f"var(--{_NAMES[text]})" if text in _NAMES else text


@lru_cache(maxsize=1 << 16)
def _tenths(number: int) -> str:
    """Return a number of tenths as a text in units: 12 as 1.2, 10 as 1, -3 as -.3."""
    whole, rest = divmod(abs(number), 10)
    return "-" * (number < 0) + (str(whole) if whole or not rest else "") + (f".{rest}" if rest else "")


def _number(value: float) -> str:
    return _tenths(round(value * 10))


_COMMANDS = {Path.CURVE3: ("Q", 2), Path.CURVE4: ("C", 3)}


def _path_data(points: Any, codes: Any) -> str:
    """Return a path as an SVG has it, in tenths of a pixel, with gaps at points that are not finite.

    Args:
        points: shape (points, 2), y downwards.
        codes: matplotlib's code of each point; None: straight lines.
    """
    points = np.asarray(points, dtype=float)
    finite = np.isfinite(points).all(axis=1)
    places = np.rint(np.where(finite[:, None], points, 0).clip(-1e5, 1e5) * 10).astype(int)
    if codes is None:
        return _line_data(places, finite)
    found, i, kinds = [], 0, np.asarray(codes).tolist()
    texts = [f"{_tenths(x)} {_tenths(y)}" for x, y in places.tolist()]
    while i < len(kinds):
        command, length = _COMMANDS.get(kinds[i], ("M" if kinds[i] == Path.MOVETO else "L", 1))
        if kinds[i] == Path.CLOSEPOLY:
            found.append("z")
        elif kinds[i] != Path.STOP and finite[i : i + length].all():
            found.append(command + " ".join(texts[i : i + length]))
        i += length
    return "".join(found)


def _line_data(places: Any, finite: Any) -> str:
    """Return straight lines between points in tenths of a pixel, the next relative to the one before."""
    found = list[str]()
    before: list[int] | None = None
    for place, known in zip(places.tolist(), finite.tolist(), strict=True):
        if not known:
            before = None
            continue
        if before is None:
            found.append(f"M{_tenths(place[0])} {_tenths(place[1])}")
        elif place != before:
            down = _tenths(place[1] - before[1])
            right = _tenths(place[0] - before[0])
            joint = "l" if found[-1][0] == "M" else "" if right[0] == "-" else " "
            found.append(f"{joint}{right}{'' if down[0] == '-' else ' '}{down}")
        before = place
    return "".join(found)
