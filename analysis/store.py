"""Read a study out of MLflow's SQLite store.

Plain read-only SQL, without mlflow: a study's 200,000 metric points take a fraction of a second this way, and
half a minute through MLflow's client, whose import alone takes seconds.
"""

from __future__ import annotations

import json
import re
import sqlite3
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import pandas as pd

from resnet_core.records import EpochRecord, Outcome

_METRICS = tuple(f.name for f in fields(EpochRecord) if f.name != "epoch")
_TABLES = {"experiments", "runs", "tags", "params", "metrics"}
_BUSY_SECONDS = 5.0
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?|[+-]?inf|nan", re.IGNORECASE)
_TEXT_TAGS = ("outcome", "stop_reason", "stopped_by", "would_stop")
_VERSION_TAGS = ("python", "torch", "torchvision", "ray", "optuna", "mlflow")
_PLACE_TAGS = ("code_version", "device", "gpu_ids", "threads", "node")
_READ_TAGS = (
    *("sweeps.kind", "sweeps.trial", "mlflow.parentRunId", "mlflow.note.content", "description"),
    *("target", "sustained", "stopping_rules", "phase", "confirms", "space", *_TEXT_TAGS, *_VERSION_TAGS, *_PLACE_TAGS),
)
_TRIAL_COLUMNS = ("number", "trial", "run_id", "status", *_TEXT_TAGS, "start_time", "end_time")
_COUNTED = (*map(str, Outcome), "running")
_STUDY_COLUMNS = ("name", "description", "created", "status", "trials", *_COUNTED)


class StoreError(ValueError):
    """The store cannot be read, or does not hold what was asked for; the message says which."""


@dataclass(frozen=True, eq=False)
class Study:
    """A study as MLflow holds it.

    Attributes:
        name: of the study.
        description: from its study file; empty where it gives none.
        target: validation accuracy to reach, in (0, 1].
        sustained: epochs in a row at or above the target that count as sustained.
        split: which images validate: ``official``, ``pooled`` or ``held-out``; several, comma-separated,
            where the trials differ; None while there is no trial.
        trials: one row a trial, by number: number (int), trial (its name), run_id, status (MLflow's), outcome
            (str; None while running), stop_reason, stopped_by, would_stop (JSON: by rule, the first epoch at
            which it said stop; each str or None), start_time, end_time (UTC; NaT while running), then every parameter
            under its name, numbers as numbers.
        epochs: one row per trial and epoch, by number and epoch: number, epoch (1-based), loss, acc,
            val_loss, val_acc, lr, wd_lr, seconds, images_per_second, power_watts, gpu_util_percent, test_loss,
            test_acc, in the units of resnet_core.records.EpochRecord; NaN where a value is missing. Trials
            without a finished epoch have no row.
        stopping_rules: ``active`` or ``shadow`` by rule, as the study file has them; None where the store does
            not say.
        environment: what the study ran with and on, by name: code_version, versions of packages, device, gpu_ids,
            threads, node; several values, comma-separated, where the trials differ.
        phase: ``search``, or ``confirm``: one frozen configuration, repeated with fresh seeds.
        confirms: in a confirmation, what it confirms, as ``STUDY trial NAME``; empty in a search.
        space: what is sampled, by name: {low, high, log, int} and perhaps step, or {choices}; empty where runs are
            listed, None where the store does not say.
    """

    name: str
    description: str
    target: float
    sustained: int
    split: str | None
    trials: pd.DataFrame = field(repr=False)
    epochs: pd.DataFrame = field(repr=False)
    stopping_rules: dict[str, str] | None = None
    environment: dict[str, str] = field(default_factory=dict, repr=False)
    phase: str = "search"
    confirms: str = ""
    space: dict[str, Any] | None = None


@dataclass(frozen=True)
class _Run:
    tags: dict[str, str]
    id: str
    experiment: str
    name: str
    status: str
    start_time: int
    end_time: int | None


def studies(db: Path | str) -> pd.DataFrame:
    """Return what `sweeps ls` lists: one row a study, newest first.

    Args:
        db: MLflow's SQLite file.

    Returns:
        Columns name, description, created (UTC), status (MLflow's, of the latest launch), trials (their
        number), and how many of them ended reached, exhausted, pruned, diverged, crashed, or have no outcome
        yet (running).

    Raises:
        StoreError: there is no such file, or it is not MLflow's.
    """
    with _open(db) as connection:
        runs = _runs(connection)
    rows = []
    for name, launches in _launches(runs).items():
        trials = _trials(runs, launches)
        outcomes = Counter(run.tags.get("outcome", "running") for run in trials.values())
        rows.append(
            {
                "name": name,
                "description": _description(launches[-1].tags),
                "created": launches[0].start_time,
                "status": launches[-1].status,
                "trials": len(trials),
                **{outcome: outcomes[outcome] for outcome in _COUNTED},
            }
        )
    frame = pd.DataFrame(rows, columns=list(_STUDY_COLUMNS))
    frame["created"] = _utc(frame["created"])
    return frame.sort_values(["created", "name"], ascending=[False, True], ignore_index=True)


def load(db: Path | str, study: str) -> Study:
    """Return a study with all its trials and epochs.

    Deleted runs are left out. Where a metric was logged twice for an epoch, as after a resume, the last one
    counts; where a trial number has two runs, the one started last.

    Args:
        db: MLflow's SQLite file. It may be in use: what is read is one consistent state of it.
        study: name of the study.

    Raises:
        StoreError: there is no such file, it is not MLflow's, it has no such study, or the study's runs lack
            the tags the orchestrator writes.
    """
    with _open(db) as connection:
        runs = _runs(connection)
        launches = _launches(runs).get(study)
        if launches is None:
            known = ", ".join(sorted(_launches(runs))) or "none yet"
            raise StoreError(f"{db}: no study {study!r}; its studies: {known}")
        trials = _trials(runs, launches)
        params = _params(connection, study)
        points = connection.execute(_POINTS, (study, *_METRICS)).fetchall()

    tags = launches[-1].tags
    frame = _trial_frame(trials, params)
    splits = sorted(frame["split"].dropna().unique()) if "split" in frame else []
    try:
        target, sustained = float(tags["target"]), int(tags["sustained"])
    except (KeyError, ValueError) as error:
        raise StoreError(f"{db}: the launch of study {study!r} lacks a usable tag: {error}") from None
    return Study(
        name=study,
        description=_description(tags),
        target=target,
        sustained=sustained,
        split=", ".join(splits) or None,
        trials=frame,
        epochs=_epoch_frame(trials, points),
        stopping_rules=json.loads(tags["stopping_rules"]) if "stopping_rules" in tags else None,
        environment=_environment(tags, trials),
        phase=tags.get("phase", "search"),
        confirms=tags.get("confirms", ""),
        space=json.loads(tags["space"]) if "space" in tags else None,
    )


def _environment(tags: dict[str, str], trials: dict[int, _Run]) -> dict[str, str]:
    """Return the launch's versions and, of the tags of its trials that say where they ran, all values there are."""
    found = {name: tags[name] for name in _VERSION_TAGS if name in tags}
    for name in _PLACE_TAGS:
        values = sorted({run.tags[name] for run in trials.values() if run.tags.get(name)})
        if values:
            found[name] = ", ".join(values)
    return found


def _description(tags: dict[str, str]) -> str:
    """Return the study's description; an older launch has nothing else in its note."""
    return tags.get("description", tags.get("mlflow.note.content", ""))


@contextmanager
def _open(db: Path | str) -> Iterator[sqlite3.Connection]:
    path = Path(db)
    if not path.is_file():
        raise StoreError(f"{path}: no such file; expected the mlflow.db of a sweep's home folder")
    try:
        with closing(_connect(path)) as connection:
            # One transaction: the trials and the epochs that are read belong to the same moment.
            connection.execute("BEGIN")
            found = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            missing = _TABLES - {name for (name,) in found}
            if missing:
                lacks = ", ".join(sorted(missing))
                raise StoreError(f"{path}: not an MLflow database: it lacks the tables {lacks}")
            yield connection
    except sqlite3.OperationalError as error:
        if _code(error) & 0xFF == sqlite3.SQLITE_BUSY:  # whichever kind of busy
            raise StoreError(f"{path}: busy for more than {_BUSY_SECONDS:g} s; try again") from error
        raise StoreError(f"{path}: cannot be read: {error}") from error
    except sqlite3.DatabaseError as error:
        raise StoreError(f"{path}: not an MLflow database: {error}") from error


def _connect(path: Path) -> sqlite3.Connection:
    uri = path.resolve().as_uri()  # quotes ?, # and %, which mean something in a URI
    connection = sqlite3.connect(f"{uri}?mode=ro", uri=True, timeout=_BUSY_SECONDS)
    try:
        connection.execute("SELECT 1 FROM sqlite_master")
    except sqlite3.DatabaseError as error:
        connection.close()
        if _code(error) != sqlite3.SQLITE_READONLY_ROLLBACK:
            raise
        # A writer was killed inside a write. SQLite takes the half write back itself, once it may write.
        connection = sqlite3.connect(f"{uri}?mode=rw", uri=True, timeout=_BUSY_SECONDS)
        connection.execute("PRAGMA query_only = ON")
    return connection


def _code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", 0)  # errors of Python's own module have none


_RUNS = """
    SELECT r.run_uuid, e.name, r.name, r.status, r.start_time, r.end_time
    FROM runs r JOIN experiments e USING (experiment_id)
    WHERE r.lifecycle_stage = 'active' AND e.lifecycle_stage = 'active'
    ORDER BY r.start_time, r.rowid
"""
_TAGS = f"SELECT run_uuid, key, value FROM tags WHERE key IN ({', '.join('?' * len(_READ_TAGS))})"
_PARAMS = """
    SELECT p.run_uuid, p.key, p.value
    FROM params p JOIN runs r USING (run_uuid) JOIN experiments e USING (experiment_id)
    WHERE e.name = ? AND r.lifecycle_stage = 'active' ORDER BY p.rowid
"""
_POINTS = f"""
    SELECT m.run_uuid, m.step, m.key, m.value, m.is_nan
    FROM metrics m JOIN runs r USING (run_uuid) JOIN experiments e USING (experiment_id)
    WHERE e.name = ? AND r.lifecycle_stage = 'active' AND m.key IN ({", ".join("?" * len(_METRICS))})
    ORDER BY m.timestamp, m.rowid
"""


def _runs(connection: sqlite3.Connection) -> list[_Run]:
    """All living runs, in the order they started."""
    tags: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for run_id, key, value in connection.execute(_TAGS, _READ_TAGS):
        tags[run_id][key] = value
    return [_Run(tags[run_id], run_id, *row) for run_id, *row in connection.execute(_RUNS)]


def _launches(runs: list[_Run]) -> dict[str, list[_Run]]:
    """The launch runs of each study, in the order they started."""
    found: defaultdict[str, list[_Run]] = defaultdict(list)
    for run in runs:
        if run.tags.get("sweeps.kind") == "launch":
            found[run.experiment].append(run)
    return dict(found)


def _trials(runs: list[_Run], launches: list[_Run]) -> dict[int, _Run]:
    """The trials of these launches by number; the one started last where a number comes twice."""
    parents = {launch.id for launch in launches}
    found = {}
    for run in runs:
        if run.tags.get("sweeps.kind") == "trial" and run.tags.get("mlflow.parentRunId") in parents:
            number = run.tags.get("sweeps.trial", "")
            if not number.isdecimal():
                where = f"run {run.id} of study {run.experiment!r}"
                raise StoreError(f"{where}: its tag sweeps.trial = {number!r} is no number")
            found[int(number)] = run
    return dict(sorted(found.items()))


def _params(connection: sqlite3.Connection, study: str) -> dict[str, dict[str, Any]]:
    params: defaultdict[str, dict[str, Any]] = defaultdict(dict)
    for run_id, key, value in connection.execute(_PARAMS, (study,)):
        params[run_id][key] = _plain(value)
    return params


def _plain(text: str) -> Any:
    """Undo str() on a number, True, False or None; other text stays."""
    if text in _WORDS:
        return _WORDS[text]
    if not _NUMBER.fullmatch(text):
        return text
    return int(text) if text.lstrip("+-").isdecimal() else float(text)


_WORDS = {"None": None, "True": True, "False": False}


def _trial_frame(trials: dict[int, _Run], params: dict[str, dict[str, Any]]) -> pd.DataFrame:
    rows = [
        params.get(run.id, {})
        | {
            "number": number,
            "trial": run.name,
            "run_id": run.id,
            "status": run.status,
            **{tag: run.tags.get(tag) for tag in _TEXT_TAGS},
            "start_time": run.start_time,
            "end_time": run.end_time,
        }
        for number, run in trials.items()
    ]
    names = dict.fromkeys(key for row in rows for key in row if key not in _TRIAL_COLUMNS)
    frame = pd.DataFrame(rows, columns=[*_TRIAL_COLUMNS, *names]).astype({"number": "int64"})
    for column in _TEXT_TAGS:
        values = frame[column].astype(object)
        frame[column] = values.where(values.notna(), None)
    for column in ("start_time", "end_time"):
        frame[column] = _utc(frame[column])
    return frame


def _epoch_frame(trials: dict[int, _Run], points: list[tuple[str, int, str, float, int]]) -> pd.DataFrame:
    numbers = {run.id: number for number, run in trials.items()}
    rows = [
        (numbers[run_id], step, key, float("nan") if is_nan else _unbounded(value))
        for run_id, step, key, value, is_nan in points
        if run_id in numbers
    ]
    long = pd.DataFrame(rows, columns=["number", "epoch", "key", "value"])
    long = long.drop_duplicates(["number", "epoch", "key"], keep="last")  # points come in order of time
    wide = long.pivot(index=["number", "epoch"], columns="key", values="value")
    frame = wide.reindex(columns=list(_METRICS)).sort_index().rename_axis(columns=None).reset_index()
    return frame.astype({"number": "int64", "epoch": "int64", **dict.fromkeys(_METRICS, "float64")})


def _unbounded(value: float) -> float:
    """MLflow writes an infinity as the largest float there is."""
    return float("inf") * value if abs(value) >= sys.float_info.max else value


def _utc(milliseconds: pd.Series[Any]) -> pd.Series[Any]:
    return pd.to_datetime(milliseconds.astype("Int64"), unit="ms", utc=True)
