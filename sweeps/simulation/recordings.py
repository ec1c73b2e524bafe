"""Recordings: the curves of a study in one small file, for simulations without the study's home folder.

A file holds gzip-compressed JSON lines: first the version of the format and the study, then one line per trial.

    {"recording": 1, "study": {"name": …}}
    {"name": "0", "params": {…}, "config": {…}, "outcome": "reached", "epochs": {"loss": […], …, "seconds": […]}}

Metrics of epochs have five significant digits; a value that is not finite is null. A metric that is null in all epochs
of a trial was not measured, unless the trial diverged.
"""

from __future__ import annotations

import gzip
import json
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from resnet_core.config import ConfigError
from resnet_core.records import METRICS, RESERVED, SHARES, EpochRecord, Outcome
from resnet_core.schedule import ScheduleError
from search_spaces.errors import StudyError, as_toml
from search_spaces.spec import StudySpec
from search_spaces.study import from_json, to_json
from search_spaces.trainers import SHIPPED
from sweeps.errors import InputError
from sweeps.home import Home
from sweeps.ledger.ledger import Ledger
from sweeps.study.trials import Job

VERSION = 1
SUFFIX = ".jsonl.gz"
COLUMNS = ("loss", "acc", "val_loss", "val_acc", "seconds")
"""The metrics of the trainer that ships that are kept: those that stopping rules and simulations use. Of other
trainers, all are kept that were measured."""

_KEYS = ("name", "params", "config", "outcome", "epochs")


@dataclass(frozen=True)
class RecordedTrial:
    """A trial that has ended.

    Attributes:
        job: the trial.
        outcome: the trial's outcome.
        records: its epochs, 1, 2, …, with the metrics that are known.
    """

    job: Job
    outcome: Outcome
    records: Sequence[EpochRecord]


@dataclass(frozen=True)
class Recording:
    """The trials of a study that have ended.

    Attributes:
        spec: the study.
        trials: in the order of their numbers.
        running: number of trials that had begun but not ended.
    """

    spec: StudySpec
    trials: Sequence[RecordedTrial]
    running: int = 0


def of_study(home: Home, name: str) -> Recording:
    """Return the trials of a study of this home that have ended.

    Raises:
        InputError: there is no such study.
    """
    from analysis import StoreError, load

    ledger = Ledger.read(home.ledger_uri, name)
    entries = ledger.entries()
    try:
        epochs = load(home.mlflow_uri, name).epochs
    except StoreError as error:
        raise InputError(str(error)) from error
    by_number = {number: group.drop(columns="number") for number, group in epochs.groupby("number")}
    trials = []
    for entry in entries:
        if entry.result is not None:
            rows = by_number.get(entry.job.number)
            columns = {} if rows is None else {str(name): column.tolist() for name, column in rows.items()}
            records = _records(columns, entry.result.outcome)
            trials.append(RecordedTrial(entry.job, entry.result.outcome, records))
    return Recording(ledger.spec, trials, len(entries) - len(trials))


def _records(columns: Mapping[str, Sequence[float]], outcome: Outcome) -> list[EpochRecord]:
    """Return the epochs of a trial.

    Args:
        columns: the numbers of the epochs under ``epoch``, and the values of each metric by its name. NaN stands for a
            value that is not finite, and for one that was not measured.
        outcome: the trial's outcome. If it diverged, its loss may be NaN in every epoch.
    """
    known = {
        name: values
        for name, values in columns.items()
        if name == "epoch" or (outcome is Outcome.DIVERGED and name in COLUMNS) or not all(map(math.isnan, values))
    }
    rows = zip(*known.values(), strict=True)
    return [EpochRecord.from_dict(dict(zip(known, row, strict=True))) for row in rows]


def write(recording: Recording, path: Path) -> None:
    """Write a recording to a file, completely or not at all; an existing file is replaced.

    Raises:
        OSError: the file cannot be written.
    """
    header = {"recording": VERSION, "study": json.loads(to_json(recording.spec))}
    lines = [header, *(_line_of(trial, _needed(recording.spec)) for trial in recording.trials)]
    text = "".join(
        json.dumps(line, ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n" for line in lines
    )
    aside = path.with_name(f"{path.name}.partial")
    try:
        # mtime=0: without the time of writing, equal recordings make equal files.
        aside.write_bytes(gzip.compress(text.encode(), mtime=0))
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def _needed(spec: StudySpec) -> tuple[str, ...]:
    """Return the metrics that every trial of a recording has, known or not."""
    return tuple(dict.fromkeys((*(COLUMNS if spec.trainer is SHIPPED else ()), spec.objective.metric)))


def _line_of(trial: RecordedTrial, needed: Sequence[str]) -> dict[str, Any]:
    measured = {name for record in trial.records for name in COLUMNS if record.get(name) is not None}
    names = dict.fromkeys(name for name in (*COLUMNS, *needed) if name in measured.union(needed))
    names |= dict.fromkeys(name for record in trial.records for name in record.metrics)
    return {
        "name": trial.job.name,
        "params": trial.job.params,
        "config": trial.job.config.to_dict(),
        "outcome": trial.outcome.value,
        "epochs": {name: [_short(record.get(name)) for record in trial.records] for name in names},
    }


def _short(value: float | None) -> float | None:
    return float(f"{value:.5g}") if value is not None and math.isfinite(value) else None


def shipped() -> list[str]:
    """Return the names of the shipped recordings, such as ``recorded/digits``."""
    return sorted(f"recorded/{path.name.removesuffix(SUFFIX)}" for path in _folder().glob(f"*{SUFFIX}"))


def _folder() -> Path:
    return Path(str(resources.files("search_spaces.recorded")))


def find(text: str) -> Path | None:
    """Return the path of a recording: the file of that path, else the shipped recording of that name, else None."""
    if Path(text).is_file():
        return Path(text)
    return _folder().parent / f"{text}{SUFFIX}" if text in shipped() else None


def read(path: Path) -> Recording:
    """Return the recording in a file.

    Raises:
        InputError: the file cannot be read, or its content is wrong; the message names the line and the expected value.
    """
    try:
        text = gzip.decompress(path.read_bytes()).decode()
    except UnicodeDecodeError as error:
        bad = error.object.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}, line {bad}: not UTF-8; {_EXPECTS}") from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"{path}: not a whole gzip file ({error}); {_EXPECTS}") from None
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; {_EXPECTS}") from None
    lines = text.removesuffix("\n").split("\n")
    spec = _study_in(lines[0], f"{path}, line 1")
    trials: list[RecordedTrial] = []
    names: dict[str, int] = {}
    for number, line in enumerate(lines[1:], start=2):
        place = f"{path}, line {number}"
        trial = _trial_in(line, place, len(trials), spec)
        # The retry of a crashed trial has the same name.
        if trial.outcome is not Outcome.CRASHED and (first := names.setdefault(trial.job.name, number)) != number:
            raise InputError(
                f"{place}: name = {as_toml(trial.job.name)}: expected each once; it is in line {first}, too"
            )
        trials.append(trial)
    return Recording(spec, trials)


_EXPECTS = "expected a recording, as `sweeps export NAME --out FILE` writes it"


def _object_in(line: str, place: str) -> dict[str, Any]:
    try:
        values = json.loads(line, parse_constant=_no_number)
    except ValueError as error:
        raise InputError(f"{place}: not JSON: {error}; expected an object a line") from None
    if not isinstance(values, dict):
        raise InputError(f"{place}: {as_toml(values)}: expected an object")
    return values


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no number of JSON")


def _study_in(line: str, place: str) -> StudySpec:
    values = _object_in(line, place)
    if values.keys() != {"recording", "study"}:
        raise InputError(f"{place}: its keys are {', '.join(values) or 'none'}; expected recording, study")
    if values["recording"] != VERSION:
        raise InputError(f"{place}: recording = {as_toml(values['recording'])}: expected version {VERSION}")
    try:
        return from_json(json.dumps(values["study"]))
    except StudyError as error:
        raise InputError("\n".join(f"{place}: {said}" for said in str(error).split("\n"))) from None


def _trial_in(line: str, place: str, number: int, spec: StudySpec) -> RecordedTrial:
    values = _object_in(line, place)
    if values.keys() != set(_KEYS):
        raise InputError(f"{place}: its keys are {', '.join(values) or 'none'}; expected {', '.join(_KEYS)}")
    name, params = values["name"], values["params"]
    for key, kind, expected in (("name", str, "a text"), ("params", dict, "an object"), ("config", dict, "an object")):
        if not isinstance(values[key], kind):
            raise InputError(f"{place}: {key} = {as_toml(values[key])}: expected {expected}")
    if values["outcome"] not in list(Outcome):
        raise InputError(f"{place}: outcome = {as_toml(values['outcome'])}: expected one of {', '.join(Outcome)}")
    trainer = spec.trainer
    if trainer is not SHIPPED and values["config"].keys() != trainer.fields.keys():
        raise InputError(f"{place}: config: expected the fields of {trainer.name}: {', '.join(trainer.fields)}")
    try:
        config = trainer.stored_config(values["config"])
        horizon = config.horizon
    except (ConfigError, ScheduleError) as error:
        raise InputError(f"{place}: config: {error}") from None
    except TypeError:
        raise InputError(f"{place}: config: expected fields of TrialConfig, schedule among them") from None
    outcome = Outcome(values["outcome"])
    records = _records(_columns_in(values["epochs"], f"{place}: epochs", horizon, spec), outcome)
    return RecordedTrial(Job(number, name, config, params), outcome, records)


def _columns_in(columns: Any, place: str, horizon: int, spec: StudySpec) -> dict[str, Sequence[float]]:
    """Return the numbers of a trial's epochs under ``epoch``, and its metrics by name; NaN where a value is null."""
    needed, metric = _needed(spec), spec.objective.metric
    if not isinstance(columns, dict) or not columns.keys() >= set(needed):
        raise InputError(f"{place}: expected an object with the lists {', '.join(needed)}")
    found: dict[str, Sequence[float]] = {}
    for name, column in columns.items():
        if name in RESERVED:
            raise InputError(f"{place}.{name}: expected the name of a metric; this one has another meaning")
        if not isinstance(column, list) or len(column) != len(columns[metric]) or len(column) > horizon:
            raise InputError(f"{place}.{name}: expected a list as long as {metric}, of at most {horizon} epochs")
        for epoch, value in enumerate(column, start=1):
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if value is not None and not (number and _is_possible(name, value, spec)):
                told = f"expected {_expected(name, spec)}, or null"
                raise InputError(f"{place}.{name}: {as_toml(value)} in epoch {epoch}: {told}")
        found[name] = [math.nan if value is None else float(value) for value in column]
    return {"epoch": range(1, 1 + len(columns[metric])), **found}


def _expected(name: str, spec: StudySpec) -> str:
    if spec.trainer is not SHIPPED or name not in METRICS:
        return "a number"
    return "a share in [0, 1]" if name in SHARES else "a number of 0 or more"


def _is_possible(name: str, value: float, spec: StudySpec) -> bool:
    """Return whether a metric may have this value; the loss of a trainer of somebody's own may be below 0."""
    if spec.trainer is not SHIPPED or name not in METRICS:
        return True
    return 0 <= value <= (1 if name in SHARES else math.inf)
