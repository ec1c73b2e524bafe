"""Records curves of a study to their end, each configuration with several seeds, for `sweeps simulate --from`.

    python -m tests.benchmarks.record recorded/digits --configurations 120 --seeds 4 --out digits.jsonl.gz

The configurations are those that the study's own random sampler proposes; no rule stops anything. A trial that has
ended is appended to ``OUT.work`` at once: a run that was killed goes on where it was, and has lost the trials that ran.
The seeds of a configuration are trained one after another, so that what is there after any time serves as a recording
of fewer ``--configurations``. The recording is written at the end.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import threading
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from analysis.statistics.repeats import run_noise
from resnet_core.config import TrialConfig, epoch_sizes
from resnet_core.records import EpochRecord
from resnet_core.trainer import train
from search_spaces.errors import StudyError
from search_spaces.space import longest_horizon
from search_spaces.spec import StudySpec
from search_spaces.study import find_study, load_study
from sweeps.ledger.ledger import Ledger
from sweeps.simulation.recordings import SUFFIX, RecordedTrial, Recording, write
from sweeps.study.outcomes import make_result
from sweeps.study.stopping.base import Progress
from sweeps.study.trials import Job
from tests.benchmarks.options import new_file, positive


def jobs_of(spec: StudySpec, configurations: int, seeds: int) -> list[Job]:
    """Return the trials to train: each configuration that the study's sampler proposes, with every seed."""
    ledger = Ledger.preview(spec)
    drawn = [ledger.ask() for _ in range(configurations)]
    named = ((job, seed) for job in drawn for seed in range(seeds))
    return [
        Job(number, f"{job.name}-{seed}", replace(job.config, seed=seed), job.params)
        for number, (job, seed) in enumerate(named)
    ]


def trained(work: Path) -> dict[TrialConfig, list[EpochRecord]]:
    """Return the epochs of the trials that a work file holds; a last line that a kill cut short is none."""
    found = {}
    for line in work.read_text().split("\n")[:-1] if work.exists() else []:
        values = json.loads(line)
        found[TrialConfig.from_dict(values["config"])] = [EpochRecord(**record) for record in values["records"]]
    return found


def prepare() -> None:
    """Train on one thread, and not for longer than the process that asks for it."""
    torch.set_num_threads(1)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def _train(config: TrialConfig, data_dir: Path) -> list[dict[str, Any]]:
    return [record.to_dict() for record in train(config, data_dir=data_dir, device="cpu")]


def train_missing(jobs: list[Job], work: Path, processes: int, data_dir: Path) -> None:
    """Train the jobs that a work file lacks, and append each to it when it has ended."""
    there = trained(work)
    missing = [job for job in jobs if job.config not in there]
    if work.exists():  # what a kill cut short is taken off, or the next line would be a part of it
        whole = work.read_bytes()
        work.write_bytes(whole[: whole.rfind(b"\n") + 1])
    started = time.perf_counter()
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), prepare) as pool, work.open("a") as file:
        running = {pool.submit(_train, job.config, data_dir): job for job in missing}
        for count, future in enumerate(as_completed(running), start=1):
            job, records = running[future], future.result()
            file.write(json.dumps({"config": job.config.to_dict(), "records": records}) + "\n")
            file.flush()
            said = f"trial {job.name}: best val_acc {max(record['val_acc'] for record in records):.4f}"
            print(f"{said}; {count} of {len(missing)} in {time.perf_counter() - started:.0f} s", flush=True)


def recording_of(spec: StudySpec, jobs: list[Job], work: Path) -> Recording:
    """Return the jobs' trials out of a work file that holds them all."""
    there, objective = trained(work), spec.objective
    trials = []
    for job in jobs:
        records = there[job.config]
        result = make_result(
            Progress(job.config, records),
            longest_horizon=longest_horizon(spec),
            noise=run_noise((), objective.target, epoch_sizes(job.config)[1]),
            stop=None,
        )
        trials.append(RecordedTrial(job, result.outcome, records))
    return Recording(spec, trials)


def main() -> None:
    """Train and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", help="a study file, or the name of a shipped one; its sampler is random")
    parser.add_argument("--configurations", type=positive, required=True, help="how many to draw")
    parser.add_argument("--seeds", type=positive, default=1, help="train each with seeds 0, 1, … (default: 1)")
    parser.add_argument("--processes", type=positive, default=2, help="trials at once, a thread each (default: 2)")
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder that holds CIFAR-10 (default: ./data)")
    parser.add_argument("--out", type=new_file, required=True, help=f"the recording, a name that ends in {SUFFIX}")
    options = parser.parse_args()
    if not options.out.name.endswith(SUFFIX):
        parser.error(f"--out {options.out}: expected a name that ends in {SUFFIX}")
    try:
        spec = load_study(find_study(options.study), [f"search.trials={options.configurations}"])
    except StudyError as error:
        parser.error(str(error))
    if not spec.space or spec.search.sampler != "random":
        parser.error(f'{options.study}: expected a study with a space and search.sampler = "random"')
    jobs = jobs_of(spec, options.configurations, options.seeds)
    work = options.out.with_name(f"{options.out.name}.work")
    train_missing(jobs, work, options.processes, options.data)
    write(recording_of(spec, jobs, work), options.out)
    print(f"{options.out}: {len(jobs)} trials, {options.out.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
