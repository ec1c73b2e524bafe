"""Networks by name."""

from __future__ import annotations

import torch
from torch import nn

from resnet_core.config import resnet_v2_depth
from resnet_core.models.resnet_v2 import ResNetV2


def build(model: str, classes: int, seed: int) -> nn.Module:
    """Return the network called ``model``, its weights drawn from ``seed`` alone, on the CPU.

    Raises:
        ConfigError: there is no such network.
    """
    return ResNetV2(resnet_v2_depth(model), classes, torch.Generator().manual_seed(seed))


def trainable_parameters(network: nn.Module) -> int:
    """Return how many numbers training changes."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)
