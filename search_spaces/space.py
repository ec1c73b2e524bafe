"""From a study to its trials: Optuna's distributions, suggestions, and the configuration of a trial."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from resnet_core.code import is_reference
from resnet_core.config import TrialConfig
from resnet_core.own_config import Config
from resnet_core.schedule import parse_template
from search_spaces.checks import grid_expects
from search_spaces.conditions import (
    agrees,
    asked,
    branches,
    deciding,
    in_order,
    is_asked,
    only_asked,
    point_count,
    points,
)
from search_spaces.errors import StudyError
from search_spaces.parameters import Choices, Parameter, Value
from search_spaces.spec import StudySpec
from search_spaces.tables import Run
from search_spaces.trainers import SHIPPED


@dataclass(frozen=True)
class ListedRun:
    """A trial of a study without a space.

    Attributes:
        name: name of the run in the study file.
        seed: seed of the trial.
        trial_name: name of the run, followed by ``-s`` and the seed if the run is repeated or confirmed.
    """

    name: str
    seed: int
    trial_name: str


def distributions(spec: StudySpec) -> dict[str, BaseDistribution]:
    """Return Optuna's distribution of every parameter, in the file's order."""
    return {name: _distribution(parameter) for name, parameter in spec.space.items()}


def _distribution(parameter: Parameter) -> BaseDistribution:
    if isinstance(parameter, Choices):
        return CategoricalDistribution(parameter.choices)
    if parameter.whole:
        low, high, step = int(parameter.low), int(parameter.high), int(parameter.step or 1)
        return IntDistribution(low, high, log=parameter.log, step=step)
    return FloatDistribution(parameter.low, parameter.high, log=parameter.log, step=parameter.step)


def suggest(trial: optuna.Trial, spec: StudySpec) -> dict[str, Value]:
    """Return a trial's parameters, suggested one after the other in the file's order.

    A parameter with a condition comes after those that decide about it, and is left out where the condition fails.
    """
    params: dict[str, Value] = {}
    for name in in_order(spec.space):
        if is_asked(spec.space[name], params):
            params[name] = _suggest(trial, name, spec.space[name])
    return params


def _suggest(trial: optuna.Trial, name: str, parameter: Parameter) -> Value:
    if isinstance(parameter, Choices):
        choice: Value = trial.suggest_categorical(name, parameter.choices)
        return choice
    if parameter.whole:
        low, high, step = int(parameter.low), int(parameter.high), int(parameter.step or 1)
        return trial.suggest_int(name, low, high, log=parameter.log, step=step)
    return trial.suggest_float(name, parameter.low, parameter.high, log=parameter.log, step=parameter.step)


def coordinates(spec: StudySpec, params: Mapping[str, Any]) -> list[float]:
    """Return the coordinates of parameters in the study's space: a range has length 1, two choices have distance 1.

    The seed has no coordinate. A parameter that is not asked has a fixed place in the middle of its values, so that the
    distance of two configurations without it does not depend on it.

    Raises:
        KeyError: a parameter that is asked is missing.
    """
    names = asked(spec.space, params)
    return [
        x
        for name, parameter in spec.space.items()
        if name != "seed"
        for x in parameter.coordinates(params[name] if name in names else None)
    ]


def has_all(spec: StudySpec, params: Mapping[str, Any]) -> bool:
    """Return whether a trial has a value for every parameter that the study asks it for; false without a space."""
    return bool(spec.space) and params.keys() >= set(asked(spec.space, params))


def trial_config(
    spec: StudySpec, params: Mapping[str, Value], seed: int | None = None, run: str | None = None
) -> Config:
    """Return the configuration of a trial.

    Args:
        spec: the study.
        params: a value for every parameter of the space that is asked; empty for a listed run.
        seed: seed of the trial. In a study with a space, a seed in ``[train]`` or among the parameters takes
            precedence. A listed run takes this seed, or its own if this is None.
        run: name of a listed run; may be left out if the study has a single one.

    Raises:
        StudyError: a parameter is missing or unknown, or no run has that name.
        ScheduleError: a schedule is not valid with these parameters; not raised inside the space.
        ConfigError: the values make no valid configuration; not raised inside the space.
    """
    names = asked(spec.space, params)
    if params.keys() != set(names):
        given, wanted = (", ".join(some) or "none" for some in (params, names))
        raise StudyError(f"parameters {given}: expected {wanted}")
    values = spec.trial_values(params, None if spec.space else _run(spec, run).name)
    if seed is not None and "seed" in spec.trainer.fields and not (spec.space and "seed" in values):
        values["seed"] = seed
    return spec.trainer.config(values)


def fixed_fields(spec: StudySpec, config: Config) -> dict[str, Any]:
    """Return the ``[train]`` of a study that runs one configuration of this study, and samples nothing.

    It states every field, since defaults may change later: first those that this study sets or samples. Fields without
    a value are left out, and what a study notes of a data set of one's own.
    """
    values = config.to_dict()
    values.pop("data_info" if spec.trainer is SHIPPED else "", None)
    named = [*spec.train, *(name for run in spec.run for name in run.changes), *spec.space]
    order = dict.fromkeys([*(name for name in named if name in values), *values])
    trainer = {} if spec.trainer is SHIPPED else {"trainer": spec.trainer.name}
    return trainer | {name: values[name] for name in order if values[name] is not None}


def _run(spec: StudySpec, name: str | None) -> Run:
    names = [run.name for run in spec.listed]
    if name is None and len(names) == 1:
        name = names[0]
    if name not in names:
        raise StudyError(f"run {name!r}: expected one of: {', '.join(names)}")
    return spec.listed[names.index(name)]


def listed_runs(spec: StudySpec) -> list[ListedRun]:
    """Return the trials of a study without a space: each run with each seed, in the file's order.

    Without ``[search] seeds`` a run has the seed of its own fields, or of ``[train]``, or 0. In a confirmation, every
    trial's name contains the seed, since more seeds may be added later.
    """
    trials = []
    for run in spec.listed:
        seeds = spec.search.seeds or [{**spec.train, **run.changes}.get("seed", 0)]
        plain = len(seeds) == 1 and spec.phase == "search"
        trials += [ListedRun(run.name, seed, run.name if plain else f"{run.name}-s{seed}") for seed in seeds]
    return trials


def longest_horizon(spec: StudySpec) -> int:
    """Return the epochs of the study's longest possible trial."""
    if not spec.space:
        return max(trial_config(spec, {}, run=run.name).horizon for run in spec.listed)
    # A schedule's length rises with each parameter in it, so the highest values of each branch are enough.
    texts = spec.schedule_texts().values()
    epochs = frozenset().union(*(parse_template(text).epoch_parameters for text in texts))
    whole = {"epochs", *spec.trainer.schedule_fields}
    lengths = [name for name in spec.space if name in epochs | whole]
    branching = whole | set(deciding(spec.space))
    names = [name for name in deciding(spec.space, lengths) if name in branching]
    highest = {name: parameter.extremes[1] for name, parameter in spec.space.items()}
    return max(
        trial_config(spec, only_asked(spec.space, highest | branch)).horizon for branch in branches(spec.space, names)
    )


def grid_points(spec: StudySpec) -> Iterator[dict[str, Value]]:
    """Yield the parameters of every trial that the space allows, each once, in the file's order of values.

    Raises:
        StudyError: a parameter is continuous.
    """
    _grid_size(spec)
    return points(spec.space)


def _grid_size(spec: StudySpec) -> int:
    for name, parameter in spec.space.items():
        if parameter.size is None:
            raise StudyError(f"space.{name}, {parameter}: expected {grid_expects(spec.search.sampler)}")
    return point_count(spec.space)


def shipped_values(spec: StudySpec, field: str) -> set[str]:
    """Return the values that trials of the study have in a field of the trainer that ships; none with another."""
    if spec.trainer is not SHIPPED:
        return set()
    default = spec.train.get(field, getattr(TrialConfig, field))
    named = {run.changes.get(field, default) for run in spec.listed}
    sampled = distributions(spec).get(field)
    if isinstance(sampled, CategoricalDistribution):
        named |= set(sampled.choices)
    return named or {default}


def idle_parameters(spec: StudySpec) -> list[str]:
    """Return a sentence for each parameter that makes no difference in some trials.

    Only those of the trainer that ships are known. A parameter with a `when` is taken to be asked where it counts.
    """
    notes = []
    optimizers = sorted(map(str, shipped_values(spec, "optimizer")))
    for name, users in _USERS.items():
        idle = [one for one in optimizers if not is_reference(one) and one not in users]
        if name in spec.space and not spec.space[name].when and idle:
            advice = f"; give it `when`, with {' or '.join(users)}" if len(idle) < len(optimizers) else ""
            notes.append(f"space.{name} changes nothing where the optimizer is {' or '.join(idle)}{advice}")
    if optimizers and "plateau_factor" not in spec.train | spec.space:
        cuts = [name for name in spec.space if name.startswith("plateau_") and name in spec.trainer.fields]
        notes += [f"space.{name} changes nothing without plateau_factor" for name in cuts]
    return notes


_WITH_SQUARES = ("adam", "adamw", "amsgrad", "nadam", "padam")
_USERS = {"beta2": _WITH_SQUARES, "eps": _WITH_SQUARES, "padam_p": ("padam",)}
"""For each field that not every optimizer uses, those that do."""


def distinct_count(spec: StudySpec) -> float:
    """Return how many different configurations the space has; math.inf where a parameter is continuous."""
    if any(parameter.size is None for parameter in spec.space.values()):
        return math.inf
    return point_count(spec.space)


def has_one_seed(spec: StudySpec) -> bool:
    """Return whether all trials of a space have the same seed: that in ``[train]``, or none."""
    return "seed" not in spec.trainer.fields or ("seed" in spec.train and "seed" not in spec.space)


def same_trials(spec: StudySpec) -> list[str]:
    """Return the names of the listed trials that repeat an earlier one, with the same settings and the same seed."""
    seen, same = set[Config](), []
    for run in listed_runs(spec):
        config = trial_config(spec, {}, seed=run.seed, run=run.name)
        if config in seen:
            same.append(run.trial_name)
        seen.add(config)
    return same


def trial_count(spec: StudySpec) -> int:
    """Return the number of trials of the study; a crashed trial that is retried counts once."""
    if not spec.space:
        return len(listed_runs(spec))
    counts = [spec.search.trials] if spec.search.trials is not None else []
    if not spec.is_sampled:
        counts.append(_grid_size(spec))
    return min(counts)


def listed_trials(spec: StudySpec) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Return the trials that the study file determines: its runs, all points of a grid, or its first trials.

    Returns:
        For each trial its parameters (a first trial may lack some, which are sampled), and for a run ``run`` (name of
        the run), ``seed`` and ``name`` (of the trial).
    """
    if not spec.space:
        return [({}, {"run": run.name, "seed": run.seed, "name": run.trial_name}) for run in listed_runs(spec)]
    first: list[Mapping[str, Any]] = list(spec.search.first)
    if not spec.is_sampled:
        points = list(grid_points(spec))
        # Shuffled, so that the trials are spread over the space if they are fewer than the points.
        random.Random(spec.search.seed).shuffle(points)
        # For each first trial, a point that agrees with it is moved to the front.
        for wanted in reversed(first):
            chosen = next(point for point in points if agrees(point, wanted))
            points.remove(chosen)
            points.insert(0, chosen)
        first = list(points)
    return [(dict(params), {}) for params in first[: trial_count(spec)]]
