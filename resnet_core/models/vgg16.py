"""VGG-16 with batch norm for 32×32 images: the convolutions of torchvision's, then one dense layer.

Source: Simonyan & Zisserman 2015 (arXiv 1409.1556), configuration D. Five poolings leave one pixel of a 32×32
image, so one dense layer replaces the three that torchvision has after a 7×7 map. Of a larger image, the mean of the
pixels that are left goes there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resnet_core.models import Network

if TYPE_CHECKING:
    from torch import nn

# Filters of each 3×3 convolution; a max pooling ends each stage.
_STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


def build(classes: int, channels: int) -> nn.Sequential:
    """Return a VGG-16 from [B, channels, H, W] to [B, classes].

    Weights are drawn from torch's global generator, as torchvision draws them.
    """
    from torch import nn

    features: list[nn.Module] = []
    inputs = channels
    for stage in _STAGES:
        for filters in stage:
            features += [nn.Conv2d(inputs, filters, 3, padding=1), nn.BatchNorm2d(filters), nn.ReLU(inplace=True)]
            inputs = filters
        features.append(nn.MaxPool2d(2))
    network = nn.Sequential()
    network.add_module("features", nn.Sequential(*features))
    network.add_module("pool", nn.AdaptiveAvgPool2d(1))
    network.add_module("flatten", nn.Flatten())
    network.add_module("dense", nn.Linear(inputs, classes))
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, 0, 0.01)
        if isinstance(module, nn.Conv2d | nn.Linear):
            assert module.bias is not None
            nn.init.zeros_(module.bias)
    return network


NETWORK = Network(build, smallest_image=32, bn_momentum=0.9, parameters={"vgg16": 14_728_266})
