"""The layers of ResNet-9 of the super-convergence course notes.

Four convolutions, two residual blocks, one dense layer. Max pooling comes between a convolution and its batch norm, as
in the notes. The notes leave two things open: here convolutions have no bias, since a batch norm follows each, and
weights are torch's defaults.
"""

from __future__ import annotations

from torch import Tensor, nn


def _convolution(inputs: int, outputs: int, *, pool: bool = False) -> nn.Sequential:
    """Return a 3×3 convolution, max pooling if ``pool`` is true, BN, ReLU."""
    layers: list[nn.Module] = [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)]
    if pool:
        layers.append(nn.MaxPool2d(2))
    layers += [nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


class ResidualBlock(nn.Module):
    """x + f(x), where f is convolution, BN, ReLU, twice; no ReLU follows the sum."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(_convolution(channels, channels), _convolution(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, channels, H, W] to the same shape."""
        out: Tensor = x + self.residual(x)
        return out


class ResNet9(nn.Module):
    """The course's network.

    Weights are drawn from torch's global generator.
    """

    def __init__(self, classes: int, channels: int = 3) -> None:
        super().__init__()
        self.features = nn.Sequential(
            _convolution(channels, 64),
            _convolution(64, 128, pool=True),
            ResidualBlock(128),
            _convolution(128, 256, pool=True),
            _convolution(256, 512, pool=True),
            ResidualBlock(512),
        )
        self.dense = nn.Linear(512, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map images [B, channels, H, W] to logits [B, classes].

        The notes' 4×4 max pooling covers the whole map of a 32×32 image, so at any image size the maximum over the
        whole map is taken.
        """
        logits: Tensor = self.dense(self.features(x).amax(dim=(2, 3)))
        return logits
