"""Commands on a terminal."""

import contextlib
import os
import pty
import re
import signal
import time

import pytest

from tests.e2e.conftest import environment


@pytest.mark.slow
def test_a_closed_terminal_lets_running_trials_finish_their_epoch(sweeps, studies, home, tmp_path):
    said = tmp_path / "stderr"
    process, terminal = pty.fork()
    if process == 0:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whatever these tests are started by
        opened = os.open(said, os.O_WRONLY | os.O_CREAT)
        os.dup2(opened, 2)
        command = [str(sweeps.command), "launch", str(studies.listed), "--home", str(home)]
        os.execve(command[0], command, environment(None))
    while ": epoch 1/" not in (said.read_text() if said.exists() else ""):
        assert os.waitpid(process, os.WNOHANG) == (0, 0), said.read_text()
        time.sleep(0.1)
    os.close(terminal)
    _, status = os.waitpid(process, 0)
    lines = said.read_text().splitlines()
    assert os.waitstatus_to_exitcode(status) == 130
    stopping = next(i for i, line in enumerate(lines) if line.startswith("stopping: "))
    after = r"trial \S+: (epoch|reached|exhausted)|\S+ · ended: "
    assert [line for line in lines[stopping + 1 :] if not re.match(after, line)] == []
    assert not any("started again" in line or "given up" in line for line in lines)
    assert sweeps.json("status", "listed", "--home", home)["state"] == "interrupted"


def test_a_plan_says_what_takes_its_time(sweeps, studies):
    process, terminal = pty.fork()
    if process == 0:
        command = [str(sweeps.command), "plan", str(studies.listed)]
        os.execve(command[0], command, environment(None))
    said = b""
    with contextlib.suppress(OSError):  # at the end of the process
        while read := os.read(terminal, 1000):
            said += read
    _, status = os.waitpid(process, 0)
    os.close(terminal)
    assert status == 0
    assert said.decode().startswith("timing an epoch on this machine …")


def test_the_end_of_input_at_the_question_starts_nothing(sweeps, studies, home):
    process, terminal = pty.fork()
    if process == 0:
        command = [str(sweeps.command), "launch", str(studies.listed), "--home", str(home)]
        os.execve(command[0], command, environment(None))
    said = b""
    while b"Y/n" not in said:
        said += os.read(terminal, 1000)
    os.write(terminal, b"\x04")  # Ctrl-D; the terminal keeps it until it is read
    with contextlib.suppress(OSError):  # at the end of the process
        while os.read(terminal, 1000):  # a terminal is set only when all is read
            pass
    _, status = os.waitpid(process, 0)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 0
    assert not home.exists()
