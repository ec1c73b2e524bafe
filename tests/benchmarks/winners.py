"""Whether what a study picks is truly better than the settings it began with: studies trained here, winners repeated.

    python -m tests.benchmarks.winners [quickstart] [--studies 8] [--runs 8] [--set KEY=VALUE ...]

Each study has the next search.seed and is run with its own sampler and rules, one trial at a time on one core. The
configuration it picks (`sweeps best`) and the first of its `first` trials are then trained with fresh seeds, the same
for both. A row tells what the pick's own run had shown, and the epochs to target of the fresh runs with their mean, a
miss as the study's longest schedule; the last lines, in how many studies the pick's mean is lower, and by how much.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import fmean, stdev

from scipy.special import stdtrit

from resnet_core.config import TrialConfig
from resnet_core.objective import first_crossing
from resnet_core.records import EpochRecord
from resnet_core.trainer import train
from search_spaces.errors import StudyError
from search_spaces.space import longest_horizon, trial_config
from search_spaces.spec import StudySpec
from search_spaces.study import find_study, load_study
from sweeps.home import Home
from sweeps.ledger.ledger import Ledger
from sweeps.simulation.replay import replay, study_in_memory
from sweeps.study.finalists import fresh_seeds
from sweeps.study.ranking import best_entry, configuration_of
from sweeps.study.trials import Entry
from tests.benchmarks.options import positive
from tests.benchmarks.record import prepare


def searched(spec: StudySpec, data_dir: Path) -> Entry | None:
    """Run a study to its end and return the run that it picks; None where no trial has a result."""
    run = study_in_memory(Home(Path()), Ledger.preview(spec))
    trials = replay(run, lambda job: trained(job.config, data_dir), slots=1)
    return best_entry(spec, [Entry(trial.job, trial.result) for trial in trials])


def trained(config: TrialConfig, data_dir: Path) -> list[EpochRecord]:
    """Return all epochs of a run."""
    return list(train(config, data_dir=data_dir, device="cpu"))


def restricted(config: TrialConfig, data_dir: Path, target: float, longest: int) -> int:
    """Return a run's epochs to target; a miss counts as the longest schedule."""
    crossing = first_crossing([record.val_acc for record in trained(config, data_dir)], target)
    return longest if crossing is None else crossing


def interval(values: Sequence[float]) -> str:
    """Return a mean with its 95 % interval by Student's t."""
    if len(values) < 2:
        return f"{fmean(values):+.2f}"
    half = float(stdtrit(len(values) - 1, 0.975)) * stdev(values) / math.sqrt(len(values))
    return f"{fmean(values):+.2f} [{fmean(values) - half:+.2f}, {fmean(values) + half:+.2f}]"


def main() -> None:
    """Train and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", nargs="?", default="quickstart", help="a study that samples a space")
    parser.add_argument("--studies", type=positive, default=8)
    parser.add_argument("--runs", type=positive, default=8, help="with fresh seeds, of each configuration")
    parser.add_argument("--set", dest="changes", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--processes", type=positive, default=2, help="studies, or runs, at once, a thread each")
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder that holds CIFAR-10 (default: ./data)")
    options = parser.parse_args()
    try:
        specs = [
            load_study(find_study(options.study), [*options.changes, f"search.seed={seed}"])
            for seed in range(options.studies)
        ]
    except StudyError as error:
        parser.error(str(error))
    spec = specs[0]
    if not spec.search.first:
        parser.error(f"{options.study}: expected a study with search.first, to set its pick against")
    target, longest = spec.objective.target, longest_horizon(spec)
    # Behind the seeds of every study's own trials, and of the finalists that it may race.
    seeds = fresh_seeds(2 * 10**6, options.runs, ())
    with ProcessPoolExecutor(options.processes, multiprocessing.get_context("spawn"), prepare) as pool:
        picks = list(pool.map(partial(searched, data_dir=options.data), specs))
        first = configuration_of(trial_config(spec, spec.search.first[0], seed=0))
        chosen = {first: None} | {configuration_of(pick.job.config): None for pick in picks if pick is not None}
        jobs = [(config, replace(config, seed=seed)) for config in chosen for seed in seeds]
        once = partial(restricted, data_dir=options.data, target=target, longest=longest)
        found: dict[TrialConfig, list[int]] = {}
        for (config, _), epochs in zip(jobs, pool.map(once, [job for _, job in jobs]), strict=True):
            found.setdefault(config, []).append(epochs)
    print(f"the first settings: {fmean(found[first]):.2f} epochs in the mean of {options.runs} runs: {found[first]}")
    gains = []
    for study, pick in zip(specs, picks, strict=True):
        if pick is None or pick.result is None:
            print(f"seed {study.search.seed}: no pick")
            continue
        runs, seen = found[configuration_of(pick.job.config)], pick.result.epochs_to_target
        gains.append(fmean(found[first]) - fmean(runs))
        print(f"seed {study.search.seed}: trial {pick.job.name}, seen {seen}, truly {fmean(runs):.2f}: {runs}")
    better = sum(gain > 0 for gain in gains)
    print(f"the pick is truly faster in {better} of {options.studies} studies, as fast in {gains.count(0.0)}")
    print(f"epochs gained by it: {interval(gains)}")


if __name__ == "__main__":
    main()
