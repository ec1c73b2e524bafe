"""MLflow's server, as a process of `sweeps ui`, and signals."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest

from sweeps import environment
from sweeps.home import Home
from sweeps.inspection.ui import UiServer

SERVE = """
import sys, time
from pathlib import Path
from sweeps.home import Home
from sweeps.inspection.ui import UiServer
with UiServer(Home(Path(sys.argv[1])), int(sys.argv[2])) as server:
    print(server._process.pid, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    with environment.restored():
        yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it(tmp_path, port, number):
    signal.signal(number, signal.SIG_DFL)
    with pytest.raises(KeyboardInterrupt), UiServer(Home(tmp_path), port) as server:
        signal.raise_signal(number)
    assert server._process.returncode is not None


def test_under_nohup_it_outlives_its_terminal(tmp_path, port):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with UiServer(Home(tmp_path), port):
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGQUIT])
def test_it_ends_with_a_command_that_is_killed(tmp_path, port, number):
    command = [sys.executable, "-c", SERVE, str(tmp_path), str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        server = psutil.Process(int(process.stdout.readline()))
        os.kill(process.pid, number)
        server.wait(600)
