"""Study files that name networks, data sets and optimizers of one's own for the trainer that ships."""

import sys
from pathlib import Path

import optuna
import pytest

from resnet_core import code
from resnet_core.config import TrialConfig, epoch_sizes
from search_spaces.errors import StudyError
from search_spaces.space import distributions, suggest, trial_config
from search_spaces.study import from_json, load_study, study_hash, to_json
from sweeps.study.trials import Job
from sweeps.tracking.writer import begin_entry

MODULE = """
import numpy as np
from torch import nn
from resnet_core.data import DatasetSpec


def tiny(classes, channels, width: int = 4, deep: bool = False):
    return nn.Sequential(nn.Conv2d(channels, width, 3), nn.Flatten(), nn.LazyLinear(classes))


def read(data_dir, image_size):
    raise AssertionError("a study file is checked without reading images")


def exits():
    raise SystemExit(3)


MADE = DatasetSpec(classes=100, train_size=400, test_size=200, image_sizes=(8, 16), channels=1, read=read)
"""
STUDY = """
name = "mine"
[train]
model = "nets:tiny"
data = "nets:MADE"
optimizer = "torch.optim:RMSprop"
optimizer_options = { alpha = 0.9 }
schedule = "[lr, 0] lin[0, 4]"
[space]
lr = { low = 1e-3, high = 1e-1, log = true }
model_options.width = { choices = [4, 8] }
[search]
trials = 4
first = [ { model_options.width = 8 } ]
"""


@pytest.fixture
def file(tmp_path) -> Path:
    (tmp_path / "nets.py").write_text(MODULE)
    (tmp_path / "mine.toml").write_text(STUDY)
    yield tmp_path / "mine.toml"
    code.search()
    sys.modules.pop("nets", None)


def error_of(file: Path, *overrides: str) -> str:
    with pytest.raises(StudyError) as caught:
        load_study(file, overrides)
    return str(caught.value).replace(f"{file}: ", "")


def test_options_are_sampled_and_reach_the_config(file):
    spec = load_study(file)
    assert list(distributions(spec)) == ["lr", "model_options.width"]
    params = suggest(optuna.create_study().ask(fixed_distributions={}), spec)
    config = trial_config(spec, params)
    assert config.model_options == {"width": params["model_options.width"]}
    assert config.optimizer_options == {"alpha": 0.9}
    assert spec.search.first == [{"model_options.width": 8}]


def test_a_quoted_dotted_key_is_the_same(file):
    nested = load_study(file)
    file.write_text(STUDY.replace("model_options.width", '"model_options.width"'))
    assert study_hash(load_study(file)) == study_hash(nested)


def test_a_condition_names_an_option_in_either_form(file):
    parameter = "model_options.deep = { choices = [true, false], when = { %s = 8 } }\n[search]"
    hashes = set()
    for name in ("model_options.width", '"model_options.width"'):
        file.write_text(STUDY.replace("[search]", parameter % name))
        hashes.add(study_hash(load_study(file)))
    assert len(hashes) == 1


def test_the_data_sets_sizes_are_kept(file):
    spec = load_study(file)
    config = trial_config(spec, {"lr": 0.01, "model_options.width": 4})
    assert epoch_sizes(config) == (400, 200)
    assert config.image_size == 16
    assert config.data_info.classes == 100


def test_a_stored_study_is_read_without_its_code(file):
    spec = load_study(file)
    text, whole = to_json(spec), study_hash(spec)
    config = trial_config(spec, {"lr": 0.01, "model_options.width": 4})
    code.search()
    sys.modules.pop("nets")
    (file.parent / "nets.py").write_text("raise RuntimeError('was imported')")
    stored = from_json(text)
    assert study_hash(stored) == whole
    assert trial_config(stored, {"lr": 0.01, "model_options.width": 4}) == config
    assert "nets" not in sys.modules


def test_an_option_is_a_param_of_mlflow(file):
    config = trial_config(load_study(file), {"lr": 0.01, "model_options.width": 4})
    params = begin_entry(Job(0, "0", config, {}), {})["params"]
    assert (params["model_options.width"], params["optimizer_options.alpha"]) == ("4", "0.9")
    assert "model_options" not in params


def test_a_run_changes_the_options_that_it_names(file):
    file.write_text(
        'name = "runs"\n[train]\nmodel = "nets:tiny"\ndata = "nets:MADE"\nschedule = "[1, 0] lin[0, 1]"\n'
        "model_options = { width = 3, deep = true }\n[[run]]\nname = 'a'\nmodel_options = { width = 5 }\n"
    )
    assert trial_config(load_study(file), {}, run="a").model_options == {"width": 5, "deep": True}


@pytest.mark.parametrize(
    ("override", "said"),
    [
        (
            "train.model_options.widht=3",
            "train.model_options.widht = 3: expected an option of nets:tiny: width, deep; did you mean width?",
        ),
        ("train.model_options.deep=3", "train.model_options.deep = 3: expected true or false"),
        (
            "space.model_options.width.choices=[8, 1.5]",
            "space.model_options.width.choices = 1.5: expected a whole number",
        ),
        ("train.model_options.width=3", "train.model_options.width = 3: expected it in [train] or in [space]"),
        ("train.optimizer_options.alpah=3", "did you mean alpha?"),
        ("train.image_size=12", "train.image_size = 12: expected 8 or 16 for nets:MADE"),
        ("train.model=nets:tinny", 'train.model = "nets:tinny": nets'),
        ("train.data=nets:tiny", 'train.data = "nets:tiny": expected a DatasetSpec'),
        ("train.data=nets:exits", "nets.py, line 16: sys.exit(3) would end the program"),
        ("train.data=imagefolder:photos", "photos/train: no such folder"),
        ("train.data_info=3", "train.data_info = 3: unknown field"),
        (
            "train.model_options.width=[1]",
            "train.model_options.width = [1]: expected true, false, a finite number or a text",
        ),
    ],
)
def test_what_does_not_fit_the_code_is_told_with_its_key(file, override, said):
    assert said in error_of(file, override)


def test_a_folder_of_images_is_beside_the_study_file_and_needs_a_size(file, monkeypatch, tmp_path):
    for name in ("train/a/1.png", "train/b/1.png", "val/a/1.png", "val/b/1.png"):
        path = file.parent / "photos" / name
        path.parent.mkdir(parents=True)
        path.write_bytes(b"")
    monkeypatch.chdir(Path("/"))
    assert "train.image_size: missing; expected 8 to 1024" in error_of(file, "train.data=imagefolder:photos")
    spec = load_study(file, ["train.data=imagefolder:photos", "train.image_size=64"])
    assert spec.train["data"] == f"imagefolder:{file.parent / 'photos'}"
    assert epoch_sizes(trial_config(spec, {"lr": 0.01, "model_options.width": 4})) == (2, 2)


@pytest.mark.parametrize("place", ["~/photos", "../photos", "photos/../../photos/", "{tmp_path}/photos"])
def test_a_folder_of_images_has_one_name(file, monkeypatch, tmp_path, place):
    for name in ("train/a/1.png", "train/b/1.png", "val/a/1.png", "val/b/1.png"):
        (tmp_path / "photos" / name).parent.mkdir(parents=True)
        (tmp_path / "photos" / name).touch()
    for name in ("study/photos", "elsewhere"):
        (tmp_path / name).mkdir(parents=True)
    for path in (file, tmp_path / "nets.py"):
        path.rename(tmp_path / "study" / path.name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path / "elsewhere")
    data = f"train.data=imagefolder:{place.format(tmp_path=tmp_path)}"
    spec = load_study(Path("..") / "study" / file.name, [data, "train.image_size=64"])
    assert spec.train["data"] == f"imagefolder:{tmp_path / 'photos'}"


def test_a_wrong_field_without_a_default_is_told_once(file):
    change = "train.image_size=12"
    assert len(error_of(file, change).splitlines()) == 1


def test_a_data_set_that_is_another_at_every_look_is_told_once(file):
    changing = "from itertools import count\nsizes = count(200)\n\n\ndef changing():\n    size = next(sizes)\n"
    changing += "    return DatasetSpec(2, size, 200, image_sizes=(8,), channels=1, read=read)\n"
    (file.parent / "nets.py").write_text(MODULE + changing)
    (said,) = error_of(file, "train.data=nets:changing").splitlines()
    assert "expected the data set that it was: 2 classes, 200 training and 200 test images; now it has" in said


def test_a_study_without_code_keeps_none(tmp_path):
    file = tmp_path / "plain.toml"
    file.write_text('name = "plain"\n[train]\nschedule = "[1, 0] lin[0, 1]"\n')
    spec = load_study(file)
    assert spec.code is None
    assert trial_config(spec, {}) == TrialConfig("[1, 0] lin[0, 1]")
