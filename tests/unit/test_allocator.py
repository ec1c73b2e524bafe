"""Memory that a training step frees is there for the next one."""

import json
import subprocess
import sys

import pytest

# glibc gives blocks back to the kernel from 32 MiB at the least, whatever it has seen before. Of those that it keeps,
# it gives a piece to the next small object: up to two more have to be asked for before every step finds one.
_FAULTS = """
import json
import resource
import torch
from resnet_core.config import TrialConfig
from resnet_core.trainer import seconds_per_epoch

def page_faults():
    for step in range(12):
        if step == 8:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.ones(10 * 2**20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

untrained = page_faults()
config = TrialConfig(schedule="[1e-3, 0] lin[1e-3, 1]", model="resnet11v2", data="digits", batch_size=4, image_size=16)
seconds_per_epoch(config, steps=1)
print(json.dumps([untrained, page_faults()]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_once_it_trains_a_process_takes_freed_memory_again_without_asking_the_kernel() -> None:
    """Four tensors of 40 MiB are at least 80 pages of 2 MiB, or 40,960 of 4 KiB, where they are given back."""
    done = subprocess.run([sys.executable, "-c", _FAULTS], check=True, capture_output=True, text=True)
    untrained, trained = json.loads(done.stdout)
    assert untrained >= 80
    assert trained < 32
