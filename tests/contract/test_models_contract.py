"""What every network keeps to, whatever its name."""

from functools import lru_cache

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from resnet_core.config import ConfigError
from resnet_core.models import build, trainable_parameters

MODELS = ["resnet11v2", "resnet20v2", "resnet29v2", "resnet56v2"]
pytestmark = pytest.mark.parametrize("model", MODELS)


@lru_cache(maxsize=len(MODELS))
def settled(model: str) -> nn.Module:
    """A network in eval mode whose BN statistics are those of some images. Not to be changed."""
    network = build(model, 10, seed=0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        network.train()(images(16, 8))
    return network.eval()


def images(size: int, count: int = 4) -> torch.Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(size)) - 0.5


@pytest.mark.parametrize("size", [16, 32])
def test_logits_are_ten_an_image(model, size):
    with torch.inference_mode():
        assert settled(model)(images(size)).shape == (4, 10)


def test_the_number_of_classes_is_the_width_of_the_logits(model):
    with torch.inference_mode():
        assert build(model, 7, seed=0).eval()(images(16, 2)).shape == (2, 7)


def test_gradients_reach_every_parameter(model):
    network = build(model, 10, seed=0)
    F.cross_entropy(network(images(16)), torch.arange(4)).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        # The bias of a convolution is taken out again by the batch norm behind it.
        if parameter.ndim == 4 or "bn" in name or "dense" in name:
            assert parameter.grad.abs().max() > 0, name


def test_every_parameter_is_trained(model):
    network = build(model, 10, seed=0)
    assert trainable_parameters(network) == sum(p.numel() for p in network.parameters())


def test_frozen_parameters_are_not_counted_as_trainable(model):
    network = build(model, 10, seed=0)
    whole = trainable_parameters(network)
    frozen = next(network.parameters()).requires_grad_(False)
    assert trainable_parameters(network) == whole - frozen.numel()


def test_eval_mode_gives_the_same_twice(model):
    with torch.inference_mode():
        assert torch.equal(settled(model)(images(16)), settled(model)(images(16)))


def test_eval_mode_judges_an_image_whatever_is_beside_it(model):
    with torch.inference_mode():
        together = settled(model)(images(16))
        alone = torch.cat([settled(model)(image[None]) for image in images(16)])
    torch.testing.assert_close(alone, together, rtol=1e-4, atol=1e-4)


def test_train_mode_judges_an_image_by_its_batch(model):
    network = build(model, 10, seed=0).train()
    with torch.no_grad():
        together, half = network(images(16))[:2], network(images(16)[:2])
    assert not torch.allclose(together, half, atol=1e-3)


def test_a_forward_pass_leaves_its_images_alone(model):
    given = images(16)
    with torch.inference_mode():
        settled(model)(given)
    assert torch.equal(given, images(16))


def test_the_state_dict_carries_everything_to_another_network(model):
    other = build(model, 10, seed=1).eval()
    other.load_state_dict(settled(model).state_dict())
    with torch.inference_mode():
        assert torch.equal(other(images(16)), settled(model)(images(16)))


def test_memory_formats_give_the_same_logits(model):
    with torch.inference_mode():
        nhwc = settled(model)(images(16).to(memory_format=torch.channels_last))
        torch.testing.assert_close(nhwc, settled(model)(images(16)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("change", ["resnet57v2", "resnet2v2", "resnet14v2", "vgg", "{}x", " {}", "{}\n"])
def test_a_name_that_is_no_network_is_refused(model, change):
    name = change.format(model)
    with pytest.raises(ConfigError, match=r"model = .*9n\+2"):
        build(name, 10, seed=0)
