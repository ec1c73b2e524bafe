"""The results of a training run: one record per epoch, one outcome at its end."""

from __future__ import annotations

import enum
from dataclasses import KW_ONLY, MISSING, dataclass, field, fields
from typing import Any

_SHARE: dict[str, Any] = {"share": True}


@dataclass(frozen=True, slots=True)
class EpochRecord:
    """One epoch of training and the validation after it.

    A field is a metric, and its name is the metric's name in checkpoints, in MLflow and in tables. To add a metric,
    add a field with a default here, so that older checkpoints can be read, and set it in the trainer.

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
    """

    epoch: int
    loss: float
    acc: float = field(metadata=_SHARE)
    val_loss: float
    val_acc: float = field(metadata=_SHARE)
    lr: float
    wd_lr: float
    seconds: float
    images_per_second: float
    _: KW_ONLY
    power_watts: float | None = None
    gpu_util_percent: float | None = None
    test_loss: float | None = None
    test_acc: float | None = field(default=None, metadata=_SHARE)
    val_top5_acc: float | None = field(default=None, metadata=_SHARE)
    test_top5_acc: float | None = field(default=None, metadata=_SHARE)


_FIELDS = [f for f in fields(EpochRecord) if f.name != "epoch"]
METRICS = tuple(f.name for f in _FIELDS)
"""Names of an epoch's metrics."""
OPTIONAL_METRICS = frozenset(f.name for f in _FIELDS if f.default is not MISSING)
"""The metrics that are None where they are not measured."""
SHARES = frozenset(f.name for f in _FIELDS if "share" in f.metadata)
"""The metrics in [0, 1]."""


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
    """Validation accuracy passed the target."""
    EXHAUSTED = "exhausted"
    """The schedule ended below the target."""
    PRUNED = "pruned"
    """A stopping rule ended the trial below the target."""
    DIVERGED = "diverged"
    """The loss was not finite, or accuracy stayed at chance."""
    CRASHED = "crashed"
    """An error that is not the trial's fault ended it."""
