"""Commands on a terminal."""

import contextlib
import fcntl
import os
import pty
import re
import signal
import struct
import termios
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


_FEW_IMAGES = ("--set", "train.train_limit=40", "--set", "train.val_limit=40")
_PLAIN = {"SWEEPS_VERBOSE": "0"}  # the other tests wait for epochs


@pytest.fixture(scope="module")
def quickstart(sweeps, cluster, tmp_path_factory):
    """The home of the quickstart, on few images, and how its launch without a terminal ended."""
    home = tmp_path_factory.mktemp("quickstart")
    return home, sweeps("launch", "quickstart", *_FEW_IMAGES, "--home", home, on=cluster, env=_PLAIN)


def _screen(command: list[str], columns: int, rows: int) -> list[str]:
    """Run a command on a terminal of this size; return what stands there at its end, line by line."""
    process, terminal = pty.fork()
    if process == 0:
        fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        os.execve(command[0], command, environment(_PLAIN))
    said = b""
    with contextlib.suppress(OSError):  # at the end of the process
        while read := os.read(terminal, 1000):
            said += read
    _, status = os.waitpid(process, 0)
    os.close(terminal)
    assert status == 0, said.decode()
    erased = said.rpartition(b"\x1b[2K")[2]  # the live table erases itself, line by line
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", erased.decode()).strip("\r\n").splitlines()


@pytest.mark.slow
def test_without_a_terminal_a_launch_prints_a_line_a_trial_and_one_screen(quickstart):
    _, done = quickstart
    ends = [line for line in done.stderr.splitlines() if line.startswith("trial ")]
    assert len(ends) == 14
    assert all(re.match(r"trial \d+: (reached|exhausted|pruned)\b.*; lr ", line) for line in ends)
    assert len(done.stdout.splitlines()) <= 24
    assert len((done.stdout + done.stderr).splitlines()) <= 60


@pytest.mark.slow
def test_the_quickstart_ends_on_one_screen(sweeps, quickstart, cluster):
    home, _ = quickstart
    more = ["resume", "quickstart", "--trials", "+2", "--home", str(home), "--address", cluster.address]
    lines = _screen([str(sweeps.command), *more], 80, 24)
    assert lines[0].split()[:3] == ["trial", "epochs_to_target", "val_acc_best"]
    assert [line.split(":")[0] for line in lines if re.match(r"\S.*: ", line)] == ["Result", "How sure", "Cost", "Next"]
    assert len(lines) < 24
    where = f" --home {home}", f" --address {cluster.address}"
    assert max(len(line.replace(where[0], "").replace(where[1], "")) for line in lines) <= 80


@pytest.mark.parametrize(
    ("command", "said_first"),
    [("plan", "timing an epoch on this machine …"), ("simulate --trials 1 --repeats 1", "simulating the study …")],
)
def test_a_command_says_what_takes_its_time(sweeps, studies, command, said_first):
    process, terminal = pty.fork()
    if process == 0:
        command = [str(sweeps.command), *command.split(), str(studies.grid)]
        os.execve(command[0], command, environment(None))
    said = b""
    with contextlib.suppress(OSError):  # at the end of the process
        while read := os.read(terminal, 1000):
            said += read
    _, status = os.waitpid(process, 0)
    os.close(terminal)
    assert status == 0
    assert said.decode().startswith(said_first)


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
