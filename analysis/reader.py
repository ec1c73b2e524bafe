"""What a study is read from: the runs, parameters and points of an MLflow store, wherever that is."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from analysis.uris import without_password

VERSION_TAGS = ("python", "torch", "torchvision", "ray", "optuna", "mlflow")
"""The tags of a launch that say what it ran with."""

PLACE_TAGS = ("code_version", "device", "gpu_ids", "threads", "node")
"""The tags of a trial that say where it ran."""

TAGS = (
    *("sweeps.kind", "sweeps.trial", "mlflow.parentRunId", "mlflow.note.content", "description"),
    *("target", "sustained", "stopping_rules", "phase", "confirms", "space"),
    *("outcome", "stop_reason", "stopped_by", "would_stop"),
    *(*VERSION_TAGS, *PLACE_TAGS),
)
"""The tags that are read."""

_URI = re.compile(r"^[a-z][a-z0-9+.-]*://", re.IGNORECASE)


class StoreError(ValueError):
    """The store cannot be read, or does not hold what was asked for; the message says which."""


@dataclass(frozen=True)
class Run:
    """A living run of MLflow.

    Attributes:
        id: MLflow's.
        experiment: name of its experiment, the study.
        name: of the run.
        status: MLflow's.
        start_time: milliseconds since 1970, UTC.
        end_time: likewise; None while it runs.
        tags: those of TAGS that it has.
    """

    id: str
    experiment: str
    name: str
    status: str
    start_time: int
    end_time: int | None
    tags: dict[str, str]


@dataclass(frozen=True)
class Points:
    """What was logged under one metric, in the order of time; of one time, by value.

    Attributes:
        run: index of the run among those asked for; shape (points,).
        epoch: MLflow's step; shape (points,).
        value: NaN and infinities as they were logged; shape (points,).
    """

    run: NDArray[np.int64]
    epoch: NDArray[np.int64]
    value: NDArray[np.float64]


class Reader(Protocol):
    """An open store. What it raises names the store and says what is wrong; see StoreError."""

    def runs(self, study: str | None = None) -> list[Run]:
        """Return the living runs of a study, or of all."""

    def params(self, study: str) -> dict[str, dict[str, str]]:
        """Return the parameters of a study's living runs, by run."""

    def points(self, runs: Sequence[str], metric: str) -> Points:
        """Return what these runs, all of one study, logged under a metric."""


@contextmanager
def opened(source: Path | str) -> Iterator[Reader]:
    """Give a reader of a store.

    Args:
        source: a path, or a URI: ``sqlite:///FILE``, ``postgresql://…``, ``http://…``, ``https://…``.

    Raises:
        StoreError: it is not there, cannot be read, or is not MLflow's.
    """
    with _opener(source) as reader:
        yield reader


def _opener(source: Path | str) -> AbstractContextManager[Reader]:
    # Each of these is imported when it is used: the server's takes seconds.
    text = str(source)
    if isinstance(source, str) and text.startswith(("http://", "https://")):
        from analysis.server_store import open_server

        return open_server(text)
    if isinstance(source, str) and text.startswith(("postgresql://", "postgresql+psycopg2://")):
        from analysis.postgres_store import open_postgres

        return open_postgres(text)
    if isinstance(source, str) and _URI.match(text) and not text.startswith("sqlite:///"):
        shown = without_password(text)
        raise StoreError(f"{shown}: expected a path, sqlite:///FILE, postgresql://…, http://… or https://…")
    from analysis.sqlite_store import open_sqlite

    return open_sqlite(Path(text.removeprefix("sqlite:///") if isinstance(source, str) else source))


def run_of(row: Sequence[Any], tags: Mapping[str, dict[str, str]]) -> Run:
    """Return the run of a database's row: all that Run has but its tags, which come by run."""
    run_id, experiment, name, status, start_time, end_time = row
    return Run(run_id, experiment, name, status, start_time, end_time, tags.get(run_id, {}))


def missing_tables(found: Any) -> str:
    """Return the tables of MLflow's that are not among those found, as text; empty where all are there."""
    return ", ".join(sorted({"experiments", "runs", "tags", "params", "metrics"} - set(found)))


def unbounded(value: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return values with their infinities: MLflow writes one as the largest float there is."""
    return np.where(np.abs(value) == np.finfo(np.float64).max, value * np.inf, value)
