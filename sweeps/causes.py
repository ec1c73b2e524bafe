"""What went wrong, in words, from the text of an error: what Ray, torch and SQLite say takes pages, or says little."""

from __future__ import annotations

import re

_DISK_FULL = re.compile(r"No space left on device|Disk quota exceeded|database or disk is full", re.IGNORECASE)
_SQLITE = re.compile(r"sqlite3\.\w+(?:: |\) )(.+)")
# The last is what Ray says as long as it only sees that the connection is closed.
_NODE_GONE = ("node has died", "node has crashed", "NodeDiedError", "actor is temporarily unavailable")
_CLASS = re.compile(r"^[A-Za-z_][\w.]*(?:Error|Exception): *")


def cause_of(error: str) -> str:
    """Return one line that says why, from an error's message or its whole traceback."""
    lines = [line.strip() for line in error.strip().splitlines() if line.strip()]
    last = lines[-1] if lines else "unknown error"
    said = _CLASS.sub("", last)
    if last.startswith("sweeps.errors."):
        return said
    if is_disk_full(error):
        return "no space left on the disk"
    if "CUDA out of memory" in last or "CUDA error: out of memory" in last or "torch.OutOfMemoryError" in last:
        return f"out of memory on the GPU: {said}"
    if last.startswith("MemoryError") or "DefaultCPUAllocator" in last:
        return f"out of memory: {said[max(0, said.find('DefaultCPUAllocator')) :]}"
    if "running low on memory" in error:  # Ray's memory monitor
        used = next((line for line in lines if line.startswith("Memory on the node")), "the node was running low")
        return f"out of memory: Ray ended the process ({used.split(';')[0].rstrip('. ')})"
    if is_node_gone(error):
        return "its machine, Ray's node on it, or the way there is gone"
    if "worker process has died" in error or "ActorDiedError" in error:
        return "its process was killed: out of memory on this machine, or by hand"
    if found := _SQLITE.findall(error):
        return f"SQLite: {found[-1]}"
    return last


def is_node_gone(error: str) -> bool:
    """Return whether the text of an error tells that Ray lost the machine a trial was on."""
    return any(words in error for words in _NODE_GONE)


def is_disk_full(error: str) -> bool:
    """Return whether the text of an error tells of a file system without space."""
    return _DISK_FULL.search(error) is not None


def disk_full_message(root: object, name: str) -> str:
    """Return what people are told where a study stops for want of space under ``root``."""
    return f"no space left on the disk of {root}. Free some, then go on with `sweeps resume {name}`"
