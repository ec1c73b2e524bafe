"""What a study is read from: the runs, parameters and points of an MLflow store, wherever that is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from resnet_core import schema

TAGS = (
    *(schema.KIND, schema.TRIAL_NUMBER, schema.PARENT_RUN, schema.NOTE, schema.DESCRIPTION),
    *(schema.TARGET, schema.SUSTAINED, schema.STOPPING_RULES, schema.SPACE, schema.IMPORTED),
    *(schema.PHASE, schema.CONFIRMS, schema.LENGTHENED),
    *(*schema.END, *schema.VERSIONS, schema.CODE_VERSION, *schema.PLACE),
)
"""The tags that are read."""


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


def run_of(row: Sequence[Any], tags: Mapping[str, dict[str, str]]) -> Run:
    """Return the run of a database's row: all that Run has but its tags, which come by run."""
    run_id, experiment, name, status, start_time, end_time = row
    return Run(run_id, experiment, name, status, start_time, end_time, tags.get(run_id, {}))


def missing_tables(found: Any) -> str:
    """Return the tables of MLflow's that are not among those found, as text; empty where all are there."""
    return ", ".join(sorted({"experiments", "runs", "tags", "params", "metrics"} - set(found)))


def unbounded(value: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return values with their infinities: MLflow writes one as the largest float there is."""
    return np.where(np.abs(value) == np.finfo(np.float64).max, np.copysign(np.inf, value), value)
