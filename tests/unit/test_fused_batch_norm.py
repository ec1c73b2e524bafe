"""Batch norm's kernels against torch's operations in double precision, in Triton's interpreter, and compiled."""

import contextlib
import importlib
import sys
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from resnet_core.fused import batch_norm as fused_batch_norm
from resnet_core.fused import support
from resnet_core.fused.batch_norm import batch_norm_relu, relative_error, supports, tiles
from tests.triton_kernels import Fenced, compiling, interpreted

STEP = [(16, 32), (64, 32), (64, 16), (128, 16), (128, 8), (256, 8)]
"""Channels and sides of ResNet56v2's maps."""

# Rounding alone comes to 3e-7 and 2e-4. The interpreter cuts bf16 off instead of rounding it.
BOUNDS = {"float32": 1e-6, "float16": 5e-4, "bfloat16": 0.1}
OPTIONS = [(residual, biases) for residual in (False, True) for biases in (False, True)]
# Channels, side, batch: four row blocks, the last ragged; two; rows that fill no block; few rows.
CASES = [(16, 17, 3, name, *options) for name in BOUNDS for options in OPTIONS]
CASES += [(*shape, "float32", True, True) for shape in [(64, 8, 5), (128, 4, 5), (256, 2, 3)]]

needs_triton = pytest.mark.skipif(support.unavailable() is not None, reason="needs Triton")


# What the interpreter's process computes.


def relative_errors() -> dict[str, float]:
    """Of all cases; and of programs with several tiles, the last of them ragged."""
    found = {
        str(case): relative_error(*shape, getattr(torch, name), "cpu", with_residual=residual, with_biases=biases)
        for case in CASES
        for *shape, name, residual, biases in [case]
    }
    before, fused_batch_norm._PROGRAMS = fused_batch_norm._PROGRAMS, 2
    found["tiles"] = relative_error(16, 16, 5, torch.float32, "cpu", with_residual=True, with_biases=True)
    fused_batch_norm._PROGRAMS = before
    return found


class Case:
    """Made arguments, 16 channels of 3 images of 10×10, and what comes of them."""

    def __init__(self, y: torch.Tensor | None = None, fenced: Fenced | None = None, **changes: Any) -> None:
        torch.manual_seed(0)
        image = torch.randn(3, 16, 10, 10).to(memory_format=torch.channels_last)
        y = image if y is None else y
        inputs = {"y": y, "residual": torch.randn_like(image), "y_bias": torch.randn(16)}
        inputs |= {"residual_bias": torch.randn(16), "weight": torch.rand(16) + 0.5, "bias": torch.randn(16)}
        inputs = {name: tensor for name, tensor in (inputs | changes).items() if tensor is not None}
        statistics = {"running_mean": torch.randn(16), "running_var": torch.rand(16)}
        if fenced:
            inputs = {name: fenced.like(tensor, float("nan")) for name, tensor in inputs.items()}
            statistics = {name: fenced.like(tensor) for name, tensor in statistics.items()}
        self.inputs = {name: tensor.detach().requires_grad_() for name, tensor in inputs.items()}
        self.statistics = statistics
        self.dz, self.ds = torch.randn_like(image), torch.randn_like(image)
        if fenced:
            self.dz, self.ds = (fenced.like(tensor, float("nan")) for tensor in (self.dz, self.ds))

    def forward(self) -> tuple[torch.Tensor, torch.Tensor]:
        return batch_norm_relu(**self.inputs, **self.statistics, momentum=1.0, eps=1e-3)

    def run(self) -> list[torch.Tensor]:
        """z, s, the running statistics, and the gradients in the order of the inputs."""
        z, s = self.forward()
        gradients = torch.autograd.grad([z, s], list(self.inputs.values()), [self.dz, self.ds])
        return [z, s, *self.statistics.values(), *gradients]


def same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def fences() -> dict[str, int]:
    """How many canaries are gone around all that is allocated, and how many NaN of those around inputs got in."""
    fenced, originals = Fenced(), (torch.empty, torch.empty_like)
    case = Case(fenced=fenced)
    inputs = len(fenced)
    torch.empty = lambda *shape, **kwargs: fenced.like(originals[0](*shape, **kwargs))  # type: ignore[assignment]
    torch.empty_like = lambda tensor: fenced.like(originals[1](tensor))  # type: ignore[assignment]
    try:
        found = case.run()
    finally:
        torch.empty, torch.empty_like = originals  # type: ignore[assignment]
    strangers = sum(int(tensor.isnan().sum()) for tensor in found)
    return {"allocated": len(fenced) - inputs, "broken": fenced.broken(), "strangers": strangers}


def odd_values() -> dict[str, Any]:
    alone = {"residual": None, "y_bias": None, "residual_bias": None}
    plain = Case(**alone).inputs["y"].detach()

    constant = plain.clone(memory_format=torch.preserve_format)
    constant[:, 3] = 5.0
    case = Case(constant, **alone)
    z, _ = case.forward()
    of_constant = (z[:, 3] - case.inputs["bias"][3].clamp(min=0)).abs().max().item()

    # With E[x²] - E[x]² in fp32, the error of this variance would be several times as large.
    far = 1000.0 + 0.1 * plain
    case = Case(far, **alone)
    z, _ = case.forward()
    true = far.double().transpose(0, 1).flatten(1).var(dim=1)
    weight, bias = (case.inputs[name].detach().double() for name in ("weight", "bias"))
    true_z = F.relu(F.batch_norm(far.double(), None, None, weight, bias, True, 0.0, 1e-3))
    of_far = (case.statistics["running_var"].double() / true - 1).abs().max().item()
    of_far_z = ((z.double() - true_z).norm() / true_z.norm()).item()

    broken = plain.clone(memory_format=torch.preserve_format)
    broken[1, 2, 3, 4] = float("nan")
    z, _ = Case(broken, **alone).forward()
    nans = z.isnan().sum((0, 2, 3)).tolist()
    return {"constant": of_constant, "far variance": of_far, "far z": of_far_z, "nan": nans}


def behaviour() -> dict[str, Any]:
    found: dict[str, Any] = {"again": same(Case().run(), Case().run())}

    with torch.autocast("cpu", torch.bfloat16):
        found["autocast"] = same(Case().run(), Case().run())

    case = Case()
    names = list(case.inputs)
    _, s = case.forward()
    gradients = dict(zip(names, torch.autograd.grad(s, list(case.inputs.values()), case.ds), strict=True))
    found["s alone"] = {
        "y": torch.equal(gradients["y"], case.ds),
        "residual": torch.equal(gradients["residual"], case.ds),
        "weight": int(gradients["weight"].count_nonzero()),
        "y_bias": (gradients["y_bias"] - case.ds.sum((0, 2, 3))).abs().max().item(),
    }

    # The gradient of a sum is one number seen as a map: its strides are 0.
    case = Case()
    expanded = torch.autograd.grad(case.forward()[0].sum(), list(case.inputs.values()))
    case = Case()
    z, _ = case.forward()
    found["expanded"] = same(
        list(expanded), list(torch.autograd.grad(z, list(case.inputs.values()), torch.ones_like(z)))
    )

    case = Case(residual=None, residual_bias=None)
    found["y for s"] = case.forward()[1] is case.inputs["y"]

    case = Case()
    case.inputs["residual"].requires_grad_(False)
    found["no gradient"] = torch.autograd.grad(case.forward()[0].sum(), case.inputs["y"])[0].isfinite().all().item()

    before = torch.get_rng_state()
    relative_error(16, 4, 2, torch.float32, "cpu", with_residual=True, with_biases=True)
    found["random state"] = torch.equal(before, torch.get_rng_state())
    return found


def everything() -> dict[str, Any]:
    torch.set_num_threads(1)
    return {"relative_errors": relative_errors(), "fences": fences(), "odd": odd_values(), "behaviour": behaviour()}


# The tests.


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    return interpreted("tests.unit.test_fused_batch_norm", "everything")


@needs_triton
@pytest.mark.parametrize("case", CASES, ids=str)
def test_all_results_are_those_of_double_precision(found, case):
    assert found["relative_errors"][str(case)] < BOUNDS[case[3]]


@needs_triton
def test_a_program_combines_several_tiles(found):
    assert found["relative_errors"]["tiles"] < BOUNDS["float32"]


@needs_triton
def test_nothing_is_written_beside_what_is_allocated(found):
    # z, s, statistics, partial results; gradients of s, weight and bias, partial results of two kinds.
    assert found["fences"]["allocated"] == 9
    assert found["fences"]["broken"] == 0


@needs_triton
def test_nothing_is_read_beside_the_arguments(found):
    assert found["fences"]["strangers"] == 0


@needs_triton
def test_a_constant_channel_comes_out_as_its_bias(found):
    assert found["odd"]["constant"] < 1e-6


@needs_triton
def test_a_small_variance_far_from_zero_is_found(found):
    assert found["odd"]["far variance"] < 1e-3
    assert found["odd"]["far z"] < 5e-3  # a mean in fp32 is that far off


@needs_triton
def test_a_nan_is_not_hidden_and_stays_in_its_channel(found):
    assert found["odd"]["nan"] == [0, 0, 300, *[0] * 13]


@needs_triton
def test_the_same_arguments_give_the_same_bits(found):
    assert found["behaviour"]["again"]


@needs_triton
def test_autocast_changes_nothing(found):
    assert found["behaviour"]["autocast"]


@needs_triton
def test_a_gradient_that_comes_by_s_alone_goes_through(found):
    error = found["behaviour"]["s alone"].pop("y_bias")
    assert error < 1e-4
    assert found["behaviour"]["s alone"] == {"y": True, "residual": True, "weight": 0}


@needs_triton
def test_a_gradient_may_have_any_strides(found):
    assert found["behaviour"]["expanded"]


@needs_triton
def test_y_is_returned_where_there_is_no_residual(found):
    assert found["behaviour"]["y for s"]


@needs_triton
def test_a_residual_need_not_take_a_gradient(found):
    assert found["behaviour"]["no gradient"]


@needs_triton
def test_the_check_leaves_the_global_random_state(found):
    assert found["behaviour"]["random state"]


@needs_triton
@pytest.mark.parametrize(
    ("architecture", "channels", "side"),
    [
        pytest.param(architecture, *shape, marks=[] if shape == (64, 32) else pytest.mark.slow)
        for architecture in (80, 90, 100)
        for shape in STEP
    ],
)
def test_every_kernel_compiles_for_every_map_of_a_step(monkeypatch, tmp_path, architecture, channels, side):
    made = launches(monkeypatch, tmp_path, architecture, channels, side, everything_given=True)
    assert set(made) == {"moments", "normalize", "gradient_sums", "gradients"}
    assert all(kernel.asm["cubin"] for kernel in made.values())


@needs_triton
def test_maps_are_read_and_written_16_bytes_at_a_time(monkeypatch, tmp_path):
    """Without a residual and biases, so that the kernels compile without these too."""
    made = launches(monkeypatch, tmp_path, 90, 64, 8, everything_given=False)
    assert all("ld.global.v4.b32" in kernel.asm["ptx"] for kernel in made.values())
    assert all("st.global.v4.b32" in made[name].asm["ptx"] for name in ("normalize", "gradients"))


def launches(monkeypatch, tmp_path, architecture, channels, side, everything_given) -> dict[str, Any]:
    """The compiled kernels of a forward and a backward pass on 64 images in bf16."""
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(fused_batch_norm, "runs_on", lambda device: True)
    kernels = importlib.import_module("resnet_core.fused.batch_norm_kernels")
    y = image(channels, side, batch=64, dtype=torch.bfloat16).requires_grad_()
    given = {"y_bias": torch.zeros(channels, requires_grad=True), "residual": y, "residual_bias": torch.zeros(channels)}
    weight = torch.ones(channels, requires_grad=True)
    with contextlib.contextmanager(compiling)(kernels, architecture) as made:
        z, s = batch_norm_relu(
            y, weight, *torch.zeros(3, channels), momentum=0.01, eps=1e-3, **(given if everything_given else {})
        )
        torch.autograd.backward([z, s] if everything_given else z, [z, s] if everything_given else z)
    return made


def image(channels: int, side: int, batch: int = 2, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.zeros(batch, channels, side, side, dtype=dtype).to(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("y", "covered"),
    [
        (image(16, 4), True),
        (image(2048, 1), True),
        (image(16, 4, dtype=torch.float64), False),
        (image(24, 4), False),
        (image(2064, 1), False),
        (image(16, 1, batch=1), False),  # one number a channel has no variance
        (image(16, 4).contiguous(), False),
        (image(16, 4)[:, :, :2], False),
        (torch.zeros(16, 16), False),
    ],
)
def test_what_is_covered(monkeypatch, y, covered):
    monkeypatch.setattr(fused_batch_norm, "runs_on", lambda device: True)
    assert supports(y) is covered


def test_a_cpu_is_not_covered_unless_triton_interprets(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    assert not supports(image(16, 4))


def test_without_triton_nothing_is_covered_and_the_reason_is_known(monkeypatch):
    monkeypatch.setitem(sys.modules, "triton", None)
    support.unavailable.cache_clear()
    try:
        assert not support.runs_on(torch.device("cuda"))
        assert "triton" in str(support.unavailable())
    finally:
        support.unavailable.cache_clear()


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"y": image(16, 4, dtype=torch.float64)}, "cannot take torch.float64"),
        ({"residual": image(16, 2)}, "residual is"),
        ({"residual": image(16, 4, dtype=torch.float16)}, "residual is"),
        ({"residual": image(16, 4).contiguous()}, "residual is"),
        ({"residual_bias": torch.zeros(16)}, "without a residual"),
    ],
)
def test_what_is_refused(monkeypatch, given, reason):
    monkeypatch.setattr(fused_batch_norm, "runs_on", lambda device: True)
    arguments = dict(zip(("weight", "bias", "running_mean", "running_var"), torch.zeros(4, 16), strict=True))
    with pytest.raises(ValueError, match=reason):
        batch_norm_relu(**{"y": image(16, 4), **arguments, **given}, momentum=0.01, eps=1e-3)


@pytest.mark.parametrize("largest", [256, 512])
@pytest.mark.parametrize("channels", [16, 48, 64, 256, 2048])
@pytest.mark.parametrize("rows", [2, 255, 257, 5 * 64, 100 * 1024, 64 * 1024, 1_000_003])
def test_every_row_is_some_programs_and_no_program_is_without(rows, channels, largest):
    grid = tiles(rows, channels, largest)
    share = grid.tiles * grid.tile
    assert (grid.blocks - 1) * share < rows <= grid.blocks * share
    assert grid.blocks <= 128


@pytest.mark.parametrize(("channels", "side"), STEP)
def test_a_step_keeps_a_gpu_busy_with_little_to_combine(channels, side):
    for largest in (256, 512):
        grid = tiles(64 * side * side, channels, largest)
        assert 128 <= grid.groups * grid.blocks <= 264
        assert grid.blocks <= (128 if channels == 16 else 64)
