"""The columns of the tables with one row per trial. Each is one object with all its properties.

Tables, the report, the note and the view in MLflow, TensorBoard and the labels of axes use these objects. To add a
column to the table of results, add an object to RESULTS, and a test.

A setting needs no object: every sampled parameter, and every setting in which the trials differ, is a column under its
own name (`setting`). SETTINGS describes some of them further.

Standard library only, since the code that writes to MLflow imports it and must not load pandas.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Literal

from resnet_core import schema
from resnet_core.objective import DEFAULT, METRIC, Objective
from resnet_core.records import METRICS as KNOWN_METRICS
from resnet_core.records import duration_text


class Kind(StrEnum):
    """What the values of a column are."""

    TEXT = "text"
    NUMBER = "number"
    WHOLE = "whole number"
    SECONDS = "seconds"
    """A number; people see a duration, in the unit that suits it."""
    HOURS = "hours"
    """As SECONDS."""
    CROSSING = "epoch of a crossing"
    """A whole number. If it is missing, ``>N`` is shown: not by epoch N, the trial's last."""


ALWAYS = 100
"""The importance of a column that is never left out."""

OTHER = 95
"""The importance of a column that no object here describes; the first column of a table is never left out."""

SAMPLED = 80
"""The importance of a parameter that the study samples."""

SETTING = 75
"""The importance of a setting in which trials differ."""


@dataclass(frozen=True)
class TrialResult:
    """The data from which a trial's row in the table of results is read.

    Attributes:
        trial: the trial's row of `analysis.Study.trials`.
        curve: each metric's values at epochs 1, 2, 3, ...; shape (epochs,) each.
        reached: first epoch at the target or better.
        sustained: first of several such epochs in a row.
        best: the epoch of the best value of the metric.
        last: the last epoch; 0 before the first has ended.
    """

    trial: Mapping[Any, Any]
    curve: Mapping[str, Sequence[float]]
    reached: int | None
    sustained: int | None
    best: int | None
    last: int

    @property
    def crossing(self) -> int | None:
        """The first epoch at the target or better; the best epoch if there is none."""
        return self.reached or self.best


@dataclass(frozen=True)
class MetricAt:
    """Reads a metric at one epoch of a trial.

    Attributes:
        name: name of the metric, as in resnet_core.records.EpochRecord.
        at: which epoch; see `TrialResult`.
    """

    name: str
    at: Literal["crossing", "best", "last"]

    def __call__(self, result: TrialResult) -> float | None:
        """Return the metric's value; None where the trial has no such epoch."""
        epoch: int | None = getattr(result, self.at)
        return result.curve[self.name][epoch - 1] if epoch and self.name in result.curve else None


@dataclass(frozen=True)
class TrialField:
    """Reads a column of `analysis.Study.trials`."""

    name: str

    def __call__(self, result: TrialResult) -> Any:
        """Return the trial's value; None where the study has no such column."""
        return result.trial.get(self.name)


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        name: its key in CSV and JSON.
        kind: the kind of its values; None: text or numbers, as in the trials.
        read: returns its value in the table of results; None: the module that builds the table computes it.
        mlflow: the field of a trial's run in MLflow that holds it; empty if there is none.
        decimals: digits after the decimal point; None: four significant digits.
        importance: when space is short, columns of lower importance are left out first; a column with ALWAYS never is.
        shrinks: whether a long text may be cut to 12 characters.
        label: label of an axis.
    """

    name: str
    kind: Kind | None = Kind.NUMBER
    read: Callable[[TrialResult], Any] | None = None
    mlflow: str = ""
    decimals: int | None = None
    importance: int = ALWAYS
    shrinks: bool = False
    label: str = ""

    @property
    def heading(self) -> str:
        """Its heading for people: the name, with ``time`` in place of the unit of a duration."""
        return self.name.replace(self.kind, "time") if self.kind in (Kind.SECONDS, Kind.HOURS) else self.name

    def shown(self, value: Any) -> str:
        """Return a value, which is not missing, as text for people."""
        if self.kind in (Kind.SECONDS, Kind.HOURS) and not isinstance(value, str):
            return duration_text(value * (3600 if self.kind is Kind.HOURS else 1))
        if isinstance(value, float):
            text = f"{value:.4g}" if self.decimals is None else f"{value:.{self.decimals}f}"
            return text.replace("inf", "∞")
        return " ".join(str(value).split())  # the line breaks of an error would break the row


def setting(name: str, source: str = "") -> Column:
    """Return the column of a setting.

    Args:
        name: name of the setting.
        source: its column of `analysis.Study.trials`; the default is the name.
    """
    source = source or name
    known = _SETTINGS.get(name, Column(name, None, importance=SETTING, shrinks=True))
    return replace(known, read=TrialField(source), mlflow=f"params.{source}")


TRIAL = Column("trial", Kind.TEXT, TrialField("trial"))
OUTCOME = Column("outcome", Kind.TEXT, TrialField(schema.OUTCOME), f"tags.{schema.OUTCOME}")
VAL_ACC = Column(
    "val_acc", read=MetricAt("val_acc", "crossing"), decimals=4, importance=30, label="validation accuracy"
)
VAL_ACC_BEST = Column(
    "val_acc_best", read=MetricAt("val_acc", "best"), mlflow="metrics.best_val_acc", decimals=4, importance=90
)
EPOCH_BEST = Column("epoch_best", Kind.WHOLE, lambda result: result.best, "metrics.best_epoch", importance=35)
EPOCHS_RUN = Column("epochs_run", Kind.WHOLE, lambda result: result.last, "metrics.epochs_run", importance=70)

SETTINGS = tuple(
    replace(column, read=TrialField(column.name), mlflow=f"params.{column.name}")
    for column in (
        Column("shift", importance=SETTING, label="shift [share of width]"),
        Column("l2", importance=SETTING, label="L2 factor"),
        Column("weight_decay", importance=SETTING, label="weight decay λ"),
        Column(schema.LR_ALPHA, importance=50, label="highest learning rate"),
        Column("schedule", Kind.TEXT, importance=65, shrinks=True),
        Column("batch_size", Kind.WHOLE, importance=SETTING, label="batch size"),
        Column("optimizer", Kind.TEXT, importance=SETTING),
        Column("epochs", Kind.WHOLE, importance=SETTING),
        Column(schema.SEED, Kind.WHOLE, importance=5),
    )
)
"""Settings with properties beyond their name; TensorBoard has all of them besides those of the table."""

_SETTINGS = {column.name: column for column in SETTINGS}

RESULTS = (
    TRIAL,
    Column("epoch", Kind.WHOLE, lambda result: result.crossing, importance=28),
    VAL_ACC,
    Column("acc", read=MetricAt("acc", "crossing"), decimals=4, importance=20),
    EPOCH_BEST,
    VAL_ACC_BEST,
    Column("final_loss", read=MetricAt("loss", "last"), mlflow="metrics.final_loss", decimals=4, importance=10),
    Column(
        "final_val_loss", read=MetricAt("val_loss", "last"), mlflow="metrics.final_val_loss", decimals=4, importance=15
    ),
    *(setting(name) for name in ("shift", "l2", "weight_decay", "lr_alpha", "schedule")),
    Column("epochs_to_target", Kind.CROSSING, lambda result: result.reached, "metrics.epochs_to_target"),
    Column(
        "epochs_to_target_sustained",
        Kind.CROSSING,
        lambda result: result.sustained,
        "metrics.epochs_to_target_sustained",
        importance=45,
    ),
    EPOCHS_RUN,
    OUTCOME,
    Column(
        "stop_reason",
        Kind.TEXT,
        TrialField(schema.STOP_REASON),
        f"tags.{schema.STOP_REASON}",
        importance=55,
        shrinks=True,
    ),
)
"""The table of results: these columns in this order, and the settings that a study adds before ``schedule``."""

COST = (
    TRIAL,
    Column("batch_size", Kind.WHOLE, importance=60),
    VAL_ACC_BEST,
    EPOCH_BEST,
    Column("gpu_util_percent", importance=55),
    Column("power_watts", importance=92),
    Column("seconds_per_epoch", Kind.SECONDS),
    EPOCHS_RUN,
    Column("hours", Kind.HOURS),
    Column("energy_wh", importance=OTHER),
)
"""The table of costs."""

STOPPING = (Column("stopped", Kind.WHOLE), Column("hours_saved", Kind.HOURS, importance=OTHER))
"""The columns of the table of stopping rules that are more than numbers and texts, or are never left out."""

STATISTICS = (Column("reached", Kind.WHOLE), Column("median", None))
"""The columns of the table of statistics that are never left out, beside the first."""

NOISE = (
    TRIAL,
    Column("epoch_from", Kind.WHOLE, importance=OTHER),
    Column("epoch_to", Kind.WHOLE, importance=OTHER),
    Column("val_loss_mean", importance=70),
    Column("val_loss_noise", importance=70),
    Column("lr_mean", importance=70),
    Column("batch_size", Kind.WHOLE, importance=60),
    Column("momentum", importance=70),
    Column("train_images", Kind.WHOLE, importance=70),
    Column("noise_scale"),
)
"""The table of the noise of the validation loss."""


def value_columns(metric: str) -> tuple[Column, Column]:
    """Return the columns of the metric that counts: its value at the crossing, and its best value."""
    decimals = 4 if metric in KNOWN_METRICS else None
    best = replace(VAL_ACC_BEST, name=f"{metric}_best", read=MetricAt(metric, "best"), decimals=decimals)
    at_crossing = replace(VAL_ACC, name=metric, read=MetricAt(metric, "crossing"), decimals=decimals, label=metric)
    if metric == METRIC:
        return VAL_ACC, VAL_ACC_BEST
    return at_crossing, replace(best, mlflow=f"metrics.{schema.best_metric(metric)}")


def result_columns(objective: Objective = DEFAULT) -> list[Column]:
    """Return the columns of the table of results of a study: RESULTS, with the columns of its metric.

    Without a target, there are no epochs to it.
    """
    own = dict(zip((VAL_ACC.name, VAL_ACC_BEST.name), value_columns(objective.metric), strict=True))
    found = {column.name: column for column in (own.get(column.name, column) for column in reversed(RESULTS))}
    found |= {column.name: column for column in own.values()}
    return [c for c in reversed(found.values()) if c.kind is not Kind.CROSSING or objective.target is not None]


METRICS = tuple(dict.fromkeys(column.read.name for column in RESULTS if isinstance(column.read, MetricAt)))
"""The metrics of each epoch that the table of results needs; see `analysis.load`."""

_RESULTS = {column.name: column for column in RESULTS}
_KNOWN = {column.name: column for column in (*NOISE, *COST, *STOPPING, *STATISTICS)} | _RESULTS


def column_named(name: str, settings: bool = False, metric: str = METRIC) -> Column:
    """Return the column with a name.

    Args:
        name: name of the column. If it begins with a digit, it is a level such as 0.92, and the column has the epoch
            from which on it holds.
        settings: whether it is a column of the table of results, in which a name that RESULTS lacks is a setting. In
            other tables an unknown name is a column of importance OTHER.
        metric: the metric that counts in the study.
    """
    for column in value_columns(metric):
        if name == column.name:
            return column
    known = _RESULTS if settings else _KNOWN
    if name in known:
        return known[name]
    if name[:1].isdigit():
        return Column(name, Kind.CROSSING)
    return setting(name) if settings else Column(name, None, importance=OTHER, shrinks=name == "differs")


def with_settings(settings: Sequence[Column], objective: Objective = DEFAULT) -> list[Column]:
    """Return the columns of the table of results of a study that adds these settings.

    A setting with the name of a column of results takes its place.
    """
    own = {column.name: column for column in settings}
    known = [own.pop(column.name, column) for column in result_columns(objective)]
    place = [column.name for column in known].index("schedule")
    return [*known[:place], *own.values(), *known[place:]]


def importance(column: Column, sampled: Collection[str]) -> int:
    """Return the importance of a column in a study that samples these parameters."""
    return max(column.importance, SAMPLED) if column.name in sampled else column.importance


def most_important(
    names: Sequence[str], sampled: Collection[str], most: int, objective: Objective = DEFAULT
) -> list[str]:
    """Return some columns for a quick look: the trial, its epochs to target or best value, then the others in order.

    Long texts are left out, such as a schedule that is not sampled.

    Args:
        names: names of the columns of a table of results.
        sampled: names of the parameters that the study samples.
        most: largest number of columns to return.
        objective: what the study looks for.
    """
    columns = [column_named(name, settings=True, metric=objective.metric) for name in names]
    short = [c for c in columns if c.kind is not Kind.TEXT or not c.shrinks or c.name in sampled]
    chosen = {c.name for c in sorted(short, key=lambda column: -importance(column, sampled))[:most]}
    leading = f"{objective.metric}_best" if objective.target is None else "epochs_to_target"
    first = [name for name in (TRIAL.name, leading) if name in chosen]
    return [*first, *(name for name in names if name in chosen and name not in first)]
