"""The spool: what waits on disk is there after a kill, in order, and what was half written is not."""

import errno
import os
import stat

import pytest

from sweeps.tracking.spool import Spool


@pytest.fixture
def path(tmp_path):
    return tmp_path / "runs" / "study" / "spool.jsonl"


def test_a_spool_that_was_never_written_is_empty_and_makes_no_file(path):
    assert Spool(path).read() == []
    assert not path.parent.exists()


def test_another_spool_reads_appended_items_in_order(path):
    spool = Spool(path)
    spool.append([{"n": 1}, {"n": 2}])
    spool.append([{"n": 3}])
    assert Spool(path).read() == [{"n": 1}, {"n": 2}, {"n": 3}]


def test_nan_and_infinities_come_back(path):
    Spool(path).append([{"loss": float("inf"), "x": 0.1 + 0.2}])
    assert Spool(path).read() == [{"loss": float("inf"), "x": 0.1 + 0.2}]


def test_a_cleared_spool_leaves_no_file(path):
    spool = Spool(path)
    spool.append([{"n": 1}])
    spool.clear()
    assert not path.exists()
    spool.append([{"n": 2}])
    assert Spool(path).read() == [{"n": 2}]


@pytest.mark.parametrize("lost", [1, 2, 5])
def test_an_incomplete_last_line_is_dropped_and_the_next_item_is_complete(path, lost):
    Spool(path).append([{"n": 1}, {"n": 2}])
    path.write_bytes(path.read_bytes()[:-lost])
    spool = Spool(path)
    assert spool.read() == [{"n": 1}]
    spool.append([{"n": 3}])
    assert Spool(path).read() == [{"n": 1}, {"n": 3}]


def test_a_damaged_line_is_skipped_and_its_number_logged(path, caplog):
    Spool(path).append([{"n": 1}, {"n": 2}, {"n": 3}])
    path.write_bytes(path.read_bytes().replace(b'{"n": 2}', b"\0" * 8))
    assert Spool(path).read() == [{"n": 1}, {"n": 3}]
    assert f"{path}, line 2 is damaged" in caplog.text


@pytest.fixture
def synced(path, monkeypatch):
    """What is synced to the disk from here on: folders, and the content that the file has by then."""
    synced = []

    def fsync(descriptor):
        synced.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else path.read_bytes())

    monkeypatch.setattr(os, "fsync", fsync)
    return synced


def test_an_append_syncs_the_file_and_the_first_one_the_folder(path, synced):
    Spool(path).append([{"n": 1}, {"n": 2}])
    assert synced == [b'{"n": 1}\n{"n": 2}\n', "folder"]


def test_a_folder_is_not_synced_again_for_a_file_that_it_has(path, synced):
    spool = Spool(path)
    for n in (1, 2):
        spool.append([{"n": n}])
    assert synced[2:] == [b'{"n": 1}\n{"n": 2}\n']


def test_a_failed_append_leaves_the_items_before_it(path, monkeypatch):
    spool = Spool(path)
    spool.append([{"n": 1}])

    def fail(_descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match="No space left"):
            spool.append([{"n": 2}])
    spool.append([{"n": 3}])
    assert Spool(path).read() == [{"n": 1}, {"n": 3}]
