"""The network that a config asks for."""

from __future__ import annotations

import threading

import torch
from torch import nn

from resnet_core import models
from resnet_core.config import TrialConfig
from resnet_core.data import DATASETS

# All threads share torch's global generator.
_seeding = threading.Lock()


def build(config: TrialConfig) -> nn.Module:
    """Return the network of ``config.model``, its weights drawn from ``config.seed`` alone, on the CPU.

    It maps images [B, channels, H, W] to logits [B, classes]. torch's global generators are left as they were.
    """
    network, of_name = models.find(config.model)
    dataset = DATASETS[config.data]
    options = {name: getattr(config, name) for name in network.options}
    # Layers draw their weights from the CPU's global generator. torch.manual_seed would seed those of GPUs too.
    with _seeding, torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(config.seed)
        built = network.build(classes=dataset.classes, channels=dataset.channels, **of_name, **options)
    momentum = network.bn_momentum if config.bn_momentum is None else config.bn_momentum
    for module in built.modules():
        if isinstance(module, nn.BatchNorm2d):
            # torch's momentum is the share of the new statistics. Rounded, since 1 - 0.99 is not quite 0.01.
            module.momentum = round(1.0 - momentum, 12)
    return built


def trainable_parameters(network: nn.Module) -> int:
    """Return the number of trainable parameters."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)
