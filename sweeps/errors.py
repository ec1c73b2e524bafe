"""Errors that are the user's to mend: shown without a traceback, each with its exit code."""

from __future__ import annotations

from resnet_core.uris import without_password


class SweepError(Exception):
    """Something failed; the message says what, where, and what to do. Exit code 1."""

    exit_code = 1


class InputError(SweepError):
    """What the user gave is wrong: a study file, an argument, a name. Exit code 2."""

    exit_code = 2


class UnknownStudyError(InputError):
    """There is no study of this name."""


def reason_of(error: BaseException) -> str:
    """Return in one line why something failed, without passwords of URIs."""
    cause: BaseException | None = error
    while cause is not None:
        # SQLAlchemy puts what a database said, in two lines at the most, behind advice; MLflow and Optuna wrap that.
        if (said := getattr(cause, "orig", None)) is not None:
            return _in_a_line(said, 2)
        cause = cause.__cause__
    return _in_a_line(error, 1)


def _in_a_line(error: BaseException, lines: int) -> str:
    said = str(error).strip() or type(error).__name__
    return without_password(" ".join(line.strip() for line in said.splitlines()[:lines]))
