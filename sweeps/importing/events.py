"""Reads TensorBoard's event files as rows: a folder of files is a trial, a step is an epoch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from sweeps.errors import InputError
from sweeps.importing.rows import Row

_FILES = "events.out.tfevents.*"
_HPARAMS = "_hparams_/session_start_info"
_RESULT = "result/"  # tags that `sweeps export` adds for the HParams page, at step 0


def digest(folder: Path) -> str:
    """Return the SHA-256 of the event files' names and contents, in hexadecimal digits."""
    found = hashlib.sha256()
    for file in sorted(folder.rglob(_FILES)):
        found.update(f"{file.relative_to(folder)}\0{hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return found.hexdigest()


def rows(folder: Path) -> list[Row]:
    """Return the epochs of all trials in a folder; if a step has several values, the last one written counts.

    Raises:
        InputError: there is no event file, one is damaged, or tensorboard is not installed.
    """
    files: dict[Path, list[Path]] = {}
    for file in sorted(folder.rglob(_FILES)):
        files.setdefault(file.parent, []).append(file)
    if not files:
        raise InputError(f"{folder}: no event file of TensorBoard's in it; expected {_FILES} in a folder a trial")
    return [row for place, found in files.items() for row in _trial(place, folder, found)]


def _trial(place: Path, folder: Path, files: list[Path]) -> list[Row]:
    name = str(place.relative_to(folder)) if place != folder else folder.resolve().name
    config: dict[str, Any] = {}
    epochs: dict[int, dict[str, Any]] = {}
    for file in files:
        for step, tag, value in _values(file):
            if tag == _HPARAMS:
                config |= {f"config.{key}": item for key, item in value.items()}
            elif not tag.startswith(_RESULT):
                epochs.setdefault(step, {})[tag] = value
    fixed = {"trial": name, **{key: value for key, value in config.items() if value is not None}}
    return [Row(f"{place}, step {step}", {**fixed, "epoch": step, **epochs[step]}) for step in sorted(epochs)]


def _values(file: Path) -> Iterator[tuple[int, str, Any]]:
    """Yield step, tag and value of every scalar; the value of the tag ``_HPARAMS`` is a dictionary of parameters."""
    try:
        from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
        from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
        from tensorboard.util.tensor_util import make_ndarray
    except ModuleNotFoundError as error:
        raise InputError(f"{file}: {error.name} is not installed; pip install tensorboard") from error
    try:
        for event in EventFileLoader(str(file)).Load():
            for summary in event.summary.value:
                plugin = summary.metadata.plugin_data
                if summary.tag == _HPARAMS:
                    info = HParamsPluginData.FromString(plugin.content).session_start_info
                    yield 0, _HPARAMS, {key: _parameter(value) for key, value in info.hparams.items()}
                elif plugin.plugin_name == "scalars":
                    yield event.step, summary.tag, _shortest(make_ndarray(summary.tensor).item())
    except InputError:
        raise
    except Exception as error:  # for a damaged file TensorBoard's reader may raise any exception
        raise InputError(f"{file}: not an event file of TensorBoard's: {error}") from error


def _parameter(value: Any) -> Any:
    kind = value.WhichOneof("kind")
    return None if kind is None else getattr(value, kind)


def _shortest(value: float) -> float:
    """Return the shortest decimal that equals ``value`` as a 32-bit float, such as 0.95 for 0.949999988."""
    return float(str(np.float32(value)))
