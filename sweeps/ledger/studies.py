"""The studies in a ledger's database: their names and specifications, and how to open and begin one."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import optuna
from optuna.storages import BaseStorage, RDBStorage
from optuna.trial import FrozenTrial
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from resnet_core.uris import without_password
from search_spaces.errors import StudyError
from search_spaces.spec import StudySpec
from search_spaces.study import from_json, to_json
from sweeps.errors import SweepError, UnknownStudyError, reason_of
from sweeps.ledger import attributes
from sweeps.ledger.database import exclusive_transaction, has_ledger, is_copy, open_storage, read_storage, sqlite_file
from sweeps.ledger.leases import create_tables, delete_drivers
from sweeps.ledger.optuna_internals import uri_of

_log = logging.getLogger(__name__)


def study_names(uri: str) -> list[str]:
    """Return the names of the studies in a ledger; none where its file does not exist."""
    return list(_stored_specs(uri))


def study_specs(uri: str) -> list[StudySpec]:
    """Return the specifications of the studies in a ledger, ordered by name; none where its file does not exist.

    A study that cannot be read is left out, with a warning.
    """
    found = []
    for name, text in _stored_specs(uri).items():
        try:
            found.append(from_json(text))
        except StudyError as error:
            _log.warning("study %r is left out: %s", name, error)
    return found


def _stored_specs(uri: str) -> dict[str, str]:
    if not has_ledger(uri):
        return {}
    kept = {study.study_name: study.user_attrs for study in read_storage(uri).get_all_studies()}
    return {name: kept[name][attributes.SPEC] for name in sorted(kept) if attributes.SPEC in kept[name]}


def ledger_storage(uri: str) -> RDBStorage:
    """Return Optuna's storage in a database, with the tables of drivers beside Optuna's.

    Raises:
        InputError: the URI cannot belong to a ledger.
        SweepError: the database cannot be used.
    """
    storage = open_storage(uri)
    create_tables(storage)
    return storage


@contextlib.contextmanager
def exclusive(storage: RDBStorage, study: str) -> Iterator[Connection]:
    """Lock a study's ledger before this process is its driver; if the database cannot be reached, do not wait.

    Raises:
        SweepError: the database cannot be used.
    """
    try:
        with exclusive_transaction(storage, study) as connection:
            yield connection
    except DBAPIError as error:
        raise SweepError(
            f"the ledger {without_password(uri_of(storage))} cannot be used: {reason_of(error)}"
        ) from error


def find_study(storage: BaseStorage, name: str) -> optuna.Study | None:
    """Return the study of this name; None if there is none, or a killed process did not complete it."""
    try:
        study = optuna.load_study(storage=storage, study_name=name)
    except KeyError:
        return None
    return study if attributes.SPEC in study.user_attrs else None


def open_study(uri: str, name: str, *, to_read: bool = False) -> tuple[optuna.Study, RDBStorage]:
    """Return a study and its storage.

    Args:
        uri: URI of the database.
        name: name of the study.
        to_read: open it to look at it: nothing is written to the database, and later changes may not be seen.

    Raises:
        UnknownStudyError: there is no study of this name; the message lists the existing ones.
        SweepError: the study existed here, but its ledger is missing; or the database cannot be used.
    """
    file = sqlite_file(uri)
    there = has_ledger(uri)
    if file is not None and not there and (file.parent / "studies" / name).is_dir():
        raise SweepError(
            f"{file} is gone, and with it what study {name!r} asks and which trials it has; put it back, or launch "
            "the study under another --name. Its checkpoints and its epochs in MLflow are untouched"
        )
    if there:
        storage = read_storage(uri) if to_read else ledger_storage(uri)
        if to_read and is_copy(storage):
            create_tables(storage)
        study = find_study(storage, name)
        if study is not None:
            return study, storage
    known = ", ".join(study_names(uri)) or "none"
    place = file.parent if file is not None else without_password(uri)
    raise UnknownStudyError(f"no study {name!r} in {place}; known: {known}. See `sweeps ls`, --home or --ledger")


def begin_study(
    connection: Connection,
    storage: RDBStorage,
    spec: StudySpec,
    trials: Sequence[FrozenTrial] = (),
    attrs: Mapping[str, Any] | None = None,
) -> optuna.Study:
    """Return a new study; it replaces an existing study of this name.

    The specification is written last, so `find_study` does not find an incomplete study.

    Args:
        connection: the connection that holds the lock on the study's ledger, see `exclusive`.
        storage: the storage for the study.
        spec: the study's specification.
        trials: the trials with which it begins.
        attrs: further user attributes of the study.
    """
    with contextlib.suppress(KeyError):
        optuna.delete_study(study_name=spec.name, storage=storage)
    study = optuna.create_study(storage=storage, study_name=spec.name, direction="minimize")
    study.add_trials(trials)
    for name, value in (attrs or {}).items():
        study.set_user_attr(name, value)
    study.set_user_attr(attributes.SPEC, to_json(spec))
    delete_drivers(connection, spec.name)
    return study
