"""Objects that the modules of a package define, by the name of the module: a new file is a new entry."""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator, Mapping
from functools import cached_property
from importlib import import_module
from typing import Generic, TypeVar

T = TypeVar("T")


class Registry(Mapping[str, T], Generic[T]):
    """One object for each module of a package, read only; the modules are imported at first use.

    Packages inside the package are not entries: code that several entries share can live there.

    >>> from resnet_core.data import DATASETS
    >>> "digits" in DATASETS
    True
    >>> DATASETS["digits"].classes
    10

    Args:
        package: name of the package.
        constant: name under which every module of the package has its object.
    """

    def __init__(self, package: str, constant: str) -> None:
        self._package, self._constant = package, constant

    @cached_property
    def _entries(self) -> dict[str, T]:
        modules = pkgutil.iter_modules(import_module(self._package).__path__)
        return {module.name: self._entry(module.name) for module in modules if not module.ispkg}

    def _entry(self, name: str) -> T:
        module = import_module(f"{self._package}.{name}")
        if not hasattr(module, self._constant):
            raise ImportError(f"{module.__name__} has no {self._constant}: expected one in each module beside it")
        entry: T = getattr(module, self._constant)
        return entry

    def __getitem__(self, name: str) -> T:
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)
