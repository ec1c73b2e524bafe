"""All undocumented names of Optuna that this package uses.

- ``optuna.Trial(study, trial_id)`` and ``FrozenTrial._trial_id``: they make a live trial of one that an earlier process
  began, so that it can be reported and told. Optuna documents no way to continue a trial.
- ``Study._storage``: it reads the state of a single trial; ``Study.get_trials`` would read all of them.
- ``RDBStorage.engine`` and ``RDBStorage.url``: the tables of drivers lie in the same database, and are written in the
  same transactions.

tests/unit/test_optuna_internals.py fails if a new version of Optuna removes one of them.
"""

from __future__ import annotations

import optuna
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial
from sqlalchemy import Engine


def live_trial(study: optuna.Study, trial: FrozenTrial) -> optuna.Trial:
    """Return a stored running trial as a live trial, which can be reported and told."""
    return optuna.Trial(study, trial._trial_id)


def is_finished(study: optuna.Study, trial: optuna.Trial) -> bool:
    """Return whether the storage holds a trial as finished now."""
    return study._storage.get_trial(trial._trial_id).state.is_finished()


def engine_of(storage: RDBStorage) -> Engine:
    """Return SQLAlchemy's engine of a storage."""
    return storage.engine


def uri_of(storage: RDBStorage) -> str:
    """Return the URI of a storage's database."""
    return str(storage.url)
