"""MLflow's store in PostgreSQL, read by SQL in one read-only transaction."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.store import mlflow_internals
from analysis.store.reader import Backend, Points, SqlReader, StoreError
from resnet_core.uris import without_password

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection

_CONNECT_SECONDS = 10


@contextmanager
def open_postgres(uri: str) -> Iterator[PostgresReader]:
    """Yield a reader of a PostgreSQL database. It reads one consistent state.

    Raises:
        StoreError: the server does not answer or refuses the user, the database is not MLflow's, or psycopg2 is
            not installed. No message shows a password.
    """
    shown = without_password(uri)
    try:
        import psycopg2
    except ImportError as error:
        raise StoreError(f"{shown}: psycopg2 is missing: pip install 'resnet-sweeps[postgres]'") from error
    try:
        # psycopg2 does not know SQLAlchemy's name for it.
        opened = psycopg2.connect(uri.replace("+psycopg2://", "://", 1), connect_timeout=_CONNECT_SECONDS)
    except psycopg2.Error as error:
        # The message about an invalid URI contains the URI, with its password.
        reason = "" if isinstance(error, psycopg2.ProgrammingError) else f": {_first_line(error)}"
        raise StoreError(f"{shown}: cannot be opened{reason}") from None
    try:
        with closing(opened) as connection:
            connection.set_session(isolation_level="REPEATABLE READ", readonly=True)
            with connection.cursor() as cursor:
                cursor.execute("SELECT tablename FROM pg_tables WHERE schemaname = ANY(current_schemas(false))")
                lacks = mlflow_internals.missing_tables(name for (name,) in cursor.fetchall())
            if lacks:
                raise StoreError(f"{shown}: not an MLflow database: it lacks the tables {lacks}")
            yield PostgresReader(connection)
    except psycopg2.Error as error:
        raise StoreError(f"{shown}: cannot be read: {_first_line(error)}") from error


# The binary format is exact, and many times faster than text.
_POINTS = """
    COPY (
        SELECT picked.i - 1, m.step, m.timestamp, CASE WHEN m.is_nan THEN 'NaN' ELSE m.value END
        FROM unnest(%(runs)s::text[]) WITH ORDINALITY AS picked(run, i) JOIN metrics m ON m.run_uuid = picked.run
        WHERE m.key = %(metric)s
    ) TO STDOUT (FORMAT binary)
"""
# The format of COPY: a header of 19 bytes, a tuple for each row with the length before each field, an end mark.
_HEADER, _END = 19, 2
_TUPLE = np.dtype(
    [
        *(("fields", ">i2"), ("run_bytes", ">i4"), ("run", ">i8"), ("step_bytes", ">i4"), ("step", ">i8")),
        *(("time_bytes", ">i4"), ("time", ">i8"), ("value_bytes", ">i4"), ("value", ">f8")),
    ]
)


class PostgresReader(SqlReader):
    """Reads MLflow's tables in a PostgreSQL database."""

    study_placeholder = "%(study)s"

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def rows(self, query: str, **values: Any) -> list[tuple[Any, ...]]:
        """See SqlReader."""
        with self._connection.cursor() as cursor:
            cursor.execute(query, values)
            rows: list[tuple[Any, ...]] = cursor.fetchall()
            return rows

    def points(self, runs: Sequence[str], metric: str) -> Points:
        """See Reader."""
        copied = io.BytesIO()
        with self._connection.cursor() as cursor:
            query = cursor.mogrify(_POINTS, {"runs": list(runs), "metric": metric})
            cursor.copy_expert(query.decode(), copied)
        rows = np.frombuffer(copied.getvalue()[_HEADER:-_END], _TUPLE)
        rows = rows[np.lexsort((rows["value"], rows["time"]))]
        value = mlflow_internals.with_infinities(rows["value"].astype(np.float64))
        return Points(rows["run"].astype(np.int64), rows["step"].astype(np.int64), value)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


BACKEND = Backend(("postgresql://", "postgresql+psycopg2://"), ("postgresql://USER@HOST/DATABASE",), open_postgres)
