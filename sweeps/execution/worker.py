"""Prepares a process that trains one or several trials."""

from __future__ import annotations

import gc
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resnet_core.config import TrialConfig


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
    gc.disable()  # the garbage collector would take a seventh of the time of importing torch
    try:
        import torch  # here, so that the driver does not import it
    finally:
        gc.enable()
    torch.set_num_threads(threads)
    device = "cuda" if gpus and torch.cuda.is_available() else "cpu"
    if device == "cuda":
        # A trial that shares its GPU gets an out-of-memory error before it takes the memory of other processes.
        torch.cuda.set_per_process_memory_fraction(min(1.0, gpus))
    name = torch.cuda.get_device_name() if device == "cuda" else "cpu"
    return Worker(device, name, torch.get_num_threads(), os.getpid())


def train_arguments(config: dict[str, Any]) -> tuple[TrialConfig, Path, Path]:
    """Return a trial's configuration, the folder of the images and its checkpoint file, from its Ray config."""
    return TrialConfig.from_dict(config["config"]), Path(config["data_dir"]), Path(config["checkpoint"])
