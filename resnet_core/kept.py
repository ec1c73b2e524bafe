"""A network that a study has kept, read from its file and ready to predict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from resnet_core import code
from resnet_core.code import CodeError, is_reference
from resnet_core.config import ConfigError, TrialConfig
from resnet_core.images import normalise
from resnet_core.network import Shape, build
from resnet_core.network_file import About, NetworkFileError, read_about
from resnet_core.schedule import ScheduleError


class KeptNetwork(nn.Module):
    """A trained network in inference mode, with the normalisation of its images: what the trial has validated.

    Its ``state_dict()`` is the content of its file: the network's own tensors under ``network.``, and ``mean``.

    Args:
        network: the network; it maps normalised images to logits.
        mean: float32 [C, H, W], or with sides of 1; it is subtracted from the images.
        config: the trial's configuration.
        about: what the file says.

    Attributes:
        network: see above.
        config: see above.
        about: see above.
        classes: names of the classes, by label.
    """

    mean: Tensor

    def __init__(self, network: nn.Module, mean: Tensor, config: TrialConfig, about: About) -> None:
        super().__init__()
        self.network, self.config, self.about, self.classes = network, config, about, about.classes
        self.register_buffer("mean", mean)
        # The layout and the precision of the trial's validation: other ones would round in another way.
        self._layout = torch.contiguous_format if is_reference(config.model) else torch.channels_last

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits [B, classes], float32, of images [B, C, H, W].

        Args:
            images: uint8 as the data set has them, or floats in [0, 1]; of ``about.image_size`` pixels a side.
        """
        x = normalise(images, self.mean) if images.dtype == torch.uint8 else images.float() - self.mean
        bf16 = self.config.precision == "bf16"
        with torch.autocast(x.device.type, torch.bfloat16, enabled=bf16, cache_enabled=False):
            logits: Tensor = self.network(x.contiguous(memory_format=self._layout))
        return logits.float()


def load_model(file: Path | str, device: str = "cpu", *, folder: Path | str | None = None) -> KeptNetwork:
    """Return the network in a file that a study has kept: in inference mode, on a device, with frozen weights.

    >>> network = load_model("quickstart-3.safetensors")  # doctest: +SKIP
    >>> network(images).softmax(1)  # images: uint8 [B, C, H, W]  # doctest: +SKIP

    Args:
        file: the safetensors file, of ``sweeps model`` or of a study's folder.
        device: a torch device.
        folder: for a network of one's own, the folder of its module. The code that the file names is imported: from
            there or, if it is not there, from Python's path. Without a folder, a file never makes code run.

    Raises:
        NetworkFileError: the file is missing, damaged or no such file, does not fit its network, or needs ``folder``.
        CodeError: the code of a network of one's own cannot be imported.
    """
    path = Path(file)
    about = read_about(path)
    if about.trainer is not None:
        raise NetworkFileError(
            f"{path}: these tensors are of the trainer {about.trainer}, which alone knows their network; read them "
            "with safetensors.torch.load_file, and put them into it"
        )
    try:
        config = TrialConfig.from_dict(about.config)
        if is_reference(config.model):
            _allow_code(path, config.model, folder)
        network = _built(config, about)
    except (ConfigError, ScheduleError, TypeError, ValueError) as error:
        raise NetworkFileError(f"{path}: its network cannot be built: {error}") from error
    return _filled(path, network, config, about).to(device)


def _allow_code(path: Path, reference: str, folder: Path | str | None) -> None:
    if folder is None:
        raise NetworkFileError(
            f"{path}: its network is {reference}, code of one's own; if you trust it, name the folder of its module: "
            "load_model(file, folder=...)"
        )
    if not Path(folder).is_dir():
        raise CodeError(f"{folder}: no such folder; expected the one that has the module of {reference}")
    code.search(Path(folder))


def _built(config: TrialConfig, about: About) -> nn.Module:
    """Return a file's network with new weights. Neither the images nor the code of its data set are needed."""
    classes, channels, side = len(about.classes), about.channels, about.image_size
    if classes < 1 or channels < 1 or side < 1:
        raise ValueError(f"{classes} classes, {channels} channels, images of {side} pixels: expected 1 or more of each")
    if config.image_size not in (None, side):
        raise ValueError(f"images of {side} pixels, and of {config.image_size}: expected the same")
    return build(replace(config, image_size=side), Shape(channels, classes))


def _filled(path: Path, network: nn.Module, config: TrialConfig, about: About) -> KeptNetwork:
    tensors = _tensors(path)
    mean = tensors.pop("mean", None)
    shape = (about.channels, about.image_size, about.image_size)
    if mean is None or mean.dim() != 3 or any(n not in (1, m) for n, m in zip(mean.shape, shape, strict=True)):
        said = "is missing" if mean is None else f"is {list(mean.shape)}"
        raise NetworkFileError(f"{path}: the tensor mean {said}; expected {list(shape)}")
    expected = {f"network.{name}": value for name, value in network.state_dict().items()}
    _check_tensors(path, config.model, tensors, expected)
    network.load_state_dict({name.removeprefix("network."): value for name, value in tensors.items()})
    kept = KeptNetwork(network, mean.float(), config, about).eval().requires_grad_(requires_grad=False)
    layout = torch.contiguous_format if is_reference(config.model) else torch.channels_last
    kept.network.to(memory_format=layout)
    return kept


def _tensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(path))
    except (SafetensorError, OSError, ValueError) as error:
        raise NetworkFileError(f"{path}: cannot be read: {error}") from error


def _check_tensors(path: Path, model: str, tensors: Mapping[str, Tensor], expected: Mapping[str, Any]) -> None:
    for name, value in expected.items():
        if name not in tensors:
            raise NetworkFileError(f"{path}: it has no tensor {name}, which {model} needs")
        if tensors[name].shape != value.shape:
            found, needed = list(tensors[name].shape), list(value.shape)
            raise NetworkFileError(f"{path}: the tensor {name} is {found}; {model} needs {needed}")
    for name in tensors.keys() - expected.keys():
        raise NetworkFileError(f"{path}: it has a tensor {name}, which {model} has not")
