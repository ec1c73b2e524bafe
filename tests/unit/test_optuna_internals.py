"""What the ledger uses of Optuna without Optuna's promise, see sweeps.ledger.optuna_internals: is it still there?"""

import re
from pathlib import Path

import optuna
import pytest
from sqlalchemy import Engine

import sweeps.ledger
from sweeps.ledger.optuna_internals import engine_of, is_finished, live_trial, uri_of

LEDGER = Path(sweeps.ledger.__file__).parent
UPGRADE = "this version of Optuna needs another way in sweeps/ledger/optuna_internals.py: "


@pytest.fixture
def storage(tmp_path: Path) -> optuna.storages.RDBStorage:
    return optuna.storages.RDBStorage(f"sqlite:///{tmp_path / 'optuna.db'}")


@pytest.fixture
def study(storage: optuna.storages.RDBStorage) -> optuna.Study:
    return optuna.create_study(storage=storage)


def test_a_trial_of_an_earlier_process_can_be_reported_and_told(study):
    study.ask().set_user_attr("name", "a")
    (waiting,) = study.get_trials()
    try:
        trial = live_trial(study, waiting)
        trial.report(0.5, 1)
        study.tell(trial, 0.25)
    except (AttributeError, TypeError) as error:
        pytest.fail(f"{UPGRADE}a trial that was interrupted cannot be continued ({error})")
    (told,) = study.get_trials()
    assert (told.number, told.value, told.intermediate_values, told.user_attrs) == (0, 0.25, {1: 0.5}, {"name": "a"})


def test_a_live_trial_has_the_attributes_and_parameters_that_were_set_on_it(study):
    trial = study.ask()
    trial.set_user_attr("name", "a")
    value = trial.suggest_float("lr", 0.0, 1.0)
    why = f"{UPGRADE}a trial's attributes and parameters are read from it without asking the database again"
    assert (trial.user_attrs, trial.params) == ({"name": "a"}, {"lr": value}), why


def test_the_state_of_one_trial_is_read_from_the_storage(study):
    trial = study.ask()
    try:
        before = is_finished(study, trial)
        optuna.load_study(study_name=study.study_name, storage=study._storage).tell(trial.number, 1.0)
        after = is_finished(study, trial)
    except AttributeError as error:
        pytest.fail(f"{UPGRADE}a result whose first answer was lost would be told twice ({error})")
    assert (before, after) == (False, True)


def test_the_database_of_a_storage_can_be_reached(storage, tmp_path):
    try:
        engine, uri = engine_of(storage), uri_of(storage)
    except AttributeError as error:
        pytest.fail(f"{UPGRADE}the tables of drivers lie in Optuna's database ({error})")
    assert isinstance(engine, Engine)
    assert uri == f"sqlite:///{tmp_path / 'optuna.db'}"


def test_no_other_module_of_the_ledger_uses_private_names():
    private = re.compile(r"(?<!self)(?<!cls)\._[a-z]")
    found = {path.name for path in LEDGER.glob("*.py") if private.search(path.read_text())}
    assert found <= {"optuna_internals.py"}
