"""Prepares a process that trains one or several trials."""

from __future__ import annotations

import gc
import os
from collections.abc import Generator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnet_core import code
from resnet_core.code import Source
from resnet_core.config import TrialConfig
from resnet_core.network_file import NetworkWriter
from resnet_core.records import EpochRecord
from resnet_core.run import Run, own_epochs
from sweeps import environment

if TYPE_CHECKING:
    from search_spaces.trainers import OwnTrainer


@dataclass(frozen=True)
class Worker:
    """A process that is ready to train.

    Attributes:
        device: torch's device.
        device_name: name of the device, for people.
        threads: number of torch's threads on the CPU.
        process: the process's id.
    """

    device: str
    device_name: str
    threads: int
    process: int


def prepare_worker(threads: int, gpus: float) -> Worker:
    """Prepare this process for trials; imports torch.

    Args:
        threads: CPU threads of each trial.
        gpus: share of a GPU's memory that the trials of this process may take; 0 trains on the CPU.
    """
    import_torch()
    import torch

    torch.set_num_threads(threads)
    device = "cuda" if gpus and torch.cuda.is_available() else "cpu"
    if device == "cuda":
        # A trial that shares its GPU gets an out-of-memory error before it takes the memory of other processes.
        torch.cuda.set_per_process_memory_fraction(min(1.0, gpus))
    name = torch.cuda.get_device_name() if device == "cuda" else "cpu"
    return Worker(device, name, torch.get_num_threads(), os.getpid())


def import_torch() -> None:
    """Import torch, as a process that trains needs it; the driver does without."""
    environment.for_trials()
    gc.disable()  # the garbage collector would take a seventh of the time
    try:
        import torch as torch
    finally:
        gc.enable()


def train_arguments(config: dict[str, Any]) -> tuple[TrialConfig, dict[str, Any]]:
    """Return a trial's configuration, and further arguments of ``train``, from its Ray config."""
    find_code(config["code"])
    return TrialConfig.from_dict(config["config"]), {
        "data_dir": Path(config["data_dir"]),
        "checkpoint": Path(config["checkpoint"]),
        "network": _network_writer(config),
    }


def _network_writer(config: dict[str, Any]) -> NetworkWriter | None:
    network = config["network"]
    return None if network is None else NetworkWriter(Path(network["path"]), network["about"])


def code_to_dict(source: Source, copy: Path) -> dict[str, Any]:
    """Return a source and the folder of its copy as plain values, for ``find_code``."""
    return {**source.to_dict(), "copy": str(copy)}


def find_code(sources: Sequence[Mapping[str, Any]]) -> None:
    """Let modules be imported from the folders of a study's code; from the copies where a file has changed or is gone.

    Modules that no copy has, since the code imports them inside a function, come from the original folder.

    Args:
        sources: what ``code_to_dict`` returned for each.
    """
    folders, originals = [], []
    for values in sources:
        source = Source.from_dict(values)
        if source.folder is None:
            continue
        folder = Path(values["copy"])
        with suppress(OSError):
            if code.current(source).version == source.version:
                folder = source.folder
        folders.append(folder)
        originals.append(source.folder)
    code.search(*dict.fromkeys([*folders, *originals]))


def own_training(config: dict[str, Any], worker: Worker) -> Generator[EpochRecord]:
    """Yield the epochs of a trial whose trainer is somebody's own, from its Ray config.

    Its code is imported when the first epoch is asked for, so an import that never ends counts as an epoch.
    """
    from search_spaces.trainers import OwnTrainer  # here and below: the trainer that ships does not need it

    find_code(config["code"])
    yield from own_epochs_of(
        OwnTrainer(config["trainer"]),
        config["config"],
        name=config["name"],
        number=config["number"],
        device=worker.device,
        threads=worker.threads,
        data_dir=Path(config["data_dir"]),
        checkpoint=Path(config["checkpoint"]),
        network=_network_writer(config),
        metric=config["metric"],
    )


def own_epochs_of(trainer: OwnTrainer, values: Mapping[str, Any], **run: Any) -> Generator[EpochRecord]:
    """Return the epochs of a trainer of somebody's own.

    Args:
        trainer: the trainer.
        values: the configuration as plain values.
        run: arguments of `resnet_core.run.Run` besides configuration and horizon.
    """
    config = trainer.stored_config(values)
    return own_epochs(
        trainer.function, trainer.instance(config), Run(config=config.to_dict(), horizon=config.horizon, **run)
    )
