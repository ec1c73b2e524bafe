"""The versions of this package and of the packages that it uses."""

from __future__ import annotations

import os
import platform
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path

from resnet_core.schema import PACKAGES

# With these, which git sets for its hooks, it would describe another repository.
_OF_GIT = frozenset(
    {
        "GIT_ALTERNATE_OBJECT_DIRECTORIES",
        "GIT_COMMON_DIR",
        "GIT_DIR",
        "GIT_INDEX_FILE",
        "GIT_NAMESPACE",
        "GIT_OBJECT_DIRECTORY",
        "GIT_WORK_TREE",
    }
)


@cache
def code_version() -> str:
    """Return the package's version; in a git checkout with the commit, such as ``0.1.0+g6e2d22d.dirty``."""
    version = metadata.version("resnet-sweeps")
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return version
    try:
        described = subprocess.run(
            ["git", "-C", str(root), "describe", "--always", "--dirty=.dirty", "--exclude=*"],
            env={name: value for name, value in os.environ.items() if name not in _OF_GIT},
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return version
    return f"{version}+g{described.stdout.strip()}"


@cache
def versions() -> dict[str, str]:
    """Return the versions of Python and of resnet_core.schema.PACKAGES, by name."""
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in PACKAGES}}
