"""What is particular to one kind of store; what holds for all is in tests/contract/test_stores_contract.py."""

import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psycopg2
import pytest
from pandas.testing import assert_frame_equal

from analysis.store.loader import StoreError, load, studies
from sweeps.testing.stores import write_studies
from tests.mlflow_server import serving
from tests.unit.conftest import StoreWriter


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("file") / "mlflow.db"
    write_studies(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="module")
def database(postgres) -> str:
    uri = postgres.database()
    write_studies(with_driver(uri))
    return uri


@pytest.fixture(scope="module")
def server(file):
    with serving(f"sqlite:///{file}") as uri:
        yield uri


def with_driver(uri: str) -> str:
    return uri.replace("postgresql://", "postgresql+psycopg2://")


def same(one, other) -> None:
    assert_frame_equal(one.epochs, other.epochs, check_exact=True)
    assert_frame_equal(one.trials, other.trials, check_exact=True)


def test_a_path_and_a_uri_name_the_same_file(file):
    same(load(file, "made"), load(f"sqlite:///{file}", "made"))


def test_a_study_in_a_large_store_is_read_by_run(file, monkeypatch):
    whole = load(file, "made")
    monkeypatch.setattr("analysis.store.backends.sqlite._BY_KEY", "not used")
    monkeypatch.setattr("analysis.store.backends.sqlite._FEW", 1.0)
    same(load(file, "made"), whole)


def test_a_request_for_too_many_points_is_halved(file, server, monkeypatch):
    monkeypatch.setattr("analysis.store.mlflow_internals.MOST_POINTS", 6)
    same(load(server, "made"), load(file, "made"))


def test_a_run_with_more_points_than_a_server_gives_is_an_error(server, monkeypatch):
    monkeypatch.setattr("analysis.store.mlflow_internals.MOST_POINTS", 2)
    with pytest.raises(StoreError, match=r"cannot be read: run \w+ has more than 2 values of \w+$"):
        load(server, "made")


def test_a_uri_may_name_sqlalchemys_driver(database):
    assert load(with_driver(database), "made").name == "made"


def test_what_is_read_of_postgres_belongs_to_one_moment(postgres):
    uri = postgres.database()
    store = StoreWriter(with_driver(uri))
    run = store.trial(store.launch("moving"), 0, [0.1])
    from analysis.store.backends.postgres import open_postgres

    with open_postgres(uri) as reader:
        before = len(reader.points([run], "val_acc").epoch)
        store.metric(run, "val_acc", 0.2, 2, 9_000)
        assert len(reader.points([run], "val_acc").epoch) == before


def test_nothing_can_be_written_to_postgres_while_it_is_read(database):
    from analysis.store.backends.postgres import open_postgres

    with pytest.raises(StoreError, match="read-only"), open_postgres(database) as reader:
        reader.rows("DELETE FROM tags RETURNING key")


def test_a_postgres_server_that_is_down_is_named_without_the_password():
    with pytest.raises(StoreError) as caught:
        load("postgresql://me:secret@127.0.0.1:9/runs", "made")
    said = str(caught.value)
    assert said.startswith("postgresql://me:***@127.0.0.1:9/runs: cannot be opened: ")
    assert "secret" not in said


def test_a_wrong_password_is_an_error_that_does_not_show_it(postgres, database):
    with pytest.raises(
        StoreError, match=r"guarded:\*\*\*@.* cannot be opened: .*password authentication failed"
    ) as caught:
        load(postgres.guarded(database, "wr0ng"), "made")
    assert "wr0ng" not in str(caught.value)


def test_a_right_password_opens(postgres, database):
    assert load(postgres.guarded(database, "let-me-in"), "made").name == "made"


def test_an_error_about_a_wrong_uri_shows_no_password():
    with pytest.raises(StoreError, match="cannot be opened") as caught:
        load("postgresql://me:sec/ret@host:port/runs", "made")
    assert "ret" not in str(caught.value).replace("cannot", "")


def test_a_database_of_another_kind_is_refused(postgres):
    with pytest.raises(StoreError, match="not an MLflow database: it lacks the tables experiment_tags, experiments"):
        studies(postgres.database())


def test_a_database_that_is_not_there_is_named(postgres):
    with pytest.raises(StoreError, match='database "nowhere" does not exist'):
        studies(f"postgresql://sweeps@127.0.0.1:{postgres.port}/nowhere")


# With the milliseconds in which they must have ended.
BREAK_OFF = """
SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity
WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
"""


def test_a_postgres_server_that_goes_down_while_it_is_read_is_an_error(database):
    from analysis.store.backends.postgres import open_postgres

    def read_on(reader):
        with closing(psycopg2.connect(database)) as other, other.cursor() as cursor:
            cursor.execute(BREAK_OFF)
        reader.runs("made")

    with pytest.raises(StoreError, match="cannot be read: "), open_postgres(database) as reader:
        read_on(reader)


def test_a_server_that_is_down_is_named_without_the_password(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(StoreError, match=r"^http://me:\*\*\*@127\.0\.0\.1:9: no MLflow server answers there"):
        studies("http://me:secret@127.0.0.1:9")


@contextmanager
def answering(status: int, body: bytes, seconds: float) -> Iterator[str]:
    """Run a server that gives every request this answer after so many seconds; give its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            time.sleep(seconds)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815  likewise

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize(
    ("status", "body", "seconds", "said"),
    [
        (200, b"", 3, "the server did not answer in time"),
        (500, b"", 0, "the server failed at it (error 500)"),
        (401, b"", 0, "the server refuses the user or the password"),
        (403, b"", 0, "the server refuses the user or the password"),
        (404, b"", 0, "what answers there is no MLflow server"),
        (200, b"<html>hello</html>", 0, "what answers there is no MLflow server"),
        (400, b'{"error_code": "BAD_REQUEST", "message": "too\\nlong"}', 0, "cannot be read: BAD_REQUEST: too"),
    ],
)
def test_an_error_of_a_server_is_told_in_words(monkeypatch, status, body, seconds, said):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1" if seconds else "60")
    with answering(status, body, seconds) as uri, pytest.raises(StoreError) as caught:
        studies(uri)
    assert str(caught.value).startswith(f"{uri}: {said}")
    assert "\n" not in str(caught.value)


def test_a_uri_of_an_unknown_kind_is_refused():
    with pytest.raises(StoreError, match=r"^mysql://me:\*\*\*@host/runs: expected a path, sqlite:///FILE"):
        studies("mysql://me:secret@host/runs")
