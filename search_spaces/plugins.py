"""Objects that a study file names: stopping rules and samplers.

``_SHIPPED`` lists the built-in ones as ``module:object``. An installed package adds its own in the
entry-point groups ``sweeps.rules`` (subclasses of `sweeps.study.stopping.base.StoppingRule`) and ``sweeps.samplers``
(instances of `Sampler`):

    [project.entry-points."sweeps.rules"]
    plateau = "my_package.plateau:Plateau"

They are loaded when the first study is read, not when this module is imported: search_spaces imports none of the
packages that define them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, ClassVar

from resnet_core import code
from resnet_core.code import CodeError
from search_spaces.errors import Problem, suggestion
from search_spaces.parameters import Table

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial

_SHIPPED = {
    "sweeps.rules": "sweeps.study.stopping.rules:RULES",
    "sweeps.samplers": "sweeps.ledger.samplers:SAMPLERS",
}


class RuleSettings(Table):
    """A stopping rule as a study file sees it. The fields are the rule's settings.

    A rule with settings is switched on by a table (``cap = { best = 5, slack = 1.2 }``), a rule without settings by
    ``true``. docs/study-file.md takes its entries from the docstring of the class: the first line, and ``Attributes``.
    """

    name: ClassVar[str]
    """The rule's key in ``[stopping]``."""
    order: ClassVar[int] = 100
    """Rules are asked in ascending order, certain ones first. The first that ends a trial gives the reason."""
    on_by_default: ClassVar[bool] = False
    """Whether the rule is on in a study file without its key; only possible for a rule without settings."""
    revives: ClassVar[bool] = False
    """Whether the rule can continue a trial that it ended, where the study has ``freeze = true``."""
    predictive: ClassVar[bool] = False
    """Whether it ends a trial because other trials predict a bad result, which the trial's own curve does not show."""

    needs_target: ClassVar[bool] = False
    """Whether it decides by the target, so that a study without one cannot have it."""

    differences: ClassVar[tuple[str, ...]] = ()
    """Settings that are differences between values of the metric, so that they are below 1 for an accuracy."""

    @property
    def group_by(self) -> str | None:
        """The field of TrialConfig or the parameter by which the rule groups trials; None if it does not group them."""
        return None

    def problems(self, names: Collection[str]) -> Iterable[Problem]:  # noqa: ARG002
        """Return the problems of the settings, each with the setting's name as key. Types and bounds have been checked.

        Args:
            names: all fields of TrialConfig and all parameters of the study.
        """
        return ()

    def why_never_revives(self) -> str:
        """Return the setting that keeps the rule from reviving any trial, and why; empty if it can revive some."""
        return ""


@dataclass(frozen=True)
class Sampler:
    """One of Optuna's samplers, as a study file names it.

    Attributes:
        name: the value of ``sampler`` in ``[search]``.
        make: returns Optuna's sampler, given a seed and the study's trials so far, which include the trials of the
            study that it was forked from.
        note: a remark on the name in docs/study-file.md; may be empty.
        ignores_pruned: whether it learns from COMPLETE trials alone. If so, stopped and diverged trials are reported as
            COMPLETE too; else it would propose the same parameters again and again.
        exhaustive: whether it tries every combination of values instead of sampling. If so, every parameter needs
            ``step``, ``int = true`` or ``choices``.
    """

    name: str
    make: Callable[[int, Sequence[FrozenTrial]], BaseSampler]
    note: str = ""
    ignores_pruned: bool = False
    exhaustive: bool = False


def resolve(group: str, name: str) -> str:
    """Return the ``module:object`` for a name: the name itself, or what an installed package offers under it.

    Args:
        group: an entry-point group, such as ``sweeps.trainers``.
        name: ``module:object``, or the name of an installed plug-in.

    Raises:
        CodeError: it is neither.
    """
    if code.is_reference(name):
        return name
    installed = code.installed(group)
    if name not in installed:
        known = f"; {suggestion(name, installed)}" if installed else ""
        raise CodeError(f"expected {code.EXPECTED}, or the name of an installed plug-in ({group}){known}")
    return installed[name].value.replace(" ", "")


def rules() -> Mapping[str, type[RuleSettings]]:
    """Return all stopping rules by name, in the order in which they are asked."""
    return _plugins("sweeps.rules")


def samplers() -> Mapping[str, Sampler]:
    """Return all samplers by name, the built-in ones first."""
    return _plugins("sweeps.samplers")


@cache
def _plugins(group: str) -> Mapping[str, Any]:
    """Return the built-in and the installed plug-ins of a group by name, sorted by ``order`` if they have it.

    Raises:
        ImportError: two plug-ins have the same name.
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
