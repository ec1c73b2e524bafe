"""Two drivers of one study, each with a home of its own, the ledger and MLflow on one PostgreSQL; and it restarts."""

import time

import pytest

from resnet_core.uris import with_psycopg2

pytestmark = pytest.mark.slow

TRIALS, EPOCHS = 4, 8
LEASE = {"SWEEPS_LEASE": "15"}


@pytest.fixture
def shared(postgres):
    """Options that name a ledger and an MLflow store on PostgreSQL, and the two URIs."""
    ledger, mlflow = postgres.database(), postgres.database()
    return ("--ledger", ledger, "--mlflow", mlflow), with_psycopg2(mlflow), with_psycopg2(ledger)


def test_a_killed_driver_is_replaced_by_another_one(sweeps, store, studies, listed, cluster, shared, tmp_path):
    """Each trial is run once, each epoch written once, and the curves are those of an undisturbed study."""
    options, mlflow, ledger = shared
    homes = [tmp_path / "a", tmp_path / "b"]
    first = sweeps.start("launch", studies.listed, "--home", homes[0], *options, env=LEASE)
    first.until(lambda command: len({trial for trial, _ in command.epochs}) == 2)
    with first.suspended():  # its two trials are held, the other two are left
        second = sweeps.start("launch", studies.listed, "--home", homes[1], *options, on=cluster, env=LEASE)
        second.until(lambda command: "waiting for the trials of other drivers (2)" in command.stderr)
        status = sweeps.json("status", "listed", "--home", tmp_path / "c", *options[:2])
        assert (status["state"], status["begun"], status["process"]) == ("running", 2, None)
        assert [driver["home"] for driver in sorted(status["drivers"], key=lambda d: d["home"])] == list(
            map(str, homes)
        )
        refused = sweeps("stop", "listed", "--home", tmp_path / "c", *options[:2], code=1)
        assert "not run by this home" in refused.stderr
        first.kill()
    done = second.wait()
    assert done.code == 0, done.stderr

    found = store(homes[1], "listed", mlflow, ledger)
    assert [trial.state.name for trial in found.optuna().trials] == ["COMPLETE"] * TRIALS
    found.assert_epochs_once()
    assert found.curves() == listed.store.curves()
    assert sorted(run.info.status for run in found.launches) == ["FINISHED", "KILLED"]
    shown = [*first.epochs, *second.epochs]
    assert len(shown) == len(set(shown)) == TRIALS * EPOCHS
    status = sweeps.json("status", "listed", "--home", homes[0], *options[:2])
    assert (status["state"], status["drivers"]) == ("complete", [])


def test_postgresql_restarts_while_a_study_runs(sweeps, store, listed, cluster, postgres, shared, tmp_path):
    """Training goes on, and the study when the server is back; asked to stop through the ledger, it stops."""
    options, mlflow, ledger = shared
    home = tmp_path / "home"
    command = sweeps.start("launch", listed.file, "--home", home, *options, on=cluster, env={"SWEEPS_LEASE": "60"})
    command.until(lambda running: len(running.epochs) >= 3)
    postgres.stop()
    time.sleep(3)
    postgres.start()
    command.until(lambda running: len(running.epochs) >= TRIALS * EPOCHS - 8)
    with command.suspended():
        asked = sweeps("stop", "listed", "--all", "--no-wait", "--home", tmp_path / "other", *options[:2])
        assert "asked 1 drivers to stop" in asked.stderr
        command.until(lambda running: "stopping: running trials" in running.stderr)
    assert command.wait().code == 130
    done = sweeps("resume", "listed", "--home", home, *options, on=cluster)
    assert "sweeps resume" not in done.stdout
    found = store(home, "listed", mlflow, ledger)
    found.assert_whole(TRIALS)
    assert found.curves() == listed.store.curves()
