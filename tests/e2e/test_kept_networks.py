"""The networks that a study keeps: those of its best trials, as they were validated, whatever is killed when."""

import json
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

from resnet_core import code, load_model
from resnet_core.images import load
from resnet_core.network_file import read_about, save_network
from tests.e2e.conftest import TRAIN, run_script

STUDY = f"""
name = "kept"
[train]
{TRAIN}
schedule = "[5e-3, 0] cos[1e-4, 3]"
[objective]
target = 0.9
[keep]
all = true
[[run]]
name = "last"
[[run]]
name = "averaged"
ema = 0.9
[[run]]
name = "measured-anew"
ema = 0.9
bn_recalibration = 50
[[run]]
name = "own"
model = "net:small"
model_options = {{ width = 8 }}
"""
NETWORK = """
from torch import nn

def small(classes, channels, image_size, width):
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * image_size**2, width), nn.Tanh(), nn.Linear(width, classes))
"""
TRAINER = """
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Config:
    slope: float = 0.1
    epochs: int = 3


def train(config: Config, run):
    w = np.zeros(3, np.float32)
    for epoch in run.epochs():
        w += config.slope
        run.save_model({"w": w})
        yield {"val_acc": config.slope * epoch}
"""
PREDICT = """
import sys

import mlflow
import numpy as np

mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model(sys.argv[2])
images = np.random.default_rng(0).integers(0, 256, (7, 3, 16, 16), np.uint8)
logits = model.predict(images)
print("resnet_core" in sys.modules)

import torch
from resnet_core import load_model

print(np.allclose(logits, load_model(sys.argv[3])(torch.from_numpy(images)).numpy(), atol=1e-4))
"""
OWN = """
name = "slopes"
[train]
trainer = "slopes:train"
[objective]
target = false
[keep]
best = 2
[[run]]
name = "a"
slope = 0.1
[[run]]
name = "b"
slope = 0.3
[[run]]
name = "c"
slope = 0.2
"""


def right_of(network, data):
    """How many validation images a network has right, in a trial's batches; and its mean loss."""
    with torch.inference_mode():
        logits = torch.cat([network(images) for images in data.val_images.split(250)])
    return (logits.argmax(1) == data.val_labels).sum().item(), F.cross_entropy(logits, data.val_labels).item()


def assert_as_recorded(network, recorded, data_dir=Path("data")):
    """Check that a network has as many validation images right as its trial has recorded, and the same loss."""
    data = load(network.config, data_dir)
    right, loss = right_of(network, data)
    assert right == round(recorded["val_acc"] * len(data.val_labels))
    assert right / len(data.val_labels) == recorded["val_acc"]
    assert loss == pytest.approx(recorded["val_loss"], abs=1e-5)


@pytest.fixture(scope="module")
def kept(sweeps, cluster, tmp_path_factory):
    """A study that was launched and keeps all: its home folder."""
    folder = tmp_path_factory.mktemp("kept")
    (folder / "study.toml").write_text(STUDY)
    (folder / "net.py").write_text(NETWORK)
    sweeps("launch", folder / "study.toml", "--home", folder / "home", on=cluster)
    return folder / "home"


@pytest.mark.parametrize("trial", ["last", "averaged", "measured-anew", "own"])
def test_a_kept_network_has_the_recorded_accuracy(sweeps, kept, tmp_path, trial):
    out = tmp_path / "out.safetensors"
    sweeps("model", "kept", trial, "--out", out, "--home", kept)
    (*_, last) = sweeps.json("show", "kept", trial, "--home", kept)["epochs"]
    network = load_model(out, folder=kept.parent if trial == "own" else None)
    if trial == "own":
        code.search(kept.parent)  # its data set is one that ships; its config names the network
    assert network.about.trial == trial
    assert network.about.weights == ("average" if trial in ("averaged", "measured-anew") else "last")
    assert_as_recorded(network, last)
    beside = json.loads((kept / f"studies/kept/models/{trial}.json").read_text())
    assert beside["metrics"]["val_acc"] == last["val_acc"]


@pytest.mark.parametrize("trial", ["averaged", "measured-anew", "own"])
def test_evaluate_says_that_it_is_the_recorded_one(sweeps, kept, trial):
    told = sweeps.json("evaluate", "kept", "--trial", trial, "--home", kept)
    assert (told["trial"], told["recorded"]["same"]) == (trial, True)


def test_a_kept_file_makes_no_code_run_that_its_study_does_not_name(sweeps, kept, tmp_path):
    home = Path(shutil.copytree(kept, tmp_path / "home"))
    path = home / "studies" / "kept" / "models" / "own.safetensors"
    about = read_about(path)
    save_network(path, load_file(path), replace(about, config={**about.config, "model": "antigravity:fly"}))
    done = sweeps("evaluate", "kept", "--trial", "own", "--home", home, code=2)
    assert f"{path}: it names the code antigravity:fly, which study 'kept' does not name" in done.stderr


def test_what_is_kept_is_told(sweeps, kept):
    files = list((kept / "studies/kept/models").iterdir())
    assert sorted(path.suffix for path in files) == 4 * [".json"] + 4 * [".safetensors"]
    told = sweeps.json("status", "kept", "--home", kept)["kept"]
    assert set(told["trials"]) == {"last", "averaged", "measured-anew", "own"}
    assert told["bytes"] == sum(path.stat().st_size for path in files)
    assert "networks kept: of trials " in sweeps("status", "kept", "--home", kept).stdout
    assert sweeps.json("show", "kept", "own", "--home", kept)["network"] == str(
        kept / "studies/kept/models/own.safetensors"
    )


def test_a_file_that_is_there_is_not_replaced_unasked(sweeps, kept, tmp_path):
    there = tmp_path / "x.safetensors"
    there.write_text("mine")
    said = sweeps("model", "kept", "last", "--out", there, "--home", kept, code=2).stderr
    assert f"--out {there}: it is there; --force replaces it" in said
    assert there.read_text() == "mine"
    printed = sweeps.json("model", "kept", "last", "--out", there, "--force", "--home", kept)
    assert (printed["file"], printed["trial"], printed["bytes"]) == (str(there), "last", there.stat().st_size)


def test_the_file_is_named_after_study_and_trial(sweeps, kept, tmp_path):
    done = sweeps("model", "kept", "last", "--home", kept, cwd=tmp_path)
    assert done.stdout == "kept-last.safetensors\n"
    assert (tmp_path / "kept-last.safetensors").is_file()
    assert "--out x.pt: expected a name that ends in .safetensors" in (
        sweeps("model", "kept", "last", "--out", "x.pt", "--home", kept, code=2).stderr
    )


def test_a_trainer_of_ones_own_keeps_what_it_gave(sweeps, cluster, home, tmp_path):
    (tmp_path / "slopes.toml").write_text(OWN)
    (tmp_path / "slopes.py").write_text(TRAINER)
    sweeps("launch", tmp_path / "slopes.toml", "--home", home, on=cluster)
    models = home / "studies/slopes/models"
    assert sorted(path.stem for path in models.glob("*.safetensors")) == ["b", "c"]
    about = read_about(models / "b.safetensors")
    assert (about.trainer, about.epoch, about.weights) == ("slopes:train", 3, "given")
    torch.testing.assert_close(load_file(models / "b.safetensors")["w"], torch.full((3,), 0.9))
    said = sweeps("model", "slopes", "a", "--home", home, code=2).stderr
    assert "the network of trial a is not kept: the trial is not among the best 2; kept are those of: b, c" in said
    said = sweeps("evaluate", "slopes", "--home", home, code=2).stderr
    assert "these tensors are of the trainer slopes:train, which alone knows their network" in said
    # Asked to keep fewer, the study removes the worse one, though there is nothing left to train.
    sweeps("launch", tmp_path / "slopes.toml", "--set", "keep.best=1", "--home", home, on=cluster)
    assert sorted(path.stem for path in models.glob("*.safetensors")) == ["b"]
    assert not (models / "c.json").exists()


@pytest.mark.slow
def test_kept_networks_become_models_in_mlflow(sweeps, store, cluster, home, tmp_path):
    """Made when the launch ends, and once; they predict what the kept network does, without this package's code."""
    text = STUDY.replace("all = true", "best = 2\nmlflow = true").split('[[run]]\nname = "measured-anew"')[0]
    (tmp_path / "study.toml").write_text(text)
    done = sweeps("launch", tmp_path / "study.toml", "--home", home, on=cluster)
    assert "networks added to MLflow as models: 2" in done.stderr
    left = store(home, "kept")
    statuses = {name: run.info.status for name, run in left.trials.items()}
    assert statuses == {"last": "FINISHED", "averaged": "FINISHED"}
    assert "added to MLflow" not in sweeps("resume", "kept", "--home", home, on=cluster).stderr
    script = tmp_path / "predict.py"
    script.write_text(PREDICT)
    models = {name: run.outputs.model_outputs for name, run in left.trials.items()}
    assert [len(outputs) for outputs in models.values()] == [1, 1]
    for trial, (model,) in models.items():
        file = home / f"studies/kept/models/{trial}.safetensors"
        said = run_script(script, f"sqlite:///{home / 'mlflow.db'}", f"models:/{model.model_id}", file)
        assert said.code == 0, said.stderr
        assert said.stdout.split() == ["False", "True"]


@pytest.mark.slow
def test_models_that_cannot_be_made_are_a_message(sweeps, cluster, home, tmp_path):
    text = STUDY.replace("all = true", "best = 1\nmlflow = true").replace('name = "kept"', 'name = "branching"')
    head, _, own = text.partition('[[run]]\nname = "last"')
    (tmp_path / "study.toml").write_text(head + '[[run]]\nname = "own"' + own.split('name = "own"')[1])
    # What the exporter cannot follow: a branch on a value of the images.
    branching = NETWORK.replace("nn.Flatten(),", "Branch(), nn.Flatten(),") + (
        "\n\nclass Branch(nn.Module):\n    def forward(self, x):\n        return x if x.sum().item() > 0 else x * 2\n"
    )
    (tmp_path / "net.py").write_text(branching)
    done = sweeps("launch", tmp_path / "study.toml", "--home", home, on=cluster)
    assert "the kept networks were not added to MLflow: " in done.stderr
    assert "`sweeps resume branching` tries it again" in done.stderr


class MostKept(threading.Thread):
    """Looks at a folder all the time, and notes the most networks that were ever in it."""

    def __init__(self, folder):
        super().__init__(daemon=True)
        self.folder, self.most, self.looks, self._over = folder, 0, 0, threading.Event()

    def run(self):
        while not self._over.wait(0.001):
            self.most = max(self.most, len(list(self.folder.glob("*.safetensors"))))
            self.looks += 1

    def end(self):
        self._over.set()
        self.join()


@pytest.mark.slow
def test_killed_again_and_again_the_folder_never_has_more_than_asked_for(sweeps, listed, home):
    """Killed at any epoch, and at the end of trials; the networks are those of the study that nobody disturbed."""
    models = home / "studies/listed/models"
    watch = MostKept(models)
    watch.start()
    command = sweeps.start("launch", listed.file, "--set", "keep.best=2", "--home", home)
    for epochs in (3, 6, 9):
        command.until(lambda running, epochs=epochs: len(running.epochs) >= epochs or running.code is not None)
        if command.code is not None:
            break
        command.kill()
        assert len(list(models.glob("*.safetensors"))) <= 2
        command = sweeps.start("resume", "listed", "--home", home)
    assert command.wait().code == 0
    watch.end()
    assert watch.looks > 100
    assert watch.most == 2
    undisturbed = listed.store.home / "studies/listed/models"
    rows = sweeps.json("status", "listed", "--home", home)["kept"]["trials"]
    assert rows == sweeps.json("status", "listed", "--home", listed.store.home)["kept"]["trials"][:2]
    for trial in rows:
        mine, theirs = (load_file(folder / f"{trial}.safetensors") for folder in (models, undisturbed))
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    assert sorted(path.name for path in models.iterdir()) == sorted(
        f"{trial}.{kind}" for trial in rows for kind in ("json", "safetensors")
    )
    assert not list((home / "studies/listed/checkpoints").iterdir())
