"""What a study file names and another package provides: stopping rules and samplers.

Those that ship are named here as ``module:object``. An installed package adds its own under the entry-point groups
``sweeps.rules`` (a subclass of `sweeps.study.stopping.base.StoppingRule`) and ``sweeps.samplers`` (a `Sampler`):

    [project.entry-points."sweeps.rules"]
    plateau = "my_package.plateau:Plateau"

They are loaded when the first study is read, not when this module is imported.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, ClassVar

from search_spaces.errors import Problem
from search_spaces.parameters import Table

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial

_SHIPPED = {
    "sweeps.rules": "sweeps.study.stopping.rules:RULES",
    "sweeps.samplers": "sweeps.ledger.samplers:SAMPLERS",
}


class RuleSettings(Table):
    """What a study file has to know of a stopping rule. The fields are the rule's settings.

    A rule with settings is switched on by a table (``cap = { best = 5, slack = 1.2 }``), one without by ``true``. The
    first line of the class's docstring and its section ``Attributes`` are the rule's entries in docs/study-file.md.
    """

    name: ClassVar[str]
    """The rule's key in ``[stopping]``."""
    order: ClassVar[int] = 100
    """Rules are asked in rising order, certain ones first: the reason of the first that ends a trial is reported."""
    on_by_default: ClassVar[bool] = False
    """Whether a study has the rule unless it says ``false``; only for a rule without settings."""
    revives: ClassVar[bool] = False
    """Whether the rule can revive a trial that it ended, so that ``freeze = true`` is of use."""

    @property
    def group_by(self) -> str | None:
        """A field of TrialConfig or a parameter: trials with the same value are compared; None compares all trials."""
        return None

    def problems(self, names: Collection[str]) -> Iterable[Problem]:  # noqa: ARG002
        """Return what is wrong with the settings, beside the names of all fields of TrialConfig and all parameters.

        The key of each problem is the name of the setting. Bounds and types are checked before.
        """
        return ()

    def never_revives_where(self) -> str:
        """Return the setting because of which the rule cannot revive any trial; empty where it can."""
        return ""


@dataclass(frozen=True)
class Sampler:
    """One of Optuna's samplers, as a study file names it.

    Attributes:
        name: the value of ``sampler`` in ``[search]``.
        make: returns Optuna's sampler for a seed. It is shown the study's trials so far, and those of the study that it
            was forked from.
        note: what docs/study-file.md says beside the name; may be empty.
        ignores_pruned: whether it learns from COMPLETE trials alone, and so would propose again and again what a rule
            ended or what diverged.
        exhaustive: whether the study tries every combination of values instead of sampling, so that every parameter
            needs ``step``, ``int = true`` or ``choices``.
    """

    name: str
    make: Callable[[int, Sequence[FrozenTrial]], BaseSampler]
    note: str = ""
    ignores_pruned: bool = False
    exhaustive: bool = False


def rules() -> Mapping[str, type[RuleSettings]]:
    """Return all stopping rules there are by name, in the order in which they are asked."""
    return _plugins("sweeps.rules")


def samplers() -> Mapping[str, Sampler]:
    """Return all samplers there are by name: those that ship first."""
    return _plugins("sweeps.samplers")


@cache
def _plugins(group: str) -> Mapping[str, Any]:
    """Return by name what ships and what installed packages add; those with an ``order`` are sorted by it.

    Raises:
        ImportError: two have the same name.
    """
    found: dict[str, Any] = {}
    for plugin in [*_load(_SHIPPED[group]), *(entry.load() for entry in entry_points(group=group))]:
        if plugin.name in found:
            raise ImportError(f"{group}: {plugin.name!r} exists twice: {found[plugin.name]} and {plugin}")
        found[plugin.name] = plugin
    return dict(sorted(found.items(), key=lambda item: getattr(item[1], "order", 0)))


def _load(path: str) -> Any:
    """Return the object that ``module:object`` names."""
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)
