"""All parts of MLflow that this package uses beside its client: loggers and UI tags.

sweeps.environment has its environment variables. MLflow does not document the tags. If a new version of MLflow lacks
one, tests/unit/test_ray_and_mlflow_internals.py fails and names its purpose.
"""

from __future__ import annotations

import logging

from sweeps import environment

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
