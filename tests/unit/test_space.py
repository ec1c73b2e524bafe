"""From a study to its trials."""

from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from resnet_core.config import TrialConfig
from search_spaces.errors import StudyError
from search_spaces.space import (
    ListedRun,
    distributions,
    grid_points,
    listed_runs,
    listed_trials,
    longest_horizon,
    suggest,
    trial_config,
    trial_count,
)
from search_spaces.spec import StudySpec
from search_spaces.study import find_study, load_study

SCHEDULE = "[0.8*lr, 0] lin[lr, +warmup] cos[1e-5, +4]"
SPACE = {
    "warmup": {"low": 1, "high": 8, "int": True},
    "lr": {"low": 1e-3, "high": 2e-3, "log": True},
    "shift": {"low": 0.0, "high": 0.3, "step": 0.1},
    "batch_size": {"low": 16, "high": 64, "int": True, "step": 16},
    "optimizer": {"choices": ["adam", "sgd"]},
}
PARAMS = {"warmup": 3, "lr": 1e-3, "shift": 0.1, "batch_size": 32, "optimizer": "sgd"}


def study(space: dict[str, Any] | None = None, train: dict[str, Any] | None = None, **tables: Any) -> StudySpec:
    """Make a study as a file would: with the schedule above and 3 trials unless it says else."""
    values = {"name": "x", "train": {"schedule": SCHEDULE} | (train or {}), "space": space or {}, **tables}
    if space and "search" not in values:
        values["search"] = {"trials": 3}
    return StudySpec.model_validate(values)


def listed(train: dict[str, Any] | None = None, seeds: list[int] | None = None) -> StudySpec:
    runs = [{"name": "a"}, {"name": "b", "seed": 7, "schedule": "[1e-3, 0] cos[1e-5, 9]"}]
    fixed = {"schedule": "[1e-3, 0] cos[1e-5, 4.5]"} | (train or {})
    return study(train=fixed, run=runs, search={"seeds": seeds} if seeds else {})


# Distributions and suggestions


def test_distributions_are_optunas_in_the_files_order() -> None:
    assert list(distributions(study(SPACE)).items()) == [
        ("warmup", IntDistribution(1, 8)),
        ("lr", FloatDistribution(1e-3, 2e-3, log=True)),
        ("shift", FloatDistribution(0.0, 0.3, step=0.1)),
        ("batch_size", IntDistribution(16, 64, step=16)),
        ("optimizer", CategoricalDistribution(["adam", "sgd"])),
    ]


def test_suggestions_come_in_the_files_order() -> None:
    assert list(suggest(optuna.trial.FixedTrial(PARAMS), study(SPACE)).items()) == [
        (name, PARAMS[name]) for name in SPACE
    ]


def test_suggestions_tell_optuna_the_same_distributions() -> None:
    spec = study(SPACE)
    trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0)).ask()
    suggest(trial, spec)
    assert trial.distributions == distributions(spec)


def test_first_trials_go_through_optuna() -> None:
    spec = load_study(find_study("adamw_cosine"))
    sampler = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    sampler.enqueue_trial(spec.search.first[0])
    assert suggest(sampler.ask(), spec) == spec.search.first[0]


# Trial configs


def test_parameters_go_into_fields_and_schedules() -> None:
    assert trial_config(study(SPACE, {"momentum": 0.8}), PARAMS) == TrialConfig(
        schedule="[8e-4, 0] lin[1e-3, 3] cos[1e-5, 7]",
        momentum=0.8,
        shift=0.1,
        batch_size=32,
        optimizer="sgd",
    )


def test_both_schedules_are_filled() -> None:
    train = {"weight_decay_schedule": "[wd, 0] lin[0.5*wd, +warmup]"}
    space = {name: SPACE[name] for name in ("warmup", "lr")} | {"wd": {"low": 0.1, "high": 0.2}}
    config = trial_config(study(space, train), {"warmup": 3, "lr": 1e-3, "wd": 0.2})
    assert config.schedule == "[8e-4, 0] lin[1e-3, 3] cos[1e-5, 7]"
    assert config.weight_decay_schedule == "[0.2, 0] lin[0.1, 3]"


def test_a_field_that_a_schedule_names_goes_into_the_schedule_alone() -> None:
    train = {"schedule": "[1e-3, 0] cos[0, 9]", "weight_decay_schedule": "[weight_decay, 0] lin[0, 9]"}
    config = trial_config(study({"weight_decay": {"low": 0.1, "high": 0.2}}, train), {"weight_decay": 0.1})
    assert (config.weight_decay, config.weight_decay_schedule) == (0.0, "[0.1, 0] lin[0, 9]")


def test_a_schedule_can_be_a_choice_and_name_parameters() -> None:
    space = {
        "schedule": {"choices": ["[lr, 0] cos[0, 9]", "[lr, 0] lin[0, +warmup]"]},
        "lr": SPACE["lr"],
        "warmup": SPACE["warmup"],
    }
    spec = StudySpec.model_validate({"name": "x", "space": space, "search": {"trials": 1}})
    config = trial_config(spec, {"schedule": "[lr, 0] lin[0, +warmup]", "lr": 1e-3, "warmup": 3})
    assert config.schedule == "[1e-3, 0] lin[0, 3]"
    assert longest_horizon(spec) == 9


@pytest.mark.parametrize(
    ("params", "given"),
    [({"lr": 1e-3}, "lr"), (PARAMS | {"x": 1}, "warmup, lr, shift, batch_size, optimizer, x"), ({}, "none")],
)
def test_parameters_must_be_the_studys(params: dict[str, Any], given: str) -> None:
    expected = "expected warmup, lr, shift, batch_size, optimizer"
    with pytest.raises(StudyError) as caught:
        trial_config(study(SPACE), params)
    assert str(caught.value) == f"parameters {given}: {expected}"


def test_the_given_seed_is_taken_with_a_space() -> None:
    assert trial_config(study(SPACE), PARAMS, seed=5).seed == 5


def test_a_seed_in_train_wins_with_a_space() -> None:
    assert trial_config(study(SPACE, {"seed": 3}), PARAMS, seed=5).seed == 3


def test_a_sampled_seed_wins() -> None:
    spec = study(SPACE | {"seed": {"low": 0, "high": 9, "int": True}})
    assert trial_config(spec, PARAMS | {"seed": 4}, seed=5).seed == 4


def test_a_listed_run_has_its_own_fields() -> None:
    config = trial_config(listed({"shift": 0.1}), {}, run="b")
    assert config == TrialConfig(schedule="[1e-3, 0] cos[1e-5, 9]", shift=0.1, seed=7)


def test_a_listed_run_takes_the_given_seed() -> None:
    assert trial_config(listed({"seed": 3}), {}, seed=5, run="b").seed == 5


def test_a_single_run_needs_no_name() -> None:
    assert trial_config(study(train={"schedule": "[1e-3, 0] cos[0, 4]"}), {}).horizon == 4


@pytest.mark.parametrize("run", ["c", None])
def test_an_unknown_run_is_refused_with_those_there_are(run: str | None) -> None:
    with pytest.raises(StudyError, match="expected one of: a, b"):
        trial_config(listed(), {}, run=run)


# Counting


def test_listed_runs_have_their_own_seed_without_seeds() -> None:
    assert listed_runs(listed({"seed": 3})) == [ListedRun("a", 3, "a"), ListedRun("b", 7, "b")]


def test_listed_runs_are_repeated_with_each_seed() -> None:
    assert listed_runs(listed({"seed": 3}, seeds=[0, 1])) == [
        ListedRun("a", 0, "a-s0"),
        ListedRun("a", 1, "a-s1"),
        ListedRun("b", 0, "b-s0"),
        ListedRun("b", 1, "b-s1"),
    ]


def test_one_seed_leaves_the_names_as_they_are() -> None:
    assert listed_runs(listed(seeds=[4])) == [ListedRun("a", 4, "a"), ListedRun("b", 4, "b")]


def test_a_study_of_train_alone_is_one_run() -> None:
    assert listed_runs(study(train={"schedule": "[1e-3, 0] cos[0, 4]"})) == [ListedRun("x", 0, "x")]


def test_a_space_lists_no_runs() -> None:
    assert listed_runs(study(SPACE)) == []


def test_the_longest_horizon_has_all_epochs_at_their_highest() -> None:
    assert longest_horizon(study(SPACE)) == 12


def test_the_longest_horizon_counts_the_highest_choice() -> None:
    space = SPACE | {"warmup": {"choices": [9, 2, 4]}}
    assert longest_horizon(study(space)) == 13


def test_the_longest_horizon_is_epochs_where_they_are_given() -> None:
    assert longest_horizon(study(SPACE, {"epochs": 5})) == 5
    assert longest_horizon(study(SPACE | {"epochs": {"low": 2, "high": 6, "int": True}})) == 6


def test_the_longest_horizon_of_listed_runs_is_rounded_up() -> None:
    assert longest_horizon(listed()) == 9
    assert longest_horizon(study(train={"schedule": "[1e-3, 0] cos[1e-5, 4.5]"})) == 5


def test_a_grid_has_every_combination_once() -> None:
    points = list(grid_points(study({"lr": {"choices": [2e-3, 1e-3]}, "warmup": {"low": 1, "high": 2, "int": True}})))
    assert points == [
        {"lr": 2e-3, "warmup": 1},
        {"lr": 2e-3, "warmup": 2},
        {"lr": 1e-3, "warmup": 1},
        {"lr": 1e-3, "warmup": 2},
    ]


def test_a_grid_names_the_continuous_parameter() -> None:
    with pytest.raises(StudyError, match=r"space\.lr, a number from 0\.001 to 0\.002: expected a step, int = true"):
        list(grid_points(study(SPACE)))


def test_trial_count_is_what_search_says() -> None:
    assert trial_count(study(SPACE)) == 3


@pytest.mark.parametrize(("trials", "count"), [(None, 16), (5, 5), (99, 16)])
def test_trial_count_of_a_grid_is_its_size_at_most(trials: int | None, count: int) -> None:
    space = {"warmup": SPACE["warmup"], "lr": {"choices": [1e-3, 2e-3]}}
    assert trial_count(study(space, search={"sampler": "grid", "trials": trials})) == count


def test_trial_count_of_listed_runs_is_runs_times_seeds() -> None:
    assert trial_count(listed(seeds=[0, 1, 2])) == 6


# Shipped studies


def test_post5_run33_is_the_published_run() -> None:
    spec = load_study(find_study("published/post5_run33"))
    (run,) = listed_runs(spec)
    assert run == ListedRun("33", 33, "33")
    assert trial_config(spec, {}, seed=run.seed, run=run.name) == TrialConfig(
        schedule="[8.e-4, 0]lin[1.e-3, 5]lin[1.e-3, 12]cos[1.e-5, 20]lin[6.e-6, 26]",
        model="resnet56v2",
        data="cifar10",
        split="pooled",
        batch_size=64,
        optimizer="adamw",
        weight_decay=0.18,
        l2=0.0,
        shift=0.07,
        flip=True,
        seed=33,
        precision="fp32",
    )


def test_adamw_cosine_starts_from_the_published_run() -> None:
    spec = load_study(find_study("adamw_cosine"))
    config = trial_config(spec, spec.search.first[0])
    assert config.schedule == "[8e-4, 0] lin[1e-3, 5] lin[1e-3, 12] cos[1e-5, 20] lin[6e-6, 26]"
    assert (config.weight_decay, config.shift, longest_horizon(spec)) == (0.18, 0.07, 38)


def test_quickstart_is_small() -> None:
    spec = load_study(find_study("quickstart"))
    config = trial_config(spec, spec.search.first[0])
    assert (config.data, config.image_size, config.flip, config.model) == ("digits", 16, False, "resnet11v2")
    assert longest_horizon(spec) <= 16
    assert trial_count(spec) <= 20


def test_shipped_studies_say_where_they_come_from() -> None:
    text = Path(find_study("published/post5_run33")).read_text(encoding="utf-8")
    assert 'machine-learning.anracom.com, 2024-07-14, "AdamW for a ResNet56v2 – V", table 3, run 33' in text


def test_a_first_trial_of_a_grid_may_be_written_with_an_error_of_rounding():
    space = {"shift": {"low": 0.1, "high": 0.4, "step": 0.1}}
    spec = study(
        space, {"schedule": "[1e-3, 0] cos[1e-5, 9]"}, search={"sampler": "grid", "first": [{"shift": 0.1 + 0.2}]}
    )
    assert listed_trials(spec)[0][0] == {"shift": 0.3}
