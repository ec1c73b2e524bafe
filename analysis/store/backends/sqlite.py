"""MLflow's store in an SQLite file, read by SQL: one consistent state, even if the file is in use."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import chain
from typing import Any

import numpy as np

from analysis.store import mlflow_internals
from analysis.store.reader import Backend, Points, SqlReader, StoreError
from resnet_core.paths import PathError, sqlite_path, typed_path
from resnet_core.sqlite import open_to_read

_BUSY_SECONDS = 5.0
_FEW = 0.25  # up to this share of all runs, looking up each run is faster than skipping the others


@contextmanager
def open_sqlite(source: str) -> Iterator[SqliteReader]:
    """Yield a reader of an SQLite file. The file is not changed; a missing file is not created.

    Args:
        source: the file's path, or ``sqlite:///FILE``.

    Raises:
        StoreError: there is no such file, it is not MLflow's, or it stays busy.
    """
    try:
        path = typed_path(sqlite_path(source) or source)
        if not path.is_file():
            said = "it is no file" if path.exists() else "no such file"
            raise StoreError(f"{path}: {said}; expected the mlflow.db of a sweep's home folder")
    except PathError as error:
        raise StoreError(f"{source}: {error}") from None
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error.strerror}") from error
    try:
        with closing(open_to_read(path, _BUSY_SECONDS)) as connection:
            # One transaction, so that trials and epochs are of the same moment.
            connection.execute("BEGIN")
            found = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            lacks = mlflow_internals.missing_tables(name for (name,) in found)
            if lacks:
                raise StoreError(f"{path}: not an MLflow database: it lacks the tables {lacks}")
            yield SqliteReader(connection)
    except sqlite3.OperationalError as error:
        if _code(error) & 0xFF == sqlite3.SQLITE_BUSY:  # the lower byte: SQLite has several codes for busy
            raise StoreError(f"{path}: busy for more than {_BUSY_SECONDS:g} s; try again") from error
        raise StoreError(f"{path}: cannot be read: {error}") from error
    except sqlite3.DatabaseError as error:
        raise StoreError(f"{path}: not an MLflow database: {error}") from error
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error.strerror}") from error


def _code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", 0)  # errors raised by Python's module have no code


# SQLite has no NaN. An infinity stands for it, since MLflow never writes one. CROSS JOIN keeps the order of the tables:
# run by run, or, if the study is a large part of the store, along the primary key of the metrics.
_POINTS = """
    WITH picked(i, run) AS MATERIALIZED (SELECT key, value FROM json_each(:runs))
    SELECT picked.i, m.step, CASE WHEN m.is_nan THEN 9e999 ELSE m.value END
    FROM {order} ON picked.run = m.run_uuid
    WHERE {plus}m.key = :metric ORDER BY m.timestamp, m.step, m.run_uuid, m.value
"""
_BY_RUN = _POINTS.format(order="picked CROSS JOIN metrics m", plus="+")
_BY_KEY = _POINTS.format(order="metrics m CROSS JOIN picked", plus="")


class SqliteReader(SqlReader):
    """Reads MLflow's tables in an SQLite file."""

    study_placeholder = ":study"

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def rows(self, query: str, **values: Any) -> Iterable[tuple[Any, ...]]:
        """See SqlReader."""
        return self._connection.execute(query, values)

    def points(self, runs: Sequence[str], metric: str) -> Points:
        """See Reader."""
        (all_runs,) = self._connection.execute("SELECT count(*) FROM runs").fetchone()
        query = _BY_KEY if len(runs) > _FEW * all_runs else _BY_RUN
        rows = self._connection.execute(query, {"runs": json.dumps(list(runs)), "metric": metric})
        run, epoch, value = np.fromiter(chain.from_iterable(rows), np.float64).reshape(-1, 3).T
        value = mlflow_internals.with_infinities(np.where(np.isinf(value), np.nan, value))
        return Points(run.astype(np.int64), epoch.astype(np.int64), value)


BACKEND = Backend(("sqlite:///", "sqlite+pysqlite:///"), ("a path", "sqlite:///FILE"), open_sqlite)
