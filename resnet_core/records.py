"""The results of a training run: one record per epoch, one outcome at its end."""

from __future__ import annotations

import contextlib
import enum
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, fields
from typing import Any

from resnet_core import schema

_SHARE: dict[str, Any] = {"share": True}


@dataclass(frozen=True, slots=True)
class EpochRecord:
    """One epoch of training and the validation after it.

    The fields are the metrics of the trainer that ships; a trainer of one's own may measure any others, which stand in
    ``metrics``. A metric's name is the same in checkpoints, in MLflow and in tables. A metric that was not measured is
    None, or not in ``metrics``. NaN and infinities are measured values.

    To add a metric to the trainer that ships, add a field here and set it in the trainer.

    >>> record = EpochRecord.from_values(1, {"val_loss": 0.5, "perplexity": 1.65})
    >>> record.val_loss, record.val_acc, record.get("perplexity")
    (0.5, None, 1.65)

    Attributes:
        epoch: 1-based number of the epoch.
        loss: mean cross-entropy over the augmented training images of the epoch, in train mode, before each step (as
            Keras reports it; without L2).
        acc: training accuracy of the same forward passes, in [0, 1].
        val_loss: mean cross-entropy over the validation images after the epoch.
        val_acc: validation accuracy after the epoch, in [0, 1].
        lr: learning rate of the epoch's last step.
        wd_lr: λ·lr of the epoch's last step: the share of a weight that decoupled decay subtracts.
        seconds: wall time of the epoch: training, validation and, with ``test``, the test images.
        images_per_second: training images over the wall time of the training part.
        power_watts: mean power of the whole GPU over the epoch, other processes included; None without a GPU.
        gpu_util_percent: percentage of time in which the GPU ran any kernel, over at most the epoch's last second; None
            without a GPU.
        test_loss: mean cross-entropy over the test images after the epoch; None without ``test``.
        test_acc: accuracy on the test images, in [0, 1]; None without ``test``. No decision depends on it.
        val_top5_acc: share of the validation images whose class is among the five with the highest logits, in [0, 1];
            None for a data set of fewer than 100 classes.
        test_top5_acc: the same of the test images; None without ``test``, too.
        metrics: all other metrics, by name.
    """

    epoch: int
    loss: float | None = None
    acc: float | None = field(default=None, metadata=_SHARE)
    val_loss: float | None = None
    val_acc: float | None = field(default=None, metadata=_SHARE)
    lr: float | None = None
    wd_lr: float | None = None
    seconds: float | None = None
    images_per_second: float | None = None
    _: KW_ONLY
    power_watts: float | None = None
    gpu_util_percent: float | None = None
    test_loss: float | None = None
    test_acc: float | None = field(default=None, metadata=_SHARE)
    val_top5_acc: float | None = field(default=None, metadata=_SHARE)
    test_top5_acc: float | None = field(default=None, metadata=_SHARE)
    metrics: Mapping[str, float] = field(default_factory=dict, hash=False)

    @classmethod
    def from_values(cls, epoch: int, values: Mapping[str, float | None]) -> EpochRecord:
        """Return the record of an epoch with these metrics; one that is None was not measured.

        Raises:
            ValueError: a name has another meaning in the store, or a value is not a number.
        """
        measured = {name: _number(name, value) for name, value in values.items() if value is not None}
        fields_ = {name: measured.pop(name) for name in METRICS if name in measured}
        return cls(epoch, **fields_, metrics=measured)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> EpochRecord:
        """Return the record that `to_dict` wrote; a metric that is None was not measured."""
        return cls.from_values(values["epoch"], {name: value for name, value in values.items() if name != "epoch"})

    def to_dict(self) -> dict[str, Any]:
        """Return the number of the epoch under ``epoch``, and all measured metrics by name."""
        return {"epoch": self.epoch, **self.values()}

    def values(self) -> dict[str, float]:
        """Return all measured metrics by name: first those that are fields, in the order of the fields."""
        of_fields = ((name, getattr(self, name)) for name in METRICS)
        return {name: value for name, value in of_fields if value is not None} | dict(self.metrics)

    def get(self, name: str) -> float | None:
        """Return a metric; None where it was not measured."""
        value: float | None = getattr(self, name) if name in METRICS else self.metrics.get(name)
        return value


def _number(name: str, value: Any) -> float:
    if name in RESERVED:
        raise ValueError(f"metric {name!r}: expected another name; the store uses this one")
    if not METRIC_NAME.fullmatch(name):
        raise ValueError(
            f"metric {name!r}: expected a letter, then letters, digits, spaces and any of _ . : / -, 250 at most, "
            "and between slashes more than dots: MLflow takes no other name"
        )
    if not isinstance(value, bool) and not str(getattr(value, "dtype", "")).endswith("bool"):  # NumPy's and torch's
        with contextlib.suppress(Exception):  # the value's own class may raise anything at all
            return float(value)
    raise ValueError(f"metric {name!r} = {value!r:.100}: expected a number")


_FIELDS = [f for f in fields(EpochRecord) if f.name not in ("epoch", "metrics")]
METRICS = tuple(f.name for f in _FIELDS)
"""Names of the metrics of the trainer that ships."""
SHARES = frozenset(f.name for f in _FIELDS if "share" in f.metadata)
"""Those of them that are in [0, 1]."""
METRIC_NAME = re.compile(r"(?=.{1,250}\Z)[A-Za-z][\w.: -]*(?:/(?!\.{1,2}(?:/|\Z))[\w.: -]+)*", re.ASCII)
"""What the name of a metric looks like; every version of MLflow takes it. It may be a path, but a plain one."""
RESERVED = frozenset({"epoch", *schema.FINAL_METRICS})
"""Names that a metric of an epoch cannot have."""


def metric_curve(records: Iterable[EpochRecord], name: str) -> list[float]:
    """Return a metric's value in each epoch; NaN where it was not measured."""
    values = (record.get(name) for record in records)
    return [math.nan if value is None else value for value in values]


_NOT_SHOWN = frozenset({"wd_lr", "seconds", "images_per_second", "power_watts", "gpu_util_percent"})


def metric_texts(values: Mapping[str, float]) -> list[str]:
    """Return metrics as short texts for people; those that tell about the speed alone are left out.

    >>> metric_texts({"loss": 0.25, "lr": 0.001, "seconds": 3.5, "perplexity": 1.284})
    ['loss 0.2500', 'lr 0.001', 'perplexity 1.284']
    """
    return [f"{name} {metric_text(name, value)}" for name, value in values.items() if name not in _NOT_SHOWN]


def metric_text(name: str, value: float) -> str:
    """Return a metric as text for people: four decimals for losses and accuracies, else four significant digits.

    >>> metric_text("val_acc", 0.9), metric_text("perplexity", 12.34567)
    ('0.9000', '12.35')
    """
    if name == "lr":
        return f"{value:.3g}"
    return f"{value:.4f}" if name in METRICS else f"{value:.4g}"


_UNITS = ((86400.0, "days"), (3600.0, "h"), (60.0, "min"), (1.0, "s"))


def duration_text(seconds: float, digits: int = 3) -> str:
    """Return a time as text for people, in the unit that suits it; from two days on in days.

    >>> [duration_text(seconds) for seconds in (0, 0.0008, 3.06, 42, 150, 5400, 200_000)]
    ['0 s', '0.8 ms', '3.06 s', '42 s', '2.5 min', '1.5 h', '2.31 days']
    >>> [duration_text(seconds, digits=2) for seconds in (447, 59.7, 8_600_000)]
    ['7.5 min', '60 s', '100 days']
    """
    for size, unit in _UNITS:
        if seconds >= size * (2 if unit == "days" else 1):
            return f"{_rounded(seconds / size, digits)} {unit}"
    if 0 < seconds < 0.9995:
        return f"{_rounded(1000 * seconds, digits)} ms"
    return f"{_rounded(seconds, digits)} s"


def _rounded(value: float, digits: int) -> str:
    return f"{value:,.0f}" if value >= 10 ** (digits - 1) else f"{value:.{digits}g}"


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One training step.

    Attributes:
        step: number of the step over the run, from 0.
        epoch: epochs trained before the step, a fraction within one.
        lr: learning rate of the step.
        loss: mean cross-entropy over the step's images, before the step.
        acc: accuracy of the same forward pass, in [0, 1].
    """

    step: int
    epoch: float
    lr: float
    loss: float
    acc: float


class Outcome(enum.StrEnum):
    """How a trial ended."""

    REACHED = "reached"
    """The metric came to the target."""
    EXHAUSTED = "exhausted"
    """It trained to its end and did not come to the target, or there is none."""
    PRUNED = "pruned"
    """A stopping rule ended it before that."""
    DIVERGED = "diverged"
    """The loss was not finite, or accuracy stayed at chance."""
    CRASHED = "crashed"
    """An error that is not the trial's fault ended it."""


def crashes_text(study: str, crashes: Sequence[tuple[str, str | None]], *, every: bool) -> str:
    """Return why trials crashed, as a sentence without its full stop: the most frequent error, and where to see more.

    Args:
        study: name of the study.
        crashes: the trials that crashed, one or more: the name and the error in a line, None where it is not known.
        every: whether no other trial has begun.

    >>> crashes_text("mine", [("0", "mlp.py, line 5: KeyError: 'x'"), ("3", "ValueError: 7")], every=False)
    "crashed: mlp.py, line 5: KeyError: 'x' (1 of the 2 crashes); `sweeps show mine 0` tells more"
    """
    (error, times), *_ = Counter(error for _, error in crashes).most_common(1)  # the first one of equally frequent ones
    first = next(trial for trial, known in crashes if known == error)
    said = "every trial crashed" if every else "crashed"
    if error is not None:
        said += f": {error}"
        said += f" ({times} of the {len(crashes)} crashes)" if times < len(crashes) else ""
    return f"{said}; `sweeps show {study} {first}` tells more"
