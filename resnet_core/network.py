"""The network that a config asks for."""

from __future__ import annotations

import threading
from typing import NamedTuple

import torch
from torch import nn

from resnet_core import models, own
from resnet_core.code import describe, is_reference, not_exiting
from resnet_core.config import ConfigError, TrialConfig

# All threads share torch's global generator.
_seeding = threading.Lock()


class Shape(NamedTuple):
    """What a network is built for: channels of an image, and number of classes."""

    channels: int
    classes: int


def build(config: TrialConfig, shape: Shape | None = None) -> nn.Module:
    """Return the network of ``config.model``, its weights drawn from ``config.seed`` alone, on the CPU.

    It maps images [B, channels, H, W] to logits [B, classes]. torch's global generators are left as they were. A
    network of one's own is tried on two images: so layers that learn their shapes from their first input are ready.

    Args:
        config: names the network.
        shape: what it is built for; None is that of the config's data set, whose code is then imported.

    Raises:
        ConfigError: a network of one's own is no such network.
        CodeError: its code cannot be imported.
        DataError: the data set is a folder of images that is missing or not as expected.
    """
    if shape is None:
        config = own.resolve(config)
        dataset = own.dataset(config.data)
        shape = Shape(dataset.channels, dataset.classes)
    if is_reference(config.model):
        return _build_own(config, shape)
    network, of_name = models.find(config.model)
    options = {name: getattr(config, name) for name in network.options}
    # Layers draw their weights from the CPU's global generator. torch.manual_seed would seed those of GPUs too.
    with _seeding, torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(config.seed)
        built = network.build(classes=shape.classes, channels=shape.channels, **of_name, **options)
    momentum = network.bn_momentum if config.bn_momentum is None else config.bn_momentum
    for module in built.modules():
        if isinstance(module, nn.BatchNorm2d):
            # torch's momentum is the share of the new statistics. Rounded, since 1 - 0.99 is not quite 0.01.
            module.momentum = round(1.0 - momentum, 12)
    return built


def _build_own(config: TrialConfig, shape: Shape) -> nn.Module:
    with _seeding, torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(config.seed)
        built = own.network(config, classes=shape.classes, channels=shape.channels)
        if not isinstance(built, nn.Module):
            raise ConfigError("model", config.model, f"a torch.nn.Module, not a {type(built).__name__}")
        _try(built.cpu(), config, shape)
    if config.bn_momentum is not None:
        for module in built.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.momentum = round(1.0 - config.bn_momentum, 12)
    return built


def _try(network: nn.Module, config: TrialConfig, built_for: Shape) -> None:
    shape = (2, built_for.channels, config.side, config.side)
    try:
        with torch.no_grad(), not_exiting():
            logits = network.eval()(torch.zeros(shape))
    except Exception as error:
        said = f"a network that takes images {list(shape)}; it failed: {describe(error)}"
        raise ConfigError("model", config.model, said) from error
    finally:
        network.train()
    got = list(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
    if got != [2, built_for.classes]:
        said = f"logits {[2, built_for.classes]} of images {list(shape)}, not {got}"
        raise ConfigError("model", config.model, said)
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise ConfigError("model", config.model, "a network with trainable parameters")
    kinds = sorted({str(parameter.dtype) for parameter in network.parameters()})
    if kinds != ["torch.float32"]:
        raise ConfigError("model", config.model, f"parameters of torch.float32, not {', '.join(kinds)}")


def check_trained(config: TrialConfig, logits: object, shape: list[int]) -> None:
    """Check what a network of one's own returns in training, which may differ from what `build` has seen in inference.

    Raises:
        ConfigError: it is no tensor of that shape, or has no gradient.
    """
    got = list(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
    if got != shape:
        raise ConfigError("model", config.model, f"logits {shape} in training, too, not {got}")
    assert isinstance(logits, torch.Tensor)
    if not logits.requires_grad:
        raise ConfigError("model", config.model, "logits that depend on its parameters; these have no gradient")


def trainable_parameters(network: nn.Module) -> int:
    """Return the number of trainable parameters."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)
