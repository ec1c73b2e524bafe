"""Databases whose tables another version of Optuna or MLflow made."""

import sqlite3
from contextlib import closing

import pytest

from sweeps.errors import SweepError, schema_reason
from sweeps.ledger.database import open_storage, read_storage


@pytest.mark.parametrize("opened", [open_storage, read_storage])
@pytest.mark.parametrize(
    ("revision", "expected"),
    [("v3.0.0.a", "optuna storage upgrade --storage '{uri}'"), ("v99.0.0", "pip install -U optuna")],
)
def test_a_ledger_of_another_version_names_the_command(tmp_path, opened, revision, expected):
    uri = f"sqlite:///{tmp_path / 'optuna.db'}"
    open_storage(uri).engine.dispose()
    with closing(sqlite3.connect(tmp_path / "optuna.db")) as connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", [revision])
        connection.commit()
    with pytest.raises(SweepError) as refused:
        opened(uri)
    assert expected.format(uri=uri) in str(refused.value)


def test_a_store_of_another_version_names_the_command(tmp_path):
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    with closing(sqlite3.connect(tmp_path / "mlflow.db")):
        MlflowClient(uri).search_experiments()
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '451aebb31d03'")
        connection.commit()
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    with pytest.raises(MlflowException) as refused:
        SqlAlchemyStore(uri, str(tmp_path))
    assert f"mlflow db upgrade '{uri}'" in str(schema_reason(refused.value, uri))


def test_the_command_hides_a_password():
    said = schema_reason(RuntimeError("`$ optuna storage upgrade --storage $STORAGE_URL`"), "postgresql://me:x1@host/r")
    assert "x1" not in str(said)


def test_what_a_server_printed_has_the_reason_among_its_lines():
    printed = (
        "ERROR mlflow.cli: Error initializing backend store\nMlflowException: Detected out-of-date database schema"
    )
    assert "mlflow db upgrade 'sqlite:////r/mlflow.db'" in str(schema_reason(printed, "sqlite:////r/mlflow.db"))
