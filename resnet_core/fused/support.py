"""Whether Triton's kernels can run on a device, and whether their results are correct there."""

from __future__ import annotations

import functools
import logging
import os
import threading
from collections.abc import Callable, Hashable

import torch

TOLERANCE = 0.01
"""The largest relative error of a correct kernel. Rounding alone is 3e-3 in bf16; a fault is much more."""
_log = logging.getLogger(__name__)
_checking = threading.Lock()
_found_correct: dict[Hashable, bool] = {}


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
    # The device is checked first: without a GPU, Triton is not loaded.
    interprets = device.type == "cpu" and os.environ.get("TRITON_INTERPRET") == "1"
    return (device.type == "cuda" or interprets) and unavailable() is None


def is_correct(what: str, device: torch.device, relative_error: Callable[[], float]) -> bool:
    """Return whether a kernel's results are correct on a device. A process checks once, and logs a warning if not.

    Args:
        what: the kernel and the kind of its arguments, in words.
        device: the device to check.
        relative_error: runs the kernel there, and returns the relative error of its results.
    """
    key = (what, device)
    with _checking:
        if key not in _found_correct:
            try:
                off = relative_error()
                fault = None if off <= TOLERANCE else f"is off by {off:.2g} of the true values"
            except Exception as error:  # a compiler or a driver may raise any exception
                fault = f"does not run: {(str(error).strip() or type(error).__name__).splitlines()[0]}"
            if fault is not None:
                _log.warning("the fused %s %s on %s; torch's operations are used instead", what, fault, device)
            _found_correct[key] = fault is None
        return _found_correct[key]
