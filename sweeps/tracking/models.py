"""Adds a study's kept networks to MLflow, in a process of low priority: ``python -m sweeps.tracking.models``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from sweeps import environment
from sweeps.errors import SweepError

_NICE = 10


def add_models(uri: str, study: str, networks: Mapping[str, Path], folder: Path | None) -> int:
    """Add kept networks to MLflow, and wait for it; see `sweeps.tracking.runs.log_networks`.

    Raises:
        SweepError: it failed; the message says why.
    """
    if not networks:
        return 0
    # On standard input: a URI may have a password, and other users see arguments.
    asked = {
        "uri": uri,
        "study": study,
        "networks": {trial: str(path) for trial, path in networks.items()},
        "folder": None if folder is None else str(folder),
    }
    with environment.safe_path():
        done = subprocess.run([sys.executable, "-m", __name__], input=json.dumps(asked), capture_output=True, text=True)
    try:
        answer = json.loads(done.stdout.splitlines()[-1])
    except (ValueError, IndexError):
        raise SweepError(
            (done.stderr.strip() or f"its process ended with {done.returncode}").splitlines()[-1]
        ) from None
    if "error" in answer:
        raise SweepError(answer["error"])
    return int(answer["added"])


def _main() -> None:
    os.nice(_NICE)
    asked = json.loads(sys.stdin.read())
    import torch

    from sweeps.tracking.runs import log_networks

    torch.set_num_threads(1)
    networks = {trial: Path(path) for trial, path in asked["networks"].items()}
    folder = None if asked["folder"] is None else Path(asked["folder"])
    try:
        answer: dict[str, object] = {"added": log_networks(asked["uri"], asked["study"], networks, folder)}
    except SweepError as error:
        answer = {"error": str(error)}
    print(json.dumps(answer))


if __name__ == "__main__":
    _main()
