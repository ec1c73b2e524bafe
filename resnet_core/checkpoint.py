"""Checkpoints, written atomically: to a temporary file that is synced and renamed. The previous one is kept."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import shutil
import zipfile
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from resnet_core.records import EpochRecord

_T = TypeVar("_T")
_FORMAT = 3
EPOCHS_BETWEEN = 1
"""Epochs between two saves of a run's state; the last epoch is always saved.

Above 1, a killed run trains the epochs since its last save again. If the driver is killed at the moment in which a rule
ends a trial, MLflow may lack these epochs; a warning says so.
"""
_RECORDS = "archive/records.json"
"""The file of epoch records inside a checkpoint's zip file, beside torch's own files. It is read without torch."""
_log = logging.getLogger(__name__)
_whole: dict[Path, tuple[int, int, int]] = {}
"""Signatures of files that this process wrote or verified. They are not verified again, since that takes long."""


class CheckpointError(RuntimeError):
    """A checkpoint cannot be used; the message names the file, the reason and what to do."""


def save(path: Path, state: dict[str, Any], *, replacing: bool = False) -> None:
    """Write ``state`` (tensors and plain values) to ``path``; a reader sees the old file or the new one.

    The file that was at ``path`` is kept as ``previous(path)``, unless it is damaged: then the file before it is kept.

    Args:
        path: the file to write.
        state: the values to write. Its ``records`` must fit into JSON; ``load_records`` reads them without the rest.
        replacing: write only if there is a file at ``path``. If there is none, the run's checkpoint has been removed.

    Raises:
        OSError: the file could not be written; errno gives the reason, such as a full disk. Older files are unchanged.
    """
    import torch  # here and below: a process that only reads records need not load it

    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        with aside.open("w+b") as file:
            torch.save({"format": _FORMAT, **{key: value for key, value in state.items() if key != "records"}}, file)
            if "records" in state:
                with zipfile.ZipFile(file, "a") as archive:
                    archive.writestr(_RECORDS, json.dumps(state["records"]))
            file.flush()
            os.fsync(file.fileno())
        if replacing and not path.exists():
            aside.unlink(missing_ok=True)
            return
        if path.exists() and _is_whole(path):
            path.replace(previous(path))
        aside.replace(path)
        _whole[path] = _signature(path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            aside.unlink()
        # torch reports a full disk as a RuntimeError of its zip writer, with the OSError as its context.
        if isinstance(error, RuntimeError):
            cause = error.__context__
            number = cause.errno if isinstance(cause, OSError) and cause.errno else errno.EIO
            reason = os.strerror(number) if number != errno.EIO else str(error)
            raise OSError(number, f"checkpoint could not be written: {reason}", str(path)) from error
        raise


def is_due(epoch: int, horizon: int) -> bool:
    """Return whether a run of ``horizon`` epochs saves its state after ``epoch`` (1-based)."""
    return epoch % EPOCHS_BETWEEN == 0 or epoch == horizon


class Writer:
    """Saves the checkpoints of one run, each after its epoch.

    Args:
        path: the file to write.
        background: write in a thread, from a copy of the state, while the caller trains on a GPU. After a kill, the
            last epoch may have to be trained again. ``save`` waits for the first and the last checkpoint of a run.
    """

    def __init__(self, path: Path, *, background: bool) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(1, "checkpoint") if background else None
        self._writing: Future[None] | None = None

    def save(self, state: dict[str, Any], *, last: bool) -> None:
        """Save ``state``, as the function ``save`` does.

        Raises:
            OSError: the checkpoint cannot be written, or the one before could not.
        """
        if self._writing is not None:
            self._writing.result()
        if self._thread is None or last or not self._path.exists():
            save(self._path, state)
        else:
            self._writing = self._thread.submit(save, self._path, _on_cpu(state), replacing=True)

    def close(self) -> None:
        """Wait for the checkpoint that is being written; a failure is logged."""
        if self._thread is not None:
            self._thread.shutdown()
        error = None if self._writing is None else self._writing.exception()
        if error is not None:
            _log.warning("the last checkpoint was not written: %s", error)


def _on_cpu(state: Any) -> Any:
    """Return nested dicts and lists with copies of their tensors on the CPU; other values are not copied."""
    import torch

    if isinstance(state, dict):
        return {key: _on_cpu(value) for key, value in state.items()}
    if isinstance(state, list):
        return [_on_cpu(value) for value in state]
    if isinstance(state, torch.Tensor):
        return state.detach().to("cpu", copy=True)
    return state


def load(path: Path) -> dict[str, Any] | None:
    """Return the newest undamaged checkpoint at ``path``, on the CPU; None where no file exists.

    If the file is damaged, a warning is logged and the previous one is read.

    Raises:
        CheckpointError: there are files, and none of them can be read.
    """
    return _newest(path, _read)


def load_records(path: Path) -> list[EpochRecord]:
    """Return the epoch records in the trainer's checkpoint at ``path``; an empty list where there is no checkpoint.

    Raises:
        CheckpointError: there are files, and none of them can be read.
    """
    return _newest(path, _read_records) or []


def _newest(path: Path, read: Callable[[Path], _T]) -> _T | None:
    damaged: list[str] = []
    for candidate in (path, previous(path)):
        if not candidate.exists():
            continue
        # torch does not check checksums: it would load a tensor with zeroed or flipped bytes.
        try:
            signature = _signature(candidate)
            _verify(candidate)
            found = read(candidate)
        except Exception as error:  # a damaged file may raise anything at all
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            damaged.append(f"{candidate}: {reason}")
            _log.warning("checkpoint %s cannot be read (%s); trying the one before it", candidate, reason)
            continue
        _whole[candidate] = signature
        return found
    if damaged:
        raise CheckpointError(
            "no checkpoint can be read: " + "; ".join(damaged) + ". Delete the files to start the run anew."
        )
    return None


def _read(path: Path) -> dict[str, Any]:
    import torch

    state = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(state, dict) or state.get("format") != _FORMAT:
        raise ValueError(f"not a checkpoint of format {_FORMAT}")
    records = _plain_records(path)
    return state if records is None else {**state, "records": records}


def _read_records(path: Path) -> list[EpochRecord]:
    records = _plain_records(path)
    if records is None:
        raise ValueError(f"not a trainer's checkpoint of format {_FORMAT}")
    return [EpochRecord.from_dict(record) for record in records]


def _plain_records(path: Path) -> list[dict[str, Any]] | None:
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read(_RECORDS)) if _RECORDS in archive.namelist() else None


def _verify(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise ValueError(f"wrong checksum of {damaged}")


def _is_whole(path: Path) -> bool:
    if _whole.get(path) == _signature(path):
        return True
    try:
        _verify(path)
    except Exception:  # a damaged file may raise anything at all
        return False
    return True


def _signature(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns


def previous(path: Path) -> Path:
    """Return the path of the checkpoint before the one at ``path``."""
    return path.with_name(path.name + ".previous")


def files_of(path: Path) -> Path:
    """Return the folder for further files that belong to the checkpoint at ``path``."""
    return path.with_suffix(".files")


def remove_previous(path: Path) -> None:
    """Delete the checkpoint before the one at ``path``, unless it is the only one."""
    if path.exists():
        previous(path).unlink(missing_ok=True)


def remove(path: Path) -> None:
    """Delete the checkpoint at ``path``, the one before it, its folder, and temporary files of killed writers."""
    # The files first: a trainer that still writes to its folder sees by them that its trial is over.
    for leftover in (path, previous(path), *path.parent.glob(f"{path.name}.*.partial")):
        leftover.unlink(missing_ok=True)
    shutil.rmtree(files_of(path), ignore_errors=True)
    _whole.pop(path, None)
