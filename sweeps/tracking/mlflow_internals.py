"""What this room uses of MLflow beside its client, each with its reason: environment variables, loggers, UI tags.

MLflow promises none of the tags. tests/unit/test_ray_and_mlflow_internals.py says what each was for when a new version
of MLflow lacks it.
"""

from __future__ import annotations

import logging
import os

ENVIRONMENT = {
    # Usage statistics would be sent from the user's machine.
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # stdout is for results.
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
"""Environment variables that MLflow reads when it is imported."""

FAIL_SOON = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}
"""Environment variables by which a server that is down is noticed in seconds, not minutes; MLflow reads them for each
request. sweeps.tracking.writer tries again by itself."""

EXPERIMENT_KIND = {"mlflow.experimentKind": "custom_model_development"}
"""The tag of an experiment that has MLflow's UI open on its runs; it would open on its pages for language models."""

SHARED_VIEW = "mlflow.sharedViewState."
"""What the tag of an experiment begins with that holds a view of its runs; the UI lists it in its menu Views."""


def set_environment(*, fail_soon: bool = False) -> None:
    """Set the variables above that the user has not set, and silence MLflow's log; call before MLflow is imported.

    Args:
        fail_soon: set those of FAIL_SOON too.
    """
    for name, value in (ENVIRONMENT | (FAIL_SOON if fail_soon else {})).items():
        os.environ.setdefault(name, value)
    if logging.getLogger("sweeps").isEnabledFor(logging.DEBUG):
        return
    # MLflow logs a database's errors with their traceback, and raises them as well: this package tells them once.
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "CRITICAL")
    logging.getLogger("mlflow").setLevel(logging.CRITICAL)
    logging.getLogger("alembic").setLevel(logging.ERROR)
