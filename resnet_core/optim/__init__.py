"""Optimizers by name: one module each, which defines an ``OPTIMIZER``. Importing them does not load torch.

To add an optimizer, add a module here. Its name in study files and its settings follow from its ``OPTIMIZER``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

from resnet_core.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor


class Factors(NamedTuple):
    """Numbers that a step multiplies by; an optimizer uses those that it needs.

    Attributes:
        mean: factor of the momentum buffer, or of the mean of gradients.
        gradient: factor of the gradient itself.
        root: factor of the root of the mean of squares.
        momenta: product of the momenta of all steps so far: the weight that the initial zeros still have in the mean of
            gradients.
    """

    mean: float
    gradient: float
    root: float
    momenta: float


class StepTensors(NamedTuple):
    """The momentum of a step and its factors, as scalars on the device; see Factors."""

    momentum: Tensor
    mean: Tensor
    gradient: Tensor
    root: Tensor


@dataclass(frozen=True)
class UpdateRule(ABC):
    """How an optimizer changes weights by a gradient. Decoupled decay and L2 are common to all, and not part of it.

    A subclass is a dataclass; its fields are the fields of TrialConfig that it uses, besides learning rate and
    momentum.
    """

    buffers: ClassVar[tuple[str, ...]]
    """Names of the tensors that it keeps from step to step, each of the shape of the weights and 0 at first."""

    @classmethod
    def settings(cls) -> tuple[str, ...]:
        """Return the fields of TrialConfig that it uses, besides learning rate and momentum."""
        return tuple(field.name for field in fields(cls))

    @classmethod
    def of(cls, config: Any) -> Self:
        """Return the rule with the settings of a TrialConfig."""
        return cls(**{name: getattr(config, name) for name in cls.settings()})

    @abstractmethod
    def factors(self, step: int, lr: float, momentum: float, momenta: float) -> Factors:
        """Return the factors of a step, in double precision.

        Args:
            step: number of the step, from 1.
            lr: its learning rate.
            momentum: its momentum.
            momenta: ``Factors.momenta`` of the step before; 1 at the first.
        """

    @abstractmethod
    def update(self, weights: Tensor, gradients: Tensor, buffers: Mapping[str, Tensor], step: StepTensors) -> None:
        """Change weights and buffers in place by one step, without waiting for the device.

        Args:
            weights: [P].
            gradients: [P]; not changed.
            buffers: the tensors that ``buffers`` names, each [P].
            step: what ``factors`` returned for the step, and its momentum.
        """

    def kernel(self) -> tuple[str, dict[str, Any]] | None:
        """Return the kernel of resnet_core.fused.optimizer_kernels that does the same, and its extra arguments.

        The default is None: torch's operations take each step.
        """
        return None


OPTIMIZERS: Registry[type[UpdateRule]] = Registry(__name__, "OPTIMIZER")
"""The built-in optimizers."""
