"""Every data set that ships keeps to the contract."""

from pathlib import Path

import pytest

from resnet_core.data import DATASETS
from sweeps.testing.datasets import DatasetContract
from tests.image_files import FROM_FILES, write


@pytest.mark.parametrize("name", DATASETS)
class TestDataset(DatasetContract): ...


@pytest.mark.parametrize("name", FROM_FILES)
class TestFilesInItsFormat(DatasetContract):
    """With few images, in files of the published format: no download is needed."""

    @pytest.fixture
    def data_dir(self, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        folder = tmp_path / "data"
        write(name, folder, monkeypatch)
        return folder

    @pytest.fixture
    def spec(self, name: str, data_dir: Path):  # the files set the number of images
        return DATASETS[name]
