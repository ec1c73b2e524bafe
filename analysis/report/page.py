"""A page: one HTML file that loads nothing, with figures and tables in which one trial is highlighted everywhere.

Its style and script are in the file, the script allowed by its hash. Without scripts it can be read all the same.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib import resources
from typing import Any, Literal

from jinja2 import Environment, StrictUndefined, Template
from matplotlib.figure import Figure

from analysis.plots.inline import inline_svg, variables
from analysis.store.loader import Study
from analysis.tables.trials import deleted_notes, import_notes


@dataclass(frozen=True)
class Block:
    """A part of a section: a paragraph, why something is missing, code, notes, named facts, a table or a figure.

    Attributes:
        kind: which of these.
        content: text, in which what stands between backticks is code; of notes, several texts; of facts, pairs of
            what each is about and what is said; of a table or a figure, HTML, as `figure_block` and `analysis.render`
            make it.
        caption: what a table or a figure shows.
    """

    kind: Literal["text", "missing", "code", "notes", "facts", "table", "figure"]
    content: Any
    caption: str = ""


@dataclass(frozen=True)
class Section:
    """A section of a page.

    Attributes:
        key: id of the section in the file.
        title: heading of the section.
        blocks: its content, from top to bottom.
    """

    key: str
    title: str
    blocks: Sequence[Block]


def figure_block(figure: Figure, key: str, caption: str) -> Block:
    """Return a figure as a block.

    Args:
        figure: what to draw.
        key: a name that no other figure of the page has.
        caption: what it shows, for all who look and listen.
    """
    return Block("figure", inline_svg(figure, key, caption), caption)


def render_page(
    title: str,
    question: str,
    sections: Sequence[Section],
    made: datetime | None = None,
    study: Study | None = None,
    order: Sequence[int] = (),
    live: str = "",
) -> str:
    """Return sections as one HTML file, which needs no other file and no network.

    Args:
        title: name of the study.
        question: its description.
        sections: what the page shows, from top to bottom.
        made: time of the page; the default is now.
        study: the study, if anything is known of its trials.
        order: numbers of the trials from the best to the worst: the way that arrow keys go through a figure. If it is
            empty, they go as the figure has them.
        live: for a page that is served and asks for its next version: its own; else empty.
    """
    made = datetime.now(UTC) if made is None else made
    about = "" if study is None else f", {study.phase} phase, {len(study.trials)} trials"
    script = _file("page.js") + (_file("live.js") if live else "")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    asks = "'self'" if live else "'none'"
    policy = (
        "default-src 'none'; base-uri 'none'; form-action 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'; connect-src {asks}"
    )
    return _template().render(
        title=title,
        question=question,
        made=f"{'As of' if live else 'Report of'} {made:%Y-%m-%d %H:%M} UTC{about}.",
        origin="" if study is None else " ".join([*import_notes(study), *deleted_notes(study)]),
        sections=sections,
        order=order,
        live=live,
        style=_style(),
        script=script,
        policy=policy,
    )


@cache
def _style() -> str:
    colours = f":root {{ {variables(dark=False)} }}\n"
    colours += f"@media screen and (prefers-color-scheme: dark) {{ :root {{ {variables(dark=True)} }} }}\n"
    return colours + _file("page.css")


@cache
def _template() -> Template:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(_file("page.html.j2"))


def _file(name: str) -> str:
    return resources.files("analysis.report").joinpath(name).read_text(encoding="utf-8")
