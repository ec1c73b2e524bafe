"""The contract suite of data sets: the images agree with the DatasetSpec."""

from __future__ import annotations

import math
import os
import pickle
import socket
from pathlib import Path
from typing import NoReturn, get_args

import numpy as np
import pytest
import torch

from resnet_core.config import TrialConfig, epoch_sizes
from resnet_core.data import DATASETS, DataError, DatasetSpec, Split
from resnet_core.images import load
from resnet_core.trainer import train

SPLITS: tuple[Split, ...] = get_args(Split)


class DatasetContract:
    """Tests of a data set. A subclass whose name begins with Test gives its ``name``, as a parameter or a fixture.

    Tests that need the images are skipped if ``data_dir`` does not contain them. For a large data set, the fixtures
    ``data_dir`` and ``spec`` may give fewer images, in files of its format.

        @pytest.mark.parametrize("name", DATASETS)
        class TestDataset(DatasetContract): ...
    """

    @pytest.fixture
    def data_dir(self) -> Path:
        """The folder for data."""
        return Path(os.environ.get("SWEEPS_DATA", "data"))

    @pytest.fixture
    def spec(self, name: str) -> DatasetSpec:
        """The data set's DatasetSpec."""
        return DATASETS[name]

    @pytest.fixture
    def images_dir(self, spec: DatasetSpec, data_dir: Path) -> Path:
        """The folder for data, which contains the images."""
        if not spec.is_available(data_dir):
            pytest.skip(f"{data_dir} has no {spec.folder}")
        return data_dir

    # Tests without the images

    def test_it_has_classes_and_images_of_each_in_every_part(self, spec: DatasetSpec) -> None:
        assert 2 <= spec.classes <= min(spec.train_size, spec.test_size)
        for split in SPLITS:
            assert min(spec.split_sizes(split)) >= spec.classes, split

    @pytest.mark.parametrize("split", SPLITS)
    def test_no_split_has_more_images_than_there_are(self, spec: DatasetSpec, split: Split) -> None:
        every = spec.train_size + (0 if split == "held-out" else spec.test_size)
        assert sum(spec.split_sizes(split)) == every

    def test_images_have_one_channel_or_three(self, spec: DatasetSpec) -> None:
        assert spec.channels in (1, 3)

    def test_it_has_image_sizes_in_rising_order(self, spec: DatasetSpec) -> None:
        assert spec.image_sizes
        assert list(spec.image_sizes) == sorted(set(spec.image_sizes))

    def test_a_download_and_a_folder_come_together(self, spec: DatasetSpec) -> None:
        assert (spec.download is None) == (spec.folder is None)

    def test_it_can_be_sent_to_another_process(self, spec: DatasetSpec) -> None:
        assert pickle.dumps(spec)  # raises for what cannot

    def test_missing_images_are_an_error_that_names_the_place_and_the_remedy(
        self, spec: DatasetSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(socket, "getaddrinfo", _no_network)
        monkeypatch.setattr(socket.socket, "connect", _no_network)
        if spec.folder is None:
            assert spec.is_available(tmp_path)
            spec.ensure_available(tmp_path)
            return
        assert not spec.is_available(tmp_path)
        with pytest.raises(DataError) as caught:
            spec.ensure_available(tmp_path)
        for said in (str(tmp_path / spec.folder), "--data", "SWEEPS_DATA"):
            assert said in str(caught.value)

    # Tests with the images

    def test_images_and_labels_are_those_that_it_says(self, spec: DatasetSpec, images_dir: Path) -> None:
        for size in spec.image_sizes:
            for (images, labels), count in zip(
                spec.read(images_dir, size), (spec.train_size, spec.test_size), strict=True
            ):
                assert images.dtype == np.uint8
                assert images.shape == (count, spec.channels, size, size)
                assert labels.dtype == np.int64
                assert labels.shape == (count,)
                assert set(np.unique(labels).tolist()) == set(range(spec.classes))

    def test_images_differ(self, spec: DatasetSpec, images_dir: Path) -> None:
        images, _ = spec.read(images_dir, spec.image_sizes[0])[0]
        assert len(np.unique(images[:100], axis=0)) > 50

    def test_labels_do_not_depend_on_the_image_size(self, spec: DatasetSpec, images_dir: Path) -> None:
        for part in (0, 1):
            labels = [spec.read(images_dir, size)[part][1] for size in spec.image_sizes]
            assert all(np.array_equal(labels[0], other) for other in labels)

    def test_reading_says_nothing_on_stdout(
        self, spec: DatasetSpec, images_dir: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        spec.ensure_available(images_dir)
        spec.read(images_dir, spec.image_sizes[0])
        assert capsys.readouterr().out == ""

    def test_what_is_read_can_be_read_again(self, spec: DatasetSpec, images_dir: Path) -> None:
        size = spec.image_sizes[0]
        kept = [images.copy() for images, _ in spec.read(images_dir, size)]
        again = [images for images, _ in spec.read(images_dir, size)]
        assert all(np.array_equal(one, other) for one, other in zip(kept, again, strict=True))

    def test_the_mean_has_the_shape_of_an_image(self, spec: DatasetSpec, images_dir: Path) -> None:
        size = spec.image_sizes[0]
        mean = spec.mean(spec.read(images_dir, size)[0][0])
        assert mean.dtype == np.float32
        assert mean.shape == (spec.channels, size, size)
        assert 0 <= mean.min() <= mean.max() <= 1

    @pytest.mark.parametrize("split", SPLITS)
    def test_splits_have_the_sizes_that_it_says(self, name: str, images_dir: Path, split: Split) -> None:
        config = _config(name, split=split)
        data = load(config, images_dir)
        assert (len(data.train_labels), len(data.val_labels)) == DATASETS[name].split_sizes(split)
        assert epoch_sizes(config) == DATASETS[name].split_sizes(split)

    @pytest.mark.parametrize("split", SPLITS)
    def test_each_class_has_its_share_of_a_limited_split(self, name: str, images_dir: Path, split: Split) -> None:
        whole = load(_config(name, split=split), images_dir)
        limit = 10 * DATASETS[name].classes
        limited = load(_config(name, split=split, train_limit=limit, val_limit=limit), images_dir)
        for some, every in ((limited.train_labels, whole.train_labels), (limited.val_labels, whole.val_labels)):
            shares = torch.bincount(every).double() * len(some) / len(every)
            assert (torch.bincount(some, minlength=len(shares)) - shares).abs().max() < 1

    def test_a_network_trains_on_it(self, name: str, images_dir: Path) -> None:
        limit = 2 * DATASETS[name].classes
        config = _config(name, model="resnet11v2", train_limit=limit, val_limit=limit, batch_size=limit)
        (record,) = train(config, data_dir=images_dir)
        assert math.isfinite(record.values()["loss"])
        assert math.isfinite(record.values()["val_loss"])


def _config(name: str, **fields: object) -> TrialConfig:
    size = DATASETS[name].image_sizes[0]
    values = {"schedule": "[1e-3, 0] lin[0, 1]", "data": name, "image_size": size, **fields}
    return TrialConfig.from_dict(values)


def _no_network(*_args: object, **_kwargs: object) -> NoReturn:
    raise OSError("no network here")
