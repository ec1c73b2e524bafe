"""A real PostgreSQL for tests and benchmarks: Debian's, on a free port of 127.0.0.1, in a folder that goes away again.

A conftest shares the fixture by `from tests.postgres import postgres`.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from uuid import uuid4

import pytest

from tests.ports import free_port

_SETTINGS = (
    *("listen_addresses=127.0.0.1", "unix_socket_directories=", "max_connections=100"),
    # What these tests write is thrown away: nothing has to outlive a power cut.
    *("fsync=off", "synchronous_commit=off", "full_page_writes=off"),
)
_ACCESS = "host all guarded 127.0.0.1/32 scram-sha-256\nhost all all 127.0.0.1/32 trust\n"
_SECONDS = 300.0


class PostgresServer:
    """One server. Everybody on 127.0.0.1 is let in as `sweeps`, its superuser; `guarded` needs a password.

    Attributes:
        port: on 127.0.0.1; the same one after `stop` and `start`.
    """

    def __init__(self, folder: Path) -> None:
        """Make the server's files in an empty folder.

        Args:
            folder: where its files go. Its own user must be able to reach it: PostgreSQL refuses to run as root.
        """
        self._folder = folder / "data"
        self._log = folder / "log"
        self._user = "postgres" if os.geteuid() == 0 else None
        if self._user:
            account = pwd.getpwnam(self._user)
            os.chown(folder, account.pw_uid, account.pw_gid)
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()
        made = [str(programs() / "initdb"), "-D", str(self._folder), "-U", "sweeps", "-A", "trust", "-E", "UTF8"]
        subprocess.run([*made, "--no-sync", "--locale=C"], check=True, capture_output=True, cwd="/", user=self._user)
        (self._folder / "pg_hba.conf").write_text(_ACCESS)

    def start(self) -> None:
        """Start it, and wait until it answers.

        Raises:
            RuntimeError: it ended, or gave no answer in five minutes; with what it logged.
        """
        command = [str(programs() / "postgres"), "-D", str(self._folder), "-p", str(self.port)]
        for setting in _SETTINGS:
            command += ["-c", setting]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, cwd="/", user=self._user, start_new_session=True
            )
        end = time.monotonic() + _SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > end:
                self.stop()
                raise RuntimeError(f"PostgreSQL did not start:\n{self._log.read_text()}")
            time.sleep(0.05)

    def stop(self) -> None:
        """Stop it, as an administrator would: whoever is connected is thrown out. Its data stays."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(_SECONDS)
        self._process = None

    def database(self) -> str:
        """Make an empty database; return its URI."""
        name = f"db_{uuid4().hex[:12]}"
        self.execute(f"CREATE DATABASE {name}")
        return f"postgresql://sweeps@127.0.0.1:{self.port}/{name}"

    def guarded(self, uri: str, password: str) -> str:
        """Return the URI of a database for a user who has to give a password: "let-me-in"."""
        if not self.execute("SELECT 1 FROM pg_roles WHERE rolname = 'guarded'"):
            self.execute("CREATE ROLE guarded SUPERUSER LOGIN PASSWORD 'let-me-in'")
        return uri.replace("sweeps@", f"guarded:{password}@")

    def execute(self, statement: str, uri: str = "") -> list[tuple[object, ...]]:
        """Run one statement, in a database of its own where a URI is given; return its rows."""
        import psycopg2

        with closing(psycopg2.connect(uri or f"postgresql://sweeps@127.0.0.1:{self.port}/postgres")) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement)
                return cursor.fetchall() if cursor.description else []

    def _answers(self) -> bool:
        import psycopg2

        try:
            self.execute("SELECT 1")
        except psycopg2.OperationalError:
            return False
        return True


def programs() -> Path:
    """Return the folder of PostgreSQL's programs, Debian's newest before those on PATH.

    Raises:
        FileNotFoundError: PostgreSQL is not installed.
    """
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name))
    for folder in reversed(folders):
        if (folder / "initdb").exists():
            return folder
    found = shutil.which("initdb")
    if found is None:
        raise FileNotFoundError("PostgreSQL is not installed: no initdb; see apt-get install postgresql")
    return Path(found).resolve().parent


@contextmanager
def running() -> Iterator[PostgresServer]:
    """Give a running server; stop it and take its files away at the end.

    Raises:
        FileNotFoundError: PostgreSQL is not installed.
    """
    programs()
    # Not in pytest's folder: only its owner may enter that, and the server has another user.
    folder = Path(tempfile.mkdtemp(prefix="sweeps-postgres-"))
    try:
        server = PostgresServer(folder)
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A running PostgreSQL; the test is skipped where none is installed."""
    pytest.importorskip("psycopg2", reason="psycopg2 is not installed")
    try:
        programs()
    except FileNotFoundError as error:
        pytest.skip(str(error))
    with running() as server:
        yield server
