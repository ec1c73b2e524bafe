import psycopg2
import pytest

from sweeps.ledger.database import open_storage, read_storage
from tests.postgres import PostgresServer


def test_each_database_is_empty_and_its_own(postgres: PostgresServer):
    first, second = postgres.database(), postgres.database()
    postgres.execute("CREATE TABLE things (id int)", first)

    assert postgres.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'", first) == [("things",)]
    assert postgres.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'", second) == []


def test_data_outlives_a_restart(postgres: PostgresServer):
    uri = postgres.database()
    postgres.execute("CREATE TABLE things AS SELECT 7 AS id", uri)
    postgres.stop()
    with pytest.raises(psycopg2.OperationalError):
        postgres.execute("SELECT id FROM things", uri)
    postgres.start()

    assert postgres.execute("SELECT id FROM things", uri) == [(7,)]


def test_a_guarded_user_needs_the_password(postgres: PostgresServer):
    uri = postgres.database()

    assert postgres.execute("SELECT 1", postgres.guarded(uri, "let-me-in")) == [(1,)]
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        postgres.execute("SELECT 1", postgres.guarded(uri, "wrong"))


def test_a_password_with_braces_reaches_the_server(postgres: PostgresServer):
    uri = postgres.database().replace("sweeps@", "sweeps:{x}%7B@")
    assert str(open_storage(uri).url) == str(read_storage(uri).url) == uri.replace("://", "+psycopg2://")
