"""All parts of MLflow that this package uses beside its client: environment variables, loggers, UI tags.

MLflow does not document the tags. If a new version of MLflow lacks one, tests/unit/test_ray_and_mlflow_internals.py
fails and names its purpose.
"""

from __future__ import annotations

import logging
import os

ENVIRONMENT = {
    # Otherwise MLflow sends usage statistics from the user's machine.
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # stdout is for results.
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
"""Environment variables that MLflow reads when it is imported."""

FAIL_SOON = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}
"""Environment variables with which a request to a server that is down fails within seconds, not minutes. MLflow reads
them at each request. sweeps.tracking.writer retries itself."""

EXPERIMENT_KIND = {"mlflow.experimentKind": "custom_model_development"}
"""The tag of an experiment that makes MLflow's UI open its runs instead of its pages for language models."""

SHARED_VIEW = "mlflow.sharedViewState."
"""The prefix of an experiment's tags that hold views of its runs; the UI lists the views in its menu Views."""


def set_environment(*, fail_soon: bool = False) -> None:
    """Set the variables above that the user has not set, and silence MLflow's log; call before MLflow is imported.

    Args:
        fail_soon: set those of FAIL_SOON too.
    """
    for name, value in (ENVIRONMENT | (FAIL_SOON if fail_soon else {})).items():
        os.environ.setdefault(name, value)
    if logging.getLogger("sweeps").isEnabledFor(logging.DEBUG):
        return
    # MLflow both logs a database's errors with their traceback and raises them: this package reports each once.
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "CRITICAL")
    logging.getLogger("mlflow").setLevel(logging.CRITICAL)
    logging.getLogger("alembic").setLevel(logging.ERROR)
    for name in ("urllib3", "sqlalchemy.pool"):  # each try of a request, and tracebacks of a locked database
        logging.getLogger(name).setLevel(logging.CRITICAL)
