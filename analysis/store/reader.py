"""The interface of backends: runs, parameters and points of an MLflow store; and the common part of SQL backends."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from analysis.store import mlflow_internals
from resnet_core import schema

TAGS = (
    *(schema.KIND, schema.TRIAL_NUMBER, schema.PARENT_RUN, schema.NOTE, schema.DESCRIPTION),
    *(
        schema.METRIC,
        schema.GOAL,
        schema.TARGET,
        schema.SUSTAINED,
        schema.STOPPING_RULES,
        schema.SPACE,
        schema.IMPORTED,
    ),
    *(schema.PHASE, schema.CONFIRMS, schema.LENGTHENED),
    *(*schema.END, *schema.VERSIONS, schema.CODE_VERSION, *schema.PLACE),
)
"""The tags that are read."""


class StoreError(ValueError):
    """The store cannot be read, or lacks the requested data; the message says which."""


@dataclass(frozen=True)
class Run:
    """A run of MLflow.

    Attributes:
        id: MLflow's id.
        experiment: the name of the study in its experiment.
        name: the run's name.
        status: MLflow's status.
        start_time: milliseconds since 1970, UTC.
        end_time: likewise; None while the run has not ended.
        tags: the run's tags that are in TAGS.
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
    """The logged values of one metric, in the order of time; values of the same time in the order of value.

    Attributes:
        run: index of the run among the requested ones; shape (points,).
        epoch: MLflow's step; shape (points,).
        value: as it was logged, NaN and infinities included; shape (points,).
    """

    run: NDArray[np.int64]
    epoch: NDArray[np.int64]
    value: NDArray[np.float64]


class Reader(Protocol):
    """An open store. Its methods raise only StoreError, which names the store."""

    def runs(self, study: str | None = None, *, deleted: bool = False) -> list[Run]:
        """Return the active runs of a study, or of all studies; or those that somebody deleted in MLflow."""

    def params(self, study: str) -> dict[str, dict[str, str]]:
        """Return the parameters of a study's active runs, by the run's id."""

    def is_deleted(self, study: str) -> bool:
        """Return whether a launch of a study was deleted, or the study's experiment, and can still be restored."""

    def metric_names(self, study: str) -> set[str]:
        """Return the names of all metrics that a study's active runs logged."""

    def points(self, runs: Sequence[str], metric: str) -> Points:
        """Return the points that these runs, all of one study, logged under a metric."""


@dataclass(frozen=True)
class Backend:
    """A kind of store. Each module of analysis.store.backends defines one, as BACKEND.

    Attributes:
        prefixes: prefixes of the URIs of such stores.
        usage: how a user writes such a URI, for messages.
        open: returns a context manager that gives a Reader of the store with this URI. It raises a StoreError if the
            store is not there, cannot be read, or is not MLflow's. No message shows a password.
    """

    prefixes: tuple[str, ...]
    usage: tuple[str, ...]
    open: Callable[[str], AbstractContextManager[Reader]]


class SqlReader(ABC):
    """A Reader of MLflow's tables. A backend adds the methods to run a query and to read points."""

    study_placeholder: ClassVar[str]
    """How a query of this database names its parameter ``study``."""

    @abstractmethod
    def rows(self, query: str, **values: Any) -> Iterable[tuple[Any, ...]]:
        """Return the rows of a query with these values for its parameters."""

    def runs(self, study: str | None = None, *, deleted: bool = False) -> list[Run]:
        """See Reader."""
        stage = "!=" if deleted else "="
        keys = ", ".join(f"'{key}'" for key in TAGS)
        query = mlflow_internals.TAGS.format(study=self.study_placeholder, keys=keys, stage=stage)
        tags: defaultdict[str, dict[str, str]] = defaultdict(dict)
        for run_id, key, value in self.rows(query, study=study):
            tags[run_id][key] = value
        query = mlflow_internals.RUNS.format(study=self.study_placeholder, stage=stage)
        return [
            Run(run_id, experiment, name, status, start_time, end_time, tags.get(run_id, {}))
            for run_id, experiment, name, status, start_time, end_time in self.rows(query, study=study)
        ]

    def params(self, study: str) -> dict[str, dict[str, str]]:
        """See Reader."""
        params: defaultdict[str, dict[str, str]] = defaultdict(dict)
        query = mlflow_internals.PARAMS.format(study=self.study_placeholder)
        for run_id, key, value in self.rows(query, study=study):
            params[run_id][key] = value
        return params

    def is_deleted(self, study: str) -> bool:
        """See Reader."""
        return bool(list(self.rows(mlflow_internals.DELETED.format(study=self.study_placeholder), study=study)))

    def metric_names(self, study: str) -> set[str]:
        """See Reader."""
        query = mlflow_internals.METRIC_NAMES.format(study=self.study_placeholder)
        return {name for (name,) in self.rows(query, study=study)}

    @abstractmethod
    def points(self, runs: Sequence[str], metric: str) -> Points:
        """See Reader."""
