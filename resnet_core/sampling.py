"""Stratified samples: a part of a set in which each class has its share."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def stratified(labels: NDArray[np.int64], count: int, seed: int) -> NDArray[np.int64]:
    """Choose ``count`` indices so that each class has its share, to within one image.

    Args:
        labels: int [N].
        count: how many to choose, at most N.
        seed: of the choice; the same seed chooses the same.

    Returns:
        int64 [count], rising.
    """
    random = np.random.default_rng([seed, count, len(labels)])
    classes, sizes = np.unique(labels, return_counts=True)
    exact = sizes * (count / len(labels))
    quota = np.floor(exact).astype(int)
    # Images left over by rounding go to the classes that lost most by it.
    for position in np.argsort(quota - exact, kind="stable")[: count - quota.sum()]:
        quota[position] += 1
    chosen = [
        random.permutation(np.flatnonzero(labels == label))[:wanted]
        for label, wanted in zip(classes, quota, strict=True)
    ]
    return np.sort(np.concatenate(chosen)).astype(np.int64)
