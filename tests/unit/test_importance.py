import dataclasses

import numpy as np
import pytest

from analysis.tables.importance import FEWEST_TRIALS, build_importance, importance_footnotes
from analysis.tables.rendering import render
from analysis.tables.trials import build_table

SPACE = {"lr": {"low": 1e-4, "high": 1e-2, "log": True, "int": False}, "warmup": {"low": 1, "high": 8, "int": True}}


def trials(count: int, outcome: str = "exhausted", **more: object) -> list[dict]:
    """Trials whose accuracy hangs on the learning rate, and on nothing else."""
    random = np.random.default_rng(0)
    made = []
    for _ in range(count):
        lr = 10 ** random.uniform(-4, -2)
        best = 0.92 - 0.1 * (np.log10(lr) + 3) ** 2
        made.append(
            {"val_accs": [0.1, best], "outcome": outcome, "space.lr": lr, "space.warmup": int(random.integers(1, 9))}
            | more
        )
    return made


@pytest.fixture
def table(make_study):
    return build_importance(make_study(*trials(60)))


def test_what_the_accuracy_hangs_on_ranks_first(table):
    assert table["parameter"].tolist() == ["lr", "warmup"]


def test_importances_are_shares(table):
    assert table["importance"].sum() == pytest.approx(1)


def test_a_rank_lies_in_its_interval(table):
    assert ((table["rank_low"] <= table["rank"]) & (table["rank"] <= table["rank_high"])).all()


def test_a_clear_rank_has_a_narrow_interval(table):
    assert table.loc[0, ["rank_low", "rank_high"]].tolist() == [1, 1]


def test_a_parameter_that_does_nothing_beside_another_such_is_not_ranked_for_sure(make_study):
    random = np.random.default_rng(1)
    made = [trial | {"space.lr": random.uniform(1e-4, 1e-2)} for trial in trials(40)]
    found = build_importance(make_study(*made))
    assert (found["rank_high"] - found["rank_low"]).max() == 1


def test_the_studys_ranges_are_used(make_study):
    study = dataclasses.replace(make_study(*trials(40)), space=SPACE)
    assert "the study file's ranges" in importance_footnotes(study)[0]
    assert build_importance(study)["parameter"].tolist()[0] == "lr"


@pytest.mark.parametrize("space", [None, {"optimizer": {"choices": ["adam", "sgd", "padam"]}}])
def test_choices_are_ranked_too(make_study, space):
    made = [
        trial | {"space.optimizer": "adam" if i % 2 else "sgd", "val_accs": [0.9 if i % 2 else 0.5]}
        for i, trial in enumerate(trials(40))
    ]
    study = dataclasses.replace(make_study(*made), space=space)
    assert build_importance(study).loc[0, "parameter"] == "optimizer"


def test_a_pruned_trial_is_never_among_the_best(make_study):
    # Stopped high, at a learning rate where others end low: that must not draw the best there.
    high = [{"val_accs": [0.95], "outcome": "pruned", "space.lr": 9e-3, "space.warmup": 8}] * 10
    assert build_importance(make_study(*trials(40), *high)).loc[0, "parameter"] == "lr"


def test_a_trial_that_has_not_ended_counts_for_nothing(make_study):
    ended, running = trials(30), trials(1, val_accs=[0.99], outcome=None)
    assert build_importance(make_study(*ended, *running)).equals(build_importance(make_study(*ended)))


def test_the_same_seed_gives_the_same_ranks(make_study):
    study = make_study(*trials(30))
    assert build_importance(study, seed=1).equals(build_importance(study, seed=1))


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        pytest.param(trials(FEWEST_TRIALS - 1), "19 trials ended; importances of fewer than 20", id="few"),
        pytest.param(trials(30, "pruned"), "0 of 30 trials were not stopped by a rule", id="pruned"),
        pytest.param([{"val_accs": [0.5], "outcome": "exhausted"}], "sampled no parameter", id="no space"),
        pytest.param(trials(30, **{"space.warmup": 3}), "two or more parameters that vary, found 1", id="one"),
    ],
)
def test_a_study_that_cannot_tell_is_refused_with_the_reason(make_study, made, reason):
    with pytest.raises(ValueError, match=reason):
        build_importance(make_study(*made))


@pytest.mark.parametrize("style", ["text", "markdown", "csv", "latex", "json"])
def test_it_is_rendered(table, style):
    assert "warmup" in render(table, style)


def test_a_conditional_parameter_is_judged_by_the_trials_that_have_it(make_study):
    made = trials(60)
    for number, trial in enumerate(made):
        if number % 2:
            trial["space.momentum"] = 0.8 + 0.003 * number
        if number < 5:
            trial["space.padam_p"] = 0.1 + 0.05 * number
    found = build_importance(make_study(*made)).set_index("parameter")
    assert found["importance"].notna().to_dict() == {name: name != "padam_p" for name in found.index}
    assert "momentum" in found.index
    assert found["rank"].isna()["padam_p"]


def test_a_column_is_empty_where_a_parameter_was_not_asked(make_study):
    made = trials(4)
    for number, trial in enumerate(made):
        trial["weight_decay"] = 0.1
        if number < 2:
            trial["space.weight_decay"] = 0.1
    shown = build_table(make_study(*made))
    assert shown["weight_decay"].notna().sum() == 2
    assert list(shown.columns).count("weight_decay") == 1
