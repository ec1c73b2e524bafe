"""Every kind of store that can be read keeps to the same contract."""

import pytest

from analysis.store.backends import BACKENDS
from sweeps.testing.stores import StoreContract
from tests.mlflow_server import serving
from tests.postgres import postgres

__all__ = ["postgres"]


class TestSqlite(StoreContract):
    backend = "sqlite"

    @pytest.fixture(scope="class")
    @classmethod
    def uri(cls, tmp_path_factory):
        return f"sqlite:///{tmp_path_factory.mktemp('store') / 'mlflow.db'}"


class TestPostgres(StoreContract):
    backend = "postgres"

    @pytest.fixture(scope="class")
    @classmethod
    def uri(cls, postgres):
        return postgres.database()

    @pytest.fixture(scope="class")
    @classmethod
    def tracking_uri(cls, uri):
        return uri.replace("postgresql://", "postgresql+psycopg2://")


class TestServer(StoreContract):
    backend = "server"

    @pytest.fixture(scope="class")
    @classmethod
    def uri(cls, tmp_path_factory):
        with serving(f"sqlite:///{tmp_path_factory.mktemp('store') / 'mlflow.db'}") as uri:
            yield uri


def test_every_backend_is_tested():
    assert sorted(suite.backend for suite in StoreContract.__subclasses__()) == sorted(BACKENDS)
