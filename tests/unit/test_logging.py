"""What libraries log, as the command shows it."""

import logging
import sqlite3
from unittest.mock import Mock

import pytest
from sqlalchemy.exc import OperationalError

from sweeps import cli


@pytest.fixture
def logged(monkeypatch, capsys):
    """What the command shows of an error that a library logs with its traceback."""
    root, ours = logging.getLogger(), logging.getLogger("sweeps")
    monkeypatch.setattr(cli, "app", lambda **_: fail())
    level, our_level = root.level, ours.level

    def logged(*options: str) -> str:
        monkeypatch.setattr("sys.argv", ["sweeps", "launch", *options])
        monkeypatch.setattr(root, "handlers", [])  # not pytest's
        with pytest.raises(SystemExit):
            cli.main()
        return capsys.readouterr().err

    yield logged
    root.setLevel(level)
    ours.setLevel(our_level)


def fail() -> None:
    try:
        raise ConnectionError("the server closed the connection\nunexpectedly")
    except ConnectionError:
        logging.getLogger("library").exception("Exception during %s", "reset")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("\nlate"), "ERROR failed: late\n"),
        (KeyError(), "ERROR failed: KeyError\n"),
        (None, "ERROR failed\n"),
        (OSError("postgresql://me:secret@host/runs is away"), "ERROR failed: postgresql://me:***@host/runs is away\n"),
    ],
)
def test_a_line_says_what_the_error_does(logged, monkeypatch, error, line):
    monkeypatch.setattr(cli, "app", lambda **_: logging.getLogger("library").error("failed\n[SQL: …]", exc_info=error))
    assert logged() == line


def test_an_error_of_a_database_takes_a_line(logged, monkeypatch):
    error = OperationalError("SELECT 1", {}, sqlite3.OperationalError("disk I/O error"))
    monkeypatch.setattr(cli, "app", Mock(side_effect=error))  # a frame of this file would be one of the user's code
    assert logged() == "sweeps: OperationalError: disk I/O error (--debug shows where)\n"


def test_an_error_takes_a_line(logged):
    assert logged() == "ERROR Exception during reset: the server closed the connection\n"


def test_debug_shows_where_it_was(logged):
    assert "Traceback" in logged("--debug")
