"""MLflow's store in an SQLite file, by read-only SQL; what is read is one consistent state, also of a file in use."""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import chain
from pathlib import Path

import numpy as np

from analysis.store.reader import TAGS, Points, Run, StoreError, missing_tables, run_of, unbounded

_BUSY_SECONDS = 5.0
_FEW = 0.25  # share of all runs up to which looking them up one by one is faster than passing over the others


@contextmanager
def open_sqlite(path: Path) -> Iterator[SqliteReader]:
    """Give a reader of an SQLite file; the file is not changed, and none is made.

    Raises:
        StoreError: there is no such file, it is not MLflow's, or it stays busy.
    """
    if not path.is_file():
        raise StoreError(f"{path}: no such file; expected the mlflow.db of a sweep's home folder")
    try:
        with closing(_connect(path)) as connection:
            # One transaction: the trials and the epochs that are read belong to the same moment.
            connection.execute("BEGIN")
            found = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            lacks = missing_tables(name for (name,) in found)
            if lacks:
                raise StoreError(f"{path}: not an MLflow database: it lacks the tables {lacks}")
            yield SqliteReader(connection)
    except sqlite3.OperationalError as error:
        if _code(error) & 0xFF == sqlite3.SQLITE_BUSY:  # whichever kind of busy
            raise StoreError(f"{path}: busy for more than {_BUSY_SECONDS:g} s; try again") from error
        raise StoreError(f"{path}: cannot be read: {error}") from error
    except sqlite3.DatabaseError as error:
        raise StoreError(f"{path}: not an MLflow database: {error}") from error


def _connect(path: Path) -> sqlite3.Connection:
    uri = path.resolve().as_uri()  # quotes ?, # and %, which mean something in a URI
    connection = sqlite3.connect(f"{uri}?mode=ro", uri=True, timeout=_BUSY_SECONDS)
    try:
        connection.execute("SELECT 1 FROM sqlite_master")
    except sqlite3.DatabaseError as error:
        connection.close()
        if _code(error) != sqlite3.SQLITE_READONLY_ROLLBACK:
            raise
        # A writer was killed inside a write. SQLite takes the half write back itself, once it may write.
        connection = sqlite3.connect(f"{uri}?mode=rw", uri=True, timeout=_BUSY_SECONDS)
        connection.execute("PRAGMA query_only = ON")
    return connection


def _code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", 0)  # errors of Python's own module have none


_RUNS = """
    SELECT r.run_uuid, e.name, r.name, r.status, r.start_time, r.end_time
    FROM runs r JOIN experiments e USING (experiment_id)
    WHERE r.lifecycle_stage = 'active' AND e.lifecycle_stage = 'active' AND e.name = coalesce(:study, e.name)
"""
_TAGS = """
    SELECT t.run_uuid, t.key, t.value
    FROM tags t JOIN runs r USING (run_uuid) JOIN experiments e USING (experiment_id)
    WHERE t.key IN (SELECT value FROM json_each(:tags))
          AND r.lifecycle_stage = 'active' AND e.name = coalesce(:study, e.name)
"""
_PARAMS = """
    SELECT p.run_uuid, p.key, p.value
    FROM params p JOIN runs r USING (run_uuid) JOIN experiments e USING (experiment_id)
    WHERE e.name = :study AND r.lifecycle_stage = 'active'
"""
# SQLite has no NaN: an infinity, which MLflow never writes, stands for it. CROSS JOIN keeps the tables in this order:
# by run, or, where the study is much of the store, along the metrics' primary key, which has all that is asked for.
_POINTS = """
    WITH picked(i, run) AS MATERIALIZED (SELECT key, value FROM json_each(:runs))
    SELECT picked.i, m.step, CASE WHEN m.is_nan THEN 9e999 ELSE m.value END
    FROM {order} ON picked.run = m.run_uuid
    WHERE {plus}m.key = :metric ORDER BY m.timestamp, m.step, m.run_uuid, m.value
"""
_BY_RUN = _POINTS.format(order="picked CROSS JOIN metrics m", plus="+")
_BY_KEY = _POINTS.format(order="metrics m CROSS JOIN picked", plus="")


class SqliteReader:
    """See analysis.store.reader.Reader."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def runs(self, study: str | None = None) -> list[Run]:
        """Return the living runs of a study, or of all."""
        tags: defaultdict[str, dict[str, str]] = defaultdict(dict)
        for run_id, key, value in self._connection.execute(_TAGS, {"study": study, "tags": json.dumps(TAGS)}):
            tags[run_id][key] = value
        rows = self._connection.execute(_RUNS, {"study": study})
        return [run_of(row, tags) for row in rows]

    def params(self, study: str) -> dict[str, dict[str, str]]:
        """Return the parameters of a study's living runs, by run."""
        params: defaultdict[str, dict[str, str]] = defaultdict(dict)
        for run_id, key, value in self._connection.execute(_PARAMS, {"study": study}):
            params[run_id][key] = value
        return params

    def points(self, runs: Sequence[str], metric: str) -> Points:
        """Return what these runs logged under a metric."""
        (everybody,) = self._connection.execute("SELECT count(*) FROM runs").fetchone()
        query = _BY_KEY if len(runs) > _FEW * everybody else _BY_RUN
        rows = self._connection.execute(query, {"runs": json.dumps(list(runs)), "metric": metric})
        run, epoch, value = np.fromiter(chain.from_iterable(rows), np.float64).reshape(-1, 3).T
        value = unbounded(np.where(np.isinf(value), np.nan, value))
        return Points(run.astype(np.int64), epoch.astype(np.int64), value)
