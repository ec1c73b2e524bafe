"""The tables of a study file. Each is checked by itself here; `StudySpec` checks them against each other."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PrivateAttr,
    SerializationInfo,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    model_serializer,
    model_validator,
)
from pydantic_core import PydanticCustomError

from resnet_core.code import Source
from resnet_core.config import OPTION_TABLES
from resnet_core.data import DatasetInfo
from resnet_core.objective import METRIC, Goal, Objective, default_target
from resnet_core.records import METRIC_NAME, RESERVED
from resnet_core.schedule import Schedule, parse_template
from search_spaces.errors import Problem, StudyError, as_toml, raise_problems, suggestion, wrong_value
from search_spaces.parameters import Choices, Parameter, Table, Value, int_if_whole, is_number
from search_spaces.plugins import is_exhaustive, is_own_sampler, is_stored, samplers
from search_spaces.stopping import Stopping, StoppingTable
from search_spaces.trainers import SHIPPED, SHIPPED_NAME, FieldSchema, Trainer

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_NAME_EXPECTS = (
    "1 to 64 ASCII letters, digits, '.', '_' or '-', the first a letter or digit, and no '..': "
    "it becomes a folder's name"
)
SEEDS = 2**32
"""All seeds are below this number."""
_Seed = Annotated[int, Field(ge=0, lt=SEEDS)]


def check_name(name: str) -> str:
    """Return the name of a study or run unchanged.

    Raises:
        StudyError: it cannot be the name of a folder, or would lead out of its folder.
    """
    if not _NAME.fullmatch(name) or ".." in name:
        raise StudyError(f"name = {as_toml(name)}: expected {_NAME_EXPECTS}")
    return name


def _valid_name(name: str) -> str:
    try:
        return check_name(name)
    except StudyError:
        raise PydanticCustomError("study_name", "{expected}", {"expected": _NAME_EXPECTS}) from None


_Name = Annotated[str, AfterValidator(_valid_name)]


def _valid_target(target: Any) -> Any:
    if target is None or target is False:
        return target
    if is_number(target):
        return float(target)  # 0 would be taken for false
    raise PydanticCustomError("target", "{expected}", {"expected": "a finite number; false for none"})


class ObjectiveKeys(Table):
    """``[objective]`` of a study file: what is looked for in a trial.

    Attributes:
        metric: the metric of an epoch that counts.
        goal: ``max`` if the metric should rise, ``min`` if it should fall.
        target: value of the metric to reach; false for none: then the best value itself counts. Left out, it is 0.92
            for val_acc, and none for any other metric.
        sustained: number of epochs in a row at the target or better after which it is sustained.
    """

    metric: str = METRIC
    goal: Goal = "max"
    target: Annotated[float | Literal[False] | None, BeforeValidator(_valid_target)] = None
    sustained: int = Field(default=2, ge=1)

    @model_validator(mode="after")
    def _check(self) -> Self:
        raise_problems(list(self._problems()))
        return self

    def _problems(self) -> Iterator[Problem]:
        if not METRIC_NAME.fullmatch(self.metric) or self.metric in RESERVED:
            expected = "the name of a metric: a letter, then letters, digits, spaces and any of _ . : / -"
            yield wrong_value("metric", self.metric, expected)
        elif self.metric.startswith("test_"):
            yield wrong_value("metric", self.metric, "a metric of the validation: no decision depends on test images")
        elif "goal" not in self.model_fields_set and self.metric.endswith("loss"):
            yield Problem("goal", f': missing; expected "min" or "max" beside metric = {as_toml(self.metric)}')
        if isinstance(self.target, float) and (self.metric, self.goal) == (METRIC, "max") and not 0 < self.target <= 1:
            yield wrong_value("target", int_if_whole(self.target), "an accuracy above 0 and at most 1; false for none")


def _read_objective(table: Any) -> Objective:
    """Return a table of a study file as an Objective."""
    if isinstance(table, Objective):
        return table
    keys = ObjectiveKeys.model_validate(table)
    target = default_target(keys.metric, keys.goal) if keys.target is None else keys.target
    return Objective(keys.metric, keys.goal, None if target is False else target, keys.sustained)


def _write_objective(objective: Objective, info: SerializationInfo) -> dict[str, Any]:
    """Return an Objective as the table of a study file; metric and goal only where they are not the defaults."""
    target = False if objective.target is None else objective.target
    table: dict[str, Any] = {"target": target, "sustained": objective.sustained}
    if info.exclude_defaults:
        usual = Objective(objective.metric, objective.goal, default_target(objective.metric, objective.goal))
        table = {name: value for name, value in table.items() if getattr(usual, name) != getattr(objective, name)}
    if (objective.metric, objective.goal) != (METRIC, "max"):
        table = {"metric": objective.metric, "goal": objective.goal, **table}
    return table


ObjectiveTable = Annotated[Objective, BeforeValidator(_read_objective), PlainSerializer(_write_objective)]
"""Type of a field that has the form of `ObjectiveKeys` in a study file."""


class Finalists(Table):
    """How the best configurations are repeated with fresh seeds after the search, until one is clearly the best.

    Attributes:
        top: largest number of configurations to repeat.
        seeds: largest number of fresh seeds per configuration; one with little chance to be the best gets fewer.
    """

    top: int = Field(default=8, ge=2)
    seeds: int = Field(default=4, ge=1)


def _valid_sampler(name: Any, info: ValidationInfo) -> Any:
    # A list, since the value may be unhashable. The package of a stored study's sampler need not be installed.
    if name not in list(samplers()) and not (isinstance(name, str) and (is_own_sampler(name) or is_stored(info))):
        expected = f'{", ".join(map(repr, samplers()))} or "module:object"'
        hint = suggestion(name, samplers()) if isinstance(name, str) else ""
        expected += f"; {hint}" if hint.startswith("did") else ""
        raise PydanticCustomError("sampler", "{expected}", {"expected": expected})
    return name


class Search(Table):
    """How trials are chosen.

    Attributes:
        trials: number of trials of a study with a space; with sampler ``grid``, the largest number; None without a
            space.
        sampler: Optuna's sampler: {samplers}; ``"module:object"`` or ``"optunahub:PACKAGE"`` names any other.
        sampler_options: settings of the sampler; see below.
        seed: seed of the sampler, and of the first trial.
        seeds: every listed run is repeated with each of these seeds.
        first: parameters of the first trials; those left out are sampled.
        finalists: how the best configurations are repeated once the search has ended; None repeats nothing.
        retries: how many times a crashed trial is started again.
    """

    trials: int | None = Field(default=None, ge=1)
    sampler: Annotated[str, BeforeValidator(_valid_sampler)] = "tpe"
    # Left out where it is empty, so that studies from before it existed keep their hash.
    sampler_options: dict[str, Any] = Field(default_factory=dict, exclude_if=lambda options: not options)
    seed: _Seed = 0
    seeds: list[_Seed] | None = Field(default=None, min_length=1)
    first: list[dict[str, Any]] = Field(default_factory=list)
    finalists: Finalists | None = None
    retries: int = Field(default=1, ge=0)


class Resources(Table):
    """The resources of one trial.

    Attributes:
        cpus_per_trial: CPU cores, and threads.
        gpus_per_trial: share of one GPU and of its memory, which the trial cannot exceed; 1 is a whole GPU, 0 none.
        shared_process: whether trials that share a GPU (without GPUs: a node) train in one process, each in its own
            thread and CUDA stream, with one copy of torch. The memory limit then holds for the process, not for each
            trial. If the process is killed, all its trials stop, and continue from their checkpoints.
        epoch_timeout: seconds that one epoch may take; the process of a trial that takes longer is killed, and the
            trial is tried again as after a crash. None sets no limit.
    """

    cpus_per_trial: int = Field(default=1, ge=1)
    gpus_per_trial: float = Field(default=0.0, ge=0)
    shared_process: bool = False
    epoch_timeout: float | None = Field(default=None, gt=0)

    @model_serializer(mode="wrap")
    def _serialize(self, serialized: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out a key without a value: studies of version 0.1.0 do not have it."""
        values: dict[str, Any] = serialized(self)
        if self.epoch_timeout is None:
            values.pop("epoch_timeout", None)
        return values

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.gpus_per_trial > 1:
            expected = "1 at most: a trial trains on one GPU, and further ones train other trials"
            raise_problems([wrong_value("gpus_per_trial", self.gpus_per_trial, expected)])
        if self.shared_process and self.epoch_timeout is not None:
            expected = "none with shared_process = true: to end one trial would end all trials of its process"
            raise_problems([wrong_value("epoch_timeout", self.epoch_timeout, expected)])
        if self.shared_process and self.gpus_per_trial > 0.5:
            raise_problems(
                [wrong_value("shared_process", True, "false where a GPU has one trial; it is for shares up to 0.5")]
            )
        return self


class Keep(Table):
    """Which trained networks outlive their trial.

    Attributes:
        best: number of trials whose networks are kept: the best by epochs to target, then by the value of the metric
            after their last epoch. 0 keeps none.
        all: keep the network of every trial that ends and neither diverges nor crashes.
        mlflow: when a launch has ended the study, add the kept networks to MLflow, each as a model of its trial's run.
    """

    best: int = Field(default=3, ge=0)
    all: bool = False
    mlflow: bool = False

    @property
    def any(self) -> bool:
        """Whether any network is kept."""
        return self.all or self.best > 0


class Run(Table):
    """A listed run: its name, and fields of the configuration as further keys.

    Attributes:
        name: name of the run, and of its trial.
    """

    model_config = ConfigDict(extra="allow")

    name: _Name

    @property
    def changes(self) -> dict[str, Any]:
        """Fields that differ from ``[train]``."""
        return dict(self.model_extra or {})

    @model_validator(mode="after")
    def _check(self, info: ValidationInfo) -> Self:
        raise_problems(_trainer_in(info.context).field_problems(self.changes))
        return self


def _valid_fields(values: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
    trained = {name: value for name, value in values.items() if name != "trainer"}
    raise_problems(_trainer_in(info.context).field_problems(trained))
    return trained if values.get("trainer") == SHIPPED_NAME else values


def _trainer_in(context: Any) -> Trainer:
    """Return the trainer in a context of validation; without one, the trainer that ships."""
    trainer: Trainer = (context or {}).get("trainer", SHIPPED)
    return trainer


class DataInfo(Table):
    """What a study keeps of a data set of one's own.

    Attributes:
        classes: number of classes.
        train_size: number of training images.
        test_size: number of test images.
        image_size: height and width of its images in pixels, unless a trial names another; None where it has to.
    """

    classes: int
    train_size: int
    test_size: int
    image_size: int | None = None


class Code(Table):
    """What a study keeps of the code that its file names, so that nothing has to be imported to read its results.

    Attributes:
        versions: by the name in the study file, the version of the code (`resnet_core.code.Source`).
        trainer: the fields of the trainer's configuration; empty for the trainer that ships.
        data: by the name in the study file, the sizes of its data sets of one's own.
    """

    versions: dict[str, str] = Field(default_factory=dict)
    trainer: dict[str, FieldSchema] = Field(default_factory=dict)
    data: dict[str, DataInfo] = Field(default_factory=dict)


class StudyTables(Table):
    """All tables of a study file, not checked against each other: see `search_spaces.spec.StudySpec`."""

    name: _Name
    description: str = ""
    phase: Literal["search", "confirm"] = "search"
    confirms: str = ""
    train: Annotated[dict[str, Any], AfterValidator(_valid_fields)] = Field(default_factory=dict)
    space: dict[str, Parameter] = Field(default_factory=dict)
    objective: ObjectiveTable = Objective()
    search: Search = Search()
    stopping: StoppingTable = Field(default_factory=Stopping)
    resources: Resources = Resources()
    # Left out where it is the default, as of studies from before it existed.
    keep: Keep = Field(default=Keep(), exclude_if=lambda keep: keep == Keep())
    run: list[Run] = Field(default_factory=list)
    code: Code | None = Field(default=None, json_schema_extra={"stored": True})  # no key of a study file
    _trainer: Trainer = PrivateAttr(default=SHIPPED)
    _sources: dict[str, Source] = PrivateAttr(default_factory=dict)

    def model_post_init(self, context: Any) -> None:
        """Keep the trainer and the sources that the context of validation has."""
        self._trainer = _trainer_in(context)
        self._sources = dict((context or {}).get("sources", {}))

    @property
    def sources(self) -> dict[str, Source]:
        """Where the code is that the study file names, by name; empty for a study that was read from a store."""
        return self._sources

    @property
    def trainer(self) -> Trainer:
        """The trainer of its trials."""
        return self._trainer

    @property
    def is_sampled(self) -> bool:
        """Whether a sampler proposes trials. If not, all are listed: the file's runs, or every point of a grid."""
        return bool(self.space) and not self.is_grid

    @property
    def is_grid(self) -> bool:
        """Whether the sampler tries every value."""
        return is_exhaustive(self.search.sampler)

    @property
    def listed(self) -> list[Run]:
        """The runs of a study without a space; empty for one with a space."""
        return [] if self.space else self.run or [Run(name=self.name)]

    def schedule_texts(self) -> dict[str, str]:
        """Return the texts of all schedules, by their dotted keys."""
        tables = {"train": self.train} | {f"run[{i}]": run.changes for i, run in enumerate(self.run)}
        texts = {
            f"{table}.{field}": values[field]
            for table, values in tables.items()
            for field in self.trainer.schedule_fields
            if field in values
        }
        for field in self.trainer.schedule_fields:
            parameter = self.space.get(field)
            if isinstance(parameter, Choices):
                texts |= {f"space.{field}.choices[{i}]": text for i, text in enumerate(parameter.choices)}
        return {key: text for key, text in texts.items() if isinstance(text, str)}

    def trial_values(self, params: Mapping[str, Value], run: str | None = None) -> dict[str, Any]:
        """Return the fields of a trial's configuration, with the values of its parameters in fields and schedules.

        Args:
            params: a value for every parameter of the space.
            run: name of a listed run.

        Raises:
            ScheduleError: a schedule is not valid with these values.
        """
        values = {name: value for name, value in self.train.items() if name != "trainer"}
        changes = next((listed.changes for listed in self.run if listed.name == run), {})
        tables = {name: {**values.get(name, {}), **changes[name]} for name in OPTION_TABLES if name in changes}
        values |= {**changes, **tables} if self.trainer is SHIPPED else changes
        if params:
            templates = map(parse_template, self.schedule_texts().values())
            scheduled = frozenset().union(*(template.parameters for template in templates))
            if self.trainer is not SHIPPED:  # a field of one's own has its value even where a schedule uses it too
                scheduled -= self.trainer.fields.keys()
            values |= {name: value for name, value in params.items() if name not in scheduled and not is_option(name)}
            for name in filter(is_option, params):
                table, _, option = name.partition(".")
                values[table] = {**values.get(table, {}), option: params[name]}
        numbers = {name: value for name, value in params.items() if not isinstance(value, str)}
        for field in self.trainer.schedule_fields:
            if isinstance(values.get(field), str):
                template = parse_template(values[field])
                filled = template.fill(numbers)
                values[field] = str(_readable(filled) if template.value_parameters else filled)
        data = {} if self.code is None or self.trainer is not SHIPPED else self.code.data
        info = data.get(values.get("data", "")) if data else None
        if info is not None:
            values["data_info"] = DatasetInfo(info.classes, info.train_size, info.test_size)
            if info.image_size is not None:
                values.setdefault("image_size", info.image_size)
        return values


def is_option(name: str) -> bool:
    """Return whether a parameter is an option of a network or an optimizer, such as ``model_options.width``."""
    return name.partition(".")[0] in OPTION_TABLES and "." in name


def _readable(schedule: Schedule) -> Schedule:
    """Round values to six significant digits, to be readable: 0.2*3e-3 is 6.000000000000001e-4."""
    segments = (replace(segment, value=float(f"{segment.value:.6g}")) for segment in schedule.segments)
    return Schedule(float(f"{schedule.start:.6g}"), tuple(segments))
