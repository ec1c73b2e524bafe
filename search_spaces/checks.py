"""Checks that go beyond types: whether the tables of a study fit each other, and fit TrialConfig."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Collection, Iterator, Mapping

from resnet_core.code import CodeError
from resnet_core.config import ConfigError
from resnet_core.schedule import ScheduleError, parse_template
from search_spaces.errors import Problem, as_toml, suggestion, unknown_name, wrong_value
from search_spaces.parameters import Choices, Parameter, Range, Value, int_if_whole, is_number
from search_spaces.plugins import samplers
from search_spaces.tables import StudyTables
from search_spaces.trainers import SHIPPED

_SCHEDULE_EXPECTS = 'a learning rate over epochs, such as "[1e-3, 0] cos[1e-5, 20]"'
_MOST_CORNERS = 2048  # about half a second


def study_problems(spec: StudyTables) -> Iterator[Problem]:
    """Yield the problems of a study whose tables are valid, each by itself."""
    if spec.space and spec.run:
        yield Problem("run", ": expected [space] or [[run]] tables, not both")
        return
    yield from _search_problems(spec)
    yield from _trainer_problems(spec)
    yield from _phase_problems(spec)
    yield from _rule_problems(spec)
    yield from _run_name_problems(spec)
    found = [*_schedule_problems(spec)]
    found += _parameter_problems(spec, schedules_are_known=not found)
    yield from found
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
    if not samplers()[search.sampler].exhaustive:
        if search.trials is None:
            yield Problem("search.trials", ": missing; expected how many trials to run, a whole number of at least 1")
        return
    for name, parameter in spec.space.items():
        if parameter.size is None:
            values = parameter.model_dump(by_alias=True, exclude_defaults=True)
            yield wrong_value(f"space.{name}", values, grid_expects(search.sampler))


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
        for key, values in tables.items():
            if values.get("test"):
                yield wrong_value(f"{key}.test", True, expected)
        if "test" in spec.space:
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


def _rule_problems(spec: StudyTables) -> Iterator[Problem]:
    for name, rule in spec.stopping.rules.items():
        for key, text in rule.problems({*spec.trainer.fields, *spec.space}):
            yield Problem(f"stopping.{name}.{key}", text)


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
        if name in spec.train:
            yield wrong_value(f"train.{name}", spec.train[name], "it in [train] or in [space], not in both")
        if name in in_values | in_epochs:
            yield from _scheduled_parameter_problems(name, parameter, name in in_epochs)
        elif name in spec.trainer.fields:
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
        for name, value in trial.items():
            key = f"search.first[{i}].{name}"
            if name not in spec.space:
                yield unknown_name(key, value, spec.space, "parameter")
            elif not spec.space[name].contains(value):
                yield wrong_value(key, value, str(spec.space[name]))


def _config_problems(spec: StudyTables) -> Iterator[Problem]:
    for i, run in enumerate(spec.listed):
        yield from _trial_problems(spec, {}, run.name, f"run[{i}]")
    for params in corners(spec):
        found = list(_trial_problems(spec, params, None, ""))
        if found:  # other corners usually have the same problem
            yield from found
            return


def _trial_problems(spec: StudyTables, params: Mapping[str, Value], run: str | None, run_key: str) -> Iterator[Problem]:
    """Yield the problems that prevent a trial's configuration."""
    try:
        values = spec.trial_values(params, run)
    except ScheduleError as error:
        key = next(key for key, text in spec.schedule_texts().items() if text == error.text)
        at = _at(params, parse_template(error.text).parameters)
        yield Problem(key, f": {at}: {error}" if at else f": {error}")
        return
    while True:  # a configuration reports one wrong field at a time
        missing = [name for name, field in spec.trainer.fields.items() if field.required and name not in values]
        if missing:
            yield from (
                Problem(f"{run_key}.{name}", f": missing; expected {_missing_expects(spec, name)}") for name in missing
            )
            return
        try:
            spec.trainer.config(values)
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
            at = _at(params, params.keys() if field in spec.trainer.schedule_fields else values.keys() - {field})
            yield wrong_value(key, error.value, f"{error.expected} ({at})" if at else error.expected)
            if field in spec.trainer.schedule_fields or field not in values:
                return
            del values[field]


def _key_of(spec: StudyTables, field: str, params: Mapping[str, Value], run: str | None, run_key: str) -> str:
    if field in params:
        parameter = spec.space[field]
        if isinstance(parameter, Choices):
            return f"space.{field}.choices"
        return f"space.{field}.{'low' if params[field] == parameter.extremes[0] else 'high'}"
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
    combined. In a space with too many corners, a random share of them is checked, with every choice at least once.
    """
    if not spec.space:
        return
    epochs = frozenset().union(*(parse_template(t).epoch_parameters for t in spec.schedule_texts().values()))
    lows, highs = ({name: p.extremes[end] for name, p in spec.space.items()} for end in (0, 1))
    axes: list[list[dict[str, Value]]] = [[lows, highs]]
    for name, parameter in spec.space.items():
        if name in epochs:
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
    for combination in combinations:
        corner: dict[str, Value] = {}
        for part in combination:
            corner |= part
        yield corner
