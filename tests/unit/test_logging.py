"""What libraries log, as the command shows it."""

import logging

import pytest

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
        logging.getLogger("sqlalchemy.pool").exception("Exception during %s", "reset")


def test_an_error_takes_a_line(logged):
    assert logged() == "ERROR Exception during reset: the server closed the connection\n"


def test_debug_shows_where_it_was(logged):
    assert "Traceback" in logged("--debug")
