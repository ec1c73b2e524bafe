"""ResNet-9 of the super-convergence course notes; see resnet_core.models.layers.resnet9."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resnet_core.models import Network

if TYPE_CHECKING:
    from torch import nn


def build(classes: int) -> nn.Module:
    """Return a ResNet-9 from [B, 3, H, W] to [B, classes]."""
    from resnet_core.models.layers.resnet9 import ResNet9

    return ResNet9(classes)


NETWORK = Network(build, image_sizes=(16, 32), bn_momentum=0.9, parameters={"resnet9": 6_573_130})
