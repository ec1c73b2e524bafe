"""ResNet v2 with pre-activation bottlenecks, of depth 9n+2, in the published (Keras) form.

Source: He et al. 2016 (arXiv 1603.05027), as built in R. Atienza, *Advanced Deep Learning with
TensorFlow 2 and Keras*, 2nd ed. 2020, ch. 2. Details that Keras sets otherwise than torch are kept:
BN epsilon 1e-3, BN momentum 0.99 (0.01 in torch's counting), truncated He-normal weights, a bias on
every convolution. torch's BN adds the batch's unbiased variance to its running one, Keras the biased one:
with n = B·H·W numbers a channel, what torch adds is n/(n-1) times as large: 1.00024 times where n is
smallest in a step of 64 images of 32×32.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from resnet_core.config import Head

BN_EPS = 1e-3
BN_MOMENTUM = 0.01
# Standard deviation of a unit normal cut off at two sigma: Keras divides by it, so that the
# weights it draws have the variance He et al. ask for.
_TRUNCATED_STD = 0.87962566103423978


def he_normal_(weight: Tensor, generator: torch.Generator) -> None:
    """Fill ``weight`` in place with a normal truncated at ±2σ, σ = √(2/fan_in)/0.8796 (Keras's he_normal).

    By the inverse of the normal distribution function, in double precision: torch's own trunc_normal_ draws
    otherwise from one version to the next, and a seed should give the same weights in all of them.
    """
    fan_in = weight[0].numel()
    std = math.sqrt(2.0 / fan_in) / _TRUNCATED_STD
    inside = math.erf(math.sqrt(2.0))  # the share of a normal within ±2σ
    uniform = torch.rand(weight.shape, generator=generator, dtype=torch.float64)
    drawn = torch.erfinv((2.0 * uniform - 1.0) * inside) * (math.sqrt(2.0) * std)
    with torch.no_grad():
        weight.copy_(drawn)


def batch_norm(channels: int) -> nn.BatchNorm2d:
    """Return a BN layer with Keras's epsilon and momentum."""
    return nn.BatchNorm2d(channels, eps=BN_EPS, momentum=BN_MOMENTUM)


class Bottleneck(nn.Module):
    """BN-ReLU-conv three times (1×1, 3×3, 1×1), beside an identity or a projection.

    The stride is on the first 1×1. ``preactivated`` is the network's very first unit, whose input
    already comes out of BN and ReLU.
    """

    def __init__(
        self,
        inputs: int,
        width: int,
        outputs: int,
        stride: int,
        *,
        project: bool,
        preactivated: bool,
        shortcut_kernel: int = 1,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.bn1 = nn.Identity() if preactivated else batch_norm(inputs)
        self.preactivated = preactivated
        self.conv1 = nn.Conv2d(inputs, width, 1, stride=stride, bias=bias)
        self.bn2 = batch_norm(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=bias)
        self.bn3 = batch_norm(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=bias)
        self.shortcut: nn.Module = nn.Identity()
        if project:
            padding = shortcut_kernel // 2
            self.shortcut = nn.Conv2d(inputs, outputs, shortcut_kernel, stride=stride, padding=padding, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, inputs, H, W] to [B, outputs, H/stride, W/stride]."""
        y = x if self.preactivated else F.relu(self.bn1(x), inplace=True)
        y = self.conv1(y)
        y = self.conv2(F.relu(self.bn2(y), inplace=True))
        y = self.conv3(F.relu(self.bn3(y), inplace=True))
        out: Tensor = y + self.shortcut(x)
        return out


class ResNetV2(nn.Module):
    """Input convolution of 16 filters, three stacks of n bottlenecks (64, 128, 256 out), dense.

    Args:
        depth: 9n+2; 56 has 1,663,338 trainable parameters.
        classes: width of the last layer.
        generator: the source of the initial weights.
        bottleneck: filters inside of a unit as a share of those it puts out; None is the published 16, 64, 128.
        shortcut_kernel: side of the projections' kernels, 1 or 3.
        head: what is ahead of the dense layer; see TrialConfig.
        conv_bias: whether convolutions have a bias.
    """

    def __init__(
        self,
        depth: int,
        classes: int,
        generator: torch.Generator,
        *,
        bottleneck: float | None = None,
        shortcut_kernel: int = 1,
        head: Head = "average",
        conv_bias: bool = True,
    ) -> None:
        super().__init__()
        units = (depth - 2) // 9
        self.head = head
        self.stem = nn.Conv2d(3, 16, 3, padding=1, bias=conv_bias)
        self.stem_bn = batch_norm(16)
        blocks: list[nn.Module] = []
        inputs = 16
        for stack, (width, outputs) in enumerate(((16, 64), (64, 128), (128, 256))):
            for unit in range(units):
                blocks.append(
                    Bottleneck(
                        inputs,
                        width if bottleneck is None else int(bottleneck * outputs),
                        outputs,
                        stride=2 if stack > 0 and unit == 0 else 1,
                        project=unit == 0,
                        preactivated=stack == 0 and unit == 0,
                        shortcut_kernel=shortcut_kernel,
                        bias=conv_bias,
                    )
                )
                inputs = outputs
        self.blocks = nn.Sequential(*blocks)
        self.head_bn = batch_norm(inputs)
        self.dense = nn.Linear(inputs * 4 if head == "flatten" else inputs, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                he_normal_(module.weight, generator)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map images [B, 3, H, W] to logits [B, classes]."""
        x = F.relu(self.stem_bn(self.stem(x)), inplace=True)
        x = F.relu(self.head_bn(self.blocks(x)), inplace=True)
        logits: Tensor = self.dense(self._pool(x))
        return logits

    def _pool(self, x: Tensor) -> Tensor:
        # The published 8×8 pooling covers the whole map of a 32×32 image, so the whole map is pooled at any size.
        if self.head == "average":
            return x.mean(dim=(2, 3))
        if self.head == "max":
            return x.amax(dim=(2, 3))
        # Not adaptive pooling, whose backward pass is not deterministic on GPUs.
        return F.avg_pool2d(x, x.shape[-1] // 2).flatten(1)
