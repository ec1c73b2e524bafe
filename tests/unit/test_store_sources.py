"""One study, read from an SQLite file, from PostgreSQL and from an MLflow server: the same Study from each."""

import math
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pandas as pd
import psycopg2
import pytest
from pandas.testing import assert_frame_equal

from analysis.store.loader import StoreError, load, studies
from tests.mlflow_server import serving
from tests.unit.conftest import StoreWriter


def fill(store: StoreWriter) -> None:
    """Write what is hard to read the same everywhere: values that are not finite, doublets, gaps, deleted runs."""
    launch = store.launch("made", description="Grüße, 'quoted'")
    first = store.trial(launch, 0, [0.5, 0.93, 0.91], "reached", weight_decay=0.18)
    store.metric(first, "power_watts", 97.123456789012345, 2, 9_000)
    store.metric(first, "acc", 0.25, 7, 9_000)  # beyond a gap
    second = store.trial(launch, 1, [0.5, 0.6], "pruned", "cap: slower than 1.2 x the 5th best")
    for epoch, value in enumerate([math.nan, math.inf, -math.inf], start=1):
        store.metric(second, "val_loss", value, epoch, 9_000)
    store.metric(second, "loss", 0.3, 1, 9_000)
    store.metric(second, "loss", 0.2, 1, 9_000)
    store.metric(second, "loss", 0.9, 1, 8_000)
    store.trial(launch, 2, [], "crashed")
    store.trial(launch, 3, [0.4], train_limit=500)
    store.trial(launch, 3, [0.45], start=3_000)
    store.client.delete_run(store.trial(launch, 4, [0.99], "reached"))
    store.trial(store.launch("another", start=5_000), 0, [0.1])
    store.client.delete_experiment(store.client.create_experiment("gone"))


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> StoreWriter:
    store = StoreWriter(tmp_path_factory.mktemp("file") / "mlflow.db")
    fill(store)
    return store


@pytest.fixture(scope="module")
def database(postgres) -> str:
    uri = postgres.database()
    fill(StoreWriter(with_driver(uri)))
    return uri


@pytest.fixture(scope="module")
def server(file):
    with serving(f"sqlite:///{file.path}") as uri:
        yield uri


def with_driver(uri: str) -> str:
    return uri.replace("postgresql://", "postgresql+psycopg2://")


def without_ids(trials: pd.DataFrame) -> pd.DataFrame:
    return trials.drop(columns="run_id")  # two stores that were written apart


def same(one, other) -> None:
    for name in ("name", "description", "target", "sustained", "split", "stopping_rules"):
        assert getattr(one, name) == getattr(other, name)
    assert_frame_equal(one.epochs, other.epochs, check_exact=True)
    assert_frame_equal(without_ids(one.trials), without_ids(other.trials), check_exact=True)


def test_the_made_study_is_as_hard_as_it_is_meant(file):
    epochs = load(file.path, "made").epochs.set_index(["number", "epoch"])
    assert epochs.index.tolist() == [(0, 1), (0, 2), (0, 3), (0, 7), (1, 1), (1, 2), (1, 3), (3, 1)]
    assert [repr(value) for value in epochs.loc[1, "val_loss"].tolist()] == ["nan", "inf", "-inf"]
    assert epochs.loc[(1, 1), "loss"] == 0.3  # the later, and of two of one time the larger
    assert epochs.loc[(3, 1), "val_acc"] == 0.45


def test_a_path_and_a_uri_name_the_same_file(file):
    same(load(file.path, "made"), load(f"sqlite:///{file.path}", "made"))


def test_a_study_in_a_large_store_is_read_by_run(file, monkeypatch):
    whole = load(file.path, "made")
    monkeypatch.setattr("analysis.store.backends.sqlite._BY_KEY", "not used")
    monkeypatch.setattr("analysis.store.backends.sqlite._FEW", 1.0)
    same(load(file.path, "made"), whole)


def test_postgres_has_the_same_study_as_a_file(file, database):
    same(load(database, "made"), load(file.path, "made"))


def test_a_server_has_the_same_study_as_its_file(file, server):
    same(load(server, "made"), load(file.path, "made"))
    assert load(server, "made").trials["run_id"].tolist() == load(file.path, "made").trials["run_id"].tolist()


def test_postgres_has_the_same_studies_as_a_file(file, database):
    assert_frame_equal(studies(database), studies(file.path))


def test_a_server_has_the_same_studies_as_its_file(file, server):
    assert_frame_equal(studies(server), studies(file.path))


def test_a_server_is_asked_again_for_what_is_too_much_at_once(file, server, monkeypatch):
    monkeypatch.setattr("analysis.store.mlflow_internals.MOST_POINTS", 6)
    same(load(server, "made"), load(file.path, "made"))


def test_a_run_that_has_more_values_than_a_server_gives_is_named(server, monkeypatch):
    monkeypatch.setattr("analysis.store.mlflow_internals.MOST_POINTS", 2)
    with pytest.raises(StoreError, match=r"cannot be read: run \w+ has more than 2 values of \w+$"):
        load(server, "made")


@pytest.mark.parametrize("metrics", [("val_acc",), ("acc", "val_loss")])
def test_metrics_that_were_not_asked_for_are_not_there(file, metrics):
    epochs = load(file.path, "made", metrics).epochs
    assert epochs.columns.tolist() == ["number", "epoch", *metrics]


def test_postgres_under_sqlalchemys_name_of_its_driver_is_read(database):
    assert load(with_driver(database), "made").name == "made"


def test_postgres_is_read_as_it_was_at_the_first_look(postgres):
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


@pytest.mark.parametrize("source", ["database", "server"])
def test_an_unknown_study_is_named_with_the_known_ones(source, request):
    with pytest.raises(StoreError, match=r"no study 'mad'; its studies: another, made$"):
        load(request.getfixturevalue(source), "mad")


def test_a_postgres_that_is_down_is_named_without_the_password():
    with pytest.raises(StoreError) as caught:
        load("postgresql://me:secret@127.0.0.1:9/runs", "made")
    said = str(caught.value)
    assert said.startswith("postgresql://me:***@127.0.0.1:9/runs: cannot be opened: ")
    assert "secret" not in said


def test_a_wrong_password_is_said_and_not_shown(postgres, database):
    with pytest.raises(
        StoreError, match=r"guarded:\*\*\*@.* cannot be opened: .*password authentication failed"
    ) as caught:
        load(postgres.guarded(database, "wr0ng"), "made")
    assert "wr0ng" not in str(caught.value)


def test_a_right_password_opens(postgres, database):
    assert load(postgres.guarded(database, "let-me-in"), "made").name == "made"


def test_a_uri_that_cannot_be_understood_shows_no_password():
    with pytest.raises(StoreError, match="cannot be opened") as caught:
        load("postgresql://me:sec/ret@host:port/runs", "made")
    assert "ret" not in str(caught.value).replace("cannot", "")


def test_a_database_of_another_kind_is_refused(postgres):
    with pytest.raises(StoreError, match="not an MLflow database: it lacks the tables experiments"):
        studies(postgres.database())


def test_a_database_that_is_not_there_is_named(postgres):
    with pytest.raises(StoreError, match='database "nowhere" does not exist'):
        studies(f"postgresql://sweeps@127.0.0.1:{postgres.port}/nowhere")


def test_a_postgres_that_goes_down_meanwhile_is_an_error_that_says_so(database):
    from analysis.store.backends.postgres import open_postgres

    def read_on(reader):
        with closing(psycopg2.connect(database)) as other, other.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
        time.sleep(0.2)
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
        (200, b"", 1.5, "the server did not answer in time"),
        (500, b"", 0, "the server failed at it (error 500)"),
        (401, b"", 0, "the server refuses the user or the password"),
        (403, b"", 0, "the server refuses the user or the password"),
        (404, b"", 0, "what answers there is no MLflow server"),
        (200, b"<html>hello</html>", 0, "what answers there is no MLflow server"),
        (400, b'{"error_code": "BAD_REQUEST", "message": "too\\nlong"}', 0, "cannot be read: BAD_REQUEST: too"),
    ],
)
def test_what_a_server_answers_is_told_in_words(monkeypatch, status, body, seconds, said):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with answering(status, body, seconds) as uri, pytest.raises(StoreError) as caught:
        studies(uri)
    assert str(caught.value).startswith(f"{uri}: {said}")
    assert "\n" not in str(caught.value)


def test_a_source_of_no_known_kind_is_refused():
    with pytest.raises(StoreError, match=r"^mysql://me:\*\*\*@host/runs: expected a path, sqlite:///FILE"):
        studies("mysql://me:secret@host/runs")
