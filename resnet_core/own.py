"""Networks, data sets and optimizers of one's own, which a config names as ``module:object``.

Every function here imports the code that is named. So they are called where a study is checked or trained, and never
for a config that is only read from a store.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from numbers import Integral
from pathlib import Path
from typing import Any, Literal

from resnet_core import models
from resnet_core.code import describe, is_reference, load, not_exiting
from resnet_core.config import IMAGE_FOLDER, TRIAL_CONFIG_FIELDS, ConfigError, TrialConfig, names_code
from resnet_core.data import DATASETS, DatasetSpec
from resnet_core.image_folder import image_folder

_SHAPE = ("classes", "channels", "image_size")
_OF_SHIPPED = {name for network in models.NETWORKS.values() for name in network.options}
_FROM_FIELDS = ("lr", "momentum", "betas", "beta1", "beta2", "eps", "nesterov", "weight_decay")
"""Parameters of an optimizer's constructor that the fields of TrialConfig set."""


def dataset(name: str) -> DatasetSpec:
    """Return a data set by its name in a config: one that ships, a folder of images, or one of one's own.

    Raises:
        ConfigError: the code gives no DatasetSpec.
        CodeError: the code cannot be imported, or raises an error.
        DataError: the folder of images is missing or not as expected.
    """
    if name in DATASETS:
        return DATASETS[name]
    if name.startswith(IMAGE_FOLDER):
        return image_folder(Path(name.removeprefix(IMAGE_FOLDER)))
    found = load(name)
    if not isinstance(found, DatasetSpec) and callable(found):
        if any(_is_required(parameter) for parameter in _parameters("data", name, found).values()):
            raise ConfigError("data", name, "a DatasetSpec, or a function without arguments that returns one")
        found = found()
    if not isinstance(found, DatasetSpec):
        given = type(found).__name__
        raise ConfigError("data", name, f"a DatasetSpec, or a function that returns one; this gives a {given}")
    return _checked(name, found)


def _checked(name: str, spec: DatasetSpec) -> DatasetSpec:
    """Return the spec of a data set of one's own, its sizes as Python's ints: code often counts with NumPy."""
    sizes: dict[str, Any] = {}
    for field, least in (("classes", 2), ("train_size", 1), ("test_size", 1), ("channels", 1)):
        value = getattr(spec, field)
        if not _is_whole(value) or value < least:
            expected = f"{field} in its DatasetSpec to be a whole number of {least} or more, not {value!r}"
            raise ConfigError("data", name, expected)
        sizes[field] = int(value)
    sides = spec.image_sizes
    if not isinstance(sides, range):
        if not isinstance(sides, Sequence) or not sides or not all(map(_is_whole, sides)):
            raise ConfigError("data", name, "image_sizes in its DatasetSpec to be one whole number or more")
        sides = tuple(map(int, sides))
    if not sides or sides[0] < 1 or list(sides) != sorted(set(sides)):
        raise ConfigError("data", name, f"image_sizes in its DatasetSpec of 1 or more, in rising order, not {sides}")
    for field in ("read", "mean", "download"):
        value = getattr(spec, field)
        if not callable(value) and (field != "download" or value is not None):
            raise ConfigError("data", name, f"{field} in its DatasetSpec to be a function, not {value!r}")
    if spec.names and len(spec.names) != sizes["classes"]:
        expected = (
            f"a name for each of {sizes['classes']} classes in its DatasetSpec, or none; it has {len(spec.names)}"
        )
        raise ConfigError("data", name, expected)
    return replace(spec, **sizes, image_sizes=sides)


def _is_whole(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def network(config: TrialConfig, *, classes: int, channels: int) -> Any:
    """Return the network of one's own that a config names, with weights from torch's global generator.

    Raises:
        ConfigError: the factory is no such function, its options do not fit it, or it fails.
        CodeError: the code cannot be imported.
    """
    factory = load(config.model)
    arguments = _network_arguments(config, {"classes": classes, "channels": channels}, factory)
    try:
        with not_exiting():
            return factory(**arguments)
    except Exception as error:
        raise ConfigError("model", config.model, f"a network; its factory failed: {describe(error)}") from error


def _network_arguments(config: TrialConfig, built_for: dict[str, int], factory: Any) -> dict[str, Any]:
    parameters = _parameters("model", config.model, factory)
    if "classes" not in parameters:
        raise ConfigError("model", config.model, "a function with a parameter named classes that returns a network")
    shape = {**built_for, "image_size": config.image_size}
    fields = {name: getattr(config, name) for name in TRIAL_CONFIG_FIELDS - {"model_options"} if name in parameters}
    given = fields | {name: value for name, value in shape.items() if name in parameters}
    defaults = TrialConfig("[0, 0] lin[0, 1]")
    for name in sorted(_OF_SHIPPED - parameters.keys()):
        if getattr(config, name) != getattr(defaults, name):
            raise ConfigError(name, getattr(config, name), f"none: {config.model} does not take it")
    options = _options("model_options", config.model, factory, config.model_options, given)
    return {**given, **options}


def optimizer(config: TrialConfig, parameters: Any) -> Any:
    """Return the torch.optim.Optimizer of one's own that a config names, on ``parameters``.

    Its constructor gets the options and, where it names them, the learning rate, momentum, beta2, eps and nesterov of
    the config. Its weight_decay is 0, since decay is applied by the trainer, decoupled, at every step.

    Raises:
        ConfigError: it is no such class, or its options do not fit it.
        CodeError: the code cannot be imported.
    """
    kind = load(config.optimizer)
    arguments = _optimizer_arguments(config, kind)
    try:
        with not_exiting():
            made = kind(parameters, **arguments)
    except Exception as error:
        said = f"an optimizer that takes these parameters and settings: {describe(error)}"
        raise ConfigError("optimizer", config.optimizer, said) from error
    if any("lr" not in group for group in getattr(made, "param_groups", [{}])):
        raise ConfigError(
            "optimizer", config.optimizer, "an optimizer whose parameter groups have lr, for the schedule"
        )
    if config.momentum_schedule is not None and not set_momentum(made, config.momentum):
        raise ConfigError("momentum_schedule", config.momentum_schedule, f"none: {config.optimizer} has no momentum")
    return made


def set_momentum(made: Any, momentum: float) -> bool:
    """Set the momentum, or the first of the betas, of an optimizer's parameter groups; return whether they have one."""
    has_one = False
    for group in made.param_groups:
        if "momentum" in group:
            group["momentum"] = momentum
        elif "betas" in group:
            group["betas"] = (momentum, *group["betas"][1:])
        elif "beta1" in group:
            group["beta1"] = momentum
        else:
            continue
        has_one = True
    return has_one


def _optimizer_arguments(config: TrialConfig, kind: Any) -> dict[str, Any]:
    name = config.optimizer
    # torch is not imported here: a class of it that was found has imported it.
    bases = {f"{base.__module__}.{base.__qualname__}" for base in getattr(kind, "__mro__", ())}
    if not isinstance(kind, type) or "torch.optim.optimizer.Optimizer" not in bases:
        raise ConfigError("optimizer", name, "a class derived from torch.optim.Optimizer")
    step = inspect.signature(inspect.getattr_static(kind, "step")).parameters.values()
    if any(_is_required(parameter) for parameter in list(step)[1:]):
        raise ConfigError("optimizer", name, "an optimizer whose step needs no closure")
    parameters = dict(list(_parameters("optimizer", name, kind).items())[1:])
    betas = parameters["betas"].default if "betas" in parameters else ()
    rest = betas[2:] if isinstance(betas, tuple) else ()
    values = {
        "lr": config.lr_alpha or 1.0,  # the schedule sets it before each step; some constructors refuse 0
        "momentum": config.momentum,
        "betas": (config.momentum, config.beta2, *rest),
        "beta1": config.momentum,
        "beta2": config.beta2,
        "eps": config.eps,
        "nesterov": config.nesterov,
        "weight_decay": 0.0,
    }
    given = {key: values[key] for key in _FROM_FIELDS if key in parameters and _takes(parameters[key], values[key])}
    if config.nesterov and "nesterov" not in parameters:
        raise ConfigError("nesterov", True, f"false: {name} does not take it")
    skipped = next(iter(_parameters("optimizer", name, kind)), None)
    options = _options("optimizer_options", name, kind, config.optimizer_options, given, skipped)
    return {**given, **options}


def _takes(parameter: inspect.Parameter, value: Any) -> bool:
    """Return whether a parameter's default is of a value's kind; torch's Adafactor has two numbers as its eps."""
    return parameter.default is parameter.empty or isinstance(parameter.default, tuple) == isinstance(value, tuple)


def _parameters(field: str, name: str, function: Any) -> Mapping[str, inspect.Parameter]:
    if not callable(function):
        raise ConfigError(field, name, f"a function or a class, not a {type(function).__name__}")
    try:
        return inspect.signature(function).parameters
    except ValueError as error:
        raise ConfigError(field, name, "a function whose parameters can be read") from error


def _is_required(parameter: inspect.Parameter) -> bool:
    return parameter.default is parameter.empty and parameter.kind not in (
        parameter.VAR_POSITIONAL,
        parameter.VAR_KEYWORD,
    )


def _options(
    table: str,
    name: str,
    function: Any,
    options: Mapping[str, Any],
    given: Mapping[str, Any],
    skipped: str | None = None,
) -> dict[str, Any]:
    """Return the options of a function, checked against its parameters.

    Args:
        table: the field of TrialConfig that has the options.
        name: the reference of the function.
        function: a function or a class.
        options: the options by name.
        given: arguments that are passed without being options.
        skipped: a parameter that is passed by place.
    """
    parameters = inspect.signature(function).parameters
    takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    own = {
        key: parameter
        for key, parameter in parameters.items()
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        and key not in given
        and key != skipped
    }
    hints = _hints(function)
    for key, value in options.items():
        if key in given:
            source = "a fact of the data set" if key in _SHAPE else "a field of [train]"
            raise ConfigError(f"{table}.{key}", value, f"none: {name} gets it as {source}")
        if key not in own and not takes_all:
            near = get_close_matches(key, own, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ConfigError(f"{table}.{key}", value, f"an option of {name}: {', '.join(own) or 'it has none'}{hint}")
        expected = _expected(hints.get(key))
        if expected and not any(_fits(value, kind) for kind in _alternatives(hints[key])):
            raise ConfigError(f"{table}.{key}", value, expected)
    for key, parameter in own.items():
        if _is_required(parameter) and key not in options:
            raise ConfigError(f"{table}.{key}", None, f"a value: {name} has no default for it")
    return dict(options)


def _hints(function: Any) -> dict[str, Any]:
    """Return the annotations of a function's parameters; those that cannot be read are left out."""
    try:
        return typing.get_type_hints(
            inspect.getattr_static(function, "__init__") if isinstance(function, type) else function
        )
    except Exception:  # a name that exists for type checkers alone
        return {}


_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}


def _alternatives(hint: Any) -> list[Any]:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return list(typing.get_args(hint))
    return [hint]


def _expected(hint: Any) -> str:
    """Return what a parameter of this type takes, in words; an empty text where any value is passed on."""
    words = []
    for kind in _alternatives(hint):
        if typing.get_origin(kind) is Literal:
            words.append("one of " + ", ".join(map(repr, typing.get_args(kind))))
        elif kind in _WORDS:
            words.append(_WORDS[kind])
        elif kind is not type(None):
            return ""
    return " or ".join(words)


def _fits(value: Any, kind: Any) -> bool:
    if typing.get_origin(kind) is Literal:
        return any(value == choice and type(value) is type(choice) for choice in typing.get_args(kind))
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(kind, type) and isinstance(value, kind)


def resolve(
    config: TrialConfig,
    load: Callable[[str], Any] = load,
    dataset: Callable[[str], DatasetSpec] = dataset,
) -> TrialConfig:
    """Import the code that a config names, check the config against it, and return the config with what it says.

    A config that names no code is returned as it is. Else it gets ``data_info`` and, where it names none, the data
    set's ``image_size``.

    Args:
        config: the config.
        load: `resnet_core.code.load`, or a cache of it for many configs.
        dataset: `dataset`, or a cache of it.

    Raises:
        ConfigError: a field does not fit the code.
        CodeError: the code cannot be imported, or raises an error.
        DataError: a folder of images is missing or not as expected.
    """
    if not names_code(config):
        return config
    spec = dataset(config.data)
    if config.data_info is not None and config.data_info != spec.info:
        raise ConfigError("data", config.data, f"the data set that it was: {config.data_info}; now it has {spec.info}")
    side = config.image_size if config.image_size is not None else spec.default_image_size
    if side is None or side not in spec.image_sizes:
        sizes = spec.image_sizes
        said = f"{sizes[0]} to {sizes[-1]}" if isinstance(sizes, range) else " or ".join(map(str, sizes))
        raise ConfigError("image_size", config.image_size, f"{said} for {config.data}")
    info = None if config.data in DATASETS else spec.info
    resolved = replace(config, image_size=side, data_info=info)
    if is_reference(config.model):
        _network_arguments(resolved, {"classes": spec.classes, "channels": spec.channels}, load(config.model))
    if is_reference(config.optimizer):
        _optimizer_arguments(resolved, load(config.optimizer))
    return resolved
