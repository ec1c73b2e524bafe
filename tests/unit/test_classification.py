import math

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics
from sklearn.calibration import calibration_curve

from analysis.statistics.calibration import (
    adaptive_calibration_error,
    calibrated_error,
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


def made(images=500, classes=10, sharpness=2.0, seed=0):
    """Logits that point at the true class more often than at others."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, images)
    logits = sharpness * random.normal(size=(images, classes))
    logits[np.arange(images), labels] += 2
    return labels, logits


def calibrated(images, classes=5, seed=0):
    """Predictions whose labels are drawn from their own probabilities."""
    random = np.random.default_rng(seed)
    probabilities = random.dirichlet(np.full(classes, 0.5), images)
    labels = (random.random((images, 1)) > probabilities.cumsum(1)).sum(1)
    return Predictions(labels.clip(0, classes - 1), np.log(probabilities))


def test_loss_and_confusion_are_those_of_scikit_learn():
    labels, logits = made()
    predictions = Predictions.from_logits(labels, logits.astype(np.float32))
    probabilities = np.exp(predictions.log_probabilities)
    assert mean_loss(predictions).value == pytest.approx(metrics.log_loss(labels, probabilities, labels=range(10)))
    assert accuracy(predictions).value == metrics.accuracy_score(labels, logits.argmax(1))
    found = confusion_matrix(labels, predictions.predicted, 10)
    assert found.tolist() == metrics.confusion_matrix(labels, logits.argmax(1), labels=range(10)).tolist()
    recalls = metrics.recall_score(labels, logits.argmax(1), average=None)
    assert [each.accuracy.value for each in class_results(found)] == pytest.approx(recalls)


def test_the_intervals_are_those_of_scipy():
    predictions = Predictions.from_logits(*made(images=300))
    correct, found = int(predictions.correct.sum()), accuracy(predictions)
    expected = stats.binomtest(correct, 300).proportion_ci(method="wilson")
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    loss = mean_loss(predictions)
    of_losses = stats.t.interval(0.95, 299, np.mean(predictions.losses), stats.sem(predictions.losses))
    assert (loss.low, loss.high) == pytest.approx(of_losses)


def test_the_reliability_bins_are_those_of_scikit_learn():
    predictions = Predictions.from_logits(*made())
    shares, means = calibration_curve(predictions.correct, predictions.confidences, n_bins=15)
    bins = reliability(predictions)
    assert [each.accuracy.value for each in bins] == pytest.approx(shares.tolist())
    assert [each.confidence for each in bins] == pytest.approx(means.tolist())
    assert sum(each.images for each in bins) == 500
    assert all(each.low < each.confidence <= each.high for each in bins)


def test_the_calibration_error_is_the_formula_of_its_source():
    """Guo et al. 2017, equation 3, bin by bin."""
    predictions, found = Predictions.from_logits(*made()), 0.0
    for m in range(1, 16):
        inside = (predictions.confidences > (m - 1) / 15) & (predictions.confidences <= m / 15)
        if inside.any():
            gap = abs(predictions.correct[inside].mean() - predictions.confidences[inside].mean())
            found += inside.sum() / 500 * gap
    assert expected_calibration_error(predictions) == pytest.approx(found)


def test_adaptive_bins_have_equal_numbers_of_images():
    predictions, found = Predictions.from_logits(*made(images=450)), 0.0
    for chosen in np.array_split(np.argsort(predictions.confidences), 15):
        assert len(chosen) == 30
        found += abs(predictions.correct[chosen].mean() - predictions.confidences[chosen].mean()) / 15
    assert adaptive_calibration_error(predictions) == pytest.approx(found)


def test_a_calibrated_network_has_the_error_that_chance_gives_it():
    """Nominally 95 of 100; of 60 networks, fewer than 50 would be a chance of 1 in 1,000."""
    within = 0
    for seed in range(60):
        predictions = calibrated(400, seed=seed)
        within += expected_calibration_error(predictions) <= calibrated_error(predictions).high
    assert within >= 50


def test_an_overconfident_network_has_more_error_than_chance_gives():
    predictions = calibrated(2000)
    sharper = Predictions.from_logits(predictions.labels, 3 * predictions.log_probabilities)
    assert expected_calibration_error(sharper) > 3 * calibrated_error(sharper).high


def test_probabilities_of_flips_are_averaged():
    one = Predictions(np.array([0]), np.log([[0.9, 0.1]]))
    other = Predictions(np.array([0]), np.log([[0.5, 0.5]]))
    assert np.exp(one.averaged_with(other).log_probabilities).tolist() == [pytest.approx([0.7, 0.3])]
    with pytest.raises(ValueError, match="of the same images"):
        one.averaged_with(Predictions(np.array([1]), np.log([[0.5, 0.5]])))


def test_pairs_and_images_are_listed_from_the_worst():
    confusion = np.array([[5, 2, 0], [1, 9, 4], [0, 0, 3]])
    assert most_confused(confusion) == [(1, 2, 4), (0, 1, 2), (1, 0, 1)]
    assert most_confused(confusion, 2) == [(1, 2, 4), (0, 1, 2)]
    sure_and_wrong = np.array([[0.0, 5.0], [0.0, 1.0], [3.0, 0.0], [0.4, 0.0]])
    assert most_wrong(Predictions.from_logits(np.zeros(4, np.int64), sure_and_wrong)) == [0, 1]


def test_a_class_without_images_has_no_accuracy():
    empty = class_results(np.array([[3, 1], [0, 0]]))[1]
    assert (empty.images, empty.correct, empty.predicted) == (0, 0, 1)
    assert math.isnan(empty.accuracy.value)
    assert (empty.accuracy.low, empty.accuracy.high) == (0, 1)


def test_a_certain_error_has_an_infinite_loss():
    predictions = Predictions.from_logits(np.array([1, 0]), np.array([[2000.0, 0.0], [2000.0, 0.0]]))
    assert predictions.losses.tolist() == [2000, 0]
    certain = Predictions(np.array([1, 0]), np.array([[0.0, -np.inf], [0.0, -np.inf]]))
    loss = mean_loss(certain)
    assert (loss.value, loss.low, loss.high) == (math.inf, 0, math.inf)
    assert most_wrong(certain) == [0]


@pytest.mark.parametrize(
    ("labels", "logits", "said"),
    [
        ([], np.zeros((0, 3)), "one image or more"),
        ([0, 1], np.zeros((1, 3)), r"expected \(images,\) and \(images, classes\)"),
        ([3], np.zeros((1, 3)), "expected 0 to 2"),
        ([-1], np.zeros((1, 3)), "expected 0 to 2"),
        ([0], np.array([[np.nan, 0.0]]), "not finite"),
        ([0], np.array([[np.inf, 0.0]]), "not finite"),
    ],
)
def test_what_is_no_prediction_is_refused(labels, logits, said):
    with pytest.raises(ValueError, match=said):
        Predictions.from_logits(np.array(labels, np.int64), logits)


@pytest.mark.parametrize("function", [reliability, expected_calibration_error, adaptive_calibration_error])
def test_no_bin_is_refused(function):
    with pytest.raises(ValueError, match="bins = 0: expected 1 or more"):
        function(Predictions.from_logits(*made()), 0)
