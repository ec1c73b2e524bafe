"""Objects that a study file names: stopping rules and samplers.

``_SHIPPED`` lists the built-in ones as ``module:object``. An installed package adds its own in the
entry-point groups ``sweeps.rules`` (subclasses of `sweeps.study.stopping.base.StoppingRule`) and ``sweeps.samplers``
(instances of `Sampler`):

    [project.entry-points."sweeps.rules"]
    plateau = "my_package.plateau:Plateau"

They are loaded when the first study is read, not when this module is imported: search_spaces imports none of the
packages that define them.

A study file may also name one of its own as ``module:object`` (`resnet_core.code`), or a sampler of OptunaHub as
``optunahub:PACKAGE``. These are imported when the study is planned or launched, and never when a stored study is read:
`find_rule` and `find_sampler` import what a study names, `samplers` and `rules` do not.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar, get_type_hints

from pydantic import ConfigDict, Field, PydanticUserError, TypeAdapter, ValidationError, ValidationInfo

from resnet_core import code
from resnet_core.code import CodeError
from search_spaces.errors import Problem, expectation, suggestion
from search_spaces.parameters import Table

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial

_HUB = re.compile(r"optunahub:[\w.-]+(/[\w.-]+)+(:[^\W\d]\w*)?")
_SHIPPED = {
    "sweeps.rules": "sweeps.study.stopping.rules:RULES",
    "sweeps.samplers": "sweeps.ledger.samplers:SAMPLERS",
}
_EXPECTED = {"sweeps.rules": "a subclass of sweeps.StoppingRule", "sweeps.samplers": "a search_spaces.plugins.Sampler"}


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

    def why_idle(self, trials: int, longest: int, *, has_space: bool) -> str:  # noqa: ARG002
        """Return why the rule can end no trial of such a study, as the rest of a sentence; empty if it may end some.

        Args:
            trials: number of trials of the study.
            longest: epochs of its longest trial.
            has_space: whether it samples configurations, or lists them.
        """
        return ""

    def why_never_revives(self) -> str:
        """Return the setting that keeps the rule from reviving any trial, and why; empty if it can revive some."""
        return ""


class OwnRule(RuleSettings):
    """A rule of the user's own as a study keeps it. It is read without the rule's code; `find_rule` imports that.

    Attributes:
        reference: ``module:Class``, the rule's key in ``[stopping]``; in a stored study also the name of a rule whose
            package is not installed.
        settings: the settings that the study file gives, as plain values.
    """

    reference: str
    settings: dict[str, Any] = Field(default_factory=dict)


@dataclass(frozen=True)
class Sampler:
    """One of Optuna's samplers, as a study file names it.

    Attributes:
        name: the value of ``sampler`` in ``[search]``.
        make: returns Optuna's sampler, given a seed, the study's trials so far, which include the trials of the study
            that it was forked from, and the settings of ``[search.sampler_options]`` as keyword arguments.
        note: a remark on the name in docs/study-file.md; may be empty.
        ignores_pruned: whether it learns from COMPLETE trials alone. If so, stopped and diverged trials are reported as
            COMPLETE too; else it would propose the same parameters again and again.
        exhaustive: whether it tries every combination of values instead of sampling. If so, every parameter needs
            ``step``, ``int = true`` or ``choices``.
        settings: the class or function whose parameters are the settings, other than ``seed``; None: those of ``make``.
        conditional: settings with which it draws parameters jointly that some trials lack. None: it cannot, and draws
            each of them by itself.
        numbers_alone: whether it learns about numbers alone, and draws choices at random.
    """

    name: str
    make: Callable[..., BaseSampler]
    note: str = ""
    ignores_pruned: bool = False
    exhaustive: bool = False
    settings: Callable[..., Any] | None = None
    conditional: Mapping[str, Any] | None = None
    numbers_alone: bool = False

    def parameters(self) -> Mapping[str, inspect.Parameter]:
        """Return the settings that ``[search.sampler_options]`` can have, by name, as parameters of a function.

        One of kind ``VAR_KEYWORD`` stands for settings of any name.
        """
        kinds = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.VAR_KEYWORD)
        known = list(inspect.signature(self.settings or self.make).parameters.values())
        given = known if self.settings is not None else known[2:]  # without seed and trials
        return {one.name: one for one in given if one.kind in kinds and one.name != "seed"}

    def mismatch(self, setting: str, value: object) -> str:
        """Return, in words, the type of a setting where a value has another type; else an empty text.

        It is empty, too, where the type is not annotated, or is one that a study file does not know.
        """
        made: Any = self.settings or self.make
        function = made.__init__ if inspect.isclass(made) else made
        try:
            # Of this setting alone: others may have types that are imported for type checkers only.
            annotation = SimpleNamespace(__annotations__={setting: self.parameters()[setting].annotation})
            hint = get_type_hints(annotation, inspect.unwrap(function).__globals__)[setting]
            adapter = TypeAdapter(hint, config=ConfigDict(strict=True))
        except (AttributeError, KeyError, NameError, TypeError, PydanticUserError):
            return ""
        try:
            adapter.validate_python(value)
        except ValidationError as error:
            return expectation(error.errors()[0]["msg"])
        return ""


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


def is_stored(info: ValidationInfo) -> bool:
    """Return whether a stored study is being read: the packages of its plug-ins need not be installed."""
    return bool((info.context or {}).get("is_stored"))


def find_rule(reference: str) -> type[RuleSettings]:
    """Import the stopping rule that a study names as ``module:Class``; its name is this reference.

    Raises:
        CodeError: there is no such class, or it is no rule.
    """
    found = _load_own("sweeps.rules", reference)
    if not inspect.isclass(found) or not issubclass(found, RuleSettings):
        raise CodeError(f"{reference} is {_kind(found)}; expected {_EXPECTED['sweeps.rules']}")
    if inspect.isabstract(found):
        raise CodeError(f"{reference} is abstract: it lacks {', '.join(sorted(found.__abstractmethods__))}")
    named: type[RuleSettings] = type(found.__name__, (found,), {"name": reference, "__doc__": found.__doc__})
    return named


def loaded_rule(rule: OwnRule) -> RuleSettings:
    """Import a rule of the user's own, and return it with the study's settings.

    Raises:
        CodeError: there is no such class, or it is no rule.
        pydantic.ValidationError: its settings are wrong.
    """
    return find_rule(rule.reference).model_validate(rule.settings)


def find_sampler(name: str) -> Sampler:
    """Return the sampler with a name; import it if that is a reference.

    Args:
        name: name of a sampler that ships or is installed; ``module:object`` for a class of Optuna's BaseSampler, a
            function that returns one, or a `Sampler`; or ``optunahub:PACKAGE``, with ``:CLASS`` behind it if the
            package has several.

    Raises:
        CodeError: there is no such object, or it is no sampler that a study can use.
    """
    if name in samplers():
        return samplers()[name]
    found = _from_hub(name) if name.startswith("optunahub:") else _load_own("sweeps.samplers", name)
    if isinstance(found, Sampler):
        if found.exhaustive:
            raise CodeError(f"{name} is exhaustive; expected a sampler that draws, or grid")
        return replace(found, name=name)
    return _own_sampler(name, found)


def _load_own(group: str, name: str) -> Any:
    if not code.is_reference(name):
        raise CodeError(f"no installed package offers {name} ({group}); install the package that did")
    return code.load(name)


def is_exhaustive(name: str) -> bool:
    """Return whether the sampler with a name tries every value; nothing is imported."""
    return name in samplers() and samplers()[name].exhaustive


def is_own_sampler(name: str) -> bool:
    """Return whether the name of a sampler is a reference to code; nothing is imported."""
    return code.is_reference(name) or is_hub_package(name)


def is_hub_package(name: str) -> bool:
    """Return whether the name of a sampler is a package of OptunaHub.

    >>> is_hub_package("optunahub:samplers/auto_sampler"), is_hub_package("my_module:Sampler")
    (True, False)
    """
    return _HUB.fullmatch(name) is not None


def _from_hub(name: str) -> Any:
    """Return the sampler's class of a package of OptunaHub, which is downloaded."""
    from optuna.samplers import BaseSampler

    if not is_hub_package(name):
        raise CodeError(
            f"{name}: expected optunahub:PACKAGE, such as optunahub:samplers/auto_sampler (pip install optunahub)"
        )
    _, package, *rest = name.split(":")
    try:
        hub = import_module("optunahub")
    except ImportError:
        raise CodeError(f"{name} needs the package optunahub; expected it installed: pip install optunahub") from None
    try:
        module = hub.load_module(package)
    except Exception as error:
        raise CodeError(f"{name} could not be loaded from OptunaHub: {code.describe(error)}") from error
    public = getattr(module, "__all__", dir(module))
    classes = [
        one for one in public if inspect.isclass(kind := getattr(module, one, None)) and issubclass(kind, BaseSampler)
    ]
    if not rest and len(classes) == 1:
        rest = classes
    if not rest or rest[0] not in classes:
        names = ", ".join(f"optunahub:{package}:{one}" for one in classes) or "none: the package has no sampler"
        raise CodeError(f"{name}: expected one of: {names}")
    return getattr(module, rest[0])


def _own_sampler(name: str, found: Any) -> Sampler:
    from optuna.samplers import BaseSampler, BruteForceSampler, CmaEsSampler, GridSampler, RandomSampler, TPESampler

    is_class = inspect.isclass(found)
    if not callable(found) or (is_class and not issubclass(found, BaseSampler)):
        expected = "a class of Optuna's BaseSampler, a function that returns one, or a Sampler of search_spaces.plugins"
        raise CodeError(f"{name} is {_kind(found)}; expected {expected}")
    if is_class and issubclass(found, GridSampler | BruteForceSampler):
        raise CodeError(f'{name} tries every value; expected sampler = "grid", which does that here')
    if is_class and inspect.isabstract(found):
        raise CodeError(f"{name} is abstract: it lacks {', '.join(sorted(found.__abstractmethods__))}")
    takes_seed = "seed" in inspect.signature(found).parameters

    def make(seed: int, trials: Sequence[FrozenTrial], **settings: Any) -> BaseSampler:  # noqa: ARG001
        made = found(**settings, **({"seed": seed} if takes_seed else {}))
        if not isinstance(made, BaseSampler):
            raise CodeError(f"{name} returned a value of type {type(made).__name__}; expected a sampler of Optuna's")
        return made

    is_tpe = is_class and issubclass(found, TPESampler)
    is_random = is_class and issubclass(found, RandomSampler)
    conditional: dict[str, Any] | None = {} if is_random else None
    if is_tpe and "group" in inspect.signature(found).parameters:
        conditional = {"group": True}
    return Sampler(
        name,
        make,
        ignores_pruned=not (is_tpe or is_random),
        settings=found,
        conditional=conditional,
        numbers_alone=is_class and issubclass(found, CmaEsSampler),
    )


def _kind(found: Any) -> str:
    return f"the class {found.__name__}" if inspect.isclass(found) else f"of type {type(found).__name__}"


@cache
def _plugins(group: str) -> Mapping[str, Any]:
    """Return the built-in and the installed plug-ins of a group by name, sorted by ``order`` if they have it.

    One that cannot be imported, is no plug-in of this group, or has the name of another one is left out with a warning.
    """
    found: dict[str, Any] = {plugin.name: plugin for plugin in _load(_SHIPPED[group])}
    for entry in code.installed(group).values():
        try:
            plugin = entry.load()
        except Exception as error:  # somebody else's code, in a package that this study may not need
            why = code.describe(error)
        else:
            is_rule = inspect.isclass(plugin) and issubclass(plugin, RuleSettings)
            if not (is_rule if group == "sweeps.rules" else isinstance(plugin, Sampler)):
                why = f"it is {_kind(plugin)}; expected {_EXPECTED[group]}"
            elif plugin.name in found:
                why = f"{plugin.name!r} is the name of another one"
            else:
                found[plugin.name] = plugin
                continue
        code.warn_once(f"{group}: the plug-in {entry.name} is not used ({code.offer(entry)}): {why}")
    return dict(sorted(found.items(), key=lambda item: getattr(item[1], "order", 0)))


def _load(path: str) -> Any:
    """Return the object that ``module:object`` names."""
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)
