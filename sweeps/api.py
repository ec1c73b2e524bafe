"""The functions that `import sweeps` offers; the command line calls the same ones."""

from __future__ import annotations

import contextlib
import copy
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnet_core.config import ConfigError as ConfigError
from resnet_core.config import TrialConfig as TrialConfig
from resnet_core.data import DatasetSpec as DatasetSpec
from resnet_core.paths import PathError, database_path, typed_path, typed_uri
from resnet_core.records import EpochRecord as EpochRecord
from resnet_core.records import Outcome as Outcome
from resnet_core.run import Run as Run
from resnet_core.schedule import Schedule as Schedule
from resnet_core.schedule import ScheduleError, parse
from resnet_core.uris import without_password
from search_spaces.errors import StudyError
from search_spaces.spec import StudySpec as StudySpec
from search_spaces.study import find_study, parse_study, to_json
from search_spaces.study import load_study as _read_file
from search_spaces.tables import check_name
from sweeps import environment
from sweeps.errors import InputError, SweepError
from sweeps.execution import fork_server, streams
from sweeps.home import Home

if TYPE_CHECKING:
    from analysis import Study
    from sweeps.execution.launch import Launch, LaunchStatus

# torch, Ray, Optuna, MLflow and pandas take seconds to import: each function imports what it uses.

HOME, DATA = Path("runs"), Path("data")
"""The default folders, used if neither an argument nor the environment names one."""


def load_study(
    study: StudySpec | Mapping[str, Any] | str | Path,
    *,
    name: str = "",
    trials: int | None = None,
    changes: Sequence[str] = (),
) -> StudySpec:
    """Load and check a study, with the requested changes applied.

    Args:
        study: the path of a study file; the name of a shipped study, such as ``"quickstart"``; the content of a study
            file as dictionaries; or a study.
        name: a new name for the study; empty keeps its name.
        trials: number of trials; None keeps the study's number.
        changes: texts ``"KEY=VALUE"``, as after ``--set``: a dotted key of the study file, and a TOML value.

    Raises:
        InputError: the file cannot be read, or something in it or in the changes is wrong. The message has a line for
            each error, with its key and what was expected.

    Examples:
        >>> study = load_study("quickstart", trials=4, changes=["train.batch_size=32"])
        >>> study.search.trials, study.train["batch_size"]
        (4, 32)
    """
    overrides = list(changes)
    with _input_errors():
        if name:
            overrides.append(f'name="{check_name(name)}"')
        if trials is not None:
            overrides.append(f"search.trials={trials}")
        if isinstance(study, str | Path):
            return _read_file(find_study(str(study)), overrides)
        if isinstance(study, StudySpec):
            if not overrides:
                return study
            values = json.loads(to_json(study))
            values.pop("code", None)  # read again
            return parse_study(values, study.name, overrides)
        return parse_study(copy.deepcopy(dict(study)), "study", overrides)


def launch(
    study: StudySpec | Mapping[str, Any] | str | Path,
    *,
    name: str = "",
    trials: int | None = None,
    changes: Sequence[str] = (),
    fork: str = "",
    address: str | None = None,
    home: str | Path | None = None,
    mlflow: str = "",
    ledger: str = "",
    data: str | Path | None = None,
    quiet: bool = False,
    verbose: bool = False,
    debug: bool = False,
) -> LaunchStatus:
    """Run a study to its end, as `sweeps launch` does; continue it if it has begun.

    Progress goes to stderr. One interrupt (Ctrl-C, or a notebook's stop button) lets the running trials finish their
    epoch, then the function returns; a second one ends the process. A script must call this below
    ``if __name__ == "__main__":``, because processes that are started here import the script again.

    Args:
        study: a study file, the name of a shipped study, the content of a study file, or a study; see `load_study`.
        name: a new name for the study; empty keeps its name.
        trials: number of trials; None keeps the study's number.
        changes: texts ``"KEY=VALUE"``, as after ``--set``.
        fork: name of a new study to run instead; its sampler knows the trials of the existing study called ``name``.
        address: address of a running Ray cluster; default: ``RAY_ADDRESS``, else Ray is started on this machine.
        home: folder of all state; default: ``SWEEPS_HOME``, else ``./runs``.
        mlflow: MLflow's tracking URI; default: ``SWEEPS_MLFLOW``, else a SQLite file in the home folder.
        ledger: database of Optuna's study; default: ``SWEEPS_LEDGER``, else a SQLite file in the home folder.
        data: folder of the images; default: ``SWEEPS_DATA``, else ``./data``.
        quiet: print no progress, only warnings and errors; this wins over ``verbose``.
        verbose: print a line for every epoch; otherwise, without a terminal, for every trial that ends.
        debug: show the log messages of Ray and MLflow.

    Returns:
        How the launch ended: all trials have ended, some of them crashed, or it was interrupted.

    Raises:
        SweepError: the study cannot be run; InputError if an argument or the study is wrong.

    Examples:
        >>> import analysis, sweeps
        >>> sweeps.launch("quickstart", trials=4)  # doctest: +SKIP
        >>> analysis.build_table(sweeps.load_results("quickstart"))  # doctest: +SKIP
    """
    with streams.complete(), environment.restored(), _launch_errors(), fork_server.running(address):
        spec = load_study(study, name=name, trials=trials, changes=changes)
        fork_server.import_for(spec.sources.values())
        launcher = open_launcher(
            open_home(home, mlflow, ledger), data, address, quiet=quiet, verbose=verbose, debug=debug
        )
        if fork:
            return launcher.fork(load_study(spec, name=fork), spec.name)
        return launcher.start(spec)


def resume(
    name: str,
    *,
    trials: int | None = None,
    more: int = 0,
    changed_code: bool = False,
    address: str | None = None,
    home: str | Path | None = None,
    mlflow: str = "",
    ledger: str = "",
    data: str | Path | None = None,
    quiet: bool = False,
    verbose: bool = False,
    debug: bool = False,
) -> LaunchStatus:
    """Continue a study that was interrupted or killed, as `sweeps resume` does, or add trials to it.

    Trials continue from their last epoch. See `launch` for progress, interrupts and use in scripts.

    Args:
        name: name of the study.
        trials: the new total number of trials; None keeps it.
        more: how many trials to add to the study's number.
        changed_code: go on although code that the study file names has changed since the study began.
        address: address of a running Ray cluster; default: ``RAY_ADDRESS``, else Ray is started on this machine.
        home: folder of all state; default: ``SWEEPS_HOME``, else ``./runs``.
        mlflow: MLflow's tracking URI; default: ``SWEEPS_MLFLOW``, else a SQLite file in the home folder.
        ledger: database of Optuna's study; default: ``SWEEPS_LEDGER``, else a SQLite file in the home folder.
        data: folder of the images; default: ``SWEEPS_DATA``, else ``./data``.
        quiet: print no progress, only warnings and errors; this wins over ``verbose``.
        verbose: print a line for every epoch; otherwise, without a terminal, for every trial that ends.
        debug: show the log messages of Ray and MLflow.

    Returns:
        How the launch ended: all trials have ended, some of them crashed, or it was interrupted.

    Raises:
        SweepError: the study cannot be run; InputError if there is no study of this name, or an argument is wrong.

    Examples:
        >>> sweeps.resume("quickstart", more=10)  # doctest: +SKIP
    """
    with streams.complete(), environment.restored(), _launch_errors(), fork_server.running(address):
        launcher = open_launcher(
            open_home(home, mlflow, ledger), data, address, quiet=quiet, verbose=verbose, debug=debug
        )
        return launcher.resume(name, trials=trials, more=more, changed_code=changed_code)


def parse_schedule(text: str) -> Schedule:
    """Return the schedule that a text in the notation describes, such as for a test of a trainer.

    Raises:
        ValueError: the text is not in the notation; the message shows the place.

    >>> parse_schedule("[1e-3, 0] lin[2e-3, 4] cos[0, 10]").value(2)
    0.0015
    """
    return parse(text)


def load_results(
    name: str, *, home: str | Path | None = None, mlflow: str = "", metrics: Sequence[str] | None = None
) -> Study:
    """Return the results of a study so far, as pandas frames.

    Args:
        name: name of the study.
        home: folder of all state; default: ``SWEEPS_HOME``, else ``./runs``.
        mlflow: MLflow's tracking URI; default: ``SWEEPS_MLFLOW``, else the SQLite file in the home folder.
        metrics: metrics of an epoch to read, such as ``["val_acc"]``, which is faster; None reads all.

    Returns:
        The study: ``trials`` has one row per trial, with its parameters and outcome; ``epochs`` has one row per trial
        and epoch, with losses and accuracies. Every function of `analysis` takes it: ``analysis.build_table`` makes the
        table that `sweeps table` prints.

    Raises:
        InputError: the study or the store does not exist.

    Examples:
        >>> results = load_results("quickstart")  # doctest: +SKIP
        >>> results.epochs.groupby("number")["val_acc"].max()  # doctest: +SKIP
    """
    from analysis.store import loader

    opened = open_home(home, mlflow)
    if not opened.mlflow and not opened.own_mlflow_db.exists():
        raise InputError(f"no study {name!r} in {opened.root}: it has no mlflow.db yet. See `sweeps ls` or --home")
    try:
        return loader.load(opened.mlflow_uri, name, metrics)
    except loader.StoreError as error:
        raise InputError(str(error)) from error


def open_home(home: str | Path | None = None, mlflow: str = "", ledger: str = "") -> Home:
    """Return the home folder with the addresses of MLflow's store and the ledger; defaults are from the environment.

    Raises:
        InputError: a URI is of an unsupported kind, or a path cannot be used.
    """
    typed = home or os.environ.get("SWEEPS_HOME") or HOME
    with _named("--home", typed):
        root = database_path(typed)
    if os.path.lexists(root) and not root.is_dir():
        raise InputError(f"--home {root}: expected a folder")
    if root.is_dir() and not os.access(root, os.R_OK | os.X_OK):
        raise InputError(f"--home {root}: this user may not read the folder; expected one that may be read")
    mlflow = _uri("--mlflow", mlflow, "SWEEPS_MLFLOW")
    ledger = _uri("--ledger", ledger, "SWEEPS_LEDGER")
    if mlflow:
        from analysis.store.backends import BACKENDS

        if not any(mlflow.startswith(backend.prefixes) for backend in BACKENDS.values()):
            expected = " or ".join(usage for backend in BACKENDS.values() for usage in backend.usage if "://" in usage)
            raise InputError(f"--mlflow {without_password(mlflow)}: expected {expected}")
    if ledger:
        from sweeps.ledger.database import sqlite_file

        sqlite_file(ledger)
    return Home(root, mlflow, ledger)


def data_folder(data: str | Path | None = None) -> Path:
    """Return the folder of the images; the default is from the environment.

    Raises:
        InputError: the path cannot be used.
    """
    typed = data or os.environ.get("SWEEPS_DATA") or DATA
    with _named("--data", typed):
        return typed_path(typed)


def _uri(option: str, given: str, variable: str) -> str:
    typed = given or os.environ.get(variable, "")
    with _named(option, without_password(typed)):
        return typed_uri(typed) if typed else ""


@contextlib.contextmanager
def _named(option: str, typed: object) -> Iterator[None]:
    """Say in the message of a PathError which path it is about."""
    try:
        yield
    except PathError as error:
        raise InputError(f"{option} {typed}: {error}") from None


def open_launcher(
    home: Home,
    data: str | Path | None = None,
    address: str | None = None,
    *,
    quiet: bool = False,
    verbose: bool = False,
    debug: bool = False,
) -> Launch:
    """Return a launcher of studies in a home folder, which shows the progress on stderr."""
    from rich.console import Console

    address = (address or os.environ.get("RAY_ADDRESS") or "").strip() or None
    environment.for_ray(own=address in (None, "local"))
    from sweeps.execution.launch import Launch  # imports Ray

    # In a notebook, rich would make a display of its own of each line.
    console = Console(stderr=True, emoji=False, force_jupyter=False)
    return Launch(home, data_folder(data), address, console, debug, quiet, verbose)


@contextlib.contextmanager
def _input_errors() -> Iterator[None]:
    """Convert errors in a study, a configuration or a schedule to an InputError."""
    try:
        yield
    except (StudyError, ConfigError, ScheduleError) as error:
        raise InputError(str(error)) from None


@contextlib.contextmanager
def _launch_errors() -> Iterator[None]:
    """Convert the errors that other packages raise in a launch to errors of this package."""
    from resnet_core.data import DataError

    try:
        with _input_errors():
            yield
    except DataError as error:
        raise SweepError(str(error)) from error
