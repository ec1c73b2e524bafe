"""The parts of the GPU benchmark: how fast training is there, and whether the fast ways compute the same.

Each is a process of its own (``python -m tests.benchmarks.gpu run`` starts them), so that a fault of CUDA's, which no
process survives, costs one part alone. Findings are written as they come. ResNet56v2, AdamW, batch 64, all of CIFAR-10;
an epoch is training and validation.

- *fused*: how far the kernels of resnet_core.fused are from float64 there;
- *kernels*: what a training step launches, what the GPU then runs, and how long each kernel of a replayed step takes;
- *speed*: seconds an epoch of the trainer's CUDA graph as published, with ``skip_conv_bias``, with torch's own kernels
  (``fused = false``) and with torch.compile, of its eager loop, and of the plain loop (torchvision's PIL transforms, a
  DataLoader of eight workers, eager fp32, ``.item()`` at every step); in turn, round by round. Loops bound by kernel
  launches run a part of an epoch, which is scaled;
- *trainings*: run 33 of post V to its end, eight seeds at once in one process: a result, and seconds a trial and epoch;
- *agreement*: weights of a graph run beside those of an eager run, and of a trial alone beside those of the same trial
  among others; with ``--deterministic`` cuDNN adds in a fixed order, and all should have the same bits;
- *first_epoch*: from the call until the first record, for the first and the second trial of a process;
- *threads*: several trials at once in one process;
- *processes*: several trials at once, a process each.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import platform
import statistics
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from resnet_core import checkpoint as checkpoints
from resnet_core import optimizer
from resnet_core.config import TrialConfig, epoch_sizes
from resnet_core.fused import batch_norm, support
from tests.benchmarks import packed_images
from tests.benchmarks.loops import InProcess, Ours, Plain, Timing, forkserver, records
from tests.benchmarks.options import device as device_of
from tests.benchmarks.options import positive
from tests.benchmarks.rounds import spread
from tests.benchmarks.trainings import RUN_33, Trainings

EPOCH_GOAL = 1.0
"""Seconds an epoch of one trial."""
PLAIN_GOAL = 10.0
"""How many times as fast as the plain loop."""
AT_ONCE_GOAL = 0.5
"""Seconds a trial and epoch, with eight trials at once."""
GRAPH, WITHOUT_BIASES, TORCH, PLAIN, EAGER, EAGER_BF16, COMPILED = WAYS = (
    *("graph bf16", "graph bf16 without biases", "graph bf16 of torch's kernels"),
    *("plain loop fp32", "eager fp32", "eager bf16", "compile and graph bf16"),
)
"""Ways of the part *speed*."""
EPOCHS = 10_000
"""Horizon of runs that are timed: longer than anybody waits."""
MAPS = ((16, 32), (64, 32), (64, 16), (128, 16), (128, 8), (256, 8))
"""Channels and sides of the maps of ResNet56v2 that batch norm has."""
LAUNCHES = frozenset(
    (
        *("cudaLaunchKernel", "cudaLaunchKernelExC", "cuLaunchKernel", "cuLaunchKernelEx", "cudaGraphLaunch"),
        *("cudaMemcpyAsync", "cudaMemsetAsync"),
    )
)
"""The calls by which a host has a GPU do something, as the profiler names them."""

OFF_BY = ": off by"
FIRST_RECORD = "trial of a process: first record after, s"
FINDINGS, TRAININGS = "findings.jsonl", "trainings.jsonl"
"""Files of a folder of findings."""

Finding = tuple[str, Any]


@dataclass(frozen=True)
class Sizes:
    """How much a part does.

    Attributes:
        config: the run that is timed, bf16.
        data_dir: the folder that holds CIFAR-10.
        rounds: how often everything takes its turn.
        steps: training steps of runs that are not timed over a whole epoch.
        workers: of the plain loop's DataLoader.
        threads: how many trials run at once in one process.
        processes: how many trials run at once in processes.
        without: ways of the part *speed* that are left out.
        seeds: of the part *trainings*.
        folder: takes what parts write beside their findings.
    """

    config: TrialConfig
    data_dir: Path
    rounds: int
    steps: int
    workers: int
    threads: tuple[int, ...]
    processes: tuple[int, ...]
    without: tuple[str, ...]
    seeds: tuple[int, ...]
    folder: Path

    def short(self, steps: int, **fields: Any) -> TrialConfig:
        """Return the run with epochs of ``steps`` steps and a fifth as many images to validate on."""
        images = steps * self.config.batch_size
        val_images = max(1, images // 5)
        return replace(self.config, **{"train_limit": images, "val_limit": val_images} | fields)


def fused(device: torch.device, sizes: Sizes) -> Iterator[Finding]:
    """Compare the fused kernels with float64; a figure above the trainer's tolerance has it use torch's own."""
    if not support.runs_on(device):
        yield "not used", support.unavailable() or f"{device} is no GPU"
        return
    yield "off by at most, as the trainer takes it", support.TOLERANCE
    for channels, side in MAPS:
        for with_residual in (False, True):
            off = batch_norm.relative_error(
                *(channels, side, sizes.config.batch_size, torch.bfloat16, device),
                with_residual=with_residual,
                with_biases=True,
            )
            yield f"batch norm, {channels}×{side}×{side}{', with a residual' * with_residual}{OFF_BY}", off
    yield f"step of adamw{OFF_BY}", optimizer.relative_error(sizes.config, device)


def speed(device: torch.device, sizes: Sizes) -> Iterator[Finding]:
    """Time epochs of the plain loop and of the trainer's ways, in turn."""
    config, data_dir = sizes.config, sizes.data_dir
    short = sizes.short(sizes.steps)
    ways: dict[str, tuple[TrialConfig, Callable[[TrialConfig], Plain | Ours]]] = {
        **{
            name: (of, lambda c: Ours(c, data_dir, device, graph=True))
            for name, of in (
                (GRAPH, config),
                (WITHOUT_BIASES, replace(config, skip_conv_bias=True)),
                (TORCH, replace(config, fused=False)),
                (COMPILED, replace(config, compile=True)),
            )
        },
        PLAIN: (short, lambda c: Plain(c, data_dir, device, sizes.workers)),
        EAGER: (replace(short, precision="fp32"), lambda c: Ours(c, data_dir, device, graph=False)),
        EAGER_BF16: (short, lambda c: Ours(c, data_dir, device, graph=False)),
    }
    epochs: dict[str, Callable[[], float]] = {}
    for name, (of, make) in ways.items():
        if name in sizes.without:
            continue
        started = time.perf_counter()
        try:
            loop = make(of)
            loop.epoch()
        except Exception as error:  # one way that does not work here must not hide the others
            yield f"{name}: failed", _brief(error)
            continue
        epochs[name] = _scaled(loop, of, config)
        yield f"{name}: ready after, s", time.perf_counter() - started
    seconds: dict[str, list[float]] = {name: [] for name in epochs}
    for number in range(1, sizes.rounds + 1):
        for name, epoch in epochs.items():
            seconds[name].append(epoch())
            yield f"round {number}, {name}, s an epoch", seconds[name][-1]
    for name, values in seconds.items():
        yield f"{name}, s an epoch", spread(values)
    for name, values in seconds.items():
        if "graph" in name:
            yield f"{name}: {EPOCH_GOAL} s an epoch at most", _verdict(statistics.median(values) <= EPOCH_GOAL)
            if PLAIN in seconds:
                ratios = [a / b for a, b in zip(seconds[PLAIN], values, strict=True)]
                yield f"{name}: times as fast as the plain loop", spread(ratios, 1)
                yield f"{name}: {PLAIN_GOAL} times at least", _verdict(statistics.median(ratios) >= PLAIN_GOAL)


def _scaled(loop: Plain | Ours, of: TrialConfig, config: TrialConfig) -> Callable[[], float]:
    """Return what times an epoch of ``loop``, which runs ``of``, and scales it to an epoch of ``config``."""
    (train, val), (full_train, full_val) = epoch_sizes(of), epoch_sizes(config)

    def seconds() -> float:
        timing = loop.epoch()
        return timing.train * full_train / train + timing.validate * full_val / val

    return seconds


class ThreadTrial:
    """A run in a thread of its own, one epoch a call."""

    def __init__(self, config: TrialConfig, data_dir: Path, device: torch.device) -> None:
        self._pool = ThreadPoolExecutor(1)
        self._run = Ours(config, data_dir, device)

    def epoch(self) -> Future[Timing]:
        """Begin an epoch."""
        return self._pool.submit(self._run.epoch)

    def close(self) -> None:
        """End the thread."""
        self._pool.shutdown(cancel_futures=True)


def threads(device: torch.device, sizes: Sizes) -> Iterator[Finding]:
    """Time trials at once in one process, a thread and a stream each."""
    yield from _at_once(
        [ThreadTrial(_seeded(sizes, seed), sizes.data_dir, device) for seed in range(max(sizes.threads))],
        sizes.threads,
        sizes.rounds,
    )


def processes(device: torch.device, sizes: Sizes) -> Iterator[Finding]:
    """Time trials at once in processes of their own that share the device."""
    yield from _at_once(
        [InProcess(1, Ours, _seeded(sizes, seed), sizes.data_dir, device) for seed in range(max(sizes.processes))],
        sizes.processes,
        sizes.rounds,
    )


def _seeded(sizes: Sizes, seed: int) -> TrialConfig:
    return replace(sizes.config, seed=seed)


def _at_once(
    trials: Sequence[ThreadTrial] | Sequence[InProcess], counts: tuple[int, ...], rounds: int
) -> Iterator[Finding]:
    """Give every trial a first epoch, then have the first so many run one at once, each count in turn."""
    with ExitStack() as stack:
        for trial in trials:
            stack.callback(trial.close)
        yield f"{len(trials)} trials, all with their first epoch after, s", _wall(trials)
        walls: dict[int, list[float]] = {count: [] for count in counts}
        for number in range(1, rounds + 1):
            for count in counts:
                walls[count].append(_wall(trials[:count]))
                yield f"round {number}, {count} at once, s an epoch", walls[count][-1]
        for count, values in walls.items():
            yield f"{count} at once, s a trial and epoch", spread([value / count for value in values])
        most = max(counts)
        met = statistics.median(walls[most]) / most <= AT_ONCE_GOAL
        yield f"{most} at once: {AT_ONCE_GOAL} s a trial and epoch at most", _verdict(met)


def _wall(trials: Sequence[ThreadTrial] | Sequence[InProcess]) -> float:
    """Run one epoch of each at once; return the seconds until the last has ended."""
    started = time.perf_counter()
    for epoch in [trial.epoch() for trial in trials]:
        epoch.result()
    return time.perf_counter() - started


def agreement(device: torch.device, sizes: Sizes) -> Iterator[Finding]:
    """Compare weights after short epochs: graph with eager, alone with among others.

    An eager run repeated is the scale for the first, a graph run repeated for the second: kernels that add in no
    fixed order make two runs of the same thing differ.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bf16 = sizes.short(sizes.steps, epochs=1)
        fp32 = replace(bf16, precision="fp32")
        for config in (fp32, bf16):
            eager, again, graph = (
                _weights(config, sizes.data_dir, device, how, folder / f"{config.precision} {i}.pt")
                for i, how in enumerate((False, False, True))
            )
            what = f"{config.precision}, {sizes.steps} steps: largest difference of a weight"
            yield f"{what}, eager and eager", _difference(eager, again)
            yield f"{what}, graph and eager", _difference(graph, eager)
        yield "largest weight", max(weight.abs().max().item() for weight in eager.values())
        # Three epochs, since all wait for each other after the first: capturing takes longer than an epoch does.
        trial = replace(bf16, epochs=3)
        alone, repeated = (
            _weights(trial, sizes.data_dir, device, True, folder / f"{which}.pt") for which in ("alone", "repeated")
        )
        yield "a trial alone and repeated: same bits", _same_bits(alone, repeated)
        most = max(sizes.threads)
        together = threading.Barrier(most, timeout=300)

        def beside(seed: int) -> dict[str, Tensor]:
            path = folder / f"among others {seed}.pt"
            return _weights(replace(trial, seed=seed), sizes.data_dir, device, True, path, together.wait)

        with ThreadPoolExecutor(most) as pool:
            among, *_ = pool.map(beside, range(trial.seed, trial.seed + most))
        yield f"a trial alone and among {most}: same bits", _same_bits(alone, among)
        yield f"a trial alone and among {most}: largest difference of a weight", _difference(alone, among)


def _weights(
    config: TrialConfig,
    data_dir: Path,
    device: torch.device,
    graph: bool,
    path: Path,
    after_first: Callable[[], object] = lambda: None,
) -> dict[str, Tensor]:
    """Train ``config`` to its end and return the network's floating-point state, on the CPU."""
    for record in records(config, data_dir, device, graph, path):
        if record.epoch == 1:
            after_first()
    state = checkpoints.load(path)
    assert state is not None
    return {name: value.cpu() for name, value in state["network"].items() if value.is_floating_point()}


def _difference(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    return max((a[name].double() - b[name].double()).abs().max().item() for name in a)


def _same_bits(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


def first_epoch(device: torch.device, sizes: Sizes) -> Iterator[Finding]:
    """Time the first record of the first and of the second trial in a fresh process."""
    with ProcessPoolExecutor(1, forkserver(), torch.set_num_threads, (1,)) as pool:
        pool.submit(_nothing).result()  # imports are not the trial's time
        for which in ("first", "second"):
            seconds = pool.submit(_first_record, sizes.config, sizes.data_dir, device).result()
            yield f"{which} {FIRST_RECORD}", seconds


def _nothing() -> None:
    pass


def _first_record(config: TrialConfig, data_dir: Path, device: torch.device) -> float:
    started = time.perf_counter()
    next(records(config, data_dir, device))
    return time.perf_counter() - started


def kernels(device: torch.device, sizes: Sizes) -> Iterator[Finding]:
    """Count what a training step launches and runs: an epoch of twice the steps, less one of the steps."""
    steps = max(1, sizes.steps // 30)
    for name, graph in (("eager", False), ("graph", True)):
        # The same validation behind both, so that the difference is training alone.
        once, twice = (
            _traced(sizes.short(factor * steps, val_limit=1), sizes.data_dir, device, graph) for factor in (1, 2)
        )
        for what in ("launches by the host", "kernels", "copies and fills"):
            number = sum(twice.number[key] - once.number[key] for key in twice.number if key[0] == what)
            yield f"{name} bf16: {what} a step", number / steps
    # Of the last traced, the graph's.
    longest = {key: (value - once.microseconds[key]) / steps for key, value in twice.microseconds.items()}
    yield "graph bf16: microseconds of kernels, copies and fills a step", sum(longest.values())
    yield (
        "graph bf16: microseconds a step and number, by name",
        [
            (key[1][:160], longest[key], (twice.number[key] - once.number[key]) / steps)
            for key in sorted(longest, key=longest.__getitem__, reverse=True)
        ],
    )


@dataclass(frozen=True)
class Traced:
    """What happened in an epoch, by kind and name: how often, and how long it kept the GPU."""

    number: Counter[tuple[str, str]]
    microseconds: Counter[tuple[str, str]]


def _traced(config: TrialConfig, data_dir: Path, device: torch.device, graph: bool) -> Traced:
    """Trace the second epoch of a run."""
    run = records(config, data_dir, device, graph)
    next(run)
    # CUDA's activity holds the host's launches too; torch's own operators would only swell the trace.
    activity = ProfilerActivity.CUDA if device.type == "cuda" else ProfilerActivity.CPU
    with profile(activities=[activity]) as profiler:
        next(run)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(path))
        events = json.loads(path.read_text())["traceEvents"]
    kinds = {"kernel": "kernels", "gpu_memcpy": "copies and fills", "gpu_memset": "copies and fills"}
    traced = Traced(Counter(), Counter())
    for event in events:
        name = event.get("name", "")
        if name in LAUNCHES:
            traced.number["launches by the host", name] += 1
        elif event.get("cat") in kinds:
            key = (kinds[event["cat"]], name)
            traced.number[key] += 1
            traced.microseconds[key] += event["dur"]
    return traced


def _verdict(met: bool) -> str:
    return "met" if met else "missed"


def _brief(error: BaseException) -> str:
    return "".join(traceback.format_exception_only(error)).strip()[-2000:]


def trainings(device: torch.device, sizes: Sizes) -> Iterator[Finding]:
    """Train run 33 with every seed, all at once, and write its epochs beside the findings."""
    if sizes.config.data == "cifar10" and packed_images.incomplete():
        raise RuntimeError("not all images are there: the results would be of others")
    config = RUN_33 if sizes.config.data == "cifar10" else replace(sizes.config, epochs=2)
    out = sizes.folder / TRAININGS
    out.unlink(missing_ok=True)  # of a run of this part that was cut short
    trained = Trainings(config, sizes.data_dir, device, out)
    yield "all trained to their end", trained.run(list(sizes.seeds), len(sizes.seeds))
    yield f"{len(sizes.seeds)} at once, s a trial and epoch", (seconds := trained.seconds_at_once(list(sizes.seeds)))
    if seconds is not None:
        met = _verdict(seconds <= AT_ONCE_GOAL)
        yield f"{len(sizes.seeds)} at once: {AT_ONCE_GOAL} s a trial and epoch at most", met
    yield "epochs", sum(map(len, trained.ends.values()))


PARTS: dict[str, Callable[[torch.device, Sizes], Iterator[Finding]]] = {
    part.__name__: part for part in (fused, kernels, speed, trainings, agreement, first_epoch, threads, processes)
}
"""In the order of their worth where minutes are few."""


class Findings:
    """A file of findings, a line of JSON each: ``part``, ``name``, ``value``. They are printed, too, as they come."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def add(self, part: str, name: str, value: Any) -> None:
        """Take a finding."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"part": part, "name": name, "value": value}) + "\n")
        for line in value if isinstance(value, list) else [value]:
            print(f"{part}: {name}: {f'{line:.4g}' if isinstance(line, float) else line}", flush=True)

    def read(self) -> dict[str, dict[str, Any]]:
        """Return the findings by part and name; of two of a name the later one."""
        found: dict[str, dict[str, Any]] = {}
        lines = self._path.read_text(encoding="utf-8").splitlines() if self._path.exists() else []
        for line in lines:
            with contextlib.suppress(ValueError):  # the last one of a process that was killed
                finding = json.loads(line)
                found.setdefault(finding["part"], {})[finding["name"]] = finding["value"]
        return found


def measure(part: str, device: torch.device, sizes: Sizes, findings: Findings) -> bool:
    """Take what a part finds; return whether it came to its end."""
    try:
        for name, value in PARTS[part](device, sizes):
            findings.add(part, name, value)
    except Exception as error:  # what was found until then counts
        traceback.print_exc()
        findings.add(part, "failed", _brief(error))
        return False
    return True


def real(data_dir: Path, folder: Path) -> Sizes:
    """Return the sizes that figures are taken at."""
    config = TrialConfig(schedule="[1e-3, 0]", epochs=EPOCHS, weight_decay=0.18, shift=0.07, precision="bf16")
    return Sizes(
        config,
        data_dir,
        rounds=2,
        steps=60,
        workers=8,
        threads=(1, 2, 4, 8),
        processes=(2, 4, 8),
        without=(),
        seeds=(33, *range(7)),
        folder=folder,
    )


def tiny(data_dir: Path, folder: Path) -> Sizes:
    """Return sizes that take seconds anywhere, to see that the program works; the figures mean nothing."""
    config = TrialConfig(
        schedule="[1e-3, 0]",
        epochs=EPOCHS,
        model="resnet11v2",
        data="digits",
        image_size=16,
        train_limit=64,
        val_limit=16,
        batch_size=32,
        shift=0.07,
        precision="bf16",
    )
    return Sizes(
        config,
        data_dir,
        rounds=1,
        steps=2,
        workers=0,
        threads=(1, 2),
        processes=(1,),
        without=(COMPILED,),
        seeds=(33, 0),
        folder=folder,
    )


def versions(device: torch.device) -> dict[str, Any]:
    """Return what the figures belong to."""
    found = {"python": platform.python_version(), "torch": torch.__version__, "torchvision": torchvision.__version__}
    if device.type == "cuda":
        found |= {
            "cuda": str(torch.version.cuda),
            "cudnn": str(torch.backends.cudnn.version()),
            "gpu": torch.cuda.get_device_name(device),
        }
    return found


def parser() -> argparse.ArgumentParser:
    """Return what reads the options of a part."""
    options = argparse.ArgumentParser(add_help=False)
    options.add_argument("--out", type=Path, required=True, help="folder of the findings")
    options.add_argument("--data", type=Path, default=Path("data"), help="folder that holds CIFAR-10 (default: ./data)")
    options.add_argument("--device", type=device_of, default="cuda", help="torch device (default: cuda)")
    options.add_argument("--tiny", action="store_true", help="only see that the program works, on digits")
    options.add_argument("--rounds", type=positive, help="how often everything takes its turn (default: 2)")
    options.add_argument(
        "--steps", type=positive, help="training steps of what is not timed over a whole epoch (default: 60)"
    )
    options.add_argument("--without", nargs="+", default=[], choices=WAYS, help="ways of *speed* to leave out")
    options.add_argument("--at-once", type=positive, nargs="+", help="trials at once, in threads and processes")
    options.add_argument("--seeds", type=int, nargs="+", help="of *trainings* (default: 33 0 1 2 3 4 5 6)")
    options.add_argument("--deterministic", action="store_true", help="cuDNN adds in a fixed order")
    return options


def main() -> None:
    """Measure one part."""
    reader = argparse.ArgumentParser(parents=[parser()])
    reader.add_argument("part", choices=PARTS)
    options = reader.parse_args()
    torch.backends.cudnn.deterministic = options.deterministic
    at_once = tuple(options.at_once) if options.at_once else None
    given = {"rounds": options.rounds, "steps": options.steps, "threads": at_once, "processes": at_once}
    given["seeds"] = tuple(options.seeds) if options.seeds else None
    sizes = (tiny if options.tiny else real)(options.data, options.out)
    sizes = replace(sizes, **{name: value for name, value in given.items() if value})
    sizes = replace(sizes, without=(*sizes.without, *options.without))
    findings = Findings(options.out / FINDINGS)
    for name, value in versions(options.device).items():
        findings.add("versions", name, value)
    sys.exit(0 if measure(options.part, options.device, sizes, findings) else 1)


if __name__ == "__main__":
    main()
