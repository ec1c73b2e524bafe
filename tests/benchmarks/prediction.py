"""How fast a kept network predicts: images a second of wall time and of CPU time, without reading them.

``python -m tests.benchmarks.prediction`` makes networks with random weights, which take as long as trained ones.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch

from resnet_core.config import TrialConfig
from resnet_core.data import DATASETS
from resnet_core.kept import KeptNetwork
from resnet_core.network import build
from resnet_core.network_file import About
from resnet_core.prediction import logits_of
from tests.benchmarks.options import device, positive


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=["resnet20v2", "resnet56v2"])
    parser.add_argument("--images", type=positive, default=10_000)
    parser.add_argument("--threads", type=positive, default=torch.get_num_threads())
    parser.add_argument("--device", type=device, default=torch.device("cpu"))
    told = parser.parse_args(arguments)
    torch.set_num_threads(told.threads)
    images = np.random.default_rng(0).integers(0, 256, (told.images, 3, 32, 32), np.uint8)
    for model in told.models:
        config = TrialConfig("[0, 0] lin[0, 1]", model=model)
        about = About(epoch=1, config=config.to_dict(), classes=DATASETS[config.data].class_names)
        network = KeptNetwork(build(config), torch.zeros(3, 32, 32), config, about).eval().to(told.device)
        network.network.to(memory_format=torch.channels_last)
        logits_of(network, images[:250])  # warm-up
        wall, cpu = time.perf_counter(), time.process_time()
        logits_of(network, images)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        print(
            f"{model}: {told.images:,} images in {wall:.1f} s of wall time and {cpu:.1f} s of CPU time, "
            f"{told.images / wall:,.0f} a second, {told.threads} threads"
        )


if __name__ == "__main__":
    main()
