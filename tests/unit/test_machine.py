"""What a process may use of its machine, by the files in which Linux says so."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sweeps.execution import machine
from sweeps.execution.machine import available_cores, cores, has_bf16, memory

V1 = """\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 {shown} /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 {shown} /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory
"""
V2 = "30 23 0:27 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
GIB = 1024**3


@pytest.fixture
def machine_of(tmp_path, monkeypatch):
    """Return the root of a machine with 64 cores and 256 GiB, and these files; the process may run on all cores."""
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(64)), raising=False)

    def lay(mounts: str, groups: str, files: dict[str, str]) -> Path:
        written = {"proc/self/mountinfo": mounts, "proc/self/cgroup": groups, "proc/meminfo": "MemTotal: 268435456 kB"}
        for name, text in (written | {f"sys/fs/cgroup/{name}": text for name, text in files.items()}).items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{text}\n")
        return tmp_path

    return lay


@pytest.mark.parametrize(
    ("groups", "files", "usable"),
    [
        ("0::/", {"cpu.max": "200000 100000"}, 2),
        ("0::/", {"cpu.max": "50000 100000"}, 0.5),
        ("0::/", {"cpu.max": "max 100000"}, 64),
        ("0::/", {"cpu.max": "12800000 100000"}, 64),
        ("0::/", {}, 64),
        ("0::/a/b", {"a/b/cpu.max": "max 100000", "a/cpu.max": "300000 100000"}, 3),
        ("0::/a/b", {"a/b/cpu.max": "100000 100000", "a/cpu.max": "300000 100000"}, 1),
        ("0::/a/b", {"a/b/cpu.max": "400000 100000", "a/cpu.max": "300000 100000"}, 3),
        ("0::/../other", {"cpu.max": "200000 100000"}, 2),
    ],
)
def test_cores_of_version_2_are_the_least_of_the_groups_above(machine_of, groups, files, usable):
    found = cores(machine_of(V2, groups, files))
    assert (found.usable, found.total) == (usable, 64)
    assert found.limit == (f"cgroup quota of {usable:g}" if usable < 64 else "")


@pytest.mark.parametrize(
    ("shown", "group", "folder"),
    [("/", "/docker/abc", "docker/abc/"), ("/docker/abc", "/docker/abc", ""), ("/docker/abc", "/", "")],
)
@pytest.mark.parametrize(("quota", "usable"), [(150000, 1.5), (-1, 64)])
def test_cores_of_version_1(machine_of, shown, group, folder, quota, usable):
    files = {"cpu.cfs_quota_us": str(quota), "cpu.cfs_period_us": "100000"}
    root = machine_of(
        V1.format(shown=shown),
        f"4:memory:{group}\n3:cpu,cpuacct:{group}\n0::/",
        {f"cpu,cpuacct/{folder}{name}": text for name, text in files.items()},
    )
    assert cores(root).usable == usable


@pytest.mark.parametrize(("quota", "whole"), [("50000", 1), ("150000", 1), ("400000", 4)])
def test_a_share_of_a_core_is_a_core_at_least(machine_of, quota, whole):
    assert available_cores(machine_of(V2, "0::/", {"cpu.max": f"{quota} 100000"})) == whole


@pytest.mark.parametrize(
    ("mounts", "groups", "files", "gib"),
    [
        (V2, "0::/a", {"a/memory.max": str(4 * GIB), "memory.max": "max"}, 4),
        (V2, "0::/a", {"a/memory.max": "max", "memory.max": str(8 * GIB)}, 8),
        (V2, "0::/", {}, 256),
        (V1.format(shown="/"), "4:memory:/a", {"memory/a/memory.limit_in_bytes": str(2 * GIB)}, 2),
        (V1.format(shown="/"), "4:memory:/a", {"memory/a/memory.limit_in_bytes": "9223372036854771712"}, 256),
    ],
)
def test_memory_is_the_least_of_the_groups_above(machine_of, mounts, groups, files, gib):
    found = memory(machine_of(mounts, groups, files))
    assert (found.usable, found.total) == (gib * GIB, 256 * GIB)
    assert found.limit == ("cgroup limit" if gib < 256 else "")


def test_a_mount_whose_path_is_no_utf_8_hides_no_limit(machine_of):
    root = machine_of(V2, "0::/", {"cpu.max": "200000 100000"})
    mounts = root / "proc/self/mountinfo"
    mounts.write_bytes(b"29 23 0:9 / /media/M\xfcller rw - ext4 /dev/sdb rw\n" + mounts.read_bytes())
    assert cores(root).usable == 2


def test_a_machine_without_control_groups_has_no_limit(tmp_path):
    assert cores(tmp_path).usable <= os.cpu_count()
    assert memory(tmp_path) is None


def test_this_machine_is_read():
    assert 0 < cores().usable <= cores().total
    assert 0 < memory().usable <= memory().total


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="processes cannot be bound to cores here")
def test_cores_that_are_withheld_are_not_counted():
    bind = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})"
    code = f"{bind}; from sweeps.execution.machine import cores; print(cores().usable, cores().limit)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout in ("1 CPU affinity\n", "1.0 \n")


def test_where_affinity_is_unknown_all_cores_are_counted(monkeypatch, tmp_path):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert machine.available_cores(tmp_path) == os.cpu_count()


@pytest.mark.parametrize(
    ("cpuinfo", "found"),
    [
        ("processor : 0\nflags\t\t: fpu avx2 avx512_bf16 amx_tile", True),
        ("flags\t\t: fpu amx_bf16", True),
        ("Features\t: fp asimd bf16", True),
        ("flags\t\t: fpu avx2", False),
        ("", None),
    ],
)
def test_whether_a_processor_computes_with_bf16(cpuinfo, found, tmp_path):
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text(cpuinfo)
    assert has_bf16(tmp_path) is found
