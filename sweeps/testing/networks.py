"""The contract suite of networks, for every network and all its options."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from resnet_core import models
from resnet_core.config import TrialConfig
from resnet_core.data import DATASETS
from resnet_core.network import build, trainable_parameters

_DEFAULTS = TrialConfig("[1, 0] lin[0, 5]")


def config_of(model: str, **fields: object) -> TrialConfig:
    """Return the config of a network for colour images of 32 pixels a side."""
    return TrialConfig.from_dict({"schedule": "[1, 0] lin[0, 5]", "model": model, **fields})


def every_network() -> list[TrialConfig]:
    """Return configs of each shipped network: some depths of a family, and each value of each option."""
    configs = []
    for module, network in models.NETWORKS.items():
        names = list(network.parameters) or [module]
        configs += [config_of(name) for name in names]
        for option, values in network.options.items():
            others = [value for value in values if value != getattr(_DEFAULTS, option)]
            configs += [config_of(names[0], **{option: value}) for value in others]
    return configs


def label(config: TrialConfig) -> str:
    """Return the settings that distinguish a config of ``every_network``, for the name of a test."""
    network, _ = models.find(config.model)
    changed = [name for name in network.options if getattr(config, name) != getattr(_DEFAULTS, name)]
    return "-".join([config.model, *(f"{name}={getattr(config, name)}" for name in changed)])


class NetworkContract:
    """Tests of a network. A subclass whose name begins with Test gives its ``config``, as a parameter or a fixture.

    @pytest.mark.parametrize("config", every_network(), ids=label)
    class TestNetwork(NetworkContract): ...
    """

    def test_it_has_the_trainable_parameters_that_it_says(self, config: TrialConfig) -> None:
        network, _ = models.find(config.model)
        assert config.model in network.parameters, "NETWORK.parameters does not have it"
        default = config_of(config.model)
        assert trainable_parameters(build(default)) == network.parameters[config.model]

    def test_logits_are_one_for_each_class_at_every_image_size(self, config: TrialConfig) -> None:
        network, _ = models.find(config.model)
        sizes = {network.smallest_image, *(size for size in (14, 28, 32, 48) if size >= network.smallest_image)}
        with torch.inference_mode():
            for size in sizes:
                assert _settled(config)(_images(size)).shape == (4, _classes(config))

    def test_images_may_have_one_channel(self, config: TrialConfig) -> None:
        network, of_name = models.find(config.model)
        options = {name: getattr(config, name) for name in network.options}
        grey = network.build(classes=7, channels=1, **of_name, **options).eval()
        with torch.inference_mode():
            assert grey(_images(32)[:, :1]).shape == (4, 7)

    def test_weights_come_from_the_seed_alone(self, config: TrialConfig) -> None:
        torch.manual_seed(1)
        one = build(_changed(config, seed=5)).state_dict()
        torch.manual_seed(2)
        other = build(_changed(config, seed=5)).state_dict()
        assert [name for name in one if not torch.equal(one[name], other[name])] == []

    def test_another_seed_gives_other_weights(self, config: TrialConfig) -> None:
        one, other = (build(_changed(config, seed=seed)) for seed in (0, 1))
        pairs = zip(one.named_parameters(), other.parameters(), strict=True)
        assert [name for (name, p), q in pairs if p.ndim > 1 and torch.equal(p, q)] == []

    def test_building_draws_nothing_from_the_global_generator(self, config: TrialConfig) -> None:
        before = torch.get_rng_state()
        build(config)
        assert torch.equal(torch.get_rng_state(), before)

    def test_gradients_reach_every_parameter(self, config: TrialConfig) -> None:
        network = build(config).train()
        # The batch norm behind a convolution may subtract the convolution's bias, or the bias may not be used at all.
        biases = {id(m.bias) for m in network.modules() if isinstance(m, nn.Conv2d)}
        F.cross_entropy(network(_smallest_images(config)), torch.arange(4)).backward()  # type: ignore[no-untyped-call]
        for name, parameter in network.named_parameters():
            if id(parameter) in biases and config.skip_conv_bias:
                continue
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
            assert id(parameter) in biases or parameter.grad.abs().max() > 0, name

    def test_every_parameter_is_trained(self, config: TrialConfig) -> None:
        network = build(config)
        assert trainable_parameters(network) == sum(p.numel() for p in network.parameters())

    def test_eval_mode_gives_the_same_twice(self, config: TrialConfig) -> None:
        network, images = _settled(config), _largest_images(config)
        with torch.inference_mode():
            assert torch.equal(network(images), network(images))

    def test_in_eval_mode_an_image_does_not_depend_on_the_others(self, config: TrialConfig) -> None:
        network, images = _settled(config), _largest_images(config)
        with torch.inference_mode():
            alone = torch.cat([network(image[None]) for image in images])
            torch.testing.assert_close(alone, network(images), rtol=1e-4, atol=1e-4)

    def test_in_train_mode_an_image_depends_on_its_batch(self, config: TrialConfig) -> None:
        network, images = build(config).train(), _smallest_images(config)
        with torch.no_grad():
            assert not torch.allclose(network(images)[:2], network(images[:2]), atol=1e-3)

    def test_train_mode_changes_every_running_statistic(self, config: TrialConfig) -> None:
        network = build(config).train()
        with torch.no_grad():
            network(_smallest_images(config))
        unchanged = [
            norm
            for norm in _batch_norms(network)
            if norm.running_mean is None
            or norm.running_var is None
            or not norm.running_mean.any()
            or (norm.running_var == 1).all()
        ]
        assert unchanged == []

    def test_a_forward_pass_does_not_change_its_images(self, config: TrialConfig) -> None:
        images = _largest_images(config)
        with torch.inference_mode():
            _settled(config)(images)
        assert torch.equal(images, _largest_images(config))

    def test_the_state_dict_carries_everything_to_another_network(self, config: TrialConfig) -> None:
        network, images = _settled(config), _largest_images(config)
        other = build(_changed(config, seed=1)).eval()
        other.load_state_dict(network.state_dict())
        with torch.inference_mode():
            assert torch.equal(other(images), network(images))

    def test_memory_formats_give_the_same_logits(self, config: TrialConfig) -> None:
        network, images = _settled(config), _largest_images(config)
        with torch.inference_mode():
            channels_last = network(images.to(memory_format=torch.channels_last))
            torch.testing.assert_close(channels_last, network(images), rtol=1e-4, atol=1e-4)

    def test_bn_momentum_is_set_on_every_batch_norm(self, config: TrialConfig) -> None:
        assert {norm.momentum for norm in _batch_norms(build(_changed(config, bn_momentum=0.95)))} == {0.05}

    def test_bn_momentum_is_the_networks_own_unless_given(self, config: TrialConfig) -> None:
        network, _ = models.find(config.model)
        expected = round(1 - network.bn_momentum, 12)  # in torch's definition of momentum
        assert {norm.momentum for norm in _batch_norms(build(config))} == {expected}


def _changed(config: TrialConfig, **fields: object) -> TrialConfig:
    return TrialConfig.from_dict(config.to_dict() | fields)


def _classes(config: TrialConfig) -> int:
    return DATASETS[config.data].classes


def _images(size: int, count: int = 4) -> Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(size)) - 0.5


def _smallest_images(config: TrialConfig) -> Tensor:
    network, _ = models.find(config.model)
    return _images(max(16, network.smallest_image))


def _largest_images(config: TrialConfig, count: int = 4) -> Tensor:
    return _images(config.side, count)


@lru_cache(maxsize=32)
def _settled(config: TrialConfig) -> nn.Module:
    """Return a network in eval mode whose batch-norm statistics come from some images. Do not change the network."""
    network = build(config)
    for norm in _batch_norms(network):
        norm.momentum = 1.0
    with torch.no_grad():
        network.train()(_largest_images(config, 8))
    return network.eval()


def _batch_norms(network: nn.Module) -> list[nn.BatchNorm2d]:
    return [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
