"""SQLite files that are only looked at."""

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

import pytest

from resnet_core.sqlite import copy_to_memory, open_to_read


def written(path: Path, *, wal: bool) -> Path:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA journal_mode={'wal' if wal else 'delete'}")
        connection.execute("CREATE TABLE t (x)")
        connection.execute("INSERT INTO t VALUES (1)")
        connection.commit()
    return path


def rows(connection: sqlite3.Connection) -> list[tuple[int]]:
    with closing(connection):
        return connection.execute("SELECT x FROM t").fetchall()


def everything(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in [folder, *folder.rglob("*")]}


@pytest.mark.parametrize("wal", [True, False])
def test_reading_leaves_the_folder_as_it_is(tmp_path, wal):
    path = written(tmp_path / "x.db", wal=wal)
    before = everything(tmp_path)
    assert rows(open_to_read(path)) == [(1,)]
    assert everything(tmp_path) == before


def test_a_copy_may_be_changed_and_the_file_stays(tmp_path):
    path = written(tmp_path / "x.db", wal=True)
    with closing(copy_to_memory(path)) as copy:
        copy.execute("INSERT INTO t VALUES (2)")
        copy.commit()
    assert rows(open_to_read(path)) == [(1,)]


def test_what_a_process_that_writes_has_committed_is_seen(tmp_path):
    path = written(tmp_path / "x.db", wal=True)
    with closing(sqlite3.connect(path)) as writer:
        writer.execute("INSERT INTO t VALUES (2)")
        writer.commit()
        assert rows(open_to_read(path)) == [(1,), (2,)]


KILLED = """
import os, sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
connection.execute("INSERT INTO t VALUES (2)")
connection.commit()
os.kill(os.getpid(), 9)
"""


def test_the_files_that_a_killed_writer_left_stay_as_they_are(tmp_path):
    path = written(tmp_path / "x.db", wal=True)
    subprocess.run([sys.executable, "-c", KILLED, str(path)])
    assert (tmp_path / "x.db-shm").exists()
    before = everything(tmp_path)
    assert rows(open_to_read(path)) == [(1,), (2,)]
    assert everything(tmp_path) == before


def test_a_log_without_its_index_is_read_too(tmp_path):
    """As a copy of the home folder of a running study has it."""
    path = written(tmp_path / "x.db", wal=True)
    (tmp_path / "copy").mkdir()
    with closing(sqlite3.connect(path)) as writer:
        writer.execute("INSERT INTO t VALUES (2)")
        writer.commit()
        for name in ("x.db", "x.db-wal"):
            shutil.copy(tmp_path / name, tmp_path / "copy")
    before = everything(tmp_path / "copy")
    assert rows(open_to_read(tmp_path / "copy" / "x.db")) == [(1,), (2,)]
    assert everything(tmp_path / "copy") == before


AS_ANOTHER = """
import os, sys
from pathlib import Path
from resnet_core.sqlite import open_to_read
os.setuid(65534)
print(open_to_read(Path(sys.argv[1])).execute("SELECT x FROM t").fetchall())
"""


@pytest.fixture
def open_folder():
    """A folder that other users may look into; pytest's are closed to them."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("running", [True, False])
def test_another_user_reads_it(open_folder, running):
    path = written(open_folder / "x.db", wal=True)
    with closing(sqlite3.connect(path)) as writer:
        if running:
            writer.execute("INSERT INTO t VALUES (2)")
            writer.commit()
        before = everything(open_folder)
        said = subprocess.run([sys.executable, "-c", AS_ANOTHER, str(path)], capture_output=True, text=True)
        assert said.stderr == ""
        assert said.stdout == ("[(1,), (2,)]\n" if running else "[(1,)]\n")
        assert everything(open_folder) == before


def test_a_file_of_another_kind_is_an_error(tmp_path):
    (tmp_path / "x.db").write_text("not a database at all")
    with pytest.raises(sqlite3.DatabaseError, match="file is not a database"):
        open_to_read(tmp_path / "x.db")
