"""Memory that a training step frees is there for the next one."""

import subprocess
import sys

import pytest

_FAULTS = """
import resource
import torch
from resnet_core.config import TrialConfig
from resnet_core.trainer import seconds_per_epoch

if {trained}:
    schedule = "[1e-3, 0] lin[1e-3, 1]"
    seconds_per_epoch(TrialConfig(schedule=schedule, model="resnet11v2", data="digits", batch_size=4), steps=1)
for step in range(20):
    if step == 10:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(2**24)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def _page_faults(trained: bool) -> int:
    done = subprocess.run(
        [sys.executable, "-c", _FAULTS.format(trained=trained)], check=True, capture_output=True, text=True
    )
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_once_it_trains_a_process_takes_freed_memory_again_without_asking_the_kernel() -> None:
    """Ten tensors of 64 MiB are at least 320 pages of 2 MiB, or 163,840 of 4 KiB, where they are given back."""
    assert _page_faults(trained=True) < 32
    assert _page_faults(trained=False) >= 320
