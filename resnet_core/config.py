"""TrialConfig: everything that determines one training run."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Literal, get_args

from resnet_core.schedule import Schedule, parse

Data = Literal["cifar10", "digits"]
Split = Literal["official", "pooled", "held-out"]
OptimizerName = Literal["adam", "adamw", "sgd"]
Precision = Literal["fp32", "bf16"]

CLASSES = 10
"""Kinds of images in either data set."""

_RESNET_V2 = re.compile(r"resnet([1-9][0-9]*)v2")


class ConfigError(ValueError):
    """A TrialConfig field has a value it cannot have.

    Attributes:
        field: name of the field.
        value: what it was given.
        expected: what would have been right, in words.
    """

    def __init__(self, field: str, value: object, expected: str) -> None:
        # All arguments go to the base class: they are what pickle hands back to __init__ in another process.
        super().__init__(field, value, expected)
        self.field, self.value, self.expected = field, value, expected

    def __str__(self) -> str:
        return f"{self.field} = {self.value!r}: expected {self.expected}"


def resnet_v2_depth(model: str) -> int:
    """Return the depth in a name such as ``resnet56v2``; raise ConfigError where it is not 9n+2."""
    match = _RESNET_V2.fullmatch(model)
    depth = int(match[1]) if match else 0
    if depth < 11 or (depth - 2) % 9 or depth > 1001:
        raise ConfigError("model", model, "resnetDv2 with a depth D = 9n+2 from 11 to 1001, such as resnet56v2")
    return depth


@dataclass(frozen=True)
class TrialConfig:
    """Everything that determines one training run. Hashable, comparable, free of torch.

    Attributes:
        schedule: learning rate over epochs, in the schedule notation; kept as canonical text.
        model: network by name; ``resnetDv2`` with depth D = 9n+2.
        data: ``cifar10``, or ``digits`` (scikit-learn's, enlarged, three channels).
        split: which images train and which validate; see resnet_core.data.
        image_size: height and width in pixels: 32 for cifar10, 16 or 32 for digits.
        train_limit: at most so many training images, stratified, drawn from the seed; None is all.
        val_limit: at most so many validation images, stratified, drawn from the seed; None is all.
        batch_size: images a step; the last step of an epoch takes what is left.
        optimizer: ``adam``, ``adamw`` or ``sgd``.
        weight_decay: λ, decoupled: every step takes lr·λ·w off every weight, whatever the optimizer.
        weight_decay_schedule: λ over epochs in the notation, instead of a constant weight_decay.
        l2: factor of Σw² over convolution kernels in the loss; its gradient is 2·l2·w (Keras's l2).
        momentum: SGD's momentum, Adam's β₁.
        beta2: Adam's β₂.
        eps: Adam's ε; 1e-7 is Keras's default.
        nesterov: Nesterov's momentum, for sgd.
        shift: images are moved by up to ±shift·image_size pixels on both axes; 0 is off.
        flip: half of the images are mirrored left to right.
        epochs: the run's horizon; None is the schedule's last epoch.
        seed: of weights, order, augmentation, and of the ``pooled`` split.
        precision: ``fp32``, or ``bf16`` autocast.

    Raises:
        ConfigError: a field has a value it cannot have.
        ScheduleError: a schedule is not in the notation.
    """

    schedule: str
    model: str = "resnet56v2"
    data: Data = "cifar10"
    split: Split = "official"
    image_size: int = 32
    train_limit: int | None = None
    val_limit: int | None = None
    batch_size: int = 64
    optimizer: OptimizerName = "adamw"
    weight_decay: float = 0.0
    weight_decay_schedule: str | None = None
    l2: float = 0.0
    momentum: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-7
    nesterov: bool = False
    shift: float = 0.0
    flip: bool = True
    epochs: int | None = None
    seed: int = 0
    precision: Precision = "fp32"

    def __post_init__(self) -> None:
        for name in ("schedule", "model", "weight_decay_schedule"):
            optional = name == "weight_decay_schedule" and self.weight_decay_schedule is None
            self._require(name, optional or isinstance(getattr(self, name), str), "a text")
        object.__setattr__(self, "schedule", str(parse(self.schedule)))
        if self.weight_decay_schedule is not None:
            object.__setattr__(self, "weight_decay_schedule", str(parse(self.weight_decay_schedule)))
            if self.weight_decay:
                raise ConfigError(
                    "weight_decay",
                    self.weight_decay,
                    "0 where weight_decay_schedule is given: one of the two",
                )
        resnet_v2_depth(self.model)
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ConfigError(name, getattr(self, name), "one of " + ", ".join(choices))
        sizes = (32,) if self.data == "cifar10" else (16, 32)
        self._require(
            "image_size",
            _is_int(self.image_size) and self.image_size in sizes,
            f"{' or '.join(map(str, sizes))} for {self.data}",
        )
        for name in ("train_limit", "val_limit", "batch_size", "epochs"):
            value = getattr(self, name)
            optional = value is None and name != "batch_size"
            self._require(name, optional or (_is_int(value) and value >= 1), "a whole number of 1 or more")
        self._require("seed", _is_int(self.seed) and 0 <= self.seed < 2**32, "a whole number from 0 to 2^32 - 1")
        for name in ("weight_decay", "l2"):
            self._require(name, _is_number(getattr(self, name)) and getattr(self, name) >= 0, "a number of 0 or more")
        for name in ("momentum", "beta2"):
            self._require(name, _is_number(getattr(self, name)) and 0 <= getattr(self, name) < 1, "0 <= value < 1")
        self._require("eps", _is_number(self.eps) and self.eps > 0, "a number above 0")
        self._require(
            "shift",
            _is_number(self.shift) and 0 <= self.shift < 0.5,
            "a share of the image, 0 <= shift < 0.5",
        )
        for name in ("nesterov", "flip"):
            self._require(name, isinstance(getattr(self, name), bool), "true or false")
        possible = self.optimizer == "sgd" and self.momentum > 0
        self._require("nesterov", not self.nesterov or possible, "false unless the optimizer is sgd with momentum")
        self._require(
            "schedule",
            self.horizon >= 1,
            "a last epoch of 1 or more, or epochs beside it: the run has no length",
        )

    def _require(self, name: str, ok: bool, expected: str) -> None:
        if not ok:
            raise ConfigError(name, getattr(self, name), expected)

    @cached_property
    def lr_schedule(self) -> Schedule:
        """The learning rate over epochs."""
        return parse(self.schedule)

    @cached_property
    def wd_schedule(self) -> Schedule | None:
        """λ over epochs, or None where weight_decay is a constant."""
        return None if self.weight_decay_schedule is None else parse(self.weight_decay_schedule)

    @property
    def horizon(self) -> int:
        """Epochs the run lasts when nothing stops it."""
        return self.epochs if self.epochs is not None else math.ceil(self.lr_schedule.last_epoch)

    @property
    def lr_alpha(self) -> float:
        """The highest learning rate of the schedule; the published tables call it LR alpha."""
        return self.lr_schedule.peak

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values; ``TrialConfig.from_dict`` takes them back."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrialConfig:
        """Make a config of plain values. Raises ConfigError for a name that is no field."""
        unknown = values.keys() - TRIAL_CONFIG_FIELDS
        if unknown:
            name = min(unknown)
            raise ConfigError(name, values[name], "a field of TrialConfig: " + ", ".join(sorted(TRIAL_CONFIG_FIELDS)))
        return cls(**values)


TRIAL_CONFIG_FIELDS = frozenset(f.name for f in fields(TrialConfig))
_CHOICES: dict[str, tuple[str, ...]] = {
    "data": get_args(Data),
    "split": get_args(Split),
    "optimizer": get_args(OptimizerName),
    "precision": get_args(Precision),
}


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < math.inf
