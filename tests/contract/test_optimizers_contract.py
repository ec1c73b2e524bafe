"""Every optimizer that ships keeps to the contract."""

import pytest

from sweeps.testing.optimizers import OptimizerContract, every_optimizer, label


@pytest.mark.parametrize("config", every_optimizer(), ids=label)
class TestOptimizer(OptimizerContract): ...
