"""MLflow's store in PostgreSQL, by SQL in one read-only transaction."""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.store.reader import TAGS, Points, Run, StoreError, missing_tables, run_of, unbounded
from resnet_core.uris import without_password

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection

_CONNECT_SECONDS = 10


@contextmanager
def open_postgres(uri: str) -> Iterator[PostgresReader]:
    """Give a reader of a PostgreSQL database, inside one read-only transaction of one snapshot.

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
        # libpq knows nothing of SQLAlchemy's drivers.
        opened = psycopg2.connect(uri.replace("+psycopg2://", "://", 1), connect_timeout=_CONNECT_SECONDS)
    except psycopg2.Error as error:
        # What libpq cannot read as a URI it repeats, password and all.
        reason = "" if isinstance(error, psycopg2.ProgrammingError) else f": {_first_line(error)}"
        raise StoreError(f"{shown}: cannot be opened{reason}") from None
    try:
        with closing(opened) as connection:
            connection.set_session(isolation_level="REPEATABLE READ", readonly=True)
            with connection.cursor() as cursor:
                cursor.execute("SELECT tablename FROM pg_tables WHERE schemaname = ANY(current_schemas(false))")
                lacks = missing_tables(name for (name,) in cursor.fetchall())
            if lacks:
                raise StoreError(f"{shown}: not an MLflow database: it lacks the tables {lacks}")
            yield PostgresReader(connection)
    except psycopg2.Error as error:
        raise StoreError(f"{shown}: cannot be read: {_first_line(error)}") from error


_RUNS = """
    SELECT r.run_uuid, e.name, r.name, r.status, r.start_time, r.end_time
    FROM runs r JOIN experiments e USING (experiment_id)
    WHERE r.lifecycle_stage = 'active' AND e.lifecycle_stage = 'active' AND e.name = coalesce(%(study)s, e.name)
"""
_TAGS = """
    SELECT t.run_uuid, t.key, t.value
    FROM tags t JOIN runs r USING (run_uuid) JOIN experiments e USING (experiment_id)
    WHERE t.key = ANY(%(tags)s) AND r.lifecycle_stage = 'active' AND e.name = coalesce(%(study)s, e.name)
"""
_PARAMS = """
    SELECT p.run_uuid, p.key, p.value
    FROM params p JOIN runs r USING (run_uuid) JOIN experiments e USING (experiment_id)
    WHERE e.name = %(study)s AND r.lifecycle_stage = 'active'
"""
# Binary, since that is many times as fast as text, and exact.
_POINTS = """
    COPY (
        SELECT picked.i - 1, m.step, m.timestamp, CASE WHEN m.is_nan THEN 'NaN' ELSE m.value END
        FROM unnest(%(runs)s::text[]) WITH ORDINALITY AS picked(run, i) JOIN metrics m ON m.run_uuid = picked.run
        WHERE m.key = %(metric)s
    ) TO STDOUT (FORMAT binary)
"""
# Of a COPY: a header of 19 bytes, a tuple a row with the length of each field before it, and a mark at the end.
_HEADER, _END = 19, 2
_TUPLE = np.dtype(
    [
        *(("fields", ">i2"), ("run_bytes", ">i4"), ("run", ">i8"), ("step_bytes", ">i4"), ("step", ">i8")),
        *(("time_bytes", ">i4"), ("time", ">i8"), ("value_bytes", ">i4"), ("value", ">f8")),
    ]
)


class PostgresReader:
    """See analysis.store.reader.Reader."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def runs(self, study: str | None = None) -> list[Run]:
        """Return the living runs of a study, or of all."""
        tags: defaultdict[str, dict[str, str]] = defaultdict(dict)
        for run_id, key, value in self._rows(_TAGS, study=study, tags=list(TAGS)):
            tags[run_id][key] = value
        return [run_of(row, tags) for row in self._rows(_RUNS, study=study)]

    def params(self, study: str) -> dict[str, dict[str, str]]:
        """Return the parameters of a study's living runs, by run."""
        params: defaultdict[str, dict[str, str]] = defaultdict(dict)
        for run_id, key, value in self._rows(_PARAMS, study=study):
            params[run_id][key] = value
        return params

    def points(self, runs: Sequence[str], metric: str) -> Points:
        """Return what these runs logged under a metric."""
        copied = io.BytesIO()
        with self._connection.cursor() as cursor:
            query = cursor.mogrify(_POINTS, {"runs": list(runs), "metric": metric})
            cursor.copy_expert(query.decode(), copied)
        rows = np.frombuffer(copied.getvalue()[_HEADER:-_END], _TUPLE)
        rows = rows[np.lexsort((rows["value"], rows["time"]))]
        value = unbounded(rows["value"].astype(np.float64))
        return Points(rows["run"].astype(np.int64), rows["step"].astype(np.int64), value)

    def _rows(self, query: str, **values: Any) -> list[tuple[Any, ...]]:
        with self._connection.cursor() as cursor:
            cursor.execute(query, values)
            rows: list[tuple[Any, ...]] = cursor.fetchall()
            return rows


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
