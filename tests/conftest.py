"""What tests of all kinds share."""

import gc
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.migrations import keep_scripts

# No example fails because it, or its making, was slow on a machine that does much else.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

MEMORY, ROOM = Path("/dev/shm"), 8 * 1024**3


def pytest_configure() -> None:
    """Forget the user's settings of the command, and put temporary folders in memory where there is room for them.

    Databases wait for a disk at every commit. Python's garbage collector takes a sixth of the time unless it is told to
    look less often, and to leave alone what is loaded.
    """
    gc.set_threshold(20_000, 50, 100)
    for name in set(os.environ) - {"SWEEPS_DATA"}:
        if name.startswith(("SWEEPS_", "MLFLOW_TRACKING_")):
            del os.environ[name]
    if MEMORY.is_dir() and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > ROOM:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))


def pytest_collection_finish() -> None:
    keep_scripts()
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Torch with one thread: small tensors are slower on many, and tests run beside each other."""
    import torch  # takes seconds, and most tests do without it

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
