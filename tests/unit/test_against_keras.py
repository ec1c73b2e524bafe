"""ResNet v2 and its training steps against Keras, in which the published runs were made.

The published network is written here a second time, in Keras; ours gives it its weights. float64 where steps are
compared: Adam divides each gradient by its own size, so what rounding does to small ones would show in float32.
"""

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from resnet_core.config import TrialConfig
from resnet_core.network import build
from resnet_core.optimizer import Optimizer

# Keras's own conversions of arrays.
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.usefixtures("one_thread"),
]

BATCH = 4
LR = 1e-3
EPS = 1e-7
RECIPES = {
    "adam": {"optimizer": "adam", "l2": 1e-4},
    "adamw": {"optimizer": "adamw", "weight_decay": 0.18},
}


@pytest.fixture(scope="module")
def keras() -> Iterator[ModuleType]:
    """Keras on torch and the CPU. It reads the name of its backend once, when it is first imported."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAS_BACKEND", "torch")
        import keras

    assert keras.backend.backend() == "torch"
    with keras.device("cpu"):
        yield keras


@contextmanager
def in_float64(keras: ModuleType) -> Iterator[None]:
    """Make Keras compute everything in float64.

    Beneath it TensorFlow could keep float64, but with torch its batch norm and its losses fall back to
    float32, as JAX does; the table that says so is changed.
    """
    from keras.src.backend.common import dtypes

    floatx, policy = keras.config.floatx(), keras.config.dtype_policy()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(dtypes.BIT64_TO_BIT32_DTYPE, "float64", "float64")
        keras.config.set_floatx("float64")
        keras.config.set_dtype_policy("float64")
        yield
        keras.config.set_floatx(floatx)
        keras.config.set_dtype_policy(policy)


def published(keras: ModuleType, depth: int, l2: float = 0.0) -> Any:
    """The network of Atienza's book, chapter 2, with our names for its layers and logits at its end."""
    layers = keras.layers

    def conv(x: Any, name: str, filters: int, kernel: int, stride: int = 1) -> Any:
        return layers.Conv2D(
            filters,
            kernel,
            strides=stride,
            padding="same",
            kernel_initializer="he_normal",
            kernel_regularizer=keras.regularizers.L2(l2) if l2 else None,
            name=name,
        )(x)

    def bn_relu(x: Any, name: str) -> Any:
        return layers.ReLU()(layers.BatchNormalization(name=name)(x))

    units = (depth - 2) // 9
    inputs = layers.Input((32, 32, 3))
    x = bn_relu(conv(inputs, "stem", 16, 3), "stem_bn")
    for stack, (width, outputs) in enumerate(((16, 64), (64, 128), (128, 256))):
        for unit in range(units):
            name = f"blocks-{stack * units + unit}"
            stride = 2 if stack > 0 and unit == 0 else 1
            y = x if stack == unit == 0 else bn_relu(x, f"{name}-bn1")
            y = conv(y, f"{name}-conv1", width, 1, stride)
            y = conv(bn_relu(y, f"{name}-bn2"), f"{name}-conv2", width, 3)
            y = conv(bn_relu(y, f"{name}-bn3"), f"{name}-conv3", outputs, 1)
            if unit == 0:
                x = conv(x, f"{name}-shortcut", outputs, 1, stride)
            x = layers.Add()([x, y])
    x = layers.Flatten()(layers.AveragePooling2D(8)(bn_relu(x, "head_bn")))
    return keras.Model(inputs, layers.Dense(10, kernel_initializer="he_normal", name="dense")(x))


def keras_layer(model: Any, name: str) -> Any:
    return model.get_layer(name.replace(".", "-"))  # torch, beneath Keras, takes no dots in names


def named_layers(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d | nn.BatchNorm2d | nn.Linear):
            yield name, module


def give_weights(network: nn.Module, model: Any) -> None:
    """Set Keras's weights and running statistics to ours."""
    for name, module in named_layers(network):
        weight = module.weight.detach()
        if isinstance(module, nn.Conv2d):
            weight = weight.permute(2, 3, 1, 0)
        elif isinstance(module, nn.Linear):
            weight = weight.T
        values = [weight, module.bias.detach()]
        if isinstance(module, nn.BatchNorm2d):
            values += [module.running_mean, module.running_var]
        keras_layer(model, name).set_weights([value.numpy() for value in values])


def weights_of(network: nn.Module, model: Any) -> dict[str, Tensor]:
    """Keras's weights and running statistics, with our names and in our layout."""
    found = {}
    for name, module in named_layers(network):
        weight, *others = (torch.from_numpy(np.array(value)) for value in keras_layer(model, name).get_weights())
        if isinstance(module, nn.Conv2d):
            weight = weight.permute(3, 2, 0, 1)
        elif isinstance(module, nn.Linear):
            weight = weight.T
        keys = ["weight", "bias", "running_mean", "running_var"]
        found |= {f"{name}.{key}": value for key, value in zip(keys, [weight, *others], strict=False)}
    return found


def numbers_a_channel(network: nn.Module) -> dict[str, int]:
    """B·H·W at each batch norm."""
    found, whole = {}, copy.deepcopy(network)
    for name, module in named_layers(whole):
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_hook(
                lambda _m, _i, output, name=name: found.update({name: output[0].numel() // output[0].shape[1]})
            )
    with torch.no_grad():
        whole(images(0))
    return found


def images(seed: int) -> Tensor:
    return torch.rand(BATCH, 3, 32, 32, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) - 0.5


def labels(seed: int) -> Tensor:
    return torch.randint(0, 10, (BATCH,), generator=torch.Generator().manual_seed(seed))


def nhwc(x: Tensor) -> np.ndarray:
    return x.permute(0, 2, 3, 1).contiguous().numpy()


def make_config(model: str, recipe: str = "adam") -> TrialConfig:
    return TrialConfig(f"[{LR}, 0] lin[{LR}, 1]", model=model, eps=EPS, **RECIPES[recipe])  # type: ignore[arg-type]


def unsettled(network: nn.Module) -> nn.Module:
    """Give every batch norm, bias and statistic a value of its own, as after training."""
    random = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for _, module in named_layers(network):
            module.bias.uniform_(-0.1, 0.1, generator=random)
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5, generator=random)
                module.running_mean.uniform_(-0.5, 0.5, generator=random)
                module.running_var.uniform_(0.5, 2.0, generator=random)
    return network


@pytest.mark.parametrize("training", [False, True], ids=["inference", "training"])
def test_resnet56v2_gives_the_logits_of_keras(keras, training):
    network = unsettled(build(make_config("resnet56v2"))).train(training)
    model = published(keras, 56)
    give_weights(network, model)
    x = images(0).float()
    with torch.no_grad():
        ours = network(x)
        theirs = torch.from_numpy(keras.ops.convert_to_numpy(model(nhwc(x), training=training)))
    assert (ours - theirs).abs().max() <= 1e-5 * theirs.abs().max()


def test_keras_counts_the_parameters_of_resnet56v2_as_we_do(keras):
    assert sum(math.prod(weight.shape) for weight in published(keras, 56).trainable_weights) == 1_663_338


class Steps:
    """The same training steps by both, from the same weights."""

    def __init__(self, keras: ModuleType, model: str, recipe: str) -> None:
        config = make_config(model, recipe)
        self.config = config
        self.network = build(config).double().train()
        self.first = self.weights()
        self.optimizer = Optimizer(self.network, config)
        self.model = published(keras, int(model.removeprefix("resnet").removesuffix("v2")), config.l2)
        give_weights(self.network, self.model)
        if recipe == "adamw":
            optimizer = keras.optimizers.AdamW(LR, weight_decay=config.weight_decay, epsilon=EPS)
        else:
            optimizer = keras.optimizers.Adam(LR, epsilon=EPS)
        self.model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        self.taken = 0

    def take(self, count: int) -> None:
        for _ in range(count):
            self.taken += 1
            x, y = images(self.taken), labels(self.taken)
            F.cross_entropy(self.network(x), y).backward()
            self.optimizer.step(LR, self.config.weight_decay, self.config.momentum)
            self.model.train_on_batch(nhwc(x), y.numpy())

    def weights(self) -> dict[str, Tensor]:
        return {name: parameter.detach().clone() for name, parameter in self.network.named_parameters()}

    def theirs(self) -> dict[str, Tensor]:
        return weights_of(self.network, self.model)


@pytest.fixture(
    scope="module",
    params=[("resnet56v2", "adamw", 1), ("resnet11v2", "adam", 10), ("resnet11v2", "adamw", 10)],
    ids=lambda p: f"{p[0]}-{p[1]}-{p[2]}",
)
def steps(keras, request) -> Steps:
    model, recipe, count = request.param
    with in_float64(keras):
        made = Steps(keras, model, recipe)
        made.take(count)
    return made


def test_training_steps_change_the_weights_as_in_keras(steps):
    theirs = steps.theirs()
    # A step moves a weight by about LR.
    apart = {name: (ours - theirs[name]).abs().max().item() / LR for name, ours in steps.weights().items()}
    assert {name: distance for name, distance in apart.items() if distance > 1e-6} == {}


def test_training_steps_move_every_kernel(steps):
    moved = {name: (ours - steps.first[name]).abs().max().item() / LR for name, ours in steps.weights().items()}
    assert [name for name, ours in steps.first.items() if ours.ndim > 1 and moved[name] < 0.9] == []


def test_training_steps_leave_the_running_means_of_keras(steps):
    ours = {name: value for name, value in steps.network.state_dict().items() if name.endswith("running_mean")}
    theirs = steps.theirs()
    torch.testing.assert_close(ours, {name: theirs[name] for name in ours}, rtol=0, atol=1e-10)


def test_what_training_steps_add_to_running_variances_is_n_by_n_minus_1_times_what_keras_adds(steps):
    # torch adds the batch's unbiased variance, Keras the biased one; n numbers a channel.
    ours, theirs = steps.network.state_dict(), steps.theirs()
    kept = 0.99**steps.taken  # of the 1 that both begin with
    sizes = numbers_a_channel(steps.network)
    for name, norm in named_layers(steps.network):
        if isinstance(norm, nn.BatchNorm2d):
            n = sizes[name]
            added, expected = (found[f"{name}.running_var"] - kept for found in (ours, theirs))
            torch.testing.assert_close(added, expected * (n / (n - 1)), rtol=1e-8, atol=1e-12)
