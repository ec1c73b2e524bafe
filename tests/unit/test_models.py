"""The networks against their sources: parts, sizes, first weights."""

import math
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from resnet_core.config import TrialConfig
from resnet_core.models.layers.resnet_v2 import he_normal_
from resnet_core.network import build, trainable_parameters

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def resnet56() -> nn.Module:
    """As it is before training. Not to be changed."""
    return make("resnet56v2").eval()


def make(model: str, **fields: object) -> nn.Module:
    return build(TrialConfig("[1, 0] lin[0, 5]", model=model, **fields))  # type: ignore[arg-type]


def convolutions(network: nn.Module) -> dict[str, nn.Conv2d]:
    return {name: m for name, m in network.named_modules() if isinstance(m, nn.Conv2d)}


def batch_norms(network: nn.Module) -> dict[str, nn.BatchNorm2d]:
    return {name: m for name, m in network.named_modules() if isinstance(m, nn.BatchNorm2d)}


def test_resnet56v2_has_1663338_trainable_parameters(resnet56):
    assert trainable_parameters(resnet56) == 1_663_338


@pytest.mark.parametrize(
    ("kind", "parameter", "count"),
    [
        (nn.Conv2d, "weight", 1_644_720),
        (nn.Conv2d, "bias", 5_648),
        (nn.BatchNorm2d, "weight", 5_200),
        (nn.BatchNorm2d, "bias", 5_200),
        (nn.Linear, "weight", 2_560),
        (nn.Linear, "bias", 10),
    ],
)
def test_resnet56v2_splits_its_parameters_as_published(resnet56, kind, parameter, count):
    found = [getattr(m, parameter).numel() for m in resnet56.modules() if isinstance(m, kind)]
    assert sum(found) == count


@pytest.mark.parametrize(("depth", "count"), [(11, 3 * 3 + 3 + 1), (20, 6 * 3 + 3 + 1), (56, 58)])
def test_the_convolutions_are_three_a_unit_three_projections_and_the_first(depth, count):
    assert len(convolutions(make(f"resnet{depth}v2"))) == count


def test_a_32x32_image_costs_193_million_multiply_adds(resnet56):
    macs = 0

    def count(module: nn.Module, _inputs: object, output: Tensor) -> None:
        nonlocal macs
        macs += output.numel() * module.weight[0].numel()

    layers = [m for m in resnet56.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    with torch.inference_mode():
        resnet56(torch.zeros(1, 3, 32, 32))
    for hook in hooks:
        hook.remove()
    assert macs / 1e6 == pytest.approx(193.1, abs=0.05)


def test_only_the_very_first_unit_has_no_batch_norm_ahead_of_its_first_1x1(resnet56):
    units = len(resnet56.blocks)
    without = [i for i in range(units) if not isinstance(resnet56.blocks[i].bn1, nn.BatchNorm2d)]
    assert (units, without) == (18, [0])


def test_strides_are_on_the_first_1x1_of_stacks_2_and_3_and_on_their_projections(resnet56):
    strided = {name for name, conv in convolutions(resnet56).items() if conv.stride != (1, 1)}
    assert strided == {f"blocks.{unit}.{conv}" for unit in (6, 12) for conv in ("conv1", "shortcut")}
    assert {convolutions(resnet56)[name].stride for name in strided} == {(2, 2)}


def test_projections_are_1x1_and_in_the_first_unit_of_each_stack(resnet56):
    shortcuts = {n: c for n, c in convolutions(resnet56).items() if n.endswith("shortcut")}
    assert shortcuts.keys() == {f"blocks.{unit}.shortcut" for unit in (0, 6, 12)}
    assert {conv.kernel_size for conv in shortcuts.values()} == {(1, 1)}


def test_the_stacks_are_as_wide_as_published(resnet56):
    widths = [(b.conv1.in_channels, b.conv2.in_channels, b.conv3.out_channels) for b in resnet56.blocks]
    expected = [(16, 16, 64), *[(64, 16, 64)] * 5]
    expected += [(64, 64, 128), *[(128, 64, 128)] * 5]
    expected += [(128, 128, 256), *[(256, 128, 256)] * 5]
    assert widths == expected


def test_batch_norm_has_the_settings_of_keras(resnet56):
    norms = batch_norms(resnet56).values()
    assert {(norm.eps, norm.momentum, norm.affine) for norm in norms} == {(1e-3, 0.01, True)}


def published_forward(p: dict[str, Tensor], units: int, x: Tensor) -> Tensor:
    """The network of Atienza's book, chapter 2, written out with functions, BN on the batch's statistics."""

    def conv(x: Tensor, name: str, stride: int = 1) -> Tensor:
        w = p[f"{name}.weight"]
        return F.conv2d(x, w, p[f"{name}.bias"], stride, padding=w.shape[2] // 2)

    def bn_relu(x: Tensor, name: str) -> Tensor:
        mean, var = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), keepdim=True, correction=0)
        gamma, beta = p[f"{name}.weight"][:, None, None], p[f"{name}.bias"][:, None, None]
        return torch.relu((x - mean) / torch.sqrt(var + 1e-3) * gamma + beta)

    x = bn_relu(conv(x, "stem"), "stem_bn")
    for stack in range(3):
        for unit in range(units):
            name = f"blocks.{stack * units + unit}"
            stride = 2 if stack > 0 and unit == 0 else 1
            y = x if stack == unit == 0 else bn_relu(x, f"{name}.bn1")
            y = conv(y, f"{name}.conv1", stride)
            y = conv(bn_relu(y, f"{name}.bn2"), f"{name}.conv2")
            y = conv(bn_relu(y, f"{name}.bn3"), f"{name}.conv3")
            x = y + (conv(x, f"{name}.shortcut", stride) if unit == 0 else x)
    x = F.avg_pool2d(bn_relu(x, "head_bn"), 8).flatten(1)
    return x @ p["dense.weight"].T + p["dense.bias"]


def test_the_forward_pass_is_the_published_one():
    network = make("resnet20v2").double().train()
    random = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for norm in batch_norms(network).values():
            norm.weight.uniform_(0.5, 1.5, generator=random)
            norm.bias.uniform_(-0.5, 0.5, generator=random)
        x = torch.rand(4, 3, 32, 32, generator=random, dtype=torch.float64) - 0.5
        torch.testing.assert_close(network(x), published_forward(dict(network.named_parameters()), 2, x))


def test_the_bias_of_every_convolution_is_absorbed_by_a_batch_norm():
    network = make("resnet56v2").double().train()
    x = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 0.5
    F.cross_entropy(network(x), torch.arange(4)).backward()
    largest = max(conv.weight.grad.abs().max().item() for conv in convolutions(network).values())
    assert largest > 1e-3
    biases = {name: conv.bias.grad.abs().max().item() for name, conv in convolutions(network).items()}
    assert {name: grad for name, grad in biases.items() if grad > 1e-10 * largest} == {}


def fan_in_and_weights(network: nn.Module) -> list[tuple[int, Tensor]]:
    layers = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    return [(layer.weight[0].numel(), layer.weight.detach()) for layer in layers]


def test_no_first_weight_is_beyond_two_sigma(resnet56):
    reach = [
        (weights.abs().max() / (math.sqrt(2 / fan_in) / 0.87962566)).item()
        for fan_in, weights in fan_in_and_weights(resnet56)
    ]
    assert max(reach) <= 2 + 1e-5
    assert min(reach) > 1.9  # and the truncation is where it should be, for every layer


def test_first_weights_have_the_standard_deviation_of_he(resnet56):
    scaled = torch.cat([(w * math.sqrt(n / 2)).flatten() for n, w in fan_in_and_weights(resnet56)])
    assert scaled.std().item() == pytest.approx(1, abs=0.005)
    assert scaled.mean().item() == pytest.approx(0, abs=0.005)


def test_the_standard_deviation_is_right_for_a_single_layer():
    weights = torch.empty(400, 25, 3, 3)
    he_normal_(weights, torch.Generator().manual_seed(0))
    assert weights.std().item() == pytest.approx(math.sqrt(2 / 225), rel=0.01)


def test_first_biases_are_zero_and_batch_norms_the_identity(resnet56):
    for module in resnet56.modules():
        if isinstance(module, nn.Conv2d | nn.Linear | nn.BatchNorm2d):
            assert not module.bias.any()
        if isinstance(module, nn.BatchNorm2d):
            assert (module.weight == 1).all()


@pytest.mark.parametrize(
    ("model", "seed", "checksum"),
    [
        ("resnet56v2", 0, 7338.687988190903),
        ("resnet56v2", 7, 7044.336904775201),
        ("resnet11v2", 5, 1198.0830975084784),
    ],
)
def test_a_seed_gives_the_weights_it_always_gave(model, seed, checksum):
    # Of every weight, by its place. The last bits may differ between processors.
    weights = nn.utils.parameters_to_vector(make(model, seed=seed).parameters()).detach().double()
    places = torch.linspace(1, 2, len(weights), dtype=torch.float64)
    assert (weights * places).sum().item() == pytest.approx(checksum, rel=1e-7)


@pytest.mark.parametrize(
    ("field", "value", "count"),
    [
        # Units narrower in the second and third stack, or wider in the first.
        ("bottleneck", 0.25, 594_922),
        ("bottleneck", 0.5, 1_716_906),
        ("shortcut_kernel", 3, 1_663_338 + 8 * (16 * 64 + 64 * 128 + 128 * 256)),
        ("head", "max", 1_663_338),
        ("head", "flatten", 1_663_338 + 3 * 256 * 10),
        ("conv_bias", False, 1_663_338 - 5_648),
    ],
)
def test_an_option_changes_the_parameters_of_resnet56v2_by_what_it_says(field, value, count):
    assert trainable_parameters(make("resnet56v2", **{field: value})) == count


@pytest.mark.parametrize(("share", "widths"), [(0.25, (16, 32, 64)), (0.5, (32, 64, 128))])
def test_a_bottleneck_is_a_share_of_what_the_unit_puts_out(share, widths):
    blocks = make("resnet20v2", bottleneck=share).blocks
    assert [block.conv2.out_channels for block in blocks] == [width for width in widths for _ in range(2)]


def test_a_wide_shortcut_keeps_the_size_of_the_map():
    network = make("resnet11v2", shortcut_kernel=3)
    shortcuts = [conv for name, conv in convolutions(network).items() if name.endswith("shortcut")]
    assert [(conv.kernel_size, conv.padding, conv.stride) for conv in shortcuts] == [
        ((3, 3), (1, 1), (stride, stride)) for stride in (1, 2, 2)
    ]


def test_no_convolution_has_a_bias_where_none_is_asked_for():
    network = make("resnet20v2", conv_bias=False)
    assert {conv.bias for conv in convolutions(network).values()} == {None}


def test_the_biases_left_out_do_not_change_the_other_weights():
    with_biases = make("resnet20v2").state_dict()
    without = make("resnet20v2", conv_bias=False).state_dict()
    assert all(torch.equal(with_biases[name], without[name]) for name in without)


POOLED = {
    "average": lambda x: F.adaptive_avg_pool2d(x, 1),
    "max": lambda x: F.adaptive_max_pool2d(x, 1),
    "flatten": lambda x: F.adaptive_avg_pool2d(x, 2),
}


@pytest.mark.parametrize("size", [16, 32])
@pytest.mark.parametrize("head", POOLED)
def test_the_dense_layer_sees_the_map_pooled_as_the_head_says(head, size):
    network, seen = make("resnet11v2", head=head).eval(), {}
    network.head_bn.register_forward_hook(lambda _m, _i, output: seen.update(map=output[0].detach().clone()))
    network.dense.register_forward_pre_hook(lambda _m, inputs: seen.update(pooled=inputs[0]))
    with torch.no_grad():
        network(torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0)) - 0.5)
    torch.testing.assert_close(seen["pooled"], POOLED[head](torch.relu(seen["map"])).flatten(1))


def layer_names(network: nn.Module) -> list[str]:
    """What layers a forward pass goes through, in order; convolutions and poolings with their sizes."""
    names: list[str] = []

    def note(module: nn.Module, _inputs: object, output: Tensor) -> None:
        kind = type(module).__name__
        names.append(f"{kind} {tuple(output.shape[1:])}" if isinstance(module, nn.Conv2d | nn.MaxPool2d) else kind)

    for module in network.modules():
        if not any(module.children()):
            module.register_forward_hook(note)
    with torch.no_grad():
        network.eval()(torch.zeros(1, 3, 32, 32))
    return names


def test_resnet9_has_the_layers_of_the_course_in_their_order():
    def block(shape: str, pooled: str = "") -> list[str]:
        return [f"Conv2d {shape}", *([f"MaxPool2d {pooled}"] if pooled else []), "BatchNorm2d", "ReLU"]

    assert layer_names(make("resnet9")) == [
        *block("(64, 32, 32)"),
        *block("(128, 32, 32)", "(128, 16, 16)"),
        *block("(128, 16, 16)") * 2,
        *block("(256, 16, 16)", "(256, 8, 8)"),
        *block("(512, 8, 8)", "(512, 4, 4)"),
        *block("(512, 4, 4)") * 2,
        "Linear",
    ]


def test_a_residual_block_of_resnet9_adds_what_it_is_given():
    block = make("resnet9").features[2].eval()
    x = torch.rand(1, 128, 4, 4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(block(x), x + block.residual(x))


@pytest.mark.parametrize("model", ["resnet18", "densenet121"])
def test_the_stem_of_a_torchvision_network_keeps_32x32(model):
    names = layer_names(make(model))
    assert names[0] == "Conv2d (64, 32, 32)"
    assert not any(name.startswith("MaxPool2d") for name in names)


def test_vgg16_has_the_convolutions_of_torchvisions():
    shapes = [tuple(conv.weight.shape) for conv in convolutions(make("vgg16").features).values()]
    with torch.device("meta"):  # its dense layers are large, and only shapes are asked for
        theirs = torchvision.models.vgg16_bn().features
    assert shapes == [tuple(m.weight.shape) for m in theirs if isinstance(m, nn.Conv2d)]
    assert [type(m) for m in make("vgg16").features] == [type(m) for m in theirs]


@pytest.mark.parametrize("model", ["resnet18", "vgg16", "densenet121"])
def test_kernels_have_the_spread_torchvision_draws_them_with(model):
    for name, conv in convolutions(make(model)).items():
        fan = conv.weight[0] if model == "densenet121" else conv.weight[:, 0]
        std, n = math.sqrt(2 / fan.numel()), conv.weight.numel()
        assert conv.weight.std().item() == pytest.approx(std, rel=5 / math.sqrt(2 * n)), name


def test_networks_built_at_once_are_those_built_alone():
    """Weights are drawn from a generator that all threads share."""
    configs = [TrialConfig(model="resnet9", schedule="[1e-3, 0] lin[1e-3, 1]", seed=seed) for seed in range(8)]
    with ThreadPoolExecutor(4) as threads:
        at_once = list(threads.map(build, configs))
    for config, network in zip(configs, at_once, strict=True):
        alone = build(config).state_dict()
        assert all(torch.equal(alone[name], value) for name, value in network.state_dict().items())
