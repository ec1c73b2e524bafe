"""Standard streams that are closed, full, without a reader, or that know few characters."""

import errno
import io
import json
import os
import subprocess
import sys

import pytest

from sweeps.cli.app import print_json
from sweeps.cli.streams import _Output

TELL = """if True:
    import os, sys
    from sweeps.cli import streams
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
