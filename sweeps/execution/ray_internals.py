"""All private names and unstable settings of Ray that this package uses, each with its reason.

No other module uses a private name of Ray. If a new version of Ray lacks one of these names,
tests/unit/test_ray_and_mlflow_internals.py fails and names its purpose.
"""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path
from typing import Any

import ray
from ray.tune.experiment import Trial

ENVIRONMENT = {
    # Otherwise Ray sends usage statistics from the user's machine.
    "RAY_USAGE_STATS_ENABLED": "0",
    # Ray's new output prints on stdout at any verbosity; stdout is for results.
    "RAY_AIR_NEW_OUTPUT": "0",
    # A trial without a GPU keeps the CUDA_VISIBLE_DEVICES of the launch. Some versions warn if this is not set.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # Otherwise Ray writes each epoch to CSV, JSON and TensorBoard files; MLflow has the epochs already.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    # Ray's snapshots of its experiment are not used, so one a day is enough: a study resumes from the ledger.
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    # sweeps.execution.interrupts handles Ctrl-C.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    # Otherwise Ray limits how many trials may start at once. The searcher proposes trials for free slots only.
    "TUNE_MAX_PENDING_TRIALS_PG": "1024",
}
"""Environment variables that Ray reads when it starts or when an experiment starts."""

_LOGGERS = ("ray", "ray.tune", "ray.data", "ray.train")  # each has its own level and handler
_ERROR_FILE, _ERROR_BEGINS = "error.txt", "Failure # "
_TRIAL_ERROR = "sweeps.execution.trainable.TrialError: "  # what Ray writes before the message of one
_ANSI = re.compile(r"\x1b\[[0-9;]*m")


def set_environment() -> None:
    """Set the variables of ENVIRONMENT that the user has not set; call before Ray starts."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)


def silence() -> None:
    """Suppress Ray's log messages."""
    for name in _LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL)


def kill_started_processes() -> None:
    """Kill the processes that `ray.init` started on this machine.

    Used when Ray's node on this machine has died. Then `ray.shutdown` would end this process immediately. With neither
    call, the process would wait for a minute at its exit.
    """
    node = ray._private.worker._global_node
    if node is not None:
        node.kill_all_processes(check_alive=False, allow_graceful=False)


def forgive_failure(trial: Any) -> None:
    """Do not count a trial's last failure against its retries. Ray has no public way to do so."""
    trial.run_metadata.num_failures -= 1


def pending_trial(tune_controller: Any) -> Any:
    """Return the first trial that waits to be started, or None; for a scheduler's ``choose_trial_to_run``."""
    return next((trial for trial in tune_controller.get_trials() if trial.status == Trial.PENDING), None)


def is_running(trial: Any) -> bool:
    """Return whether Ray is running a trial."""
    return bool(trial.status == Trial.RUNNING)


def last_error(trial: Any) -> str:
    """Return the text of a trial's last error, without colours.

    Ray writes the error to the trial's folder immediately. The public `Trial.get_error` reads a copy that Ray makes
    later. An error of the trial itself is told without the frames of Ray and of the trainable.
    """
    written = Path(trial.local_path) / _ERROR_FILE
    text = without_colours(written.read_text() if written.exists() else "") or "unknown error"
    return text.rsplit(_ERROR_BEGINS, 1)[-1].rpartition(_TRIAL_ERROR)[2].strip()


def without_colours(text: str) -> str:
    """Return the text of an error without the terminal colours that Ray adds."""
    return _ANSI.sub("", text)


def unflattened(result: dict[str, Any], key: str) -> dict[str, Any]:
    """Return the dictionary that a trial reported under ``key``. A scheduler gets it as keys such as ``key/inner``.

    >>> unflattened({"number": 3, "record/epoch": 1, "record/loss": 0.5}, "record")
    {'epoch': 1, 'loss': 0.5}
    """
    prefix = f"{key}/"
    return {name.removeprefix(prefix): value for name, value in result.items() if name.startswith(prefix)}
