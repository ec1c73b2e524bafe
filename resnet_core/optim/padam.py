"""Padam (Chen & Gu 2018, arXiv 1806.06763): AMSGrad with √v̂ to the power 2p, p in (0, 1/2]."""

from __future__ import annotations

from dataclasses import dataclass

from resnet_core.optim.amsgrad import AmsGrad


@dataclass(frozen=True)
class Padam(AmsGrad):
    """AMSGrad with √v̂ to a power."""

    padam_p: float

    @property
    def power(self) -> float:
        """The power to which √v̂ is raised."""
        return 2.0 * self.padam_p


OPTIMIZER = Padam
