"""The checkpoints of a study's trials in the home folder of one driver."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from resnet_core import checkpoint
from resnet_core.records import EpochRecord
from sweeps.home import Home
from sweeps.study.trials import Job

_log = logging.getLogger(__name__)


class Checkpoints:
    """The checkpoints of a study's trials.

    Args:
        home: this driver's home folder.
        study: name of the study.
    """

    def __init__(self, home: Home, study: str) -> None:
        self._home, self._study = home, study

    def records(self, number: int) -> Sequence[EpochRecord]:
        """Return the epochs in a trial's checkpoint; none where there is no checkpoint or it cannot be read."""
        return self._home.checkpoint_records(self._study, number)

    def remove(self, number: int) -> None:
        """Remove a trial's checkpoint, if there is one."""
        checkpoint.remove(self._home.checkpoint(self._study, number))

    def remove_previous(self, number: int) -> None:
        """Remove a trial's checkpoints except that of its last epoch."""
        checkpoint.remove_previous(self._home.checkpoint(self._study, number))

    def copy_from(self, home: str, job: Job) -> None:
        """Copy the checkpoint of another driver's trial.

        Nothing is copied where this process cannot reach that driver's home folder, where the checkpoint cannot be
        read, or where it belongs to another configuration.

        Args:
            home: the other driver's home folder; empty where there is none.
            job: the trial.
        """
        if not home:
            return
        source = Home(Path(home)).checkpoint(self._study, job.number)
        target = self._home.checkpoint(self._study, job.number)
        if source == target:
            return
        try:
            state = checkpoint.load(source)
            if state is not None and state["config"] == job.config.to_dict():
                checkpoint.save(target, state)
        except (checkpoint.CheckpointError, OSError) as error:
            _log.warning("%s cannot be copied (%s): trial %s begins anew", source, error, job.name)
