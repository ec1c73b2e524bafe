"""Every optimizer that ships keeps to the contract, and so do torch's, which come in as one's own do."""

import pytest

from sweeps.testing.optimizers import OptimizerContract, UpdateRuleContract, config_of, every_optimizer, label


@pytest.mark.parametrize("config", every_optimizer(), ids=label)
class TestOptimizer(UpdateRuleContract): ...


@pytest.mark.parametrize("name", ["RMSprop", "NAdam", "SGD", "Adamax"])
class TestOptimizerOfTorch(OptimizerContract):
    @pytest.fixture
    def config(self, name):
        return config_of(f"torch.optim:{name}")
