"""How good a classifier is on labelled images: accuracy, loss, confusion, each class by itself.

All functions are pure. Intervals tell what other images of the same kind would change, for this one network: what
another seed would change is not in them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from analysis.statistics.intervals import Estimate, Floats, check_confidence, mean_sd, student_quantile, wilson

Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a network says of labelled images.

    Attributes:
        labels: the true class of each image, from 0 to classes - 1; shape (images,).
        log_probabilities: natural logarithms of each class's probability; shape (images, classes).

    Raises:
        ValueError: there is no image, a shape or a label does not fit, or a value is NaN or above 0.
    """

    labels: Integers
    log_probabilities: Floats

    def __post_init__(self) -> None:
        if self.log_probabilities.ndim != 2 or self.labels.shape != self.log_probabilities.shape[:1]:
            raise ValueError(
                f"labels {list(self.labels.shape)}, probabilities {list(self.log_probabilities.shape)}: expected "
                "(images,) and (images, classes)"
            )
        if not len(self.labels):
            raise ValueError("expected one image or more")
        if self.labels.min() < 0 or self.labels.max() >= self.classes:
            raise ValueError(f"labels {self.labels.min()} to {self.labels.max()}: expected 0 to {self.classes - 1}")
        if not (self.log_probabilities <= 1e-9).all():  # NaN, too
            raise ValueError("probabilities: expected numbers from 0 to 1; the network's outputs are not finite")

    @classmethod
    def from_logits(cls, labels: Integers, logits: NDArray[np.floating]) -> Predictions:
        """Return the predictions of a network with these outputs: softmax, computed in float64.

        Args:
            labels: see the class.
            logits: a number for each class, before softmax; shape (images, classes).

        >>> Predictions.from_logits(np.array([1]), np.array([[0.0, 0.0]])).confidences.tolist()
        [0.5]
        """
        values = np.asarray(logits, np.float64)
        with np.errstate(invalid="ignore"):  # an infinite logit gives NaN, which is refused
            shifted = values - values.max(axis=1, keepdims=True)
            return cls(labels, shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))

    def averaged_with(self, other: Predictions) -> Predictions:
        """Return the predictions whose probabilities are the means of these and of others of the same images."""
        if not np.array_equal(self.labels, other.labels):
            raise ValueError("expected predictions of the same images")
        mean = np.logaddexp(self.log_probabilities, other.log_probabilities) - math.log(2)
        return Predictions(self.labels, np.minimum(mean, 0.0))  # rounding may leave 1e-17 above 0

    @property
    def classes(self) -> int:
        """Number of classes."""
        return int(self.log_probabilities.shape[1])

    @cached_property
    def predicted(self) -> Integers:
        """The class of the highest probability, the first of equal ones; shape (images,)."""
        found: Integers = self.log_probabilities.argmax(axis=1)
        return found

    @cached_property
    def correct(self) -> NDArray[np.bool_]:
        """Whether that class is the true one; shape (images,)."""
        found: NDArray[np.bool_] = self.predicted == self.labels
        return found

    @cached_property
    def confidences(self) -> Floats:
        """The probability of the predicted class; shape (images,)."""
        highest: Floats = self.log_probabilities.max(axis=1)
        return np.minimum(np.exp(highest), 1.0)

    @cached_property
    def losses(self) -> Floats:
        """The cross-entropy of each image in nats: minus the logarithm of its true class's probability."""
        of_labels: Floats = self.log_probabilities[np.arange(len(self.labels)), self.labels]
        return 0.0 - of_labels


def accuracy(predictions: Predictions, confidence: float = 0.95) -> Estimate:
    """Return the share of images whose predicted class is the true one, with Wilson's interval.

    Wilson, J. Am. Stat. Assoc. 22, 1927; Brown, Cai & DasGupta, Statistical Science 16, 2001, recommend it.

    Raises:
        ValueError: the confidence is outside (0, 1).
    """
    check_confidence(confidence)
    return wilson(int(predictions.correct.sum()), len(predictions.labels), confidence)


def mean_loss(predictions: Predictions, confidence: float = 0.95) -> Estimate:
    """Return the mean cross-entropy over the images, in nats, with Student's interval, cut off at 0.

    Its upper end is infinite for a single image, and where a true class has a probability of 0.

    Raises:
        ValueError: the confidence is outside (0, 1).
    """
    check_confidence(confidence)
    losses = predictions.losses
    if len(losses) < 2 or not np.isfinite(losses).all():
        return Estimate(float(losses.mean()), 0.0, math.inf, confidence)
    mean, sd = mean_sd(losses.tolist())
    half = student_quantile(len(losses) - 1, confidence) * sd / math.sqrt(len(losses))
    return Estimate(mean, max(0.0, mean - half), mean + half, confidence)


def confusion_matrix(labels: Integers, predicted: Integers, classes: int) -> Integers:
    """Return how many images of each class were predicted as each class.

    Args:
        labels: true classes, from 0 to classes - 1; shape (images,).
        predicted: predicted classes; shape (images,).
        classes: number of classes.

    Returns:
        Shape (classes, classes): a row for each true class, a column for each predicted one.

    >>> confusion_matrix(np.array([0, 0, 1]), np.array([0, 1, 1]), 2).tolist()
    [[1, 1], [0, 1]]
    """
    return np.bincount(labels * classes + predicted, minlength=classes * classes).reshape(classes, classes)


@dataclass(frozen=True)
class ClassResult:
    """One class of a confusion matrix.

    Attributes:
        images: number of its images.
        correct: how many of them were predicted as it.
        predicted: how many images of any class were predicted as it.
        accuracy: the share of its images that were predicted as it (also called its recall), with Wilson's interval;
            NaN, in [0, 1], where it has no image.
    """

    images: int
    correct: int
    predicted: int
    accuracy: Estimate


def class_results(confusion: Integers, confidence: float = 0.95) -> list[ClassResult]:
    """Return the result of each class of a confusion matrix; each interval is for its class alone.

    Raises:
        ValueError: the confidence is outside (0, 1).
    """
    check_confidence(confidence)
    found = []
    for place, (images, predicted) in enumerate(
        zip(confusion.sum(axis=1).tolist(), confusion.sum(axis=0).tolist(), strict=True)
    ):
        correct = int(confusion[place, place])
        share = wilson(correct, images, confidence) if images else Estimate(math.nan, 0.0, 1.0, confidence)
        found.append(ClassResult(images, correct, predicted, share))
    return found


def most_confused(confusion: Integers, count: int = 10) -> list[tuple[int, int, int]]:
    """Return the pairs of classes that were confused most: true class, predicted class, number of images.

    Args:
        confusion: a confusion matrix.
        count: how many pairs at most; pairs that were never confused are left out.

    >>> most_confused(np.array([[5, 2], [1, 9]]), 1)
    [(0, 1, 2)]
    """
    errors = confusion.copy()
    np.fill_diagonal(errors, 0)
    order = np.argsort(-errors, axis=None, kind="stable")[:count]
    pairs = [(*map(int, divmod(place, len(errors))), int(errors.flat[place])) for place in order.tolist()]
    return [(true, predicted, images) for true, predicted, images in pairs if images]


def most_wrong(predictions: Predictions, count: int = 20) -> Sequence[int]:
    """Return the indices of the wrongly predicted images with the highest losses, the highest first."""
    order = np.argsort(-predictions.losses, kind="stable")
    return [int(place) for place in order if not predictions.correct[place]][:count]
