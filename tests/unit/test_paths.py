"""Paths and texts as people type and write them."""

import errno
import os
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import make_url

import analysis
import sweeps
from resnet_core.paths import (
    PathError,
    TextError,
    check_target,
    expanded,
    read_text,
    sqlite_path,
    sqlite_uri,
    typed_path,
    typed_uri,
    write_whole,
)
from sweeps.api import data_folder, open_home
from sweeps.cli import main
from sweeps.errors import InputError

ODD = ["a%2Fb", "a?b", "a#b", "a b", "ü", "a\nb", "50%", "a:b@c"]


@pytest.mark.parametrize("name", ODD)
def test_a_file_of_any_name_has_a_uri_that_leads_back_to_it(name):
    path = Path("/runs") / name / "x.db"
    assert sqlite_path(sqlite_uri(path)) == path


@pytest.mark.parametrize("name", ODD)
def test_sqlalchemy_finds_the_same_file(name):
    path = Path("/runs") / name / "x.db"
    assert make_url(sqlite_uri(path)).database == str(path)


def test_mlflow_and_the_ledger_keep_their_files_in_a_home_of_any_name(tmp_path):
    from mlflow import MlflowClient

    from sweeps.ledger.database import open_storage

    home = open_home(tmp_path / "a%2Fb?c #ü{d}${")
    open_storage(home.ledger_uri)
    MlflowClient(home.mlflow_uri).search_experiments()
    assert [path.name for path in tmp_path.iterdir()] == ["a%2Fb?c #ü{d}${"]
    assert {"mlflow.db", "optuna.db"} <= {path.name for path in home.root.iterdir()}


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("", "not an empty text"),
        ("file:///x", "not a URI"),
        ("~nobody-of-this-name/x", "no home folder of ~nobody-of-this-name"),
        ("a\0b", "NUL"),
    ],
)
def test_what_is_no_path_is_refused(typed, expected):
    with pytest.raises(PathError, match=expected):
        expanded(typed)


@pytest.mark.parametrize("uri", ["sqlite:///", "sqlite:///:memory:", "sqlite:////x.db?mode=ro"])
def test_a_uri_of_sqlite_names_a_file(uri):
    with pytest.raises(PathError, match="expected sqlite:////FILE"):
        sqlite_path(uri)


def test_a_tilde_is_the_home_folder_of_the_user(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SWEEPS_HOME", "~/runs")
    monkeypatch.setenv("SWEEPS_DATA", "~/data")
    monkeypatch.setenv("SWEEPS_LEDGER", "sqlite:///~/x.db")
    home = open_home()
    assert (home.root, home.ledger) == (tmp_path / "runs", f"sqlite:///{tmp_path}/x.db")
    assert data_folder() == tmp_path / "data"


def test_a_folder_named_with_a_tilde_can_be_typed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert open_home(expanded("./~nobody-of-this-name")).root == tmp_path / "~nobody-of-this-name"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("\udcff", "expected a path in UTF-8"),
        ("/".join(["x" * 99] * 5), "expected a path of at most 490 bytes, not 50"),
    ],
)
def test_a_path_that_databases_cannot_keep_is_refused(name, said):
    with pytest.raises(InputError, match=f"^--home .*{said}"):
        open_home(f"/x/{name}")
    with pytest.raises(InputError, match=f"^--ledger .*{said}"):
        open_home(ledger=f"sqlite:////x/{name}")


def test_sqlite_writes_in_a_folder_of_the_longest_path(tmp_path):
    folder = tmp_path / ("x" * 200)
    folder /= "y" * (490 - len(str(folder)) - 1)
    folder.mkdir(parents=True)
    with closing(sqlite3.connect(open_home(folder).own_mlflow_db)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE t (x)")


def test_a_relative_file_of_sqlite_becomes_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert typed_uri("sqlite:///x.db") == f"sqlite:///{tmp_path}/x.db"


def test_uris_of_servers_stay_as_they_are():
    assert typed_uri("postgresql://me:50%25@host/runs?sslmode=require") == (
        "postgresql://me:50%25@host/runs?sslmode=require"
    )
    assert typed_uri("http://me:secret@host:5000/mlflow") == "http://me:secret@host:5000/mlflow"


@pytest.mark.parametrize(
    "page",
    ["/", " ", "/#/experiments/1", "/#/experiments/1/runs/abc?compareRunsMode=CHART", "/?workspace=x#/experiments"],
)
def test_the_address_of_a_servers_page_stands_for_the_server(page, tmp_path):
    assert open_home(tmp_path, f"http://127.0.0.1:5000{page}").mlflow == "http://127.0.0.1:5000"


def test_the_kind_of_an_address_may_be_in_upper_case_and_have_spaces_around(tmp_path):
    assert open_home(tmp_path, " HTTP://127.0.0.1:5000\n").mlflow == "http://127.0.0.1:5000"


@pytest.mark.parametrize(
    "typed", ["http://", "http:///x", "http://h:99999", "http://h:x", "http://[::1", "http://a http://b"]
)
def test_an_address_without_a_usable_host_and_port_is_refused(typed, tmp_path):
    with pytest.raises(InputError, match=r"^--mlflow http:.*: expected http://HOST:PORT$"):
        open_home(tmp_path, typed)
    with pytest.raises(analysis.StoreError, match=r"^http:.*: expected http://HOST:PORT$"):
        analysis.load(typed, "any")


def test_a_refused_address_shows_no_part_of_its_password(tmp_path):
    with pytest.raises(InputError, match="expected http://HOST:PORT") as refused:
        open_home(tmp_path, "http://me:geh#eim@host:5000")
    assert "geh" not in str(refused.value)
    assert "eim" not in str(refused.value)


def test_an_address_of_spaces_is_refused(tmp_path):
    with pytest.raises(InputError, match="not an empty text"):
        open_home(tmp_path, " ")


@pytest.mark.parametrize("typed", ["127.0.0.1:5000", "localhost:5000", "databricks", "file:///runs"])
def test_what_is_no_store_is_told_what_is_expected(typed, tmp_path):
    with pytest.raises(InputError, match=rf"^--mlflow {typed}: expected .*http://HOST:PORT"):
        open_home(tmp_path, typed)


def _fails(monkeypatch, capsys, *arguments: str) -> str:
    monkeypatch.setattr(sys, "argv", ["sweeps", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    return capsys.readouterr().err


def test_an_empty_option_is_refused_by_its_name(monkeypatch, capsys):
    assert _fails(monkeypatch, capsys, "ls", "--home", "") == "sweeps: --home : expected a path, not an empty text\n"


def test_a_deleted_current_folder_is_an_error_of_one_line(tmp_path, monkeypatch, capsys):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    said = _fails(monkeypatch, capsys, "studies")
    monkeypatch.chdir(tmp_path)
    assert said == "sweeps: the current folder was deleted; change to another with cd\n"


def test_a_relative_path_in_a_deleted_folder_is_refused(tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(PathError, match="the current folder was deleted"):
        typed_path("runs")
    monkeypatch.chdir(tmp_path)


STUDY = """name = "s"
[train]
schedule = "[lr, 0] lin[0, 2]"
[space]
lr = { low = 1e-3, high = 0.5, log = true }
[search]
trials = 2
"""


@pytest.mark.parametrize("text", ["\ufeff" + STUDY, STUDY.replace("\n", "\r\n"), STUDY.replace("\n", "\r")])
def test_a_study_file_is_read_as_editors_save_it(tmp_path, text):
    (tmp_path / "s.toml").write_bytes(text.encode())
    assert sweeps.load_study(tmp_path / "s.toml").name == "s"


def test_a_study_is_read_from_a_pipe():
    ends = os.pipe()
    with os.fdopen(ends[0]), os.fdopen(ends[1], "w") as writer:
        writer.write(STUDY)
        writer.close()
        assert sweeps.load_study(f"/dev/fd/{ends[0]}").name == "s"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("ü".encode("utf-16"), "in UTF-16; save it as UTF-8"),
        (b"\n\xe9", "not UTF-8 in line 2; save it as UTF-8"),
        ("u".encode("utf-16-le"), "NUL bytes, so it is no text, or one in UTF-16; save it as UTF-8"),
    ],
)
def test_other_encodings_are_named(tmp_path, content, expected):
    (tmp_path / "s.toml").write_bytes(content)
    with pytest.raises(TextError, match=expected):
        read_text(tmp_path / "s.toml")


def test_a_file_without_an_end_is_refused():
    with pytest.raises(InputError, match="/dev/zero: larger than 16 MiB"):
        sweeps.load_study("/dev/zero")


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    write_whole(path, b"first")
    link = tmp_path / "link.html"
    link.symlink_to(path)
    write_whole(link, b"second")
    assert (path.read_bytes(), link.is_symlink()) == (b"second", True)

    def full(aside: Path, content: bytes) -> int:
        os.close(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC))
        raise OSError(errno.ENOSPC, "No space left on device", str(aside))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*report.html'$"):
        write_whole(path, b"third")
    assert path.read_bytes() == b"second"
    assert sorted(tmp_path.iterdir()) == [link, path]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("folder.png", "Is a directory"),
        ("nowhere/x.png", "No such file or directory"),
        ("file/x.png", "Not a directory"),
        ("folder.png/x.png", ""),
        ("file", ""),
    ],
)
def test_whether_a_file_can_be_written_is_known_before(tmp_path, monkeypatch, name, reason):
    monkeypatch.chdir(tmp_path)
    Path("folder.png").mkdir()
    Path("file").touch()
    if not reason:
        check_target(Path(name))
        return
    with pytest.raises(OSError, match=f"{reason}: '{name}'$"):
        check_target(Path(name))


@pytest.mark.parametrize("command", [("lr-range", "quickstart"), ("table", "x"), ("compare", "x", "y")], ids=" ".join)
def test_a_figure_that_cannot_be_written_is_told_before_the_work(monkeypatch, capsys, command):
    said = _fails(monkeypatch, capsys, *command, "--plot", "nowhere/x.png")
    assert said == "sweeps: --plot nowhere/x.png: No such file or directory\n"


def test_an_error_of_a_figure_names_its_file_once(monkeypatch, capsys, tmp_path):
    (tmp_path / "x.png").mkdir()
    said = _fails(monkeypatch, capsys, "schedule", "[0.1, 0] lin[0, 2]", "--plot", f"{tmp_path}/x.png")
    assert said == f"sweeps: --plot {tmp_path}/x.png: Is a directory\n"
    said = _fails(monkeypatch, capsys, "schedule", "[0.1, 0] lin[0, 2]", "--plot", "x.jpeg")
    assert said.startswith("sweeps: --plot x.jpeg: cannot save a figure as this")
