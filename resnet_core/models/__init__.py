"""Networks by name: one module each, which defines a ``NETWORK``. Importing them does not load torch.

To add a network, add a module here. Its name in study files, its options and its image sizes follow from its
``NETWORK``. Layer classes are in ``resnet_core.models.layers``, since defining one needs torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from resnet_core.registry import Registry

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Network:
    """A network, or a family of networks that differ in depth.

    Attributes:
        build: returns the network, which maps images [B, channels, H, W] to logits [B, classes]. Arguments by name are
            ``classes``, ``channels``, the options and, for a family, ``depth``. It draws the weights from torch's
            global generator on the CPU.
        smallest_image: the smallest height, equal to the width, of the images it takes, in pixels.
        bn_momentum: share of the old running statistics that its batch norms keep in a step, unless the config sets it.
        parameters: number of trainable parameters for 10 classes and 3 channels, by the network's name; of a family,
            for some depths.
        options: fields of TrialConfig that ``build`` takes, each with its valid values.
        family: name of the family's networks, with ``{depth}`` in place of the depth; None for a single network, which
            has the name of its module.
        depths: depths that a family has.
    """

    build: Callable[..., nn.Module]
    smallest_image: int
    bn_momentum: float
    parameters: Mapping[str, int]
    options: Mapping[str, tuple[object, ...]] = field(default_factory=dict)
    family: str | None = None
    depths: range = range(0)

    def depth(self, name: str) -> int | None:
        """Return the depth in the name of one of the family's networks; None where it is not one."""
        if self.family is None:
            return None
        before, after = self.family.split("{depth}")
        digits = name.removeprefix(before).removesuffix(after)
        if not (digits.isascii() and digits.isdecimal()) or int(digits) not in self.depths:
            return None
        return int(digits) if name == self.family.format(depth=int(digits)) else None

    @property
    def family_names(self) -> str:
        """The names of a family's networks, in words."""
        assert self.family is not None
        first, step = self.depths[0], self.depths.step
        return (
            f"{self.family.format(depth='D')} with a depth D = {step}n+{first % step} from {first} to "
            f"{self.depths[-1]}, such as {list(self.parameters)[-1]}"
        )


NETWORKS: Registry[Network] = Registry(__name__, "NETWORK")
"""The built-in networks."""


def find(name: str) -> tuple[Network, dict[str, int]]:
    """Return a network by its name in a config, and the arguments of ``build`` that its name contains.

    >>> find("resnet56v2")[1], find("vgg16")[1]
    ({'depth': 56}, {})

    Raises:
        LookupError: there is no such network; the message lists the names.
    """
    for module, network in NETWORKS.items():
        if network.family is None and name == module:
            return network, {}
        depth = network.depth(name)
        if depth is not None:
            return network, {"depth": depth}
    raise LookupError(network_names())


def network_names() -> str:
    """Return the names of all networks, in words."""
    families = [network.family_names for network in NETWORKS.values() if network.family is not None]
    singles = ", ".join(module for module, network in NETWORKS.items() if network.family is None)
    return ", or one of ".join([*families, singles])
