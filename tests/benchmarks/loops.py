"""What is timed: a training loop as people write it, and this project's trainer, an epoch at a time."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import CIFAR10

from resnet_core.config import TrialConfig, epoch_sizes
from resnet_core.images import load
from resnet_core.network import build
from resnet_core.records import EpochRecord
from resnet_core.trainer import train
from tests.benchmarks import packed_images

packed_images.read_instead()  # in every process that trains


@dataclass(frozen=True)
class Timing:
    """Wall time of one epoch, in seconds.

    Attributes:
        train: of the training part.
        validate: of the validation after it.
    """

    train: float
    validate: float

    @property
    def total(self) -> float:
        """Training and validation."""
        return self.train + self.validate


def network_of(config: TrialConfig) -> nn.Module:
    """Return the network of ``config``, in contiguous memory, on the CPU."""
    return build(config)


class Pictures(CIFAR10):
    """torchvision's CIFAR10 over images that are in memory already, so that both loops see the same ones.

    Args:
        images: uint8 [N, 3, H, W].
        labels: int64 [N].
        transform: from a PIL image to what the network takes.
    """

    def __init__(self, images: Tensor, labels: Tensor, transform: Any) -> None:
        self.data = images.permute(0, 2, 3, 1).contiguous().numpy()
        self.targets = labels.tolist()
        self.transform, self.target_transform = transform, None


class Plain:
    """The loop as people write it: PIL transforms, DataLoader, eager fp32, ``.item()`` at every step, torch's AdamW."""

    def __init__(self, config: TrialConfig, data_dir: Path, device: torch.device, workers: int) -> None:
        self._device = device
        self._network = network_of(config).to(device)
        self._optimizer = torch.optim.AdamW(
            self._network.parameters(), lr=config.lr_schedule.value(0), weight_decay=config.weight_decay
        )
        dataset = load(config, data_dir)
        augmented = transforms.Compose(
            [
                transforms.RandomAffine(0, translate=(config.shift, config.shift)),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
            ]
        )
        # Workers are kept from one epoch to the next: a short epoch must not pay for starting them.
        options = {
            "batch_size": config.batch_size,
            "num_workers": workers,
            "persistent_workers": workers > 0,
            "pin_memory": device.type == "cuda",
        }
        train_set = Pictures(dataset.train_images, dataset.train_labels, augmented)
        val_set = Pictures(dataset.val_images, dataset.val_labels, transforms.ToTensor())
        self._train_loader = DataLoader(train_set, shuffle=True, **options)
        self._val_loader = DataLoader(val_set, **options)

    def epoch(self) -> Timing:
        """Train and validate once."""
        started = time.perf_counter()
        self._train()
        trained = time.perf_counter()
        self._validate()
        return Timing(trained - started, time.perf_counter() - trained)

    def _train(self) -> tuple[float, int]:
        self._network.train()
        loss_sum, right = 0.0, 0
        for images, labels in self._train_loader:
            images, labels = images.to(self._device), labels.to(self._device)
            self._optimizer.zero_grad()
            logits = self._network(images)
            loss = F.cross_entropy(logits, labels)
            loss.backward()
            self._optimizer.step()
            loss_sum += loss.item() * len(labels)
            right += (logits.argmax(1) == labels).sum().item()
        return loss_sum, right

    @torch.no_grad()
    def _validate(self) -> tuple[float, int]:
        self._network.eval()
        loss_sum, right = 0.0, 0
        for images, labels in self._val_loader:
            images, labels = images.to(self._device), labels.to(self._device)
            logits = self._network(images)
            loss_sum += F.cross_entropy(logits, labels).item() * len(labels)
            right += (logits.argmax(1) == labels).sum().item()
        return loss_sum, right


class Ours:
    """``resnet_core.trainer.train``, one epoch a call.

    Args:
        config: of the run; its horizon bounds the calls.
        data_dir: the folder that holds CIFAR-10.
        device: a torch device.
        graph: whether steps are replayed from a CUDA graph, on a GPU.
    """

    def __init__(
        self, config: TrialConfig, data_dir: Path, device: torch.device | None = None, graph: bool = True
    ) -> None:
        self._images = epoch_sizes(config)[0]
        self._records = records(config, data_dir, device or torch.device("cpu"), graph)

    def epoch(self) -> Timing:
        """Train and validate once; the first call also loads the images and builds the network, untimed."""
        record = next(self._records)
        train_seconds = self._images / record.images_per_second
        return Timing(train_seconds, record.seconds - train_seconds)


def records(
    config: TrialConfig,
    data_dir: Path,
    device: torch.device,
    graph: bool = True,
    checkpoint: Path | None = None,
) -> Iterator[EpochRecord]:
    """Return the run of ``config`` on ``device``."""
    return train(config, data_dir=data_dir, device=str(device), checkpoint=checkpoint, graph=graph)


class InThreads:
    """Our trainer's epochs of several trials at once, a thread each; seeds 0, 1 ..."""

    def __init__(self, trials: int, config: TrialConfig, data_dir: Path) -> None:
        self._trials = [Ours(replace(config, seed=seed), data_dir) for seed in range(trials)]
        self._threads = ThreadPoolExecutor(trials)

    def epoch(self) -> Timing:
        """Take an epoch of each trial; return the first one's times."""
        first, *_ = self._threads.map(lambda trial: trial.epoch(), self._trials)
        return first


Loop = Plain | Ours | InThreads


def forkserver() -> BaseContext:
    """Return how a process is begun: forked from one that has loaded torch and never asks for a GPU."""
    context = multiprocessing.get_context("forkserver")  # CUDA does not survive a fork of a process that uses it
    context.set_forkserver_preload([__name__])
    return context


class InProcess:
    """A loop in a process of its own, one epoch a call.

    Args:
        threads: torch's threads in that process.
        loop: the kind of loop.
        arguments: what it is made of.
    """

    def __init__(self, threads: int, loop: type[Loop], *arguments: Any) -> None:
        self._pool = ProcessPoolExecutor(1, forkserver(), _open, (threads, loop, arguments))

    def epoch(self) -> Future[Timing]:
        """Begin an epoch."""
        return self._pool.submit(_epoch)

    def close(self) -> None:
        """End the process."""
        self._pool.shutdown(cancel_futures=True)


_opened: list[Loop] = []
"""The one loop of an InProcess's process."""


def _open(threads: int, loop: type[Loop], arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(threads)
    _opened.append(loop(*arguments))


def _epoch() -> Timing:
    return _opened[0].epoch()
