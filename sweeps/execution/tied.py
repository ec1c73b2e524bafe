"""Run as a program: executes a command as a process that is killed when the process that started it ends, on Linux.

The arguments are the name of a fork server's socket, or ``-``, and the arguments of a Python. A worker of Ray's is
executed at once, without the program that Ray has ahead of it: that one imports Ray, for a second, to set up an
environment, and here there is none to set up. Where there is a fork server, the worker is its fork, and this process
only waits until it ends.
"""

import contextlib
import ctypes
import json
import os
import resource
import signal
import socket
import struct
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


def connect(connection: socket.socket, name: str) -> None:
    """Connect to a fork server.

    Its socket is in Linux's abstract namespace, which has no files: nothing stays when the server is killed, and no
    folder for temporary files is needed.

    Raises:
        OSError: there is no such server, or it is another user's.
    """
    connection.connect(f"\0{name}")
    check_user(connection)


def check_user(connection: socket.socket) -> None:
    """Check that the process at the other end belongs to this user, since any user may connect to a name.

    Raises:
        PermissionError: it does not.
    """
    credentials = struct.Struct("3i")  # struct ucred of unix(7): process, user, group
    _, user, _ = credentials.unpack(
        connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, credentials.size),
    )
    if user != os.geteuid():
        raise PermissionError("the socket is another user's")


def fork(name: str, arguments: list[str]) -> bool:
    """Have a fork server run a program with these arguments, and wait until that ends; return False if it cannot."""
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            wanted = {
                "arguments": arguments,
                "blocked": [int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, [])],
                "environment": dict(os.environ),
                "folder": os.getcwd(),  # noqa: PTH109
                "group": os.getpgrp(),
                "nice": os.getpriority(os.PRIO_PROCESS, 0),
                "open_files": resource.getrlimit(resource.RLIMIT_NOFILE),
            }
            request = json.dumps(wanted).encode() + b"\n"
            connect(connection, name)
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
    name, arguments = sys.argv[1], without_setup(sys.argv[2:])
    is_worker = name != NO_SERVER and os.path.basename(arguments[0]) == _WORKER  # noqa: PTH119
    if not is_worker or not fork(name, arguments):
        os.execv(sys.executable, [sys.executable, *arguments])
