"""One training run as a generator: one ``next`` is one epoch."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from resnet_core import checkpoint as checkpoints
from resnet_core.augment import shift_and_flip
from resnet_core.config import CLASSES, ConfigError, TrialConfig
from resnet_core.data import Dataset, load, normalise
from resnet_core.models import build
from resnet_core.optim import Optimizer, step_values
from resnet_core.records import EpochRecord

EVALUATION_BATCH = 250
"""Images a step of validation: enough to fill a CPU; 1,000 took 0.6 GB more and no less time (ResNet56v2)."""


def train(
    config: TrialConfig, *, data_dir: Path, device: str = "cpu", checkpoint: Path | None = None
) -> Iterator[EpochRecord]:
    """Train one network and yield a record after each epoch, ``config.horizon`` of them.

    To stop a run is to stop iterating. With ``checkpoint`` the state is saved after each epoch,
    before its record is yielded; where that file exists already, the records it holds are yielded
    again first, at once, and the run continues behind them: the consumer always sees the whole
    curve. The randomness of an epoch comes from (seed, epoch) alone, so on a CPU with the same
    number of threads a continued run is the uninterrupted one, bit for bit.

    Args:
        config: everything that determines the run.
        data_dir: the folder that holds CIFAR-10, or takes its download.
        device: a torch device.
        checkpoint: the file to save to and to continue from; None saves nothing.

    Raises:
        DataError: the images cannot be had.
        CheckpointError: the checkpoint cannot be read, or is of another config.
        OSError: the checkpoint cannot be written.
    """
    state = None if checkpoint is None else _restore(checkpoint, config)
    records = [] if state is None else [EpochRecord(**record) for record in state["records"]]
    yield from records
    if len(records) >= config.horizon:
        return
    run = _Run(config, load(config, data_dir), torch.device(device))
    if state is not None:
        run.load_state_dict(state)
    del state
    for epoch in range(len(records) + 1, config.horizon + 1):
        records.append(run.epoch(epoch))
        if checkpoint is not None:
            saved = {"config": config.to_dict(), "records": [dataclasses.asdict(r) for r in records]}
            checkpoints.save(checkpoint, {**saved, **run.state_dict()})
        yield records[-1]


def recorded(checkpoint: Path) -> list[EpochRecord]:
    """Return the epochs a checkpoint file remembers; none where there is no file.

    Raises:
        CheckpointError: the file cannot be read.
    """
    state = checkpoints.load(checkpoint)
    return [] if state is None else [EpochRecord(**record) for record in state["records"]]


def seconds_per_epoch(config: TrialConfig, *, device: str = "cpu", steps: int = 3) -> float:
    """Time a few steps of ``config`` on made images and extrapolate to an epoch of it, in seconds.

    Validation counts as a third of a training pass over its images (forward alone).
    """
    train_size, val_size = epoch_sizes(config)
    batch = min(config.batch_size, train_size)
    images = torch.randint(0, 256, (batch, 3, config.image_size, config.image_size), dtype=torch.uint8)
    labels = torch.arange(batch) % CLASSES
    dataset = Dataset(images, labels, images, labels, torch.zeros(3, config.image_size, config.image_size))
    run = _Run(config, dataset, torch.device(device))
    run.train_epoch(1)
    started = time.perf_counter()
    for _ in range(steps):
        run.train_epoch(1)
    per_image = (time.perf_counter() - started) / (steps * batch)
    return per_image * (train_size + val_size / 3)


def epoch_sizes(config: TrialConfig) -> tuple[int, int]:
    """Return how many images an epoch of ``config`` trains and validates on."""
    train_size, val_size = (50_000, 10_000) if config.data == "cifar10" else (1438, 359)
    if config.split == "held-out":
        val_size = train_size // 10
        train_size -= val_size
    return min(train_size, config.train_limit or train_size), min(val_size, config.val_limit or val_size)


def _restore(path: Path, config: TrialConfig) -> dict[str, Any] | None:
    state = checkpoints.load(path)
    if state is None:
        return None
    try:
        saved = TrialConfig.from_dict(state["config"])  # a field added since then takes its default
    except ConfigError as error:
        raise checkpoints.CheckpointError(
            f"checkpoint {path} is of another version ({error}); delete it to start anew"
        ) from error
    if saved != config:
        changed = [k for k, v in config.to_dict().items() if saved.to_dict()[k] != v]
        raise checkpoints.CheckpointError(
            f"checkpoint {path} is of another run ({', '.join(changed)} differ); delete it to start anew"
        )
    return state


@dataclass(frozen=True)
class _Draws:
    """The randomness of one epoch, as tables on the device, a row an image in training order."""

    order: Tensor
    offsets: Tensor | None
    mirrored: Tensor | None


def _draws(config: TrialConfig, epoch: int, images: int, device: torch.device) -> _Draws:
    # Drawn on the CPU whatever the device, so that a GPU run sees the same images in the same order.
    seed = int(np.random.SeedSequence([config.seed, epoch]).generate_state(1, np.uint64)[0] >> np.uint64(1))
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(images, generator=generator)
    unit = torch.rand(images, 2, generator=generator) * 2 - 1
    mirrored = torch.rand(images, generator=generator) < 0.5
    return _Draws(
        order.to(device),
        (unit * (config.shift * config.image_size)).to(device) if config.shift else None,
        mirrored.to(device) if config.flip else None,
    )


class _Run:
    """A network, its optimizer and its images on one device."""

    def __init__(self, config: TrialConfig, dataset: Dataset, device: torch.device) -> None:
        self._config, self._device = config, device
        self._data = dataset.to(device)
        network = build(config.model, CLASSES, config.seed)
        self._network: nn.Module = network.to(device).to(memory_format=torch.channels_last)
        self._optimizer = Optimizer(self._network, config)

    def state_dict(self) -> dict[str, Any]:
        return {"network": self._network.state_dict(), "optimizer": self._optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._network.load_state_dict(state["network"])
        self._optimizer.load_state_dict(state["optimizer"])

    def epoch(self, epoch: int) -> EpochRecord:
        """Train and validate once; the one host synchronisation an epoch comes after each of the two."""
        started = time.perf_counter()
        loss, acc, lr, weight_decay = self.train_epoch(epoch)
        trained = time.perf_counter()
        val_loss, val_acc = self._validate()
        return EpochRecord(
            epoch=epoch,
            loss=loss,
            acc=acc,
            val_loss=val_loss,
            val_acc=val_acc,
            lr=lr,
            wd_lr=lr * weight_decay,
            seconds=time.perf_counter() - started,
            images_per_second=len(self._data.train_labels) / (trained - started),
        )

    def train_epoch(self, epoch: int) -> tuple[float, float, float, float]:
        """Return mean loss, accuracy, and the last step's learning rate and λ."""
        config, data = self._config, self._data
        images, size = len(data.train_labels), config.batch_size
        draws = _draws(config, epoch, images, self._device)
        values = step_values(config, epoch, -(-images // size))
        sums = torch.zeros(2, dtype=torch.float64, device=self._device)
        self._network.train()
        for step, (lr, weight_decay) in enumerate(zip(values.lr, values.weight_decay, strict=True)):
            rows = slice(step * size, (step + 1) * size)
            chosen = draws.order[rows]
            x = shift_and_flip(
                normalise(data.train_images[chosen], data.mean),
                None if draws.offsets is None else draws.offsets[rows],
                None if draws.mirrored is None else draws.mirrored[rows],
            )
            labels = data.train_labels[chosen]
            with self._autocast():
                logits = self._network(x)
                loss = F.cross_entropy(logits, labels)
            loss.backward()  # type: ignore[no-untyped-call]
            self._optimizer.step(lr, weight_decay)
            sums += _sums(loss.detach(), logits.detach(), labels)
        mean_loss, acc = (sums / images).tolist()
        return mean_loss, acc, values.lr[-1], values.weight_decay[-1]

    @torch.inference_mode()
    def _validate(self) -> tuple[float, float]:
        data = self._data
        images = len(data.val_labels)
        sums = torch.zeros(2, dtype=torch.float64, device=self._device)
        self._network.eval()
        for start in range(0, images, EVALUATION_BATCH):
            rows = slice(start, start + EVALUATION_BATCH)
            labels = data.val_labels[rows]
            with self._autocast():
                logits = self._network(normalise(data.val_images[rows], data.mean))
                loss = F.cross_entropy(logits, labels)
            sums += _sums(loss, logits, labels)
        mean_loss, acc = (sums / images).tolist()
        return mean_loss, acc

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self._device.type, torch.bfloat16, enabled=self._config.precision == "bf16")


def _sums(loss: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
    """Return the summed loss and the number of right answers of a batch, without asking the device."""
    return torch.stack((loss.double() * len(labels), (logits.argmax(1) == labels).sum().double()))
