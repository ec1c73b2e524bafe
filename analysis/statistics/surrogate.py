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
    z, center, scale = _standardised(values)
    fits = _fits(coordinates, np.asarray(runs), z)
    weight = _weights(fits)
    distances = _distances(coordinates, coordinates)
    kernels = {length: _matern(distances / length) for length in _LENGTHS}
    covariances = [fit.variance * (kernels[fit.length] - (fit.cross / fit.spread) @ fit.cross.T) for fit in fits]
    mean = np.tensordot(weight, [fit.mean for fit in fits], 1)
    off = np.asarray([fit.mean for fit in fits]) - mean
    covariance = np.tensordot(weight, covariances, 1) + (off * weight[:, None]).T @ off
    noise = float(weight @ [fit.variance * fit.noise for fit in fits])
    return Posterior(center + scale * mean, scale**2 * covariance, scale**2 * noise)


def posterior_mean(coordinates: Array, runs: Sequence[int], values: Sequence[float]) -> Array:
    """Return the mean of `posterior`, for the same arguments; for thousands of configurations it is much faster."""
    z, center, scale = _standardised(values)
    fits = _fits(coordinates, np.asarray(runs), z)
    mean: Array = center + scale * np.tensordot(_weights(fits), [fit.mean for fit in fits], 1)
    return mean


@dataclass(frozen=True)
class _Fit:
    """The process with one pair of length and share of noise, for results of mean 0 and variance 1.

    Attributes:
        length: length of the kernel.
        noise: variance of the noise, as a multiple of the process's.
        variance: variance of the process.
        evidence: logarithm of the marginal likelihood, but for a constant.
        mean: expected result of each configuration; shape (configurations,).
        cross: kernel of configurations and runs, times the eigenvectors of the runs' kernel; (configurations, runs).
        spread: eigenvalues of the runs' kernel with noise; shape (runs,).
    """

    length: float
    noise: float
    variance: float
    evidence: float
    mean: Array
    cross: Array
    spread: Array


def _standardised(values: Sequence[float]) -> tuple[Array, float, float]:
    """Return values with mean 0 and variance 1, and their mean and standard deviation before, 1 if they are equal."""
    seen = np.asarray(values, dtype=float)
    center, scale = float(seen.mean()), float(seen.std()) or 1.0
    return (seen - center) / scale, center, scale


def _fits(coordinates: Array, at: npt.NDArray[np.intp], z: Array) -> list[_Fit]:
    """Return the process for each pair of length and share of noise."""
    distances = _distances(coordinates, coordinates[at])
    fits = []
    for length in _LENGTHS:
        kernel = _matern(distances / length)
        eigenvalues, vectors = np.linalg.eigh(kernel[at])
        rotated, cross = vectors.T @ z, kernel @ vectors
        for noise in _NOISES:
            spread = np.maximum(eigenvalues, 0) + noise
            variance = float((rotated**2 / spread).sum() + 1) / (len(z) + 1)  # with one pseudo-value of variance 1
            evidence = -0.5 * (len(z) * math.log(variance) + float(np.log(spread).sum()))
            fits.append(_Fit(length, noise, variance, evidence, cross @ (rotated / spread), cross, spread))
    return fits


def _weights(fits: Sequence[_Fit]) -> Array:
    """Return the weights of the pairs by their marginal likelihoods; their sum is 1."""
    evidences = np.asarray([fit.evidence for fit in fits])
    weights: Array = np.exp(evidences - evidences.max())
    weights /= weights.sum()
    return weights


def _distances(some: Array, others: Array) -> Array:
    """Return the distances between points; shape (some, others)."""
    found: Array = np.sqrt(((some[:, None] - others[None]) ** 2).sum(axis=-1))
    return found


def _matern(distance: Array) -> Array:
    """Return the Matérn kernel of order 5/2 with variance and length 1."""
    scaled = np.sqrt(5) * distance
    kernel: Array = (1 + scaled + scaled**2 / 3) * np.exp(-scaled)
    return kernel
