"""What every network keeps to, whatever its name and options."""

from functools import lru_cache

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from resnet_core.config import TrialConfig
from resnet_core.network import build, trainable_parameters

SMALL = "resnet11v2"
PARAMETERS = {
    "resnet11v2": 297_418,
    "resnet20v2": 570_602,
    "resnet29v2": 843_786,
    "resnet56v2": 1_663_338,
    "resnet18": 11_173_962,
    "resnet9": 6_573_130,
    "vgg16": 14_728_266,
    "densenet121": 6_956_426,
}
OPTIONS = [
    {"bottleneck": 0.25},
    {"bottleneck": 0.5},
    {"shortcut_kernel": 3},
    {"head": "max"},
    {"head": "flatten"},
    {"conv_bias": False},
]
NETWORKS = [{"model": model} for model in PARAMETERS] + [{"model": SMALL, **option} for option in OPTIONS]
every_network = pytest.mark.parametrize("fields", NETWORKS, ids=lambda f: "-".join(map(str, f.values())))


def make(fields: dict[str, object], **others: object) -> TrialConfig:
    return TrialConfig(**{"schedule": "[1, 0] lin[0, 5]", **fields, **others})  # type: ignore[arg-type]


def images(size: int, count: int = 4) -> torch.Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(size)) - 0.5


def smallest_images(config: TrialConfig) -> torch.Tensor:
    return images(32 if config.model == "vgg16" else 16)


@lru_cache(maxsize=len(NETWORKS))
def settled(config: TrialConfig) -> nn.Module:
    """A network in eval mode whose BN statistics are those of some images. Not to be changed."""
    network = build(config)
    for norm in batch_norms(network):
        norm.momentum = 1.0
    with torch.no_grad():
        network.train()(images(32, 8))
    return network.eval()


def batch_norms(network: nn.Module) -> list[nn.BatchNorm2d]:
    return [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]


@every_network
class TestNetwork:
    def test_logits_are_ten_an_image_of_32x32(self, fields):
        with torch.inference_mode():
            assert settled(make(fields))(images(32)).shape == (4, 10)

    def test_logits_are_ten_for_the_smallest_image_too(self, fields):
        config = make(fields)
        with torch.inference_mode():
            assert settled(config)(smallest_images(config)).shape == (4, 10)

    def test_weights_come_from_the_seed_alone(self, fields):
        torch.manual_seed(1)
        one = build(make(fields, seed=5)).state_dict()
        torch.manual_seed(2)
        other = build(make(fields, seed=5)).state_dict()
        assert [name for name in one if not torch.equal(one[name], other[name])] == []

    def test_another_seed_gives_other_weights(self, fields):
        one, other = (build(make(fields, seed=seed)) for seed in (0, 1))
        same = [
            name
            for (name, p), q in zip(one.named_parameters(), other.parameters(), strict=True)
            if p.ndim > 1 and torch.equal(p, q)
        ]
        assert same == []

    def test_building_draws_nothing_from_the_global_generator(self, fields):
        before = torch.get_rng_state()
        build(make(fields))
        assert torch.equal(torch.get_rng_state(), before)

    def test_gradients_reach_every_parameter(self, fields):
        config = make(fields)
        network = build(config).train()
        # The bias of a convolution is taken out again by the batch norm behind it.
        absorbed = {id(m.bias) for m in network.modules() if isinstance(m, nn.Conv2d)}
        F.cross_entropy(network(smallest_images(config)), torch.arange(4)).backward()
        for name, parameter in network.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
            assert id(parameter) in absorbed or parameter.grad.abs().max() > 0, name

    def test_every_parameter_is_trained(self, fields):
        network = build(make(fields))
        assert trainable_parameters(network) == sum(p.numel() for p in network.parameters())

    def test_eval_mode_gives_the_same_twice(self, fields):
        network = settled(make(fields))
        with torch.inference_mode():
            assert torch.equal(network(images(32)), network(images(32)))

    def test_eval_mode_judges_an_image_whatever_is_beside_it(self, fields):
        network = settled(make(fields))
        with torch.inference_mode():
            alone = torch.cat([network(image[None]) for image in images(32)])
            torch.testing.assert_close(alone, network(images(32)), rtol=1e-4, atol=1e-4)

    def test_train_mode_judges_an_image_by_its_batch(self, fields):
        config = make(fields)
        network, given = build(config).train(), smallest_images(config)
        with torch.no_grad():
            assert not torch.allclose(network(given)[:2], network(given[:2]), atol=1e-3)

    def test_train_mode_moves_every_running_statistic(self, fields):
        config = make(fields)
        network = build(config).train()
        with torch.no_grad():
            network(smallest_images(config))
        still = [n for n in batch_norms(network) if not n.running_mean.any() or (n.running_var == 1).all()]
        assert still == []

    def test_a_forward_pass_leaves_its_images_alone(self, fields):
        given = images(32)
        with torch.inference_mode():
            settled(make(fields))(given)
        assert torch.equal(given, images(32))

    def test_the_state_dict_carries_everything_to_another_network(self, fields):
        network = settled(make(fields))
        other = build(make(fields, seed=1)).eval()
        other.load_state_dict(network.state_dict())
        with torch.inference_mode():
            assert torch.equal(other(images(32)), network(images(32)))

    def test_memory_formats_give_the_same_logits(self, fields):
        network = settled(make(fields))
        with torch.inference_mode():
            nhwc = network(images(32).to(memory_format=torch.channels_last))
            torch.testing.assert_close(nhwc, network(images(32)), rtol=1e-4, atol=1e-4)

    def test_bn_momentum_is_set_on_every_batch_norm(self, fields):
        assert {norm.momentum for norm in batch_norms(build(make(fields, bn_momentum=0.95)))} == {0.05}

    def test_bn_momentum_is_the_networks_own_unless_given(self, fields):
        expected = 0.01 if make(fields).model.endswith("v2") else 0.1
        assert {norm.momentum for norm in batch_norms(build(make(fields)))} == {expected}


@pytest.mark.parametrize(("model", "count"), PARAMETERS.items())
def test_the_number_of_trainable_parameters(model, count):
    assert trainable_parameters(build(make({"model": model}))) == count


def test_frozen_parameters_are_not_counted_as_trainable():
    network = build(make({"model": SMALL}))
    frozen = next(network.parameters()).requires_grad_(False)
    assert trainable_parameters(network) == PARAMETERS[SMALL] - frozen.numel()
