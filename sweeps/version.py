"""Which code ran."""

from __future__ import annotations

import platform
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path

from resnet_core.schema import PACKAGES


@cache
def code_version() -> str:
    """Return the package's version, with the commit (and ``.dirty``) where it runs from a git checkout."""
    version = metadata.version("resnet-sweeps")
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return version
    try:
        described = subprocess.run(
            ["git", "-C", str(root), "describe", "--always", "--dirty=.dirty", "--exclude=*"],
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
    """Return the versions of Python and of the packages that results depend on."""
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in PACKAGES}}
