"""Signals while a study runs."""

import signal
import subprocess
import sys
import threading

import pytest

from sweeps.execution.interrupts import Interrupts, kept_from_children

BOTH = [signal.SIGINT, signal.SIGTERM]
WARNINGS = [signal.SIGHUP, signal.SIGUSR1]
WAIT = """
import sys
from sweeps.execution.interrupts import Interrupts
interrupts = Interrupts("study")
with interrupts.listening():
    print("listening", flush=True)
    while not interrupts.stop_requested:
        pass
    print("asked", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def without_nohup():
    """Signals as a command has them that is not started by nohup, whatever these tests are started by."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in WARNINGS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", BOTH + WARNINGS)
def test_the_first_signal_requests_a_stop_and_raises_nothing(number):
    interrupts = Interrupts("study")
    with interrupts.listening():
        assert not interrupts.stop_requested
        signal.raise_signal(number)
        assert interrupts.stop_requested


@pytest.mark.parametrize("number", BOTH)
def test_a_second_signal_ends_the_process_and_says_how_to_go_on(number):
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen([sys.executable, "-c", WAIT], text=True, **pipes) as process:
        assert process.stdout.readline() == "listening\n"
        process.send_signal(number)
        assert process.stdout.readline() == "asked\n"
        process.send_signal(number)
        assert process.wait(60) == 128 + number
        assert process.stderr.read() == "stopped at once; continue with:  sweeps resume study\n"


@pytest.fixture
def ended(monkeypatch) -> list[int]:
    """The exit codes that the process would have ended with."""
    codes: list[int] = []
    monkeypatch.setattr("sweeps.execution.interrupts.os._exit", codes.append)
    return codes


@pytest.mark.parametrize(
    ("numbers", "codes"),
    [
        ([signal.SIGHUP, signal.SIGHUP], []),
        ([signal.SIGUSR1, signal.SIGUSR1], []),
        ([signal.SIGTERM, signal.SIGHUP], []),
        ([signal.SIGHUP, signal.SIGTERM], []),
        ([signal.SIGHUP, signal.SIGTERM, signal.SIGTERM], [143]),
        ([signal.SIGUSR1, signal.SIGINT], [130]),
        ([signal.SIGTERM, signal.SIGINT], [130]),
        ([signal.SIGINT, signal.SIGTERM], [143]),
    ],
)
def test_which_signals_end_the_process_at_once(ended, numbers, codes):
    with Interrupts("study").listening():
        for number in numbers:
            signal.raise_signal(number)
    assert ended == codes


@pytest.mark.parametrize("number", WARNINGS)
def test_a_warning_that_is_ignored_stays_ignored(number):
    before = signal.signal(number, signal.SIG_IGN)
    try:
        interrupts = Interrupts("study")
        with interrupts.listening():
            signal.raise_signal(number)
        assert not interrupts.stop_requested
    finally:
        signal.signal(number, before)


@pytest.mark.parametrize("number", WARNINGS)
def test_processes_that_are_started_do_not_get_the_warnings(number):
    with kept_from_children():
        child = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
    child.send_signal(number)
    child.communicate()
    assert child.returncode == 0
    assert number not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_earlier_handlers_are_restored_after_the_block():
    before = [signal.getsignal(number) for number in BOTH + WARNINGS]
    with Interrupts("study").listening():
        pass
    assert [signal.getsignal(number) for number in BOTH + WARNINGS] == before


def test_outside_of_the_main_thread_signals_are_left_alone():
    before = signal.getsignal(signal.SIGINT)
    seen = []

    def listen() -> None:
        with Interrupts("study").listening():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=listen)
    thread.start()
    thread.join()
    assert seen == [before]
