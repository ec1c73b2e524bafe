"""Whether Triton's kernels can run on a device, and whether they are right there."""

from __future__ import annotations

import functools
import logging
import os
import threading
from collections.abc import Callable, Hashable

import torch

TOLERANCE = 0.01
"""What a kernel may be off by, as a share. Rounding comes to 3e-3 in bf16, a fault to much more."""
_log = logging.getLogger(__name__)
_checking = threading.Lock()
_found_right: dict[Hashable, bool] = {}


@functools.cache
def unavailable() -> str | None:
    """Return why Triton cannot be imported, None where it can be."""
    try:
        import triton  # noqa: F401
    except ImportError as error:
        return str(error)
    return None


def runs_on(device: torch.device) -> bool:
    """Return whether kernels can work on tensors of that device: a GPU, or a CPU where TRITON_INTERPRET is 1."""
    # The device first: where there is no GPU, Triton need not be loaded.
    interprets = device.type == "cpu" and os.environ.get("TRITON_INTERPRET") == "1"
    return (device.type == "cuda" or interprets) and unavailable() is None


def is_right(what: str, device: torch.device, disagreement: Callable[[], float]) -> bool:
    """Return whether a kernel computes the right thing on a device; the process looks once, and warns if it does not.

    Args:
        what: the kernel and the kind of its arguments, in words.
        device: it is to run on.
        disagreement: runs it there, and returns by what share it is off.
    """
    key = (what, device)
    with _checking:
        if key not in _found_right:
            try:
                off = disagreement()
                fault = None if off <= TOLERANCE else f"is off by {off:.2g} of the true values"
            except Exception as error:  # whatever a compiler or a driver may raise
                fault = f"does not run: {(str(error).strip() or type(error).__name__).splitlines()[0]}"
            if fault is not None:
                _log.warning("the fused %s %s on %s; torch's operations are used instead", what, fault, device)
            _found_right[key] = fault is None
        return _found_right[key]
