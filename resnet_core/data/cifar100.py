"""CIFAR-100 with its 100 fine labels, read and downloaded by torchvision.

Source: Krizhevsky 2009, *Learning Multiple Layers of Features from Tiny Images*: 500 training and 100 test images of
32×32 pixels of each class.
"""

from __future__ import annotations

from functools import lru_cache, partial
from pathlib import Path

from resnet_core.data import DatasetSpec, Images
from resnet_core.data.files import reduced
from resnet_core.data.files.cifar import FOLDERS, Title, faults, open_cifar, read_cifar

_TITLE: Title = "CIFAR-100"
_NAMES = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly
camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup
dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower
leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid
otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray
road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar
sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle
wardrobe whale willow_tree wolf woman worm
"""


def read(data_dir: Path, image_size: int) -> tuple[Images, Images]:
    """Return the training and the test images, of 32 or 16 pixels a side.

    Raises:
        DataError: they are not under ``data_dir`` and the download fails.
    """
    train, test = _read_files(data_dir)
    return reduced(train, 32 // image_size), reduced(test, 32 // image_size)


@lru_cache(maxsize=1)
def _read_files(data_dir: Path) -> tuple[Images, Images]:
    return read_cifar(_TITLE, data_dir)


def download(data_dir: Path) -> None:
    """Download the images unless they are under ``data_dir``.

    Raises:
        DataError: the download fails.
    """
    open_cifar(_TITLE, data_dir, train=False)


DATASET = DatasetSpec(
    classes=100,
    train_size=50_000,
    test_size=10_000,
    image_sizes=(16, 32),
    read=read,
    folder=FOLDERS[_TITLE],
    faults=partial(faults, _TITLE),
    download=download,
    names=_NAMES.split(),
)
