"""scikit-learn's digits: 1,797 grey images of 8x8 pixels, enlarged, in three equal channels."""

from __future__ import annotations

from functools import lru_cache
from importlib import metadata
from pathlib import Path

from resnet_core.data import DatasetSpec, Images

# The digits come as one set. A fifth of them, stratified, drawn from this seed, are the test images.
_TEST_SEED = 0


def read(data_dir: Path, image_size: int) -> tuple[Images, Images]:  # noqa: ARG001  # the package has the images
    """Return the training and the test images, enlarged linearly to ``image_size`` pixels a side."""
    return _enlarged(image_size)


@lru_cache(maxsize=2)
def _enlarged(size: int) -> tuple[Images, Images]:
    import numpy as np
    import torch
    from torch.nn import functional as F

    from resnet_core.sampling import stratified

    # Only the file is read, since importing scikit-learn takes two seconds.
    file = metadata.distribution("scikit-learn").locate_file("sklearn/datasets/data/digits.csv.gz")
    rows = np.loadtxt(str(file), delimiter=",", dtype=np.float32)  # 64 pixels from 0 to 16, and the digit
    grey = torch.from_numpy(rows[:, :-1]).reshape(-1, 1, 8, 8) * (255 / 16)
    large = F.interpolate(grey, size=(size, size), mode="bilinear", align_corners=False)
    images = large.round_().to(torch.uint8).expand(-1, 3, -1, -1).contiguous().numpy()
    labels = rows[:, -1].astype(np.int64)
    tests = stratified(labels, DATASET.test_size, _TEST_SEED)
    return (np.delete(images, tests, axis=0), np.delete(labels, tests)), (images[tests], labels[tests])


DATASET = DatasetSpec(classes=10, train_size=1438, test_size=359, image_sizes=(16, 32), read=read, grey=True)
