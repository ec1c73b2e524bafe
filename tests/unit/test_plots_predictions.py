import numpy as np
import pytest

from analysis.plots.predictions import plot_confusion, plot_images, plot_reliability
from analysis.statistics.calibration import reliability
from analysis.statistics.classification import Predictions

RANDOM = np.random.default_rng(0)


def test_every_image_is_drawn_with_its_text():
    images = RANDOM.integers(0, 256, (7, 3, 8, 8), dtype=np.uint8)
    drawn = plot_images(images, [f"image {i}\n$x_1$" for i in range(7)])
    shown = [axes for axes in drawn.axes if axes.images]
    assert len(shown) == 7
    for axes, image in zip(shown, images, strict=True):
        assert np.array_equal(axes.images[0].get_array(), image.transpose(1, 2, 0))
    assert shown[2].texts[0].get_text() == "image 2\n\\$x_1\\$"


def test_grey_images_are_grey():
    (axes, *_) = plot_images(RANDOM.integers(0, 256, (1, 1, 8, 8), dtype=np.uint8), ["grey"]).axes
    (image,) = axes.images
    assert image.get_array().shape == (8, 8)
    assert (image.get_cmap().name, image.norm.vmin, image.norm.vmax) == ("gray", 0, 255)


def test_a_confusion_matrix_has_its_counts():
    axes = plot_confusion(np.array([[90, 10], [0, 1000]]), ["cat", "a class whose name is long"]).axes[0]
    assert {(*text.get_position(), text.get_text()) for text in axes.texts} == {
        (0.5, 0.5, "90"),
        (1.5, 0.5, "10"),
        (1.5, 1.5, "1,000"),
    }
    (cells,) = axes.collections
    assert np.square(cells.get_array()).ravel().tolist() == pytest.approx([0.9, 0.1, 0, 1])
    assert [label.get_text() for label in axes.get_yticklabels()] == ["cat", "a class whose n…"]


def test_a_confusion_matrix_of_many_classes_has_no_room_for_counts():
    axes = plot_confusion(np.eye(100, dtype=np.int64), [str(i) for i in range(100)]).axes[0]
    assert not axes.texts


def test_a_reliability_diagram_has_a_point_and_an_interval_for_each_bin():
    labels, logits = RANDOM.integers(0, 4, 300), 3 * RANDOM.normal(size=(300, 4))
    bins = reliability(Predictions.from_logits(labels, logits))
    top, bottom = plot_reliability(bins).axes
    (points, _, (bars,)) = top.containers[0]
    assert points.get_ydata().tolist() == [each.accuracy.value for each in bins]
    ends = [sorted(y for _, y in segment) for segment in bars.get_segments()]
    assert ends == [pytest.approx([each.accuracy.low, each.accuracy.high]) for each in bins]
    assert sum(bar.get_height() for bar in bottom.patches) == 300


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_figures_are_saved(tmp_path, suffix):
    plot_confusion(np.eye(3, dtype=np.int64), ["a", "b", "c"], path=tmp_path / f"confusion{suffix}")
    assert (tmp_path / f"confusion{suffix}").stat().st_size > 1000


def test_what_cannot_be_drawn_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no image"):
        plot_images(np.zeros((0, 3, 8, 8), np.uint8), [])
    with pytest.raises(ValueError, match="expected one of"):
        plot_reliability([], path=tmp_path / "x.jpeg")
