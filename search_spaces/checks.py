"""Checks that go beyond types: whether the tables of a study fit each other, and fit TrialConfig."""

from __future__ import annotations

import functools
import itertools
import math
import random
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, cast

from pydantic import ValidationError

from resnet_core import own
from resnet_core.code import CodeError, describe, not_exiting
from resnet_core.code import load as load_code
from resnet_core.config import ConfigError, TrialConfig
from resnet_core.own_config import Config
from resnet_core.records import METRICS
from resnet_core.schedule import ScheduleError, parse_template
from search_spaces.conditions import (
    MOST_POINTS,
    asked,
    condition_problems,
    deciding,
    only_asked,
    point_count,
    representatives,
)
from search_spaces.errors import Problem, as_toml, problems_of, suggestion, unknown_name, wrong_value
from search_spaces.parameters import Choices, Parameter, Range, Value, int_if_whole, is_number
from search_spaces.plugins import OwnRule, find_rule, find_sampler, is_own_sampler, loaded_rule
from search_spaces.tables import StudyTables, is_option
from search_spaces.trainers import SHIPPED

_SCHEDULE_EXPECTS = 'a learning rate over epochs, such as "[1e-3, 0] cos[1e-5, 20]"'
_MOST_CORNERS = 2048  # about half a second


def study_problems(spec: StudyTables) -> Iterator[Problem]:
    """Yield the problems of a study whose tables are valid, each by itself."""
    if spec.space and spec.run:
        yield Problem("run", ": expected [space] or [[run]] tables, not both")
        return
    yield from _search_problems(spec)
    if spec.keep.mlflow and spec.trainer is not SHIPPED:
        expected = "false with a trainer of one's own, whose code alone knows the network of its tensors"
        yield wrong_value("keep.mlflow", True, expected)
    yield from _trainer_problems(spec)
    yield from _phase_problems(spec)
    yield from _metric_problems(spec)
    yield from _rule_problems(spec)
    yield from _run_name_problems(spec)
    found = [*condition_problems(spec.space, spec.train)]
    conditions_hold = not found
    schedule_problems = [*_schedule_problems(spec)]
    found += [*schedule_problems, *_parameter_problems(spec, schedules_are_known=not schedule_problems)]
    yield from found
    if conditions_hold:
        yield from _grid_problems(spec)
        yield from _first_problems(spec)
    if not found:
        yield from _config_problems(spec)


def _search_problems(spec: StudyTables) -> Iterator[Problem]:
    search = spec.search
    if search.seeds and len(set(search.seeds)) < len(search.seeds):
        yield wrong_value("search.seeds", search.seeds, "every seed once")
    if search.finalists is not None and "seed" in spec.space:
        yield Problem(
            "search.finalists", ": expected none where the space has the seed: finalists have seeds of their own"
        )
    if not spec.space:
        if search.trials is not None:
            runs, seeds = len(spec.listed), len(search.seeds or [0])
            expected = f"none: without a [space] there are runs x seeds = {runs * seeds} trials"
            yield wrong_value("search.trials", search.trials, expected)
        return
    if search.seeds is not None:
        yield wrong_value("search.seeds", search.seeds, "none with a [space]: seeds repeat [[run]] tables")
    if not spec.is_grid:
        if search.trials is None:
            yield Problem("search.trials", ": missing; expected how many trials to run, a whole number of at least 1")
        return
    for name, parameter in spec.space.items():
        if parameter.size is None:
            values = parameter.model_dump(by_alias=True, exclude_defaults=True)
            yield wrong_value(f"space.{name}", values, grid_expects(search.sampler))


def _grid_problems(spec: StudyTables) -> Iterator[Problem]:
    """Yield whether a grid has too many points: all of them are listed, so that the trials are spread over them."""
    if not spec.is_grid or any(parameter.size is None for parameter in spec.space.values()):
        return
    # Those that decide about others first: the points are counted for each of their combinations.
    sizes = [spec.space[name].size or 0 for name in deciding(spec.space)]
    if math.prod(sizes) > MOST_POINTS or point_count(spec.space) > MOST_POINTS:
        largest = max(spec.space, key=lambda name: spec.space[name].size or 0)
        yield Problem(
            "space",
            f": the grid has more than {MOST_POINTS:,} points; expected fewer, such as a larger step or fewer values "
            f'of {largest} ({spec.space[largest].size:,} values), or sampler = "random", which lists no points',
        )


def _trainer_problems(spec: StudyTables) -> Iterator[Problem]:
    """Yield what a study cannot do with a trainer of somebody's own."""
    trainer = spec.trainer
    if trainer is SHIPPED:
        return
    if spec.resources.shared_process:
        expected = (
            f"false with {trainer.name}: trials in one process would share the random numbers and the global variables "
            "of its code; gpus_per_trial below 1 shares a GPU between processes"
        )
        yield wrong_value("resources.shared_process", True, expected)
    if "seed" in trainer.fields:
        return
    why = f"{trainer.owner} of {trainer.name} has no field `seed`, so runs of one configuration would be equal"
    if spec.search.seeds is not None:
        yield wrong_value("search.seeds", spec.search.seeds, f"none: {why}")
    if spec.search.finalists is not None:
        yield Problem("search.finalists", f": expected none: {why}")


def _phase_problems(spec: StudyTables) -> Iterator[Problem]:
    if spec.phase == "search":
        expected = "none in a search: the test images are for the confirmation; see `sweeps confirm`"
        tables = {"train": spec.train} | {f"run[{i}]": run.changes for i, run in enumerate(spec.run)}
        is_shipped = spec.trainer is SHIPPED  # of another trainer, such a field is its own
        for key, values in tables.items():
            if is_shipped and values.get("test"):
                yield wrong_value(f"{key}.test", True, expected)
        if is_shipped and "test" in spec.space:
            yield Problem("space.test", f": expected {expected}")
        if spec.confirms:
            yield wrong_value(
                "confirms", spec.confirms, 'none in a search; phase = "confirm" beside it, or leave it out'
            )
        return
    if spec.space:
        yield Problem("space", f": {FROZEN} has no space; list its run with its values")
    if len(spec.run) > 1:
        yield Problem("run", f": {FROZEN} has one run; it is repeated with search.seeds")
    for name, rule in sorted(spec.stopping.rules.items()):
        expected = "none" if type(rule).model_fields else "false"
        yield Problem(f"stopping.{name}", f": expected {expected}: {FROZEN} stops no trial early")


FROZEN = 'phase = "confirm"'


def grid_expects(sampler: str) -> str:
    """Return what an exhaustive sampler expects of a parameter, for a message."""
    return f'a step, int = true or choices: sampler = "{sampler}" tries every value'


def _metric_problems(spec: StudyTables) -> Iterator[Problem]:
    metric = spec.objective.metric
    if spec.trainer is SHIPPED and metric not in METRICS:
        known = [name for name in METRICS if not name.startswith("test_")]
        yield unknown_name("objective.metric", metric, known, "metric of the trainer that ships", metric)


def _rule_problems(spec: StudyTables) -> Iterator[Problem]:
    for name, rule in spec.stopping.rules.items():
        for key, text in rule.problems({*spec.trainer.fields, *spec.space}):
            yield Problem(f"stopping.{name}.{key}", text)
        if rule.needs_target and spec.objective.target is None:
            expected = "none" if type(rule).model_fields else "false"
            yield Problem(f"stopping.{name}", f": expected {expected}: the rule needs a target, and the study has none")
        for key in rule.differences if spec.objective.is_accuracy else ():
            if getattr(rule, key) >= 1:
                expected = "less than 1: it is a difference of accuracies"
                yield wrong_value(f"stopping.{name}.{key}", int_if_whole(getattr(rule, key)), expected)


def _run_name_problems(spec: StudyTables) -> Iterator[Problem]:
    first: dict[str, int] = {}
    for i, run in enumerate(spec.run):
        if first.setdefault(run.name, i) != i:
            yield wrong_value(f"run[{i}].name", run.name, f"a name of its own; run[{first[run.name]}] has this one")


def _schedule_problems(spec: StudyTables) -> Iterator[Problem]:
    tables = (spec.train, spec.space, *(run.changes for run in spec.run))
    for name, field in spec.trainer.fields.items():
        if field.required and not any(name in table for table in tables):
            yield Problem(f"train.{name}", f": missing; expected {_missing_expects(spec, name)}")
    for key, text in spec.schedule_texts().items():
        try:
            template = parse_template(text)
            if template.parameters - spec.space.keys():
                template.fill(dict.fromkeys(spec.space, 1.0))  # raises the error on the unknown name, with a caret
        except ScheduleError as error:
            yield Problem(key, f": {error}")


def _missing_expects(spec: StudyTables, field: str) -> str:
    trainer = spec.trainer
    if trainer is SHIPPED:
        return _SCHEDULE_EXPECTS
    return f"{trainer.fields[field].type}: {trainer.owner} of {trainer.name} has no default for it"


def _parameter_problems(spec: StudyTables, schedules_are_known: bool) -> Iterator[Problem]:
    templates = []
    for text in spec.schedule_texts().values():
        try:
            templates.append(parse_template(text))
        except ScheduleError:
            continue  # reported already
    in_values = frozenset().union(*(template.value_parameters for template in templates))
    in_epochs = frozenset().union(*(template.epoch_parameters for template in templates))
    for name, parameter in spec.space.items():
        table, _, option = name.partition(".")
        if option and option in spec.train.get(table, {}) and not parameter.when:
            expected = "it in [train] or in [space], not in both, unless it has a `when` there"
            yield wrong_value(f"train.{name}", spec.train[table][option], expected)
        if name in spec.train and (name in in_values | in_epochs or not parameter.when):
            expected = "it in [train] or in [space], not in both, unless it has a `when` there"
            yield wrong_value(f"train.{name}", spec.train[name], expected)
        if name in in_values | in_epochs:
            yield from _scheduled_parameter_problems(name, parameter, name in in_epochs)
            if spec.trainer is not SHIPPED and name in spec.trainer.fields:
                yield from _field_parameter_problems(spec, name, parameter)
        elif name in spec.trainer.fields or (is_option(name) and spec.trainer is SHIPPED):
            yield from _field_parameter_problems(spec, name, parameter)
        elif schedules_are_known:
            hint = suggestion(name, spec.trainer.fields)
            owner = spec.trainer.owner
            hint = hint if hint.startswith("did") else f"expected a field of {owner}, or a name that a schedule uses"
            yield Problem(f"space.{name}", f": nothing uses it; {hint}")


def _scheduled_parameter_problems(name: str, parameter: Parameter, is_epoch: bool) -> Iterator[Problem]:
    key = f"space.{name}.{'low' if isinstance(parameter, Range) else 'choices'}"
    if isinstance(parameter, Choices) and not all(map(is_number, parameter.choices)):
        yield wrong_value(key, parameter.choices, "numbers, because a schedule uses it")
    elif is_epoch and not parameter.extremes[0] > 0:  # type: ignore[operator]  # they are numbers, by the line above
        yield wrong_value(
            key, int_if_whole(parameter.extremes[0]), "more than 0, because a schedule uses it as an epoch"
        )


def _field_parameter_problems(spec: StudyTables, name: str, parameter: Parameter) -> Iterator[Problem]:
    type_mismatch = spec.trainer.mismatch
    if isinstance(parameter, Choices):
        for i, choice in enumerate(parameter.choices):
            if expected := type_mismatch(name, choice):
                yield wrong_value(f"space.{name}.choices[{i}]", choice, expected)
    elif expected := type_mismatch(name, parameter.extremes[0]):
        if not parameter.whole and not type_mismatch(name, 1):
            expected = f"int = true beside it: {name} is a whole number"
        yield wrong_value(f"space.{name}.low", int_if_whole(parameter.low), expected)


def _first_problems(spec: StudyTables) -> Iterator[Problem]:
    for i, trial in enumerate(spec.search.first):
        names = asked(spec.space, trial)
        for name, value in trial.items():
            key = f"search.first[{i}].{name}"
            if name not in spec.space:
                yield unknown_name(key, value, spec.space, "parameter")
            elif not spec.space[name].contains(value):
                yield wrong_value(key, value, str(spec.space[name]))
            elif name not in names:
                yield wrong_value(key, value, f"none, or {_conditions(spec, name)} beside it")


def _conditions(spec: StudyTables, name: str) -> str:
    """Return the condition of a parameter, as text for a message."""
    return " and ".join(
        f"{other} = {' or '.join(map(as_toml, values))}" for other, values in (spec.space[name].when or {}).items()
    )


def _config_problems(spec: StudyTables, check: Callable[[Config], object] = lambda _: None) -> Iterator[Problem]:
    """Yield the problems of the configurations of trials; ``check`` raises ConfigError or CodeError for more."""
    for i, run in enumerate(spec.listed):
        yield from _trial_problems(spec, {}, run.name, f"run[{i}]" if spec.run else "", check)
    for params in corners(spec):
        found = list(_trial_problems(spec, params, None, "", check))
        if found:  # other corners usually have the same problem
            yield from found
            return


def _trial_problems(
    spec: StudyTables,
    params: Mapping[str, Value],
    run: str | None,
    run_key: str,
    check: Callable[[Config], object],
) -> Iterator[Problem]:
    """Yield the problems that prevent a trial's configuration."""
    try:
        values = spec.trial_values(params, run)
    except ScheduleError as error:
        key = next(key for key, text in spec.schedule_texts().items() if text == error.text)
        needed = parse_template(error.text).parameters
        for name in sorted(needed & spec.space.keys() - params.keys()):
            at = _at(params, deciding(spec.space, [name]))
            expected = f"a schedule that does not need {name}, which a trial has only where {_conditions(spec, name)}"
            yield Problem(key, f": {at}: expected {expected}")
            return
        at = _at(params, needed)
        yield Problem(key, f": {at}: {error}" if at else f": {error}")
        return
    reported: set[str] = set()
    while True:  # a configuration reports one wrong field at a time
        missing = [name for name, field in spec.trainer.fields.items() if field.required and name not in values]
        if missing:
            yield from (
                Problem(f"{run_key or 'train'}.{name}", f": missing; expected {_missing_expects(spec, name)}")
                for name in missing
            )
            return
        try:
            check(spec.trainer.config(values))
            return
        except CodeError as error:
            at = _at(params, params.keys())
            yield Problem(run_key or "train", f": {error} ({at})" if at else f": {error}")
            return
        except ScheduleError as error:  # a schedule that the trainer's own configuration has made
            yield Problem(run_key or "train", f": {error}")
            return
        except ConfigError as error:
            field = error.field
            key = _key_of(spec, field, params, run, run_key)
            if field in reported:  # it has no default that would do
                return
            reported.add(field)
            if error.value is None:
                yield Problem(key, f": missing; expected {error.expected}")
                return
            at = _at(params, params.keys() if field in spec.trainer.schedule_fields else values.keys() - {field})
            yield wrong_value(key, error.value, f"{error.expected} ({at})" if at else error.expected)
            known = spec.trainer.fields.get(field)
            if field not in values or known is None or known.schedule or known.required or field == "data":
                return  # what else is wrong depends on it
            del values[field]


def _key_of(spec: StudyTables, field: str, params: Mapping[str, Value], run: str | None, run_key: str) -> str:
    if field in params:
        parameter = spec.space[field]
        if isinstance(parameter, Choices):
            return f"space.{field}.choices"
        return f"space.{field}.{'low' if params[field] == parameter.extremes[0] else 'high'}"
    table, _, option = field.partition(".")
    if any(option in listed.changes.get(table, ()) for listed in spec.run if option and listed.name == run):
        return f"{run_key}.{field}"
    if any(field in listed.changes for listed in spec.run if listed.name == run):
        return f"{run_key}.{field}"
    return f"train.{field}"


def _at(params: Mapping[str, Value], names: Collection[str]) -> str:
    said = ", ".join(f"{name} = {as_toml(int_if_whole(value))}" for name, value in params.items() if name in names)
    return said and f"at {said}"


def corners(spec: StudyTables) -> Iterator[dict[str, Value]]:
    """Yield parameters at the corners of the space: if these make valid trials, all other parameters do too.

    Epochs of a schedule are linear in their parameters, so they rise everywhere in the space if they rise at each
    corner. Every other number has its own bounds, so its lowest and its highest value are enough. All choices are
    combined, and all values that decide whether a parameter is asked; a corner lacks the parameters that are not. In a
    space with too many corners, a random share of them is checked, with every choice at least once.
    """
    if not spec.space:
        return
    epochs = frozenset().union(*(parse_template(t).epoch_parameters for t in spec.schedule_texts().values()))
    lows, highs = ({name: p.extremes[end] for name, p in spec.space.items()} for end in (0, 1))
    axes: list[list[dict[str, Value]]] = [[lows, highs]]
    decides = deciding(spec.space)
    for name, parameter in spec.space.items():
        if name in decides:
            axes.append([{name: value} for value in representatives(spec.space, name)])
        elif name in epochs:
            axes.append([{name: end} for end in parameter.extremes])
        elif isinstance(parameter, Choices):
            axes.append([{name: choice} for choice in parameter.choices])
    if math.prod(map(len, axes)) <= _MOST_CORNERS:
        combinations: Iterator[tuple[dict[str, Value], ...]] = itertools.product(*axes)
    else:
        draw = random.Random(0)
        combinations = itertools.chain(
            ((lows, change) for axis in axes for change in axis),
            (tuple(draw.choice(axis) for axis in axes) for _ in range(_MOST_CORNERS)),
        )
    seen: set[tuple[tuple[str, Value], ...]] = set()
    for combination in combinations:
        corner: dict[str, Value] = {}
        for part in combination:
            corner |= part
        corner = only_asked(spec.space, corner)
        key = tuple(corner.items())
        if not decides or key not in seen:
            seen.add(key)
            yield corner


def code_problems(spec: StudyTables) -> Iterator[Problem]:
    """Import what a study names of the user's own, and yield what is wrong with it.

    A sampler that ships is made, too, where the study has settings for it.
    """
    for reference, rule in spec.stopping.rules.items():
        if isinstance(rule, OwnRule):
            yield from _own_rule_problems(spec, f"stopping.{reference}", rule)
    if spec.code is not None and spec.trainer is SHIPPED:
        load, dataset = functools.cache(load_code), functools.cache(own.dataset)
        yield from _config_problems(spec, lambda config: own.resolve(cast(TrialConfig, config), load, dataset))
    search = spec.search
    if search.sampler_options and not spec.is_sampled:
        yield Problem("search.sampler_options", ": expected none: no sampler draws, since the trials are listed")
    elif search.sampler_options or is_own_sampler(search.sampler):
        yield from _sampler_problems(search.sampler, search.sampler_options)


def _own_rule_problems(spec: StudyTables, key: str, rule: OwnRule) -> Iterator[Problem]:
    try:
        loaded = loaded_rule(rule)
        for setting, text in loaded.problems({*spec.trainer.fields, *spec.space}):
            yield Problem(f"{key}.{setting}", text)
    except CodeError as error:
        yield Problem(key, f": {error}")
    except ValidationError as error:
        kind = find_rule(rule.reference)
        yield from (Problem(f"{key}.{name}", text) for name, text in problems_of(error, lambda _: [kind]))


def _sampler_problems(name: str, options: Mapping[str, Any]) -> Iterator[Problem]:
    try:
        sampler = find_sampler(name)
    except CodeError as error:
        yield Problem("search.sampler", f": {error}")
        return
    table = "search.sampler_options"
    known = sampler.parameters()
    any_name = any(one.kind is one.VAR_KEYWORD for one in known.values())
    named = {key: one for key, one in known.items() if one.kind is not one.VAR_KEYWORD}
    problems: list[Problem] = []
    for key, value in options.items():
        if key == "seed":
            problems.append(wrong_value(f"{table}.seed", value, "none: search.seed is the seed of the sampler"))
        elif key not in named and not any_name:
            problems.append(unknown_name(f"{table}.{key}", value, named, "setting", key))
        elif expected := sampler.mismatch(key, value):
            problems.append(wrong_value(f"{table}.{key}", value, expected))
    for key, one in named.items():
        if one.default is one.empty and key not in options:
            problems.append(Problem(f"{table}.{key}", f": missing; expected a value, since {name} requires it"))
    yield from problems
    if problems:
        return
    try:
        with warnings.catch_warnings(), not_exiting():
            warnings.simplefilter("ignore")
            sampler.make(0, [], **options)
    except CodeError as error:
        yield Problem("search.sampler", f": {error}")
    except Exception as error:
        if options:
            yield Problem(table, f" = {as_toml(dict(options))}: {name} does not take it: {describe(error)}")
        else:
            yield Problem("search.sampler", f": {name} cannot be made: {describe(error)}")
