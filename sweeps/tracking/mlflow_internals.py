"""All parts of MLflow that this package uses beside its client: loggers, UI tags, and how a database is made.

sweeps.environment has its environment variables. MLflow does not document the tags. If a new version of MLflow lacks
one, tests/unit/test_ray_and_mlflow_internals.py fails and names its purpose.
"""

from __future__ import annotations

import contextlib
import glob
import logging
import os
import time
from pathlib import Path
from typing import Any

from sweeps import environment

_PARTIAL = ".partial"
_STALE_SECONDS = 600.0  # after which no process is still making a database

EXPERIMENT_KIND = {"mlflow.experimentKind": "custom_model_development"}
"""The tag of an experiment that makes MLflow's UI open its runs instead of its pages for language models."""

SHARED_VIEW = "mlflow.sharedViewState."
"""The prefix of an experiment's tags that hold views of its runs; the UI lists the views in its menu Views."""


def set_environment(*, fail_soon: bool = False) -> None:
    """Set the variables that MLflow reads, and silence its log unless debugging; call before MLflow is imported.

    Args:
        fail_soon: let a request to a server that is down fail within seconds.
    """
    debug = logging.getLogger("sweeps").isEnabledFor(logging.DEBUG)
    environment.for_mlflow(fail_soon=fail_soon, quiet=not debug)
    if not debug:
        logging.getLogger("mlflow").setLevel(logging.CRITICAL)
        logging.getLogger("alembic").setLevel(logging.ERROR)
        for name in ("urllib3", "sqlalchemy.pool"):  # each try of a request, and tracebacks of a locked database
            logging.getLogger(name).setLevel(logging.CRITICAL)


def make_database(file: Path) -> None:
    """Make a SQLite file with MLflow's tables, unless there is one; it is there whole or not at all.

    MLflow makes its tables one by one, and can do nothing with a file in which a killed process has left some.

    Raises:
        OSError: the file cannot be written; or SQLAlchemy's error.
    """
    from mlflow.store.db import utils
    from sqlalchemy import URL, create_engine

    if file.exists():
        return
    tables: Any = utils
    file.parent.mkdir(parents=True, exist_ok=True)
    for left in file.parent.glob(f"{glob.escape(file.name)}.*{_PARTIAL}*"):
        with contextlib.suppress(FileNotFoundError):  # another process has just put its own into place
            if time.time() - left.stat().st_mtime > _STALE_SECONDS:
                left.unlink()
    partial = file.with_name(f"{file.name}.{os.getpid()}{_PARTIAL}")
    engine = create_engine(URL.create("sqlite", database=str(partial)))
    try:
        tables._initialize_tables(engine)
        engine.dispose()
        try:
            os.link(partial, file)
        except FileExistsError:
            pass  # another process has made it meanwhile
        except OSError:  # a file system without links
            if not file.exists():
                partial.rename(file)
    finally:
        engine.dispose()
        partial.unlink(missing_ok=True)
