"""The trainer as a Ray Tune Trainable, whose ``step`` calls ``next`` on the trainer's generator once."""

from __future__ import annotations

import locale
import logging
import os
import socket
from collections.abc import Generator
from pathlib import Path
from typing import Any

import ray
from ray import tune

from resnet_core import code, schema
from resnet_core.config import TrialConfig
from resnet_core.records import EpochRecord
from resnet_core.run import TrainerError
from sweeps.execution.worker import Worker, own_training, prepare_worker, train_arguments
from sweeps.trial_log import TrialLog

Epochs = Generator[EpochRecord]
"""A generator of a trial's epochs; closing it frees the network."""


class TrialTrainable(tune.Trainable):
    """Trains one trial; Ray keeps the actor for the next trial.

    Its Ray config has ``number``, ``name``, ``trainer`` (a name in a study file; None is the trainer that ships),
    ``config`` (the fields of its configuration), ``metric``, ``code`` (where modules are), ``data_dir``,
    ``checkpoint``, ``network`` (where it writes its network and what it says there; None writes none), ``log``,
    ``threads`` and ``gpus``. The trainer saves its own checkpoint file and continues from it, on any node on which the
    trial is restarted. Ray's checkpoints are not used.
    """

    def setup(self, config: dict[str, Any]) -> None:
        """Start or continue the trial.

        Raises:
            TrialError: the home folder does not exist on this node.
        """
        folder = Path(config["checkpoint"]).parent
        if not folder.is_dir():
            # A new folder would hide the checkpoint that another node has saved, and the trial would start again.
            raise TrialError(
                f"node {socket.gethostname()} does not have {folder}: the home folder must lie on a file system that "
                "all nodes of the cluster share"
            )
        self._folder = Path.cwd()
        logging.getLogger("ray.tune").setLevel(logging.WARNING)  # its advice is for who writes such a class
        self._log = TrialLog(Path(config["log"]))
        self._number = config["number"]
        worker, self._epochs = self.begin(config)
        self._placement: dict[str, str] | None = {
            schema.DEVICE: worker.device_name,
            schema.GPUS: f"{config['gpus']:g}",
            schema.GPU_IDS: ",".join(str(gpu) for gpu in ray.get_gpu_ids()),
            schema.THREADS: str(worker.threads),
            schema.NODE: socket.gethostname(),
        }
        self._process = worker.process

    def begin(self, config: dict[str, Any]) -> tuple[Worker, Epochs]:
        """Return the process that trains the trial, and the trial's epochs."""
        worker = prepare_worker(config["threads"], config["gpus"])
        self.device = worker.device
        if config["trainer"] is not None:
            return worker, own_training(config, worker)
        trial, arguments = train_arguments(config)
        return worker, self.epochs(trial, **arguments)

    def epochs(self, config: TrialConfig, **arguments: Any) -> Epochs:
        """Return the epochs of a trial of the trainer that ships, with further arguments of its ``train``."""
        from resnet_core.trainer import train  # here, so that the driver does not import torch

        return train(config, device=self.device, **arguments)

    def step(self) -> dict[str, Any]:
        """Train one epoch. The first call does not train; it reports where the trial runs."""
        if self._placement is not None:
            placement, self._placement = self._placement, None
            # Not in setup: after an error Ray may set up an actor that it does not use.
            placed = ", ".join(f"{key} {value}" for key, value in placement.items() if value)
            self._log.write(f"trial {self._number} starts: {placed}, process {self._process}")
            node = ray.get_runtime_context().get_node_id()
            return {"number": self._number, "placement": placement, "process": self._process, "node_id": node}
        try:
            record = next(self._epochs, None)
        except (Exception, KeyboardInterrupt) as raised:  # the latter is the user's code's: Ctrl-C is the driver's
            # Ray wraps the exception; the text of its traceback survives, and `sweeps show` prints it.
            error = code.describe(raised) if _says_all(raised) else code.users_traceback(raised)
            self._log.write(error)
            raise TrialError(error) from None
        if record is None:
            return {"number": self._number, "ended": True}
        return {"number": self._number, "record": record.to_dict()}

    def reset(self, *args: Any, **more: Any) -> bool:
        """Close the trial before Ray prepares the next one, which it does in the working directory."""
        self.cleanup()
        is_ready: bool = super().reset(*args, **more)  # type: ignore[no-untyped-call]
        return is_ready

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Start the next trial in the same actor."""
        self.cleanup()
        self.setup(new_config)
        return True

    def cleanup(self) -> None:
        """Close the trial and its log; the next one begins in the same working directory."""
        self._epochs.close()
        self._log.close()
        os.chdir(self._folder)


def _says_all(error: BaseException) -> bool:
    """Return whether an error's message says where in the user's code the cause is; a traceback would add nothing."""
    return isinstance(error, TrainerError | code.CodeError)


class TrialError(RuntimeError):
    """An error of a trial; its text is the traceback.

    Ray writes it to a file in the encoding of the locale. What that lacks, such as an umlaut in the locale C or a byte
    of a path that is no UTF-8, would end the study.
    """

    def __init__(self, text: str) -> None:
        encoding = locale.getpreferredencoding(do_setlocale=False)
        super().__init__(text.encode(encoding, "backslashreplace").decode(encoding))
