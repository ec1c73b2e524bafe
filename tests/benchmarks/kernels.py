"""What a GPU is asked to do in a training step, counted on a CPU: kernels and bytes by kind, and a predicted time.

    python -m tests.benchmarks.kernels [--json] [--bandwidth 4.3e12] [--seconds-per-kernel 3.2e-6]

torch's operations are noted as they run on a CPU, and mapped to the kernels that CUDA runs for them in channels_last
(fills included, the extra kernels of a convolution that cuDNN splits left out: on an H200 those were 55 a step).
Three things are counted of ResNet56v2 at batch 64 with AdamW: a training step, of which the optimizer's step is a part
that is counted alone too, and a validation of 64 images. The variants:

- *published*: as a GPU trains it by default, bf16, biases as published;
- *without_biases*: with ``skip_conv_bias``;
- *torch*: published, with torch's own BN, ReLU and sums (``fused = false``);
- *fp32*: published, in fp32.

The predicted time is kernels times seconds a kernel, plus bytes over bandwidth; the defaults are an H200's bandwidth,
and what a kernel of the step took on one beside its bytes.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_flatten

from resnet_core import optimizer as optimizers
from resnet_core import training_run
from resnet_core.config import TrialConfig
from resnet_core.data import DATASETS
from resnet_core.flat import FlatParameters
from resnet_core.fused import batch_norm, optimizer
from resnet_core.images import Dataset
from resnet_core.models.layers.resnet_v2 import Sum
from resnet_core.optim import UpdateRule
from resnet_core.training_run import TrainingRun

BATCH = 64
STEPS = 782
"""Of an epoch of 50,000 images."""
PUBLISHED = TrialConfig(schedule="[1e-3, 0]", epochs=1, weight_decay=0.18, shift=0.07, precision="bf16")

VIEWS = frozenset(
    (
        *("view", "_unsafe_view", "_reshape_alias", "reshape", "as_strided", "expand", "permute", "t", "transpose"),
        *("squeeze", "unsqueeze", "slice", "select", "split", "unbind", "detach", "alias"),
        *("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "resize_"),
    )
)
_TENSORS_A_LAUNCH, _BLOCKS_A_LAUNCH, _NUMBERS_A_BLOCK = 64, 320, 65_536
"""Of torch's multi_tensor_apply over pairs of tensors."""


@dataclass
class Tally:
    """Kernels and bytes by kind."""

    kernels: Counter[str] = field(default_factory=Counter)
    bytes: Counter[str] = field(default_factory=Counter)

    def add(self, kind: str, kernels: int, moved: int) -> None:
        """Count kernels that read and write so many bytes together."""
        self.kernels[kind] += kernels
        self.bytes[kind] += moved


class Counting(TorchDispatchMode):
    """Adds what torch does within it to a tally."""

    def __init__(self, tally: Tally, weights: int) -> None:
        super().__init__()
        self._tally, self._weights = tally, weights

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation, and count what a GPU would have run."""
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        taken, given = ([x for x in tree_flatten(part)[0] if isinstance(x, Tensor)] for part in ((args, kwargs), out))
        if name not in VIEWS:
            for kind, kernels, moved in self._kernels(name, args, taken, given):
                self._tally.add(kind, kernels, moved)
        return out

    def _kernels(
        self, name: str, args: Any, taken: list[Tensor], given: list[Tensor]
    ) -> Iterator[tuple[str, int, int]]:
        if name == "convolution":
            x, weight, bias = args[:3]
            yield "convolutions", 1, _bytes(x, weight, *given)
            if bias is not None:
                yield "biases added", 1, 2 * _bytes(*given)
        elif name == "convolution_backward":
            of_input, of_weight, of_bias = args[-1]
            yield "convolutions", of_input + of_weight, (of_input + of_weight) * _bytes(*taken[:3])
            if of_bias:
                yield "gradients of biases", 2, _bytes(taken[0])  # a fill ahead of the sum
        elif name in ("addmm", "mm", "bmm"):
            yield "convolutions", 1, _bytes(*taken, *given)
        elif name.startswith("native_batch_norm_backward"):
            yield "BN", 3, 5 * _bytes(taken[1])  # a fill, sums, gradients
        elif name.startswith(("native_batch_norm", "_native_batch_norm")):
            if args[5]:
                yield "BN", 4, 3 * _bytes(taken[0])  # a fill, statistics, running ones, normalised
            else:
                yield "BN", 1, 2 * _bytes(taken[0])
        elif name in ("relu", "relu_", "threshold_backward"):
            yield "ReLU", 1, _bytes(*taken, *given)
        elif name == "_foreach_copy_":
            places, values = args[:2]
            blocks = sum(-(-value.numel() // _NUMBERS_A_BLOCK) for value in values)
            launches = max(-(-len(values) // _TENSORS_A_LAUNCH), -(-blocks // _BLOCKS_A_LAUNCH))
            yield "gradients copied", launches, _bytes(*places, *values)
        elif name in ("_to_copy", "copy_") and taken[-1].dtype != given[0].dtype:
            yield "casts", 1, _bytes(taken[-1], given[0])
        elif name == "nll_loss_backward":
            yield "loss", 2, _bytes(*taken, *given)  # a fill ahead
        elif name.startswith(("nll_loss", "_log_softmax")):
            yield "loss", 1, _bytes(*taken, *given)
        elif name in ("zeros", "zeros_like", "ones_like", "new_zeros", "zero_", "fill_", "full"):
            yield "fills", 1, _bytes(*given)
        elif any(tensor.dim() == 1 and tensor.numel() == self._weights for tensor in taken):
            yield "optimizer", 1, _bytes(*taken, *given)
        elif name == "add_" and taken[0].dtype == torch.int64:
            yield "counters", 1, _bytes(*taken, *given)
        elif name == "add_" and len(taken) == 2:
            yield "gradients added", 1, _bytes(*taken, *given)
        elif name == "add" and len(taken) == 2 and taken[0].dim() == 4 and taken[0].shape == taken[1].shape:
            yield "residual sums", 1, _bytes(*taken, *given)
        else:
            yield "others", 1, _bytes(*taken, *given)


def _bytes(*tensors: Tensor) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


class _FusedBatchNorm(torch.autograd.Function):
    """What resnet_core.fused.batch_norm does, by torch's operations, counted as its launches."""

    @staticmethod
    def forward(ctx: Any, tally: Tally, eps: float, y: Tensor, *rest: Tensor | None) -> tuple[Tensor, Tensor]:
        residual = rest[1]
        with _disable_current_modes(), torch.enable_grad():
            inputs = [None if x is None else x.detach().requires_grad_() for x in (y, *rest)]
            total = Sum(*inputs[:4]).total()  # type: ignore[arg-type]
            z = F.relu(F.batch_norm(total, None, None, *inputs[4:], training=True, eps=eps))
        size = _bytes(y)
        tally.add("BN, ReLU and sums", 2, size * (3 if residual is None else 5))
        ctx.tally, ctx.inputs, ctx.outputs, ctx.size = tally, inputs, (z, total), size
        ctx.set_materialize_grads(False)
        return z.detach(), total.detach() if residual is not None else y

    @staticmethod
    def backward(ctx: Any, dz: Tensor, ds: Tensor | None) -> tuple[Tensor | None, ...]:
        outer = [(ctx.outputs[0], dz)] + ([] if ds is None else [(ctx.outputs[1], ds)])
        with _disable_current_modes():
            wanted = [x for x in ctx.inputs if x is not None]
            found = iter(torch.autograd.grad([o for o, _ in outer], wanted, [g for _, g in outer]))
        ctx.tally.add("BN, ReLU and sums", 2, ctx.size * (7 if ds is None else 8))
        if ctx.inputs[1] is not None:
            ctx.tally.add("gradients of biases", 1, _bytes(ctx.inputs[1]))
        return None, None, *(None if x is None else next(found) for x in ctx.inputs)


@contextmanager
def _fused(tally: Tally) -> Iterator[None]:
    """Within it, kernels that only a GPU has are counted, and torch does their work."""

    def batch_norm_relu(y: Tensor, weight: Tensor, bias: Tensor, *_: Tensor, eps: float, **rest: Any) -> Any:
        late = (rest.get("y_bias"), rest.get("residual"), rest.get("residual_bias"))
        return _FusedBatchNorm.apply(tally, eps, y, *late, weight, bias)  # type: ignore[no-untyped-call]

    def step(rule: UpdateRule, l2: float, flat: FlatParameters, buffers: dict[str, Tensor], *_: Any) -> None:
        moved = [flat.weights, flat.gradients, *buffers.values()]
        tally.add("optimizer", 1, 2 * _bytes(*moved) - _bytes(flat.gradients))

    with (
        patch.object(training_run, "runs_on", lambda _: True),
        patch.object(batch_norm, "usable", lambda *_, **__: True),
        patch.object(batch_norm, "batch_norm_relu", batch_norm_relu),
        patch.object(optimizer, "supports", lambda *_: True),
        patch.object(optimizers, "is_correct", lambda *_: True),
        patch.object(optimizer, "step", step),
    ):
        yield


def count(config: TrialConfig, batch: int = BATCH) -> dict[str, Tally]:
    """Return the tallies of a training step, of the optimizer's part of it, and of a validation of a batch."""
    images = torch.randint(0, 256, (batch, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(batch) % DATASETS[config.data].classes
    dataset = Dataset(images, labels, images, labels, torch.zeros(3, 32, 32))
    tallies = {name: Tally() for name in ("step", "optimizer", "validation")}
    with _fused(Tally()):
        run = TrainingRun(replace(config, batch_size=batch), dataset, torch.device("cpu"))
        weights = run._optimizer.flat.weights.numel()
        run._augment(0)
    parts: dict[str, Callable[[], object]] = {
        "step": lambda: run._take_step(batch),
        "optimizer": lambda: run._optimizer.apply(run._coefficients, run._counter),
        "validation": run._validate,
    }
    for name, part in parts.items():
        run._counter.zero_()
        with _fused(tallies[name]), Counting(tallies[name], weights):
            part()
    return tallies


def figures(tally: Tally, bandwidth: float, seconds_per_kernel: float) -> dict[str, Any]:
    """Return what a tally comes to: kernels, gigabytes, predicted milliseconds, and kernels by kind."""
    kernels, moved = tally.kernels.total(), tally.bytes.total()
    return {
        "kernels": kernels,
        "gigabytes": round(moved / 1e9, 3),
        "milliseconds": round((kernels * seconds_per_kernel + moved / bandwidth) * 1e3, 3),
        "kinds": dict(tally.kernels.most_common()),
    }


VARIANTS = {
    "published": PUBLISHED,
    "without_biases": replace(PUBLISHED, skip_conv_bias=True),
    "torch": replace(PUBLISHED, fused=False),
    "fp32": replace(PUBLISHED, precision="fp32"),
}


def main() -> None:
    """Count and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--bandwidth", type=float, default=4.3e12, help="bytes a second (default: 4.3e12, an H200)")
    parser.add_argument("--seconds-per-kernel", type=float, default=3.2e-6, help="beside its bytes (default: 3.2e-6)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = {}
    for name, config in VARIANTS.items():
        step, *parts = (
            {"part": part, **figures(tally, options.bandwidth, options.seconds_per_kernel)}
            for part, tally in count(config).items()
        )
        found[name] = {**step, **{part.pop("part"): part for part in parts}}
        found[name].pop("part")
    if options.json:
        print(json.dumps(found))
        return
    for name, of in found.items():
        for part, values in {"training step": of, "optimizer": of["optimizer"], "validation": of["validation"]}.items():
            print(
                f"{name}, {part}: {values['kernels']} kernels, {values['gigabytes']:.2f} GB, "
                f"{values['milliseconds']:.2f} ms predicted"
            )
            for kind, kernels in values["kinds"].items():
                print(f"    {kernels:5d}  {kind}")
        print(f"{name}: an epoch's training {of['milliseconds'] * STEPS / 1e3:.2f} s predicted")


if __name__ == "__main__":
    main()
