"""What a kept network says of images: those of its data set, and image files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from resnet_core.config import ConfigError, TrialConfig
from resnet_core.data import DATASETS, Images
from resnet_core.image_file import ImageFile, read_image
from resnet_core.images import load
from resnet_core.kept import KeptNetwork
from resnet_core.training_run import EVALUATION_BATCH

Part = Literal["validation", "test"]
FORMATS = ("PNG", "JPEG")
"""The formats of image files that are predicted."""


def labelled_images(config: TrialConfig, part: Part, data_dir: Path) -> Images:
    """Return the images that a trial was validated on, or the test images of its data set, with their labels.

    With the split ``official`` the validation images are the test images; a limit of the trial holds for the
    validation alone.

    Args:
        config: the trial's configuration.
        part: which images.
        data_dir: the folder for data, from which images are read and to which they are downloaded.

    Returns:
        uint8 [N, C, H, W] and int64 [N].

    Raises:
        ConfigError: test images are asked for and the split is ``pooled``, which has trained on most of them; or the
            configuration does not fit the code that it names.
        CodeError: the code of a data set of one's own cannot be imported.
        DataError: the images are not there and cannot be downloaded.
    """
    if part == "test" and config.split == "held-out":
        images, labels = load(replace(config, test=True), data_dir).test
        return images.numpy(), labels.numpy()
    if part == "test" and config.split == "pooled":
        raise ConfigError("split", config.split, "official or held-out: pooled has trained on most of the test images")
    data = load(config if part == "validation" else replace(config, val_limit=None), data_dir)
    return data.val_images.numpy(), data.val_labels.numpy()


@torch.inference_mode()
def logits_of(network: KeptNetwork, images: NDArray[np.uint8], *, mirrored: bool = False) -> NDArray[np.float32]:
    """Return a network's outputs for images, before softmax.

    The images are taken in the batches of the trial's validation, so that the outputs are the same to the last bit on
    the same kind of device.

    Args:
        network: what `resnet_core.kept.load_model` returned.
        images: uint8 [N, C, H, W], as the data set has them.
        mirrored: whether the images are mirrored left to right first.

    Returns:
        float32 [N, classes].
    """
    device = network.mean.device
    size = EVALUATION_BATCH.get(device.type, EVALUATION_BATCH["cpu"])
    found = []
    for start in range(0, len(images), size):
        batch = torch.from_numpy(images[start : start + size]).to(device)
        found.append(network(batch.flip(3) if mirrored else batch).cpu())
    return torch.cat(found).numpy()


def read_input(network: KeptNetwork, file: Path) -> ImageFile:
    """Return a PNG or JPEG file as a network's input, converted as the images of its data set are.

    Raises:
        DataError: the file cannot be read as such an image; the message names it.
    """
    about, data = network.about, network.config.data
    ships = data in DATASETS
    return read_image(
        file,
        about.image_size,
        channels=about.channels,
        grey=ships and DATASETS[data].grey,
        by_mean=ships,
        formats=FORMATS,
    )
