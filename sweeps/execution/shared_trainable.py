"""The Ray Tune trainable of a trial that trains in a process shared with other trials."""

from __future__ import annotations

import logging
from collections.abc import Generator
from contextlib import suppress
from typing import Any

import ray

from resnet_core.records import EpochRecord
from sweeps.execution.shared_process import process_for
from sweeps.execution.trainable import Epochs, TrialError, TrialTrainable
from sweeps.execution.worker import Worker


class SharedTrainable(TrialTrainable):
    """Trains one trial in a shared process; see sweeps.execution.shared_process."""

    def begin(self, config: dict[str, Any]) -> tuple[Worker, Epochs]:
        """See TrialTrainable.begin."""
        process = process_for(config)
        worker: Worker = ray.get(process.prepare.remote(config))
        return worker, _epochs(process, config, worker.device)


def _epochs(process: Any, config: dict[str, Any], device: str) -> Generator[EpochRecord]:
    # The trial begins in the process with its first epoch, not here: after an error Ray may set up an actor that it
    # does not use, and that actor must neither begin the trial nor end it.
    actor = ray.get_runtime_context().get_actor_id()
    ray.get(process.begin.remote(actor, config, device))
    try:
        while True:
            outcome, logged = ray.get(process.epoch.remote(actor))
            for record in logged:
                logging.getLogger(record.name).handle(record)  # writes it to the trial's log
            if isinstance(outcome, str):
                raise TrialError(outcome)
            yield outcome
    finally:
        with suppress(ray.exceptions.RayError):
            ray.get(process.end.remote(actor))
