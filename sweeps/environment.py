"""The environment variables of libraries: those that this package sets, ignores, and leaves to the user.

Ray, MLflow and OpenMP take dozens of settings from the environment. One that was set for another program would break a
launch, or change what it does without a word. So what a launch depends on is set here, whatever it was before; what
nobody means for a launch is taken away; and the rest stays, for the libraries and for the code of a trainer.
"""

from __future__ import annotations

import contextlib
import getpass
import itertools
import logging
import os
import subprocess
import sys
import sysconfig
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Set
from pathlib import Path

from sweeps.errors import InputError

_SAFE_PATH = "PYTHONSAFEPATH"

RAY = {
    # Otherwise Ray sends usage statistics from the user's machine.
    "RAY_USAGE_STATS_ENABLED": "0",
    # Ray's new output prints on stdout at any verbosity; stdout is for results.
    "RAY_AIR_NEW_OUTPUT": "0",
    # A trial without a GPU keeps the CUDA_VISIBLE_DEVICES of the launch. Some versions warn if this is not set.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # After a Ray that has died, a question of Ray Tune's would start another.
    "RAY_ENABLE_AUTO_CONNECT": "0",
    # Otherwise Ray would start as a client of a cluster that runs elsewhere.
    "RAY_CLIENT_MODE": "0",
    # Under `uv run`, Ray would copy the current folder to a new environment for each worker.
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
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
"""Variables that Ray reads when it is imported, when it starts, or when an experiment starts."""

MLFLOW = {
    # Otherwise MLflow sends usage statistics from the user's machine.
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # stdout is for results.
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # What is too long is refused, and not cut without a word; sweeps.tracking gives nothing that is too long.
    "MLFLOW_TRUNCATE_LONG_VALUES": "false",
}
"""Variables that MLflow reads when it is imported."""

MLFLOW_QUIET = {"MLFLOW_LOGGING_LEVEL": "CRITICAL"}
"""MLflow both logs a database's errors with their traceback and raises them: this package reports each once."""

MLFLOW_FAIL_SOON = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}
"""Variables with which a request to a server that is down fails within seconds, not minutes. MLflow reads them at each
request. sweeps.tracking.writer retries itself. A user with a slow server may set others."""

MLFLOW_SERVER = {
    # A dozen processes for background jobs, which are not used.
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    # `python -m` would import modules of the current folder in place of others of the same name.
    _SAFE_PATH: "1",
}
"""Variables that MLflow's server reads."""

MLFLOW_SERVER_IGNORED = frozenset(
    {
        "MLFLOW_ARTIFACTS_DESTINATION",
        "MLFLOW_ARTIFACTS_ONLY",
        "MLFLOW_EXPOSE_PROMETHEUS",
        "MLFLOW_GUNICORN_OPTS",
        "MLFLOW_REGISTRY_STORE_URI",
        "MLFLOW_SERVE_ARTIFACTS",
        "MLFLOW_STATIC_PREFIX",
        "MLFLOW_TRACE_ARCHIVAL_CONFIG",
        "MLFLOW_UVICORN_OPTS",
        "MLFLOW_WORKSPACE_STORE_URI",
    }
)
"""Options of another server of MLflow's, which may run on the same machine."""

_BACKEND = "MPLBACKEND"
_CACHES = {"MPLCONFIGDIR": "matplotlib", "TRITON_HOME": "", "XDG_CACHE_HOME": "cache"}
"""Variables that name folders which matplotlib, Triton and others otherwise make in the home folder of the user."""

PERSON = frozenset({"HOME", "USER", *_CACHES})
"""Variables that are set where the user has no home folder, cannot write in it, or has no name."""

_KEPT = frozenset(
    {
        "RAY_ADDRESS",
        "RAY_AUTH_MODE",
        "RAY_AUTH_TOKEN",
        "RAY_AUTH_TOKEN_PATH",
        "RAY_BACKEND_LOG_LEVEL",
        "RAY_TLS_CA_CERT",
        "RAY_TLS_SERVER_CERT",
        "RAY_TLS_SERVER_KEY",
        "RAY_TMPDIR",
        "RAY_USE_TLS",
    }
)
"""The settings of Ray that a user means for a launch: where it is, where its files are, and who may reach it."""

TUNE = frozenset(
    {
        "RAY_AIR_LOCAL_CACHE_DIR",
        "RAY_CHDIR_TO_TRIAL_DIR",
        "RAY_NAMESPACE",
        "RAY_TRAIN_V2_ENABLED",
        "RAY_TUNE_CALLBACKS",
        "TUNE_DISABLE_AUTO_INIT",
        "TUNE_DISABLE_DATED_SUBDIR",
        "TUNE_DISABLE_STRICT_METRIC_CHECKING",
        "TUNE_FORCE_TRIAL_CLEANUP_S",
        "TUNE_FUNCTION_THREAD_TIMEOUT_S",
        "TUNE_MAX_LEN_IDENTIFIER",
        "TUNE_PLACEMENT_GROUP_PREFIX",
        "TUNE_PLACEMENT_GROUP_RECON_INTERVAL",
        "TUNE_PRINT_ALL_TRIAL_ERRORS",
        "TUNE_RESTORE_RETRY_NUM",
        "TUNE_RESULT_BUFFER_LENGTH",
        "TUNE_RESULT_BUFFER_MAX_TIME_S",
        "TUNE_RESULT_BUFFER_MIN_TIME_S",
        "TUNE_RESULT_DELIM",
        "TUNE_RESULT_DIR",
        "TUNE_STATE_REFRESH_PERIOD",
        "TUNE_WARN_INSUFFICENT_RESOURCE_THRESHOLD_S",
        "TUNE_WARN_INSUFFICENT_RESOURCE_THRESHOLD_S_AUTOSCALER",
        "TUNE_WARN_THRESHOLD_S",
    }
)
"""Settings of Ray Tune that a launch ignores, on a cluster of its own or on another."""

OPENMP = frozenset(
    {
        # Each trial would bind its threads to the same cores, the first ones.
        "GOMP_CPU_AFFINITY",
        "KMP_AFFINITY",
        "OMP_PLACES",
        "OMP_PROC_BIND",
        # resources.cpus_per_trial says how many threads a trial has, also on a machine that is busy.
        "OMP_DYNAMIC",
        "OMP_MAX_ACTIVE_LEVELS",
        "OMP_THREAD_LIMIT",
    }
)
"""Settings of OpenMP that hold for one program on the machine, not for several trials beside each other."""

MLFLOW_IGNORED = frozenset(
    {
        "MLFLOW_ENABLE_ASYNC_LOGGING",
        "MLFLOW_ENABLE_WORKSPACES",
        "MLFLOW_READ_REPLICA_BACKEND_STORE_URI",
        "MLFLOW_REGISTRY_URI",
        "MLFLOW_SQLALCHEMYSTORE_ECHO",
        "MLFLOW_SQLALCHEMYSTORE_POOLCLASS",
    }
)
"""Settings of MLflow that change how its store is opened or what it keeps."""

_log = logging.getLogger(__name__)


def for_ray(*, own: bool) -> None:
    """Set and remove variables for Ray, for the trials that it starts, and for OpenMP in them.

    Call it before Ray is imported: Ray reads some of them then.

    Args:
        own: whether Ray is started on this machine. A cluster that runs already, and a job that was submitted to it,
            have settings in the environment that are needed there.

    Raises:
        InputError: Python runs without docstrings, or Ray cannot read its settings.
    """
    if sys.flags.optimize >= 2:
        raise InputError("Ray needs docstrings, which PYTHONOPTIMIZE=2 and python -OO remove: unset PYTHONOPTIMIZE")
    _check_system_of_ray()
    ignored = {name for name in os.environ if name in TUNE | OPENMP or (own and _is_of_ray(name))} - RAY.keys()
    _apply(RAY | _of_person(), ignored)


def for_trials() -> None:
    """Remove variables for OpenMP in a process that trains: one of a cluster has those of its node, not of the launch.

    Call it before torch is imported: OpenMP reads them then.
    """
    _apply({}, OPENMP & os.environ.keys())


def for_mlflow(*, fail_soon: bool = False, quiet: bool = True, server: bool = False) -> None:
    """Set and remove variables for MLflow; call it before MLflow is imported.

    Args:
        fail_soon: set those of MLFLOW_FAIL_SOON too, unless the user has.
        quiet: set those of MLFLOW_QUIET too.
        server: set those of MLFLOW_SERVER too, and ignore those of MLFLOW_SERVER_IGNORED.
    """
    chosen = {name: value for name, value in MLFLOW_FAIL_SOON.items() if fail_soon and name not in os.environ}
    chosen |= (MLFLOW_QUIET if quiet else {}) | (MLFLOW_SERVER if server else {})
    ignored = MLFLOW_IGNORED | (MLFLOW_SERVER_IGNORED if server else frozenset())
    _apply(MLFLOW | chosen | _of_person(), ignored & os.environ.keys())


@contextlib.contextmanager
def restored() -> Iterator[None]:
    """Give variables that the functions of this module change in the block the values that they had before it.

    A notebook that launches a study has other uses for its environment. No warning becomes an error in the block.
    """
    before = dict(os.environ)
    try:
        with mild_warnings():
            yield
    finally:
        for name in (*RAY, *MLFLOW, *MLFLOW_FAIL_SOON, *MLFLOW_QUIET, *PERSON):
            os.environ.pop(name, None)
        os.environ.update({name: value for name, value in before.items() if name not in os.environ})


@contextlib.contextmanager
def safe_path() -> Iterator[None]:
    """Let a Python that is started in the block import no module of the current folder in place of another.

    The name of a file there, such as ``random.py``, may be that of a module of the standard library.
    """
    before = os.environ.get(_SAFE_PATH)
    os.environ[_SAFE_PATH] = "1"
    try:
        yield
    finally:
        del os.environ[_SAFE_PATH]
        if before is not None:
            os.environ[_SAFE_PATH] = before


def ahead_of_library() -> set[str]:
    """Return the folders from which this process imports ahead of the standard library."""
    standard = sysconfig.get_path("stdlib")
    return {str(Path(folder).absolute()) for folder in itertools.takewhile(lambda f: f != standard, sys.path)}


def of_this_package() -> dict[str, str]:
    """Return PYTHONPATH, if needed, for a process that is to import this package from where this process does."""
    if (root := str(Path(__file__).parents[1])) not in ahead_of_library():
        return {}
    return {"PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))}


def for_person() -> None:
    """Set HOME, the user's name and folders for caches where there are none, as in a container with an unknown user.

    The backend that a notebook sets for its own figures is removed: here matplotlib may not know it, and end.
    """
    of_notebook = os.environ.get(_BACKEND, "").startswith("module://")
    _apply(_of_person(), {_BACKEND} if of_notebook else frozenset())


@contextlib.contextmanager
def mild_warnings() -> Iterator[None]:
    """Let no warning become an error in the block, as ``PYTHONWARNINGS=error`` and ``python -W error`` have it.

    Both are meant for the user's code, and libraries warn each other. The filters of processes that train stay.
    """
    if not any(action == "error" and module is None for action, _, _, module, _ in warnings.filters):
        yield
        return
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        for category in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
            warnings.simplefilter("ignore", category)  # as Python itself does
        yield


def _of_person() -> dict[str, str]:
    """Return the variables of PERSON that are missing, with their values."""
    values = {}
    if not os.path.isabs(os.path.expanduser("~")):  # noqa: PTH111, PTH117  # Path's raises
        values["HOME"] = "/"  # as Docker does
    try:
        getpass.getuser()
    except (KeyError, OSError):  # the latter since Python 3.13
        values["USER"] = str(os.getuid())
    folder = values.get("HOME") or os.path.expanduser("~")  # noqa: PTH111
    if not os.access(folder, os.W_OK | os.X_OK) and (caches := _private_folder()) is not None:
        values |= {name: str(caches / sub) for name, sub in _CACHES.items() if name not in os.environ}
    return values


def _private_folder() -> Path | None:
    """Return a folder for temporary files that only this user can write; None if it cannot be had."""
    folder = Path(tempfile.gettempdir()) / f"sweeps-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        # Somebody else could have made it, with code in it: a cache of kernels is code.
        return folder if folder.lstat().st_uid == os.getuid() and not folder.is_symlink() else None
    except OSError:
        return None


def _is_of_ray(name: str) -> bool:
    """Return whether a variable is a setting of Ray that no user means for a launch.

    Ray's own names for the parts of its system are in lower case, such as RAY_memory_usage_threshold: those are meant.
    """
    return name.startswith("RAY_") and name.isupper() and name not in _KEPT


def system_of_ray() -> list[str]:
    """Return the names of the settings of Ray's system that the environment has."""
    return sorted(name for name in os.environ if name.startswith("RAY_") and not name.isupper())


def _check_system_of_ray() -> None:
    """Check that Ray can read the settings of its system: one that is not a number can end its process without a word.

    Raises:
        InputError: it cannot.
    """
    names = system_of_ray()
    if not names or "ray" in sys.modules:
        return
    with safe_path():
        done = subprocess.run([sys.executable, "-c", "import ray"], stdin=subprocess.DEVNULL, capture_output=True)
    if done.returncode < 0:  # a signal ended it
        shown = ", ".join(f"{name} = {os.environ[name]!r}" for name in names)
        raise InputError(f"Ray cannot read its settings in the environment: {shown}; expected numbers, or unset them")


def _apply(values: Mapping[str, str], ignored: Set[str]) -> None:
    """Set variables and remove others; log which settings of the user no longer hold."""
    overridden = ignored | {name for name, value in values.items() if os.environ.get(name, value) != value}
    for name in ignored:
        del os.environ[name]
    os.environ.update(values)
    if overridden:
        _log.debug("ignored in the environment: %s", ", ".join(sorted(overridden)))
