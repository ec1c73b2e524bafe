import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from analysis.statistics.calibration import (
    adaptive_calibration_error,
    expected_calibration_error,
    reliability,
)
from analysis.statistics.classification import (
    Predictions,
    accuracy,
    class_results,
    confusion_matrix,
    mean_loss,
    most_confused,
    most_wrong,
)


@st.composite
def predictions(draw):
    images, classes = draw(st.integers(1, 40)), draw(st.integers(2, 12))
    logits = draw(arrays.arrays(np.float32, (images, classes), elements=st.floats(-60, 60, width=32)))
    labels = draw(arrays.arrays(np.int64, images, elements=st.integers(0, classes - 1)))
    return Predictions.from_logits(labels, logits)


@given(predictions())
def test_what_counts_the_same_images_agrees(made):
    confusion = confusion_matrix(made.labels, made.predicted, made.classes)
    share = accuracy(made)
    assert confusion.sum() == len(made.labels)
    assert np.trace(confusion) == made.correct.sum() == round(share.value * len(made.labels))
    assert 0 <= share.low <= share.value <= share.high <= 1
    assert sum(each.images for each in class_results(confusion)) == len(made.labels)
    errors = sum(images for _, _, images in most_confused(confusion, made.classes**2))
    assert errors == len(most_wrong(made, len(made.labels))) == len(made.labels) - made.correct.sum()


@given(predictions(), st.integers(1, 30))
def test_calibration_errors_are_shares(made, bins):
    found = expected_calibration_error(made, bins)
    assert 0 <= found <= 1
    assert 0 <= adaptive_calibration_error(made, bins) <= 1
    parts = reliability(made, bins)
    of_bins = sum(part.images * abs(part.accuracy.value - part.confidence) for part in parts)
    assert found == pytest.approx(of_bins / len(made.labels), abs=1e-12)
    # One bin of all images averages more away than many.
    assert expected_calibration_error(made, 1) <= adaptive_calibration_error(made, bins) + 1e-12


@given(predictions())
def test_an_average_with_itself_changes_nothing(made):
    again = made.averaged_with(made)
    assert again.log_probabilities == pytest.approx(made.log_probabilities, abs=1e-12)


@given(predictions(), predictions())
def test_the_average_has_no_higher_loss_than_the_mean_of_both(one, other):
    """Minus the logarithm is convex."""
    fewest, classes = min(len(one.labels), len(other.labels)), min(one.classes, other.classes)
    labels = one.labels[:fewest] % classes
    pair = [Predictions.from_logits(labels, each.log_probabilities[:fewest, :classes]) for each in (one, other)]
    both = (mean_loss(pair[0]).value + mean_loss(pair[1]).value) / 2
    assert mean_loss(pair[0].averaged_with(pair[1])).value <= both + 1e-9


@given(predictions())
def test_the_order_of_the_images_does_not_matter(made):
    turned = Predictions(made.labels[::-1], made.log_probabilities[::-1])
    assert expected_calibration_error(turned) == pytest.approx(expected_calibration_error(made), abs=1e-12)
    assert mean_loss(turned).value == pytest.approx(mean_loss(made).value)
