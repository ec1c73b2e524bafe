"""ResNet-18 for 32×32 images: torchvision's, with the stem its authors used on CIFAR-10.

Source: He et al. 2015 (arXiv 1512.03385). The ImageNet stem would shrink a 32×32 image to 8×8 before the first residual
block; here a 3×3 convolution of stride 1 takes its place, without max pooling.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resnet_core.models import Network

if TYPE_CHECKING:
    from torch import nn


def build(classes: int, channels: int) -> nn.Module:
    """Return a ResNet-18 from [B, channels, H, W] to [B, classes].

    Weights are drawn from torch's global generator.
    """
    import torchvision.models  # takes seconds, which other networks avoid
    from torch import nn

    network: nn.Module = torchvision.models.resnet18(num_classes=classes)
    stem = nn.Conv2d(channels, 64, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(stem.weight, mode="fan_out", nonlinearity="relu")  # as torchvision draws the others
    network.conv1 = stem
    network.maxpool = nn.Identity()
    return network


NETWORK = Network(build, smallest_image=8, bn_momentum=0.9, parameters={"resnet18": 11_173_962})
