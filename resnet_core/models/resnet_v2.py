"""ResNet v2 of depth 9n+2, the network of the published runs; see resnet_core.models.layers.resnet_v2."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from resnet_core.models import Network

if TYPE_CHECKING:
    from torch import nn


def build(classes: int, channels: int, *, depth: int, **options: Any) -> nn.Module:
    """Return a ResNet v2 from [B, channels, H, W] to [B, classes]; for its options see TrialConfig."""
    import torch

    from resnet_core.models.layers.resnet_v2 import ResNetV2

    # The weights have their own generator, with the same seed.
    return ResNetV2(depth, classes, torch.Generator().manual_seed(torch.initial_seed()), channels=channels, **options)


NETWORK = Network(
    build,
    smallest_image=14,  # of 9 to 12 pixels, three by three are left, which head = "flatten" does not halve
    bn_momentum=0.99,
    parameters={"resnet11v2": 297_418, "resnet20v2": 570_602, "resnet29v2": 843_786, "resnet56v2": 1_663_338},
    options={
        "bottleneck": (None, 0.25, 0.5),
        "shortcut_kernel": (1, 3),
        "head": ("average", "max", "flatten"),
        "conv_bias": (True, False),
        "skip_conv_bias": (False, True),
    },
    family="resnet{depth}v2",
    depths=range(11, 1002, 9),
)
