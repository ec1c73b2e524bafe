"""Reads curves that were recorded elsewhere as rows: JSON lines, CSV, a folder of TensorBoard's event files."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from resnet_core.paths import TextError, decoded
from sweeps.errors import InputError
from sweeps.importing import events
from sweeps.importing.problems import first_lines
from sweeps.importing.rows import Row, Source

_EXPECTS = "expected .jsonl, .csv, or a folder of TensorBoard's event files"
_METRIC_HISTORY = {"run_id", "key", "step", "value"}  # columns of MLflow's metric histories: one line per value
_SPREAD = ("__MIN", "__MAX")  # columns that W&B adds to each column of a chart
_NO_CURVES = (
    "MLflow's table of runs, which has the last value of each metric and no curves; expected a line a value, as from\n"
    "  rows = [vars(m) | {'run_id': run_id} for m in MlflowClient().get_metric_history(run_id, 'val_acc')]\n"
    "for every run and metric, as CSV with the columns run_id, key, step, value"
)


def read(path: Path) -> Source:
    """Return the rows of a file or folder.

    Raises:
        InputError: the file or folder cannot be read, or its kind is unknown; the message says where and why.
    """
    if path.is_dir():
        return Source(path, events.digest(path), events.rows(path))
    readers = {".jsonl": _json_lines, ".ndjson": _json_lines, ".csv": _csv}
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; {_EXPECTS}") from None
    if path.suffix.lower() not in readers:
        raise InputError(f"{path}: unknown kind of file; {_EXPECTS}")
    try:
        text = decoded(data)
    except TextError as error:
        raise InputError(f"{path}: {error}") from None
    return Source(path, hashlib.sha256(data).hexdigest(), list(readers[path.suffix.lower()](path, text)))


def _json_lines(path: Path, text: str) -> Iterator[Row]:
    wrong = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        place = f"{path}, line {number}"
        try:
            values = json.loads(line)
        except ValueError as error:
            wrong.append(f"{place}: not JSON: {error}; expected an object a line")
            continue
        if not isinstance(values, dict):
            wrong.append(f'{place}: expected an object, such as {{"trial": 1, "epoch": 1, "val_acc": 0.5}}')
            continue
        config = values.pop("config", None)
        if isinstance(config, dict):
            values |= {f"config.{name}": value for name, value in config.items()}
        elif config is not None:
            wrong.append(f"{place}: config: expected an object, with fields of TrialConfig")
        yield Row(place, {name: value for name, value in values.items() if value is not None})
    if wrong:
        raise InputError("\n".join(first_lines(wrong)))


def _csv(path: Path, text: str) -> Iterator[Row]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        lines = [(reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells)]
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num}: not CSV: {error}") from None
    if len(header) == 1 and (separator := next((mark for mark in ";\t|" if mark in header[0]), None)):
        raise InputError(
            f"{path}, line 1: columns separated by {separator!r}; expected commas, and a point in numbers such as 0.5"
        )
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise InputError(f"{path}, line 1: column {twice[0]!r} comes twice; expected each once")
    odd = [f"{path}, line {n}: {len(cells)} cells; expected {len(header)}" for n, cells in lines]
    odd = [said for said, (_, cells) in zip(odd, lines, strict=True) if len(cells) != len(header)]
    if odd:
        raise InputError("\n".join(first_lines([f"{said}, as the header has" for said in odd])))
    if "Run ID" in header or any(name.startswith("metrics.") for name in header):
        raise InputError(f"{path}: {_NO_CURVES}")
    table = (
        (f"{path}, line {number}", {name: cell.strip() for name, cell in zip(header, cells, strict=True)})
        for number, cells in lines
    )
    rows = (Row(place, {name: cell for name, cell in cells.items() if name and cell}) for place, cells in table)
    if set(header) >= _METRIC_HISTORY:
        return _metric_history(rows)
    if len(header) > 1 and all(" - " in name for name in header[1:]):
        return _chart(rows, header)
    return rows


def _metric_history(values: Iterator[Row]) -> Iterator[Row]:
    """Yield the epochs of MLflow's metric histories: one line per value; of a step's values the last counts."""
    epochs: dict[tuple[str, str], Row] = {}
    for row in values:
        run, step = row.values.get("run_id", ""), row.values.get("step", "")
        name, value = row.values.get("key", ""), row.values.get("value", "nan")
        epoch = epochs.setdefault((run, step), Row(row.place, {"trial": run, "epoch": step}))
        epoch.values[name] = value
    return iter(epochs.values())


def _chart(steps: Iterator[Row], header: list[str]) -> Iterator[Row]:
    """Yield the epochs of a chart exported from W&B: one line per step, and a column ``RUN - METRIC`` for each run."""
    at = header[0]
    for row in steps:
        trials: dict[str, dict[str, Any]] = {}
        for name, value in row.values.items():
            run, _, metric = name.rpartition(" - ")
            if run and not metric.endswith(_SPREAD) and not metric.startswith("_"):
                trials.setdefault(run, {"trial": run, "epoch": row.values.get(at, "")})[metric] = value
        for run, values in trials.items():
            yield Row(f"{row.place}, run {run}", values)
