"""Run as a program: executes a command as a process that is killed when the process that started it ends, on Linux.

The arguments are the path of a fork server's socket, or ``-``, and the arguments of a Python. A worker of Ray's is
executed at once, without the program that Ray has ahead of it: that one imports Ray, for a second, to set up an
environment, and here there is none to set up. Where there is a fork server, the worker is its fork, and this process
only waits until it ends.
"""

import contextlib
import ctypes
import json
import os
import signal
import socket
import sys

_PR_SET_PDEATHSIG = 1  # linux/prctl.h; holds beyond execv
_WORKER = "default_worker.py"
_AHEAD, _CONTEXT, _LANGUAGE = "setup_worker.py", "--serialized-runtime-env-context=", "--language="
NO_SERVER = "-"


def without_setup(arguments: list[str]) -> list[str]:
    """Return the arguments without those of Ray's program that sets up an environment, if that is empty."""
    if os.path.basename(arguments[0]) != _AHEAD:  # noqa: PTH119  # importing pathlib takes longer
        return arguments
    contexts = [json.loads(word.removeprefix(_CONTEXT)) for word in arguments if word.startswith(_CONTEXT)]
    asked = {name: value for context in contexts for name, value in context.items() if value}
    if asked not in ({}, {"py_executable": sys.executable}):
        return arguments
    return [word for word in arguments[1:] if not word.startswith((_CONTEXT, _LANGUAGE))]


def fork(path: str, arguments: list[str]) -> bool:
    """Have a fork server run a program with these arguments, and wait until that ends; return False if it cannot."""
    wanted = {
        "arguments": arguments,
        "environment": dict(os.environ),
        "folder": os.getcwd(),  # noqa: PTH109
        "group": os.getpgrp(),
        "nice": os.getpriority(os.PRIO_PROCESS, 0),
    }
    request = json.dumps(wanted).encode() + b"\n"
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(path)
            sent = socket.send_fds(connection, [request], [0, 1, 2])
            connection.sendall(request[sent:])
            if connection.recv(1) != b"1":
                return False
        except OSError:
            return False
        with contextlib.suppress(OSError):
            connection.recv(1)  # returns when the program ends
    return True


if __name__ == "__main__":
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    path, arguments = sys.argv[1], without_setup(sys.argv[2:])
    is_worker = path != NO_SERVER and os.path.basename(arguments[0]) == _WORKER  # noqa: PTH119
    if not is_worker or not fork(path, arguments):
        os.execv(sys.executable, [sys.executable, *arguments])
