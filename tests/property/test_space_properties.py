"""What holds for every space: its trials are valid, and its identity is what determines results."""

import itertools
import math
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resnet_core.schedule import KINDS
from search_spaces.checks import corners
from search_spaces.conditions import only_asked
from search_spaces.parameters import Choices, Range
from search_spaces.space import (
    coordinates,
    distributions,
    grid_points,
    has_all,
    longest_horizon,
    suggest,
    trial_config,
    trial_count,
)
from search_spaces.spec import StudySpec
from search_spaces.study import differences, from_json, identity, study_hash, to_json

few = settings(max_examples=60)  # a study takes milliseconds to make


@st.composite
def ranges(draw: st.DrawFn, low: float, high: float, whole: bool = False) -> dict[str, Any]:
    """A range inside of bounds, perhaps in steps or logarithmic."""
    if whole:
        start = draw(st.integers(int(low), int(high) - 1))
        step = draw(st.none() | st.integers(1, 3))
        end = start + (step or 1) * draw(st.integers(1, max(1, (int(high) - start) // (step or 1))))
        return {"low": start, "high": end, "int": True} | ({"step": step} if step else {})
    start = draw(st.floats(low, high * 0.5, allow_subnormal=False))
    end = draw(st.floats(start, high, exclude_min=True, allow_subnormal=False))
    return {"low": start, "high": end, "log": draw(st.booleans()) if start > 0 else False}


@st.composite
def spaces(draw: st.DrawFn) -> StudySpec:
    """A study of one to four knots, with relative epochs, and some fields beside them."""
    space: dict[str, Any] = {"lr": draw(ranges(1e-5, 1e-1))}
    schedule = "[0.5*lr, 0]"
    for i in range(draw(st.integers(1, 4))):
        space[f"e{i}"] = draw(ranges(1, 9, whole=True) | ranges(0.5, 9.0))
        value = draw(st.sampled_from(["lr", "0.1*lr", "1e-5"]))
        schedule += f" {draw(st.sampled_from(KINDS))}[{value}, +e{i}]"
    fields = {
        "weight_decay": ranges(0.0, 1.0),
        "shift": ranges(0.0, 0.4),
        "batch_size": ranges(1, 128, whole=True),
        "epochs": ranges(1, 50, whole=True),
        "optimizer": st.just({"choices": ["adam", "adamw", "sgd"]}),
        "flip": st.just({"choices": [True, False]}),
        "l2": st.lists(st.floats(0, 1, allow_subnormal=False), min_size=1, max_size=3, unique=True).map(
            lambda values: {"choices": values}
        ),
    }
    for name in draw(st.sets(st.sampled_from(sorted(fields)))):
        space[name] = draw(fields[name])
    order = draw(st.permutations(sorted(space)))
    return StudySpec.model_validate(
        {
            "name": "x",
            "train": {"schedule": schedule},
            "space": {name: space[name] for name in order},
            "search": {"trials": draw(st.integers(1, 99)), "seed": draw(st.integers(0, 2**32 - 1))},
        }
    )


@few
@given(spaces(), st.integers(0, 2**31))
def test_every_suggestion_is_a_valid_trial_within_the_longest_horizon(spec: StudySpec, seed: int) -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    longest = longest_horizon(spec)
    for _ in range(5):
        params = suggest(study.ask(), spec)
        assert all(spec.space[name].contains(value) for name, value in params.items())
        assert 1 <= trial_config(spec, params).horizon <= longest


@few
@given(spaces())
def test_some_trial_has_the_longest_horizon(spec: StudySpec) -> None:
    highest = {name: parameter.extremes[1] for name, parameter in spec.space.items()}
    fixed = optuna.trial.FixedTrial(highest)
    assert trial_config(spec, suggest(fixed, spec)).horizon == longest_horizon(spec)


@few
@given(spaces())
def test_json_takes_a_study_there_and_back(spec: StudySpec) -> None:
    again = from_json(to_json(spec))
    assert again == spec
    assert list(again.space) == list(spec.space)
    assert identity(again) == identity(spec)
    assert differences(spec, again) == []


@few
@given(spaces(), st.text(max_size=20), st.integers(1, 64), st.integers(0, 8), st.integers(1, 9))
def test_the_identity_leaves_out_what_no_result_depends_on(
    spec: StudySpec, description: str, cpus: int, gpus: int, trials: int
) -> None:
    values = spec.model_dump(by_alias=True)
    values |= {"description": description, "resources": {"cpus_per_trial": cpus, "gpus_per_trial": gpus / 8}}
    values["search"] |= {"trials": trials, "retries": trials}
    other = StudySpec.model_validate(values)
    assert study_hash(other) == study_hash(spec)
    assert differences(spec, other) == []


@few
@given(spaces(), st.data())
def test_a_changed_bound_is_the_one_difference(spec: StudySpec, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from([n for n, p in spec.space.items() if isinstance(p, Range)]))
    values = spec.model_dump(by_alias=True)
    parameter = values["space"][name]
    # Upwards by a step stays valid: every field and epoch has room above the bounds drawn here.
    parameter["high"] += (parameter["step"] or 1) if parameter["int"] else parameter["high"] * 0.1
    other = StudySpec.model_validate(values)
    assert study_hash(other) != study_hash(spec)
    assert [line.partition(":")[0] for line in differences(spec, other)] == [f"space.{name}.high"]


@few
@given(st.integers(-1000, 1000), st.integers(1, 9999), st.integers(1, 60), st.sampled_from([1, 10, 100, 1000]))
def test_steps_in_decimals_reach_high_exactly(low: int, step: int, count: int, unit: int) -> None:
    # As people write them: -0.3 to 0.7 in steps of 0.1. In binary, high would be missed or off the steps.
    parameter = Range(low=low / unit, high=(low + step * count) / unit, step=step / unit)
    points = parameter.values()
    assert len(points) == parameter.size == count + 1
    assert (points[0], points[-1]) == (parameter.low, parameter.high)
    assert all(map(parameter.contains, points))


@few
@given(st.integers(1, 5), st.integers(1, 5), st.integers(1, 4))
def test_a_grid_is_made_of_values_optuna_takes(low: int, count: int, tenths: int) -> None:
    space = {
        "shift": {"low": 0.0, "high": tenths / 10, "step": 0.1},
        "epochs": {"low": low, "high": low + count, "int": True},
    }
    spec = StudySpec.model_validate(
        {"name": "x", "train": {"schedule": "[1, 0]"}, "space": space, "search": {"sampler": "grid"}}
    )
    for point in grid_points(spec):
        for name, value in point.items():
            distribution = distributions(spec)[name]
            assert distribution._contains(distribution.to_internal_repr(value))


# Conditional parameters


@st.composite
def conditional_spaces(draw: st.DrawFn, sampler: str = "tpe") -> StudySpec:
    """A study of two to six parameters, most of which depend on earlier ones, in any order in the file."""
    kinds: dict[str, dict[str, Any]] = {
        "optimizer": {"choices": ["adam", "adamw", "sgd", "padam"]},
        "batch_size": {"low": 8, "high": 32, "int": True, "step": 8},
        "flip": {"choices": [True, False]},
        "crop": {"low": 0, "high": 8, "int": True},
        "shift": {"low": 0.0, "high": 0.3, "step": 0.1},
        "e": {"low": 1, "high": 3, "int": True},
        "schedule": {"choices": ["[1e-3, 0] lin[0, 4]", "[1e-3, 0] lin[0, 5]"]},
    }
    names = draw(st.lists(st.sampled_from(sorted(kinds)), min_size=2, max_size=6, unique=True))
    if "e" in names:
        text = "[1e-3, 0] lin[0, +e]"
        kinds["schedule"]["choices"].append(text)
        kinds["e"]["when"] = {"schedule": text}
        names = ["schedule", *(name for name in names if name not in ("schedule", "e")), "e"]
    space: dict[str, Any] = {}
    for name in names:
        space[name] = dict(kinds[name])
        earlier = sorted(space.keys() - {name}) if name != "e" else []
        others = draw(st.sets(st.sampled_from(earlier), max_size=2)) if earlier else set()
        conditions = dict(space[name].get("when", {}))
        for other in others:
            values = _parameter(space[other]).values()
            conditions.setdefault(other, draw(st.lists(st.sampled_from(values), min_size=1, max_size=3, unique=True)))
        if conditions:
            space[name]["when"] = conditions
    order = draw(st.permutations(list(space)))
    return StudySpec.model_validate(
        {
            "name": "x",
            "train": {"schedule": "[1e-3, 0] lin[0, 3]"} if "when" in space.get("schedule", {"when"}) else {},
            "space": {name: space[name] for name in order},
            "search": {"sampler": sampler} | ({"trials": 9} if sampler != "grid" else {}),
        }
    )


def _parameter(table: dict[str, Any]) -> Range | Choices:
    return Choices.model_validate(table) if "choices" in table else Range.model_validate(table)


@few
@given(conditional_spaces(), st.integers(0, 2**31))
def test_a_trial_has_the_parameters_whose_conditions_hold(spec: StudySpec, seed: int) -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    longest = longest_horizon(spec)
    for _ in range(5):
        params = suggest(study.ask(), spec)
        assert has_all(spec, params)
        for name, parameter in spec.space.items():
            holds = all(
                other in params and any(params[other] == pytest.approx(value) for value in values)
                for other, values in (parameter.when or {}).items()
            )
            assert (name in params) == holds
            assert not holds or parameter.contains(params[name])
        assert 1 <= trial_config(spec, params).horizon <= longest


@few
@given(conditional_spaces("grid"))
def test_a_conditional_grid_has_every_trial_once(spec: StudySpec) -> None:
    points = [tuple(sorted(point.items())) for point in grid_points(spec)]
    assert len(points) == len(set(points)) == trial_count(spec)
    axes = [[(name, value) for value in parameter.values()] for name, parameter in spec.space.items()]
    every = (dict(chosen) for chosen in itertools.product(*axes))
    assert set(points) == {tuple(sorted(only_asked(spec.space, params).items())) for params in every}
    assert max(trial_config(spec, dict(point)).horizon for point in points) == longest_horizon(spec)


@few
@given(conditional_spaces("grid"))
def test_the_corners_have_every_set_of_parameters_that_a_trial_can_have(spec: StudySpec) -> None:
    found = {frozenset(corner) for corner in corners(spec)}
    assert found == {frozenset(point) for point in grid_points(spec)}


@few
@given(conditional_spaces())
def test_json_takes_a_conditional_study_there_and_back(spec: StudySpec) -> None:
    again = from_json(to_json(spec))
    assert again == spec
    assert study_hash(again) == study_hash(spec)
    assert differences(spec, again) == []


@few
@given(conditional_spaces("grid"), st.data())
def test_a_parameter_that_is_not_asked_moves_no_trial(spec: StudySpec, data: st.DataObject) -> None:
    points = list(grid_points(spec))
    one, other = data.draw(st.sampled_from(points)), data.draw(st.sampled_from(points))
    places = [coordinates(spec, point) for point in (one, other)]
    shared = [name for name in spec.space if name in one or name in other]
    parts = [[spec.space[name].coordinates(point.get(name)) for name in shared] for point in (one, other)]
    assert len(places[0]) == len(places[1])
    assert math.dist(*places) == pytest.approx(math.dist(*(list(itertools.chain(*part)) for part in parts)))
