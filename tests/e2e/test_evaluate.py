"""Looking at kept networks, as people do: `sweeps evaluate` and `sweeps predict`."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

from resnet_core.data import DATASETS
from resnet_core.network_file import About, read_about, save_network


@pytest.fixture(scope="module")
def best(sweeps, launched):
    """What is told of the best kept network of the study with a space."""
    return sweeps.json("evaluate", "space", "--home", launched.home)


@pytest.fixture
def file(best, launched, tmp_path):
    """The file of that network."""
    kept = launched.home / "studies" / "space" / "models" / f"{best['trial']}.safetensors"
    return Path(shutil.copy(kept, tmp_path / "best.safetensors"))


def image(tmp_path, label=3, name="digit.png"):
    """A file with an image of digits, as the network sees it."""
    images, labels = DATASETS["digits"].read(tmp_path, 16)[1]
    path = tmp_path / name
    Image.fromarray(images[labels == label][0].transpose(1, 2, 0)).save(path)
    return path


def test_the_best_kept_network_has_the_accuracy_that_its_trial_recorded(best, launched):
    curves = launched.store.curves()[best["trial"]]
    assert best["accuracy"]["value"] == curves["val_acc"][-1]
    assert best["loss"]["value"] == pytest.approx(curves["val_loss"][-1], rel=1e-5)
    assert best["recorded"]["same"] is True
    assert best["epoch"] == len(curves["val_acc"])


def test_the_best_one_is_that_of_the_best_trial(best, sweeps, launched):
    fastest = sweeps.json("table", "space", "--home", launched.home)[0]
    assert best["trial"] == str(fastest["trial"])


def test_every_kept_network_has_the_accuracy_that_its_trial_recorded(sweeps, launched):
    curves = launched.store.curves()
    kept = sorted(path.stem for path in (launched.home / "studies" / "space" / "models").glob("*.safetensors"))
    assert len(kept) == 3
    for trial in kept:
        told = sweeps.json("evaluate", "space", "--trial", trial, "--home", launched.home)
        assert (told["trial"], told["accuracy"]["value"]) == (trial, curves[trial]["val_acc"][-1])


def test_the_report_shows_its_confusions(best, sweeps, launched, tmp_path):
    sweeps("report", "space", "--out", tmp_path / "report.html", "--home", launched.home)
    said = f"Trial {best['trial']} after epoch {best['epoch']}: {best['correct']} of 50 validation images right."
    assert said in (tmp_path / "report.html").read_text()


def test_a_file_is_the_same_network_without_its_home(best, sweeps, file):
    assert sweeps.json("evaluate", file, "--home", file.parent / "nowhere") == best
    assert not (file.parent / "nowhere").exists()


def test_a_file_wins_over_a_study_of_its_name(sweeps, launched, file):
    shutil.copy(file, file.parent / "space")
    done = sweeps("evaluate", "space", "--trial", "0", "--home", launched.home, cwd=file.parent, code=2)
    assert "--trial 0: expected with the name of a study; space is one network" in done.stderr


def test_evaluate_draws_pictures(sweeps, file, tmp_path):
    done = sweeps("evaluate", file, "--out", tmp_path / "pictures")
    names = ["confusion.png", "most-wrong.png", "reliability.png"]
    assert sorted(path.name for path in (tmp_path / "pictures").iterdir()) == names
    assert done.stderr.count("drawn into") == 3
    assert "the same as recorded: " in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_test_images_are_said_to_be_used_up_and_those_of_validation_are_not(sweeps, file):
    used = sweeps("evaluate", file, "--split", "test", "--json")
    assert "the trial was chosen by them" in used.stderr  # split official
    assert len(used.stderr.splitlines()) == 1
    assert "test images" not in sweeps("evaluate", file).stderr


def test_predict_tells_classes_of_files_and_goes_on_after_one_that_is_none(sweeps, file, tmp_path):
    good, text = image(tmp_path), tmp_path / "text.png"
    text.write_text("no image")
    done = sweeps("predict", file, good, text, good, code=1)
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    assert lines[0] == lines[1]
    assert lines[0].startswith(str(good)[:20])
    assert done.stderr == f"sweeps: {text}: cannot be read as an image: not a PNG or JPEG file, or a damaged one\n"


def test_predict_prints_json(sweeps, launched, tmp_path):
    (told,) = sweeps.json("predict", "space", image(tmp_path), "--home", launched.home)
    assert told.keys() == {"file", "class", "probability", "next", "changes"}
    assert len(told["next"]) == 2
    assert told["probability"] >= told["next"][0]["probability"] >= told["next"][1]["probability"]


def test_predict_says_what_it_changed(sweeps, file, tmp_path):
    Image.fromarray(np.zeros((30, 40, 4), np.uint8)).save(tmp_path / "wide.png")
    done = sweeps("predict", file, tmp_path / "wide.png")
    assert f"{tmp_path / 'wide.png'}: transparency left out\n" in done.stderr
    assert f"{tmp_path / 'wide.png'}: its middle resized from 40×30 pixels to 16×16\n" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nowhere.safetensors",), "nowhere.safetensors: no such file; expected that of a kept network"),
        (("absent",), "no study 'absent'"),
        (("space", "--code", "."), "--code .: expected with a file"),
        (("space", "--trial", "99"), "99"),
        (("space", "--trial", "2"), "the network of trial 2 is not kept: the trial diverged; kept are those of: "),
        (("space", "--split", "train"), "--split train: expected validation or test"),
        (("space", "--device", "tpu"), "--device tpu: expected cpu or cuda"),
        (("space", "--out", "a/b/c"), "--out a/b/c: No such file or directory"),
    ],
)
def test_evaluate_refuses(sweeps, launched, arguments, said):
    done = sweeps("evaluate", *arguments, "--home", launched.home, code=2)
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def of_own_trainer(path):
    save_network(path, {"w": np.zeros(3, np.float32)}, About(epoch=1, config={}, trainer="mlp:train", weights="given"))


def a_pickle(path):
    path.write_bytes(b"\x80\x02}q\x00.")


def of_own_code(path):
    about = About(
        epoch=1,
        config={"schedule": "[0, 0] lin[0, 1]", "model": "nets:small", "data": "digits", "image_size": 16},
        classes=tuple("0123456789"),
        channels=3,
        image_size=16,
    )
    save_network(path, {"mean": np.zeros((3, 16, 16), np.float32)}, about)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (of_own_trainer, "these tensors are of the trainer mlp:train"),
        (a_pickle, "a file of torch.save or pickle, which is not read"),
        (
            of_own_code,
            "nets:small, code of one's own; if you trust it, name the folder of its module: --code FOLDER",
        ),
    ],
)
@pytest.mark.parametrize("command", ["evaluate", "predict"])
def test_a_file_that_is_no_network_of_ours_is_told_in_a_line(sweeps, tmp_path, command, make, said):
    path = tmp_path / "x.safetensors"
    make(path)
    images = [image(tmp_path)] if command == "predict" else []
    done = sweeps(command, path, *images, code=2)
    assert said in done.stderr
    assert str(path) in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_network_of_other_weights_is_not_as_recorded(sweeps, file):
    about, tensors = read_about(file), load_file(file)
    name = max(tensors, key=lambda name: "weight" in name and tensors[name].ndim == 2)
    save_network(file, tensors | {name: -tensors[name]}, about)
    assert f"not as recorded: accuracy {about.metrics['val_acc']:.4f}" in sweeps("evaluate", file).stdout
    assert sweeps.json("evaluate", file)["recorded"]["same"] is False


def test_a_data_set_of_ones_own_is_imported_only_where_that_is_allowed(sweeps, tmp_path, file):
    about, tensors = read_about(file), load_file(file)
    ran = tmp_path / "ran"
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "mine.py").write_text(
        f"from pathlib import Path\nfrom resnet_core.data import DATASETS\nPath({str(ran)!r}).touch()\n"
        "DATA = DATASETS['digits']\n"
    )
    info = {"classes": 10, "train_size": 1438, "test_size": 359}
    config = {**about.config, "data": "mine:DATA", "data_info": info}
    save_network(file, tensors, About(**{**vars(about), "config": config}))
    done = sweeps("evaluate", file, cwd=tmp_path / "code", code=2)
    assert "its images are of mine:DATA, code of one's own" in done.stderr
    assert not ran.exists()
    assert sweeps.json("evaluate", file, "--code", tmp_path / "code")["recorded"]["same"] is True
    assert ran.exists()
