"""The cause of an error in words, out of the texts that torch, Ray, SQLite and Python really give."""

import copy
import locale
import sqlite3
import traceback

import pytest
import ray.exceptions
import sqlalchemy.exc
import torch

from sweeps.errors import SweepError, cause_of, is_disk_full
from sweeps.execution.trainable import TrialError


def text_of(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


def test_the_last_line_is_the_cause():
    assert cause_of("Traceback:\n  File x\nValueError: 7 is no prime\n\n") == "ValueError: 7 is no prime"


@pytest.mark.parametrize("text", ["", " \n"])
def test_without_words_the_cause_is_unknown(text):
    assert cause_of(text) == "unknown error"


def test_out_of_memory_on_the_gpu():
    error = torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    assert cause_of(text_of(error)) == "out of memory on the GPU: CUDA out of memory. Tried to allocate 2.00 GiB."


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        ("torch.OutOfMemoryError: CUDA out of memory. 2 GiB.", "out of memory on the GPU: CUDA out of memory. 2 GiB."),
        ("MemoryError", "out of memory: mine.py, line 7: MemoryError"),
    ],
)
def test_out_of_memory_in_the_users_code(error, cause):
    assert cause_of(f"mine.py, line 7: {error}") == cause


def test_out_of_memory_in_torch():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60)
    found = cause_of(text_of(caught.value))
    assert found.startswith("out of memory: DefaultCPUAllocator: ")
    assert str(2**62) in found


@pytest.mark.parametrize(
    ("said", "found"), [("", "MemoryError"), ("Unable to allocate 9 GiB", "Unable to allocate 9 GiB")]
)
def test_out_of_memory_in_python(said, found):
    assert cause_of(text_of(MemoryError(said))) == f"out of memory: {found}"


def test_rays_memory_monitor():
    error = ray.exceptions.OutOfMemoryError(
        "Task was killed due to the node running low on memory.\n"
        "Memory on the node (IP: 10.0.0.1) was 30.1GB / 32.0GB (0.94); exceeded the threshold of 0.9.\n"
        "Refer to the documentation on how to address it."
    )
    assert cause_of(text_of(error)) == (
        "out of memory: Ray ended the process (Memory on the node (IP: 10.0.0.1) was 30.1GB / 32.0GB (0.94))"
    )


def test_a_process_that_was_killed():
    assert cause_of(text_of(ray.exceptions.ActorDiedError())).startswith("its process was killed: out of memory")


def test_a_lost_machine():
    error = ray.exceptions.NodeDiedError("The node has died.")
    assert cause_of(text_of(error)) == "its machine, Ray's node on it, or the way there is gone"


def test_a_message_of_this_package_is_not_changed():
    error = SweepError("no space left on device: the message of another")
    assert cause_of(text_of(error)) == "no space left on device: the message of another"


def test_the_message_of_sqlite_is_found_behind_the_statement():
    inner = sqlite3.OperationalError("database is locked")
    error = sqlalchemy.exc.OperationalError("UPDATE trials SET state=?", {}, inner)
    assert cause_of(text_of(error)) == "SQLite: database is locked"


@pytest.mark.parametrize(
    "text",
    [
        "OSError: [Errno 28] No space left on device: '/x/00001.pt'",
        "sqlite3.OperationalError: database or disk is full",
        "OSError: [Errno 122] Disk quota exceeded",
    ],
)
def test_a_full_disk(text):
    assert is_disk_full(text)
    assert cause_of(text) == "no space left on the disk"


@pytest.mark.parametrize(
    ("encoding", "text", "kept"),
    [
        ("utf-8", "größe ☃", "größe ☃"),
        ("utf-8", "no file \udcff", "no file \\udcff"),
        ("latin-1", "größe ☃", "größe \\u2603"),
        ("ascii", "größe", "gr\\xf6\\xdfe"),
    ],
)
def test_the_error_of_a_trial_has_only_what_the_file_of_ray_can_hold(encoding, text, kept, monkeypatch, tmp_path):
    monkeypatch.setattr(locale, "getpreferredencoding", lambda do_setlocale: encoding)
    error = copy.copy(TrialError(text))  # made anew from its arguments, as Ray makes it in another process
    assert str(error) == kept
    (tmp_path / "error.txt").write_text(str(error), encoding)
