"""Errors with a message for the user, and functions that find the cause of errors of other packages.

A SweepError is shown without a traceback, and each class has its exit code. Messages of Ray, torch and databases fill
pages or hide the cause: `reason_of` and `cause_of` find the one line that matters.
"""

from __future__ import annotations

import re

from resnet_core.uris import without_password

_DISK_FULL = re.compile(r"No space left on device|Disk quota exceeded|database or disk is full", re.IGNORECASE)
_SQLITE = re.compile(r"sqlite3\.\w+(?:: |\) )(.+)")
# Texts in Ray's errors. The last one of NODE_GONE is used while Ray knows only that the connection is closed.
NODE_GONE = ("node has died", "node has crashed", "NodeDiedError", "actor is temporarily unavailable")
PROCESS_GONE = ("worker process has died", "ActorDiedError")
LOW_MEMORY, MEMORY_USED = "running low on memory", "Memory on the node"  # of Ray's memory monitor
_CLASS = re.compile(r"^[A-Za-z_][\w.]*(?:Error|Exception): *")


class SweepError(Exception):
    """A failure; the message says what failed, where, and what to do. Exit code 1."""

    exit_code = 1


class InputError(SweepError):
    """The input is wrong: a study file, an argument, a name. Exit code 2."""

    exit_code = 2


class UnknownStudyError(InputError):
    """There is no study of this name."""


def reason_of(error: BaseException) -> str:
    """Return the cause of an exception in one line, without the passwords of URIs."""
    cause: BaseException | None = error
    while cause is not None:
        # SQLAlchemy keeps the database's message, up to two lines, in `orig`; MLflow and Optuna wrap its errors.
        if (said := getattr(cause, "orig", None)) is not None:
            return _in_a_line(said, 2)
        cause = cause.__cause__
    return _of_a_server(str(error)) or _in_a_line(error, 1)


def _of_a_server(said: str) -> str:
    """Return why an MLflow server could not be used; empty if the text of an error is not about that."""
    if "ProxyError" in said or "Unable to connect to proxy" in said:
        return "the proxy of this environment does not let it through; name the server's host in NO_PROXY"
    if "CERTIFICATE_VERIFY_FAILED" in said:
        return "its certificate is not trusted; see MLFLOW_TRACKING_SERVER_CERT_PATH"
    if "Max retries exceeded" in said:
        return "no MLflow server answers there"
    if "error code 401" in said or "error code 403" in said:
        return "it refuses the user or the password; see MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
    if "error code 404" in said or "valid JSON" in said:
        return "what answers there is no MLflow server; give its address as http://HOST:PORT"
    return ""


def schema_reason(error: BaseException, uri: str) -> str | None:
    """Return what to do where a database has the tables of another version of Optuna or MLflow; None for other errors.

    Args:
        error: the error that Optuna or MLflow raised when it opened the database.
        uri: URI of the database.
    """
    said, shown = str(error), without_password(uri)
    if "optuna storage upgrade" in said:
        return f"its tables are of an older Optuna; back it up, then: optuna storage upgrade --storage '{shown}'"
    if "updating optuna" in said or "Can't locate revision" in said:
        return "its tables are of a newer version; upgrade with: pip install -U optuna mlflow"
    if "out-of-date database schema" in said:
        return (
            f"its tables are of another version of MLflow; back it up, then: mlflow db upgrade '{shown}'; if that does "
            "not know their version, it is a newer one: pip install -U mlflow"
        )
    return None


def _in_a_line(error: BaseException, lines: int) -> str:
    said = str(error).strip() or type(error).__name__
    return without_password(" ".join(line.strip() for line in said.splitlines()[:lines]))


def cause_of(error: str) -> str:
    """Return the cause of an error in one line.

    Args:
        error: the error's message, or its whole traceback.

    >>> cause_of("Traceback (most recent call last):\\n  ...\\nValueError: 7 is even")
    'ValueError: 7 is even'
    """
    lines = [line.strip() for line in error.strip().splitlines() if line.strip()]
    last = lines[-1] if lines else "unknown error"
    said = _CLASS.sub("", last)
    if last.startswith("sweeps.errors."):
        return said
    if is_disk_full(error):
        return "no space left on the disk"
    if "CUDA out of memory" in last or "CUDA error: out of memory" in last or "torch.OutOfMemoryError" in last:
        return f"out of memory on the GPU: {said[max(0, said.find('CUDA')) :]}"
    if "MemoryError" in last or "DefaultCPUAllocator" in last:
        return f"out of memory: {said[max(0, said.find('DefaultCPUAllocator')) :]}"
    if LOW_MEMORY in error:
        used = next((line for line in lines if line.startswith(MEMORY_USED)), "the node was running low")
        return f"out of memory: Ray ended the process ({used.split(';')[0].rstrip('. ')})"
    if is_node_gone(error):
        return "its machine, Ray's node on it, or the way there is gone"
    if any(words in error for words in PROCESS_GONE):
        return "its process was killed: out of memory on this machine, by hand, or by its own code"
    if found := _SQLITE.findall(error):
        return f"SQLite: {found[-1]}"
    return last


def is_node_gone(error: str) -> bool:
    """Return whether the text of an error says that Ray has lost the machine on which a trial ran."""
    return any(words in error for words in NODE_GONE)


def is_disk_full(error: str) -> bool:
    """Return whether the text of an error says that a file system has no space left."""
    return _DISK_FULL.search(error) is not None


def disk_full_message(root: object, name: str) -> str:
    """Return the message for a study that stops because the disk of its home folder ``root`` is full."""
    return f"no space left on the disk of {root}. Free some, then go on with `sweeps resume {name}`"
