"""The configuration of a trial whose trainer is not the one that ships."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

from resnet_core.config import TrialConfig
from resnet_core.schedule import Schedule, parse


@dataclass(frozen=True)
class OwnConfig:
    """The values of the fields of a trainer's ``Config``. Hashable and comparable; the trainer's code is not needed.

    Attributes:
        values: every field of ``Config`` with its value, in the order of the fields. A list is kept as a tuple.
        schedule_fields: the fields of type Schedule; their values are texts in the notation, or None.

    >>> config = OwnConfig((("schedule", "[0.1, 0] lin[0, 12]"), ("hidden", 64)), ("schedule",))
    >>> config.horizon, config.lr_alpha, config.seed
    (12, 0.1, None)
    """

    values: tuple[tuple[str, Any], ...]
    schedule_fields: tuple[str, ...] = ()

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], schedule_fields: Sequence[str]) -> OwnConfig:
        """Return the config with these plain values."""
        return cls(tuple((name, _hashable(value)) for name, value in values.items()), tuple(schedule_fields))

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values; ``from_dict`` takes them back."""
        return {name: _plain(value) for name, value in self.values}

    @cached_property
    def schedules(self) -> dict[str, Schedule]:
        """The schedules that have a value, by field."""
        values = dict(self.values)
        return {name: parse(values[name]) for name in self.schedule_fields if values.get(name) is not None}

    @property
    def lr_schedule(self) -> Schedule | None:
        """The schedule of the field ``schedule``, or of the first field that has one; None without any."""
        return self.schedules.get("schedule") or next(iter(self.schedules.values()), None)

    @property
    def schedule(self) -> str:
        """The text of ``lr_schedule``; empty without one."""
        return "" if self.lr_schedule is None else str(self.lr_schedule)

    @property
    def lr_alpha(self) -> float | None:
        """The highest value of ``lr_schedule``; None without one."""
        return None if self.lr_schedule is None else self.lr_schedule.peak

    @cached_property
    def horizon(self) -> int:
        """Epochs the run lasts when nothing stops it: the field ``epochs``, else the last epoch of the schedules.

        0 where neither says it.
        """
        epochs = dict(self.values).get("epochs")
        if isinstance(epochs, int) and not isinstance(epochs, bool):
            return epochs
        return math.ceil(max((schedule.last_epoch for schedule in self.schedules.values()), default=0))

    @property
    def seed(self) -> int | None:
        """The field ``seed``; None where the trainer has no such field."""
        seed = dict(self.values).get("seed")
        return seed if isinstance(seed, int) else None


Config: TypeAlias = TrialConfig | OwnConfig
"""The configuration of a trial, of the trainer that ships or of another."""


def with_seed(config: Config, seed: int) -> Config:
    """Return a config with another seed; a config without a seed is returned as it is."""
    values = config.to_dict()
    if "seed" not in values:
        return config
    values["seed"] = seed
    if isinstance(config, OwnConfig):
        return OwnConfig.from_dict(values, config.schedule_fields)
    return TrialConfig.from_dict(values)


def _hashable(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return tuple(map(_hashable, value))
    return value


def _plain(value: Any) -> Any:
    return list(map(_plain, value)) if isinstance(value, tuple) else value
