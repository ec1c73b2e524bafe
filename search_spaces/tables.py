"""The tables of a study file, each right by itself; StudySpec is what is right as a whole."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import replace
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from resnet_core.config import SCHEDULE_FIELDS
from resnet_core.schedule import Schedule, parse_template
from search_spaces.errors import Problem, StudyError, reject, shown, unknown, wrong
from search_spaces.fields import field_problems
from search_spaces.parameters import Choices, Parameter, Table, Value

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_NAME_EXPECTS = (
    "1 to 64 ASCII letters, digits, '.', '_' or '-', the first a letter or digit, and no '..': "
    "it becomes a folder's name"
)
_Seed = Annotated[int, Field(ge=0, lt=2**32)]
_HALF = 0.5  # of a chance this high, or higher, there is no double


def check_name(name: str) -> str:
    """Return the name of a study or run as it is.

    Raises:
        StudyError: it cannot be a folder's name, or would leave its folder.
    """
    if not _NAME.fullmatch(name) or ".." in name:
        raise StudyError(f"name = {shown(name)}: expected {_NAME_EXPECTS}")
    return name


def _valid_name(name: str) -> str:
    try:
        return check_name(name)
    except StudyError:
        raise PydanticCustomError("study_name", "{expected}", {"expected": _NAME_EXPECTS}) from None


_Name = Annotated[str, AfterValidator(_valid_name)]


class Objective(Table):
    """What counts as reached.

    Attributes:
        target: validation accuracy to reach.
        sustained: so many epochs in a row at or above the target.
    """

    target: float = Field(default=0.92, gt=0, le=1)
    sustained: int = Field(default=2, ge=1)


class Finalists(Table):
    """After the search its best configurations are run again with fresh seeds, until it is clear which is the best.

    Attributes:
        top: so many configurations at most.
        seeds: so many fresh seeds each at most; whoever has little chance to be the best gets fewer.
    """

    top: int = Field(default=8, ge=2)
    seeds: int = Field(default=4, ge=1)


class Search(Table):
    """How trials are chosen.

    Attributes:
        trials: how many, for a space; with sampler ``grid`` at most so many. None without a space.
        sampler: Optuna's sampler: ``tpe`` (multivariate, aware of running trials), ``gp``, ``random``, ``cmaes`` or
            ``grid``.
        seed: the sampler's, and the first trial's.
        seeds: every listed run is repeated with each of these.
        first: parameters of the first trials; those left out are sampled.
        finalists: how the best configurations are run again once the search has ended; None runs none again.
        retries: times a crashed trial is tried again.
    """

    trials: int | None = Field(default=None, ge=1)
    sampler: Literal["tpe", "gp", "random", "cmaes", "grid"] = "tpe"
    seed: _Seed = 0
    seeds: list[_Seed] | None = Field(default=None, min_length=1)
    first: list[dict[str, Any]] = Field(default_factory=list)
    finalists: Finalists | None = None
    retries: int = Field(default=1, ge=0)


class Cap(Table):
    """Stops a trial that has used more epochs than slack times the best-th smallest epochs-to-target so far.

    Attributes:
        best: rank among the trials that reached the target, from 1.
        slack: factor on the epochs of that trial.
        per: a field of TrialConfig or a parameter: trials are ranked among those that have the same value of
            it; None ranks all together.
    """

    best: int = Field(ge=1)
    slack: float = Field(ge=1)
    per: str | None = None


class CannotReach(Table):
    """Stops a trial that is below every trial that reached the target, at the same share of its own schedule.

    Attributes:
        after: share of its schedule a trial is let alone for.
        trials: so many trials must have reached the target.
        margin: how far below the lowest of them a trial may be, as an accuracy.
    """

    after: float = Field(default=0.3, gt=0, lt=1)
    trials: int = Field(default=10, ge=1)
    margin: float = Field(default=0.0, ge=0, lt=1)


class Asha(Table):
    """Stops a trial that is not in the top 1/reduction at a rung: after·reductionᵏ of its own schedule.

    Attributes:
        reduction: of so many trials at a rung one goes on.
        after: share of the schedule at the first rung.
    """

    reduction: int = Field(default=3, ge=2)
    after: float = Field(default=0.25, gt=0, lt=1)


class Median(Table):
    """Stops a trial below the median of the others' running averages, at the same share of its own schedule.

    Attributes:
        after: share of its schedule a trial is let alone for.
        trials: so many others must have come to the same share.
    """

    after: float = Field(default=0.3, gt=0, lt=1)
    trials: int = Field(default=5, ge=1)


class Patience(Table):
    """Stops a trial whose val_acc no longer rises, once its learning rate is past its peak.

    Attributes:
        epochs: so many in a row without a higher val_acc.
        min_delta: by how much val_acc must be higher to count, as an accuracy.
    """

    epochs: int = Field(default=10, ge=1)
    min_delta: float = Field(default=0.0, ge=0, lt=1)


class Forecast(Table):
    """Stops a trial whose configuration has little chance to be among the best, by what all others came to.

    Attributes:
        chance: probability below which a trial is ended.
        best: of so many configurations it would have to be one.
        trials: so many configurations must have run to their end or to the target.
    """

    chance: float = Field(default=0.05, gt=0, lt=1)
    best: int = Field(default=5, ge=1)
    trials: int = Field(default=10, ge=3)


class Stopping(Table):
    """Which rules end a trial early. A rule that is a table is off where it is None.

    Attributes:
        diverged: the loss is not finite, or the accuracy is stuck at chance.
        at_target: the target is sustained.
        cap: the trial is slow beside the best so far.
        cannot_reach: no trial has reached the target from this far below.
        asha: asynchronous successive halving on shares of each trial's own schedule.
        median: the median stopping rule on shares of each trial's own schedule.
        patience: the accuracy no longer rises.
        forecast: the configuration has little chance to be among the best, by what all others came to.
        freeze: keep the checkpoints of what forecast ends, and go on with a trial whose chance has come to twice the
            limit.
        control: share of trials that are never stopped, to measure what stopping costs.
        shadow: rules, out of those above, that are recorded and never stop a trial.
    """

    diverged: bool = True
    at_target: bool = False
    cap: Cap | None = None
    cannot_reach: CannotReach | None = None
    asha: Asha | None = None
    median: Median | None = None
    patience: Patience | None = None
    forecast: Forecast | None = None
    freeze: bool = False
    control: float = Field(default=0.0, ge=0, lt=1)
    shadow: list[str] = Field(default_factory=list)

    def switched_on(self) -> dict[str, dict[str, Any]]:
        """Return the settings of every rule that is switched on, those in shadow too, by its key."""
        tables = {key: getattr(self, key) for key in self._rules()}
        return {
            key: table.model_dump() if isinstance(table, Table) else {}
            for key, table in tables.items()
            if table is not None and table is not False
        }

    @model_validator(mode="after")
    def _check(self) -> Self:
        problems = shadow_problems(self.shadow, self._rules(), self.switched_on())
        if self.freeze and (self.forecast is None or "forecast" in self.shadow):
            problems.append(wrong("freeze", True, "false, or forecast beside it: other rules tell no chance"))
        elif self.freeze and self.forecast is not None and self.forecast.chance >= _HALF:
            problems.append(wrong("freeze", True, "false where forecast.chance is 0.5 or more: none is twice that"))
        reject(problems)
        return self

    @classmethod
    def _rules(cls) -> Set[str]:
        return cls.model_fields.keys() - {"freeze", "control", "shadow"}


def shadow_problems(shadow: Sequence[str], rules: Collection[str], switched_on: Collection[str]) -> list[Problem]:
    """Return the problems of rules that are to be in shadow and are none, are off, or come twice."""
    problems = []
    for i, name in enumerate(shadow):
        key = f"shadow[{i}]"
        if name not in rules:
            problems.append(unknown(key, name, rules, "rule", name))
        elif name not in switched_on:
            problems.append(wrong(key, name, f"a rule that is switched on; set {name} beside it, or leave it out here"))
        elif name in shadow[:i]:
            problems.append(wrong(key, name, "every rule once"))
    return problems


class Resources(Table):
    """What one trial takes.

    Attributes:
        cpus_per_trial: CPU cores, and threads.
        gpus_per_trial: A share of one GPU, with that share of its memory at most; 1 is all of it, 0 none.
        shared_process: Whether trials that share a GPU, or without GPUs a node, train in one process: a thread and a
            stream each, one copy of torch. The limit of memory is then the process's, not each trial's, and
            what kills the process stops all of them; they go on from their checkpoints.
    """

    cpus_per_trial: int = Field(default=1, ge=1)
    gpus_per_trial: float = Field(default=0.0, ge=0)
    shared_process: bool = False

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.gpus_per_trial > 1:
            expected = "1 at most: a trial trains on one GPU, and further ones train other trials"
            reject([wrong("gpus_per_trial", self.gpus_per_trial, expected)])
        if self.shared_process and self.gpus_per_trial > 0.5:
            reject([wrong("shared_process", True, "false where a GPU has one trial; it is for shares up to 0.5")])
        return self


class Run(Table):
    """A listed run.

    Attributes:
        name: its name, and so its trial's.
    """

    model_config = ConfigDict(extra="allow")

    name: _Name

    @property
    def changes(self) -> dict[str, Any]:
        """The fields of TrialConfig that differ from ``[train]``."""
        return dict(self.model_extra or {})

    @model_validator(mode="after")
    def _check(self) -> Self:
        reject(field_problems(self.changes))
        return self


def _valid_fields(values: dict[str, Any]) -> dict[str, Any]:
    reject(field_problems(values))
    return values


class StudyTables(Table):
    """All tables of a study file, not compared with each other yet: see `search_spaces.spec.StudySpec`."""

    name: _Name
    description: str = ""
    phase: Literal["search", "confirm"] = "search"
    confirms: str = ""
    train: Annotated[dict[str, Any], AfterValidator(_valid_fields)] = Field(default_factory=dict)
    space: dict[str, Parameter] = Field(default_factory=dict)
    objective: Objective = Objective()
    search: Search = Search()
    stopping: Stopping = Stopping()
    resources: Resources = Resources()
    run: list[Run] = Field(default_factory=list)

    @property
    def listed(self) -> list[Run]:
        """The runs of a study without a space; empty for one with a space."""
        return [] if self.space else self.run or [Run(name=self.name)]

    def schedule_texts(self) -> dict[str, str]:
        """Return all schedules, as written, under their dotted keys."""
        tables = {"train": self.train} | {f"run[{i}]": run.changes for i, run in enumerate(self.run)}
        texts = {
            f"{table}.{field}": values[field]
            for table, values in tables.items()
            for field in SCHEDULE_FIELDS
            if field in values
        }
        for field in SCHEDULE_FIELDS:
            parameter = self.space.get(field)
            if isinstance(parameter, Choices):
                texts |= {f"space.{field}.choices[{i}]": text for i, text in enumerate(parameter.choices)}
        return {key: text for key, text in texts.items() if isinstance(text, str)}

    def trial_values(self, params: Mapping[str, Value], run: str | None = None) -> dict[str, Any]:
        """Return the fields of a trial's TrialConfig, with its parameters put into fields and schedules.

        Args:
            params: a value for every parameter of the space.
            run: name of a listed run.

        Raises:
            ScheduleError: the values break a rule of the notation.
        """
        values = dict(self.train)
        values |= next((listed.changes for listed in self.run if listed.name == run), {})
        if params:
            templates = map(parse_template, self.schedule_texts().values())
            scheduled = frozenset().union(*(template.parameters for template in templates))
            values |= {name: value for name, value in params.items() if name not in scheduled}
        numbers = {name: value for name, value in params.items() if not isinstance(value, str)}
        for field in SCHEDULE_FIELDS:
            if isinstance(values.get(field), str):
                template = parse_template(values[field])
                filled = template.fill(numbers)
                values[field] = str(_readable(filled) if template.value_parameters else filled)
        return values


def _readable(schedule: Schedule) -> Schedule:
    """Round values to six significant digits: 0.2*3e-3 is 6.000000000000001e-4, and a schedule is for people too."""
    segments = (replace(segment, value=float(f"{segment.value:.6g}")) for segment in schedule.segments)
    return Schedule(float(f"{schedule.start:.6g}"), tuple(segments))
