"""Makes trials from rows: their configurations and epochs; all mistakes are reported together."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from resnet_core import schema
from resnet_core.config import SCHEDULE_FIELDS, TRIAL_CONFIG_FIELDS, ConfigError, TrialConfig
from resnet_core.objective import METRIC
from resnet_core.records import METRIC_NAME, METRICS, SHARES, EpochRecord
from resnet_core.schedule import Schedule, ScheduleError, Segment, parse
from search_spaces.errors import suggestion
from search_spaces.parameters import int_if_whole
from sweeps.errors import InputError
from sweeps.importing.problems import Problems
from sweeps.importing.rows import Row, Source

_TRIAL, _EPOCH = ("trial", "seed"), ("epoch", "_step", "Step", "step")  # column names, in the order of preference
_PLACES = (schema.DEVICE, schema.NODE)  # columns of text that the store keeps for a trial
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|[+-]?inf(inity)?|nan", re.IGNORECASE | re.ASCII)
_EXACT = 1e-4  # largest error of a schedule, as a share of the highest learning rate
_LONGEST_SCHEDULE = 6000  # characters; MLflow accepts no longer parameter
_LONGEST_NAME = 64


@dataclass(frozen=True)
class Options:
    """How to read a source.

    Attributes:
        names: by ``trial``, ``epoch`` or a metric of EpochRecord, the name of the source's column for it.
        percent: whether accuracies are in percent.
        from_zero: whether epochs count from 0.
    """

    names: Mapping[str, str] = field(default_factory=dict)
    percent: bool = False
    from_zero: bool = False


@dataclass(frozen=True)
class Trial:
    """A trial that was recorded elsewhere.

    Attributes:
        source_name: its name in the source.
        name: the same name, changed if a folder cannot have it.
        config: its configuration; unknown fields have TrialConfig's defaults.
        given: names of the known fields, from the source or from the settings for all trials.
        changes: the fields that the source gives for this trial.
        records: its epochs, 1, 2, …, with the metrics that the source has.
        metrics: by epoch, the metrics in the source, including metrics that EpochRecord does not have.
        place: where it ran, as tags of the store: device, node.
    """

    source_name: str
    name: str
    config: TrialConfig
    given: frozenset[str]
    changes: dict[str, Any]
    records: list[EpochRecord]
    metrics: list[dict[str, float]]
    place: dict[str, str]


@dataclass(frozen=True)
class Found:
    """The trials of a source, checked.

    Attributes:
        trials: the trials in the order of the source.
        left_out: the columns that the store cannot hold, each with the reason.
        from_lr: whether the schedules were made from the recorded learning rates.
    """

    trials: list[Trial]
    left_out: dict[str, str]
    from_lr: bool


def trials_of(source: Source, train: Mapping[str, Any], options: Options, metric: str = METRIC) -> Found:
    """Return the trials of a source.

    Args:
        source: the rows.
        train: fields of TrialConfig for all trials; a column of the source overrides them.
        options: how to read the source.
        metric: the metric that counts; every epoch must have it.

    Raises:
        InputError: there are mistakes; the message names up to ten kinds of them, each with its first place.
    """
    return _Checker(source, train, options, metric).found()


@dataclass
class _Draft:
    """A trial while its rows are collected."""

    epochs: dict[int, Row] = field(default_factory=dict)
    params: dict[str, tuple[Any, str, str]] = field(default_factory=dict)  # value, column, place
    place: dict[str, str] = field(default_factory=dict)


class _Checker:
    def __init__(self, source: Source, train: Mapping[str, Any], options: Options, metric: str) -> None:
        self._metric = metric
        self._source, self._train, self._options = source, train, options
        self._problems = Problems()
        columns = source.columns
        absent = [f"{name}={column}" for name, column in options.names.items() if column not in columns]
        if absent:
            column = absent[0].partition("=")[2]
            raise InputError(f"--metric {absent[0]}: {source.path} has no column {column!r}; {_known(column, columns)}")
        taken = set(options.names.values())
        self._trial = options.names.get("trial") or next((name for name in _TRIAL if name in columns), None)
        self._epoch = options.names.get("epoch") or next((name for name in _EPOCH if name in columns), "")
        self._metrics = {
            name: options.names.get(name, name)
            for name in dict.fromkeys([*METRICS, metric])
            if name in options.names or (name in columns and name not in taken)
        }
        if not self._epoch:
            raise InputError(
                f"{source.path}: no column epoch; {_known('epoch', columns)}; --metric epoch=COLUMN names it"
            )
        if metric not in self._metrics:
            raise InputError(
                f"{source.path}: no column {metric}; {_known(metric, columns)}; --metric {metric}=COLUMN names it"
            )
        self._fields = {name.removeprefix("config."): name for name in columns if _is_field(name) and name not in taken}
        rest = [
            name
            for name in columns
            if name not in {self._trial, self._epoch, *self._metrics.values(), *self._fields.values(), *_PLACES}
        ]
        self.left_out: dict[str, str] = {}
        self._others = [name for name in rest if self._is_metric(name)]

    def _is_metric(self, name: str) -> bool:
        """Return whether a column can be kept as a separate metric; if it cannot, note the reason."""
        why = ""
        if name.removeprefix("config.") in (*schema.FINAL_METRICS, *schema.DERIVED_PARAMS):
            why = "worked out anew"
        elif name.startswith("config."):
            why = "no field of TrialConfig"
        elif name in _EPOCH or name.startswith("_"):
            why = "counts steps, or is its tool's own"
        elif not METRIC_NAME.fullmatch(name):
            why = "no name of a metric"
        elif any(_number(row.values[name]) is None for row in self._source.rows if name in row.values):
            why = "not numbers"
        if why:
            self.left_out[name] = why
        return not why

    def found(self) -> Found:
        drafts: dict[str, _Draft] = {}
        for row in self._source.rows:
            name = self._name_of(row)
            if name is not None:
                self._take(row, drafts.setdefault(name, _Draft()))
        self._problems.raise_if_any()
        for name, draft in drafts.items():
            self._check_epochs(name, draft)
        self._problems.raise_if_any()
        names = _folder_names(list(drafts))
        trials = [self._finish(name, names[name], draft) for name, draft in drafts.items()]
        self._problems.raise_if_any()
        from_lr = "schedule" not in self._fields and "schedule" not in self._train
        return Found([trial for trial in trials if trial is not None], self.left_out, from_lr)

    def _name_of(self, row: Row) -> str | None:
        if self._trial is None:
            return self._source.path.resolve().stem  # the whole source is one trial
        value = row.values.get(self._trial)
        if isinstance(value, str | int | float) and not isinstance(value, bool) and str(value).strip():
            return str(int_if_whole(value)).strip()
        if value is None:
            self._problems.missing(row.place, self._trial, "the trial's name, text or a number")
        else:
            self._problems.add(row.place, self._trial, value, "the trial's name, text or a number")
        return None

    def _take(self, row: Row, draft: _Draft) -> None:
        """Add a row to its trial, and note the mistakes in it."""
        for name, column in self._fields.items():
            if row.values.get(column, "None") != "None":  # Python's text for a missing value
                value = _parameter(name, row.values[column])
                known, _, place = draft.params.setdefault(name, (value, column, row.place))
                if known != value:
                    self._problems.add(row.place, column, value, "one value in a trial", f"; {known} in {place}")
        for name in _PLACES:
            if isinstance(row.values.get(name), str):
                draft.place.setdefault(name, row.values[name])
        for name, column in self._metrics.items():
            self._check_metric(row, name, column)
        epoch = self._epoch_of(row)
        if epoch is None:
            return
        other = draft.epochs.setdefault(epoch, row)
        if other is not row:
            told = "each epoch of a trial once"
            told += "" if self._trial else "; where there are several trials, a column trial or --metric trial=COLUMN"
            self._problems.add(row.place, self._epoch, row.values[self._epoch], told, f"; it is in {other.place}, too")

    def _epoch_of(self, row: Row) -> int | None:
        value = _number(row.values.get(self._epoch))
        first = 0 if self._options.from_zero else 1
        if value is not None and value.is_integer() and value >= first:
            return int(value) + 1 - first
        expected = f"a whole number, {first} for the first epoch"
        expected += "; --from-zero reads epochs that count from 0" if value == 0 and first else ""
        if self._epoch in row.values:
            self._problems.add(row.place, self._epoch, row.values[self._epoch], expected)
        else:
            self._problems.missing(row.place, self._epoch, expected)
        return None

    def _check_metric(self, row: Row, name: str, column: str) -> None:
        value = row.values.get(column)
        number = _number(value)
        if value is None:
            if name == self._metric:
                expected = "a share in [0, 1]" if name in SHARES else "a number"
                self._problems.missing(row.place, column, f"{expected} for every epoch")
        elif number is None:
            self._problems.add(row.place, column, value, "a number")
        elif name in SHARES:
            # The accuracy of a network that has diverged may be missing.
            broken = math.isnan(number) and not math.isfinite(self._value(row, "loss") or 0.0)
            most = 100 if self._options.percent else 1
            if not (broken or 0 <= number <= most):
                hint = "; --percent reads percent" if 1 < number <= 100 else ""
                shares = "percent, 0 to 100" if self._options.percent else "a share in [0, 1]"
                self._problems.add(row.place, column, value, shares + hint)

    def _value(self, row: Row, name: str) -> float | None:
        """Return a metric of a row, in the unit of EpochRecord."""
        value = _number(row.values.get(self._metrics.get(name, "")))
        if value is not None and name in SHARES and self._options.percent:
            return float(f"{value / 100:.12g}")  # 92.19 / 100 is a little less than 0.9219
        return value

    def _check_epochs(self, name: str, draft: _Draft) -> None:
        """Note the first epoch that is missing."""
        last = max(draft.epochs, default=0)
        gap = next((epoch for epoch in range(1, last + 1) if epoch not in draft.epochs), None)
        if gap is not None:
            following = draft.epochs[min(epoch for epoch in draft.epochs if epoch > gap)]
            value = following.values[self._epoch]
            missing = f": epoch {gap - self._options.from_zero} of trial {name} is missing"
            self._problems.add(following.place, self._epoch, value, "no gap", missing)

    def _finish(self, source_name: str, name: str, draft: _Draft) -> Trial | None:
        rows = [draft.epochs[epoch] for epoch in sorted(draft.epochs)]
        changes = {key: value for key, (value, _, _) in draft.params.items()}
        values = {**self._train, **changes}
        try:
            if "schedule" not in values:
                schedule = self._schedule(rows)
                if schedule is None:
                    return None
                values["schedule"] = changes["schedule"] = schedule
            # The trial may be longer than its schedule: the schedule's last value stays.
            if "epochs" not in values and parse(values["schedule"]).last_epoch < len(rows):
                values["epochs"] = changes["epochs"] = len(rows)
            config = TrialConfig(**values)
        except (ConfigError, ScheduleError) as error:
            self._misfit(rows[0], draft, values, error)
            return None
        if config.horizon < len(rows):
            expected = f"at most {config.horizon} epochs, the `epochs` that its configuration has"
            self._problems.add(rows[-1].place, self._epoch, rows[-1].values[self._epoch], expected)
            return None
        metrics = [self._metrics_of(row) for row in rows]
        records = [EpochRecord.from_values(number, values) for number, values in enumerate(metrics, start=1)]
        return Trial(source_name, name, config, frozenset(values), changes, records, metrics, draft.place)

    def _misfit(self, row: Row, draft: _Draft, values: Mapping[str, Any], error: ConfigError | ScheduleError) -> None:
        """Note a value of a trial's field that TrialConfig refuses."""
        if isinstance(error, ConfigError):
            name, value, expected = error.field, error.value, error.expected
        else:
            name = next(field for field in SCHEDULE_FIELDS if values.get(field) == error.text)
            value, expected = error.text, f"a schedule: {error.reason}"
        _, column, place = draft.params.get(name, (value, f"train.{name}", row.place))
        self._problems.add(place, column, value, expected)

    def _schedule(self, rows: Sequence[Row]) -> str | None:
        """Return a schedule made from the recorded learning rates; None if one of them is wrong."""
        lrs = [self._value(row, "lr") for row in rows]
        known = [lr for lr in lrs if lr is not None and 0 <= lr < math.inf]
        if len(known) == len(rows):
            text = schedule_of(known)
            if len(text) > _LONGEST_SCHEDULE:
                raise InputError(
                    f"{rows[0].place}: the schedule made of this trial's learning rates has {len(text)} characters; "
                    f"expected at most {_LONGEST_SCHEDULE}: give it with --set train.schedule=TEXT"
                )
            return text
        expected = "a learning rate of 0 or more in every epoch, to make the schedule of; or --set train.schedule=TEXT"
        bad = next((row for row, lr in zip(rows, lrs, strict=True) if lr is None or not 0 <= lr < math.inf), rows[0])
        column = self._metrics.get("lr", "lr")
        if column in bad.values:
            self._problems.add(bad.place, column, bad.values[column], expected)
        elif column in self._source.columns:
            self._problems.missing(bad.place, column, expected)
        else:
            raise InputError(
                f"{self._source.path}: neither a column schedule nor lr; give the schedule that all trials had with "
                "--set train.schedule='[1e-3, 0] cos[1e-5, 26]', or the learning rate's column with --metric lr=COLUMN"
            )
        return None

    def _metrics_of(self, row: Row) -> dict[str, float]:
        found = {name: self._value(row, name) for name in self._metrics}
        found |= {name: _number(row.values.get(name)) for name in self._others}
        return {name: value for name, value in found.items() if value is not None}


def schedule_of(lrs: Sequence[float]) -> str:
    """Return a schedule, in the notation, that has these learning rates at the ends of epochs 1, 2, …

    It is linear between its knots. It has the smallest number of knots with which every error is at most 1/10,000 of
    the highest rate. The rate within the first epoch is not known; the schedule keeps it constant.

    >>> schedule_of([1e-3, 2e-3, 3e-3, 3e-3])
    '[1e-3, 0] lin[1e-3, 1] lin[3e-3, 3] lin[3e-3, 4]'
    """
    values = [lrs[0], *lrs]  # by epoch, from 0
    exact, kept = _EXACT * max(values), [0]
    for end in range(2, len(values)):
        start = kept[-1]
        slope = (values[end] - values[start]) / (end - start)
        if any(abs(values[start] + slope * (i - start) - values[i]) > exact for i in range(start + 1, end)):
            kept.append(end - 1)
    knots = [(float(f"{values[epoch]:.6g}"), float(epoch)) for epoch in (*kept, len(lrs))]
    return str(Schedule(knots[0][0], tuple(Segment("lin", value, epoch) for value, epoch in knots[1:])))


def _is_field(column: str) -> bool:
    return column.removeprefix("config.") in TRIAL_CONFIG_FIELDS


def _number(value: object) -> float | None:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    return float(value) if isinstance(value, str) and _NUMBER.fullmatch(value) else None


def _parameter(name: str, value: Any) -> Any:
    """Return the value of a field; a text of a number, true or false is converted to that value."""
    if name in SCHEDULE_FIELDS:
        return str(value)
    if not isinstance(value, str):
        return int_if_whole(value)
    if value.lower() in ("true", "false"):
        return value.lower() == "true"
    number = _number(value)
    return value if number is None else int_if_whole(number)


def _folder_names(names: Sequence[str]) -> dict[str, str]:
    """Return valid names of folders: other characters become ``-``, and names that are then equal get numbers."""
    found: dict[str, str] = {}
    for name in names:
        short = re.sub(r"\.\.+", ".", re.sub(r"[^A-Za-z0-9._]+", "-", name)).lstrip("._-")[:_LONGEST_NAME] or "trial"
        candidate, count = short, 1
        while candidate in found.values():
            count += 1
            candidate = f"{short[: _LONGEST_NAME - len(str(count)) - 1]}-{count}"
        found[name] = candidate
    return found


def _known(name: str, columns: Sequence[str]) -> str:
    hint = suggestion(name, columns)
    return hint if hint.startswith("did") else f"its columns: {', '.join(columns[:20])}" + ", …" * (len(columns) > 20)
