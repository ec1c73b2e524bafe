"""What is not loaded where it is not needed: seconds, and hundreds of megabytes, for each process of a study."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("sweeps.launch", "torch"),  # the driver's; workers train
        ("sweeps.cli", "ray"),
        ("sweeps.cli", "mlflow"),
        ("sweeps.simulate", "torch"),
        ("resnet_core.trainer", "torchvision"),  # which loads torch's compiler
        ("analysis.store", "mlflow"),
    ],
)
def test_a_module_does_without(module, heavy):
    code = f"import sys, {module}; sys.exit({heavy!r} in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
