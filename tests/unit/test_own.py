"""Networks, data sets and optimizers of one's own in the trainer that ships."""

import dataclasses
import itertools
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from resnet_core import checkpoint as checkpoints
from resnet_core import code, own
from resnet_core.code import CodeError
from resnet_core.config import ConfigError, TrialConfig, epoch_sizes
from resnet_core.data import DataError, DatasetInfo
from resnet_core.images import load
from resnet_core.network import build, trainable_parameters
from resnet_core.optimizer import OwnOptimizer, StepValues
from resnet_core.trainer import seconds_per_epoch, train
from resnet_core.training_run import TrainingRun

pytestmark = pytest.mark.usefixtures("one_thread")

MODULE = '''
import dataclasses
from typing import Literal
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from resnet_core.data import DatasetSpec


def tiny(classes, channels, width: int = 4, kind: Literal["relu", "tanh"] = "relu", wide: bool = False):
    """A network without batch norm, which reshapes its maps and drops some of them."""
    act = nn.ReLU() if kind == "relu" else nn.Tanh()
    return nn.Sequential(nn.Conv2d(channels, width, 3), act, View(), nn.Dropout(0.5), nn.LazyLinear(classes))


class View(nn.Module):
    def forward(self, x):
        return F.adaptive_avg_pool2d(x, 2).contiguous().view(len(x), -1)


class Counting(nn.Module):
    """A network with a buffer, a frozen layer, and a parameter that two layers share."""

    def __init__(self, classes, image_size, momentum, factor: float):
        super().__init__()
        self.seen = (classes, image_size, momentum, factor)
        self.register_buffer("steps", torch.zeros(()))
        self.first = nn.Conv2d(3, 3, 3, padding=1)
        self.second = nn.Conv2d(3, 3, 3, padding=1)
        self.second.weight = self.first.weight
        self.frozen = nn.Linear(3, 3)
        self.frozen.requires_grad_(False)
        self.out = nn.Linear(3, classes)

    def forward(self, x):
        if self.training:
            self.steps += 1
        x = self.second(F.relu(self.first(x))).mean((2, 3))
        return self.out(self.frozen(x))


class Trained(nn.Module):
    """A network that returns something else in training than in inference."""

    def __init__(self, classes, image_size, returned: str):
        super().__init__()
        self.out, self.returned = nn.Linear(image_size**2, classes), returned

    def forward(self, x):
        logits = self.out(x.flatten(1))
        if not self.training:
            return logits
        if self.returned == "fails":
            raise ValueError("no training")
        return {"pair": (logits, logits), "fewer": logits[:, :2], "detached": logits.detach()}[self.returned]


def twice_as_many(classes):
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(2 * classes))


def fails(classes):
    raise ValueError("no such thing")


def exits(classes):
    raise SystemExit("no such thing")


def without_classes(width):
    return nn.Identity()


def read(data_dir, image_size):
    random = np.random.default_rng(0)
    parts = []
    for count in (40, 20):
        labels = np.arange(count) % 4
        images = random.integers(0, 99, (count, 1, image_size, image_size), np.uint8) + 40 * labels[:, None, None, None]
        parts.append((images.astype(np.uint8), labels))
    return tuple(parts)


MADE = DatasetSpec(classes=4, train_size=40, test_size=20, image_sizes=(8, 16), channels=1, read=read)


def made():
    return MADE


def reads(returned):
    return dataclasses.replace(MADE, read=lambda data_dir, image_size: returned)


NOTHING = reads(None)
LISTS = reads((([[3]], [1]), ([[3]], [1])))
TENSORS = reads(tuple((torch.zeros(3), torch.zeros(3)) for _ in range(2)))
COUNTED = dataclasses.replace(MADE, classes=np.int64(4), train_size=np.int32(40), image_sizes=[np.int64(8), 16])
MIRRORED = dataclasses.replace(MADE, read=lambda *where: tuple((x[..., ::-1], y) for x, y in read(*where)))
NO_MEAN = dataclasses.replace(MADE, mean=lambda images: 0.5)
FLAT_MEAN = dataclasses.replace(MADE, mean=lambda images: images.mean((0, 2, 3)))
PLAIN_MEAN = dataclasses.replace(MADE, mean=lambda images: np.full((1, 1, 1), 0.5))
TRUE_CLASSES = dataclasses.replace(MADE, classes=True)
TEXT_SIZES = dataclasses.replace(MADE, image_sizes=("8",))
FALLING_SIZES = dataclasses.replace(MADE, image_sizes=(16, 8))
NO_READ = dataclasses.replace(MADE, read=3)


WRONG = DatasetSpec(classes=4, train_size=41, test_size=20, image_sizes=(8, 16), channels=1, read=read)
NUMBER = 3


class Kept(torch.optim.SGD):
    """An optimizer that keeps more than tensors."""

    def __init__(self, params, lr, what: str):
        super().__init__(params, lr)
        self.state["memory"] = {"object": torch.nn.Identity(), "function": lambda: 3}[what]


class Exits(torch.optim.Optimizer):
    def __init__(self, params, lr):
        raise SystemExit(3)


class ExitsForward(nn.Module):
    def __init__(self, classes):
        super().__init__()

    def forward(self, images):
        raise SystemExit(3)


class Careless(torch.optim.Optimizer):
    def __init__(self, params, lr):
        pass


class Sign(torch.optim.Optimizer):
    """Steps of the gradient's sign, with a memory of its own."""

    def __init__(self, params, lr, weight_decay=0.5, momentum=0.0, *, share: float = 1.0):
        super().__init__(params, {"lr": lr, "momentum": momentum, "share": share, "weight_decay": weight_decay})
        self.given = (lr, weight_decay, momentum, share)

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                mean = self.state[p].setdefault("mean", torch.zeros_like(p, dtype=torch.float64))
                mean.lerp_(p.grad.double(), 1 - group["momentum"])
                p.sub_(mean.sign().float(), alpha=group["lr"] * group["share"])
'''


@pytest.fixture(autouse=True)
def _mine(tmp_path):
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "mine.py").write_text(MODULE)
    code.search(folder)
    yield
    code.search()
    sys.modules.pop("mine", None)


def config(**fields: object) -> TrialConfig:
    values = {
        **{"schedule": "[0.01, 0] lin[0.002, 3]", "model": "mine:tiny", "data": "mine:MADE", "image_size": 8},
        **{"batch_size": 16, "shift": 0.1},
    }
    return TrialConfig.from_dict({**values, **fields})


def curve(config: TrialConfig, **arguments: object) -> list[object]:
    records = train(config, data_dir=Path("nowhere"), **arguments)  # type: ignore[arg-type]
    return [dataclasses.replace(r, seconds=0, images_per_second=0) for r in records]


# Networks


def test_a_network_of_ones_own_learns():
    records = curve(config(schedule="[0.02, 0] lin[0.01, 15]", shift=0.0, flip=False, model_options={"width": 8}))
    assert records[-1].loss < records[0].loss


def test_its_options_reach_the_factory():
    narrow, wide = (trainable_parameters(build(config(model_options={"width": width}))) for width in (4, 8))
    assert narrow == 4 * 9 + 4 + 16 * 4 + 4
    assert wide == 8 * 9 + 8 + 32 * 4 + 4


def test_fields_of_the_config_and_facts_of_the_data_reach_the_factory():
    network = build(
        config(model="mine:Counting", data="digits", image_size=16, momentum=0.8, model_options={"factor": 2})
    )
    assert network.seen == (10, 16, 0.8, 2)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (
            {"model_options": {"widht": 3}},
            "model_options.widht = 3: expected an option of mine:tiny: width, kind, wide; did you mean width?",
        ),
        ({"model_options": {"width": 3.5}}, "model_options.width = 3.5: expected a whole number"),
        ({"model_options": {"width": True}}, "model_options.width = True: expected a whole number"),
        ({"model_options": {"kind": "elu"}}, "model_options.kind = 'elu': expected one of 'relu', 'tanh'"),
        ({"model_options": {"wide": 1}}, "model_options.wide = 1: expected true or false"),
        (
            {"model_options": {"classes": 3}},
            "model_options.classes = 3: expected none: mine:tiny gets it as a fact of the data set",
        ),
        (
            {"model": "mine:Counting", "data": "digits", "image_size": 16},
            "model_options.factor = None: expected a value: mine:Counting has no default for it",
        ),
        (
            {"model": "mine:Counting", "model_options": {"momentum": 0.5, "factor": 1}},
            "model_options.momentum = 0.5: expected none: mine:Counting gets it as a field of [train]",
        ),
        ({"head": "max"}, "head = 'max': expected none: mine:tiny does not take it"),
        ({"model": "mine:without_classes"}, "a function with a parameter named classes"),
        ({"model": "mine:NUMBER"}, "model = 'mine:NUMBER': expected a function or a class, not a int"),
        ({"data": "mine:NUMBER"}, "data = 'mine:NUMBER': expected a DatasetSpec, or a function that returns one"),
        ({"image_size": 12}, "image_size = 12: expected 8 or 16 for mine:MADE"),
        (
            {"optimizer": "mine:NUMBER"},
            "optimizer = 'mine:NUMBER': expected a class derived from torch.optim.Optimizer",
        ),
        ({"optimizer": "torch.optim:LBFGS"}, "expected an optimizer whose step needs no closure"),
        (
            {"optimizer": "torch.optim:RMSprop", "optimizer_options": {"lr": 1}},
            "optimizer_options.lr = 1: expected none: torch.optim:RMSprop gets it as a field of [train]",
        ),
        (
            {"optimizer": "torch.optim:RMSprop", "optimizer_options": {"alhpa": 1}},
            "did you mean alpha?",
        ),
        ({"optimizer": "torch.optim:RMSprop", "nesterov": True}, "nesterov = True: expected false"),
    ],
)
def test_what_does_not_fit_the_code_is_refused_by_name(fields, said):
    with pytest.raises(ConfigError) as caught:
        own.resolve(config(**fields))
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (
            {"model_options": {"width": [1]}},
            "model_options.width = [1]: expected true, false, a finite number or a text",
        ),
        ({"model": "resnet11v2", "model_options": {"width": 3}}, "expected none: resnet11v2 has fields of TrialConfig"),
        ({"optimizer": "adamw", "optimizer_options": {"a": 3}}, "optimizer_options.a = 3: expected none: adamw"),
        ({"model": "resnet11v2", "image_size": 8}, "image_size = 8: expected 14 or more for resnet11v2"),
        ({"model": "tiny"}, '"module:factory" for one of your own'),
        ({"data": "made"}, '"module:object" for one of your own'),
        ({"optimizer": "sign"}, '"module:class" for one of your own'),
    ],
)
def test_what_needs_no_code_is_refused_when_the_config_is_made(fields, said):
    with pytest.raises(ConfigError) as caught:
        config(**fields)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("mine:twice_as_many", r"logits \[2, 4\] of images \[2, 1, 8, 8\], not \[2, 8\]"),
        ("mine:fails", r"its factory failed: .*mine\.py, line \d+: ValueError: no such thing"),
        ("mine:exits", r"its factory failed: .*mine\.py, line \d+: sys\.exit\(.no such thing.\) would end"),
        ("mine:ExitsForward", r"it failed: .*mine\.py, line \d+: sys\.exit\(3\) would end"),
        ("mine:made_up", "has no made_up"),
    ],
)
def test_a_network_that_does_not_work_is_refused_by_name(model, said):
    with pytest.raises((ConfigError, CodeError), match=said):
        build(config(model=model))


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        ("pair", r"expected logits \[16, 4\] in training, too, not tuple"),
        ("fewer", r"expected logits \[16, 4\] in training, too, not \[16, 2\]"),
        ("detached", "expected logits that depend on its parameters; these have no gradient"),
    ],
)
def test_a_network_that_returns_no_logits_in_training_is_refused_by_name(returned, said):
    with pytest.raises(ConfigError, match=said):
        curve(config(model="mine:Trained", model_options={"returned": returned}))


def test_a_config_is_read_without_its_code():
    code.search()
    read = TrialConfig.from_dict(
        config(data_info={"classes": 4, "train_size": 40, "test_size": 20}, val_limit=7).to_dict()
    )
    assert epoch_sizes(read) == (40, 7)
    assert "mine" not in sys.modules


def test_a_config_without_code_has_no_key_of_it():
    assert {"model_options", "optimizer_options", "data_info"}.isdisjoint(TrialConfig("[1, 0] lin[0, 1]").to_dict())


def test_the_order_of_options_does_not_matter():
    one, other = config(model_options={"width": 3, "wide": True}), config(model_options={"wide": True, "width": 3})
    assert one == other
    assert hash(one) == hash(other)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_frozen_layer_keeps_its_weights_and_a_shared_one_is_trained_once(tmp_path, precision):
    settings = {"model": "mine:Counting", "data": "digits", "image_size": 16, "train_limit": 40, "val_limit": 20}
    trained = config(**settings, weight_decay=0.1, model_options={"factor": 1.0}, precision=precision, optimizer="sgd")
    start = build(trained)
    curve(trained, checkpoint=tmp_path / "trial.pt")
    state = checkpoints.load(tmp_path / "trial.pt")["network"]
    assert torch.equal(state["frozen.weight"], start.frozen.weight)
    assert torch.equal(state["first.weight"], state["second.weight"])
    assert not torch.equal(state["first.weight"], start.first.weight)
    assert state["steps"] == 9


def test_a_shared_weight_gets_the_gradients_of_both_layers():
    settings = {"model": "mine:Counting", "data": "digits", "image_size": 16, "train_limit": 16, "val_limit": 10}
    plain = {"optimizer": "sgd", "momentum": 0.0, "shift": 0.0, "flip": False, "epochs": 1}
    shared = config(**settings, **plain, model_options={"factor": 1.0})
    network, data = build(shared), load(shared, Path("nowhere"))
    images = data.train_images / 255 - data.mean
    F.cross_entropy(network(images), data.train_labels).backward()
    expected = network.first.weight - 0.01 * network.first.weight.grad
    run = TrainingRun(shared, data, torch.device("cpu"))
    run.train_epoch(1)
    torch.testing.assert_close(run._network.first.weight, expected, rtol=1e-4, atol=1e-6)


OPTIMIZERS = ["adamw", "mine:Sign", "torch.optim:RMSprop", "torch.optim:NAdam", "torch.optim:Adafactor"]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_continued_run_is_the_run_that_was_never_interrupted(tmp_path, optimizer):
    trial = config(optimizer=optimizer, weight_decay=0.1)
    whole = curve(trial)
    interrupted = train(trial, data_dir=Path("nowhere"), checkpoint=tmp_path / "trial.pt")
    list(itertools.islice(interrupted, 1))
    interrupted.close()
    torch.manual_seed(5)  # what happens in between does not matter
    assert curve(trial, checkpoint=tmp_path / "trial.pt") == whole


def test_a_checkpoint_of_another_optimizer_is_refused_by_what_differs(tmp_path):
    curve(config(optimizer="adamw", epochs=1), checkpoint=tmp_path / "trial.pt")
    other = config(optimizer="mine:Sign", optimizer_options={"share": 0.5}, epochs=1)
    with pytest.raises(checkpoints.CheckpointError, match=r"of another run \(optimizer, optimizer_options differ\)"):
        curve(other, checkpoint=tmp_path / "trial.pt")


def test_seconds_per_epoch_are_measured():
    assert seconds_per_epoch(config()) > 0


# Data sets


@pytest.mark.parametrize("name", ["mine:MADE", "mine:made"])
def test_a_data_set_is_an_object_or_a_function(name):
    data = load(config(data=name, image_size=None), Path("nowhere"))
    assert data.train_images.shape == (40, 1, 16, 16)


def test_images_that_are_not_as_the_data_set_says_are_reported():
    with pytest.raises(
        DataError, match=r"training images of mine:WRONG are uint8 \[40, 1, 8, 8\]: expected uint8 \[41"
    ):
        load(config(data="mine:WRONG"), Path("nowhere"))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("NOTHING", "read of mine:NOTHING has returned NoneType: expected ((images, labels), (test images, test"),
        ("LISTS", "read of mine:LISTS has returned ((list, list), (list, list)): expected"),
        ("TENSORS", "read of mine:TENSORS has returned ((Tensor, Tensor), (Tensor, Tensor)): expected"),
        ("NO_MEAN", "mean of mine:NO_MEAN has returned a value of type float: expected an array [1, 8, 8]"),
        ("FLAT_MEAN", "mean of mine:FLAT_MEAN has returned [1]: expected an array [1, 8, 8]"),
    ],
)
def test_what_the_functions_of_a_data_set_return_is_checked(name, said):
    with pytest.raises(DataError) as caught:
        load(config(data=f"mine:{name}"), Path("nowhere"))
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("TRUE_CLASSES", "classes in its DatasetSpec to be a whole number of 2 or more, not True"),
        ("TEXT_SIZES", "image_sizes in its DatasetSpec to be one whole number or more"),
        ("FALLING_SIZES", "image_sizes in its DatasetSpec of 1 or more, in rising order, not (16, 8)"),
        ("NO_READ", "read in its DatasetSpec to be a function, not 3"),
    ],
)
def test_a_wrong_data_set_is_refused_by_its_field(name, said):
    with pytest.raises(ConfigError) as caught:
        own.dataset(f"mine:{name}")
    assert said in str(caught.value)


def test_a_data_set_may_be_counted_with_numpy():
    spec = own.dataset("mine:COUNTED")
    assert {type(value) for value in (spec.classes, spec.train_size, *spec.image_sizes)} == {int}


def test_images_may_be_a_view_of_others():
    mirrored, made = (load(config(data=name), Path("nowhere")) for name in ("mine:MIRRORED", "mine:MADE"))
    assert torch.equal(mirrored.train_images, made.train_images.flip(3))


def test_a_mean_may_be_one_number_a_channel():
    assert load(config(data="mine:PLAIN_MEAN"), Path("nowhere")).mean.tolist() == [[[0.5]]]


def test_a_data_set_that_has_changed_since_the_study_began_is_reported():
    with pytest.raises(ConfigError, match="that it was: 5 classes, 40 training and 20 test images; now it has 4 cl"):
        own.resolve(config(data_info=DatasetInfo(5, 40, 20).__dict__))


@pytest.mark.parametrize("bad", ["raise ValueError('broken')", "import nothing_like_that"])
def test_code_that_fails_is_reported_with_its_file_and_line(tmp_path, bad):
    (tmp_path / "code" / "mine_broken.py").write_text(textwrap.dedent(bad))
    with pytest.raises(CodeError, match=r"mine_broken\.py, line 1"):
        own.resolve(config(data="mine_broken:DATA"))


# Folders of images


def image(path: Path, shade: int, size: tuple[int, int] = (20, 12)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((size[1], size[0], 3), shade, np.uint8)).save(path)


@pytest.fixture
def folder(tmp_path) -> Path:
    root = tmp_path / "photos"
    for shade, name in enumerate(("bird", "cat")):
        for i in range(10):
            image(root / "train" / name / f"{i}.png", 100 * shade + i)
        image(root / "val" / name / "0.jpg", 100 * shade)
    return root


def of_folder(folder: Path, **fields: object) -> TrialConfig:
    return config(data=f"imagefolder:{folder}", image_size=16, **fields)


def test_a_folder_of_images_is_a_data_set(folder):
    data = load(of_folder(folder), Path("nowhere"))
    assert data.train_images.shape == (20, 3, 16, 16)
    assert data.train_labels.tolist() == [0] * 10 + [1] * 10
    assert data.val_labels.tolist() == [0, 1]
    assert data.train_images[13].unique().tolist() == [103]


def test_without_val_a_stratified_fifth_is_held_out(tmp_path):
    for shade, name in enumerate(("bird", "cat")):
        for i in range(10):
            image(tmp_path / "photos" / "train" / name / f"{i}.png", 100 * shade + i)
    data = load(of_folder(tmp_path / "photos"), Path("nowhere"))
    assert data.train_labels.tolist() == [0] * 8 + [1] * 8
    assert data.val_labels.tolist() == [0, 0, 1, 1]


def test_images_in_a_folder_are_counted_without_being_read(tmp_path):
    for name in ("train/a/1.png", "train/b/1.png", "val/a/1.png", "val/b/1.png"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(b"no image")
    assert own.dataset(f"imagefolder:{tmp_path}").info == DatasetInfo(2, 2, 2)


def test_a_folder_that_is_a_link_is_followed(folder, tmp_path):
    (tmp_path / "link").symlink_to(folder)
    assert own.dataset(f"imagefolder:{tmp_path / 'link'}").info == DatasetInfo(2, 20, 2)


@pytest.mark.parametrize("name", ["._3.png", "folder.png", ".ipynb_checkpoints/3-checkpoint.png"])
def test_what_is_no_image_in_spite_of_its_name_is_passed_over(folder, name):
    path = folder / "train" / "cat" / name
    path.parent.mkdir(exist_ok=True)
    path.mkdir() if name == "folder.png" else path.write_bytes(b"what a Mac notes about 3.png")
    assert len(load(of_folder(folder), Path("nowhere")).train_labels) == 20


def test_an_image_of_16_bits_a_pixel_keeps_its_shades(folder):
    shades = np.tile(np.array([[0], [20_000], [65_535]], np.uint16), (1, 3)).repeat(8, 0).repeat(8, 1)
    Image.fromarray(shades).save(folder / "train" / "bird" / "0.png")
    read = load(config(data=f"imagefolder:{folder}", image_size=24), Path("nowhere")).train_images[0]
    assert read[0, [0, 12, 23], 0].tolist() == [0, 20_000 // 256, 255]


def test_a_photo_is_turned_upright(folder):
    held = Image.Exif()
    held[0x0112] = 6  # the top of what was seen is at the right
    shades = np.zeros((32, 32, 3), np.uint8)
    shades[:16] = 255
    Image.fromarray(shades).save(folder / "train" / "bird" / "0.png", exif=held)
    read = load(of_folder(folder), Path("nowhere")).train_images[0, 0]
    assert (read[:, 0].tolist(), read[:, 15].tolist()) == ([0] * 16, [255] * 16)


@pytest.mark.parametrize("ending", ["gif", "tif"])
def test_other_kinds_of_images_are_read(folder, ending):
    image(folder / "train" / "bird" / f"x.{ending}", 50)
    assert load(of_folder(folder), Path("nowhere")).train_images[10].unique().tolist() == [50]


def test_an_image_of_fractions_is_refused(folder):
    Image.fromarray(np.full((9, 9), 0.5, np.float32)).save(folder / "train" / "bird" / "0.tiff")
    with pytest.raises(DataError, match="expected whole numbers of 8 or 16 bits a pixel"):
        load(of_folder(folder), Path("nowhere"))


def damage(folder: Path) -> None:
    (folder / "train" / "cat" / "3.png").write_bytes(b"half")


def test_an_image_that_cannot_be_read_is_reported_by_its_path(folder):
    damage(folder)
    with pytest.raises(DataError, match=r"train/cat/3\.png: cannot be read as an image"):
        load(of_folder(folder), Path("nowhere"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda root: (root / "train" / "dog").mkdir(), r"dog: a class without an image"),
        (lambda root: image(root / "val" / "dog" / "1.png", 3), r"train and val have other classes: dog only in val"),
        (lambda root: (root / "train").rename(root / "training"), r"train: no such folder"),
    ],
)
def test_a_folder_that_is_not_as_expected_is_reported(folder, change, said):
    change(folder)
    with pytest.raises(DataError, match=said):
        own.resolve(of_folder(folder))


def test_a_folder_of_images_needs_an_image_size(folder):
    with pytest.raises(ConfigError, match="image_size = None: expected 8 to 1024"):
        own.resolve(config(data=f"imagefolder:{folder}", image_size=None))


# Optimizers


def made_optimizer(**fields: object) -> torch.optim.Optimizer:
    return own.optimizer(config(**fields), [torch.nn.Parameter(torch.ones(3))])


def test_an_optimizer_gets_the_settings_that_its_constructor_names():
    made = made_optimizer(optimizer="mine:Sign", momentum=0.7, optimizer_options={"share": 0.5})
    assert made.given == (0.01, 0.0, 0.7, 0.5)


def test_betas_are_momentum_and_beta2():
    made = made_optimizer(optimizer="torch.optim:NAdam", momentum=0.7, beta2=0.95, eps=1e-5)
    (group,) = made.param_groups
    assert (group["betas"], group["eps"], group["weight_decay"]) == ((0.7, 0.95), 1e-5, 0)


def test_schedules_of_lr_decay_and_momentum_are_applied_at_every_step():
    network = torch.nn.Linear(1, 1, bias=False)
    optimizer = OwnOptimizer(network, config(optimizer="torch.optim:SGD", momentum=0.5))
    weight, buffer = network.weight.item(), None
    optimizer.plan(StepValues([0.1, 0.2], [0.5, 0.25], [0.5, 0.25]))
    for lr, decay, momentum in [(0.1, 0.5, 0.5), (0.2, 0.25, 0.25)]:
        network.weight.grad.fill_(2.0)
        optimizer.apply()
        buffer = 2.0 if buffer is None else momentum * buffer + 2.0
        weight = weight * (1 - lr * decay) - lr * buffer
        assert network.weight.item() == pytest.approx(weight, rel=1e-6)


def test_an_optimizer_whose_constructor_fails_is_refused():
    with pytest.raises(ConfigError, match="ValueError: Invalid alpha"):
        made_optimizer(optimizer="torch.optim:RMSprop", optimizer_options={"alpha": -1.0})


def test_an_optimizer_that_fails_is_told_with_its_line():
    with pytest.raises(ConfigError, match=r"mine\.py, line \d+: KeyError: 'shape'"):
        made_optimizer(optimizer="mine:Kept", optimizer_options={"what": "shape"})


def test_an_optimizer_does_not_end_the_program():
    with pytest.raises(ConfigError, match=r"mine\.py, line \d+: sys\.exit\(3\) would end"):
        made_optimizer(optimizer="mine:Exits")


def test_an_optimizer_without_parameter_groups_is_refused():
    with pytest.raises(ConfigError, match="an optimizer whose parameter groups have lr"):
        made_optimizer(optimizer="mine:Careless")


@pytest.mark.parametrize(("what", "said"), [("object", "Identity"), ("function", "lambda")])
def test_an_optimizer_whose_state_a_checkpoint_cannot_keep_is_refused_at_once(tmp_path, what, said):
    with pytest.raises(ConfigError, match=f"of these, which a checkpoint can keep: .*{said}"):
        curve(config(optimizer="mine:Kept", optimizer_options={"what": what}), checkpoint=tmp_path / "trial.pt")


def test_a_momentum_schedule_needs_a_momentum():
    with pytest.raises(ConfigError, match=r"none: torch\.optim:Adagrad has no momentum"):
        made_optimizer(optimizer="torch.optim:Adagrad", momentum_schedule="[0.9, 0]")
