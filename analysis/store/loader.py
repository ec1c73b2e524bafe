"""A study in MLflow's store: its class, and how its data frames are built from runs and points.

analysis.store.backends reads the store; resnet_core.schema has the names in it.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd

from analysis.store.backends import BACKENDS
from analysis.store.reader import Reader, Run, StoreError
from resnet_core import schema
from resnet_core.objective import METRIC, Goal, Objective
from resnet_core.records import METRICS, Outcome
from resnet_core.uris import without_password

__all__ = ["METRICS", "StoreError", "Study", "load", "studies"]


_URI = re.compile(r"^[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_WORDS = {"None": None, "True": True, "False": False}
_LONGEST_WHOLE = 18  # characters; a column of 64 bits holds any such number
_OUTCOMES = frozenset(map(str, Outcome))
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?|[+-]?inf|nan", re.IGNORECASE | re.ASCII)
TRIAL_COLUMNS = ("number", "trial", "run_id", "status", *schema.END, schema.GPUS, "start_time", "end_time")
"""The columns of `Study.trials` before those of the parameters."""

_COUNTED = (*map(str, Outcome), "running")
_STUDY_COLUMNS = ("name", "description", "created", "status", "trials", *_COUNTED)


@dataclass(frozen=True, eq=False)
class Study:
    """A study as MLflow holds it.

    Attributes:
        name: name of the study.
        description: description in its study file; empty if there is none.
        target: value of the metric to reach, in (0, 1] for val_acc; None if there is none.
        sustained: epochs in a row at the target or better that count as sustained.
        split: which images validate: ``official``, ``pooled`` or ``held-out``; several, comma-separated, if the trials
            differ; None while there is no trial.
        trials: one row per trial, by number: number (int), trial (its name), run_id, status (MLflow's), outcome
            (str; None while running), stop_reason, stopped_by, would_stop (JSON: by rule, the first epoch at which it
            said stop; each str or None), gpus (number held, below 1 a share of one GPU; NaN if the store does not say),
            start_time, end_time (UTC; NaT while running), then every parameter under its name, numbers as numbers.
        epochs: one row per trial and epoch, by number and epoch: number, epoch (1-based), then the metrics of
            the trainer that ships, in the order and the units of resnet_core.records.EpochRecord, then others; NaN
            where a value is missing. A study of another trainer has the metrics that it measured, and the one that
            counts. Trials without a finished epoch have no row. Metrics that were not requested have no column.
        stopping_rules: ``active`` or ``shadow`` by rule, as in the study file; None if the store does not say.
        environment: software and hardware of the study, by name: code_version, versions of packages, device, gpus (of a
            trial), gpu_ids, threads, node; several values, comma-separated, if the trials differ.
        phase: ``search``, or ``confirm``: one frozen configuration, repeated with fresh seeds.
        confirms: in a confirmation, what it confirms, as ``STUDY trial NAME``; empty in a search.
        space: sampled parameters, by name: {low, high, log, int} and perhaps step, or {choices}; empty if runs are
            listed, None if the store does not say.
        imported: the file that the study was imported from; empty if this project ran it.
        lengthened: how a confirmation's number of runs was decided: ``looked`` if seeds were added after runs had
            ended, ``sequential`` if a sequential test decided; empty if it was fixed in advance.
        metric: the metric that counts.
        goal: ``max`` if it should rise, ``min`` if it should fall.
        deleted: names of the trials that are left out, since somebody deleted their runs in MLflow.
        nodes: names of the hosts on which the trials run or ran last, by number of the trial, where the store says so.
        status: MLflow's status of the latest launch, such as RUNNING; after kill -9 it stays what it was.
    """

    name: str
    description: str
    target: float | None
    sustained: int
    split: str | None
    trials: pd.DataFrame = field(repr=False)
    epochs: pd.DataFrame = field(repr=False)
    stopping_rules: dict[str, str] | None = None
    environment: dict[str, str] = field(default_factory=dict, repr=False)
    phase: str = "search"
    confirms: str = ""
    space: dict[str, Any] | None = None
    imported: str = ""
    lengthened: str = ""
    metric: str = METRIC
    goal: Goal = "max"
    deleted: tuple[str, ...] = ()
    nodes: dict[int, str] = field(default_factory=dict, repr=False)
    status: str = ""

    @property
    def objective(self) -> Objective:
        """What the study looks for: its metric, goal and target."""
        return Objective(self.metric, self.goal, self.target, self.sustained)

    @property
    def is_shipped(self) -> bool:
        """Whether its trials are of the trainer that ships, as far as is known; so are those that were imported."""
        return _is_shipped(self.trials, self.imported)

    def aimed(self, target: float | None = None) -> Objective:
        """Return what the study looks for, with another target; None is the study's own.

        Raises:
            ValueError: the target is impossible; see `resnet_core.objective.Objective`.
        """
        return self.objective if target is None else replace(self.objective, target=target)


def studies(source: Path | str) -> pd.DataFrame:
    """Return the studies of a store, one row each, newest first.

    Args:
        source: MLflow's store, as for `load`.

    Returns:
        Columns name, description, created (UTC), status (MLflow's, of the latest launch), trials (their number), and
        the numbers of trials that are reached, exhausted, pruned, diverged, crashed, or running (without an outcome).

    Raises:
        StoreError: the store is not there, cannot be read, or is not MLflow's.
    """
    with _opened(source) as reader:
        runs = _in_order(reader.runs())
    rows = []
    for name, launches in _launches(runs).items():
        trials = _trials(runs, launches)
        outcomes = Counter(_end(run.tags, schema.OUTCOME) or "running" for run in trials.values())
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


def load(source: Path | str, study: str, metrics: Sequence[str] | None = None) -> Study:
    """Return a study with all its trials and epochs. It is the same for every kind of store.

    Deleted runs are left out, and `Study.deleted` names their trials. If a metric was logged twice for an epoch, the
    last value counts; if a trial number has two runs, the one that started last.

    Args:
        source: MLflow's store: a path or ``sqlite:///FILE``, ``postgresql://…``, or a server's ``http://…`` or
            ``https://…``. It may be in use: from a database, one consistent state is read.
        study: name of the study.
        metrics: the metrics to read; reading fewer takes less time. None reads all: first METRICS, those of the
            trainer that ships (of another trainer those that it logged), then all others that the trials logged, in
            alphabetical order. An epoch without any of them has no row.

    Raises:
        StoreError: the store is not there, cannot be read, or is not MLflow's; it has no such study; or the study's
            runs lack the tags that this project writes.
    """
    shown = without_password(str(source))
    with _opened(source) as reader:
        runs = _in_order(reader.runs(study))
        launches = _launches(runs).get(study)
        if launches is None:
            if reader.is_deleted(study):
                again = f"restore it there, or with `sweeps resume {study}`"
                raise StoreError(f"{shown}: study {study!r} was deleted in MLflow; {again}")
            known = ", ".join(sorted(_launches(_in_order(reader.runs())))) or "none yet"
            raise StoreError(f"{shown}: no study {study!r}; its studies: {known}")
        trials = _trials(runs, launches)
        parents = {launch.id for launch in launches}
        deleted = {
            run.tags[schema.TRIAL_NUMBER]: run.name
            for run in _in_order(reader.runs(study, deleted=True))
            if run.tags.get(schema.TRIAL_NUMBER, "").isdecimal() and run.tags.get(schema.PARENT_RUN) in parents
        }
        tags = launches[-1].tags
        space = _space(tags.get(schema.SPACE))
        frame = _trial_frame(trials, reader.params(study), _texts(space or {}))
        if metrics is None:
            counts = tags.get(schema.METRIC, METRIC)
            logged = {*reader.metric_names(study), counts}
            shipped = _is_shipped(frame, tags.get(schema.IMPORTED, ""))
            others = logged.difference(METRICS, schema.FINAL_METRICS, [schema.best_metric(counts)])
            metrics = (*(name for name in METRICS if shipped or name in logged), *sorted(others))
        epochs = _epoch_frame(reader, trials, metrics)

    splits = sorted(map(str, frame["split"].dropna().unique())) if "split" in frame else []
    try:
        target = float(tags[schema.TARGET]) if schema.TARGET in tags else None
        sustained = int(tags[schema.SUSTAINED])
        sought = Objective(
            tags.get(schema.METRIC, METRIC), cast("Goal", tags.get(schema.GOAL, "max")), target, sustained
        )
    except (KeyError, ValueError) as error:
        again = f"`sweeps resume {study}` writes it again"
        raise StoreError(f"{shown}: the launch of study {study!r} lacks a usable tag: {error}; {again}") from None
    return Study(
        name=study,
        description=_description(tags),
        target=target,
        sustained=sustained,
        split=", ".join(splits) or None,
        trials=frame,
        epochs=epochs,
        stopping_rules=_json_table(tags.get(schema.STOPPING_RULES)),
        environment=_environment(tags, trials),
        phase=tags.get(schema.PHASE, "search"),
        confirms=tags.get(schema.CONFIRMS, ""),
        space=space,
        imported=tags.get(schema.IMPORTED, ""),
        lengthened=tags.get(schema.LENGTHENED, ""),
        metric=sought.metric,
        goal=sought.goal,
        deleted=tuple(name for number, name in deleted.items() if int(number) not in trials),
        nodes={number: run.tags[schema.NODE] for number, run in trials.items() if run.tags.get(schema.NODE)},
        status=launches[-1].status,
    )


def _is_shipped(trials: pd.DataFrame, imported: str) -> bool:
    return bool(imported) or trials.empty or "split" in trials


def _environment(tags: dict[str, str], trials: dict[int, Run]) -> dict[str, str]:
    """Return the launch's versions, and the values of its trials' tags that say where they ran."""
    found = {name: tags[name] for name in schema.VERSIONS if name in tags}
    for name in (schema.CODE_VERSION, *schema.PLACE):
        values = sorted({run.tags[name] for run in trials.values() if run.tags.get(name)})
        if values:
            found[name] = ", ".join(values)
    return found


def _description(tags: dict[str, str]) -> str:
    """Return the study's description; in older launches it is the note."""
    return tags.get(schema.DESCRIPTION, tags.get(schema.NOTE, ""))


def _opened(source: Path | str) -> AbstractContextManager[Reader]:
    """Return a context manager that gives a reader of a store.

    Raises:
        StoreError: the store is not there, cannot be read, or is not MLflow's.
    """
    text = str(source)
    if isinstance(source, Path) or not _URI.match(text):
        return BACKENDS["sqlite"].open(text)
    for backend in BACKENDS.values():
        if text.startswith(backend.prefixes):
            return backend.open(text)
    *usages, last = [usage for backend in sorted(BACKENDS.values(), key=lambda b: b.usage) for usage in backend.usage]
    raise StoreError(f"{without_password(text)}: expected {', '.join(usages)} or {last}")


def _in_order(runs: Sequence[Run]) -> list[Run]:
    """Return the runs in the order in which they started."""
    return sorted(runs, key=lambda run: (run.start_time, run.id))


def _launches(runs: list[Run]) -> dict[str, list[Run]]:
    """Return the launches of each study, in the order in which they started; incomplete imports are left out."""
    found: defaultdict[str, list[Run]] = defaultdict(list)
    for run in runs:
        if schema.is_launch(run.tags) and (schema.IMPORTED not in run.tags or run.status == "FINISHED"):
            found[run.experiment].append(run)
    return dict(found)


def _trials(runs: list[Run], launches: list[Run]) -> dict[int, Run]:
    """Return the trials of a study by number; of two with the same number, the one that started last.

    Args:
        runs: the study's runs, perhaps among others.
        launches: the study's launches, except incomplete imports, whose trials are left out.
    """
    study, parents = launches[0].experiment, {launch.id for launch in launches}
    of_study = [run for run in runs if run.experiment == study]
    hidden = {run.id for run in of_study if schema.is_launch(run.tags)} - parents
    found = {}
    for run in of_study:
        if schema.is_trial(run.tags) and run.tags.get(schema.PARENT_RUN) not in hidden:
            number = run.tags.get(schema.TRIAL_NUMBER, "")
            if not number.isdecimal():
                where = f"run {run.id} of study {study!r}"
                again = f"`sweeps resume {study}` puts it right"
                raise StoreError(f"{where}: its tag {schema.TRIAL_NUMBER} = {number!r} is no number; {again}")
            found[int(number)] = run
    return dict(sorted(found.items()))


def parse_param(text: str) -> Any:
    """Return the number, True, False or None whose `str` is this text; other texts unchanged.

    >>> [parse_param(text) for text in ("1e-05", "64", "007", "1e400")]
    [1e-05, 64, '007', '1e400']
    """
    if text in _WORDS:
        return _WORDS[text]
    if not _NUMBER.fullmatch(text):
        return text
    if not text.lstrip("+-").isdecimal():
        number: float = float(text)
    elif len(text) > _LONGEST_WHOLE:
        return text
    else:
        number = int(text)
    return number if str(number) == text else text  # "007" is no number but a name


def _json_table(text: str | None) -> dict[str, Any] | None:
    """Return the table in a tag; None if there is no such tag, or somebody has written something else into it."""
    try:
        table = json.loads(text or "null")
    except ValueError:
        return None
    return table if isinstance(table, dict) else None


def _space(text: str | None) -> dict[str, Any] | None:
    """Return the sampled parameters in a tag, see `Study.space`; None if somebody has changed the tag."""
    space = _json_table(text)
    usable = space is not None and all(
        isinstance(parameter, dict)
        and (isinstance(parameter.get("choices"), list) or {"low", "high"} <= parameter.keys())
        for parameter in space.values()
    )
    return space if usable else None


def _number(text: str | None) -> float:
    """Return the number in a tag; NaN if there is none."""
    try:
        return float(text or "nan")
    except ValueError:
        return np.nan


def _texts(space: dict[str, Any]) -> dict[str, set[str]]:
    """Return by parameter the choices that are texts, such as "7" or "True", and that no other choice is written as."""
    found = {}
    for name, parameter in space.items():
        choices = parameter.get("choices", ()) if isinstance(parameter, dict) else ()
        others = {str(choice) for choice in choices if not isinstance(choice, str)}
        found[name] = {choice for choice in choices if isinstance(choice, str)} - others
    return found


def _end(tags: dict[str, str], name: str) -> str | None:
    """Return a tag that says how a trial ended; None if it has none, or one that this project does not write."""
    text = tags.get(name)
    if name == schema.OUTCOME and text not in _OUTCOMES:
        return None
    if name == schema.WOULD_STOP and _json_table(text) is None:
        return None
    return text


def _trial_frame(trials: dict[int, Run], params: dict[str, dict[str, str]], texts: dict[str, set[str]]) -> pd.DataFrame:
    runs = list(trials.values())
    columns: dict[str, Any] = {
        "number": np.array(list(trials), np.int64),
        "trial": [run.name for run in runs],
        "run_id": [run.id for run in runs],
        "status": [run.status for run in runs],
        **{tag: pd.Series([_end(run.tags, tag) for run in runs], dtype=object) for tag in schema.END},
        schema.GPUS: np.array([_number(run.tags.get(schema.GPUS)) for run in runs], np.float64),
        "start_time": _utc(pd.Series([run.start_time for run in runs], dtype="Int64")),
        "end_time": _utc(pd.Series([run.end_time for run in runs], dtype="Int64")),
    }
    given = [schema.whole(params.get(run.id, {})) for run in runs]
    plain = {text: parse_param(text) for text in {text for row in given for text in row.values()}}
    for name in sorted({name for row in given for name in row} - set(TRIAL_COLUMNS)):
        kept = texts.get(name.removeprefix(schema.SAMPLED), ())
        columns[name] = [
            np.nan if name not in row else row[name] if row[name] in kept else plain[row[name]] for row in given
        ]
    return pd.DataFrame(columns)


def _epoch_frame(reader: Reader, trials: dict[int, Run], metrics: Sequence[str]) -> pd.DataFrame:
    ids = [run.id for run in trials.values()]
    read = [reader.points(ids, metric) for metric in metrics]
    # One number for each pair of trial and epoch, in the order of both.
    span = 1 + max((int(points.epoch.max()) for points in read if len(points.epoch)), default=0)
    places = [points.run * span + points.epoch for points in read]
    rows = np.unique(np.concatenate(places)) if places else np.empty(0, np.int64)
    run, epoch = np.divmod(rows, span)
    columns = {"number": np.array(list(trials), np.int64)[run], "epoch": epoch}
    for metric, points, place in zip(metrics, read, places, strict=True):
        columns[metric] = np.full(len(rows), np.nan)
        columns[metric][np.searchsorted(rows, place)] = points.value  # the last value for an epoch counts
    return pd.DataFrame(columns)


def _utc(milliseconds: pd.Series[Any]) -> pd.Series[Any]:
    return pd.to_datetime(milliseconds.astype("Int64"), unit="ms", utc=True)
