"""ResNet-9 of the super-convergence course notes; see resnet_core.models.layers.resnet9."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resnet_core.models import Network

if TYPE_CHECKING:
    from torch import nn


def build(classes: int, channels: int) -> nn.Module:
    """Return a ResNet-9 from [B, channels, H, W] to [B, classes]."""
    from resnet_core.models.layers.resnet9 import ResNet9

    return ResNet9(classes, channels)


NETWORK = Network(build, smallest_image=8, bn_momentum=0.9, parameters={"resnet9": 6_573_130})
