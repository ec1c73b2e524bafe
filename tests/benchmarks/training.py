"""How fast training is on the CPU, beside the loop that people write, and where its time goes.

    python -m tests.benchmarks.training --data DIR [--threads 2] [--rounds 3] [--steps 24] [--batch 64] [--parts ...]

ResNet56v2 on real CIFAR-10 images; an epoch is so many steps of training, and validation on a fifth as many images,
as in CIFAR-10. What is compared runs in turn, round by round, after a warm-up each; printed are the median over the
rounds with the lowest and the highest, and every ratio as it was in each round. The parts:

- *plain*: ``resnet_core.trainer`` in fp32 and bf16 against torchvision's PIL transforms, a DataLoader (the faster of
  no and two workers), eager fp32 in contiguous memory, ``.item()`` at every step and torch's default AdamW;
- *augmentation*: from stored bytes to the network's input: batched crop, shift and flip against PIL's, which has one
  thread whatever torch has;
- *data*: the share of an epoch that is neither network nor optimizer;
- *placement*: a trial a core, one thread each, in processes of their own and in one
  process, against one trial that has all the cores;
- *biases*: ``conv_bias`` off against on: the time of a training step, and what it changes in a short training;
- *optimizers*: one step of each optimizer, its gradients given, beside torch's own AdamW.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor
from torch.utils.data import default_collate
from torchvision import transforms

from resnet_core.augment import crop, cutout, shift_and_flip
from resnet_core.config import Precision, TrialConfig, epoch_sizes
from resnet_core.images import load, normalise, take
from resnet_core.optim import OPTIMIZERS
from resnet_core.optimizer import Optimizer
from resnet_core.trainer import train
from resnet_core.training_run import EVALUATION_BATCH
from tests.benchmarks.loops import InProcess, InThreads, Ours, Pictures, Plain, Timing, network_of
from tests.benchmarks.rounds import interleaved, print_ratio, print_values, seconds_a_call

CPU = torch.device("cpu")
EPOCHS = 10_000
"""Horizon of runs that are timed: longer than anybody waits."""
END_TO_END_GOALS: dict[Precision, float] = {"fp32": 1.15, "bf16": 2.0}
CROP_GOAL, AFFINE_GOAL = 8.0, 10.0
DATA_GOAL = 0.02
PLACEMENT_GOAL = 1.1


@dataclass(frozen=True)
class Setting:
    """What a part measures with.

    Attributes:
        config: the run that is timed.
        short: the run that is trained to its end, for what it learns.
        seeds: how often ``short`` is trained.
        data_dir: the folder that holds CIFAR-10.
        threads: torch's threads; as many trials are placed at once.
        rounds: how often everything takes its turn.
        at_least: seconds that short calls are repeated for, in each round.
    """

    config: TrialConfig
    short: TrialConfig
    seeds: int
    data_dir: Path
    threads: int
    rounds: int
    at_least: float


def plain(setting: Setting) -> None:
    """Time epochs of the plain loop and of the trainer, each in a process of its own, for ours sets the allocator."""
    config, threads = setting.config, setting.threads
    loops: dict[str, InProcess] = {
        **{f"plain, {w} workers": InProcess(threads, Plain, config, setting.data_dir, CPU, w) for w in (0, 2)},
        **{
            f"ours, {p}": InProcess(threads, Ours, replace(config, precision=p), setting.data_dir)
            for p in get_args(Precision)
        },
    }

    def epoch_of(loop: InProcess) -> Callable[[], Timing]:
        return lambda: loop.epoch().result()

    try:
        timings = interleaved(setting.rounds, {name: epoch_of(loop) for name, loop in loops.items()})
    finally:
        for loop in loops.values():
            loop.close()
    images = epoch_sizes(config)[0]
    for name, epochs in timings.items():
        print_values(f"{name}: training", [images / t.train for t in epochs], "images/s")
        print_values(f"{name}: with validation", _totals(epochs), "s an epoch")
    fastest = min((_totals(timings[name]) for name in timings if name.startswith("plain")), key=statistics.median)
    for precision, goal in END_TO_END_GOALS.items():
        print_ratio(f"end to end, {precision}", fastest, _totals(timings[f"ours, {precision}"]), goal)


def augmentation(setting: Setting) -> None:
    """Time batches from stored bytes to what the network takes."""
    config = setting.config
    dataset = load(config, setting.data_dir).to(CPU)
    images, batch, side = dataset.train_images, config.batch_size, config.image_size
    padding, hole = 4, 8
    generator = torch.Generator().manual_seed(0)

    def drawn() -> tuple[Tensor, Tensor]:
        chosen = torch.randint(len(images), (batch,), generator=generator)
        return chosen, torch.rand(batch, generator=generator) < 0.5

    def shifted() -> Tensor:
        chosen, mirrored = drawn()
        offsets = (torch.rand(batch, 2, generator=generator) * 2 - 1) * (config.shift * side)
        return shift_and_flip(normalise(take(images, chosen), dataset.mean), offsets, mirrored)

    def cropped() -> Tensor:
        chosen, mirrored = drawn()
        corners = torch.randint(2 * padding + 1, (batch, 2), generator=generator)
        return shift_and_flip(normalise(crop(take(images, chosen), corners, padding), dataset.mean), None, mirrored)

    def cut() -> Tensor:
        return cutout(cropped(), torch.randint(side, (batch, 2), generator=generator), hole)

    def pil(first: Any) -> Callable[[], Any]:
        steps = transforms.Compose([first, transforms.RandomHorizontalFlip(), transforms.ToTensor()])
        pictures = Pictures(images, dataset.train_labels, steps)
        return lambda: default_collate([pictures[i] for i in drawn()[0].tolist()])

    batches: dict[str, Callable[[], Any]] = {
        "PIL RandomAffine, flip": pil(transforms.RandomAffine(0, translate=(config.shift, config.shift))),
        "ours, shift and flip": shifted,
        "PIL RandomCrop, flip": pil(transforms.RandomCrop(side, padding=padding)),
        "ours, crop and flip": cropped,
        "ours, crop, flip and cutout": cut,
    }
    taken = interleaved(
        setting.rounds, {name: _timed(function, setting.at_least) for name, function in batches.items()}
    )
    for name, seconds in taken.items():
        print_values(name, [s / batch * 1e6 for s in seconds], "µs an image")
    print_ratio(
        "shift against RandomAffine", taken["PIL RandomAffine, flip"], taken["ours, shift and flip"], AFFINE_GOAL
    )
    print_ratio("crop against RandomCrop", taken["PIL RandomCrop, flip"], taken["ours, crop and flip"], CROP_GOAL)


def data(setting: Setting) -> None:
    """Time what an epoch does beside network and optimizer, and set it against the whole epoch."""
    config = setting.config
    dataset = load(config, setting.data_dir).to(CPU)
    images, size = len(dataset.train_labels), config.batch_size

    def batches_alone() -> Timing:
        started = time.perf_counter()
        order = torch.randperm(images)
        offsets = (torch.rand(images, 2) * 2 - 1) * (config.shift * config.image_size)
        mirrored = torch.rand(images) < 0.5
        for start in range(0, images, size):
            rows = slice(start, start + size)
            chosen = order[rows]
            x = normalise(take(dataset.train_images, chosen), dataset.mean)
            shift_and_flip(x, offsets[rows], mirrored[rows])
        trained = time.perf_counter()
        for val_images in dataset.val_images.split(EVALUATION_BATCH["cpu"]):
            normalise(val_images, dataset.mean)
        return Timing(trained - started, time.perf_counter() - trained)

    runs = {p: Ours(replace(config, precision=p), setting.data_dir) for p in get_args(Precision)}
    timings = interleaved(
        setting.rounds, {"batches alone": batches_alone, **{name: run.epoch for name, run in runs.items()}}
    )
    alone = _totals(timings["batches alone"])
    print_values("batches alone", alone, "s an epoch")
    for precision in runs:
        shares = [a / b for a, b in zip(alone, _totals(timings[precision]), strict=True)]
        verdict = "met" if statistics.median(shares) <= DATA_GOAL else "missed"
        print_values(f"share of an epoch, {precision}", [100 * s for s in shares], f"%, goal at most 2 %: {verdict}")


def placement(setting: Setting) -> None:
    """Time a trial a thread at once against one trial of all threads."""
    config, data_dir, threads = setting.config, setting.data_dir, setting.threads
    singles = [InProcess(1, Ours, replace(config, seed=seed), data_dir) for seed in range(threads)]
    together = [InProcess(1, InThreads, threads, config, data_dir)]
    whole = [InProcess(threads, Ours, config, data_dir)]
    images = epoch_sizes(config)[0]

    def seconds_an_image(processes: list[InProcess], trials: int) -> float:
        started = time.perf_counter()
        for epoch in [process.epoch() for process in processes]:
            epoch.result()
        return (time.perf_counter() - started) / (images * trials)

    try:
        taken = interleaved(
            setting.rounds,
            {
                "one": lambda: seconds_an_image(whole, 1),
                "several": lambda: seconds_an_image(singles, threads),
                "together": lambda: seconds_an_image(together, threads),
            },
        )
    finally:
        for process in singles + together + whole:
            process.close()
    print_values(f"one trial of {threads} threads", [1 / s for s in taken["one"]], "images/s, with validation")
    print_values(f"{threads} trials of one thread", [1 / s for s in taken["several"]], "images/s, with validation")
    print_values(f"{threads} in one process", [1 / s for s in taken["together"]], "images/s, with validation")
    print_ratio("several against one", taken["one"], taken["several"], PLACEMENT_GOAL)
    print_ratio("in one process against several", taken["several"], taken["together"], goal=1.0)


def biases(setting: Setting) -> None:
    """Time training with and without biases on convolutions, and compare what a short training learns."""
    runs = {f"conv_bias {on}": Ours(replace(setting.config, conv_bias=on), setting.data_dir) for on in (True, False)}
    timings = interleaved(setting.rounds, {name: run.epoch for name, run in runs.items()})
    train_seconds = {name: [t.train for t in epochs] for name, epochs in timings.items()}
    steps = -(-epoch_sizes(setting.config)[0] // setting.config.batch_size)
    for name, seconds in train_seconds.items():
        print_values(name, [1000 * s / steps for s in seconds], "ms a step")
    print_ratio("with against without", *train_seconds.values(), goal=1.0)
    short = setting.short
    print(f"  {short.model} on {short.data}, {short.horizon} epochs, without biases less with:")
    for seed in range(setting.seeds):
        last = {
            on: list(train(replace(short, conv_bias=on, seed=seed), data_dir=setting.data_dir))[-1]
            for on in (True, False)
        }
        print(
            f"    seed {seed}: val_acc {last[False].val_acc - last[True].val_acc:+.4f} "
            f"(with {last[True].val_acc:.4f}), loss {last[False].loss - last[True].loss:+.4f} "
            f"(with {last[True].loss:.4f})",
            flush=True,
        )


def optimizers(setting: Setting) -> None:
    """Time one step of each optimizer on the network's parameters."""
    steps: dict[str, Callable[[], float]] = {}
    for name in OPTIMIZERS:
        config = replace(setting.config, optimizer=name)
        network = network_of(config)
        optimizer = Optimizer(network, config)
        steps[f"ours, {name}"] = _optimizer_step(
            network, lambda optimizer=optimizer: optimizer.step(1e-3, 0.1), setting.at_least
        )
    for how in ({"fused": True}, {"foreach": True}, {}):
        network = network_of(setting.config)
        torchs = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.1, **how)
        label = f"torch AdamW, {next(iter(how), 'default')}"
        steps[label] = _optimizer_step(network, torchs.step, setting.at_least)
    for name, seconds in interleaved(setting.rounds, steps).items():
        print_values(name, [1000 * s for s in seconds], "ms a step")


def _optimizer_step(network: torch.nn.Module, step: Callable[[], Any], at_least: float) -> Callable[[], float]:
    parameters = list(network.parameters())
    gradients = [torch.randn_like(p) * 1e-3 for p in parameters]

    def call() -> None:
        # A step may clear the gradients; giving them anew is a few hundred assignments.
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        step()

    return _timed(call, at_least)


def _timed(function: Callable[[], Any], at_least: float) -> Callable[[], float]:
    return lambda: seconds_a_call(function, at_least)


def _totals(timings: list[Timing]) -> list[float]:
    return [t.total for t in timings]


PARTS: dict[str, Callable[[Setting], None]] = {
    part.__name__: part for part in (plain, augmentation, data, placement, biases, optimizers)
}


def bf16_instructions() -> list[str]:
    """Return which instructions for bf16 the CPU has; how fast they are differs from one to the next."""
    try:
        flags = Path("/proc/cpuinfo").read_text().split()
    except OSError:
        return []
    return sorted({"amx_bf16", "avx512_bf16"}.intersection(flags))


def real(data_dir: Path, threads: int, rounds: int, steps: int, batch: int) -> Setting:
    """Return the setting that figures are taken in."""
    return Setting(
        config=TrialConfig(
            schedule="[1e-3, 0]",
            epochs=EPOCHS,
            batch_size=batch,
            weight_decay=0.18,
            shift=0.07,
            train_limit=steps * batch,
            val_limit=steps * batch // 5 or 1,
        ),
        short=TrialConfig(
            schedule="[1e-3, 0] cos[1e-5, 6]",
            model="resnet20v2",
            data="digits",
            image_size=16,
            weight_decay=0.18,
            shift=0.07,
            flip=False,
            bn_momentum=0.9,  # so short a run ends before running statistics of 0.99 have settled
        ),
        seeds=3,
        data_dir=data_dir,
        threads=threads,
        rounds=rounds,
        at_least=0.5,
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cores = len(os.sched_getaffinity(0))
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder that holds CIFAR-10 (default: ./data)")
    parser.add_argument("--threads", type=int, default=cores, help=f"torch's threads (default: {cores}, the cores)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds (default: 3)")
    parser.add_argument("--steps", type=int, default=24, help="training steps an epoch (default: 24)")
    parser.add_argument("--batch", type=int, default=64, help="images a step (default: 64)")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="what to measure (default: all)")
    options = parser.parse_args()
    if min(options.threads, options.rounds, options.steps, options.batch) < 1:
        parser.error("expected threads, rounds, steps and batch of one or more")
    torch.set_num_threads(options.threads)
    setting = real(options.data, options.threads, options.rounds, options.steps, options.batch)
    print(
        f"torch {torch.__version__}, {options.threads} threads of {cores} cores, "
        f"bf16 in {' '.join(bf16_instructions()) or 'no instruction'}, load {os.getloadavg()[0]:.1f}; "
        f"{setting.config.model}, {options.steps} steps of {options.batch}, {options.rounds} rounds"
    )
    for name in options.parts:
        print(f"\n{name}: median (lowest to highest)")
        PARTS[name](setting)


if __name__ == "__main__":
    main()
