"""The report's six optimizers in one study, with a rule and a sampler of the user's own, through ``sweeps launch``."""

import csv
import io
from pathlib import Path
from typing import Any, NamedTuple

import pytest

RULE = '''
from pydantic import Field

import sweeps


class Enough(sweeps.StoppingRule):
    """Ends a trial after a number of epochs.

    Attributes:
        epochs: number of epochs after which a trial ends.
    """

    epochs: int = Field(default=9, ge=1)

    def reason_to_stop(self, trial, study):
        return f"{trial.epoch} epochs are enough" if trial.epoch >= self.epochs else None
'''
SAMPLER = """
from optuna.samplers import TPESampler


def grouped(seed: int, startup: int) -> TPESampler:
    return TPESampler(seed=seed, n_startup_trials=startup, multivariate=True, group=True)
"""
CHANGES = {
    "train.model": "resnet11v2",
    "train.data": "digits",
    "train.image_size": 16,
    "train.flip": "false",
    "train.train_limit": 40,
    "train.val_limit": 20,
    "train.batch_size": 20,
    "train.schedule": "[lr, 0] cos[0.01*lr, 3]",
    "objective.target": 0.9,
    "search.trials": 9,
    "search.sampler": "samplers:grouped",
    "search.sampler_options.startup": 3,
    "stopping.forecast": "",
    "stopping.rules:Enough": "{ epochs = 2 }",
    "resources.gpus_per_trial": 0,
}
ASKED = {
    "adam": {"beta2"},
    "nadam": {"beta2"},
    "amsgrad": {"beta2"},
    "adamw": {"beta2", "weight_decay"},
    "sgd": {"nesterov", "weight_decay"},
    "padam": {"beta2", "padam_p", "weight_decay"},
}
CONDITIONAL = {"beta2", "weight_decay", "nesterov", "padam_p"}


class Launched(NamedTuple):
    """A study that has run, whose code is gone."""

    home: Path
    code: Path
    stderr: str


@pytest.fixture(scope="module")
def launched(sweeps, tmp_path_factory) -> Launched:
    folder = tmp_path_factory.mktemp("optimizers")
    shipped = Path(__file__).parents[2] / "search_spaces" / "optimizers.toml"
    study = folder / "study.toml"
    study.write_text(shipped.read_text())
    (folder / "rules.py").write_text(RULE)
    (folder / "samplers.py").write_text(SAMPLER)
    changes = [word for key, value in CHANGES.items() for word in ("--set", f"{key}={value}")]
    done = sweeps("launch", study, *changes, "--home", folder / "home", "--yes", timeout=900)
    for file in ("rules.py", "samplers.py"):
        (folder / file).write_text("raise SystemExit('imported')")
    return Launched(folder / "home", folder, done.stderr)


@pytest.fixture(scope="module")
def rows(sweeps, launched) -> list[dict[str, Any]]:
    return sweeps.json("table", "optimizers", "--home", launched.home)


def test_each_trial_has_the_parameters_of_its_optimizer(rows):
    assert len(rows) == 9
    assert {row["optimizer"] for row in rows} == ASKED.keys()  # the first six trials
    for row in rows:
        assert {name for name in CONDITIONAL if row[name] is not None} == ASKED[row["optimizer"]]


def test_what_was_not_asked_is_no_parameter_in_optuna_or_mlflow(launched, store, rows):
    kept = store(launched.home, "optimizers")
    for trial in kept.optuna().get_trials():
        assert trial.params.keys() & CONDITIONAL == ASKED[trial.params["optimizer"]]
    for run in kept.trials.values():
        sampled = {name.removeprefix("space.") for name in run.data.params if name.startswith("space.")}
        assert sampled & CONDITIONAL == ASKED[run.data.params["optimizer"]]


def test_cells_of_csv_and_text_are_empty(sweeps, launched):
    text = sweeps("table", "optimizers", "--home", launched.home, "--format", "csv").stdout
    for row in csv.DictReader(io.StringIO(text)):
        assert {name for name in CONDITIONAL if row[name]} == ASKED[row["optimizer"]]


def test_the_rule_ends_trials_under_its_reference(rows):
    assert {row["outcome"] for row in rows} <= {"pruned", "diverged"}
    pruned = [row for row in rows if row["outcome"] == "pruned"]
    assert {(row["epochs_run"], row["stop_reason"]) for row in pruned} == {(2, "2 epochs are enough")}


@pytest.mark.parametrize("command", [["table"], ["best"], ["show", "0"], ["status"]])
def test_a_study_is_read_without_its_code(sweeps, launched, command):
    name, *rest = command
    done = sweeps(name, "optimizers", *rest, "--home", launched.home, cwd=launched.code)
    assert "imported" not in done.stdout + done.stderr
