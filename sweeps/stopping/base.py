"""What a stopping rule sees, and what it answers."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from resnet_core.config import TrialConfig
from resnet_core.records import EpochRecord


@dataclass(frozen=True)
class Progress:
    """One trial after an epoch.

    Attributes:
        config: what it trains.
        records: its epochs so far, 1, 2, …; at least one.
    """

    config: TrialConfig
    records: Sequence[EpochRecord]

    @property
    def epoch(self) -> int:
        """Epochs done."""
        return len(self.records)

    @property
    def val_accs(self) -> list[float]:
        """Validation accuracy of epochs 1, 2, …"""
        return [record.val_acc for record in self.records]


@dataclass(frozen=True)
class Standing:
    """Where the study stands.

    Attributes:
        target: validation accuracy to reach.
        sustained: so many epochs in a row count as sustained.
        epochs_to_target: of every trial that reached the target so far, running ones too; rising.
    """

    target: float
    sustained: int
    epochs_to_target: Sequence[int]


class StoppingRule(abc.ABC):
    """Looks at a trial after each of its epochs and says whether to end it, and why."""

    name: ClassVar[str]
    """The rule's key in the study file's ``[stopping]``."""

    @abc.abstractmethod
    def reason_to_stop(self, trial: Progress, study: Standing) -> str | None:
        """Return why the trial should end now, in words for people, or None to let it go on."""
