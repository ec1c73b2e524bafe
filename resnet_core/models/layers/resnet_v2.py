"""The layers of ResNet v2: pre-activation bottlenecks in the published (Keras) form, depth 9n+2.

Source: He et al. 2016 (arXiv 1603.05027), as built in R. Atienza, *Advanced Deep Learning with
TensorFlow 2 and Keras*, 2nd ed. 2020, ch. 2. Where Keras differs from torch, Keras's details are kept: BN epsilon 1e-3,
BN momentum 0.99 (0.01 in torch), truncated He-normal weights, a bias on every convolution. One detail is torch's: BN
adds the batch's unbiased variance to the running one, where Keras adds the biased one. With n = B·H·W numbers a
channel, torch's is n/(n-1) times as large: at most 1.00024 times in a step of 64 images of 32×32.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from resnet_core.fused import batch_norm

BN_EPS = 1e-3
# Standard deviation of a unit normal truncated at two sigma. Keras divides by it, so that the
# weights have the variance that He et al. ask for.
_TRUNCATED_STD = 0.87962566103423978


def he_normal_(weight: Tensor, generator: torch.Generator) -> None:
    """Fill ``weight`` in place with a normal truncated at ±2σ, σ = √(2/fan_in)/0.8796 (Keras's he_normal).

    It inverts the normal distribution function in double precision. The numbers that torch's trunc_normal_ draws
    differ between versions of torch; here a seed gives the same weights in all of them.
    """
    fan_in = weight[0].numel()
    std = math.sqrt(2.0 / fan_in) / _TRUNCATED_STD
    inside = math.erf(math.sqrt(2.0))  # the share of a normal within ±2σ
    uniform = torch.rand(weight.shape, generator=generator, dtype=torch.float64)
    drawn = torch.erfinv((2.0 * uniform - 1.0) * inside) * (math.sqrt(2.0) * std)
    with torch.no_grad():
        weight.copy_(drawn)


class Convolution(nn.Conv2d):
    """A convolution whose bias can be added later, or never: the BN after it subtracts any constant again.

    Attributes:
        bias_is: ``added`` by the convolution; ``deferred``: added by the BN; ``skipped``: never added, so that it keeps
            its first value, 0.
    """

    bias_is: Literal["added", "deferred", "skipped"] = "added"

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, inputs, H, W] to [B, outputs, H/stride, W/stride]."""
        y: Tensor = self._conv_forward(x, self.weight, self.bias if self.bias_is == "added" else None)
        return y

    @property
    def deferred_bias(self) -> Tensor | None:
        """The bias that the caller has to add to the output; None where there is none to add."""
        return self.bias if self.bias_is == "deferred" else None


class Sum(NamedTuple):
    """The input of a BN: a convolution's output, the shortcut to add to it, and the biases that are not added yet."""

    y: Tensor
    bias: Tensor | None = None
    shortcut: Tensor | None = None
    shortcut_bias: Tensor | None = None

    def total(self) -> Tensor:
        """Return the sum: [B, C, H, W]."""
        y = _biased(self.y, self.bias)
        return y if self.shortcut is None else y + _biased(self.shortcut, self.shortcut_bias)


def _biased(y: Tensor, bias: Tensor | None) -> Tensor:
    return y if bias is None else y + bias.to(y.dtype)[:, None, None]


class BatchNormReLU(nn.BatchNorm2d):
    """BN with Keras's epsilon, then ReLU, applied to a sum.

    Attributes:
        fused: whether training uses a fused kernel where possible; see resnet_core.fused.
    """

    fused = False

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=BN_EPS)

    def forward(self, x: Sum) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """Return ReLU of BN of the sum, and the sum: both [B, C, H, W]."""
        deferred = x.bias is not None or x.shortcut_bias is not None
        if self.fused and batch_norm.usable(x.y, with_residual=x.shortcut is not None, with_biases=deferred):
            assert self.running_mean is not None
            assert self.running_var is not None
            assert self.momentum is not None
            return batch_norm.batch_norm_relu(
                *(x.y, self.weight, self.bias, self.running_mean, self.running_var),
                momentum=self.momentum,
                eps=self.eps,
                y_bias=x.bias,
                residual=x.shortcut,
                residual_bias=x.shortcut_bias,
            )
        total = x.total()
        return F.relu(super().forward(total), inplace=True), total


def fuse(network: nn.Module) -> None:
    """Make a network's BNs use fused kernels in training, which also add the biases of convolutions."""
    for module in network.modules():
        if isinstance(module, BatchNormReLU):
            module.fused = True
        elif isinstance(module, Convolution) and module.bias_is == "added":
            module.bias_is = "deferred"


class Bottleneck(nn.Module):
    """BN-ReLU-conv three times (1×1, 3×3, 1×1), beside an identity or a projection.

    The stride is on the first 1×1. ``preactivated`` is the network's very first unit, whose input
    already comes out of BN and ReLU. The unit returns a sum, which the next BN adds up.
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
        self.bn1 = None if preactivated else BatchNormReLU(inputs)
        self.conv1 = Convolution(inputs, width, 1, stride=stride, bias=bias)
        self.bn2 = BatchNormReLU(width)
        self.conv2 = Convolution(width, width, 3, padding=1, bias=bias)
        self.bn3 = BatchNormReLU(width)
        self.conv3 = Convolution(width, outputs, 1, bias=bias)
        self.shortcut: Convolution | None = None
        if project:
            padding = shortcut_kernel // 2
            self.shortcut = Convolution(inputs, outputs, shortcut_kernel, stride=stride, padding=padding, bias=bias)

    def forward(self, x: Sum) -> Sum:
        """Map a sum of [B, inputs, H, W] to one of [B, outputs, H/stride, W/stride]."""
        z, total = (x.y, x.y) if self.bn1 is None else self.bn1(x)
        z, _ = self.bn2(Sum(self.conv1(z), self.conv1.deferred_bias))
        z, _ = self.bn3(Sum(self.conv2(z), self.conv2.deferred_bias))
        y = self.conv3(z)
        if self.shortcut is None:
            return Sum(y, self.conv3.deferred_bias, total)
        return Sum(y, self.conv3.deferred_bias, self.shortcut(total), self.shortcut.deferred_bias)


class ResNetV2(nn.Module):
    """Input convolution of 16 filters, three stacks of n bottlenecks (64, 128, 256 out), dense.

    Args:
        depth: 9n+2; 56 has 1,663,338 trainable parameters.
        classes: width of the last layer.
        generator: the source of the initial weights.
        channels: channels of an image.
        bottleneck: filters inside a unit as a share of its output filters; None is the published 16, 64, 128.
        shortcut_kernel: side of the projections' kernels, 1 or 3.
        head: what comes before the dense layer; see TrialConfig.
        conv_bias: whether convolutions have a bias.
        skip_conv_bias: whether these biases are left out of the computation.
    """

    def __init__(
        self,
        depth: int,
        classes: int,
        generator: torch.Generator,
        *,
        channels: int = 3,
        bottleneck: float | None = None,
        shortcut_kernel: int = 1,
        head: str = "average",
        conv_bias: bool = True,
        skip_conv_bias: bool = False,
    ) -> None:
        super().__init__()
        units = (depth - 2) // 9
        self.head = head
        self.stem = Convolution(channels, 16, 3, padding=1, bias=conv_bias)
        self.stem_bn = BatchNormReLU(16)
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
        self.head_bn = BatchNormReLU(inputs)
        self.dense = nn.Linear(inputs * 4 if head == "flatten" else inputs, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                he_normal_(module.weight, generator)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            if isinstance(module, Convolution) and skip_conv_bias:
                module.bias_is = "skipped"

    def forward(self, x: Tensor) -> Tensor:
        """Map images [B, channels, H, W] to logits [B, classes]."""
        z, _ = self.stem_bn(Sum(self.stem(x), self.stem.deferred_bias))
        z, _ = self.head_bn(self.blocks(Sum(z)))
        logits: Tensor = self.dense(self._pool(z))
        return logits

    def _pool(self, x: Tensor) -> Tensor:
        # The published 8×8 pooling covers the whole map of a 32×32 image, so the whole map is pooled at any size.
        if self.head == "average":
            return x.mean(dim=(2, 3))
        if self.head == "max":
            return x.amax(dim=(2, 3))
        # Not adaptive pooling, whose backward pass is not deterministic on GPUs.
        return F.avg_pool2d(x, x.shape[-1] // 2).flatten(1)
