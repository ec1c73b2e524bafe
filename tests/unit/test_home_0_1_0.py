"""What version 0.1.0 wrote is read: its ledger, its store, its checkpoints."""

import contextlib
import csv
import io
import sqlite3

import pytest

import analysis
from resnet_core import checkpoint
from resnet_core.records import Outcome
from resnet_core.trainer import train
from search_spaces.study import study_hash
from sweeps.home import Home
from sweeps.ledger.ledger import Ledger
from tests import home_0_1_0


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Home:
    return Home(home_0_1_0.restore(tmp_path_factory.mktemp("home")))


def test_its_ledger_lists_the_trials_and_how_they_ended(home):
    entries = Ledger.open(home.ledger_uri, home_0_1_0.ENDED).entries()
    assert [entry.result.outcome for entry in entries] == [
        *(Outcome.REACHED, Outcome.EXHAUSTED, Outcome.REACHED, Outcome.REACHED, Outcome.EXHAUSTED, Outcome.REACHED)
    ]
    assert [entry.result.epochs_to_target for entry in entries] == [5, None, 5, 4, None, 4]


def test_its_ledger_continues_the_trial_that_was_running(home):
    ledger = Ledger.open(home.ledger_uri, home_0_1_0.KILLED)
    assert [job.name for job in ledger.unfinished()] == ["adamw"]
    assert ledger.remaining() == 0


@pytest.mark.parametrize("name", [home_0_1_0.ENDED, home_0_1_0.KILLED])
def test_what_its_study_asks_has_the_same_identity(home, name):
    asked = Ledger.open(home.ledger_uri, name).spec
    query = (
        "select distinct tags.value from tags join runs using (run_uuid) join experiments using (experiment_id)"
        " where tags.key = 'study_hash' and experiments.name = ?"
    )
    with contextlib.closing(sqlite3.connect(home.own_mlflow_db)) as connection:
        assert connection.execute(query, [name]).fetchall() == [(study_hash(asked),)]


def test_its_store_makes_the_table_that_it_made(home):
    was = list(csv.DictReader(home_0_1_0.TABLE.read_text().splitlines()))
    table = analysis.build_table(analysis.load(home.mlflow_uri, home_0_1_0.ENDED))
    now = list(csv.DictReader(io.StringIO(analysis.render(table, "csv"))))
    assert [{name: row[name] for name in was[0]} for row in now] == was


def test_its_checkpoint_holds_the_epochs_of_the_trial(home):
    records = home.checkpoint_records(home_0_1_0.KILLED, 0)
    assert [record.epoch for record in records] == list(range(1, 9))
    assert records[-1].val_acc == 0.22


def test_a_training_goes_on_from_its_checkpoint(home):
    (job,) = Ledger.open(home.ledger_uri, home_0_1_0.KILLED).unfinished()
    path = home.checkpoint(home_0_1_0.KILLED, 0)
    assert checkpoint.load(path)["config"].items() <= job.config.to_dict().items()
    epochs = train(job.config, data_dir=home.root, checkpoint=path)
    assert [next(epochs).epoch for _ in range(9)] == list(range(1, 10))
