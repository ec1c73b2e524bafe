"""ReduceLROnPlateau on top of a schedule."""

from __future__ import annotations

from typing import Any

import torch
from torch.optim.lr_scheduler import ReduceLROnPlateau

from resnet_core.config import TrialConfig


class Plateau:
    """torch's ReduceLROnPlateau on the validation loss, as a factor on the scheduled learning rate.

    With a constant schedule, the learning rate is the same as with torch's class.

    Args:
        config: a config whose ``plateau_factor`` is not None.
    """

    def __init__(self, config: TrialConfig) -> None:
        assert config.plateau_factor is not None
        self._peak = config.lr_alpha
        # torch's class needs an optimizer; only its learning rate is used.
        self._carrier = torch.optim.SGD([torch.zeros(())], lr=self._peak)
        self._rule = ReduceLROnPlateau(
            self._carrier,
            factor=config.plateau_factor,
            patience=config.plateau_patience,
            threshold=config.plateau_threshold,
            cooldown=config.plateau_cooldown,
            min_lr=config.plateau_min_lr,
        )

    @property
    def scale(self) -> float:
        """The factor on the scheduled learning rate."""
        return float(self._carrier.param_groups[0]["lr"]) / self._peak

    def step(self, val_loss: float) -> None:
        """Update the factor by an epoch's validation loss."""
        self._rule.step(val_loss)

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return {"lr": self._carrier.param_groups[0]["lr"], "rule": self._rule.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        self._carrier.param_groups[0]["lr"] = state["lr"]
        self._rule.load_state_dict(state["rule"])
