"""The optimizer's kernels against Optimizer.apply, in Triton's interpreter, and compiled."""

import contextlib
import importlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from resnet_core.config import TrialConfig
from resnet_core.fused import optimizer as fused_optimizer
from resnet_core.fused import support
from resnet_core.optimizer import Optimizer, StepValues
from tests.triton_kernels import Fenced, compiling, interpreted

OPTIMIZERS: dict[str, dict[str, Any]] = {
    "sgd": {},
    "sgd with L2": {"l2": 1e-2},
    "nesterov": {"optimizer": "sgd", "nesterov": True},
    "adam": {},
    "adamw with L2": {"optimizer": "adamw", "l2": 1e-2},
    "amsgrad": {},
    "nadam": {},
    "padam": {"padam_p": 0.125},
    "padam as amsgrad": {"padam_p": 0.5},
}
# Momenta on both sides of 1/2, where torch's lerp changes its formula.
STEPS = StepValues([0.01, 0.02, 0.03, 0.0, 0.05, 0.06], [1e-2] * 6, [0.9, 0.3, 0.95, 0.4, 0.9, 0.99])

needs_triton = pytest.mark.skipif(support.unavailable() is not None, reason="needs Triton")


def make(name: str) -> tuple[TrialConfig, Optimizer]:
    """The optimizer of that case, of 2528 weights: some blocks and a part of one."""
    config = TrialConfig("[1, 0] lin[0, 5]", fused=False, **{"optimizer": name.split()[0]} | OPTIMIZERS[name])
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.Conv2d(16, 13, 3), nn.Flatten(), nn.Linear(13, 10))
    return config, Optimizer(nn.Sequential(*layers), config)


# What the interpreter's process computes.


@contextlib.contextmanager
def rounding_as_a_gpu() -> Iterator[None]:
    """The interpreter's fma, and torch's addcmul_ and sqrt on this CPU, round as on a GPU.

    The interpreter rounds a product ahead of its sum. torch takes addcmul's factors in another order on a CPU (on a GPU
    see its DeviceAddCmulCdiv.cuh), and its square roots there may be off by a unit in the last place.
    """
    from triton.runtime.interpreter import InterpreterBuilder, TensorHandle

    def fma(builder: Any, x: Any, y: Any, z: Any) -> Any:
        exact = x.data.astype(np.float64) * y.data + z.data
        return TensorHandle(exact.astype(np.float32), z.dtype.scalar)

    def addcmul_(self: Tensor, one: Tensor, other: Tensor, *, value: float = 1.0) -> Tensor:
        product = one.double() * other.double() if value == 1 else (one * other).double()
        return self.copy_(self.double() + float(np.float32(value)) * product)

    originals = (InterpreterBuilder.create_fma, Tensor.addcmul_, Tensor.sqrt)
    InterpreterBuilder.create_fma, Tensor.addcmul_ = fma, addcmul_  # type: ignore[method-assign]
    Tensor.sqrt = lambda self: torch.from_numpy(np.sqrt(self.numpy()))  # type: ignore[method-assign]
    try:
        yield
    finally:
        InterpreterBuilder.create_fma, Tensor.addcmul_, Tensor.sqrt = originals  # type: ignore[method-assign]


def compared(name: str) -> dict[str, float]:
    """After six steps: numbers whose bits differ, and the largest relative error of a step."""
    (config, one), (_, other) = make(name), make(name)
    rows, table = one.plan(STEPS), other.plan(STEPS)
    generator = torch.Generator().manual_seed(1)
    error = 0.0
    for step in range(len(rows)):
        # Over some ten orders of magnitude, as gradients are.
        gradients = torch.randn(2, *one.flat.weights.shape, generator=generator)
        for optimizer in (one, other):
            optimizer.flat.gradients.copy_(0.01 * gradients[0] * gradients[1] ** 3)
        before = one.flat.weights.clone()
        one.apply(rows, torch.tensor([step]))
        take_fused_step(config, other, table, step)
        change = (one.flat.weights - before).norm()
        if change:
            error = max(error, ((other.flat.weights - one.flat.weights).norm() / change).item())
    pairs = [(one.flat.weights, other.flat.weights)]
    pairs += [(buffer, other._buffers[name]) for name, buffer in one._buffers.items()]
    return {"different": sum(int((a != b).sum()) for a, b in pairs), "error": error}


def surroundings() -> dict[str, Any]:
    """Of one step of the optimizer with most buffers: what it leaves, and whether it keeps to its tensors."""
    config, optimizer = make("padam")
    flat, fenced = optimizer.flat, Fenced()
    flat.gradients.normal_()
    flat.weights, flat.gradients = fenced.like(flat.weights), fenced.like(flat.gradients)
    buffers = {name: fenced.like(buffer) for name, buffer in optimizer._buffers.items()}
    table = torch.full((3, 5), float("nan"))
    table[1] = optimizer.plan(StepValues([0.1], [0.1], [0.9]))[0]
    counter = torch.tensor([1])
    fused_optimizer.step(optimizer._rule, config.l2, flat, buffers, table, counter)
    return {
        "broken": fenced.broken(),
        "finite": bool(flat.weights.isfinite().all()),
        "counter": counter.item(),
    }


def take_fused_step(config: TrialConfig, optimizer: Optimizer, table: torch.Tensor, step: int = 0) -> None:
    row = torch.tensor([step])
    fused_optimizer.step(optimizer._rule, config.l2, optimizer.flat, optimizer._buffers, table, row)


def nan() -> int:
    """How many weights are NaN after a gradient that was."""
    config, optimizer = make("amsgrad")
    optimizer.flat.gradients[5] = float("nan")
    table = optimizer.plan(StepValues([0.1], [0.1], [0.9]))
    take_fused_step(config, optimizer, table)
    return int(optimizer.flat.weights.isnan().sum() + optimizer._buffers["largest"].isnan().sum())


def everything() -> dict[str, Any]:
    torch.set_num_threads(1)
    plain = {name: compared(name) for name in OPTIMIZERS}
    with rounding_as_a_gpu():
        alike = {name: compared(name) for name in OPTIMIZERS}
    return {"plain": plain, "alike": alike, "surroundings": surroundings(), "nan": nan()}


# The tests.


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    return interpreted("tests.unit.test_fused_optimizer", "everything")


@needs_triton
@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name != "padam"])
def test_bits_are_those_of_the_optimizer_where_torch_rounds_as_on_a_gpu(found, name):
    assert found["alike"][name]["different"] == 0


@needs_triton
def test_padam_is_the_optimizer_s_up_to_the_error_of_a_power(found):
    assert found["alike"]["padam"]["error"] < 1e-6


@needs_triton
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_step_is_the_optimizer_s_up_to_rounding(found, name):
    assert found["plain"][name]["error"] < 2e-6


@needs_triton
def test_only_its_tensors_are_changed(found):
    assert found["surroundings"]["broken"] == 0
    assert found["surroundings"]["counter"] == 1


@needs_triton
def test_only_the_counted_row_is_read(found):
    assert found["surroundings"]["finite"]


@needs_triton
def test_a_nan_is_not_hidden(found):
    assert found["nan"] == 2  # the weight and its largest v


@pytest.fixture
def compiled(monkeypatch, tmp_path) -> Callable[[str, int], Any]:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(fused_optimizer, "runs_on", lambda device: True)

    def launch(name: str, architecture: int) -> Any:
        config, optimizer = make(name)
        table = optimizer.plan(STEPS)
        kernels = importlib.import_module("resnet_core.fused.optimizer_kernels")
        with contextlib.contextmanager(compiling)(kernels, architecture) as made:
            fused_optimizer.step(
                optimizer._rule, config.l2, optimizer.flat, optimizer._buffers, table, torch.tensor([0])
            )
        (kernel,) = made.values()
        return kernel

    return launch


@needs_triton
@pytest.mark.parametrize("architecture", [80, 90, 100])
@pytest.mark.parametrize("name", ["nesterov", "adam", "nadam", "padam"])
def test_the_kernel_compiles(compiled, name, architecture):
    assert compiled(name, architecture).asm["cubin"]


@needs_triton
def test_the_compiler_rounds_each_operation(compiled):
    """Of a thread's 8 numbers, L2, the mean and the square take one fused operation each."""
    ptx = compiled("adamw with L2", 90).asm["ptx"]
    assert ptx.count("fma.rn.f32") == 24
    assert ptx.count("div.rn.f32") == 8
    assert ptx.count("sqrt.rn.f32") == 8


def test_weights_in_double_precision_are_refused(monkeypatch):
    monkeypatch.setattr(fused_optimizer, "runs_on", lambda device: True)
    config, optimizer = make("adam")
    optimizer.flat.weights = optimizer.flat.weights.double()
    with pytest.raises(ValueError, match="cannot take 2528 parameters"):
        fused_optimizer.step(
            optimizer._rule, config.l2, optimizer.flat, optimizer._buffers, torch.zeros(1, 5), torch.tensor([0])
        )
