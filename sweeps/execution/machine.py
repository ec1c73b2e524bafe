"""What this process may use of its machine: CPU cores and memory, as the affinity and the control groups allow.

A container, a Slurm job or a systemd slice gives a process a part of the machine. Python's own counts, and those of
many libraries, show the whole machine.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

_ROOT = Path("/")
_BF16 = frozenset({"amx_bf16", "avx512_bf16", "bf16"})  # as /proc/cpuinfo names them


@dataclass(frozen=True)
class Share:
    """What a process may use of one resource of its machine.

    Attributes:
        usable: cores, or bytes, that it may use.
        total: those of the machine.
        limit: what limits it; empty if nothing does.
    """

    usable: float
    total: float
    limit: str = ""

    def describe(self, unit: str, scale: float = 1.0) -> str:
        """Return the share as text, in a unit of ``scale``.

        >>> Share(2.0, 64.0, "CPU affinity").describe("cores")
        '2 of 64 cores (CPU affinity)'
        >>> Share(2.0**34, 2.0**34).describe("GiB", 2.0**30)
        '16 GiB'
        """
        total = f"{self.total / scale:.4g} {unit}"
        return f"{self.usable / scale:.4g} of {total} ({self.limit})" if self.limit else total


def cores(root: Path = _ROOT) -> Share:
    """Return the CPU cores that this process may use; a fraction if a control group gives it a share of a core's time.

    Args:
        root: the folder that has ``proc`` and ``sys``.
    """
    total = float(os.cpu_count() or 1)
    found = Share(total, total)
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        found = _less(found, len(os.sched_getaffinity(0)), "CPU affinity")
    for group in _groups("cpu", root):
        quota = _cpu_quota(group)
        if quota is not None:
            found = _less(found, quota, f"cgroup quota of {quota:g}")
    return found


def memory(root: Path = _ROOT) -> Share | None:
    """Return the bytes of memory that this process may use; None if the machine does not tell.

    Args:
        root: the folder that has ``proc`` and ``sys``.
    """
    lines = _text(root / "proc/meminfo").splitlines()
    kib = next((line.split()[1] for line in lines if line.startswith("MemTotal:")), None)
    if kib is None:
        return None
    total = float(kib) * 1024
    found = Share(total, total)
    for group in _groups("memory", root):
        for name in ("memory.max", "memory.limit_in_bytes"):
            limit = _number(_text(group / name))
            if limit is not None:
                found = _less(found, limit, "cgroup limit")
    return found


def available_cores(root: Path = _ROOT) -> int:
    """Return how many CPU cores this process may use at the same time; one at least."""
    return max(1, int(cores(root).usable))


def has_bf16(root: Path = _ROOT) -> bool | None:
    """Return whether the processor computes with bf16; None if the machine does not tell.

    Args:
        root: the folder that has ``proc``.
    """
    lines = _text(root / "proc/cpuinfo").splitlines()
    names = ("flags", "Features")  # of x86 and of ARM
    flags = next((line.partition(":")[2].split() for line in lines if line.startswith(names)), None)
    return None if flags is None else not _BF16.isdisjoint(flags)


def _less(share: Share, usable: float, limit: str) -> Share:
    return Share(usable, share.total, limit) if usable < share.usable else share


def _cpu_quota(group: Path) -> float | None:
    """Return how many cores' time the processes of a control group get; None without a limit."""
    quota, _, period = _text(group / "cpu.max").partition(" ")  # version 2
    if not quota:  # version 1
        quota, period = _text(group / "cpu.cfs_quota_us"), _text(group / "cpu.cfs_period_us")
    most, each = _number(quota), _number(period)
    return most / each if most and each else None


def _groups(controller: str, root: Path) -> Iterator[Path]:
    """Yield the folders of the control groups of this process that limit a resource: its own, and those above.

    Args:
        controller: the controller of version 1; version 2 has one hierarchy for all.
        root: the folder that has ``proc`` and ``sys``.
    """
    paths = {}
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        paths.update(dict.fromkeys(controllers.split(","), PurePosixPath(path)))  # of version 2: ""
    for line in _text(root / "proc/self/mountinfo").splitlines():
        where, _, mount = line.partition(" - ")
        kind, options = mount.split(" ")[0], mount.split(" ")[-1].split(",")
        if kind == "cgroup2":
            group = paths.get("")
        elif kind == "cgroup" and controller in options:
            group = paths.get(controller)
        else:
            continue
        if group is None:
            continue
        shown, point = (_unescaped(field) for field in where.split(" ")[3:5])
        top = root / point.lstrip("/")
        # In a container the mount may show a part of the hierarchy, and the path be one that only the host sees.
        folder = top / group.relative_to(shown) if group.is_relative_to(shown) and ".." not in group.parts else top
        while folder != top:
            yield folder
            folder = folder.parent
        yield top


def _unescaped(field: str) -> str:
    """Return a field of mountinfo, in which white space is written as octal numbers."""
    return field.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\")


def _number(text: str) -> float | None:
    """Return a number above 0; None for what means no limit, such as ``max`` or ``-1``."""
    return float(text) if text.isdigit() and int(text) else None


def _text(path: Path) -> str:
    """Return the text of a file without the white space around it; empty if it cannot be read."""
    try:
        return path.read_text("utf-8", "surrogateescape").strip()  # the path of any mount may be no UTF-8
    except OSError:
        return ""
