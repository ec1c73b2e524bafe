"""What is not loaded where it is not needed: seconds, and hundreds of megabytes a process."""

import json
import os
import subprocess
import sys

import pytest

# In the order of how much they load, so that one process can load one behind the other.
MODULES = (
    "analysis.store.loader",
    "sweeps.simulation.simulate",
    "sweeps.cli",
    "sweeps.execution.shared_process",
    "sweeps.execution.launch",
)


@pytest.fixture(scope="module")
def loaded() -> dict[str, list[str]]:
    """The modules that are loaded once each of these, and those ahead of it, is."""
    code = """if True:
        import importlib, json, sys

        loaded = {}
        for name in sys.argv[1:]:
            importlib.import_module(name)
            loaded[name] = list(sys.modules)
        print(json.dumps(loaded))
    """
    done = subprocess.run([sys.executable, "-c", code, *MODULES], check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("analysis.store.loader", "mlflow"),
        ("sweeps.simulation.simulate", "torch"),
        ("sweeps.cli", "ray"),
        ("sweeps.cli", "mlflow"),
        ("sweeps.execution.shared_process", "ray.tune"),  # what starts the processes that train, and they, do without
        ("sweeps.execution.launch", "torch"),  # the driver's; workers train
    ],
)
def test_a_module_does_without(loaded, module, heavy):
    assert heavy not in loaded[module]


def test_what_is_known_of_trials_does_without_torch_and_numpy():
    """The study file, its checks and the tables need it; torch takes seconds to load."""
    code = """if True:
        import sys
        from resnet_core import config, objective, records, schedule, schema, uris
        from resnet_core.data import DATASETS
        from resnet_core.models import NETWORKS, find
        from resnet_core.optim import OPTIMIZERS

        config.epoch_sizes(config.TrialConfig("[1e-3, 0] lin[0, 1]"))
        everything = [*DATASETS.items(), *NETWORKS.items(), *OPTIMIZERS.items(), find("resnet56v2")]
        sys.exit(", ".join({"torch", "torchvision", "numpy"} & set(sys.modules)) or 0)
    """
    subprocess.run([sys.executable, "-c", code], check=True)


def test_training_on_digits_does_without_torchvision_and_scikit_learn():
    """The first loads torch's compiler, the second SciPy."""
    code = """if True:
        import sys
        from pathlib import Path
        from resnet_core.config import TrialConfig
        from resnet_core.trainer import train

        small = {"model": "resnet11v2", "data": "digits", "image_size": 16, "train_limit": 10, "val_limit": 10}
        next(train(TrialConfig("[1e-3, 0] lin[0, 1]", batch_size=10, **small), data_dir=Path("nowhere")))
        sys.exit(", ".join({"torchvision", "sklearn"} & set(sys.modules)) or 0)
    """
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_driver_looks_for_gpus_and_images_without_loading_torch(tmp_path):
    """Both are torch's to find; it is loaded by a process that ends."""
    code = """if True:
        import sys
        from pathlib import Path
        from rich.console import Console
        from resnet_core.data import DataError
        from search_spaces.spec import StudySpec
        from sweeps.errors import InputError
        from sweeps.home import Home
        from sweeps.execution.launch import Launch

        folder = Path(sys.argv[1])
        launch = Launch(Home(folder / "home"), folder / "file", None, Console(stderr=True))
        for gpus, refused in ((1, InputError), (0, DataError)):
            spec = {"name": "any", "train": {"schedule": "[lr, 0] lin[lr, 1]"}, "search": {"trials": 1}}
            spec |= {"space": {"lr": {"low": 1e-4, "high": 1}}, "resources": {"gpus_per_trial": gpus}}
            try:
                launch._check(StudySpec.model_validate(spec))
            except refused:
                continue
            sys.exit("was not refused")
        sys.exit("torch" in sys.modules)
    """
    (tmp_path / "file").touch()  # no folder that could hold images
    no_gpu = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, env=no_gpu)
