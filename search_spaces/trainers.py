"""Trainers that a study can name: the one that ships, and any other as ``module:object``.

A trainer is, for a study file, the fields of its configuration: their types, their defaults, and which of them are
schedules. For a study that is read from a store, these are read from the store too, and nothing is imported.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import math
import types
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError

from resnet_core import code
from resnet_core.code import CodeError
from resnet_core.config import (
    OPTION_TABLES,
    SCHEDULE_FIELDS,
    TRIAL_CONFIG_FIELDS,
    ConfigError,
    TrialConfig,
    name_problem,
)
from resnet_core.own_config import Config, OwnConfig
from resnet_core.schedule import Schedule, ScheduleError, parse
from search_spaces.errors import Problem, expectation, unknown_name, wrong_value
from search_spaces.field_types import (
    SCHEDULE_WORDS,
    allows_table,
    has_table,
    is_schedule,
    is_whole,
    type_words,
    with_text,
)
from search_spaces.parameters import Table
from search_spaces.plugins import resolve

if TYPE_CHECKING:
    from resnet_core.run import Run

GROUP = "sweeps.trainers"
"""The entry-point group in which an installed package offers its trainers."""
SHIPPED_NAME = "resnet"
"""The name of the trainer that ships; a study file without ``trainer`` has it."""
RESERVED = frozenset(
    [
        "trainer",
        "name",
        "run",
        "trial",
        "number",
        "run_id",
        "status",
        "outcome",
        "stop_reason",
        "stopped_by",
        "would_stop",
        "gpus",
        "start_time",
        "end_time",
        "horizon",
        "lr_alpha",
        "epoch",
        "val_acc",
        "acc",
        "epoch_best",
        "val_acc_best",
        "final_loss",
        "final_val_loss",
        "epochs_to_target",
        "epochs_to_target_sustained",
        "epochs_run",
        "configuration",
    ]
)
"""Names that no field may have: they stand for something else in study files, stores or tables."""
_WHOLE = {"epochs": "it is how many epochs a trial has", "seed": "each trial has another seed"}
"""Fields that are whole numbers, and why."""


class FieldSchema(Table):
    """A field of a trainer's configuration, as a study keeps it.

    Attributes:
        type: the type, in words for messages.
        schedule: whether its value is a text in the schedule notation.
        required: whether it has no default.
        default: the default as a plain value; None where there is none.
    """

    type: str
    schedule: bool = False
    required: bool = False
    default: Any = None


class Trainer(ABC):
    """The trainer of a study, as far as its study file, its checks and its store are concerned.

    Attributes:
        name: its name in a study file.
        fields: its fields, in their order.
        owner: what has the fields, in words: the class of its configuration.
    """

    name: str
    fields: Mapping[str, FieldSchema]
    owner: str

    @property
    def schedule_fields(self) -> tuple[str, ...]:
        """The fields that are texts in the schedule notation."""
        return tuple(name for name, field in self.fields.items() if field.schedule)

    @abstractmethod
    def mismatch(self, field: str, value: object) -> str:
        """Return, in words, the type that a field expects if the value has another type; else an empty text."""

    @abstractmethod
    def config(self, values: Mapping[str, Any]) -> Config:
        """Return the configuration of a new trial.

        Raises:
            ConfigError: a field has an invalid value.
            ScheduleError: a schedule is not in the notation.
        """

    @abstractmethod
    def stored_config(self, values: Mapping[str, Any]) -> Config:
        """Return the configuration that `Config.to_dict` gave, from a store."""

    def field_problems(self, values: Mapping[str, object]) -> list[Problem]:
        """Return the problems of fields that the trainer does not have, or whose value has the wrong type."""
        problems = []
        for name, value in values.items():
            if name not in self.fields:
                problems.append(unknown_name(name, value, self.fields, "field"))
            elif expected := self.mismatch(name, value):
                problems.append(wrong_value(name, value, expected))
        return problems


class ShippedTrainer(Trainer):
    """The trainer of resnet_core; its configuration is a TrialConfig."""

    name, owner = SHIPPED_NAME, "TrialConfig"

    def __init__(self) -> None:
        hints = get_type_hints(TrialConfig)
        self._types: dict[str, TypeAdapter[Any]] = {
            field.name: TypeAdapter(hints[field.name], config=ConfigDict(strict=True, allow_inf_nan=False))
            for field in dataclasses.fields(TrialConfig)
            if field.name in TRIAL_CONFIG_FIELDS
        }
        self.fields = {
            field.name: FieldSchema(
                type=type_words(hints[field.name]),
                schedule=field.name in SCHEDULE_FIELDS,
                required=field.default is dataclasses.MISSING,
                default=None if field.default is dataclasses.MISSING else field.default,
            )
            for field in dataclasses.fields(TrialConfig)
            if field.name in TRIAL_CONFIG_FIELDS
        }

    def mismatch(self, field: str, value: object) -> str:
        """See Trainer.mismatch."""
        table, _, option = field.partition(".")
        try:
            self._types[table].validate_python({option: value} if option else value)
        except ValidationError as error:
            return "true, false, a finite number or a text" if option else expectation(error.errors()[0]["msg"])
        return name_problem(field, value)

    def field_problems(self, values: Mapping[str, object]) -> list[Problem]:
        """See Trainer.field_problems; each option of a table is a value of its own."""
        tables = {name: table for name, table in values.items() if name in OPTION_TABLES and isinstance(table, dict)}
        problems = super().field_problems({name: value for name, value in values.items() if name not in tables})
        for name, table in tables.items():
            for option, value in table.items():
                if expected := self.mismatch(key := f"{name}.{option}", value):
                    problems.append(wrong_value(key, value, expected))
        return problems

    def config(self, values: Mapping[str, Any]) -> TrialConfig:
        """See Trainer.config."""
        return TrialConfig(**values)

    def stored_config(self, values: Mapping[str, Any]) -> TrialConfig:
        """See Trainer.stored_config."""
        return TrialConfig.from_dict(values)


class StoredTrainer(Trainer):
    """A trainer of somebody's own, known from what a study has stored of it. Its code is not imported.

    Args:
        name: its name in the study file.
        fields: its fields.
    """

    owner = "Config"

    def __init__(self, name: str, fields: Mapping[str, FieldSchema]) -> None:
        self.name, self.fields = name, dict(fields)

    def mismatch(self, field: str, value: object) -> str:  # noqa: ARG002
        """Return an empty text: the values were checked when the study was launched."""
        return ""

    def config(self, values: Mapping[str, Any]) -> OwnConfig:
        """See Trainer.config; ``Config`` itself checks nothing here.

        Raises:
            ConfigError: a field is missing, or the trial has no length.
            ScheduleError: a schedule is not in the notation.
        """
        full = {name: values.get(name, field.default) for name, field in self.fields.items()}
        for name, field in self.fields.items():
            if field.required and name not in values:
                raise MissingFieldError(name, None, f"{field.type}: {self.owner} of {self.name} has no default for it")
            if field.schedule and full[name] is not None:
                full[name] = str(parse(full[name]))
        config = OwnConfig.from_dict(full, self.schedule_fields)
        if config.horizon < 1:
            raise ConfigError(*self._length_problem(config))
        return config

    def _length_problem(self, config: OwnConfig) -> tuple[str, object, str]:
        values = config.to_dict()
        if "epochs" in values and values["epochs"] is not None:
            return "epochs", values["epochs"], "a whole number of 1 or more"
        for name in config.schedules:
            return name, values[name], "a last epoch of 1 or more: the run has no length"
        expected = (
            f"{self.owner} of {self.name} to have a field `epochs`, or one of type Schedule: a run needs a length"
        )
        return "trainer", self.name, expected

    def stored_config(self, values: Mapping[str, Any]) -> OwnConfig:
        """See Trainer.stored_config."""
        return OwnConfig.from_dict(values, self.schedule_fields)


class MissingFieldError(ConfigError):
    """A field without a default has no value."""


class OwnTrainer(StoredTrainer):
    """A trainer of somebody's own, with its code.

    Args:
        name: its name in a study file: ``module:object``, or the name of an installed plug-in.
        function: the trainer, where it need not be imported; then the name is for messages.

    Raises:
        CodeError: it cannot be imported, is not callable, or its first parameter is not annotated with a dataclass
            whose fields a study file can give.
    """

    def __init__(self, name: str, function: Callable[..., Any] | None = None) -> None:
        self.reference = name if function is not None else resolve(GROUP, name)
        self.function: Callable[..., Any] = code.load(self.reference) if function is None else function
        """The trainer: a generator of metrics, or a function that reports them."""
        self.config_class = _config_class(self.reference, self.function)
        """The dataclass of its configuration."""
        try:
            hints = get_type_hints(self.config_class)
        except Exception as error:
            raise CodeError(
                f"{self.config_class.__name__} of {self.reference}: a type is not known: {error}"
            ) from error
        self._types: dict[str, TypeAdapter[Any]] = {}
        fields = {}
        for field in dataclasses.fields(self.config_class):
            if field.init:
                fields[field.name] = self._schema(field, hints[field.name])
        super().__init__(name, fields)
        self.owner = self.config_class.__name__

    def seconds_per_epoch(self, config: OwnConfig, run: Run) -> float | None:
        """Return what the function ``seconds_per_epoch(config, run)`` beside the trainer says; None without one.

        Raises:
            CodeError: the function raises an error, or returns no number.
        """
        offered = getattr(inspect.getmodule(inspect.unwrap(code.called(self.function))), "seconds_per_epoch", None)
        if offered is None:
            return None
        try:
            with code.not_exiting():
                return float(offered(self.instance(config), run))
        except Exception as error:
            raise CodeError(code.describe(error)) from error

    def _schema(self, field: dataclasses.Field[Any], hint: Any) -> FieldSchema:
        where = f"{self.config_class.__name__}.{field.name} of {self.reference}"
        if field.name in RESERVED:
            raise CodeError(f"{where}: expected another name; these are taken: {', '.join(sorted(RESERVED))}")
        if field.name in _WHOLE and not is_whole(hint, or_literal=field.name == "epochs"):
            raise CodeError(f"{where}: expected the type int: {_WHOLE[field.name]}")
        schedule = is_schedule(hint)
        hint = with_text(hint) if schedule else hint
        known = "expected int, float, bool, str, Schedule, Literal, an Enum, a list or tuple of these, or | None"
        try:
            if allows_table(hint):
                raise TypeError("tables of options have no place in a configuration")
            adapter: TypeAdapter[Any] = TypeAdapter(hint, config=ConfigDict(strict=True, allow_inf_nan=False))
        except (PydanticUserError, TypeError) as error:
            raise CodeError(f"{where}: a study file cannot give a {type_words(hint)}; {known}") from error
        self._types[field.name] = adapter
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        plain = None if required else self._plain_default(where, field, schedule)
        if required and field.name == "seed":  # a study always gives it
            required, plain = False, 0
        return FieldSchema(type=type_words(hint, schedule), schedule=schedule, required=required, default=plain)

    def _plain_default(self, where: str, field: dataclasses.Field[Any], schedule: bool) -> Any:
        """Return the default of a field as a study file would give it.

        Raises:
            CodeError: it has not the type of the field, or cannot be made.
        """
        default = field.default
        if field.default_factory is not dataclasses.MISSING:
            try:
                with code.not_exiting():
                    default = field.default_factory()
            except Exception as error:
                raise CodeError(f"{where}: its default: {code.describe(error)}") from error
        try:
            text = str(default) if isinstance(default, Schedule) else default
            plain = json.loads(self._types[field.name].dump_json(text, warnings=False))
            expected = self.mismatch(field.name, plain)
            if schedule and isinstance(plain, str):
                parse(plain)
            if schedule and expected:
                expected = SCHEDULE_WORDS
            if isinstance(default, float) and not math.isfinite(default):
                expected = "a finite number"  # JSON has no other
        except ScheduleError as error:
            raise CodeError(f"{where}: its default: {error}") from error
        except ValueError:
            expected = "a value that a study file can give"
        if expected:
            also = ", or `| None` in its type" if default is None else ""
            raise CodeError(f"{where}: its default is {default!r:.100}: expected {expected}{also}")
        return plain

    def mismatch(self, field: str, value: object) -> str:
        """See Trainer.mismatch."""
        if has_table(value):
            return "no table"  # a configuration is hashable
        try:
            self._valid(field, value)
        except ValidationError as error:
            return expectation(error.errors()[0]["msg"])
        except (TypeError, ValueError):
            return self.fields[field].type
        return ""

    def _valid(self, field: str, value: object) -> Any:
        # JSON's rules: a list is a tuple too, and a text the value of an Enum.
        return self._types[field].validate_json(json.dumps(value))

    def config(self, values: Mapping[str, Any]) -> OwnConfig:
        """See Trainer.config; ``Config`` is made, so that its own checks run.

        Raises:
            ConfigError: a field has an invalid value.
            ScheduleError: a schedule is not in the notation.
            CodeError: ``Config`` refuses the values with an error of its own.
        """
        valid = {name: self._valid(name, value) for name, value in values.items()}
        plain = {name: json.loads(self._types[name].dump_json(value)) for name, value in valid.items()}
        config = super().config(plain)
        self.instance(config)
        return config

    def instance(self, config: OwnConfig) -> Any:
        """Return the trainer's own ``Config`` with these values.

        Raises:
            ConfigError: ``Config`` raises one for a field of its own.
            CodeError: ``Config`` refuses the values with another error, or has changed since the study began.
        """
        values: dict[str, Any] = {}
        if gone := config.to_dict().keys() - self.fields.keys():
            raise CodeError(f"{self.owner} of {self.name} has no field {', '.join(sorted(gone))}, which the study has")
        for name, value in config.to_dict().items():
            if expected := self.mismatch(name, value):
                raise CodeError(
                    f"{self.owner}.{name} of {self.name}: the study has {value!r:.100}: expected {expected}"
                )
            schedule = config.schedules.get(name)
            values[name] = self._valid(name, value) if schedule is None else schedule
        try:
            with code.not_exiting():
                return self.config_class(**values)
        except (ConfigError, ScheduleError):
            raise
        except Exception as error:
            raise CodeError(code.describe(error)) from error


def plain_values(trainer: OwnTrainer, config: Any) -> dict[str, Any]:
    """Return the fields of a trainer's ``Config`` as a study file would give them."""
    values = {name: getattr(config, name) for name in trainer.fields}
    texts = {name: str(value) if isinstance(value, Schedule) else value for name, value in values.items()}
    return {name: json.loads(TypeAdapter(Any).dump_json(value)) for name, value in texts.items()}


def find_trainer(name: object) -> Trainer:
    """Return the trainer that a study file names; None names the one that ships.

    Raises:
        CodeError: there is none, or its code cannot be used.
    """
    if name is None or name == SHIPPED_NAME:
        return SHIPPED
    if not isinstance(name, str):
        raise CodeError(f"expected {code.EXPECTED}")
    return OwnTrainer(name)


def _config_class(reference: str, function: Any) -> type:
    """Return the dataclass with which the first parameter of a trainer is annotated."""
    if not callable(function):
        found = type(function).__name__
        raise CodeError(f"{reference} is of type {found}: expected a function train(config: Config, run: sweeps.Run)")
    parameters = list(inspect.signature(function).parameters.values())
    wanted = f"{reference}: expected two parameters, train(config: Config, run: sweeps.Run), with a dataclass Config"
    if len(parameters) < 2:
        raise CodeError(f"{wanted}; it has {len(parameters)}")
    try:
        inspect.signature(function).bind(None, None)
    except TypeError as error:
        raise CodeError(f"{wanted}; called with two: {error}") from None
    inner = inspect.unwrap(code.called(function))
    if inspect.iscoroutinefunction(inner) or inspect.isasyncgenfunction(inner):
        raise CodeError(f"{reference} is async: expected a function, or a generator, that is not")
    hint = parameters[0].annotation
    if isinstance(hint, str):
        try:
            hint = eval(hint, vars(inspect.getmodule(inner) or types))  # noqa: S307  # the user's own annotation
        except Exception as error:
            raise CodeError(f"{wanted}; {parameters[0].name}: {hint} is not known: {error}") from error
    if hint is inspect.Parameter.empty:
        raise CodeError(f"{wanted}; {parameters[0].name} has no annotation")
    if not (isinstance(hint, type) and dataclasses.is_dataclass(hint)):
        raise CodeError(f"{wanted}; {parameters[0].name} is annotated with {type_words(hint)}")
    return hint


SHIPPED = ShippedTrainer()
"""The trainer that ships."""
