"""A small sweep on CIFAR-10 itself, where it is at hand."""

import os
from pathlib import Path

import pytest
from PIL import Image

from resnet_core import load_model
from resnet_core.data import DATASETS
from tests.e2e.test_kept_networks import assert_as_recorded

FOLDER = Path(os.environ.get("SWEEPS_DATA", "data")).resolve()

pytestmark = [
    pytest.mark.slow,
    pytest.mark.cifar10,
    pytest.mark.skipif(
        not (FOLDER / "cifar-10-batches-py").is_dir(),
        reason="CIFAR-10 is not there: set SWEEPS_DATA to the folder that holds cifar-10-batches-py",
    ),
]

STUDY = """
name = "small"
[train]
model = "resnet11v2"
data = "cifar10"
train_limit = 320
val_limit = 160
batch_size = 8
schedule = "[lr, 0] cos[0.1*lr, 2]"
[space]
lr = { low = 1e-3, high = 5e-3, log = true }
weight_decay = { low = 0.01, high = 0.2, log = true }
shift = { low = 0.05, high = 0.1 }
[search]
trials = 3
"""


def test_a_sweep_on_cifar10(sweeps, store, cluster, tmp_path):
    study, home = tmp_path / "study.toml", tmp_path / "home"
    study.write_text(STUDY)
    done = sweeps("launch", study, "--home", home, "--data", FOLDER, on=cluster, timeout=600)
    left = store(home, "small")
    left.assert_whole(trials=3)
    assert "Chosen on the test images" in " ".join(done.stdout.split())
    rows = sweeps.json("table", "small", "--home", home)
    assert {row["outcome"] for row in rows} == {"exhausted"}
    assert {row["epochs_run"] for row in rows} == {2}
    # Three different trials, which all learned something beyond chance.
    assert len({row["lr_alpha"] for row in rows}) == len({row["final_loss"] for row in rows}) == 3
    assert all(row["final_loss"] < 2.2 for row in rows)
    params = left.trials["0"].data.params
    assert (params["data"], params["image_size"], params["train_limit"]) == ("cifar10", "32", "320")
    for trial in ("0", "1", "2"):  # the kept networks are as good as the trials have recorded
        network = load_model(home / f"studies/small/models/{trial}.safetensors")
        (*_, last) = sweeps.json("show", "small", trial, "--home", home)["epochs"]
        assert_as_recorded(network, last, FOLDER)
        assert network.classes[:2] == ("airplane", "automobile")
    # The kept network has the recorded accuracy, to the last image; its images are predicted alike as files.
    told = sweeps.json("evaluate", "small", "--home", home, "--data", FOLDER)
    curves = left.curves()[told["trial"]]
    assert (told["images"], told["accuracy"]["value"]) == (160, curves["val_acc"][-1])
    assert told["recorded"]["same"] is True
    assert told["flips_averaged"]["loss"]["value"] != told["loss"]["value"]
    images, _ = DATASETS["cifar10"].read(FOLDER, 32)[1]
    Image.fromarray(images[0].transpose(1, 2, 0)).save(tmp_path / "first.png")
    (said,) = sweeps.json("predict", "small", tmp_path / "first.png", "--home", home)
    assert said["class"] in DATASETS["cifar10"].names
    assert said["changes"] == []
