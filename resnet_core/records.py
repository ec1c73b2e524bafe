"""What a training run leaves behind: one record an epoch, one outcome at its end."""

from __future__ import annotations

import enum
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EpochRecord:
    """One epoch of training and the validation after it.

    Attributes:
        epoch: 1-based number of the epoch.
        loss: mean cross-entropy over the training images of the epoch, as they were
            augmented, in train mode, before each step (as Keras reports it; without L2).
        acc: training accuracy of the same forward passes, in [0, 1].
        val_loss: mean cross-entropy over the validation images after the epoch.
        val_acc: validation accuracy after the epoch, in [0, 1].
        lr: learning rate of the epoch's last step.
        wd_lr: λ·lr of the epoch's last step: the share of a weight that decoupled decay takes.
        seconds: wall time of the epoch: training, validation and, with ``test``, the test images.
        images_per_second: training images over the wall time of the training part.
        power_watts: mean power of the whole GPU over the epoch, whatever else runs on it; None without one.
        gpu_util_percent: share of time in which the GPU ran anything at all, of the epoch's last second at most; None
            without one.
        test_loss: mean cross-entropy over the test images after the epoch; None without ``test``.
        test_acc: accuracy on them, in [0, 1]; None likewise. It is told, and nothing acts upon it.
    """

    epoch: int
    loss: float
    acc: float
    val_loss: float
    val_acc: float
    lr: float
    wd_lr: float
    seconds: float
    images_per_second: float
    power_watts: float | None = None
    gpu_util_percent: float | None = None
    test_loss: float | None = None
    test_acc: float | None = None


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
