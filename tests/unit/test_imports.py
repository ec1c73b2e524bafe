"""What is installed, and what is not loaded where it is not needed: seconds, and hundreds of megabytes a process."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("sweeps.launch", "torch"),  # the driver's; workers train
        ("sweeps.cli", "ray"),
        ("sweeps.cli", "mlflow"),
        ("sweeps.simulation.simulate", "torch"),
        ("resnet_core.trainer", "torchvision"),  # which loads torch's compiler
        ("analysis.store", "mlflow"),
    ],
)
def test_a_module_does_without(module, heavy):
    code = f"import sys, {module}; sys.exit({heavy!r} in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_package_is_installed():
    """An installation from the checkout finds the others too, so that no other test notices."""
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    rooms = ("resnet_core", "search_spaces", "sweeps", "analysis")
    found = {path.parent.relative_to(ROOT) for room in rooms for path in (ROOT / room).rglob("__init__.py")}
    assert set(setuptools["packages"]) == {".".join(folder.parts) for folder in found}
