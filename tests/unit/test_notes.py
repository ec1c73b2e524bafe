"""What a person is told of a study that asks for something in vain."""

from typing import Any

import pytest

from search_spaces.study import find_study, load_study, shipped_studies
from sweeps.inspection.notes import study_notes
from tests.studies import fixed_study, sampled_study

TRAIN = {"schedule": "[lr, 0] lin[1e-5, 10]"}


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        ({"cap": {"best": 4, "slack": 1.2}}, "it waits until 4 have reached the target"),
        ({"cannot_reach": {"trials": 5}}, "it waits until 5 have reached the target"),
        ({"median": {"trials": 4}}, "it compares a trial with 4 others"),
        ({"asha": {"reduction": 5}}, "it waits until 5 have come as far"),
        ({"patience": {"epochs": 10}}, "it waits for 10 epochs, and the longest trial has 10"),
        ({"forecast": {}}, "it waits until 10 configurations have been tried"),
        ({"forecast": {"best": 20, "trials": 3}}, "it waits until 20 configurations have been tried"),
    ],
)
def test_a_rule_that_can_end_no_trial_says_why(rule: dict[str, Any], why: str) -> None:
    (name,) = rule
    assert study_notes(sampled_study(trials=4, stopping=rule)) == [
        f"stopping.{name} can end none of the 4 trials: {why}"
    ]


@pytest.mark.parametrize(
    "rule",
    [
        {"cap": {"best": 3, "slack": 1.2}},
        {"cannot_reach": {"trials": 3}},
        {"median": {"trials": 3}},
        {"asha": {"reduction": 4}},
        {"patience": {"epochs": 9}},
        {"forecast": {"best": 2, "trials": 3}},
    ],
)
def test_a_rule_that_may_end_one_says_nothing(rule: dict[str, Any]) -> None:
    assert study_notes(sampled_study(trials=4, stopping=rule)) == []


def test_listed_runs_have_no_forecast() -> None:
    (note,) = study_notes(fixed_study(stopping={"forecast": {}}))
    assert note.endswith("it judges configurations by a [space], and the study has none")


def test_a_share_without_a_control_is_told() -> None:
    stopping = {"patience": {"epochs": 2}, "control": 0.01}
    (note,) = study_notes(sampled_study(trials=4, stopping=stopping))
    assert note == "stopping.control = 0.01: none of the 4 trials is a control; ask for a larger share"
    assert study_notes(sampled_study(trials=4, stopping=stopping | {"control": 0.9})) == []


def test_a_target_that_no_trial_is_long_enough_to_sustain_is_told() -> None:
    (note,) = study_notes(sampled_study(objective={"sustained": 11}))
    assert note == "objective.sustained = 11, and the longest trial has 10 epochs: no target is sustained"
    assert study_notes(sampled_study(objective={"sustained": 11, "target": False})) == []


def test_first_trials_beyond_the_last_one_are_told() -> None:
    first = [{"lr": 1e-3}, {"lr": 2e-3}, {"lr": 3e-3}]
    (note,) = study_notes(sampled_study(search={"trials": 1, "sampler": "random", "first": first}))
    assert note == "search.first has 3 trials, and the study 1: the last 2 are not tried"


@pytest.mark.parametrize(
    ("train", "space", "notes"),
    [
        ({}, {"padam_p": (0.1, 0.5)}, ["space.padam_p changes nothing where the optimizer is adamw"]),
        ({"optimizer": "sgd"}, {"beta2": (0.9, 0.99)}, ["space.beta2 changes nothing where the optimizer is sgd"]),
        ({"optimizer": "padam"}, {"padam_p": (0.1, 0.5), "beta2": (0.9, 0.99)}, []),
        ({"optimizer": "torch.optim:Adam"}, {"beta2": (0.9, 0.99)}, []),
        ({}, {"plateau_factor": (0.1, 0.5), "plateau_threshold": (0.1, 0.5)}, []),
        ({}, {"plateau_threshold": (0.1, 0.5)}, ["space.plateau_threshold changes nothing without plateau_factor"]),
    ],
)
def test_a_parameter_without_effect_is_told(
    train: dict[str, Any], space: dict[str, tuple[float, float]], notes: list[str]
) -> None:
    ranges = {name: {"low": low, "high": high} for name, (low, high) in space.items()}
    spec = sampled_study(train={"schedule": "[1e-3, 0] lin[1e-5, 10]", **train}, space=ranges)
    assert study_notes(spec) == notes


def test_a_parameter_without_effect_in_some_trials_is_told_how_to_be_asked_in_the_others() -> None:
    space: dict[str, Any] = {"optimizer": {"choices": ["adam", "sgd"]}, "eps": {"low": 1e-9, "high": 1e-3}}
    (note,) = study_notes(sampled_study(train={"schedule": "[1e-3, 0] lin[1e-5, 10]"}, space=space))
    assert note.startswith("space.eps changes nothing where the optimizer is sgd; give it `when`, with adam or adamw")
    space["eps"]["when"] = {"optimizer": "adam"}
    assert study_notes(sampled_study(train={"schedule": "[1e-3, 0] lin[1e-5, 10]"}, space=space)) == []


@pytest.mark.parametrize("name", shipped_studies())
def test_a_study_that_ships_asks_for_nothing_in_vain(name: str) -> None:
    assert study_notes(load_study(find_study(name))) == []
