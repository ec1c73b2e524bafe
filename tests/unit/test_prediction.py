"""What a kept network says of its data set's images and of image files."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn import metrics

from resnet_core import load_model
from resnet_core.config import ConfigError, TrialConfig
from resnet_core.data import DATASETS
from resnet_core.images import load
from resnet_core.network_file import NetworkWriter
from resnet_core.prediction import labelled_images, logits_of
from resnet_core.trainer import train
from sweeps.inspection.evaluation import evaluate, predict

DATA = Path("data")
SMALL = TrialConfig(
    "[1e-2, 0] lin[1e-3, 2]",
    model="resnet11v2",
    data="digits",
    image_size=16,
    train_limit=60,
    val_limit=90,
    flip=False,
    bn_momentum=0.5,
)


@pytest.fixture(scope="module")
def network(tmp_path_factory, one_thread):
    path = tmp_path_factory.mktemp("kept") / "7.safetensors"
    list(train(SMALL, data_dir=DATA, network=NetworkWriter(path, {"study": "s", "trial": "7"})))
    return load_model(path)


@pytest.fixture(scope="module")
def found(network):
    return evaluate(network, "validation", DATA)


def test_the_evaluation_has_what_the_trial_has_recorded(network, found):
    told, recorded = found.to_dict(), network.about.metrics
    assert told["accuracy"]["value"] == recorded["val_acc"]
    assert told["loss"]["value"] == pytest.approx(recorded["val_loss"], rel=1e-5)
    assert told["confusion"] == [list(row) for row in network.about.confusion]
    assert told["recorded"] == {"accuracy": recorded["val_acc"], "loss": recorded["val_loss"], "same": True}
    assert f"the same as recorded: {told['correct']} of 90 images" in found.describe()


def test_the_evaluation_agrees_with_scikit_learn(network, found):
    images, labels = labelled_images(SMALL, "validation", DATA)
    probabilities = torch.from_numpy(logits_of(network, images)).double().softmax(1).numpy()
    told = found.to_dict()
    assert told["confusion"] == metrics.confusion_matrix(labels, probabilities.argmax(1), labels=range(10)).tolist()
    assert told["loss"]["value"] == pytest.approx(metrics.log_loss(labels, probabilities, labels=range(10)))
    shares = {each["class"]: each["accuracy"]["value"] for each in told["classes"]}
    recall = metrics.recall_score(labels, probabilities.argmax(1), average=None, labels=range(10))
    assert list(shares.values()) == pytest.approx(recall.tolist())
    worst = told["most_wrong"][0]
    losses = [
        metrics.log_loss([label], [row], labels=range(10)) for label, row in zip(labels, probabilities, strict=True)
    ]
    wrong = [place for place in np.argsort(losses)[::-1] if probabilities[place].argmax() != labels[place]]
    assert worst["image"] == wrong[0]
    assert worst["loss"] == pytest.approx(losses[wrong[0]])


def test_an_evaluation_is_json_and_fits_80_columns(found):
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["images"] == 90
    assert max(map(len, found.describe().splitlines())) <= 80


def test_other_figures_than_the_recorded_ones_are_said(network, found):
    other = replace(network.about, metrics={"val_acc": 0.5, "val_loss": 1.25})
    try:
        network.about, before = other, network.about
        said = found.describe()
    finally:
        network.about = before
    assert "not as recorded: accuracy 0.5000, loss 1.2500; here " in said


def test_flips_are_averaged_where_the_trial_trained_on_flips(network, found):
    assert found.averaged is None
    config = network.config
    try:
        network.config = replace(config, flip=True)
        averaged = evaluate(network, "validation", DATA)
    finally:
        network.config = config
    images, labels = labelled_images(SMALL, "validation", DATA)
    both = [
        torch.from_numpy(logits_of(network, some)).double().softmax(1) for some in (images, images[..., ::-1].copy())
    ]
    mean = ((both[0] + both[1]) / 2).numpy()
    told = averaged.to_dict()["flips_averaged"]
    assert told["accuracy"]["value"] == metrics.accuracy_score(labels, mean.argmax(1))
    assert told["loss"]["value"] == pytest.approx(metrics.log_loss(labels, mean, labels=range(10)))
    assert "flips averaged" in averaged.describe()


def test_the_test_images_are_all_of_them_and_none_that_trained():
    test = DATASETS["digits"].read(DATA, 16)[1]
    for split in ("official", "held-out"):
        images, labels = labelled_images(replace(SMALL, split=split), "test", DATA)
        assert np.array_equal(images, test[0])
        assert np.array_equal(labels, test[1])
    trained = load(replace(SMALL, split="held-out", train_limit=None), DATA).train_images.numpy()
    assert not {image.tobytes() for image in images} & {image.tobytes() for image in trained}
    with pytest.raises(ConfigError, match="pooled has trained on most of the test images"):
        labelled_images(replace(SMALL, split="pooled"), "test", DATA)


def test_pictures_are_drawn(found, tmp_path):
    files = found.draw(tmp_path)
    assert [file.name for file in files] == ["most-wrong.png", "confusion.png", "reliability.png"]
    assert all(Image.open(file).width > 500 for file in files)


def test_an_image_file_is_predicted_as_the_image_of_the_data_set_is(network, tmp_path):
    images, _ = labelled_images(SMALL, "validation", DATA)
    files = []
    for place in range(3):
        files.append(tmp_path / f"{place}.png")
        Image.fromarray(images[place].transpose(1, 2, 0)).save(files[-1])
    shares = torch.from_numpy(logits_of(network, images[:3])).double().softmax(1)
    for place, said in enumerate(predict(network, files)):
        assert said.error is None
        assert said.changes == ()
        names, probabilities = zip(*said.likely, strict=True)
        expected, labels = shares[place].topk(3)
        assert names == tuple(str(label) for label in labels.tolist())
        assert probabilities == pytest.approx(expected.tolist(), abs=1e-5)


def test_an_image_of_the_original_size_is_enlarged_as_the_data_set_is(network, tmp_path):
    """scikit-learn's own images of 8×8 pixels, whose enlargement is rounded twice here."""
    from sklearn.datasets import load_digits

    pixels = (load_digits().images[0] * 255 / 16).round().astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "0.png")
    (said,) = predict(network, [tmp_path / "0.png"])
    read = np.concatenate([part[0] for part in DATASETS["digits"].read(DATA, 16)])
    nearest = min(read, key=lambda image: np.abs(image[0].astype(int) - np.kron(pixels, np.ones((2, 2)))).sum())
    expected = torch.from_numpy(logits_of(network, nearest[None])).softmax(1).max().item()
    assert said.likely[0][1] == pytest.approx(expected, abs=0.05)
    assert said.changes == ("resized from 8×8 pixels to 16×16",)


def test_a_file_that_is_no_image_leaves_the_others_predicted(network, tmp_path):
    Image.new("RGB", (20, 10), "red").save(tmp_path / "red.jpg")
    (tmp_path / "text.png").write_text("a text")
    broken, fine = predict(network, [tmp_path / "text.png", tmp_path / "red.jpg"])
    assert str(tmp_path / "text.png") in broken.error
    assert broken.to_dict() == {"file": str(tmp_path / "text.png"), "error": broken.error}
    assert fine.error is None
    assert len(fine.likely) == 3
    assert sum(share for _, share in fine.likely) <= 1 + 1e-9


def test_no_file_is_predicted(network):
    assert list(predict(network, [])) == []


def test_outputs_that_are_not_finite_are_an_error(network):
    before = network.mean.clone()
    try:
        network.mean.fill_(math.nan)
        with pytest.raises(ValueError, match="not finite"):
            evaluate(network, "validation", DATA)
    finally:
        network.mean.copy_(before)
