"""Conditional parameters: which trials have them, and what is wrong with a condition."""

from typing import Any

import pytest

from search_spaces.conditions import asked, in_order
from search_spaces.errors import StudyError
from search_spaces.space import coordinates, listed_trials, longest_horizon, trial_config, trial_count
from search_spaces.spec import StudySpec
from search_spaces.study import differences, identity, parse_study, study_hash

OPTIMIZER = {"choices": ["adam", "sgd", "padam"]}
MOMENTUM = {"low": 0.8, "high": 0.99, "when": {"optimizer": "sgd"}}


def study(space: dict[str, Any], train: dict[str, Any] | None = None, **search: Any) -> StudySpec:
    """Return a study of these parameters."""
    values = {
        "name": "x",
        "train": {"schedule": "[1e-3, 0] lin[0, 4]"} | (train or {}),
        "space": space,
        "search": {"trials": 3} | search,
    }
    return parse_study(values, "s.toml")


def error_of(space: dict[str, Any], train: dict[str, Any] | None = None, **search: Any) -> str:
    """Return the error of a study that is wrong."""
    with pytest.raises(StudyError) as error:
        study(space, train, **search)
    return str(error.value).removeprefix("s.toml: ")


# Which parameters a trial has


def test_a_trial_lacks_a_parameter_whose_condition_does_not_hold() -> None:
    space = study({"momentum": MOMENTUM, "optimizer": OPTIMIZER}).space
    assert asked(space, {"optimizer": "sgd"}) == ["optimizer", "momentum"]
    assert asked(space, {"optimizer": "adam"}) == ["optimizer"]


def test_a_list_of_values_holds_for_each_of_them() -> None:
    space = study({"momentum": MOMENTUM | {"when": {"optimizer": ["sgd", "padam"]}}, "optimizer": OPTIMIZER}).space
    assert [name for name in OPTIMIZER["choices"] if "momentum" in asked(space, {"optimizer": name})] == [
        "sgd",
        "padam",
    ]


def test_all_conditions_must_hold() -> None:
    flip = {"choices": [True, False]}
    space = study(
        {"optimizer": OPTIMIZER, "flip": flip, "momentum": MOMENTUM | {"when": {"optimizer": "sgd", "flip": True}}}
    )
    assert "momentum" in asked(space.space, {"optimizer": "sgd", "flip": True})
    assert "momentum" not in asked(space.space, {"optimizer": "sgd", "flip": False})


def test_conditions_chain() -> None:
    space = study(
        {
            "momentum": MOMENTUM | {"when": {"nesterov": True}},
            "nesterov": {"choices": [True, False], "when": {"optimizer": "sgd"}},
            "optimizer": OPTIMIZER,
        }
    ).space
    assert in_order(space) == ["optimizer", "nesterov", "momentum"]
    assert asked(space, {"optimizer": "adam", "nesterov": True}) == ["optimizer"]


def test_a_step_of_binary_sums_is_the_decimal_number_of_the_condition() -> None:
    space = {
        "shift": {"low": 0.0, "high": 0.3, "step": 0.1},
        "crop": {"low": 0, "high": 4, "int": True, "when": {"shift": 0.3}},
    }
    assert "crop" in asked(study(space).space, {"shift": 0.1 + 0.1 + 0.1})


# Trials


def test_a_field_that_is_not_asked_keeps_its_value_in_train() -> None:
    spec = study({"momentum": MOMENTUM, "optimizer": OPTIMIZER}, {"momentum": 0.7})
    assert trial_config(spec, {"optimizer": "adam"}).momentum == 0.7
    assert trial_config(spec, {"optimizer": "sgd", "momentum": 0.95}).momentum == 0.95


def test_a_trial_takes_no_value_for_a_parameter_that_is_not_asked() -> None:
    spec = study({"momentum": MOMENTUM, "optimizer": OPTIMIZER})
    with pytest.raises(StudyError, match="parameters optimizer, momentum: expected optimizer"):
        trial_config(spec, {"optimizer": "adam", "momentum": 0.9})


def test_each_choice_of_a_schedule_has_its_own_parameters() -> None:
    up, flat = "[1e-3, 0] lin[0, +long]", "[1e-3, 0] lin[0, +short]"
    space = {
        "schedule": {"choices": [up, flat]},
        "long": {"low": 7, "high": 9, "int": True, "when": {"schedule": up}},
        "short": {"low": 2, "high": 3, "int": True, "when": {"schedule": flat}},
    }
    spec = parse_study({"name": "x", "space": space, "search": {"trials": 3}}, "s.toml")
    assert trial_config(spec, {"schedule": up, "long": 8}).horizon == 8
    assert longest_horizon(spec) == 9


def test_the_longest_horizon_is_that_of_a_trial_that_exists() -> None:
    space = {
        "optimizer": OPTIMIZER,
        "epochs": {"low": 2, "high": 30, "int": True, "when": {"optimizer": "sgd"}},
    }
    assert longest_horizon(study(space)) == 30
    assert longest_horizon(study(space | {"optimizer": {"choices": ["sgd", "adam"]}}, {"epochs": 40})) == 40


def test_a_grid_counts_and_lists_each_trial_once() -> None:
    space = {"optimizer": OPTIMIZER, "momentum": {"choices": [0.8, 0.9], "when": {"optimizer": "sgd"}}}
    spec = study(space, sampler="grid", trials=None)
    trials = [params for params, _ in listed_trials(spec)]
    assert trial_count(spec) == len(trials) == 4
    assert {"optimizer": "adam"} in trials
    assert {"optimizer": "sgd", "momentum": 0.8} in trials


# The study's space as a place


def test_what_is_not_asked_has_a_place_in_the_middle() -> None:
    spec = study({"momentum": MOMENTUM, "optimizer": {"choices": ["adam", "sgd"]}})
    assert coordinates(spec, {"optimizer": "adam"})[0] == 0.5
    choices = study({"nesterov": {"choices": [True, False], "when": {"optimizer": "sgd"}}, "optimizer": OPTIMIZER})
    middle, *_ = zip(coordinates(choices, {"optimizer": "adam"})[:2], strict=True)
    assert middle == (pytest.approx(0.5**1.5),)


def test_a_missing_parameter_that_is_asked_has_no_place() -> None:
    with pytest.raises(KeyError, match="momentum"):
        coordinates(study({"momentum": MOMENTUM, "optimizer": OPTIMIZER}), {"optimizer": "sgd"})


# Identity


def test_a_condition_is_part_of_a_studys_identity() -> None:
    plain, conditional = (
        study({"momentum": one, "optimizer": OPTIMIZER}) for one in ({"low": 0.8, "high": 0.99}, MOMENTUM)
    )
    assert differences(plain, conditional) == ['space.momentum.when.optimizer: (absent) -> ["sgd"]']
    assert not any(".when" in key for key in identity(plain))


def test_a_value_and_a_list_of_one_value_are_the_same_condition() -> None:
    one, other = (
        study({"momentum": MOMENTUM | {"when": {"optimizer": w}}, "optimizer": OPTIMIZER}) for w in ("sgd", ["sgd"])
    )
    assert study_hash(one) == study_hash(other)


# What is wrong with a condition


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        ({"optimizr": "sgd"}, 'when.optimizr = ["sgd"]: unknown parameter; did you mean optimizer?'),
        ({"optimizer": "sdg"}, 'when.optimizer = "sdg": expected one of "adam", "sgd", "padam"; did you mean sgd?'),
        ({"optimizer": 3}, 'when.optimizer = 3: expected one of "adam", "sgd", "padam"'),
        ({"optimizer": []}, "when.optimizer = []: expected one value or more"),
        ({"optimizer": [["sgd"]]}, 'when.optimizer = ["sgd"]: expected true, false, a finite number or a string'),
        ({"flip": True}, "when.flip: expected a parameter of [space]; flip is fixed in [train]"),
        ({}, "when = {}: expected a parameter and its value, or no when"),
        (3, "when = 3: expected a table"),
        (
            {"momentum": 0.9},
            "when.momentum: momentum is a number from 0.8 to 0.99; expected a parameter with choices, "
            "int = true or a step: a number is hardly ever drawn twice",
        ),
    ],
)
def test_a_wrong_condition_is_named_with_its_key(when: Any, expected: str) -> None:
    space = {"optimizer": OPTIMIZER, "momentum": MOMENTUM | {"when": when}}
    if isinstance(when, dict) and "momentum" in when:
        space = {
            "optimizer": OPTIMIZER,
            "momentum": {"low": 0.8, "high": 0.99},
            "beta2": {"low": 0.8, "high": 0.99, "when": when},
        }
    name = list(space)[-1]
    assert error_of(space, {"flip": True}).splitlines()[0] == f"space.{name}.{expected}"


def test_a_circle_of_conditions_is_shown() -> None:
    space = {
        "flip": {"choices": [True, False], "when": {"crop": 1}},
        "crop": {"low": 0, "high": 2, "int": True, "when": {"cutout": 1}},
        "cutout": {"low": 0, "high": 2, "int": True, "when": {"flip": True}},
    }
    assert error_of(space) == "space.flip.when: expected no circle: flip needs crop needs cutout needs flip"


def test_a_schedule_may_not_need_what_is_not_asked() -> None:
    space = {"optimizer": OPTIMIZER, "lr": {"low": 1e-4, "high": 1e-3, "when": {"optimizer": "sgd"}}}
    assert error_of(space, {"schedule": "[lr, 0] lin[0, 4]"}) == (
        'train.schedule: at optimizer = "adam": expected a schedule that does not need lr, which a trial has only '
        'where optimizer = "sgd"'
    )


def test_a_space_whose_schedule_is_not_always_asked_needs_one_in_train() -> None:
    space = {"optimizer": OPTIMIZER, "schedule": {"choices": ["[1, 0] lin[0, 4]"], "when": {"optimizer": "sgd"}}}
    with pytest.raises(StudyError, match=r"train\.schedule: missing; expected a learning rate"):
        parse_study({"name": "x", "space": space, "search": {"trials": 3}}, "s.toml")


def test_a_first_trial_leaves_out_what_is_not_asked() -> None:
    space = {"momentum": MOMENTUM, "optimizer": OPTIMIZER}
    assert study(space, first=[{"optimizer": "adam"}, {"optimizer": "sgd", "momentum": 0.9}])
    assert error_of(space, first=[{"optimizer": "adam", "momentum": 0.9}]) == (
        'search.first[0].momentum = 0.9: expected none, or optimizer = "sgd" beside it'
    )
