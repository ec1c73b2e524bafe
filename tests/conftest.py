"""What tests of all kinds share."""

import gc
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.migrations import keep_scripts

MEMORY, ROOM = Path("/dev/shm"), 8 * 1024**3


def pytest_configure() -> None:
    """Forget the user's settings of the command, and put temporary folders in memory where there is room for them.

    Databases wait for a disk at every commit.
    """
    for name in set(os.environ) - {"SWEEPS_DATA"}:
        if name.startswith(("SWEEPS_", "MLFLOW_TRACKING_")):
            del os.environ[name]
    if MEMORY.is_dir() and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > ROOM:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))


def pytest_collection_finish() -> None:
    """Keep the garbage collector, and Alembic, from looking through all that is loaded again and again.

    The first took a sixth of the time, the other a tenth of it where studies are opened.
    """
    keep_scripts()
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 50, 100)


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Torch with one thread: small tensors are slower on many, and tests run beside each other."""
    import torch  # takes seconds, and most tests do without it

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
