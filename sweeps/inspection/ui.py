"""MLflow's UI on a home folder's studies, as a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import suppress
from types import TracebackType
from typing import Self

from sweeps import environment
from sweeps.errors import SweepError, cause_of, schema_reason
from sweeps.home import Home
from sweeps.inspection.local_server import HOST, bound_socket, end_as_by_ctrl_c
from sweeps.tracking.runs import charts_address

_HOSTS = "MLFLOW_SERVER_ALLOWED_HOSTS"
_WHILE_WE_LIVE = """if True:
    import ctypes, os, runpy, signal, sys
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG: sent when the process that started this one ends
    if os.getppid() == int(sys.argv.pop(1)):
        runpy.run_module("mlflow", run_name="__main__")
"""
"""Runs MLflow until this process ends, on Linux also where it ends by kill -9."""
_READY_SECONDS = 120.0
_END_SECONDS = 10.0


class UiServer:
    """MLflow's server on this machine; it ends with the block in which it is used.

    Args:
        home: the home folder whose studies it shows.
        port: its port on 127.0.0.1.

    Attributes:
        address: where it answers.

    Raises:
        InputError: the port cannot be had.
    """

    def __init__(self, home: Home, port: int) -> None:
        self.address = f"http://{HOST}:{port}"
        self._home, self._port = home, port
        bound_socket(port).close()

    def __enter__(self) -> Self:
        command = [sys.executable, "-c", _WHILE_WE_LIVE, str(os.getpid())]
        command += ["server", "--host", HOST, "--port", str(self._port)]
        command += ["--default-artifact-root", self._home.artifacts.as_uri(), "--workers", "1"]
        environment.for_mlflow(server=True, quiet=False)
        # An argument would be visible to all users of the machine.
        variables = {**os.environ, "MLFLOW_BACKEND_STORE_URI": self._home.mlflow_uri}
        if hosts := variables.get(_HOSTS):  # where it has no list, MLflow knows the names of this machine
            variables[_HOSTS] = f"{hosts},{HOST}:{self._port}"
        self._log = tempfile.TemporaryFile()
        # A group of its own: Ctrl-C reaches this process alone, which then ends the whole group.
        self._process = subprocess.Popen(
            command, env=variables, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log, process_group=0
        )
        end_as_by_ctrl_c()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_SECONDS)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._log.close()

    def wait_until_ready(self) -> None:
        """Wait until it answers.

        Raises:
            SweepError: it ended, or did not answer within two minutes; the message has its reason.
        """
        open_url = urllib.request.build_opener(urllib.request.ProxyHandler({})).open  # no proxy to this machine
        end = time.monotonic() + _READY_SECONDS
        while time.monotonic() < end:
            if self._process.poll() is not None:
                raise SweepError(f"MLflow's server did not start: {self._reason()}")
            with suppress(OSError), open_url(f"{self.address}/health", timeout=5) as answer:
                if answer.status == 200:
                    return
            time.sleep(0.1)
        raise SweepError(f"MLflow's server did not answer within {_READY_SECONDS:g} s: {self._reason()}")

    def charts(self, study: str) -> str:
        """Return the address of the curves of a study's trials, side by side."""
        return charts_address(self.address, study)

    def wait(self) -> None:
        """Wait until it ends; Ctrl-C ends it.

        Raises:
            SweepError: it ended by itself.
        """
        with suppress(KeyboardInterrupt):
            self._process.wait()
            raise SweepError(f"MLflow's server ended: {self._reason()}")

    def _reason(self) -> str:
        self._log.seek(0)
        text = self._log.read().decode(errors="replace").strip()
        if (reason := schema_reason(text, self._home.mlflow_uri)) is not None:
            return reason
        lines = text.splitlines()
        said = [line for line in lines if "rror" in line and "[SQL" not in line]
        return cause_of("\n".join(said or lines))
