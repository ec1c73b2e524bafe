"""The GPU benchmark, made for a machine that is there for a quarter of an hour.

    python -m tests.benchmarks.gpu run --out FOLDER [--data DIR] [--minutes 14] [--parts ...]
    python -m tests.benchmarks.gpu report FOLDER ... [--docs] [--home HOME]

``run`` takes the parts of tests.benchmarks.gpu_parts in the order of their worth, each in a process of its own under a
limit, until the minutes are over. Findings are in FOLDER/findings.jsonl as soon as they are made; the same command goes
on with the parts that have not come to their end. It needs torch, torchvision and resnet_core alone.

``report`` prints what was found as tables. ``--docs`` puts them into docs/performance.md and docs/results.md, and the
recorded epochs into docs/data; ``--home`` makes a study of these, as ``sweeps import`` does.

For a machine that takes files of some 60 MB at a time and reaches nothing else:

    python -m tests.benchmarks.gpu prepare FOLDER --data DIR      # here: writes FOLDER/1 and FOLDER/2
    python -m tests.benchmarks.gpu run --packed FOLDER/1 ...      # there: timing, on the images that are there
    python -m tests.benchmarks.gpu run --packed FOLDER/2 ...      # there, once the second has been taken too: all of it
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.benchmarks import packed_images
from tests.benchmarks.gpu_parts import (
    AT_ONCE_GOAL,
    COMPILED,
    EAGER,
    EAGER_BF16,
    EPOCH_GOAL,
    FINDINGS,
    FIRST_RECORD,
    GRAPH,
    OFF_BY,
    PARTS,
    PLAIN,
    PLAIN_GOAL,
    TORCH,
    TRAININGS,
    WITHOUT_BIASES,
    Findings,
    parser,
)
from tests.benchmarks.trainings import TARGET

LIMITS = {
    **{"fused": 90, "kernels": 90, "speed": 150, "trainings": 480, "agreement": 90},
    **{"first_epoch": 60, "threads": 120, "processes": 120},
}
"""Seconds after which a part is ended."""
LEAST = 15.0
"""Seconds that must be left for a part to begin."""
UNPACKED = Path.home() / "benchmark-images"
DOCS = Path(__file__).parents[2] / "docs"
WHOLE = "whole"
"""What a part has ended as that came to its end."""

Found = Mapping[str, Mapping[str, Any]]


def run(options: argparse.Namespace, passed: Sequence[str]) -> bool:
    """Take the parts that have not come to their end; return whether all did."""
    options.out.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "CUDA_DEVICE_MAX_CONNECTIONS": "32"}
    if options.packed is not None:
        packed_images.unpack(options.packed, UNPACKED)
        environment[packed_images.FOLDER] = str(UNPACKED)
    findings = Findings(options.out / FINDINGS)
    deadline = time.monotonic() + 60 * options.minutes
    for part in options.parts:
        if findings.read().get(part, {}).get("ended") == WHOLE:
            continue
        limit = min(LIMITS[part], deadline - time.monotonic())
        if limit < LEAST:
            findings.add(part, "ended", "not begun: no time was left")
            continue
        command = [sys.executable, "-m", "tests.benchmarks.gpu_parts", part, *passed]
        findings.add(part, "ended", _ended(command, environment, limit))
    found = findings.read()
    return all(found[part]["ended"] == WHOLE for part in options.parts)


def _ended(command: Sequence[str], environment: Mapping[str, str], limit: float) -> str:
    """Run a part; return how it ended."""
    process = subprocess.Popen(command, env=dict(environment), start_new_session=True)
    try:
        code = process.wait(limit)
    except subprocess.TimeoutExpired:
        return f"cut short after {limit:.0f} s"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # with what it has begun itself
        process.wait()
    return WHOLE if code == 0 else f"failed with exit code {code}"


def merged(folders: Sequence[Path]) -> dict[str, dict[str, Any]]:
    """Return the findings of several folders; of a part that several have, the latest that came to its end."""
    found: dict[str, dict[str, Any]] = {}
    for folder in folders:
        for part, findings in Findings(folder / FINDINGS).read().items():
            if found.get(part, {}).get("ended") != WHOLE or findings.get("ended") == WHOLE:
                found[part] = findings
    return found


def table(found: Found) -> list[str]:
    """Return the table of figures, in Markdown."""
    epoch, at_once = f"{EPOCH_GOAL} s an epoch at most", f"{AT_ONCE_GOAL} s a trial and epoch at most"
    eight = "8 at once, s a trial and epoch"
    rows = [
        ("speed", "s an epoch, CUDA graph, bf16", f"≤ {EPOCH_GOAL}", f"{GRAPH}, s an epoch", f"{GRAPH}: {epoch}"),
        *(
            ("speed", f"the same with {how}", f"≤ {EPOCH_GOAL}", f"{way}, s an epoch", f"{way}: {epoch}")
            for how, way in (
                ("`skip_conv_bias`", WITHOUT_BIASES),
                ("`fused = false`", TORCH),
                ("`compile`", COMPILED),
            )
        ),
        ("speed", "s an epoch, eager, fp32", "none", f"{EAGER}, s an epoch", ""),
        ("speed", "s an epoch, eager, bf16", "none", f"{EAGER_BF16}, s an epoch", ""),
        ("speed", "s an epoch, plain loop, fp32", "none", f"{PLAIN}, s an epoch", ""),
        (
            *("speed", "plain loop over ours", f"≥ {PLAIN_GOAL:g}", f"{GRAPH}: times as fast as the plain loop"),
            f"{GRAPH}: {PLAIN_GOAL} times at least",
        ),
        *(
            (part, f"s a trial and epoch, eight at once{where}", f"≤ {AT_ONCE_GOAL}", eight, f"8 at once: {at_once}")
            for part, where in (
                ("trainings", " in one process"),
                ("threads", " in one process, nothing written"),
                ("processes", ", a process each"),
            )
        ),
        ("kernels", "kernels a step", "none", "graph bf16: kernels a step", ""),
        ("kernels", "copies and fills a step", "none", "graph bf16: copies and fills a step", ""),
        ("kernels", "µs of them a step", "none", "graph bf16: microseconds of kernels, copies and fills a step", ""),
        *(
            ("fused", f"{name.removesuffix(OFF_BY)}: relative error", "≤ 0.01", name, "")
            for name in found.get("fused", {})
            if name.endswith(OFF_BY)
        ),
        *(
            ("first_epoch", f"s to the first record, {which} trial", "none", f"{which} {FIRST_RECORD}", "")
            for which in ("first", "second")
        ),
        *(
            ("agreement", name, "0" if "difference" in name else "yes", name, "")
            for name in found.get("agreement", {})
            if "difference" in name or "same bits" in name
        ),
    ]
    lines = ["| part | figure | goal | measured |", "|---|---|---|---|"]
    for part, figure, goal, name, verdict in rows:
        findings = found.get(part, {})
        value = _shown(findings[name]) if name in findings else "not measured"
        met = f": {findings[verdict]}" if verdict in findings else ""
        lines.append(f"| {part} | {figure} | {goal} | {value}{met} |")
    return lines


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return str(value)


KINDS = (
    ("batch norm, ReLU, sums, biases", r"^(moments|normalize|gradient_sums|gradients)$"),
    ("optimizer", r"^(sgd|adaptive)$"),
    ("BN, torch's", r"batch_norm"),
    ("convolutions and the dense layer", r"nvjet|xmma|cutlass|cudnn|gemm|convolve|splitK|cask|nhwcAddPadding"),
    ("gradients copied", r"multi_tensor_apply"),
    ("fills", r"FillFunctor|[Mm]emset"),
    ("casts", r"copy_kernel|Memcpy"),
    ("ReLU, torch's", r"threshold|clamp"),
    ("sums of a channel", r"reduce_kernel"),
    ("sums", r"CUDAFunctor_add|CUDAFunctorOnSelf_add"),
)
"""Kinds of kernels, and what is in their names; the first that fits counts."""


def kinds(found: Found) -> list[str]:
    """Return the table of a step's kernels by kind, in Markdown; nothing where they were not measured."""
    by_name = found.get("kernels", {}).get("graph bf16: microseconds a step and number, by name", [])
    total: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for name, microseconds, number in by_name:
        kind = next((kind for kind, pattern in KINDS if re.search(pattern, name)), "the others")
        total[kind][0] += microseconds
        total[kind][1] += number
    if not total:
        return []
    lines = ["| kind | kernels, copies and fills a step | µs a step |", "|---|---|---|"]
    for kind, (microseconds, number) in sorted(total.items(), key=lambda item: -item[1][0]):
        lines.append(f"| {kind} | {number:.0f} | {microseconds:,.0f} |")
    return lines


def recorded(trainings: Path) -> list[dict[str, Any]]:
    """Return the epochs of trainings that ran at once, one seed after the other."""
    epochs = map(json.loads, trainings.read_text(encoding="utf-8").splitlines())
    return sorted(epochs, key=lambda record: (record["seed"], record["epoch"]))


def seeds(trainings: Path) -> list[str]:
    """Return the table of recorded trainings by seed, in Markdown."""
    from resnet_core.objective import best, first_crossing, sustained_crossing

    curves: dict[int, list[float]] = defaultdict(list)
    for record in recorded(trainings):
        curves[record["seed"]].append(record["val_acc"])
    lines = [
        f"| seed | epochs to {TARGET} | held from | best val_acc | at epoch | after the last epoch |",
        "|---|---|---|---|---|---|",
    ]
    for seed, accs in curves.items():
        crossing, held, (at, most) = first_crossing(accs, TARGET), sustained_crossing(accs, TARGET), best(accs)
        held_from = f" {held} " if held else " "
        lines.append(f"| {seed} | {crossing or 'never'} |{held_from}| {most:.4f} | {at} | {accs[-1]:.4f} |")
    return lines


def put(page: Path, name: str, lines: Sequence[str]) -> None:
    """Replace what is between a page's marks of that name.

    Raises:
        ValueError: the page has no such marks.
    """
    begin, end = f"<!-- {name}, written by tests.benchmarks.gpu -->", f"<!-- end of {name} -->"
    text = page.read_text(encoding="utf-8")
    if begin not in text or end not in text:
        raise ValueError(f"{page} has no marks of {name}: {begin} … {end}")
    head, _, rest = text.partition(begin)
    page.write_text(head + "\n".join([begin, "", *lines, "", end]) + rest.partition(end)[2], encoding="utf-8")


def report(options: argparse.Namespace) -> bool:
    """Print what was found; put it into the documents and make a study of it where that is asked for."""
    found = merged(options.folders)
    if not found:
        raise SystemExit(f"no {FINDINGS} in {', '.join(map(str, options.folders))}")
    versions = ", ".join(f"{name} {value}" for name, value in found.get("versions", {}).items())
    pages = {"figures": table(found), "kinds": kinds(found)}
    trainings = next((f / TRAININGS for f in reversed(options.folders) if (f / TRAININGS).exists()), None)
    if trainings is not None:
        pages["seeds"] = seeds(trainings)
    print(versions)
    for part, findings in found.items():
        if findings.get("ended", WHOLE) != WHOLE:
            print(f"{part}: {findings['ended']}")
    for lines in pages.values():
        print("", *lines, sep="\n")
    card = re.sub(r"\W+", "_", found.get("versions", {}).get("gpu", "cpu").removeprefix("NVIDIA ")).lower()
    if options.docs is not None:
        put(options.docs / "performance.md", "figures", [f"{versions}.", "", *pages["figures"]])
        if pages["kinds"]:
            put(options.docs / "performance.md", "kinds", pages["kinds"])
        if trainings is not None:
            put(options.docs / "results.md", "seeds", pages["seeds"])
            (options.docs / "data").mkdir(exist_ok=True)
            lines = "".join(json.dumps(record) + "\n" for record in recorded(trainings))
            (options.docs / "data" / f"run33_{card}.jsonl").write_text(lines, encoding="utf-8")
    if options.home is not None and trainings is not None:
        command = ["import", str(trainings), "--name", f"run33-{card}", "--study", "published/post5_run33"]
        code = "from sweeps.cli import main; main()"
        done = subprocess.run(
            [sys.executable, "-c", code, *command, "--set", "train.precision=bf16", "--home", str(options.home)]
        )
        return done.returncode == 0
    return True


def main() -> None:
    """Prepare, run or report."""
    program = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = program.add_subparsers(dest="command", required=True)
    preparing = commands.add_parser("prepare", help="pack CIFAR-10 into two folders")
    preparing.add_argument("folder", type=Path)
    preparing.add_argument("--data", type=Path, default=Path("data"), help="folder that holds CIFAR-10")
    running = commands.add_parser("run", parents=[parser()], help="measure")
    running.add_argument("--packed", type=Path, help="a folder that `prepare` made")
    running.add_argument("--minutes", type=float, default=14, help="end after so many minutes (default: 14)")
    running.add_argument(
        "--parts", nargs="+", choices=PARTS, default=list(PARTS), help="what to measure (default: all)"
    )
    reporting = commands.add_parser("report", help="print tables of what was found")
    reporting.add_argument("folders", type=Path, nargs="+")
    reporting.add_argument("--docs", type=Path, nargs="?", const=DOCS, help="put them into the documents")
    reporting.add_argument("--home", type=Path, help="import the trainings into this home folder")
    options = program.parse_args()
    if options.command == "prepare":
        for folder in packed_images.pack(options.data, options.folder):
            size = sum(file.stat().st_size for file in folder.iterdir())
            print(f"{folder}: {size / 2**20:.1f} MiB")
    elif options.command == "report":
        sys.exit(0 if report(options) else 1)
    else:
        sys.exit(0 if run(options, _passed(options)) else 1)


def _passed(options: argparse.Namespace) -> list[str]:
    """Return the options of a part, as they are typed."""
    passed = []
    for action in parser()._actions:
        value = getattr(options, action.dest)
        if value is True:
            passed.append(action.option_strings[0])
        elif value not in (None, False, []):
            passed += [action.option_strings[0], *map(str, value if isinstance(value, list) else [value])]
    return passed


if __name__ == "__main__":
    main()
