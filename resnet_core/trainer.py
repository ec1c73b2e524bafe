"""One training run as a generator: one ``next`` is one epoch."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from io import BytesIO
from pathlib import Path
from typing import Any

import torch

from resnet_core import checkpoint as checkpoints
from resnet_core import own
from resnet_core.code import is_reference
from resnet_core.config import ConfigError, TrialConfig, epoch_sizes
from resnet_core.images import Dataset, load
from resnet_core.network_file import About, NetworkWriter
from resnet_core.records import EpochRecord, StepRecord
from resnet_core.streams import STREAMS
from resnet_core.training_run import TrainingRun


def train(
    config: TrialConfig,
    *,
    data_dir: Path,
    device: str = "cpu",
    checkpoint: Path | None = None,
    network: NetworkWriter | None = None,
    graph: bool = True,
) -> Generator[EpochRecord]:
    """Train one network and yield a record after each epoch, ``config.horizon`` of them.

    To stop a run, stop iterating. With ``checkpoint`` the state is saved after each epoch, before its record is
    yielded; on a GPU, epochs between the first and the last are saved while the next one trains. If the file exists
    already, the records in it are yielded first, and the run continues after them: the consumer always sees the
    whole curve. The random numbers of an epoch depend on (seed, epoch) alone. So on a CPU, with the same number of
    threads, a continued run equals an uninterrupted one, bit for bit. With ``config.test`` each record also has the
    loss and the accuracy on the test images; nothing else depends on them. On a CPU the process keeps the memory that
    it frees (see resnet_core.allocator).

    >>> small = TrialConfig("[1e-3, 0] lin[0, 2]", model="resnet11v2", data="digits", image_size=16, train_limit=20)
    >>> [record.epoch for record in train(small, data_dir=Path("data"))]
    [1, 2]

    Args:
        config: everything that determines the run.
        data_dir: the folder for data, from which images are read and to which they are downloaded.
        device: a torch device.
        checkpoint: the file to save to and to continue from; None saves nothing.
        network: writes the validated network after each epoch, before the epoch is saved; None writes none.
        graph: on a GPU, capture a step as a CUDA graph once and replay it.

    A network, a data set or an optimizer of one's own is imported here. Layers such as dropout draw from torch's global
    generators, which get a seed of (seed, epoch) ahead of each epoch; so a continued run equals an uninterrupted one if
    no other trial draws from them in the same process. With a network or an optimizer of one's own, no step is captured
    as a graph.

    Raises:
        CodeError: code that the config names cannot be imported.
        ConfigError: the config does not fit that code.
        DataError: the images are not there and cannot be downloaded.
        CheckpointError: the checkpoint cannot be read, or is of another config.
        OSError: the checkpoint cannot be written.
    """
    given, config = config, own.resolve(config)
    state = None if checkpoint is None else _restore(checkpoint, given)
    records = [] if state is None else [EpochRecord.from_dict(record) for record in state["records"]]
    yield from records
    if len(records) >= config.horizon:
        return
    there = torch.device(device)
    with STREAMS.leased(there) as stream, ExitStack() as closing:
        writer = None if checkpoint is None else checkpoints.Writer(checkpoint, background=there.type == "cuda")
        if writer is not None:
            closing.callback(writer.close)
        # The consumer's work between two epochs does not belong to this stream.
        with torch.cuda.stream(stream):
            run = TrainingRun(config, load(config, data_dir), there, graph, is_kept=network is not None)
            if state is not None:
                run.load_state_dict(state)
        del state
        for epoch in range(len(records) + 1, config.horizon + 1):
            with torch.cuda.stream(stream):
                record = run.epoch(epoch)
                records.append(record)
                if network is not None:  # ahead of the checkpoint: an epoch that is saved is not trained again
                    _write_network(network, run, given, record)
                if writer is not None and checkpoints.is_due(epoch, config.horizon):
                    saved = {"config": given.to_dict(), "records": [r.to_dict() for r in records]}
                    kept = run.state_dict()
                    if epoch == 1:
                        _check_own_state(config, kept)
                    writer.save({**saved, **kept}, last=epoch == config.horizon)
            yield record


def step_records(config: TrialConfig, *, data_dir: Path, device: str = "cpu") -> Iterator[list[StepRecord]]:
    """Train one network without validating it; yield the records of all steps after each epoch.

    Args:
        config: everything that determines the run.
        data_dir: the folder for data, from which images are read and to which they are downloaded.
        device: a torch device.

    Raises:
        DataError: the images are not there and cannot be downloaded.
    """
    config = own.resolve(config)
    with STREAMS.leased(torch.device(device)) as stream:
        with torch.cuda.stream(stream):
            run = TrainingRun(config, load(config, data_dir), torch.device(device))
        for epoch in range(1, config.horizon + 1):
            with torch.cuda.stream(stream):
                run.train_epoch(epoch)
                steps = run.steps(epoch)
            yield steps


def seconds_per_epoch(config: TrialConfig, *, device: str = "cpu", steps: int = 3) -> float:
    """Time a few steps of ``config`` on random images and extrapolate to an epoch, in seconds.

    An evaluation counts as a third of a training pass over its images, since it is a forward pass alone.
    """
    config = own.resolve(config)
    spec = own.dataset(config.data)
    train_size, val_size = epoch_sizes(config)
    batch = min(config.batch_size, train_size)
    shape = (spec.channels, config.side, config.side)
    images = torch.randint(0, 256, (batch, *shape), dtype=torch.uint8)
    labels = torch.arange(batch) % spec.classes
    dataset = Dataset(images, labels, images, labels, torch.zeros(shape))
    with STREAMS.leased(torch.device(device)) as stream, torch.cuda.stream(stream):
        run = TrainingRun(config, dataset, torch.device(device))
        run.train_epoch(1)
        run.steps(1)  # waits for the device
        started = time.perf_counter()
        for _ in range(steps):
            run.train_epoch(1)
        run.steps(1)
    per_image = (time.perf_counter() - started) / (steps * batch)
    test_size = spec.test_size if config.test else 0
    return per_image * (train_size + (val_size + test_size) / 3)


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
        before, now = saved.to_dict(), config.to_dict()  # options are left out where there are none
        changed = [name for name in dict.fromkeys([*now, *before]) if before.get(name) != now.get(name)]
        raise checkpoints.CheckpointError(
            f"checkpoint {path} is of another run ({', '.join(changed)} differ); delete it to start anew"
        )
    return state


def _write_network(network: NetworkWriter, run: TrainingRun, config: TrialConfig, record: EpochRecord) -> None:
    spec = own.dataset(run.config.data)
    about = About(
        epoch=record.epoch,
        config=config.to_dict(),
        weights="average" if config.ema else "last",
        metrics=record.values(),
        classes=spec.class_names,
        channels=spec.channels,
        image_size=run.config.side,
        confusion=run.confusion(),
        versions={"torch": torch.__version__},
    )
    network.write(run.validated(), about)


def _check_own_state(config: TrialConfig, state: dict[str, Any]) -> None:
    """Check that the state of a network and an optimizer of one's own can be read again.

    Raises:
        ConfigError: it cannot, since a checkpoint holds plain values alone: reading it runs no code.
    """
    for field, part in (("model", "network"), ("optimizer", "optimizer")):
        if not is_reference(name := getattr(config, field)):
            continue
        file = BytesIO()
        try:
            torch.save(state[part], file)
            file.seek(0)
            torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # pickle raises whatever the values raise
            said = "a state_dict() of tensors, numbers and texts, and of dicts, lists and tuples of these"
            reason = next((line for line in str(error).splitlines() if "GLOBAL" in line), str(error)).strip()
            raise ConfigError(field, name, f"{said}, which a checkpoint can keep: {reason}") from error
