"""Run as a program: executes a command as a process that is killed when the process that started it ends, on Linux.

The command is the arguments of a Python. A worker of Ray's is executed at once, without the program that Ray has ahead
of it: that one imports Ray, for a second, to set up an environment, and here there is none to set up.
"""

import ctypes
import json
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # linux/prctl.h; holds beyond execv
_AHEAD, _CONTEXT, _LANGUAGE = "setup_worker.py", "--serialized-runtime-env-context=", "--language="


def without_setup(arguments: list[str]) -> list[str]:
    """Return the arguments without those of Ray's program that sets up an environment, if that is empty."""
    if os.path.basename(arguments[0]) != _AHEAD:  # noqa: PTH119  # importing pathlib takes longer
        return arguments
    contexts = [json.loads(word.removeprefix(_CONTEXT)) for word in arguments if word.startswith(_CONTEXT)]
    asked = {name: value for context in contexts for name, value in context.items() if value}
    if asked not in ({}, {"py_executable": sys.executable}):
        return arguments
    return [word for word in arguments[1:] if not word.startswith((_CONTEXT, _LANGUAGE))]


if __name__ == "__main__":
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    os.execv(sys.executable, [sys.executable, *without_setup(sys.argv[1:])])
