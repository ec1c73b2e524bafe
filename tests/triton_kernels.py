"""Triton's kernels without a GPU: interpreted on the CPU, or compiled for a GPU that is not there."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

CANARY, MARGIN = 77.0, 64


def interpreted(module: str, function: str) -> Any:
    """What that function without arguments returns (as JSON) in a process in which Triton interprets its kernels.

    Triton reads the environment when it is imported, so that one process cannot both interpret and compile.
    """
    code = f"import json; from {module} import {function} as run; print(json.dumps(run()))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"TRITON_INTERPRET": "1"},
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


class Fenced:
    """Tensors as views of larger ones that hold canaries around them."""

    def __init__(self) -> None:
        self._whole: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []

    def like(self, tensor: torch.Tensor, canary: float = CANARY) -> torch.Tensor:
        """A copy of ``tensor``, of its strides, whose first number is as aligned as an allocated one's."""
        whole = torch.full((tensor.numel() + 2 * MARGIN,), canary, dtype=tensor.dtype)
        view = whole.as_strided(tensor.shape, tensor.stride(), MARGIN)
        view.copy_(tensor)
        outside = torch.ones(whole.shape, dtype=torch.bool)
        outside[MARGIN:-MARGIN] = False
        self._whole.append((whole, outside, torch.tensor(canary, dtype=tensor.dtype)))
        return view

    def broken(self) -> int:
        """How many canaries are not what they were."""
        return sum(
            int((~torch.isclose(whole[outside], canary, rtol=0, atol=0, equal_nan=True)).sum())
            for whole, outside, canary in self._whole
        )

    def __len__(self) -> int:
        return len(self._whole)


class Compiled:
    """Stands in for a kernel: where it would be launched, it is compiled, with the arguments it is given."""

    def __init__(self, kernel: Any, architecture: int, made: dict[str, Any]) -> None:
        self._kernel, self._architecture, self._made = kernel, architecture, made

    def __getitem__(self, grid: tuple[int, ...]) -> "Compiled":
        return self

    def __call__(self, *arguments: object, **options: Any) -> None:
        import triton
        from triton.backends.compiler import GPUTarget
        from triton.compiler import ASTSource
        from triton.runtime.jit import mangle_type

        names = self._kernel.arg_names
        given = dict(zip(names, arguments, strict=False))
        given |= {name: options.pop(name) for name in names if name in options}
        constants = {name: value for name, value in given.items() if name.isupper() or value is None}
        types = {name: "constexpr" if name in constants else mangle_type(given[name]) for name in names}
        source = ASTSource(
            fn=self._kernel,
            signature=types,
            constexprs={(names.index(name),): value for name, value in constants.items()},
            attrs={(at,): [["tt.divisibility", 16]] for at, name in enumerate(names) if types[name].startswith("*")},
        )
        target = GPUTarget("cuda", self._architecture, 32)
        self._made[self._kernel.__name__] = triton.compile(source, target=target, options=options)


def compiling(kernels: ModuleType, architecture: int) -> Iterator[dict[str, Any]]:
    """Replace a module's kernels by ``Compiled``; yield what was made, by name."""
    import triton

    made: dict[str, Any] = {}
    originals = {
        name: value
        for name, value in vars(kernels).items()
        if isinstance(value, triton.JITFunction) and not name.startswith("_")
    }
    for name, kernel in originals.items():
        setattr(kernels, name, Compiled(kernel, architecture, made))
    yield made
    for name, kernel in originals.items():
        setattr(kernels, name, kernel)
