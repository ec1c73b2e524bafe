"""Checks of this machine: its hardware and software, and whether a sweep can run on it."""

from __future__ import annotations

import contextlib
import http.client
import platform
import shutil
import sqlite3
import tempfile
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from urllib.parse import urlsplit

import torch

from resnet_core.config import Precision, TrialConfig
from resnet_core.data import DATASETS
from resnet_core.sqlite import open_to_read
from resnet_core.trainer import seconds_per_epoch
from resnet_core.uris import without_password
from sweeps import environment
from sweeps.errors import SweepError
from sweeps.execution.machine import cores, memory
from sweeps.home import Home
from sweeps.ledger.database import check_reachable
from sweeps.version import code_version

_PACKAGES = ("torch", "torchvision", "ray", "optuna", "mlflow", "numpy", "pandas")


@dataclass(frozen=True)
class Check:
    """The result of one check.

    Attributes:
        name: the checked item.
        ok: whether a sweep can run with it; None if it is for information only.
        found: what was found, and what to do if that is not enough.
    """

    name: str
    ok: bool | None
    found: str


def examine(home: Home, data_dir: Path, address: str | None = None) -> list[Check]:
    """Run the checks of this machine and return their results; nothing is created but the folder for Ray's files.

    Args:
        home: the home folder; if the ledger or MLflow's store is elsewhere, the connection to it is checked.
        data_dir: folder of the data sets.
        address: address of a running Ray cluster, to which the connection is checked; None if a launch starts Ray.
    """
    checks = [
        Check("resnet-sweeps", None, code_version()),
        Check("python", None, platform.python_version()),
        *(Check(name, None, metadata.version(name)) for name in _PACKAGES),
        Check("cpu", None, f"{cores().describe('cores')}, {torch.backends.cpu.get_cpu_capability()}"),
        *_memory(),
        _gpus(),
        _bf16(),
        *_data(data_dir),
        _home(home),
        _space(home),
    ]
    if home.ledger:
        checks.append(_reached("ledger", home.ledger, check_reachable))
    if home.mlflow:
        served = home.mlflow.startswith("http")
        checks.append(_reached("mlflow store", home.mlflow, _ask_server if served else check_reachable))
    checks.append(_own_ray() if address is None else _reached("cluster", address, _join))
    return checks


def _memory() -> list[Check]:
    found = memory()
    return [] if found is None else [Check("memory", None, found.describe("GiB", 1024**3))]


def _gpus() -> Check:
    if not torch.cuda.is_available():
        return Check("gpu", None, "none; use --set resources.gpus_per_trial=0")
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return Check("gpu", True, ", ".join(names))


def _bf16() -> Check:
    if torch.cuda.is_available():
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
        found = "the GPU has it" if fast else "the GPU does not have it"
    else:
        # Measured, since bf16 is twice as fast as fp32 on some processors, and slower on others.
        gain = _seconds("fp32") / _seconds("bf16")
        fast, found = gain > 1.1, f"{gain:.2g} times as fast as fp32 here"
    return Check("bf16", None, found if fast else f"{found}; use --set train.precision=fp32")


@cache
def _seconds(precision: Precision) -> float:
    """Return the seconds of an epoch of the smallest ResNet v2 on the CPU, estimated from a step of a few images.

    On a processor without bf16, torch's bf16 runs at a fifth of fp32's speed or less. More images would take half a
    minute and give the same answer.
    """
    config = TrialConfig(schedule="[1e-3, 0]", epochs=1, model="resnet11v2", precision=precision, batch_size=16)
    return seconds_per_epoch(config, steps=1)


def _data(folder: Path) -> list[Check]:
    """Return a check of each data set whose images must be in a folder."""
    checks = []
    for name, spec in DATASETS.items():
        if spec.folder is None:
            continue
        if not spec.is_available(folder):
            checks.append(Check(name, None, f"not in {folder}; the first study that needs it downloads it there"))
        elif spec.faults is not None and (faults := spec.faults(folder)):
            again = "the first study that needs it downloads it again"
            checks.append(Check(name, None, f"{folder / spec.folder}: {', '.join(faults)}; {again}"))
        else:
            checks.append(Check(name, True, str(folder)))
    return checks


def _home(home: Home) -> Check:
    try:
        with tempfile.TemporaryFile(dir=_nearest(home.root)):
            pass  # it can be written
        for db in (home.own_mlflow_db, home.own_ledger_db):
            if db.exists():
                with contextlib.closing(open_to_read(db)) as connection:
                    connection.execute("PRAGMA quick_check").fetchone()
    except (OSError, sqlite3.Error) as error:
        return Check("home", False, f"{home.root}: {error}; choose another with --home or SWEEPS_HOME")
    return Check("home", True, str(home.root))


def _space(home: Home) -> Check:
    free = shutil.disk_usage(_nearest(home.root)).free / 1024**3
    return Check("disk", free > 1, f"{free:.1f} GiB free" + ("" if free > 1 else "; a checkpoint takes about 20 MB"))


def _nearest(folder: Path) -> Path:
    """Return the folder, or the nearest one above it that exists."""
    return next(path for path in (folder, *folder.parents) if path.exists())


def _reached(name: str, uri: str, connect: Callable[[str], str | None]) -> Check:
    try:
        found = connect(uri)
    except SweepError as error:
        return Check(name, False, str(error))
    return Check(name, True, without_password(uri) + (f": {found}" if found else ""))


def _ask_server(uri: str) -> None:
    parts = urlsplit(uri)
    url = parts._replace(netloc=parts.netloc.rpartition("@")[2], path=f"{parts.path.rstrip('/')}/health")
    try:
        with urllib.request.urlopen(url.geturl(), timeout=10):
            return
    except (OSError, ValueError, http.client.HTTPException) as error:
        host = parts.hostname or ""
        if parts.scheme in urllib.request.getproxies() and not urllib.request.proxy_bypass(host):
            raise SweepError(
                f"MLflow's server {without_password(uri)} does not answer through the proxy of this environment "
                f"({error}); to go without it, name {host} in NO_PROXY"
            ) from error
        raise SweepError(f"MLflow's server {without_password(uri)} does not answer: {error}") from error


def _join(address: str) -> str:
    with environment.restored():
        environment.for_ray(own=False)
        from sweeps.execution.placement import check_address, ray_cluster  # Ray takes seconds to import

        check_address(address)
        with ray_cluster(address) as found:
            cpus, gpus = sum(node.cpus for node in found.nodes), sum(node.gpus for node in found.nodes)
            return f"nodes {len(found.nodes)}, cores {cpus:g}, GPUs {gpus:g}"


def _own_ray() -> Check:
    try:
        with environment.restored():
            environment.for_ray(own=True)
            from sweeps.execution.placement import check_start

            return Check("ray start", True, f"its files go to {check_start()}")
    except SweepError as error:
        return Check("ray start", False, str(error))
