"""DenseNet-121 for 32×32 images: torchvision's, with a 3×3 stem of stride 1 and no pooling after it.

Source: Huang et al. 2017 (arXiv 1608.06993), whose networks for CIFAR-10 begin that way too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resnet_core.models import Network

if TYPE_CHECKING:
    from torch import nn


def build(classes: int, channels: int) -> nn.Module:
    """Return a DenseNet-121 from [B, channels, H, W] to [B, classes].

    Weights are drawn from torch's global generator.
    """
    import torchvision.models  # takes seconds, which other networks avoid
    from torch import nn

    network: nn.Module = torchvision.models.densenet121(num_classes=classes)
    stem = nn.Conv2d(channels, 64, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(stem.weight)  # as torchvision draws the others
    features = network.get_submodule("features")
    features.conv0 = stem
    features.pool0 = nn.Identity()
    return network


NETWORK = Network(build, smallest_image=8, bn_momentum=0.9, parameters={"densenet121": 6_956_426})
