"""Where things are under the home folder, and who holds a study."""

import errno
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from sweeps.api import open_home
from sweeps.errors import InputError, SweepError
from sweeps.home import Home, check_database, check_new_database

HOLD = """
import sys
from pathlib import Path
from sweeps.home import Home, check_database
with Home(Path(sys.argv[1])).lock("study"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


@pytest.fixture
def holder(home: Home) -> Iterator[subprocess.Popen[str]]:
    """Another process, which holds the lock of ``study``."""
    command = [sys.executable, "-c", HOLD, str(home.root)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


@pytest.mark.parametrize("name", ["../x", "/x", "a/b", ".hidden", "..", "", "x" * 65, "a..b", "a b", "a\n", "ü"])
def test_a_name_that_could_leave_the_home_folder_is_refused(home, name):
    with pytest.raises(InputError, match=r"^study name = "):
        home.study(name)


def test_no_file_is_made_for_a_refused_name(home):
    with pytest.raises(InputError), home.lock("../x"):
        pass
    assert list(home.root.parent.glob("x")) == list(home.root.iterdir()) == []


@pytest.mark.parametrize("name", ["a", "7", "post5-run33", "A_b.c", "x" * 64])
def test_a_study_has_a_folder_of_its_name(home, name):
    assert home.study(name) == home.root / "studies" / name


def test_every_path_is_under_the_home_folder(home):
    paths = [home.own_mlflow_db, home.own_ledger_db, home.artifacts, home.checkpoint("s", 3)]
    paths += [home.error_log("s", 3), home.trial_log("s", 3)]
    assert [str(path.relative_to(home.root)) for path in paths] == [
        "mlflow.db",
        "optuna.db",
        "artifacts",
        "studies/s/checkpoints/00003.pt",
        "studies/s/errors/00003.jsonl",
        "studies/s/logs/00003.txt",
    ]


def test_a_home_keeps_its_name_as_a_driver(home):
    assert home.driver("study") is None
    with home.lock("study"):
        name = home.ensure_driver_name("study")
        assert home.ensure_driver_name("study") == name
    assert Home(home.root).driver("study") == name


def test_mlflow_is_given_the_file_as_a_uri(home):
    assert home.mlflow_uri == f"sqlite:///{home.root}/mlflow.db"


def test_naming_paths_makes_none(home):
    home.checkpoint("s", 3), home.error_log("s", 3), home.lock_holder("s")
    assert list(home.root.iterdir()) == []


def test_a_second_process_is_refused_and_told_who_holds_the_study(home, holder):
    with pytest.raises(InputError, match=rf"'study' is being run by process {holder.pid};.*--name"), home.lock("study"):
        pass


def test_the_holder_is_the_process_that_runs_the_study(home, holder):
    assert home.lock_holder("study") == holder.pid


def test_the_locks_of_other_studies_are_free(home, holder):
    with home.lock("other"):
        pass


def test_a_lock_is_free_after_its_holder_was_killed(home, holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert home.lock_holder("study") is None
    with home.lock("study"):
        pass


def test_a_lock_is_free_after_its_block(home):
    with pytest.raises(RuntimeError), home.lock("study"):
        raise RuntimeError
    assert home.lock_holder("study") is None
    with home.lock("study"):
        pass


def test_a_shorter_process_id_leaves_nothing_of_a_longer_one(home):
    lock = home.study("study") / "lock"
    lock.parent.mkdir(parents=True)
    lock.write_text("99999999999999")
    with home.lock("study"), pytest.raises(InputError, match=r"by process \d{1,10};"), home.lock("study"):
        pass


def test_a_full_disk_is_told_as_one(home, monkeypatch):
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(SweepError, match="lock cannot be used: No space left on device; free some space, or"):
        home.lock("study").__enter__()
    monkeypatch.undo()
    with home.lock("study"):
        pass


def test_a_study_that_never_ran_has_no_holder(home):
    assert home.lock_holder("study") is None


def test_mlflow_is_in_the_home_folder_by_default(tmp_path):
    assert Home(tmp_path).mlflow_uri == f"sqlite:///{tmp_path}/mlflow.db"
    assert Home(tmp_path, "http://127.0.0.1:5000").mlflow_uri == "http://127.0.0.1:5000"


def test_postgres_is_named_with_the_driver_that_is_installed_for_it(tmp_path):
    assert Home(tmp_path, "postgresql://me@host/runs").mlflow_uri == "postgresql+psycopg2://me@host/runs"
    assert Home(tmp_path, "postgresql+psycopg2://me@host/runs").mlflow_uri == "postgresql+psycopg2://me@host/runs"


def test_a_process_that_runs_a_study_can_be_asked_to_stop(home):
    with home.lock("study"):
        assert not home.asked_to_stop("study")
        home.ask_to_stop("study")
        assert home.asked_to_stop("study")


def test_a_request_to_stop_ends_with_the_process_it_was_for(home):
    with home.lock("study"):
        home.ask_to_stop("study")
    assert not home.asked_to_stop("study")


def test_a_request_that_was_for_a_killed_process_does_not_stop_the_next(home, holder):
    home.ask_to_stop("study")
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert home.asked_to_stop("study")
    with home.lock("study"):
        assert not home.asked_to_stop("study")


def test_a_request_to_stop_is_for_one_study(home):
    with home.lock("one"), home.lock("other"):
        home.ask_to_stop("one")
        assert not home.asked_to_stop("other")


def test_a_name_that_could_leave_the_home_folder_cannot_be_asked_to_stop(home):
    with pytest.raises(InputError, match=r"^study name = "):
        home.ask_to_stop("../x")


GET_A_LOCK = """
import sqlite3, sys
try:
    sqlite3.connect(sys.argv[1], timeout=0).execute("BEGIN IMMEDIATE")
    print("had")
except sqlite3.OperationalError as error:
    print(error)
"""


def test_checking_a_database_releases_no_lock(tmp_path):
    # Closing a file lets go of all locks that the process has on it, however they were had.
    path = tmp_path / "x.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("CREATE TABLE t (x)")
        connection.execute("BEGIN IMMEDIATE")
        for _ in range(2):
            check_database(path)
        command = [sys.executable, "-c", GET_A_LOCK, str(path)]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said == "database is locked\n"


def test_a_file_that_is_no_database_is_an_error(tmp_path):
    path = tmp_path / "x.db"
    path.write_text("not a database at all")
    with pytest.raises(SweepError, match=r"x\.db: file is not a database; move it away"):
        check_database(path)


def test_a_new_file_for_mlflow_that_cannot_be_written_is_an_error(tmp_path):
    check_new_database(tmp_path / "made" / "later" / "mlflow.db")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    check_new_database(tmp_path / "file")
    with pytest.raises(
        InputError, match=r"^--mlflow .*file/mlflow\.db: .*file cannot be written: Not a directory; name another file$"
    ):
        check_new_database(tmp_path / "file" / "mlflow.db")


def test_a_lock_that_cannot_be_made_is_told_in_a_line(tmp_path):
    (tmp_path / "studies").touch()
    with (
        pytest.raises(SweepError, match=r"studies/x/lock cannot be used: Not a directory; see who may read and"),
        Home(tmp_path).lock("x"),
    ):
        pass


def test_a_home_that_is_a_file_is_told_in_a_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"^--home .*/file: expected a folder$"):
        open_home(tmp_path / "file")
