"""Whether a classifier's probabilities mean what they say: of images predicted with 0.8, eight in ten are right.

Sources: Guo et al., On Calibration of Modern Neural Networks, ICML 2017 (arXiv 1706.04599), for the reliability diagram
and the expected calibration error; Nguyen & O'Connor, EMNLP 2015, for bins of equal numbers of images; Vaicenavicius et
al., AISTATS 2019 (arXiv 1902.06977), for what a calibrated network would show by chance. All functions are pure.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.statistics.classification import Integers, Predictions
from analysis.statistics.intervals import Estimate, Floats, check_confidence, wilson

BINS = 15
"""Number of bins, as in Guo et al."""
_RESAMPLES = 500


@dataclass(frozen=True)
class ReliabilityBin:
    """The images whose predicted class has a probability in a range.

    Attributes:
        low: lower end of the range, which does not belong to it.
        high: upper end of the range, which does.
        images: number of images, 1 or more.
        confidence: their mean probability of the predicted class.
        accuracy: the share of them that were predicted right, with Wilson's interval.
    """

    low: float
    high: float
    images: int
    confidence: float
    accuracy: Estimate


def reliability(predictions: Predictions, bins: int = BINS, confidence: float = 0.95) -> list[ReliabilityBin]:
    """Return the bins of a reliability diagram, rising: (0, 1/M], (1/M, 2/M], …; those without images are left out.

    Args:
        predictions: what the network says.
        bins: number of bins M, 1 or more.
        confidence: confidence of the intervals, in (0, 1).

    Raises:
        ValueError: there is no bin, or the confidence is outside (0, 1).
    """
    check_confidence(confidence)
    edges, place = _bins(predictions, bins)
    images, right = np.bincount(place), np.bincount(place, predictions.correct)
    summed = np.bincount(place, predictions.confidences)
    return [
        ReliabilityBin(
            float(edges[i]),
            float(edges[i + 1]),
            int(images[i]),
            float(summed[i] / images[i]),
            wilson(int(right[i]), int(images[i]), confidence),
        )
        for i in np.flatnonzero(images)
    ]


def expected_calibration_error(predictions: Predictions, bins: int = BINS) -> float:
    """Return ECE = Σ n_m/n · |accuracy_m - mean confidence_m| over bins of equal width, in [0, 1].

    It is above 0 for a calibrated network, too, since its images are finite: see `calibrated_error`.

    Args:
        predictions: what the network says.
        bins: number of bins, 1 or more.

    Raises:
        ValueError: there is no bin.
    """
    _, place = _bins(predictions, bins)
    return _error(place, predictions.correct, predictions.confidences)


def adaptive_calibration_error(predictions: Predictions, bins: int = BINS) -> float:
    """Return the same as `expected_calibration_error` with bins of equal numbers of images, to within one.

    Most probabilities of a good network are near 1, where equal widths put nearly all images into one bin.

    Args:
        predictions: what the network says.
        bins: number of bins, 1 or more.

    Raises:
        ValueError: there is no bin.
    """
    _check(bins)
    confidences = predictions.confidences
    place = np.empty(len(confidences), np.int64)
    place[np.argsort(confidences, kind="stable")] = np.arange(len(confidences)) * bins // len(confidences)
    return _error(place, predictions.correct, confidences)


def calibrated_error(predictions: Predictions, bins: int = BINS, confidence: float = 0.95, seed: int = 0) -> Estimate:
    """Return the expected calibration error that a calibrated network with the same probabilities would show.

    Each image is drawn anew as right with the probability that the network gives it, 500 times (consistency resampling,
    Vaicenavicius et al. 2019; Bröcker & Smith, Weather and Forecasting 22, 2007). An error above the upper end is more
    than chance.

    Args:
        predictions: what the network says.
        bins: number of bins of equal width, 1 or more.
        confidence: the share of the draws that is not above the upper end, in (0, 1).
        seed: of the draws.

    Returns:
        The mean of the draws, and an interval that begins at 0.

    Raises:
        ValueError: there is no bin, or the confidence is outside (0, 1).
    """
    check_confidence(confidence)
    _, place = _bins(predictions, bins)
    confidences, random = predictions.confidences, np.random.default_rng(seed)
    drawn = [_error(place, random.random(len(place)) < confidences, confidences) for _ in range(_RESAMPLES)]
    return Estimate(float(np.mean(drawn)), 0.0, float(np.quantile(drawn, confidence)), confidence)


def _bins(predictions: Predictions, bins: int) -> tuple[Floats, Integers]:
    """Return the edges of bins of equal width, and the bin of each image."""
    _check(bins)
    edges = np.linspace(0.0, 1.0, bins + 1)
    return edges, np.searchsorted(edges[1:-1], predictions.confidences)


def _error(place: Integers, right: NDArray[np.bool_], confidences: Floats) -> float:
    """Return the calibration error of images that are in these bins: Σ n_m/n · |accuracy_m - mean confidence_m|."""
    return float(np.abs(np.bincount(place, right - confidences)).sum() / len(place))


def _check(bins: int) -> None:
    if bins < 1:
        raise ValueError(f"bins = {bins}: expected 1 or more")
