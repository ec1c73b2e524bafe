"""Errors that are the user's to mend: shown without a traceback, each with its exit code."""

from __future__ import annotations


class SweepError(Exception):
    """Something failed; the message says what, where, and what to do. Exit code 1."""

    exit_code = 1


class InputError(SweepError):
    """What the user gave is wrong: a study file, an argument, a name. Exit code 2."""

    exit_code = 2
