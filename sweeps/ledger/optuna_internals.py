"""What this room uses of Optuna that Optuna does not document, in one place.

- ``optuna.Trial(study, trial_id)`` and ``FrozenTrial._trial_id``: a trial that an earlier process began is reported and
  told as a live one. Optuna documents no way to continue a trial.
- ``Study._storage``: the state of one trial is read on its own; ``Study.get_trials`` would read all of them.
- ``RDBStorage.engine`` and ``RDBStorage.url``: the tables of drivers lie in the same database, and are written in the
  same transactions.

tests/unit/test_optuna_internals.py fails where a new version of Optuna takes one of them away.
"""

from __future__ import annotations

import optuna
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial
from sqlalchemy import Engine


def live_trial(study: optuna.Study, trial: FrozenTrial) -> optuna.Trial:
    """Return a running trial of the storage as one that can be reported and told."""
    return optuna.Trial(study, trial._trial_id)


def is_finished(study: optuna.Study, trial: optuna.Trial) -> bool:
    """Return whether a trial is finished in the storage by now."""
    return study._storage.get_trial(trial._trial_id).state.is_finished()


def engine_of(storage: RDBStorage) -> Engine:
    """Return SQLAlchemy's engine of a storage."""
    return storage.engine


def uri_of(storage: RDBStorage) -> str:
    """Return the URI of the database in which a storage is."""
    return str(storage.url)
