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

from resnet_core.records import Outcome

Style = Literal["text", "markdown", "csv", "latex", "html", "json"]

_FOUR_DECIMALS = ("val_acc", "acc", "val_acc_best", "final_loss", "final_val_loss")
_CROSSINGS = ("epochs_to_target", "epochs_to_target_sustained")
_ELASTIC = ("stop_reason", "schedule", "differs")
_SHORTEST = 12
_LEFT_OUT_FIRST = (
    "l2",
    "final_loss",
    "final_val_loss",
    "acc",
    "epoch_best",
    "epoch",
    "val_acc",
    "epochs_to_target_sustained",
    "lr_alpha",
    "stop_reason",
    "shift",
    "weight_decay",
    "epochs_run",
    "gpu_util_percent",
    "batch_size",
)


def render(table: pd.DataFrame, style: Style, *, width: int | None = None, notes: Sequence[str] = ()) -> str:
    """Return a table as text that ends in a newline.

    In text, markdown, latex and html, losses and accuracies have four decimals; where there is no crossing, `>N`
    stands for a trial that ended or was pruned below the target at epoch N, and a dash for one that diverged
    or runs. csv and json hold plain values in full precision, and nothing (csv) or null (json) where a value
    does not exist.

    Args:
        table: what `build_table`, `build_cost` or `build_transitions` returned, or rows of it.
        style: text, markdown, csv, latex (a booktabs tabular), html (a table element) or json (a list of objects).
        width: for text, columns of the terminal. To fit, schedules, stop reasons and differences are shortened with an
            ellipsis, to no less than 12 characters, then the less telling columns are left out, and a note
            says which. Nothing is shortened or left out without it.
        notes: sentences such as `footnotes` returns, put below the table; csv and json have no place for
            them.

    Raises:
        ValueError: the style is none of these.
    """
    if style == "csv":
        return _csv(table)
    if style == "json":
        return json.dumps(_plain_rows(table), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    columns = [_Column(str(name), table[name]) for name in table.columns]
    rows = [[column.shown(row) for column in columns] for row in table.to_dict("records")]
    if style == "text":
        return _text(columns, rows, width, notes)
    if style == "markdown":
        return _markdown(columns, rows, notes)
    if style == "latex":
        return _latex(columns, rows, notes)
    if style == "html":
        return _html(columns, rows, notes)
    raise ValueError(f"style = {style!r}: expected one of {', '.join(get_args(Style))}")


class _Column:
    """A column, shown as its dtype says: texts as they are, Int64 whole, other numbers with decimals."""

    def __init__(self, name: str, values: pd.Series[Any]) -> None:
        self.name = name
        self.is_text = not pd.api.types.is_numeric_dtype(values)
        self.is_whole = pd.api.types.is_integer_dtype(values)
        # A transition's column is named by its level, such as 0.92.
        self.is_crossing = name in _CROSSINGS or name[:1].isdigit()

    def plain(self, value: Any) -> Any:
        if pd.isna(value) or (isinstance(value, float) and math.isinf(value)):
            return None
        return int(value) if self.is_whole else value

    def shown(self, row: dict[Any, Any]) -> str:
        value = row[self.name]
        if pd.isna(value):
            if self.is_crossing and row["outcome"] in (Outcome.REACHED, Outcome.EXHAUSTED, Outcome.PRUNED):
                return f">{row['epochs_run']}"
            return "-"
        if self.is_text:
            return " ".join(str(value).split())  # an error's line breaks would tear the row
        if self.is_whole:
            return str(value)
        text = f"{value:.4f}" if self.name in _FOUR_DECIMALS else f"{value:.4g}"
        return text.replace("inf", "∞")


def _plain_rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    columns = [_Column(str(name), table[name]) for name in table.columns]
    return [{column.name: column.plain(row[column.name]) for column in columns} for row in table.to_dict("records")]


def _csv(table: pd.DataFrame) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, list(table.columns), lineterminator="\n")
    writer.writeheader()
    writer.writerows(_plain_rows(table))  # None is written as nothing
    return out.getvalue()


def _text(columns: list[_Column], rows: list[list[str]], width: int | None, notes: Sequence[str]) -> str:
    cells = [[column.name for column in columns], *rows]
    natural = {column.name: max(len(line[i]) for line in cells) for i, column in enumerate(columns)}
    sizes = natural if width is None else _fitted(natural, width)
    lines = []
    for line in cells:
        fields = []
        for column, cell in zip(columns, line, strict=True):
            if column.name in sizes:
                size = sizes[column.name]
                text = cell if len(cell) <= size else cell[: size - 1] + "…"
                fields.append(text.ljust(size) if column.is_text else text.rjust(size))
        lines.append("  ".join(fields).rstrip())
    left_out = [column.name for column in columns if column.name not in sizes]
    if left_out:
        notes = [*notes, f"Left out to fit the width: {', '.join(left_out)}."]
    return "\n".join([*lines, *(["", *notes] if notes else [])]) + "\n"


def _fitted(natural: dict[str, int], width: int) -> dict[str, int]:
    """Return the columns that fit into a width, with their sizes: long texts give way first, then whole columns."""
    sizes = {name: min(size, _SHORTEST) if name in _ELASTIC else size for name, size in natural.items()}

    def room() -> int:
        return width - sum(sizes.values()) - 2 * (len(sizes) - 1)

    for name in _LEFT_OUT_FIRST:
        if room() >= 0:
            break
        sizes.pop(name, None)
    for name in [name for name in _ELASTIC if name in sizes]:
        sizes[name] += max(0, min(room(), natural[name] - sizes[name]))
    return sizes


def _markdown(columns: list[_Column], rows: list[list[str]], notes: Sequence[str]) -> str:
    head = [column.name for column in columns]
    rule = ["---" if column.is_text else "---:" for column in columns]
    cells = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    lines = ["| " + " | ".join(line) + " |" for line in [head, rule, *cells]]
    return "\n".join([*lines, *(["", *(f"- {note}" for note in notes)] if notes else [])]) + "\n"


_LATEX = str.maketrans(
    {c: f"\\{c}" for c in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {"∞": r"$\infty$", "±": r"$\pm$"}
    | {c: f"${c}$" for c in "<>|"}  # which the default font would set as other characters
)


def _latex(columns: list[_Column], rows: list[list[str]], notes: Sequence[str]) -> str:
    cells = [[column.name for column in columns], *rows]
    lines = [["--" if cell == "-" else cell.translate(_LATEX) for cell in line] for line in cells]
    # A row that starts with [ or * would be read as an argument of the \\ before it.
    head, *body = ["{}" * line[0].startswith(("[", "*")) + " & ".join(line) + r" \\" for line in lines]
    alignment = "".join("l" if column.is_text else "r" for column in columns)
    start = [rf"\begin{{tabular}}{{{alignment}}}", r"\toprule", head, r"\midrule"]
    below = [rf"\par {note.translate(_LATEX)}" for note in notes]
    return "\n".join([*start, *body, r"\bottomrule", r"\end{tabular}", *below]) + "\n"


def _html(columns: list[_Column], rows: list[list[str]], notes: Sequence[str]) -> str:
    def line(tag: str, cells: list[str]) -> str:
        kinds = ["text" if column.is_text else "number" for column in columns]
        return "<tr>" + "".join(f'<{tag} class="{k}">{c}</{tag}>' for k, c in zip(kinds, cells, strict=True)) + "</tr>"

    # A long name may break where its words meet.
    head = line("th", [escape(column.name).replace("_", "_<wbr>") for column in columns])
    body = [line("td", [escape(cell) for cell in row]) for row in rows]
    below = ['<ul class="notes">', *(f"<li>{escape(note)}</li>" for note in notes), "</ul>"] if notes else []
    return "\n".join(["<table>", f"<thead>{head}</thead>", "<tbody>", *body, "</tbody>", "</table>", *below]) + "\n"
