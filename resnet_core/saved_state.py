"""The state that a trainer of somebody's own saves: which values it may hold, and how a checkpoint holds them."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

_PLAIN = (int, float, bool, str, bytes, type(None))
_ARRAY = "numpy array"  # the key of an array that is kept as a tensor


def check_storable(value: Any, place: str) -> None:
    """Check that a state can be read again without running code.

    Args:
        value: the state, or a part of it.
        place: where the part is, for the message.

    Raises:
        TypeError: it holds something else than tensors, arrays, plain values, and dicts, lists or tuples of these.
    """
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str | int):
                raise TypeError(f"{place}: the key {key!r:.100} is no text and no whole number")
            check_storable(item, f"{place}[{key!r}]")
    elif isinstance(value, list | tuple):
        for i, item in enumerate(value):
            check_storable(item, f"{place}[{i}]")
    elif type(value) not in _PLAIN and not _is_tensor(value) and not _is_array(value):
        kind = f"{type(value).__module__}.{type(value).__qualname__}"
        raise TypeError(
            f"{place} is a {kind}: expected tensors, numpy arrays, numbers, texts, bytes, None, and dicts, "
            "lists or tuples of these, such as a state_dict()"
        )


def _is_tensor(value: Any) -> bool:
    import torch  # here: a trainer need not use it, and torch is imported where its checkpoint is written

    return isinstance(value, torch.Tensor)


def _is_array(value: Any) -> bool:
    import numpy as np

    return isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "biuf"


def storable(value: Any) -> Any:
    """Return a state with tensors in place of arrays, detached and on the CPU."""
    if isinstance(value, dict):
        return {key: storable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(storable, value)) if type(value) in (list, tuple) else tuple(map(storable, value))
    if _is_array(value):
        import numpy as np
        import torch

        return {_ARRAY: torch.from_numpy(np.array(value))}
    return value.detach().cpu() if _is_tensor(value) else value


def restored(value: Any) -> Any:
    """Return the state from which ``storable`` made this one."""
    if isinstance(value, dict):
        return value[_ARRAY].numpy() if value.keys() == {_ARRAY} else {key: restored(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(restored, value))
    return value


def copied(tensors: Any) -> dict[str, Any]:
    """Return copies of named tensors and arrays, on the CPU; the originals may change afterwards.

    Raises:
        TypeError: they are something else.
    """
    if not isinstance(tensors, Mapping):
        raise TypeError(f"{type(tensors).__name__}: expected a dict of tensors or arrays, such as a state_dict()")
    copies: dict[str, Any] = {}
    torch = sys.modules.get("torch")  # what has not been imported has made no tensor
    for name, value in tensors.items():
        if not isinstance(name, str):
            raise TypeError(f"the name {name!r:.100} is no text")
        if torch is not None and isinstance(value, torch.Tensor):
            copies[name] = value.detach().to("cpu", copy=True)
        elif _is_array(value):
            import numpy as np

            copies[name] = np.array(value)
        else:
            kind = f"{type(value).__module__}.{type(value).__qualname__}"
            raise TypeError(f"{name} is a {kind}: expected a tensor or an array of numbers")
    return copies
