"""Networks by name."""

from __future__ import annotations

import threading

import torch
from torch import nn

from resnet_core.config import CLASSES, TrialConfig, resnet_v2_depth
from resnet_core.models.densenet121 import densenet121
from resnet_core.models.resnet9 import ResNet9
from resnet_core.models.resnet18 import resnet18
from resnet_core.models.resnet_v2 import ResNetV2
from resnet_core.models.vgg16 import vgg16

_WITHOUT_OPTIONS = {"resnet18": resnet18, "resnet9": ResNet9, "vgg16": vgg16, "densenet121": densenet121}

# The global generator is one for all threads.
_seeding = threading.Lock()


def build(config: TrialConfig) -> nn.Module:
    """Return the network of ``config.model``, its weights drawn from ``config.seed`` alone, on the CPU.

    It maps images [B, 3, H, W] to logits [B, 10]. torch's global generators are left as they were.
    """
    # Layers draw their weights from the CPU's global generator. torch.manual_seed would seed those of GPUs too.
    with _seeding, torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(config.seed)
        network = _network(config)
    if config.bn_momentum is not None:
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                # Rounded, since 1 - 0.99 is not quite the 0.01 that 0.99 stands for.
                module.momentum = round(1.0 - config.bn_momentum, 12)
    return network


def _network(config: TrialConfig) -> nn.Module:
    depth = resnet_v2_depth(config.model)
    if depth is None:
        return _WITHOUT_OPTIONS[config.model](CLASSES)
    return ResNetV2(
        depth,
        CLASSES,
        torch.Generator().manual_seed(config.seed),
        bottleneck=config.bottleneck,
        shortcut_kernel=config.shortcut_kernel,
        head=config.head,
        conv_bias=config.conv_bias,
        skip_conv_bias=config.skip_conv_bias,
    )


def trainable_parameters(network: nn.Module) -> int:
    """Return how many numbers training changes."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)
