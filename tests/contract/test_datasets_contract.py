"""Every data set that ships keeps to the contract."""

import pytest

from resnet_core.data import DATASETS
from sweeps.testing.datasets import DatasetContract


@pytest.mark.parametrize("name", DATASETS)
class TestDataset(DatasetContract): ...
