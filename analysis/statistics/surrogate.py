"""A Gaussian process over the search space: it uses all runs of a study to estimate each configuration's result.

One run of a configuration is noisy, and the best of many runs is partly lucky. Configurations close to each other have
similar results, so runs of nearby configurations help to estimate a configuration.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

_LENGTHS = (0.35, 0.6, 1.0, 1.7, 3.0)
_NOISES = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)


@dataclass(frozen=True)
class Posterior:
    """The posterior distribution of configurations' expected results, given all runs.

    Attributes:
        mean: expected result of each configuration; shape (configurations,).
        covariance: covariance of these expectations, not of single runs; shape (configurations, configurations).
        noise: variance of a single run around its configuration's expectation.
    """

    mean: Array
    covariance: Array
    noise: float

    @property
    def sd(self) -> Array:
        """Standard deviations of the expectations; shape (configurations,)."""
        return np.sqrt(np.diag(self.covariance))

    def chance_lower(self, one: int, other: int) -> float:
        """Return the probability that one configuration's expected result is lower than another's."""
        both = [one, other]
        (a, shared), (_, b) = self.covariance[np.ix_(both, both)]
        spread = math.sqrt(max(a + b - 2 * shared, 0.0))
        ahead = float(self.mean[other] - self.mean[one])
        return 0.5 * math.erfc(-ahead / spread / math.sqrt(2)) if spread > 0 else float(ahead > 0) + 0.5 * (ahead == 0)

    def ordered(self, order: Sequence[int]) -> Posterior:
        """Return the posterior of the configurations with these indices, in this order."""
        return Posterior(self.mean[order], self.covariance[np.ix_(order, order)], self.noise)


def posterior(coordinates: Array, runs: Sequence[int], values: Sequence[float]) -> Posterior:
    """Return the posterior of configurations, given noisy results of their runs.

    A Gaussian process with a constant mean, a Matérn kernel of order 5/2 with one length over all coordinates, and
    noise of one variance (Rasmussen and Williams 2006, Gaussian Processes for Machine Learning, eq. 2.23 to 2.25 and
    4.17). The result is an average over pairs of length and share of noise, since with few runs no single pair is
    certain. Each pair is weighted by its marginal likelihood (eq. 2.30, with the variance integrated out under the
    prior 1/variance).

    Args:
        coordinates: coordinates of each configuration, in a space about 1 wide; shape (configurations, dimensions).
        runs: for each value the index of its configuration; shape (runs,). A configuration may have none.
        values: results of the runs, finite, at least one; shape (runs,). Whether lower is better does not matter.
    """
    at, seen = np.asarray(runs), np.asarray(values, dtype=float)
    center, scale = float(seen.mean()), float(seen.std()) or 1.0
    z = (seen - center) / scale
    distances = np.sqrt(((coordinates[:, None] - coordinates[None]) ** 2).sum(axis=-1))
    weights, means, covariances, noises = [], [], [], []
    for length in _LENGTHS:
        kernel = _matern(distances / length)
        eigenvalues, vectors = np.linalg.eigh(kernel[np.ix_(at, at)])
        rotated, cross = vectors.T @ z, kernel[:, at] @ vectors
        for noise in _NOISES:
            spread = np.maximum(eigenvalues, 0) + noise
            variance = float((rotated**2 / spread).sum() + 1) / (len(z) + 1)  # with one pseudo-value of variance 1
            weights.append(-0.5 * (len(z) * np.log(variance) + np.log(spread).sum()))
            means.append(cross @ (rotated / spread))
            covariances.append(variance * (kernel - (cross / spread) @ cross.T))
            noises.append(variance * noise)
    weight = np.exp(np.asarray(weights) - max(weights))
    weight /= weight.sum()
    mean = np.tensordot(weight, means, 1)
    off = np.asarray(means) - mean
    covariance = np.tensordot(weight, covariances, 1) + (off * weight[:, None]).T @ off
    return Posterior(center + scale * mean, scale**2 * covariance, scale**2 * float(weight @ noises))


def _matern(distance: Array) -> Array:
    """Return the Matérn kernel of order 5/2 with variance and length 1."""
    scaled = np.sqrt(5) * distance
    kernel: Array = (1 + scaled + scaled**2 / 3) * np.exp(-scaled)
    return kernel
