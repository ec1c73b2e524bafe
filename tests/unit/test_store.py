import json
import math
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest

import analysis
from analysis.store.loader import StoreError, load, parse_param, studies
from resnet_core.objective import Objective


@pytest.fixture(scope="module")
def small(store):
    """A study of a trial of each kind, and the run of each."""
    launch = store.launch("small", description="A small question")
    runs = {
        0: store.trial(launch, 0, [0.5, 0.93, 0.91], "reached", weight_decay=0.18),
        1: store.trial(launch, 1, [0.5, 0.6], "pruned", "cap: slower than 1.2 x the 5th best"),
        2: store.trial(launch, 2, [], "crashed"),
        3: store.trial(launch, 3, [0.4], train_limit=500),
    }
    deleted = store.trial(launch, 4, [0.99], "reached")
    store.client.delete_run(deleted)
    return runs


def test_parameters_that_are_numbers_are_numbers(store, small):
    first = load(store.path, "small").trials.loc[0]
    assert (first["weight_decay"], first["lr_alpha"], first["batch_size"]) == (0.18, 0.0012, 64)


def test_texts_that_look_like_numbers_are_texts():
    """Only what Python writes of a number is one: a name may have zeros ahead, or be very long."""
    texts = ["007", "1e5", "+5", "1.", ".5", "NaN", "9" * 5000]
    assert [parse_param(text) for text in texts] == texts
    assert [parse_param(text) for text in ("7", "100000.0", "1e-05", "-5", "inf")] == [7, 1e5, 1e-5, -5, math.inf]


def test_choices_that_are_texts_stay_texts(store):
    choices = ["7", "nan", "True", "None", "v1"]
    space = {"head": {"choices": choices}, "crop": {"choices": [7, 8]}, "flip": {"choices": [True, "True"]}}
    launch = store.launch("texts", **{"space": json.dumps(space)})
    for number, choice in enumerate(choices):
        run = store.trial(launch, number, [0.1], crop=7)
        store.client.log_param(run, "space.head", choice)
    trials = load(store.path, "texts").trials
    assert trials["space.head"].tolist() == choices
    assert set(trials["crop"]) == {7}
    assert set(trials["flip"]) == {True}  # the two choices are written alike: the one that is no text counts


def test_true_false_and_none_are_what_they_were(store, small):
    trials = load(store.path, "small").trials
    assert trials.loc[0, "flip"].item() is True
    assert trials["train_limit"].isna().tolist() == [True, True, True, False]


def test_an_epoch_has_the_record_that_was_logged(store, small):
    second = load(store.path, "small").epochs.loc[1]
    assert second.dropna().to_dict() == {
        **{"number": 0, "epoch": 2, "loss": 1.0, "acc": 0.2, "val_loss": 1.25, "val_acc": 0.93},
        **{"lr": 1e-3, "wd_lr": 1e-4, "seconds": 1.5, "images_per_second": 40_000.0},
    }


def test_a_metric_that_was_not_logged_is_missing(store, small):
    epochs = load(store.path, "small").epochs
    assert epochs[["power_watts", "gpu_util_percent"]].isna().all(axis=None)


def test_a_metric_of_some_trials_only_is_missing_in_the_others(store):
    launch = store.launch("one GPU")
    run = store.trial(launch, 0, [0.1])
    store.metric(run, "power_watts", 97.0, 1, 10_000)
    store.trial(launch, 1, [0.1])
    power = load(store.path, "one GPU").epochs["power_watts"]
    assert (power[0], power.isna().tolist()) == (97.0, [False, True])


def test_the_launch_tells_the_phase_and_what_is_sampled(store):
    space = {"lr": {"low": 1e-3, "high": 2e-3, "log": True, "int": False}}
    store.launch("confirmed", phase="confirm", confirms="s trial 3", space=json.dumps(space))
    study = load(store.path, "confirmed")
    assert (study.phase, study.confirms, study.space) == ("confirm", "s trial 3", space)


def test_the_launch_tells_how_its_number_of_runs_came_about(store):
    store.launch("looked-at", phase="confirm", lengthened="looked")
    assert load(store.path, "looked-at").lengthened == "looked"
    store.launch("fixed", phase="confirm")
    assert load(store.path, "fixed").lengthened == ""


def test_a_study_from_before_there_were_phases_is_a_search(store, small):
    study = load(store.path, "small")
    assert (study.phase, study.confirms, study.space) == ("search", "", None)


def test_a_test_accuracy_is_at_its_epoch_and_missing_at_the_others(store):
    run = store.trial(store.launch("tested"), 0, [0.5, 0.6])
    store.metric(run, "test_acc", 0.55, epoch=2, timestamp=3_000)
    assert load(store.path, "tested").epochs["test_acc"].fillna(0).tolist() == [0, 0.55]


def test_the_launch_tells_target_and_description(store, small):
    study = load(store.path, "small")
    assert (study.target, study.sustained, study.description) == (0.92, 2, "A small question")


def test_the_split_is_the_trials(store, small):
    assert load(store.path, "small").split == "official"


def test_splits_that_differ_are_all_named(store):
    launch = store.launch("splits")
    store.trial(launch, 0, split="official")
    store.trial(launch, 1, split="held-out")
    assert load(store.path, "splits").split == "held-out, official"


def test_of_two_runs_of_a_trial_the_later_counts(store):
    launch = store.launch("again")
    later = store.trial(launch, 0, [0.2], start=6_000)
    store.trial(launch, 0, [0.1, 0.1], start=5_000)
    study = load(store.path, "again")
    assert (study.trials["run_id"].tolist(), study.epochs["val_acc"].tolist()) == ([later], [0.2])


def test_runs_of_another_kind_are_left_out(store):
    launch = store.launch("kinds")
    run = store.trial(launch, 0)
    store.client.set_tag(run, "sweeps.kind", "confirmation")
    assert load(store.path, "kinds").trials.empty


def test_a_second_launch_sets_the_target_and_adds_its_trials(store):
    store.trial(store.launch("relaunched", start=1_000, target="0.9"), 0)
    store.trial(store.launch("relaunched", start=5_000, target="0.91"), 1)
    study = load(store.path, "relaunched")
    assert (study.target, study.trials["number"].tolist()) == (0.91, [0, 1])


def test_a_trial_without_a_number_is_an_error(store, tmp_path):
    launch = store.launch("unnumbered")
    run = store.trial(launch, "x")
    try:
        with pytest.raises(StoreError, match=r"sweeps\.trial = 'x'"):
            load(store.path, "unnumbered")
    finally:
        store.client.delete_run(run)  # the other tests share this store


@pytest.mark.parametrize(
    ("name", "value"),
    [("sweeps.kind", None), ("mlflow.parentRunId", "x"), ("mlflow.parentRunId", None), ("gpus", "two")],
)
def test_a_trial_whose_tag_somebody_changed_is_there(store, name, value):
    launch = store.launch("touched")
    run = store.trial(launch, 0, [0.5], "reached")
    store.client.delete_tag(run, name) if value is None else store.client.set_tag(run, name, value)
    assert load(store.path, "touched").trials["outcome"].tolist() == ["reached"]


def test_an_outcome_that_somebody_made_up_is_none(store):
    store.client.set_tag(store.trial(store.launch("made up"), 0, [0.5], "reached"), "outcome", "great")
    study = load(store.path, "made up")
    assert study.trials["outcome"].tolist() == [None]
    analysis.build_stopping(analysis.histories(study), study.objective.target_score)


@pytest.mark.parametrize("text", ["x", "", "1", "[1]"])
def test_a_launch_whose_tags_somebody_changed_is_a_study(store, text):
    launch = store.launch("launch touched", space=text, stopping_rules=text)
    store.trial(launch, 0, [0.5], "reached")
    store.client.delete_tag(launch, "sweeps.kind")
    study = load(store.path, "launch touched")
    assert (study.space, study.stopping_rules, len(study.trials)) == (None, None, 1)


@pytest.mark.parametrize("text", ['{"lr": 1}', '{"lr": {}}', '{"lr": {"choices": 1}}', '{"lr": {"low": 0.1}}'])
def test_a_space_that_somebody_made_up_is_none(store, text):
    store.trial(store.launch("made-up space", space=text), 0, [0.5], "reached")
    assert load(store.path, "made-up space").space is None


@pytest.mark.parametrize("text", ["007", "1" * 20, "9" * 5000, "1e400", "١"])
def test_a_parameter_that_no_number_can_hold_is_text(text):
    assert parse_param(text) == text


def test_a_launch_without_a_target_has_none(store):
    launch = store.launch("targetless", metric="val_loss", goal="min")
    store.client.delete_tag(launch, "target")
    assert load(store.path, "targetless").objective == Objective("val_loss", "min", None)


def test_a_launch_whose_target_is_no_number_is_an_error(store):
    store.launch("wrong target", target="high")
    with pytest.raises(StoreError, match=r"lacks a usable tag: .*high"):
        load(store.path, "wrong target")


def test_studies_counts_trials_by_outcome(store, small):
    row = studies(store.path).set_index("name").loc["small"]
    columns = ["trials", "reached", "exhausted", "pruned", "diverged", "crashed", "running"]
    assert row[columns].tolist() == [4, 1, 0, 1, 0, 1, 1]


def test_studies_tells_description_and_status(store, small):
    row = studies(store.path).set_index("name").loc["small"]
    assert (row["description"], row["status"]) == ("A small question", "RUNNING")


def test_studies_come_newest_first(store):
    store.launch("old", start=10)
    store.launch("new", start=10**12)
    names = studies(store.path)["name"].tolist()
    assert names.index("new") < names.index("old")


def test_studies_leaves_out_deleted_launches(store):
    store.client.delete_run(store.launch("deleted launch"))
    assert "deleted launch" not in studies(store.path)["name"].tolist()


def test_studies_leaves_out_experiments_that_are_no_studies(store):
    store.client.create_experiment("somebody else's")
    assert "somebody else's" not in studies(store.path)["name"].tolist()


def test_studies_of_an_empty_store_is_empty(tmp_path):
    empty_store(tmp_path / "mlflow.db")
    assert studies(tmp_path / "mlflow.db").empty


def test_an_unknown_study_is_named_with_the_known_ones(tmp_path, store, small):
    with pytest.raises(StoreError, match=r"no study 'smal'; its studies: .*\bsmall\b"):
        load(store.path, "smal")


def test_a_file_that_is_missing_is_named(tmp_path):
    with pytest.raises(StoreError, match=r"absent\.db: no such file"):
        load(tmp_path / "absent.db", "small")


def test_a_folder_in_place_of_a_store_is_not_told_as_absent(tmp_path):
    with pytest.raises(StoreError, match=f"^{tmp_path}: it is no file; expected the mlflow.db"):
        studies(tmp_path)


def test_reading_makes_no_file(tmp_path):
    with pytest.raises(StoreError):
        studies(tmp_path / "absent.db")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("read", [studies, lambda db: load(db, "small")])
def test_a_file_that_is_no_database_is_refused(tmp_path, read):
    (tmp_path / "notes.db").write_text("not a database " * 100)
    with pytest.raises(StoreError, match="not an MLflow database"):
        read(tmp_path / "notes.db")


def test_a_database_of_another_kind_is_refused(tmp_path):
    with sqlite3.connect(tmp_path / "optuna.db") as connection:
        connection.execute("CREATE TABLE trials (number INTEGER)")
    with pytest.raises(StoreError, match="lacks the tables experiment_tags, experiments"):
        studies(tmp_path / "optuna.db")


@pytest.mark.parametrize("name", ["a b", "what?mode=rwc", "50%25", "c#1", "ü"])
def test_odd_paths_are_read(tmp_path, name):
    folder = tmp_path / name
    folder.mkdir()
    empty_store(folder / "mlflow.db")
    assert studies(folder / "mlflow.db").empty


def test_reads_while_a_writer_has_a_transaction_open(tmp_path):
    db = tmp_path / "mlflow.db"
    empty_store(db)
    writer = sqlite3.connect(db)
    writer.execute("BEGIN IMMEDIATE")
    writer.execute("INSERT INTO experiments VALUES (1, 'x', 'active')")
    assert studies(db).empty
    writer.close()


def test_a_store_that_stays_locked_is_an_error_that_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr("analysis.store.backends.sqlite._BUSY_SECONDS", 0.01)
    db = tmp_path / "mlflow.db"
    empty_store(db)
    writer = sqlite3.connect(db)
    writer.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StoreError, match="busy"):
        studies(db)
    writer.close()


def test_a_table_that_lacks_what_is_read_is_an_error_that_says_so(tmp_path):
    db = tmp_path / "mlflow.db"
    empty_store(db)
    with closing(sqlite3.connect(db)) as writer:
        writer.execute("ALTER TABLE runs DROP COLUMN status")
    with pytest.raises(StoreError, match=r"mlflow\.db: cannot be read: no such column: .*status"):
        studies(db)


def test_reads_what_was_there_after_a_writer_was_killed(tmp_path):
    db = tmp_path / "mlflow.db"
    empty_store(db)
    # A cache this small is written to the file ahead of the commit that never comes.
    code = f"""
import os, signal, sqlite3
c = sqlite3.connect({str(db)!r})
c.execute("PRAGMA cache_size = 2")
c.execute("BEGIN IMMEDIATE")
c.executemany("INSERT INTO experiments VALUES (?, 'x', 'active')", ((i,) for i in range(9999)))
os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", code], check=False)
    assert (tmp_path / "mlflow.db-journal").stat().st_size > 0
    assert studies(db).empty


def test_the_package_offers_it():
    assert analysis.load is load


def test_the_package_has_no_other_names():
    with pytest.raises(AttributeError, match="lod"):
        analysis.lod  # noqa: B018


def empty_store(path):
    """MLflow's tables as far as they are read, made in no time."""
    with sqlite3.connect(path) as connection:
        connection.executescript("""
            CREATE TABLE experiments (experiment_id INTEGER, name TEXT, lifecycle_stage TEXT);
            CREATE TABLE experiment_tags (experiment_id INTEGER, key TEXT, value TEXT);
            CREATE TABLE runs (run_uuid TEXT, name TEXT, status TEXT, start_time INTEGER, end_time INTEGER,
                               lifecycle_stage TEXT, experiment_id INTEGER);
            CREATE TABLE tags (key TEXT, value TEXT, run_uuid TEXT);
            CREATE TABLE params (key TEXT, value TEXT, run_uuid TEXT);
            CREATE TABLE latest_metrics (key TEXT, value REAL, run_uuid TEXT);
            CREATE TABLE metrics (key TEXT, value REAL, timestamp INTEGER, run_uuid TEXT, step INTEGER,
                                  is_nan INTEGER);
        """)
    connection.close()


def test_the_environment_is_what_the_trials_ran_with(store):
    launch = store.launch("environment")
    store.trial(launch, 0, [0.5], "exhausted")
    assert load(store.path, "environment").environment == {"code_version": "0.1.0", "device": "cpu"}


def test_versions_are_those_of_the_launch(store):
    launch = store.launch("versions")
    store.client.set_tag(launch, "torch", "2.11.0")
    assert load(store.path, "versions").environment == {"torch": "2.11.0"}


def test_the_description_is_no_longer_the_note(store):
    launch = store.launch("described", description="a note with a table")
    store.client.set_tag(launch, "description", "Which rate?")
    assert load(store.path, "described").description == "Which rate?"


def test_an_older_study_has_its_description_in_its_note(store):
    store.launch("older", description="Which rate?")
    assert load(store.path, "older").description == "Which rate?"


def test_the_share_of_a_gpu_that_a_trial_held_is_a_number_where_the_store_says(store):
    launch = store.launch("gpus")
    run = store.trial(launch, 0, [0.5], "exhausted")
    store.client.set_tag(run, "gpus", "0.25")
    store.trial(launch, 1, [0.5], "exhausted")
    assert load(store.path, "gpus").trials["gpus"].fillna(-1).tolist() == [0.25, -1]


def test_a_study_of_an_own_trainer_has_the_metrics_that_it_logged_and_the_one_that_counts(store):
    from mlflow.entities import Metric, Param

    launch = store.launch("own", metric="error", goal="min")
    experiment = store.client.get_run(launch).info.experiment_id
    tags = {"sweeps.kind": "trial", "sweeps.trial": "0", "mlflow.parentRunId": launch}
    run_id = store.client.create_run(experiment, 2_000, tags, run_name="0").info.run_id
    metrics = [Metric("rmse", 2.0, 2_001, 1), Metric("val_loss", 0.5, 2_001, 1)]
    store.client.log_batch(run_id, params=[Param("rate", "0.1")], metrics=metrics)
    assert list(load(store.path, "own").epochs) == ["number", "epoch", "val_loss", "error", "rmse"]
