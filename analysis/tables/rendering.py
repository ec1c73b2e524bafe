"""Tables as text: for the terminal, Markdown, CSV, LaTeX, HTML and JSON."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from html import escape
from typing import Any, Literal, get_args

import pandas as pd

from analysis.tables.columns import ALWAYS, Kind, column_named, importance
from resnet_core.objective import METRIC
from resnet_core.records import Outcome

Style = Literal["text", "markdown", "csv", "latex", "html", "json"]

_SHORTEST = 12


def render(
    table: pd.DataFrame,
    style: Style,
    *,
    columns: Sequence[str] | None = None,
    width: int | None = None,
    notes: Sequence[str] = (),
    caption: str = "",
) -> str:
    """Return a table as text that ends in a newline.

    In text, markdown, latex and html, losses and accuracies have four decimals, and times their unit. Without a
    crossing, `>N` stands for a trial that ended or was pruned below the target at epoch N, and a dash for one that
    diverged or is running. csv and json have plain values in full precision, and nothing (csv) or null (json) for a
    missing value.

    Args:
        table: what `build_table`, `build_cost` or `build_transitions` returned, or rows of it.
        style: text, markdown, csv, latex (a booktabs tabular), html (a table element) or json (a list of objects).
        columns: names of the columns to show, in this order; csv and json have all of them. The default is all but
            settings that are the same in all trials; a sentence below the table lists these.
        width: for text, columns of the terminal. To fit, long texts are shortened with an ellipsis, to no less than
            12 characters; then the least important columns are left out, and a note says which. Nothing is
            shortened or left out without a width.
        notes: sentences such as `footnotes` returns, put below the table; csv and json omit them.
        caption: for html, what the table shows, put above it. A row whose index is named ``number`` has the trial's
            number as ``data-trial``; a duration has its seconds or hours as ``data-value``, which sorts it.

    Raises:
        ValueError: the style is none of these.
    """
    if style == "csv":
        return _csv(table)
    if style == "json":
        return json.dumps(_plain_rows(table), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    if columns is None:
        table, told = fold_constants(table)
        columns, notes = [str(name) for name in table], [*notes, *told]
    cells = [_Cells(table, name) for name in columns]
    rows = [[column.shown(row) for column in cells] for row in table.to_dict("records")]
    if style == "text":
        return _text(cells, rows, width, notes)
    if style == "markdown":
        return _markdown(cells, rows, notes)
    if style == "latex":
        return _latex(cells, rows, notes)
    if style == "html":
        return _html(table, cells, rows, notes, caption)
    raise ValueError(f"style = {style!r}: expected one of {', '.join(get_args(Style))}")


def fold_constants(table: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Return a table without the settings that are the same in all trials, and a sentence that lists these.

    Args:
        table: what `build_table` returned, or rows of it.
    """
    same: dict[str, str] = {name: text for name, text in table.attrs.get("same", {}).items() if name in table}
    folded = table.drop(columns=list(same))
    folded.attrs = {name: value for name, value in table.attrs.items() if name != "same"}
    told = ", ".join(f"{name} = {text}" for name, text in same.items() if text)
    return folded, [f"The same in all trials: {told}."] if told else []


class _Cells:
    """A column of a table and its cells. Its dtype says whether it holds texts, whole numbers or other numbers."""

    def __init__(self, table: pd.DataFrame, name: str) -> None:
        sampled = table.attrs.get("sampled")
        self.name, self.column = (
            name,
            column_named(name, settings=sampled is not None, metric=table.attrs.get("metric", METRIC)),
        )
        self.importance = importance(self.column, sampled or ())
        self.is_text = not pd.api.types.is_numeric_dtype(table[name])
        self.is_whole = pd.api.types.is_integer_dtype(table[name])

    def plain(self, value: Any) -> Any:
        if pd.isna(value) or (isinstance(value, float) and math.isinf(value)):
            return None
        return int(value) if self.is_whole else value

    def shown(self, row: dict[Any, Any]) -> str:
        value = row[self.name]
        if pd.isna(value):
            ended = row.get("outcome") in (Outcome.REACHED, Outcome.EXHAUSTED, Outcome.PRUNED)
            return f">{row['epochs_run']}" if self.column.kind is Kind.CROSSING and ended else "-"
        return self.column.shown(value)


def _plain_rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    columns = [_Cells(table, str(name)) for name in table.columns]
    return [{column.name: column.plain(row[column.name]) for column in columns} for row in table.to_dict("records")]


def _csv(table: pd.DataFrame) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, list(table.columns), lineterminator="\n")
    writer.writeheader()
    writer.writerows(_plain_rows(table))  # None is written as nothing
    return out.getvalue()


def _text(columns: list[_Cells], rows: list[list[str]], width: int | None, notes: Sequence[str]) -> str:
    cells = [[column.column.heading for column in columns], *rows]
    natural = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    sizes = natural if width is None else _fitted(columns, natural, width)
    lines = []
    for line in cells if rows else ():  # a heading above nothing says nothing
        fields = []
        for column, cell, size in zip(columns, line, sizes, strict=True):
            if size:
                text = cell if len(cell) <= size else cell[: size - 1] + "…"
                fields.append(text.ljust(size) if column.is_text else text.rjust(size))
        lines.append("  ".join(fields).rstrip())
    left_out = [column.column.heading for column, size in zip(columns, sizes, strict=True) if rows and not size]
    if left_out:
        notes = [*notes, f"Left out to fit the width: {', '.join(left_out)}."]
    return "\n".join([*lines, *(["", *notes] if notes and lines else notes)]) + "\n"


def _fitted(columns: list[_Cells], natural: list[int], width: int) -> list[int]:
    """Return the sizes of columns that fit into a width, 0 for those that are left out.

    Long texts are shortened first. Then the least important columns are left out, of equally important ones the last,
    but never the first column, which names the row.
    """
    shrinks = [column.is_text and column.column.shrinks for column in columns]
    sizes = [min(size, _SHORTEST) if some else size for size, some in zip(natural, shrinks, strict=True)]

    def room() -> int:
        return width - sum(sizes) - 2 * (sum(map(bool, sizes)) - 1)

    for i in sorted(range(len(columns)), key=lambda i: (columns[i].importance, -i)):
        if i and room() < 0 and columns[i].importance < ALWAYS:
            sizes[i] = 0
    for i in sorted(range(len(columns)), key=lambda i: natural[i]):
        if shrinks[i] and sizes[i]:
            sizes[i] += max(0, min(room(), natural[i] - sizes[i]))
    return sizes


def _markdown(columns: list[_Cells], rows: list[list[str]], notes: Sequence[str]) -> str:
    head = [column.column.heading for column in columns]
    rule = ["---" if column.is_text else "---:" for column in columns]
    cells = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    lines = ["| " + " | ".join(line) + " |" for line in [head, rule, *cells]]
    return "\n".join([*lines, *(["", *(f"- {note}" for note in notes)] if notes else [])]) + "\n"


_LATEX = str.maketrans(
    {c: f"\\{c}" for c in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {"∞": r"$\infty$", "±": r"$\pm$"}
    | {c: f"${c}$" for c in "<>|"}  # which the default font shows as other characters
)


def _latex(columns: list[_Cells], rows: list[list[str]], notes: Sequence[str]) -> str:
    cells = [[column.column.heading for column in columns], *rows]
    lines = [["--" if cell == "-" else cell.translate(_LATEX) for cell in line] for line in cells]
    # A row that starts with [ or * would be read as an argument of the \\ before it.
    head, *body = ["{}" * line[0].startswith(("[", "*")) + " & ".join(line) + r" \\" for line in lines]
    alignment = "".join("l" if column.is_text else "r" for column in columns)
    start = [rf"\begin{{tabular}}{{{alignment}}}", r"\toprule", head, r"\midrule"]
    below = [rf"\par {note.translate(_LATEX)}" for note in notes]
    return "\n".join([*start, *body, r"\bottomrule", r"\end{tabular}", *below]) + "\n"


def _html(table: pd.DataFrame, columns: list[_Cells], rows: list[list[str]], notes: Sequence[str], caption: str) -> str:
    head, body, trials = [], [], table.index.tolist() if table.index.name == "number" else None
    for column in columns:
        # A long name may break between its words.
        text = escape(column.column.heading).replace("_", "_<wbr>")
        head.append(f'<th scope="col" class="{"text" if column.is_text else "number"}">{text}</th>')
    for place, (row, plain) in enumerate(zip(rows, table.to_dict("records"), strict=True)):
        cells = [
            _html_cell(c, plain[c.name], text, first=not i)
            for i, (c, text) in enumerate(zip(columns, row, strict=True))
        ]
        trial = "" if trials is None else f' data-trial="{trials[place]}"'
        body.append(f"<tr{trial}>{''.join(cells)}</tr>")
    below = ['<ul class="notes">', *(f"<li>{escape(note)}</li>" for note in notes), "</ul>"] if notes else []
    above = [f"<caption>{escape(caption)}</caption>"] if caption else []
    start = '<table class="sortable">' if len(rows) > 1 and len(columns) > 2 else "<table>"
    inner = [*above, f"<thead><tr>{''.join(head)}</tr></thead>", "<tbody>", *body, "</tbody>"]
    return "\n".join([start, *inner, "</table>", *below]) + "\n"


def _html_cell(column: _Cells, value: Any, text: str, *, first: bool) -> str:
    kind = "text" if column.is_text else "number"
    if first:
        return f'<th scope="row" class="{kind}">{escape(text)}</th>'
    lasts = column.column.kind in (Kind.SECONDS, Kind.HOURS) and not column.is_text and pd.notna(value)
    sorts = f' data-value="{value:.6g}"' if lasts else ""
    return f'<td class="{kind}"{sorts}>{escape(text)}</td>'
