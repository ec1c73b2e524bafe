"""Networks to validate instead of the trained one: with averaged weights, or with BN statistics measured again."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from resnet_core.flat import FlatParameters, flatten_statistics


class ExponentialMovingAverage:
    """A second network whose weights and BN statistics follow the first's: a ← a + (1 − dₜ)·(w − a).

    dₜ = min(decay, (1 + t)/(10 + t)) at update t, so that the random first weights soon have little weight
    (the rule of TensorFlow's ExponentialMovingAverage).

    Args:
        network: the network to follow.
        weights: the network's ``FlatParameters.weights``.
        decay: in (0, 1).
    """

    def __init__(self, network: nn.Module, weights: Tensor, decay: float) -> None:
        self.network = copy.deepcopy(network)
        self._decay = decay
        self._followed = (weights, flatten_statistics(network))
        self._averages = (FlatParameters(self.network).weights, flatten_statistics(self.network))
        self._updates = torch.zeros((), device=weights.device)

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the network's weights and statistics."""
        self._updates.add_(1)
        share = (9 / (10 + self._updates)).clamp_(min=1 - self._decay)
        for average, followed in zip(self._averages, self._followed, strict=True):
            average.lerp_(followed, share)

    def tensors(self) -> Iterable[Tensor]:
        """Return every tensor that an update changes."""
        return (*self._averages, self._updates)

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return {"network": self.network.state_dict(), "updates": self._updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        self.network.load_state_dict(state["network"])
        self._updates.copy_(state["updates"])


@contextlib.contextmanager
@torch.no_grad()
def recalibrated(network: nn.Module, batches: Iterable[Tensor], forward: Callable[[Tensor], Any]) -> Iterator[None]:
    """Set BN's running statistics to the mean of the statistics of ``batches``; restore the old ones at the end.

    Args:
        network: in train mode until the end; its weights do not change.
        batches: images [B, C, H, W], all of one size, except the last.
        forward: passes a batch through the network.
    """
    layers = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    kept = [(layer, layer.momentum, [b.clone() for b in layer.buffers()]) for layer in layers]
    try:
        for layer in layers:
            layer.reset_running_stats()
        network.train()
        for count, batch in enumerate(batches, start=1):
            for layer in layers:
                # The mean over all batches so far. With a momentum of None, torch waits for the device at every layer.
                layer.momentum = 1.0 / count
            forward(batch)
        yield
    finally:
        for layer, momentum, buffers in kept:
            layer.momentum = momentum
            for buffer, old in zip(layer.buffers(), buffers, strict=True):
                buffer.copy_(old)
