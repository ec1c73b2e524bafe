"""Ctrl-C and SIGTERM while a study runs."""

import signal
import subprocess
import sys
import threading

import pytest

from sweeps.execution.interrupts import Interrupts

BOTH = [signal.SIGINT, signal.SIGTERM]
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


@pytest.mark.parametrize("number", BOTH)
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
        assert process.wait(10) == 128 + number
        assert process.stderr.read() == "stopped at once; continue with:  sweeps resume study\n"


def test_earlier_handlers_are_restored_after_the_block():
    before = [signal.getsignal(number) for number in BOTH]
    with Interrupts("study").listening():
        pass
    assert [signal.getsignal(number) for number in BOTH] == before


def test_a_nested_block_takes_the_signals_back_from_another_handler():
    interrupts = Interrupts("study")
    with interrupts.listening():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        with interrupts.listening():
            signal.raise_signal(signal.SIGTERM)
    assert interrupts.stop_requested


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
