"""The file of a trained network: a safetensors file whose metadata say what the network is. Reading it runs no code.

Importing this module loads neither torch nor safetensors. So a study that keeps no network needs no safetensors.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from resnet_core.paths import write_whole

_FORMAT = "1"
SUFFIX = ".safetensors"
_MOST_CLASSES = 100  # with more of them, the counts of classes taken for others are not kept


class NetworkFileError(RuntimeError):
    """A file holds no network that can be used; the message names the file, the reason and what to do."""


@dataclass(frozen=True)
class About:
    """What a file says of its network; plain values, as JSON in the file's metadata.

    Attributes:
        epoch: the epoch (1-based) after which the weights were validated.
        config: the trial's configuration as plain values: the fields of TrialConfig or, with a trainer of one's own,
            those of its ``Config``.
        study: name of the study.
        trial: name of the trial.
        trainer: ``module:object`` of a trainer of one's own; None is the trainer that ships.
        weights: ``last``: the trained weights; ``average``: their moving average (``ema``), where that was validated;
            ``given``: what a trainer of one's own gave to ``run.save_model``.
        metrics: the metrics of the epoch, by name, exactly as recorded.
        metric: the metric that the study looks at.
        target: the study's target of it; None without one.
        classes: names of the classes, by label; numbers where the data set has no names. Empty with a trainer of one's
            own.
        channels: channels of an image, such as 3 for colours; 0 with a trainer of one's own.
        image_size: height and width of an image in pixels; 0 with a trainer of one's own.
        confusion: for each class (row) and each class (column), how many of the epoch's validation images of the first
            were taken for the second; None with more than 100 classes, or a trainer of one's own.
        versions: versions of the packages that trained it, by name.
    """

    epoch: int
    config: Mapping[str, Any]
    study: str = ""
    trial: str = ""
    trainer: str | None = None
    weights: str = "last"
    metrics: Mapping[str, float] = field(default_factory=dict)
    metric: str = "val_acc"
    target: float | None = None
    classes: tuple[str, ...] = ()
    channels: int = 0
    image_size: int = 0
    confusion: tuple[tuple[int, ...], ...] | None = None
    versions: Mapping[str, str] = field(default_factory=dict)

    def to_json(self, *, indent: int | None = None) -> str:
        """Return the values as JSON; ``from_json`` takes them back."""
        return json.dumps(asdict(self), indent=indent, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> About:
        """Return what ``to_json`` wrote; a key of a later version is ignored.

        Raises:
            ValueError: the text is something else.
        """
        values = json.loads(text)
        if not isinstance(values, dict):
            raise ValueError("expected an object")
        known = {f.name for f in fields(cls)}
        try:
            about = cls(**{name: value for name, value in values.items() if name in known})
            confusion = about.confusion and tuple(tuple(map(int, row)) for row in about.confusion)
            about = replace(about, classes=tuple(map(str, about.classes)), confusion=confusion or None)
        except (TypeError, ValueError) as error:
            raise ValueError(str(error)) from None
        is_right = (
            all(type(n) is int and n >= 0 for n in (about.epoch, about.channels, about.image_size))
            and all(isinstance(table, Mapping) for table in (about.config, about.metrics, about.versions))
            and all(isinstance(text, str) for text in (about.study, about.trial, about.weights, about.metric))
            and (about.trainer is None or isinstance(about.trainer, str))
        )
        if not is_right:
            raise ValueError("a value of another type than expected")
        return about

    @property
    def value(self) -> float:
        """The epoch's value of the metric that the study looks at; NaN where it was not measured."""
        value = self.metrics.get(self.metric)
        return math.nan if value is None else float(value)


class NetworkWriter:
    """Writes the network of one trial, again after each epoch.

    Args:
        path: the file.
        trial: what is the same in all epochs: ``study``, ``trial``, ``metric`` and ``target`` of `About`.
    """

    def __init__(self, path: Path, trial: Mapping[str, Any] | None = None) -> None:
        self.path, self._trial = path, dict(trial or {})

    def write(self, tensors: Mapping[str, Any], about: About) -> None:
        """Write the network after an epoch; see `save_network`."""
        save_network(self.path, tensors, replace(about, **self._trial))


def save_network(path: Path, tensors: Mapping[str, Any], about: About) -> None:
    """Write a network to a file, completely or not at all.

    A process that is killed leaves the old file or the new one. A machine that loses its power may leave a damaged one,
    since nothing waits until the disk has it (see `sync`).

    Args:
        path: the file; its folder is made.
        tensors: torch's tensors on any device or NumPy's arrays, by name.
        about: what they are.

    Raises:
        OSError: the file cannot be written; errno gives the reason, such as a full disk.
    """
    metadata = {"format": _FORMAT, "about": about.to_json()}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, _serialised(tensors, metadata))


def _serialised(tensors: Mapping[str, Any], metadata: dict[str, str]) -> bytes:
    torch = sys.modules.get("torch")  # what has not been imported has made no tensor
    if torch is None or not any(isinstance(tensor, torch.Tensor) for tensor in tensors.values()):
        import numpy as np
        from safetensors.numpy import save

        return save({name: np.asarray(array, order="C") for name, array in tensors.items()}, metadata)
    from safetensors.torch import save as save_tensors

    # Copies: the weights of a network lie in one tensor, or belong to two layers, which the format does not have.
    return save_tensors(
        {
            name: torch.as_tensor(tensor).detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
            for name, tensor in tensors.items()
        },
        metadata,
    )


def sync(path: Path) -> None:
    """Wait until the disk has a file and its place in its folder.

    Raises:
        OSError: it cannot be written.
    """
    for place in (path, path.parent):
        number = os.open(place, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


def read_about(path: Path) -> About:
    """Return what a file says of its network; the weights are not read.

    Raises:
        NetworkFileError: there is no such file, or it is none of a network.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with path.open("rb") as file:
            start = file.read(9)
        with safe_open(path, framework="numpy") as opened:
            metadata = opened.metadata() or {}
    except OSError as error:
        raise NetworkFileError(f"{path}: {error.strerror or error}; expected the file of a network") from None
    except (SafetensorError, ValueError) as error:
        reason = _reason(start, str(error))
        raise NetworkFileError(f"{path}: {reason}; expected a file that `sweeps model` wrote") from None
    if "about" not in metadata:
        raise NetworkFileError(
            f"{path}: a safetensors file that says nothing of its network; expected one that `sweeps model` wrote"
        )
    if metadata.get("format") != _FORMAT:
        raise NetworkFileError(
            f"{path}: a network in format {metadata.get('format')!r:.20}; this version reads format {_FORMAT}"
        )
    try:
        return About.from_json(metadata["about"])
    except ValueError as error:
        raise NetworkFileError(f"{path}: what it says of its network cannot be read: {error}") from None


def _reason(start: bytes, error: str) -> str:
    if start[:2] == b"PK" or start[:1] == b"\x80":
        return "a file of torch.save or pickle, which is not read, since reading it could run code"
    if start[8:] == b"{":
        return "the file is incomplete or damaged"
    return f"no safetensors file ({error})"


def confusion_is_kept(classes: int) -> bool:
    """Return whether a network's file has how often which class was taken for which."""
    return classes <= _MOST_CLASSES
