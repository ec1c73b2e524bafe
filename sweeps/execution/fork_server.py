"""A process that imports what training needs once; each worker of Ray's is a fork of it, and begins with that.

Otherwise each worker imports torch and Ray Tune by itself, for four seconds of computing, after the driver has done the
same. The fork server does so while the driver reads the study, and each worker is asked for by `tied.py`. A worker
that cannot be forked is started as Ray does. The server ends with the process that started it, and the workers with
the server.

Run as a program with the file descriptor of a socket and the id of the process that started it. A request is a line of
JSON: ``{"import": [module, ...]}``; or, with three file descriptors for standard input, output and error,
``{"arguments", "blocked", "environment", "folder", "group", "nice", "open_files"}``, which the worker answers with a
byte. That connection is closed when the worker has ended.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import importlib
import json
import os
import random
import resource
import runpy
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from resnet_core.code import Source, imported_by
from sweeps.execution import tied

TRAINER_PROCESS = "sweeps.execution.trainer_process"
"""The module that a process which trains imports ahead of its first trial."""
_RAY = "sweeps.execution.ray_internals"
FIRST_JOB = "01000000"
"""Ray's id of the first job of a cluster."""
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_LONGEST = 1 << 20  # bytes of a request that are read at once
_OWN_THREADS = {"jemalloc_bg_thd"}  # of libraries that look after them in a fork
_FIRST_TO_BE_KILLED = "1000"  # as Ray has it for its workers where memory ends
_READ_AT_IMPORT = ("ATEN_", "GOMP_", "KMP_", "LD_", "MKL_", "OMP_", "OPENBLAS_", "PYTHON", "PYTORCH_", "TORCH")
"""Prefixes of environment variables that libraries read when they are imported."""
_GPUS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")  # of NVIDIA, of AMD, and under Windows
_SLOW = ("scipy", "sklearn", "torchvision")
"""Packages that take long to import, and start no threads when they are."""
_OF_OPTIMIZERS = "torch._dynamo"  # the first use of an optimizer of torch's imports it


class ForkServer:
    """The fork server of this process.

    Attributes:
        socket: the name of its socket, which no other process has.
    """

    def __init__(self) -> None:
        from sweeps import environment  # the program itself does without
        from sweeps.execution.interrupts import kept_from_children

        self.socket = f"sweeps-{secrets.token_hex(16)}"
        with environment.restored():
            environment.for_ray(own=True)
            variables = {"OMP_NUM_THREADS": "1", **os.environ, **environment.of_this_package(), **_of_ray()}
        with kept_from_children(), socket.socket(socket.AF_UNIX) as listener:
            listener.bind(f"\0{self.socket}")
            listener.listen(64)
            self._process = subprocess.Popen(
                [sys.executable, "-P", __file__, str(listener.fileno()), str(os.getpid())],
                pass_fds=[listener.fileno()],
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                process_group=0,
            )

    def import_ahead(self, modules: Sequence[str]) -> None:
        """Have it import further modules, for all workers that it forks from then on."""
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
            tied.connect(connection, self.socket)
            connection.sendall(json.dumps({"import": modules}).encode() + b"\n")

    def stop(self) -> None:
        """End it, and the workers that it has forked."""
        self._process.kill()
        self._process.wait()


_current: ForkServer | None = None


def start(address: str | None) -> None:
    """Start a fork server for the launch that begins, unless there is one.

    There is none where Ray runs already, where there is a GPU, which a fork cannot use if a library has looked for one
    before it, nor where no process can be tied to another.

    Args:
        address: the address of the cluster, as the user gave it; None or ``local`` where Ray is started.
    """
    global _current
    own = (address or os.environ.get("RAY_ADDRESS", "").strip() or "local") == "local"
    if _current is None and own and sys.platform == "linux" and not any(map(os.path.exists, _GPUS)):
        with contextlib.suppress(OSError):  # such as a limit of processes, which the launch reports itself
            _current = ForkServer()
            atexit.register(stop)


def current() -> ForkServer | None:
    """Return the fork server of the launch, if there is one."""
    return _current


def import_for(sources: Iterable[Source]) -> None:
    """Have the fork server, if there is one, import ahead what a study's own code would import for seconds."""
    if _current is not None:
        modules = {name for source in sources for name in imported_by(source)}
        slow = {name for name in modules if name.partition(".")[0] in _SLOW}
        uses_torch = any(name.partition(".")[0] == "torch" for name in modules)
        _current.import_ahead(sorted(slow | ({_OF_OPTIMIZERS} if uses_torch else set())))


def stop() -> None:
    """End the fork server of the launch, and its workers, if there is one."""
    global _current
    if _current is not None:
        _current.stop()
        _current = None
        atexit.unregister(stop)


@contextlib.contextmanager
def running(address: str | None) -> Iterator[None]:
    """Have a fork server for a launch in the block, as `start` says; one that the block starts ends with it."""
    before = _current
    start(address)
    try:
        yield
    finally:
        if before is None:
            stop()


def _of_ray() -> dict[str, str]:
    """Return variables that Ray reads only when it is imported, and that the raylet otherwise gives each worker.

    A worker ends with the process that has this id. The job is that of the first driver of a Ray.
    """
    return {"RAY_RAYLET_PID": str(os.getpid()), "RAY_JOB_ID": FIRST_JOB}


def serve(listener: int, parent: int) -> list[str]:
    """Fork workers until this process ends; return, in each of them, the arguments of its program.

    Args:
        listener: file descriptor of the socket.
        parent: id of the process with which this one ends.
    """
    _end_with(parent)
    with socket.socket(fileno=listener) as server:
        for name in (TRAINER_PROCESS, _RAY):
            importlib.import_module(name)
        gc.freeze()  # what the workers share stays shared
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # no worker is waited for
        own, forks = os.getpid(), 0
        while True:
            connection, _ = server.accept()
            descriptors: list[int] = []
            with connection, contextlib.suppress(Exception):
                tied.check_user(connection)
                asked = _request(connection, descriptors)
                for name in asked.get("import", ()):
                    with contextlib.suppress(Exception):
                        importlib.import_module(name)
                if len(descriptors) == 3 and _can_fork(asked["environment"]):
                    forks += 1
                    if os.fork() == 0:
                        server.close()
                        _begin(asked, descriptors, own, connection, forks)
                        return list(asked["arguments"])
            for descriptor in descriptors:
                os.close(descriptor)


def _request(connection: socket.socket, descriptors: list[int]) -> dict[str, Any]:
    """Return a request; add the file descriptors that came with it to the list."""
    data, came, _, _ = socket.recv_fds(connection, _LONGEST, 3)
    descriptors += came
    while not data.endswith(b"\n") and (more := connection.recv(_LONGEST)):
        data += more
    return dict(json.loads(data))


def _can_fork(environment: Mapping[str, str]) -> bool:
    """Return whether a fork of this process is what a new process with an environment would be.

    It is not if another thread may hold a lock at the fork, or if a library would have read other settings.
    """
    threads = [task.joinpath("comm").read_text().strip() for task in Path("/proc/self/task").iterdir()]
    return len([name for name in threads if name not in _OWN_THREADS]) == 1 and all(
        os.environ.get(name) == value
        for name, value in environment.items()
        if name.startswith(_READ_AT_IMPORT) or name == "RAY_JOB_ID"
    )


def _begin(
    asked: Mapping[str, Any], descriptors: list[int], parent: int, connection: socket.socket, number: int
) -> None:
    """Make this process, the fork of this number, what a new one would have been, and say so; end it if that fails."""
    try:
        _end_with(parent)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, asked["blocked"])  # Ray blocks SIGINT
        for standard, descriptor in enumerate(descriptors):
            os.dup2(descriptor, standard)
            os.close(descriptor)
        os.environ.clear()
        os.environ.update(asked["environment"])
        os.chdir(asked["folder"])
        resource.setrlimit(resource.RLIMIT_NOFILE, tuple(asked["open_files"]))  # Ray has raised it
        with contextlib.suppress(OSError):
            os.setpgid(0, asked["group"])
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, asked["nice"])
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text(_FIRST_TO_BE_KILLED, encoding="ascii")
        sys.modules[_RAY].begin_as_fork(number)
        random.seed()
        sys.modules["numpy"].random.seed()
        sys.modules["torch"].default_generator.seed()
        connection.sendall(b"1")
        os.set_inheritable(connection.detach(), False)  # it stays open as long as this process lives
    except BaseException:
        os._exit(1)


def _end_with(parent: int) -> None:
    """Have this process killed when the one that started it ends."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it has ended already
        os._exit(1)


if __name__ == "__main__":
    sys.argv = serve(int(sys.argv[1]), int(sys.argv[2]))
    runpy.run_path(sys.argv[0], run_name="__main__")
