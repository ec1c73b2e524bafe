"""Networks in files: what is written is what was validated, and a file that is wrong says so."""

import errno
import json
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import resnet_core
from resnet_core import NetworkFileError, code, load_model
from resnet_core.config import ConfigError, TrialConfig
from resnet_core.images import load
from resnet_core.network_file import About, NetworkWriter, read_about, save_network, sync
from resnet_core.trainer import train

SMALL = TrialConfig(
    "[1e-2, 0] lin[1e-3, 2]", model="resnet11v2", data="digits", image_size=16, train_limit=60, val_limit=90
)
DATA = Path("data")
OWN = """
from torch import nn

def small(classes, channels, image_size, width=8):
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * image_size**2, width), nn.Tanh(), nn.Linear(width, classes))
"""


def trained(config, path):
    return list(train(config, data_dir=DATA, network=NetworkWriter(path, {"study": "s", "trial": "7", "target": 0.9})))


def predicted(network, config):
    """The share of validation images that a network has right, its mean loss and its logits, in a trial's batches."""
    data = load(config, DATA)
    with torch.inference_mode():
        logits = torch.cat([network(images) for images in data.val_images.split(250)])
    right = (logits.argmax(1) == data.val_labels).sum().item()
    return right / len(logits), F.cross_entropy(logits, data.val_labels).item(), logits


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("kept") / "7.safetensors"
    trained(SMALL, path)
    return path


@pytest.mark.parametrize("changes", [{}, {"ema": 0.9}, {"bn_recalibration": 30}, {"ema": 0.9, "bn_recalibration": 30}])
def test_the_kept_network_is_the_one_that_was_validated(changes, tmp_path):
    config, path = replace(SMALL, **changes), tmp_path / "x.safetensors"
    last = trained(config, path)[-1]
    network = load_model(path)
    accuracy, loss, logits = predicted(network, config)
    assert accuracy == last.val_acc
    assert loss == pytest.approx(last.val_loss, abs=1e-6)
    assert network.about.confusion == tuple(
        tuple(((load(config, DATA).val_labels == i) & (logits.argmax(1) == j)).sum().item() for j in range(10))
        for i in range(10)
    )
    assert network.config == config
    assert network.about.weights == ("average" if "ema" in changes else "last")


def test_the_file_says_where_the_network_is_from(file):
    about = read_about(file)
    assert (about.study, about.trial, about.epoch, about.target) == ("s", "7", 2, 0.9)
    assert about.value == about.metrics["val_acc"]
    assert about.classes == tuple("0123456789")
    assert about.versions == {"torch": torch.__version__}
    assert About.from_json(about.to_json()) == about


def test_writing_a_network_does_not_change_the_training(tmp_path):
    without = list(train(SMALL, data_dir=DATA))
    beside = trained(SMALL, tmp_path / "x.safetensors")
    assert [(r.loss, r.val_acc, r.val_loss) for r in beside] == [(r.loss, r.val_acc, r.val_loss) for r in without]


def test_floats_in_0_to_1_give_the_same_as_bytes(file):
    network, images = load_model(file), load(SMALL, DATA).val_images
    with torch.inference_mode():
        torch.testing.assert_close(network(images.float() / 255), network(images), atol=1e-4, rtol=1e-4)


def test_the_network_is_frozen_and_in_inference_mode(file):
    network = load_model(file)
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert resnet_core.KeptNetwork is type(network)


def test_the_file_is_the_state_of_what_is_read(file):
    from safetensors.torch import load_file

    state, tensors = load_model(file).state_dict(), load_file(file)
    assert state.keys() == tensors.keys()
    assert all(torch.equal(state[name], tensors[name]) for name in state)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "No such file"),
        (b"", "no safetensors file"),
        (pickle.dumps({"weights": [1.0]}), "torch.save or pickle"),
        (b"PK\x03\x04 a zip file of torch", "torch.save or pickle"),
        (b"just a text that is long enough", "no safetensors file"),
    ],
)
def test_a_file_that_is_none_of_a_network_is_refused(content, said, tmp_path):
    path = tmp_path / "x.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(NetworkFileError, match=said) as raised:
        load_model(path)
    assert str(path) in str(raised.value)


@pytest.mark.parametrize("share", [0.001, 0.02, 0.5, 0.999])
def test_a_truncated_file_is_refused(file, share, tmp_path):
    whole, path = file.read_bytes(), tmp_path / "x.safetensors"
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(NetworkFileError, match="incomplete or damaged"):
        load_model(path)


def changed(file, tmp_path, change):
    """A copy of a file whose tensors or facts are changed."""
    from safetensors.torch import load_file

    tensors, about, path = load_file(file), json.loads(read_about(file).to_json()), tmp_path / "x.safetensors"
    change(tensors, about)
    save_network(path, tensors, About(**about))
    return path


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t, a: t.pop("mean"), "mean is missing"),
        (lambda t, a: t.update(mean=torch.zeros(3, 5, 5)), r"mean is \[3, 5, 5\]"),
        (lambda t, a: t.pop(next(n for n in t if n.endswith("weight"))), "has no tensor network"),
        (lambda t, a: t.update(more=torch.zeros(1)), "a tensor more, which resnet11v2 has not"),
        (lambda t, a: a["config"].update(model="resnet20v2"), "resnet20v2 needs"),
        (lambda t, a: a["config"].update(data="cifar10", image_size=32), "images of 16 pixels, and of 32"),
        (lambda t, a: a["config"].update(model="no-network"), "cannot be built"),
        (lambda t, a: a["config"].update(nonsense=1), "cannot be built: nonsense"),
        (lambda t, a: a.update(config={}), "cannot be built"),
        (lambda t, a: a.update(classes=[]), "0 classes"),
        (lambda t, a: a.update(classes=["a", "b"]), "needs"),
        (lambda t, a: a.update(channels="3"), "another type"),
        (lambda t, a: a.update(trainer="mlp:train"), "of the trainer mlp:train"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_name(file, tmp_path, change, said):
    with pytest.raises(NetworkFileError, match=said):
        load_model(changed(file, tmp_path, change))


def test_a_safetensors_file_of_somebody_else_is_refused(tmp_path):
    from safetensors.numpy import save_file

    save_file({"x": np.zeros(2, np.float32)}, tmp_path / "x.safetensors")
    with pytest.raises(NetworkFileError, match="says nothing of its network"):
        load_model(tmp_path / "x.safetensors")


def test_a_network_of_ones_own_is_read_with_its_folder_alone(tmp_path, monkeypatch):
    (tmp_path / "kept_net.py").write_text(OWN)
    code.search(tmp_path)
    config, path = replace(SMALL, model="kept_net:small", model_options={"width": 5}), tmp_path / "x.safetensors"
    last = trained(config, path)[-1]
    with pytest.raises(NetworkFileError, match="folder="):
        load_model(path)
    with pytest.raises(code.CodeError, match="no such folder"):
        load_model(path, folder=tmp_path / "nowhere")
    assert predicted(load_model(path, folder=tmp_path), config)[0] == last.val_acc


def test_a_network_of_code_that_is_gone_says_so(file, tmp_path):
    path = changed(file, tmp_path, lambda t, a: a["config"].update(model="gone_net:small"))
    with pytest.raises(code.CodeError, match="no module gone_net"):
        load_model(path, folder=tmp_path)


def test_a_network_whose_state_is_not_all_tensors_is_no_kept_one(tmp_path):
    (tmp_path / "extra_net.py").write_text(
        "from torch import nn\n"
        "class Extra(nn.Linear):\n"
        "    def get_extra_state(self):\n        return {'n': 1}\n"
        "    def set_extra_state(self, state):\n        pass\n"
        "def net(classes, channels, image_size):\n"
        "    return nn.Sequential(nn.Flatten(), Extra(channels * image_size**2, classes))\n"
    )
    code.search(tmp_path)
    with pytest.raises(ConfigError, match="best = 0"):
        trained(replace(SMALL, model="extra_net:net"), tmp_path / "x.safetensors")


def test_arrays_are_written_without_torch(tmp_path):
    script = (
        "import sys, numpy as np; from pathlib import Path; from resnet_core.network_file import *;"
        "save_network(Path('x.safetensors'), {'w': np.arange(6.).reshape(2, 3).T}, About(1, {}, trainer='m:t'));"
        "print('torch' in sys.modules, read_about(Path('x.safetensors')).trainer)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "m:t"]
    from safetensors.numpy import load_file

    np.testing.assert_array_equal(load_file(tmp_path / "x.safetensors")["w"], np.arange(6.0).reshape(2, 3).T)


def test_a_single_number_keeps_its_shape(tmp_path):
    from safetensors.numpy import load_file

    save_network(tmp_path / "x.safetensors", {"steps": np.array(7)}, About(1, {}))
    assert load_file(tmp_path / "x.safetensors")["steps"].shape == ()


def test_shared_and_sliced_tensors_are_written(tmp_path):
    from safetensors.torch import load_file

    flat = torch.arange(12.0)
    tensors = {"a": flat[:6].view(2, 3), "b": flat[6:], "c": flat[6:], "d": flat.view(3, 4).T}
    save_network(tmp_path / "x.safetensors", tensors, About(1, {}))
    read = load_file(tmp_path / "x.safetensors")
    assert all(torch.equal(read[name], tensors[name]) for name in tensors)
    sync(tmp_path / "x.safetensors")


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "x.safetensors"
    save_network(path, {"w": np.zeros(2)}, About(1, {}))
    before = path.read_bytes()

    def full(self, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left") as raised:
        save_network(path, {"w": np.ones(2)}, About(2, {}))
    assert raised.value.errno == errno.ENOSPC
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["x.safetensors"]
