"""The images: what is in them, which train and which validate, and what is said when they are missing."""

import os
import pickle
import urllib.request
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import NoReturn
from urllib.error import URLError

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from resnet_core.config import TrialConfig
from resnet_core.data import DATASETS, DataError
from resnet_core.data.files import reduced
from resnet_core.images import Dataset, load, normalise
from resnet_core.sampling import stratified
from tests.image_files import FROM_FILES, write

SPLITS = ["official", "pooled", "held-out"]


@lru_cache(maxsize=32)
def digits(**fields: object) -> Dataset:
    values = {"schedule": "[1, 0] lin[0, 1]", "data": "digits", "image_size": 16, **fields}
    return load(TrialConfig(**values), Path("nowhere"))  # type: ignore[arg-type]


def contents(images: torch.Tensor, labels: torch.Tensor) -> Counter[tuple[bytes, int]]:
    """Count images by their bytes: the digits may hold one twice."""
    return Counter((image.tobytes(), int(label)) for image, label in zip(images.numpy(), labels, strict=True))


def trains(data: Dataset) -> Counter[tuple[bytes, int]]:
    return contents(data.train_images, data.train_labels)


def validates(data: Dataset) -> Counter[tuple[bytes, int]]:
    return contents(data.val_images, data.val_labels)


def furthest_from_share(part: torch.Tensor, whole: np.ndarray) -> float:
    """Return how many images the class that is furthest from its share is away from it."""
    shares = np.bincount(whole, minlength=10) * (len(part) / len(whole))
    return float(np.abs(np.bincount(part.numpy(), minlength=10) - shares).max())


TARGETS = load_digits().target


# Digits


@pytest.mark.parametrize(
    ("split", "sizes"), [("official", (1438, 359)), ("pooled", (1438, 359)), ("held-out", (1295, 143))]
)
def test_the_digits_split_into_so_many_images(split, sizes):
    data = digits(split=split)
    assert (len(data.train_images), len(data.val_images)) == sizes
    assert (len(data.train_labels), len(data.val_labels)) == sizes


@pytest.mark.parametrize("size", [16, 32])
def test_digits_are_bytes_of_three_channels(size):
    data = digits(image_size=size)
    for images in (data.train_images, data.val_images):
        assert images.dtype == torch.uint8
        assert images.shape[1:] == (3, size, size)


def test_the_three_channels_of_a_digit_are_equal():
    images = digits().train_images
    assert torch.equal(images, images[:, :1].expand(-1, 3, -1, -1))


def test_digits_use_the_whole_range_of_a_byte():
    images = digits().train_images
    assert (images.min(), images.max()) == (0, 255)


def test_labels_are_whole_numbers_for_the_cross_entropy():
    data = digits()
    assert (data.train_labels.dtype, data.val_labels.dtype) == (torch.int64, torch.int64)


@pytest.mark.parametrize("size", [16, 32])
def test_official_is_every_digit_of_scikit_learn_once_enlarged_linearly_to_the_nearest_byte(size):
    data, bunch = digits(image_size=size), load_digits()
    places = (np.arange(size) + 0.5) * 8 / size - 0.5
    enlarge = np.stack([np.interp(places, np.arange(8), row) for row in np.eye(8)], axis=1)
    large = np.round(enlarge @ bunch.images @ enlarge.T * (255 / 16)).astype(np.uint8)
    expected = contents(torch.from_numpy(large), torch.from_numpy(bunch.target))
    images, labels = torch.cat((data.train_images, data.val_images)), torch.cat((data.train_labels, data.val_labels))
    assert contents(images[:, 0], labels) == expected


# Splits


@pytest.mark.parametrize("split", SPLITS)
def test_each_class_has_its_share_of_the_validation(split):
    data = digits(split=split)
    whole = torch.cat((data.train_labels, data.val_labels)).numpy()
    assert furthest_from_share(data.val_labels, whole) < 1


@pytest.mark.parametrize("seed", [0, 1])
def test_pooled_is_all_digits_each_once(seed):
    data, official = digits(split="pooled", seed=seed), digits()
    assert trains(data) + validates(data) == trains(official) + validates(official)


def test_held_out_is_the_training_images_each_once():
    data = digits(split="held-out")
    assert trains(data) + validates(data) == trains(digits())


def test_held_out_leaves_the_test_images_alone():
    data, test_alone = digits(split="held-out"), validates(digits()) - trains(digits())
    assert not (trains(data) + validates(data)) & test_alone


@pytest.mark.parametrize("split", ["official", "held-out"])
def test_the_split_is_everybodys(split):
    one, other = digits(split=split, seed=0), digits(split=split, seed=1)
    assert torch.equal(one.train_images, other.train_images)
    assert torch.equal(one.val_images, other.val_images)
    assert torch.equal(one.val_labels, other.val_labels)


def test_pooled_differs_from_seed_to_seed():
    assert validates(digits(split="pooled", seed=0)) != validates(digits(split="pooled", seed=1))


def test_pooled_is_the_same_for_the_same_seed():
    one = digits(split="pooled", seed=1)
    digits.cache_clear()
    other = digits(split="pooled", seed=1)
    assert one is not other
    assert torch.equal(one.val_images, other.val_images)
    assert torch.equal(one.train_labels, other.train_labels)


# Limits


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("limit", [1, 7, 64, 101])
def test_a_limit_takes_so_many_images_each_class_with_its_share(split, limit):
    whole, limited = digits(split=split), digits(split=split, train_limit=limit, val_limit=limit)
    for labels, all_labels in (
        (limited.train_labels, whole.train_labels),
        (limited.val_labels, whole.val_labels),
    ):
        assert len(labels) == limit
        assert furthest_from_share(labels, all_labels.numpy()) < 1


def test_a_limit_takes_images_of_the_split():
    whole, limited = digits(split="pooled"), digits(split="pooled", train_limit=50, val_limit=40)
    assert trains(limited) <= trains(whole)
    assert validates(limited) <= validates(whole)


def test_a_limit_beyond_what_there_is_takes_all():
    data = digits(train_limit=1439, val_limit=10_000)
    assert trains(data) == trains(digits())
    assert validates(data) == validates(digits())


# The mean, and what the network sees


@pytest.mark.parametrize("fields", [{}, {"split": "pooled", "seed": 2}, {"train_limit": 60}], ids=str)
def test_the_mean_is_that_of_the_training_images_pixel_by_pixel(fields):
    data = digits(**fields)
    assert data.mean.dtype == torch.float32
    torch.testing.assert_close(data.mean.double(), data.train_images.double().mean(0) / 255, rtol=0, atol=1e-7)


def test_normalise_is_x_over_255_minus_the_mean():
    data = digits()
    seen = normalise(data.val_images[:9], data.mean)
    torch.testing.assert_close(seen.double(), data.val_images[:9].double() / 255 - data.mean, rtol=0, atol=1e-6)


def test_normalise_gives_floats_in_channels_last():
    data = digits()
    seen = normalise(data.val_images[:9], data.mean)
    assert seen.dtype == torch.float32
    assert seen.is_contiguous(memory_format=torch.channels_last)


def test_normalise_leaves_the_images_and_the_mean_alone():
    data = digits()
    images, mean = data.val_images[:9].clone(), data.mean.clone()
    normalise(images, mean)
    assert torch.equal(images, data.val_images[:9])
    assert torch.equal(mean, data.mean)


# stratified

LABELS = st.lists(st.integers(0, 9), min_size=1, max_size=200).map(np.asarray)
SEEDS = st.integers(0, 2**32 - 1)


@given(LABELS, SEEDS, st.data())
def test_stratified_chooses_so_many_different_ones_in_order(labels, seed, data):
    count = data.draw(st.integers(0, len(labels)))
    chosen = stratified(labels, count, seed)
    assert chosen.shape == (count,)
    assert (np.diff(chosen) > 0).all()
    assert ((chosen >= 0) & (chosen < len(labels))).all()


@given(LABELS, SEEDS, st.data())
def test_stratified_gives_each_class_its_share_to_within_one(labels, seed, data):
    count = data.draw(st.integers(0, len(labels)))
    chosen = Counter(labels[stratified(labels, count, seed)].tolist())
    for label, size in Counter(labels.tolist()).items():
        assert abs(chosen[label] - Fraction(size * count, len(labels))) < 1


@given(LABELS, SEEDS, st.data())
def test_stratified_chooses_the_same_for_the_same_seed(labels, seed, data):
    count = data.draw(st.integers(0, len(labels)))
    assert (stratified(labels, count, seed) == stratified(labels, count, seed)).all()


def test_stratified_chooses_by_the_seed():
    assert (stratified(TARGETS, 100, seed=0) != stratified(TARGETS, 100, seed=1)).any()


def test_stratified_takes_every_image_equally_often():
    labels = np.arange(40) % 2
    counts = np.bincount(np.concatenate([stratified(labels, 10, seed) for seed in range(1000)]))
    assert counts.min() > 180  # 250 expected, standard deviation 13.7
    assert counts.max() < 320


# Data sets in files


@pytest.mark.parametrize("name", FROM_FILES)
def test_the_images_and_labels_in_files_are_those_that_train_and_validate(tmp_path, monkeypatch, name):
    (images, labels), (tests, test_labels) = write(name, tmp_path / "data", monkeypatch)
    read = load(TrialConfig("[1, 0] lin[0, 1]", data=name, model="resnet11v2"), tmp_path / "data")
    assert np.array_equal(read.train_images, images)
    assert np.array_equal(read.train_labels, labels)
    assert np.array_equal(read.val_images, tests)
    assert np.array_equal(read.val_labels, test_labels)


@pytest.mark.parametrize(
    ("name", "train", "test", "classes", "side", "channels"),
    [
        ("cifar10", 50_000, 10_000, 10, 32, 3),
        ("cifar100", 50_000, 10_000, 100, 32, 3),
        ("svhn", 73_257, 26_032, 10, 32, 3),
        ("fashion_mnist", 60_000, 10_000, 10, 28, 1),
        ("stl10", 5_000, 8_000, 10, 96, 3),
    ],
)
def test_a_data_set_has_its_published_size(name, train, test, classes, side, channels):
    spec = DATASETS[name]
    assert (spec.train_size, spec.test_size, spec.classes) == (train, test, classes)
    assert (spec.default_image_size, spec.channels) == (side, channels)


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_a_pixel_of_a_reduced_image_is_the_mean_of_a_square(factor):
    images = np.random.default_rng(0).integers(0, 256, (5, 2, 12, 12), np.uint8)
    smaller, labels = reduced((images, np.arange(5)), factor)
    exact = images.reshape(5, 2, 12 // factor, factor, 12 // factor, factor).mean((3, 5))
    assert np.abs(smaller - exact).max() <= 0.5
    assert np.array_equal(labels, np.arange(5))


def test_images_of_stl10_without_a_label_are_reported(tmp_path, monkeypatch):
    write("stl10", tmp_path, monkeypatch)
    file = tmp_path / "stl10_binary" / "train_X.bin"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"train_X.bin has 3,317,759 bytes: expected 27,648 for each of the 120 labels"):
        load(TrialConfig("[1, 0] lin[0, 1]", data="stl10", model="resnet11v2"), tmp_path)


def test_a_changed_batch_of_cifar100_is_not_unpickled(tmp_path, monkeypatch):
    write("cifar100", tmp_path, monkeypatch)
    monkeypatch.setattr("torchvision.datasets.cifar.download_and_extract_archive", no_network)
    mark = tmp_path / "was unpickled"

    class Malicious:
        def __reduce__(self):
            return (Path.touch, (mark,))

    (tmp_path / "cifar-100-python" / "train").write_bytes(pickle.dumps(Malicious()))
    with pytest.raises(DataError, match="CIFAR-100"):
        load(TrialConfig("[1, 0] lin[0, 1]", data="cifar100", model="resnet11v2"), tmp_path)
    assert not mark.exists()


# CIFAR-10


def no_network(*_args: object, **_kwargs: object) -> NoReturn:
    raise URLError("no network here")


@pytest.fixture
def cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(urllib.request, "urlopen", no_network)


@pytest.fixture
def cifar10_config() -> TrialConfig:
    return TrialConfig("[1, 0] lin[0, 1]")


@pytest.mark.usefixtures("cut_off")
@pytest.mark.parametrize(
    "said", ["CIFAR-10", "{}", "{}/cifar-10-batches-py", "no network here", "--data", "SWEEPS_DATA"]
)
def test_missing_images_are_reported_with_the_place_and_the_remedy(tmp_path, cifar10_config, said):
    with pytest.raises(DataError) as caught:
        load(cifar10_config, tmp_path)
    assert said.format(tmp_path) in str(caught.value)


@pytest.mark.usefixtures("cut_off")
def test_a_folder_with_half_of_the_images_is_reported(tmp_path, cifar10_config):
    (tmp_path / "cifar-10-batches-py").mkdir()
    (tmp_path / "cifar-10-batches-py" / "data_batch_1").write_bytes(b"half")
    with pytest.raises(DataError, match=r"data_batch_1 is damaged, data_batch_2 is missing.*Put the unpacked"):
        load(cifar10_config, tmp_path)


@pytest.mark.usefixtures("cut_off")
@pytest.mark.parametrize(
    ("name", "damaged", "missing"),
    [
        ("cifar100", "cifar-100-python/train", "meta"),
        ("svhn", "svhn/train_32x32.mat", "test_32x32.mat"),
        ("stl10", "stl10_binary/train_X.bin", "test_X.bin"),
        ("fashion_mnist", "FashionMNIST/raw/train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
    ],
)
def test_a_damaged_file_of_each_data_set_is_named(tmp_path, name, damaged, missing):
    file = tmp_path / damaged
    file.parent.mkdir(parents=True)
    file.write_bytes(b"half")
    faults = DATASETS[name].faults
    assert faults is not None
    assert {f"{file.name} is damaged", f"{missing} is missing"} <= set(faults(tmp_path))
    with pytest.raises(DataError, match=f"cannot be used: .*{file.name} is damaged"):
        DATASETS[name].read(tmp_path, DATASETS[name].image_sizes[0])


@pytest.mark.usefixtures("cut_off")
def test_a_download_that_fails_leaves_no_empty_folder(tmp_path, cifar10_config):
    with pytest.raises(DataError):
        load(cifar10_config, tmp_path / "data")
    assert list(tmp_path.iterdir()) == []


def test_a_download_announces_nothing_on_stdout(tmp_path, cifar10_config, capsys, monkeypatch):
    def announce(*_args: object, **_kwargs: object) -> NoReturn:
        print("Downloading")
        no_network()

    monkeypatch.setattr("torchvision.datasets.cifar.download_and_extract_archive", announce)
    with pytest.raises(DataError, match="no network here"):
        load(cifar10_config, tmp_path)
    assert capsys.readouterr().out == ""


@pytest.fixture(scope="module")
def cifar10_folder() -> Path:
    folder = os.environ.get("SWEEPS_DATA")
    if not folder or not Path(folder, "cifar-10-batches-py").is_dir():
        pytest.skip("SWEEPS_DATA names no folder with cifar-10-batches-py")
    return Path(folder)


@pytest.mark.cifar10
@pytest.mark.parametrize(
    ("split", "sizes"), [("official", (5000, 1000)), ("pooled", (5000, 1000)), ("held-out", (4500, 500))]
)
def test_cifar10_is_split_with_equal_classes(cifar10_folder, split, sizes):
    data = load(TrialConfig("[1, 0] lin[0, 1]", split=split, seed=3), cifar10_folder)
    assert data.train_images.shape == (10 * sizes[0], 3, 32, 32)
    assert data.val_images.shape == (10 * sizes[1], 3, 32, 32)
    assert data.train_labels.bincount().tolist() == [sizes[0]] * 10
    assert data.val_labels.bincount().tolist() == [sizes[1]] * 10


@pytest.mark.cifar10
def test_cifar10_has_its_known_means(cifar10_folder, cifar10_config):
    # Of red, green and blue over the training images; a swapped axis or channel shows here.
    data = load(cifar10_config, cifar10_folder)
    assert data.mean.mean((1, 2)).tolist() == pytest.approx([0.4914, 0.4822, 0.4465], abs=1e-4)
    assert data.train_images.float().mean((0, 2, 3)).div(255).tolist() == pytest.approx(
        [0.4914, 0.4822, 0.4465], abs=1e-4
    )


@pytest.mark.cifar10
def test_cifar10_images_lie_as_torchvision_shows_them(cifar10_folder, cifar10_config):
    from torchvision.datasets import CIFAR10

    data = load(cifar10_config, cifar10_folder)
    test = CIFAR10(cifar10_folder, train=False)
    for i in (0, 1, 9999):
        assert torch.equal(data.val_images[i], torch.from_numpy(np.array(test[i][0])).permute(2, 0, 1))
        assert data.val_labels[i] == test[i][1]


@pytest.mark.cifar10
def test_cifar10_pooled_is_all_images_each_once(cifar10_folder, cifar10_config):
    pooled = load(TrialConfig("[1, 0] lin[0, 1]", split="pooled", seed=1), cifar10_folder)
    official = load(cifar10_config, cifar10_folder)
    assert trains(pooled) + validates(pooled) == trains(official) + validates(official)


@pytest.mark.cifar10
def test_cifar10_at_half_its_size_has_the_mean_of_four_pixels(cifar10_folder, cifar10_config):
    whole = load(replace(cifar10_config, train_limit=50, val_limit=20), cifar10_folder)
    half = load(replace(cifar10_config, train_limit=50, val_limit=20, image_size=16), cifar10_folder)
    assert torch.equal(half.train_labels, whole.train_labels)
    for small, large in ((half.train_images, whole.train_images), (half.val_images, whole.val_images)):
        exact = torch.nn.functional.avg_pool2d(large.double(), 2)
        assert small.shape == exact.shape
        assert small.dtype == torch.uint8
        assert ((small.double() - exact).abs() <= 0.5).all()
