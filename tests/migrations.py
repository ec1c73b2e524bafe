"""Tables of databases, made once: what Alembic makes is the same each time, and takes seconds.

The tables are those of the libraries' own migrations. Tests that start a command as a shell does have it make its own.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any


def keep_scripts() -> None:
    """Have Alembic keep the scripts of migrations: it loads them all whenever somebody opens a database."""
    import alembic.util

    load, kept = alembic.util.load_python_file, {}

    def load_once(folder: Any, name: Any) -> Any:
        if name == "env.py":  # migrates where it is loaded
            return load(folder, name)
        path = (str(folder), str(name))
        if path not in kept:
            kept[path] = load(folder, name)
        return kept[path]

    alembic.util.load_python_file = load_once


def keep_mlflow_tables() -> None:
    """Have MLflow's tables copied to each new file of SQLite's."""
    import mlflow
    import mlflow.store.db.utils as database

    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "mlflow.db"
        mlflow.MlflowClient(f"sqlite:///{made}").search_experiments()
        content = made.read_bytes()
    initialize = database._initialize_tables

    def copy(engine: Any) -> None:
        if engine.url.drivername == "sqlite":
            Path(engine.url.database).write_bytes(content)
        else:
            initialize(engine)

    database._initialize_tables = copy
