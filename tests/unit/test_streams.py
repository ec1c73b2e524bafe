"""Standard streams that are closed, full, without a reader, or that know few characters."""

import errno
import fcntl
import io
import json
import os
import subprocess
import sys
import threading

import pytest

from sweeps.cli.app import print_json
from sweeps.execution.streams import _Output, complete

TELL = """if True:
    import os, sys
    from sweeps.execution import streams
    streams.prepare()
    database = os.open({path!r}, os.O_RDWR | os.O_CREAT)
    print("a result")
    print("progress", file=sys.stderr)
    assert sys.stdin.read() == ""
    print(database, file=open({path!r} + ".number", "w"))
"""


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_no_file_takes_the_place_of_a_closed_stream(closed, tmp_path):
    path = str(tmp_path / "database")
    command = ["sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, "-c", TELL.format(path=path)]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr
    assert int((tmp_path / "database.number").read_text()) > 2
    assert (tmp_path / "database").read_bytes() == b""
    assert done.stdout == ("" if ">&- " in f" {closed} ".replace("2>&-", "") else "a result\n")


def run(line: str) -> subprocess.CompletedProcess[str]:
    """Run a line of shell with the command of ours."""
    line = line.replace("sweeps", f"{sys.executable} -c 'from sweeps.cli import main; main()'")
    return subprocess.run(["bash", "-o", "pipefail", "-c", line], capture_output=True, text=True)


def test_results_that_find_no_room_are_an_error_of_one_line():
    done = run("sweeps schedule '[1, 0] lin[0, 4]' > /dev/full")
    assert (done.returncode, done.stderr) == (
        1,
        "sweeps: results could not be written to standard output: No space left on device\n",
    )


def test_a_reader_that_has_left_is_no_error():
    done = run("sweeps schedule '[1, 0] lin[0, 4]' | true")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("end", ["> /dev/full", "| true"])
def test_a_message_that_cannot_be_written_does_not_change_the_exit_code(end):
    assert run(f"sweeps launch /absent.toml 2>&1 {end}").returncode == 2


def written(text: str, encoding: str) -> bytes:
    """What a stream of a command writes."""
    file = io.BytesIO()
    stream = io.TextIOWrapper(file, encoding, "sweeps.plain")
    stream.write(text)
    stream.flush()
    return file.getvalue()


def test_characters_that_an_encoding_lacks_become_similar_ones():
    assert written("ended · 2×3 ± 1 – λ … → 4", "ascii") == b"ended - 2x3 +/- 1 - lambda ... -> 4"
    assert written("2×3 – ü", "latin-1") == b"2\xd73 - \xfc"
    assert written("▁█ größer 😀", "ascii") == rb"_# gr\xf6\xdfer \U0001f600"


def test_a_path_that_is_no_utf_8_is_shown_with_its_bytes():
    assert written(os.fsdecode(b"runs/\xff"), "utf-8") == b"runs/\\xff"


def test_json_stays_the_same_json_in_any_encoding(monkeypatch):
    value = {"name": "größer – 😀", "path": os.fsdecode(b"\xff")}
    for encoding in ("ascii", "latin-1", "utf-8"):
        file = io.BytesIO()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(file, encoding, "sweeps.plain"))
        print_json(value)
        assert json.loads(file.getvalue().decode(encoding)) == value


def test_the_first_error_of_a_stream_is_kept():
    reader, writer = os.pipe()
    os.close(reader)
    output = _Output(writer)
    assert output.write(b"lost") == 4
    assert output.lost is not None
    assert output.lost.errno == errno.EPIPE
    os.close(writer)


def test_a_reader_of_a_pipe_that_does_not_block_gets_all_of_it():
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETFL, os.O_NONBLOCK)
    with os.fdopen(reader, "rb") as read, os.fdopen(writer, "wb"):
        got: list[bytes] = []
        thread = threading.Thread(target=lambda: got.append(read.read(1_000_000)))
        threading.Timer(0.2, thread.start).start()  # by then the pipe is full
        output = io.BufferedWriter(_Output(writer))
        output.write(b"x" * 1_000_000)
        output.flush()
        thread.join()
    assert got == [b"x" * 1_000_000]


class Copied:
    """A stream as scripts write them, to keep in a file what they print."""

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> None:
        self.text += text


def test_a_stream_that_can_only_write_is_completed_for_libraries(monkeypatch):
    copied = Copied()
    monkeypatch.setattr(sys, "stdout", copied)
    with complete():
        print("said", end="", flush=True)
        assert (sys.stdout.encoding, sys.stdout.isatty()) == ("utf-8", False)
    assert sys.stdout is copied
    assert copied.text == "said"


def test_a_complete_stream_stays():
    before = sys.stdout, sys.stderr
    with complete():
        assert (sys.stdout, sys.stderr) == before


def test_ray_takes_streams_that_are_closed_or_can_only_write():
    code = """if True:
        import io, sys
        from tests.unit.test_streams import Copied
        from sweeps.execution import streams
        sys.stdout = Copied()
        with streams.complete():
            from ray import tune
            import faulthandler
            try:
                faulthandler.enable()
            except io.UnsupportedOperation:  # what Ray expects where there is no file
                print("lost", file=sys.stderr)
                print("none", end="")
        assert sys.stderr is None
        assert sys.stdout.text == "none"
        sys.stdout = sys.__stdout__  # which Python flushes at its end
    """
    assert subprocess.run(["sh", "-c", 'exec "$@" 2>&-', "sh", sys.executable, "-c", code]).returncode == 0
