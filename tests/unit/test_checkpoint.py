"""Checkpoints are whole or not there, whatever happens while they are written."""

import contextlib
import errno
import logging
import multiprocessing
import os
import pickle
import random
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch

from resnet_core.checkpoint import CheckpointError, Writer, load, load_records, previous, remove, remove_previous, save
from resnet_core.records import EpochRecord


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "study" / "trials" / "7.ckpt"


def state(n: int, size: int = 100) -> dict[str, Any]:
    return {"n": n, "weights": torch.full((size,), n, dtype=torch.float32)}


def files(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.parent.iterdir()}


def truncate(path: Path, share: float = 0.5) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])


def test_what_was_saved_is_loaded(path):
    weights = torch.rand(4, 3, 2, 2).to(memory_format=torch.channels_last)
    saved = {"weights": weights, "records": [{"epoch": 1, "loss": 0.1}], "name": None, "on": True}
    save(path, saved)
    loaded = load(path)
    assert loaded is not None
    assert torch.equal(loaded.pop("weights"), weights)
    del saved["weights"]
    assert {key: loaded[key] for key in saved} == saved


def test_the_memory_format_of_a_tensor_is_kept(path):
    save(path, {"weights": torch.rand(4, 3, 2, 2).to(memory_format=torch.channels_last)})
    assert load(path)["weights"].is_contiguous(memory_format=torch.channels_last)


def test_a_number_comes_back_to_the_last_bit(path):
    save(path, {"loss": 0.1 + 0.2})
    assert load(path)["loss"] == 0.1 + 0.2


def test_nothing_there_loads_as_none(path):
    assert load(path) is None
    assert load_records(path) == []


EPOCHS = [EpochRecord(n, 0.1 + 0.2, 0.5, float("inf"), 0.5, 1e-3, 1e-4, 1.5, 100.0) for n in (1, 2)]


def test_the_epochs_are_loaded_to_the_last_bit(path):
    records = [epoch.to_dict() for epoch in EPOCHS]
    save(path, {"records": records})
    assert load(path)["records"] == records


def test_the_epochs_are_read_without_torch(path):
    save(path, {"records": [epoch.to_dict() for epoch in EPOCHS]})
    assert load_records(path) == EPOCHS
    code = """if True:
        import sys
        from pathlib import Path
        from resnet_core.checkpoint import load_records

        assert len(load_records(Path(sys.argv[1]))) == 2
        sys.exit("torch" in sys.modules)
    """
    subprocess.run([sys.executable, "-c", code, path], check=True)


def test_where_the_newest_is_damaged_the_epochs_of_the_one_before_it_are_read(path):
    for count in 1, 2:
        save(path, {"records": [epoch.to_dict() for epoch in EPOCHS[:count]], **state(count, size=5000)})
    damaged = bytearray(path.read_bytes())
    damaged[10_000:10_512] = bytes(512)
    path.write_bytes(damaged)
    assert load_records(path) == EPOCHS[:1]


def test_a_save_leaves_the_file_and_the_one_before_it(path):
    for n in range(3):
        save(path, state(n))
    assert files(path).keys() == {path.name, previous(path).name}
    assert load(path)["n"] == 2
    assert load(previous(path))["n"] == 1


def test_without_the_newest_the_one_before_it_is_loaded(path):
    # As a writer leaves it that is killed between its two renames.
    save(path, state(0))
    path.rename(previous(path))
    assert load(path)["n"] == 0


@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.99])
def test_a_truncated_file_is_passed_over_for_the_one_before_it(path, share, caplog):
    save(path, state(0))
    save(path, state(1))
    truncate(path, share)
    with caplog.at_level(logging.WARNING, logger="resnet_core.checkpoint"):
        assert load(path)["n"] == 0
    assert str(path) in caplog.text


def test_damage_inside_a_tensor_is_noticed(path):
    save(path, state(0, size=5000))
    save(path, state(1, size=5000))
    damaged = bytearray(path.read_bytes())
    damaged[10_000:10_512] = bytes(512)  # a sector that never reached the disk
    path.write_bytes(damaged)
    assert load(path)["n"] == 0


def test_damaged_files_alone_are_an_error_that_names_them_both(path):
    save(path, state(0))
    save(path, state(1))
    truncate(path)
    truncate(previous(path))
    with pytest.raises(CheckpointError) as caught:
        load(path)
    assert f"{path}: " in str(caught.value)
    assert f"{previous(path)}: " in str(caught.value)
    assert "Delete the files" in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [b"", b"a text\n", b".", b"G1234", b"\x80\x02u", b"\0" * 500, pickle.dumps({"n": 1}, 2), b"PK\x03\x04"],
    ids=str,
)
def test_a_file_that_is_no_checkpoint_is_an_error_that_names_it(path, content):
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    for read in load, load_records:
        with pytest.raises(CheckpointError, match=path.name):
            read(path)


def test_a_checkpoint_that_a_running_study_has_can_be_read(path):
    """Another number of the format refuses what was written up to now: studies that run could not be resumed."""
    path.parent.mkdir(parents=True)
    torch.save({"format": 3, "n": 1}, path)
    assert load(path)["n"] == 1


@pytest.mark.parametrize("content", [[1, 2], {"n": 1}, {"n": 1, "format": 999}], ids=str)
def test_a_file_of_torch_that_is_no_checkpoint_is_an_error_that_names_it(path, content):
    path.parent.mkdir(parents=True)
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=f"{path.name}: not a checkpoint"):
        load(path)


class Code:
    """What a pickle can do to whoever reads it."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("write", [lambda code, path: path.write_bytes(pickle.dumps(code, 2)), torch.save])
def test_code_in_a_file_is_refused_and_does_not_run(path, write):
    path.parent.mkdir(parents=True)
    proof = path.with_name("it-ran")
    write({"format": 1, "n": Code(proof)}, path)
    for read in load, load_records:
        with pytest.raises(CheckpointError, match=path.name):
            read(path)
    assert not proof.exists()


def test_the_reason_is_the_first_line_of_a_long_one(path):
    path.parent.mkdir(parents=True)
    torch.save({"format": 1, "n": Code(path)}, path)
    with pytest.raises(CheckpointError, match=rf"{path.name}: Weights only load failed.*\. Delete the files"):
        load(path)


def disk_full(*_args: object) -> NoReturn:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_leaves_the_files_as_they_were(path, monkeypatch):
    save(path, state(0))
    save(path, state(1))
    before = files(path)
    monkeypatch.setattr(os, "fsync", disk_full)
    with pytest.raises(OSError, match="No space left"):
        save(path, state(2))
    assert files(path) == before


def test_a_disk_that_fills_amid_the_writing_leaves_the_files_as_they_were(path):
    save(path, state(0))
    before = files(path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(OSError, match=r"could not be written: File too large") as caught:
            save(path, state(1, size=100_000))
        assert caught.value.errno == errno.EFBIG
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert files(path) == before


def test_an_error_of_torchs_writer_is_one_of_the_disk(path, monkeypatch):
    def fail(*_args: object) -> NoReturn:
        raise RuntimeError("unexpected pos 64 vs 0")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OSError, match="could not be written: unexpected pos 64 vs 0") as caught:
        save(path, state(0))
    assert caught.value.errno == errno.EIO


def test_a_rename_that_fails_leaves_the_newest_to_be_loaded(path, monkeypatch):
    save(path, state(0))
    save(path, state(1))
    rename = Path.replace

    def fail_at_the_last(self: Path, target: Path) -> Path:
        return disk_full() if target == path else rename(self, target)

    monkeypatch.setattr(Path, "replace", fail_at_the_last)
    with pytest.raises(OSError, match="No space left"):
        save(path, state(2))
    assert load(path)["n"] == 1
    assert not list(path.parent.glob("*.partial"))


def test_what_another_process_wrote_is_kept_as_the_one_before(path):
    writer = multiprocessing.get_context("fork").Process(target=save, args=(path, state(0)))
    writer.start()
    writer.join()
    save(path, state(1))
    assert load(previous(path))["n"] == 0


@pytest.mark.parametrize("damage", [truncate, lambda path: path.write_bytes(b"no checkpoint")])
def test_a_damaged_file_does_not_take_the_place_of_the_good_one_before_it(path, damage):
    save(path, state(0))
    save(path, state(1))
    damage(path)
    save(path, state(2))
    assert load(path)["n"] == 2
    assert load(previous(path))["n"] == 0


class Killed(BaseException):
    """Ends a writer where it is, like a SIGKILL."""


@contextlib.contextmanager
def killed_at(moment: int) -> Iterator[list[str]]:
    """Let so many steps of a writer's dealings with files happen, and none after them, not even to clean up."""
    steps: list[str] = []

    def step(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if len(steps) >= moment:
                raise Killed
            steps.append(name)
            return function(*args, **kwargs)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for owner, name in ((Path, "open"), (Path, "replace"), (Path, "unlink"), (os, "fsync"), (torch, "save")):
            patch.setattr(owner, name, step(name, getattr(owner, name)))
        yield steps


@pytest.mark.parametrize("damaged", [False, True])
@pytest.mark.parametrize("moment", range(5))
def test_a_kill_between_any_two_steps_leaves_a_good_checkpoint(path, moment, damaged):
    save(path, state(0))
    save(path, state(1))
    if damaged:
        truncate(path)
    with killed_at(moment), contextlib.suppress(Killed):
        save(path, state(2))
    assert load(path)["n"] in ((0, 2) if damaged else (1, 2))
    save(path, state(3))  # the next process goes on
    assert load(path)["n"] == 3


def test_a_save_has_no_more_steps_than_those_it_is_killed_between(path):
    save(path, state(0))
    with killed_at(99) as steps:
        save(path, state(1))
    assert steps == ["open", "save", "fsync", "replace", "replace"]


def test_what_is_on_the_disk_is_synced_before_it_is_renamed(path, monkeypatch):
    save(path, state(0))
    synced = []

    def fsync(descriptor: int) -> None:
        synced.append((os.fstat(descriptor).st_size, load(path)["n"]))

    monkeypatch.setattr(os, "fsync", fsync)
    save(path, state(1))
    assert (path.stat().st_size, 0) in synced


def test_remove_deletes_everything_of_this_checkpoint_and_nothing_else(path):
    for n in range(2):
        save(path, state(n))
    path.with_name(f"{path.name}.4711.partial").write_bytes(b"of a killed writer")
    save(path.with_name("8.ckpt"), state(0))
    remove(path)
    assert files(path).keys() == {"8.ckpt"}


def test_the_one_before_is_removed_where_there_is_one_behind_it(path):
    for n in range(2):
        save(path, state(n))
    remove_previous(path)
    assert files(path).keys() == {path.name}
    path.rename(previous(path))
    remove_previous(path)
    assert files(path).keys() == {previous(path).name}


def test_remove_of_nothing_is_nothing(path):
    remove(path)


def _save_for_ever(path: Path, start: int) -> NoReturn:
    n = start
    while True:
        save(path, state(n, size=20_000))
        n += 1


def _inode(path: Path) -> int | None:
    """Return which file is at ``path``; None in the moment between two."""
    with contextlib.suppress(FileNotFoundError):
        return path.stat().st_ino
    return None


def test_a_writer_killed_at_any_moment_leaves_a_whole_checkpoint(path):
    save(path, state(0, size=20_000))
    moments, newest = random.Random(0), 0
    for _ in range(12):
        writer = multiprocessing.get_context("fork").Process(target=_save_for_ever, args=(path, newest + 1))
        before = _inode(path)
        writer.start()
        try:
            while _inode(path) in (before, None):
                time.sleep(0.001)
            time.sleep(moments.uniform(0, 0.03))
        finally:
            writer.kill()
            writer.join()
        loaded = load(path)
        assert (loaded["weights"] == loaded["n"]).all()
        assert loaded["n"] >= newest
        newest = loaded["n"]
    assert newest > 0  # the writers came to write
    remove(path)
    assert files(path) == {}


# Beside the next epoch


@pytest.fixture
def background_writer(path: Path) -> Iterator[Writer]:
    writer = Writer(path, background=True)
    yield writer
    writer.close()


def test_the_first_checkpoint_is_there_at_once(background_writer, path):
    background_writer.save({"epoch": 1}, last=False)
    assert load(path)["epoch"] == 1


def test_the_last_is_there_at_once(background_writer, path):
    for epoch in (1, 2, 3):
        background_writer.save({"epoch": epoch}, last=epoch == 3)
    assert load(path)["epoch"] == 3


def test_what_is_written_is_the_state_at_the_time(path):
    writer = Writer(path, background=True)
    weights = torch.ones(1000)
    for _ in range(2):
        writer.save({"network": {"weight": weights}}, last=False)
    weights.zero_()  # the next epoch trains
    writer.close()
    assert load(path)["network"]["weight"].sum() == 1000


def test_a_failed_background_save_is_raised_by_the_next_one(background_writer, path, monkeypatch):
    background_writer.save({"epoch": 1}, last=False)
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left")))
    background_writer.save({"epoch": 2}, last=False)
    with pytest.raises(OSError, match="No space left"):
        background_writer.save({"epoch": 3}, last=False)


def test_one_that_could_not_be_written_at_the_end_is_in_the_log(path, monkeypatch, caplog):
    writer = Writer(path, background=True)
    writer.save({"epoch": 1}, last=False)
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left")))
    writer.save({"epoch": 2}, last=False)
    writer.close()
    assert "the last checkpoint was not written: [Errno 28] No space left" in caplog.text


def test_a_checkpoint_that_was_removed_meanwhile_does_not_come_back(path, monkeypatch):
    writer = Writer(path, background=True)
    writer.save({"epoch": 1}, last=False)
    written, sync = threading.Event(), os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: (written.wait(), sync(file)))
    writer.save({"epoch": 2}, last=False)
    remove(path)
    written.set()
    writer.close()
    assert list(path.parent.iterdir()) == []


def test_a_gpu_continues_from_what_was_written_in_the_background(path):
    writer = Writer(path, background=True)
    for epoch in (1, 2):
        writer.save({"epoch": epoch}, last=False)
    writer.close()
    again = Writer(path, background=True)
    again.save({"epoch": 3}, last=False)
    again.close()
    assert load(path)["epoch"] == 3
