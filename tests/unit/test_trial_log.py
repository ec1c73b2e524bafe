"""What a worker prints and logs is kept, bounded, beside the trial's errors."""

import io
import logging
import os
import sys
import time
import warnings
from contextlib import closing
from datetime import datetime
from pathlib import Path

import pytest

from sweeps import trial_log
from sweeps.trial_log import Failure, TrialLog, add_failure, failures, read_log


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "logs" / "00003.txt"


def test_what_is_printed_is_kept_with_its_time(path):
    with closing(TrialLog(path)):
        print("from the trial")
    assert read_log(path).endswith(" INFO from the trial\n")
    assert datetime.fromisoformat(read_log(path).split()[0]).utcoffset() is not None


def test_printed_text_still_reaches_the_terminal(path, capsys):
    log = TrialLog(path)
    print("out")
    print("err", file=sys.stderr)
    log.close()
    assert capsys.readouterr() == ("out\n", "err\n")


@pytest.mark.parametrize("error", [BrokenPipeError(), ValueError("closed")])
def test_a_stream_that_cannot_be_written_makes_no_trial_fail(path, monkeypatch, error):
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise error

    monkeypatch.setattr(sys, "stdout", Gone())
    with closing(TrialLog(path)):
        print("kept")
    assert read_log(path).endswith(" INFO kept\n")


def test_a_time_has_the_offset_of_summer(monkeypatch):
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0")
    time.tzset()
    try:
        record = logging.LogRecord("", logging.INFO, "", 1, "", (), None)
        record.created = 1_751_364_000.25
        assert trial_log._Short().formatTime(record) == "2025-07-01T12:00:00.250+02:00"
    finally:
        monkeypatch.undo()
        time.tzset()


def test_the_copied_stream_has_the_descriptor_of_the_original(path, capfd):
    def asked():
        return sys.stdout.fileno(), sys.stdout.isatty(), sys.stdout.writable()

    before = asked()
    with closing(TrialLog(path)):
        assert asked() == before


def test_a_line_that_is_printed_in_parts_is_one_entry(path):
    with closing(TrialLog(path)):
        print("a", end="")
        print("b", end="")
        print("c")
    assert read_log(path).endswith(" INFO abc\n")


def test_an_unfinished_line_is_kept(path):
    log = TrialLog(path)
    print("cut off", end="")
    log.close()
    assert read_log(path).endswith(" INFO cut off\n")


def test_warnings_of_the_trainer_are_kept_once(path):
    with closing(TrialLog(path)):
        logging.getLogger("resnet_core.checkpoint").warning("checkpoint %s cannot be read", "x.pt")
    assert read_log(path).endswith(" WARNING checkpoint x.pt cannot be read\n")
    assert read_log(path).count("x.pt") == 1


def test_what_python_warns_of_is_kept(path):
    with closing(TrialLog(path)), warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(True)
        warnings.warn("a made warning", UserWarning, stacklevel=1)
    assert "UserWarning: a made warning" in read_log(path)


def test_what_the_worker_says_itself_is_kept(path):
    with closing(TrialLog(path)) as log:
        log.write("trial 3 starts")
    assert read_log(path).endswith(" INFO trial 3 starts\n")


def test_nothing_is_kept_after_it_was_closed(path):
    streams = sys.stdout, sys.stderr
    log = TrialLog(path)
    log.close()
    log.close()
    print("after")
    logging.getLogger("resnet_core").warning("after")
    assert (sys.stdout, sys.stderr) == streams
    assert read_log(path) == ""


def test_the_next_trial_of_a_worker_has_a_log_of_its_own(path, tmp_path):
    first = TrialLog(path)
    print("one")
    first.close()
    second = TrialLog(tmp_path / "second.txt")
    print("two")
    second.close()
    assert "two" not in read_log(path)
    assert "one" not in read_log(tmp_path / "second.txt")


def test_a_trial_that_starts_again_appends_to_its_log(path):
    for text in ("first", "again"):
        log = TrialLog(path)
        log.write(text)
        log.close()
    assert [line.split()[-1] for line in read_log(path).splitlines()] == ["first", "again"]


def test_a_log_is_bounded_and_keeps_the_latest(path, monkeypatch):
    monkeypatch.setattr(trial_log, "MOST_BYTES", 1_000)
    log = TrialLog(path)
    for number in range(1_000):
        print(f"line {number}")
    log.close()
    kept = read_log(path)
    assert len(kept) <= 2_000
    assert kept.endswith("line 999\n")
    assert {file.name for file in path.parent.iterdir()} == {path.name, path.name + ".1"}


def test_a_very_long_line_is_cut(path):
    with closing(TrialLog(path)):
        print("x" * 1_000_000)
    assert len(read_log(path)) < 20_000


def test_a_folder_that_cannot_be_written_is_no_failure(tmp_path, capsys):
    (tmp_path / "logs").write_text("in the way")
    log = TrialLog(tmp_path / "logs" / "00003.txt")
    print("goes on")
    log.close()
    assert capsys.readouterr() == ("goes on\n", "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")  # noqa: PTH110
def test_a_full_disk_is_no_failure(tmp_path, capsys):
    path = tmp_path / "full.txt"
    path.symlink_to("/dev/full")
    log = TrialLog(path)
    print("goes on")
    log.close()
    assert capsys.readouterr() == ("goes on\n", "")


def test_without_a_log_there_is_nothing_to_read(path):
    assert read_log(path) == ""


# Errors


def test_errors_are_kept_in_order_with_their_time_and_last_line(path):
    add_failure(path, "Traceback\n  ...\nOSError: first\n")
    add_failure(path, "ValueError: second\n\n")
    found = failures(path)
    assert [failure.summary for failure in found] == ["OSError: first", "ValueError: second"]
    assert found[0].error == "Traceback\n  ...\nOSError: first\n"
    assert found[0].time <= found[1].time


@pytest.mark.parametrize("error", ["", "\n \n"])
def test_an_error_without_words_has_a_last_line(path, error):
    assert add_failure(path, error).summary == "unknown error"


def test_of_a_very_long_error_begin_and_end_are_kept(path):
    add_failure(path, "begin" + "x" * 1_000_000 + "\nOSError: the end")
    (found,) = failures(path)
    assert len(found.error) < 30_000
    assert found.error.startswith("begin")
    assert found.summary == "OSError: the end"


def test_a_line_that_was_cut_off_is_left_out(path):
    kept = add_failure(path, "OSError: whole")
    with path.open("a") as file:
        file.write('{"time": "2026-')
    assert failures(path) == [kept]


def test_a_file_that_is_not_there_has_no_errors(path):
    assert failures(path) == []


def test_the_last_line_is_without_spaces_around_it():
    assert Failure("", "x\n   OSError: y  \n").summary == "OSError: y"
