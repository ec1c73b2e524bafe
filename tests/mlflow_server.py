"""A real MLflow server for tests and benchmarks, on a free port of 127.0.0.1."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil

from tests.ports import free_port

_SECONDS = 300.0


class Server:
    """``mlflow server`` on a store; killed and started again, it has the same address.

    Args:
        store: the URI of its database.
        workers: how many processes answer.
    """

    def __init__(self, store: str, workers: int = 1) -> None:
        port = free_port()
        self.uri = f"http://127.0.0.1:{port}"
        self._command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
        self._command += ["--backend-store-uri", store, "--workers", str(workers)]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        # A server's jobs would have processes of their own, which take longer to start than it does.
        env = os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  open as long as the server is there
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log, env=env
        )
        end = time.monotonic() + _SECONDS
        while True:
            with suppress(OSError), urllib.request.urlopen(f"{self.uri}/health", timeout=5) as answer:
                if answer.status == 200:
                    return
            if self._process.poll() is not None or time.monotonic() > end:
                self._log.seek(0)
                raise RuntimeError(self._log.read().decode())
            time.sleep(0.1)

    def kill(self) -> None:
        """End all its processes at once."""
        if self._process is None:
            return
        family = psutil.Process(self._process.pid).children(recursive=True)
        self._process.kill()
        self._process.wait(60)
        for member in family:
            with suppress(psutil.NoSuchProcess):
                member.kill()
        psutil.wait_procs(family, timeout=10)
        self._log.close()
        self._process = None


@contextmanager
def serving(store: str, workers: int = 1) -> Iterator[str]:
    """Run a server for as long as the block lasts; give its address."""
    server = Server(store, workers)
    try:
        server.start()
        yield server.uri
    finally:
        server.kill()
