"""Studies whose MLflow store is not a file of the home folder."""

import json

import pytest

pytestmark = pytest.mark.slow

pytest.importorskip("psycopg2")


@pytest.fixture(scope="module")
def uri(postgres) -> str:
    return postgres.guarded(postgres.database(), "let-me-in")


@pytest.fixture(scope="module")
def launched(sweeps, studies, cluster, uri, tmp_path_factory):
    """A study launched into PostgreSQL: its home, and what the launch said."""
    home = tmp_path_factory.mktemp("postgres") / "home"
    return home, sweeps("launch", studies.grid, "--home", home, "--mlflow", uri, on=cluster)


def test_a_launch_into_postgres_prints_its_table(launched):
    home, done = launched
    assert done.stdout.splitlines()[0].startswith("trial")
    assert not (home / "mlflow.db").exists()


def test_no_password_is_printed(launched):
    _, done = launched
    assert "let-me-in" not in done.stdout + done.stderr


@pytest.mark.parametrize("command", ["table", "stopping", "best", "show"])
def test_a_study_in_postgres_is_read_there(command, sweeps, launched, uri):
    home, _ = launched
    which = ["0"] if command == "show" else []
    done = sweeps(command, "grid", *which, "--json", "--home", home, env={"SWEEPS_MLFLOW": uri})
    assert json.loads(done.stdout)


def test_show_has_the_epochs_from_postgres(sweeps, launched, uri):
    home, _ = launched
    shown = json.loads(sweeps("show", "grid", "0", "--json", "--home", home, "--mlflow", uri).stdout)
    assert [row["epoch"] for row in shown["epochs"]] == [1, 2]


def test_the_ui_of_a_server_is_its_own(sweeps, tmp_path):
    done = sweeps("ui", "--home", tmp_path, "--mlflow", "http://me:secret@127.0.0.1:9", code=2)
    assert "open http://me:***@127.0.0.1:9" in done.stderr


def test_a_store_of_no_known_kind_is_refused(sweeps, tmp_path):
    done = sweeps("table", "grid", "--home", tmp_path, "--mlflow", "mysql://me:secret@host/runs", code=2)
    assert "--mlflow mysql://me:***@host/runs: expected " in done.stderr
