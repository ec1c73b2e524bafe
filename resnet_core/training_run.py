"""One training run: the network, its optimizer and its images on a device, an epoch at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from resnet_core import own
from resnet_core.allocator import keep_freed_memory
from resnet_core.augment import crop, cutout, shift_and_flip
from resnet_core.averaging import ExponentialMovingAverage, recalibrated
from resnet_core.code import is_reference
from resnet_core.config import ConfigError, TrialConfig
from resnet_core.draws import Draws, copy_over, draw, seed_generators
from resnet_core.fused.support import runs_on
from resnet_core.graph import CapturedStep
from resnet_core.images import Dataset, normalise, take
from resnet_core.meter import GpuMeter
from resnet_core.network import build, check_trained
from resnet_core.network_file import confusion_is_kept
from resnet_core.optimizer import Optimizer, make_optimizer, step_values
from resnet_core.plateau import Plateau
from resnet_core.records import EpochRecord, StepRecord
from resnet_core.working_copy import WorkingCopy

EVALUATION_BATCH = {"cpu": 250, "cuda": 2000}
"""Images in a batch of validation. On a CPU, 1,000 took 0.6 GB more and were not faster (ResNet56v2)."""
STEPS_AHEAD = {"cpu": 1, "cuda": 64}
"""Number of steps whose images are augmented at once. On a GPU it saves about twenty kernels a step, for 50 MB."""
_FEWEST_CLASSES_FOR_TOP5 = 100
_MEASURED = ("loss", "acc", "top5_acc")


class TrainingRun:
    """A network, its optimizer and its images on one device.

    A step reads everything that changes between steps (which images, how they are augmented, the optimizer's
    coefficients) from tables on the device. A counter on the device says which row. So a step can be captured as a CUDA
    graph, and the host waits for the device only at the end of an epoch.
    """

    def __init__(
        self, config: TrialConfig, dataset: Dataset, device: torch.device, graph: bool = True, *, is_kept: bool = False
    ) -> None:
        if device.type == "cpu":
            keep_freed_memory()
        self.config = self._config = config
        self._device = device
        self._data = dataset.to(device)
        self._is_own = is_reference(config.model)
        # channels_last is the fastest layout. A network of one's own may reshape maps in a way that it does not allow.
        self._layout = torch.contiguous_format if self._is_own else torch.channels_last
        self._network = build(config).to(device).to(memory_format=self._layout)
        self._optimizer = make_optimizer(self._network, config)
        self._average = (
            ExponentialMovingAverage(self._network, self._optimizer.flat.weights, config.ema) if config.ema else None
        )
        self._plateau = None if config.plateau_factor is None else Plateau(config)
        # torch.compile generates its own kernels.
        fused = config.fused and not config.compile and runs_on(device)
        self._working = WorkingCopy(self._network, self._optimizer.flat, config.precision, fused=fused)
        self._forward: Callable[[Tensor], Tensor] = self._working.network
        if config.compile:
            mode = "max-autotune-no-cudagraphs" if device.type == "cuda" else "default"
            self._forward = torch.compile(self._working.network, mode=mode, dynamic=False)

        images, size = len(dataset.train_labels), config.batch_size
        self._batches = [size] * (images // size) + ([images % size] if images % size else [])
        self._ahead = STEPS_AHEAD[device.type]
        self._draws = self._draw(1).to(device)
        self._drawn: dict[int, Draws] = {}  # by epoch, made before the epoch begins
        steps = len(self._batches)
        self._sizes = torch.tensor(self._batches, dtype=torch.float64).to(device)
        self._coefficients = torch.zeros(steps, self._optimizer.coefficients, device=device)
        self._counter = torch.zeros(1, dtype=torch.int64, device=device)
        # For each step its rows in the tables of the epoch, and in the augmented images: [steps, 2, size].
        rows = torch.arange(steps * size).view(steps, size)
        self._rows = torch.stack((rows, rows % (self._ahead * size)), 1).to(device)
        spec = own.dataset(config.data)
        self._classes = spec.classes
        self._top5 = spec.classes >= _FEWEST_CLASSES_FOR_TOP5
        shape = (self._ahead * size, spec.channels, config.side, config.side)
        self._images = torch.zeros(shape, device=device).to(memory_format=torch.channels_last)
        # Places without an image in the last batch have the label -1, which is no class.
        self._labels = torch.full((steps * size,), -1, device=device)
        self._labels[:images] = self._data.train_labels
        self._is_kept = is_kept
        self._statistics: dict[str, Tensor] = {}  # BN's, as they were measured anew for the last validation
        # [true class · classes + predicted class], of the last validation
        self._taken_for: Tensor | None = None
        if is_kept and confusion_is_kept(spec.classes):
            self._taken_for = torch.zeros(spec.classes**2, dtype=torch.int64, device=device)
        self._outputs = torch.zeros(steps * size, spec.classes, device=device)
        self._losses = torch.zeros(steps, device=device)
        self._step: Callable[[int], None] = self._take_step
        # Code of one's own may wait for the device in a step, which no graph can capture.
        if graph and device.type == "cuda" and isinstance(self._optimizer, Optimizer) and not self._is_own:
            self._step = CapturedStep(self._take_step, dict.fromkeys(self._batches), self._state())

    def _state(self) -> list[Tensor]:
        """Return every tensor that a step changes, where a step is a graph: not of an optimizer of one's own."""
        assert isinstance(self._optimizer, Optimizer)
        average = () if self._average is None else self._average.tensors()
        return [
            *self._optimizer.tensors(),
            *self._network.buffers(),
            *average,
            self._losses,
            self._outputs,
            self._counter,
        ]

    def state_dict(self) -> dict[str, Any]:
        """Return what the run continues from after an epoch, on its device."""
        parts = {"average": self._average, "plateau": self._plateau}
        kept = {name: part.state_dict() for name, part in parts.items() if part is not None}
        return {"network": self._network.state_dict(), "optimizer": self._optimizer.state_dict(), **kept}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what ``state_dict`` returned."""
        self._network.load_state_dict(state["network"])
        self._optimizer.load_state_dict(state["optimizer"])
        if self._average is not None:
            self._average.load_state_dict(state["average"])
        if self._plateau is not None:
            self._plateau.load_state_dict(state["plateau"])

    def epoch(self, epoch: int) -> EpochRecord:
        """Train, validate and, with ``test``, test once. The host waits for the device once, at the end."""
        started = time.perf_counter()
        with GpuMeter(self._device) as meter:
            begin = self._mark()
            lr, weight_decay = self.train_epoch(epoch)
            trained = self._mark()
            sums = {"": self._sums().sum(0), "val_": self._validate()}
            if self._config.test:
                sums["test_"] = self._evaluate(*self._data.test)
            pending = torch.cat(list(sums.values()))
            if epoch < self._config.horizon:  # while a GPU is at work
                self._drawn[epoch + 1] = self._draw(epoch + 1)
            values = iter(pending.tolist())
            measured = self._means({part: [next(values) for _ in of_part] for part, of_part in sums.items()})
        if self._plateau is not None:
            self._plateau.step(measured["val_loss"])
        return EpochRecord(
            epoch,
            **measured,  # type: ignore[arg-type]  # its keys are names of fields
            lr=lr,
            wd_lr=lr * weight_decay,
            seconds=time.perf_counter() - started,
            images_per_second=len(self._data.train_labels) / _seconds(begin, trained),
            power_watts=meter.power_watts,
            gpu_util_percent=meter.gpu_util_percent,
        )

    def _means(self, sums: dict[str, list[float]]) -> dict[str, float]:
        """Return losses and accuracies from sums over the images of the parts ``""`` (training), val_ and test_."""
        labels = {"": self._data.train_labels, "val_": self._data.val_labels}
        if "test_" in sums:
            labels["test_"] = self._data.test[1]
        means: dict[str, float] = {}
        for part, of_part in sums.items():
            means |= {f"{part}{name}": x / len(labels[part]) for name, x in zip(_MEASURED, of_part, strict=False)}
        return means

    def validated(self) -> dict[str, Tensor]:
        """Return the network that the last epoch has validated, and the mean of its images: KeptNetwork's state_dict.

        Raises:
            ConfigError: the state of a network of one's own holds something else than tensors.
        """
        network = self._network if self._average is None else self._average.network
        state = {**network.state_dict(), **self._statistics}
        for name, value in state.items():
            if not isinstance(value, Tensor):
                said = f"a network whose state_dict() holds tensors alone, not {name}; or `best = 0` in [keep]"
                raise ConfigError("model", self._config.model, said)
        return _on_cpu({"mean": self._data.mean, **{f"network.{name}": value for name, value in state.items()}})

    def confusion(self) -> tuple[tuple[int, ...], ...] | None:
        """Return for each class how many images of the last validation were taken for which class."""
        if self._taken_for is None:
            return None
        return tuple(map(tuple, self._taken_for.view(self._classes, self._classes).tolist()))

    def train_epoch(self, epoch: int) -> tuple[float, float]:
        """Take all steps of an epoch (1-based); return the learning rate and λ of the last step."""
        if self._is_own or not isinstance(self._optimizer, Optimizer):
            seed_generators(self._config, epoch, self._device)
        scale = 1.0 if self._plateau is None else self._plateau.scale
        values = step_values(self._config, epoch, len(self._batches), scale)
        self._draws.copy_(self._drawn.pop(epoch) if epoch in self._drawn else self._draw(epoch))
        copy_over(self._coefficients, self._optimizer.plan(values))
        self._labels[: len(self._draws.order)] = self._data.train_labels[self._draws.order]
        self._counter.zero_()
        for step, size in enumerate(self._batches):
            if step % self._ahead == 0:
                self._augment(step)
            self._step(size)
        self._working.count(len(self._batches))
        return values.lr[-1], values.weight_decay[-1]

    def _draw(self, epoch: int) -> Draws:
        return draw(self._config, epoch, len(self._data.train_labels))

    def steps(self, epoch: int) -> list[StepRecord]:
        """Return the records of the steps of ``epoch``, which must be the last one trained."""
        count = len(self._batches)
        values = step_values(self._config, epoch, count)
        return [
            StepRecord((epoch - 1) * count + i, epoch - 1 + i / count, values.lr[i], loss / size, right / size)
            for i, (size, (loss, right)) in enumerate(zip(self._batches, self._sums().tolist(), strict=True))
        ]

    def _take_step(self, size: int) -> None:
        rows, places = self._rows.index_select(0, self._counter)[0, :, :size].unbind()
        labels = self._labels.index_select(0, rows)
        self._working.refresh()
        with self._autocast():
            images = take(self._images, places).contiguous(memory_format=self._layout)
            logits = self._forward(images)
            if self._is_own:
                check_trained(self._config, logits, [size, self._classes])
            logits = logits.float()
            loss = F.cross_entropy(logits, labels)
        self._working.backward(loss)
        self._losses.index_copy_(0, self._counter, loss.detach()[None])
        self._outputs.index_copy_(0, rows, logits.detach())
        self._optimizer.apply(self._coefficients, self._counter)
        if self._average is not None:
            self._average.update()
        self._counter.add_(1)

    def _sums(self) -> Tensor:
        """Return the sum of losses and the number of correct images of each step: float64 [steps, 2]."""
        right = (self._outputs.argmax(1) == self._labels).view(len(self._batches), -1).sum(1)
        return torch.stack((self._losses.double() * self._sizes, right.double()), 1)

    def _augment(self, step: int) -> None:
        """Augment the images of ``step`` (from 0) and of the steps after it, and put them where the steps read them."""
        first = step * self._config.batch_size
        rows = slice(first, first + len(self._images))
        images = take(self._data.train_images, self._draws.order[rows])
        self._images[: len(images)] = self._augmented(images, rows)

    def _augmented(self, images: Tensor, rows: slice) -> Tensor:
        """Return images (uint8) augmented by their ``rows`` of the draws, and normalised."""
        offsets, mirrored, corners, centres = (
            None if table is None else table[rows]
            for table in (self._draws.offsets, self._draws.mirrored, self._draws.corners, self._draws.centres)
        )
        if corners is not None:
            images = crop(images, corners, self._config.crop)
        x = shift_and_flip(normalise(images, self._data.mean), offsets, mirrored)
        return x if centres is None else cutout(x, centres, self._config.cutout)

    def _validate(self) -> Tensor:
        return self._evaluate(self._data.val_images, self._data.val_labels, self._taken_for)

    @torch.no_grad()
    def _evaluate(self, images: Tensor, labels: Tensor, taken_for: Tensor | None = None) -> Tensor:
        """Return the sum of losses, the number of correct images and, with many classes, that of the top 5.

        They are on the device: [2], or [3].
        """
        network = self._network if self._average is None else self._average.network
        if not self._config.bn_recalibration:
            return self._sums_over(network, images, labels, taken_for)
        with recalibrated(network, self._plain_images(), lambda plain: self._logits(network, plain)):
            if self._is_kept:
                self._statistics = {name: buffer.clone() for name, buffer in network.named_buffers()}
            return self._sums_over(network, images, labels, taken_for)

    def _sums_over(self, network: nn.Module, images: Tensor, labels: Tensor, taken_for: Tensor | None) -> Tensor:
        size = EVALUATION_BATCH[self._device.type]
        sums = torch.zeros(3 if self._top5 else 2, dtype=torch.float64, device=self._device)
        network.eval()
        if taken_for is not None:
            taken_for.zero_()
        for start in range(0, len(labels), size):
            batch, truth = images[start : start + size], labels[start : start + size]
            logits = self._logits(network, normalise(batch, self._data.mean))
            predicted = logits.argmax(1)
            loss, right = F.cross_entropy(logits, truth), (predicted == truth).sum()
            if taken_for is not None:  # not bincount: on a GPU the host would wait for it
                taken_for.index_add_(0, truth * self._classes + predicted, torch.ones_like(truth))
            counts = [right.double()]
            if self._top5:
                counts.append((logits.topk(5).indices == truth[:, None]).sum().double())
            sums += torch.stack((loss.double() * len(truth), *counts))
        return sums

    def _plain_images(self) -> Iterator[Tensor]:
        """Yield the training images on which BN is recalibrated, without augmentation, in the order of the epoch."""
        order, size = self._draws.order[: self._config.bn_recalibration], EVALUATION_BATCH[self._device.type]
        for start in range(0, len(order), size):
            chosen = order[start : start + size]
            yield normalise(take(self._data.train_images, chosen), self._data.mean)

    def _logits(self, network: nn.Module, images: Tensor) -> Tensor:
        with self._autocast():
            logits: Tensor = network(images.contiguous(memory_format=self._layout))
        return logits.float()

    def _autocast(self) -> torch.autocast:
        # No cache: each weight is used once a pass, and a CUDA graph must not read a weight cached by another pass.
        bf16 = self._config.precision == "bf16"
        return torch.autocast(self._device.type, torch.bfloat16, enabled=bf16, cache_enabled=False)

    def _mark(self) -> float | torch.cuda.Event:
        if self._device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event


def _on_cpu(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors on the CPU, copied together: a GPU would need long to begin each of some hundred copies."""
    by_type: dict[torch.dtype, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        by_type.setdefault(tensor.dtype, {})[name] = tensor.detach()
    there: dict[str, Tensor] = {}
    for alike in by_type.values():
        flat = torch.cat([tensor.reshape(-1) for tensor in alike.values()]).cpu()
        parts = torch.split(flat, [tensor.numel() for tensor in alike.values()])
        there |= {name: part.view(alike[name].shape) for name, part in zip(alike, parts, strict=True)}
    return there


def _seconds(begin: float | torch.cuda.Event, end: float | torch.cuda.Event) -> float:
    """Return the time between two marks that are in the past."""
    if isinstance(begin, float) and isinstance(end, float):
        return end - begin
    return float(begin.elapsed_time(end)) / 1000  # type: ignore[union-attr,arg-type]  # both are events
