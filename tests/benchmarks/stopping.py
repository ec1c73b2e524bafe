"""What stopping rules save, and what they cost: simulated studies with each and without any, on the same seeds.

    python -m tests.benchmarks.stopping [--from recorded/digits] [--sampler random] [--repeats 8] [--chances 0.05,0.1]

Without --from the curves are the model's, and the study is adamw_cosine. A row tells how much of its trials' schedules
a study saved; by how much the configuration it picks is truly slower than the same study's pick without a rule
(restricted mean epochs to target, with Student's 95 % interval); in what share of the studies it ended any of the five
configurations that are truly the fastest it tried, before they reached the target; and the same of the five that would
have been observed to be the fastest.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean, stdev

from scipy.special import stdtrit

from resnet_core.config import TrialConfig
from resnet_core.objective import objective
from search_spaces.space import longest_horizon
from search_spaces.study import find_study, load_study
from sweeps.home import Home
from sweeps.simulation.curve_model import POST5
from sweeps.simulation.curves import RecordedCurves, find_curves
from sweeps.simulation.picks import pick_of_study, truth_of_runs, truth_of_trial
from sweeps.simulation.replay import SimulatedTrial
from sweeps.simulation.setup import Setup
from sweeps.study.ranking import configuration_of
from sweeps.study.trials import Job

BEST = 5
OTHER_WAYS = {
    "no rule": "{diverged=false}",
    "cap 1.2": "{diverged=false, cap={best=5, slack=1.2}}",
    "cap 1.0": "{diverged=false, cap={best=5, slack=1.0}}",
    "cannot_reach": "{diverged=false, cannot_reach={}}",
    "asha": "{diverged=false, asha={}}",
    "median": "{diverged=false, median={}}",
    "patience": "{diverged=false, patience={epochs=4}}",
    "at_target": "{diverged=false, at_target=true}",
}


@dataclass(frozen=True)
class Study:
    """What one simulated study came to.

    Attributes:
        saved: share of its trials' schedules that was not trained.
        pick: true restricted mean epochs to target of the configuration it picks.
        lost: whether it ended one of the truly fastest five configurations that it tried.
        lost_observed: whether it ended one of the five whose run would have been the fastest.
    """

    saved: float
    pick: float
    lost: bool
    lost_observed: bool


class Truths:
    """What configurations do, computed once: on a recording over all their runs."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._known: dict[TrialConfig, float] = {}

    def __call__(self, job: Job) -> float:
        """Return the restricted mean epochs to target of a trial's configuration."""
        key, spec, source = configuration_of(job.config), self._setup.spec, self._setup.source
        if key not in self._known:
            if isinstance(source, RecordedCurves):
                names = [other.name for other in source.jobs if configuration_of(other.config) == key]
                runs = [[record.val_acc for record in source.curves[name]] for name in names]
                truth = truth_of_runs(runs, spec.objective, longest_horizon(spec))
            else:
                truth = truth_of_trial(source, job, spec, ())
            self._known[key] = truth.rmst
        return self._known[key]


def run(setup: Setup, seed: int, truths: Truths) -> Study:
    """Simulate one study."""
    trials = setup.replay(seed, rules=True)
    spec = setup.spec
    longest, target = longest_horizon(spec), spec.objective.target
    pick = pick_of_study(trials, setup.source, spec)
    observed = partial(_plain, target=target, longest=longest)
    return Study(
        saved=1 - sum(t.result.epochs_run for t in trials) / sum(t.job.config.horizon for t in trials),
        pick=math.nan if pick is None else pick.truth.rmst,
        lost=any(_ended_early(t) for t in sorted(trials, key=lambda t: truths(t.job))[:BEST]),
        lost_observed=any(_ended_early(t) for t in sorted(trials, key=observed)[:BEST]),
    )


def _plain(trial: SimulatedTrial, target: float, longest: int) -> float:
    return objective([record.val_acc for record in trial.records], target, longest)


def _ended_early(trial: SimulatedTrial) -> bool:
    return trial.result.stopped_by is not None and trial.result.epochs_to_target is None


def row(name: str, studies: Sequence[Study], without: Sequence[Study]) -> str:
    """Return a line of the table."""
    slower = [mine.pick - other.pick for mine, other in zip(studies, without, strict=True)]
    count = len(slower)
    half = float(stdtrit(count - 1, 0.975)) * stdev(slower) / math.sqrt(count) if count > 1 else math.nan
    return (
        f"{name:<20} {fmean(s.saved for s in studies):>6.1%} {fmean(slower):>+7.2f} "
        f"[{fmean(slower) - half:+.2f}, {fmean(slower) + half:+.2f}] "
        f"{fmean(s.lost for s in studies):>6.0%} {fmean(s.lost_observed for s in studies):>6.0%}"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--from", dest="source", help="a recording that ships, beside its study")
    parser.add_argument("--sampler", default="random", help="where the curves are the model's")
    parser.add_argument("--repeats", type=int, default=8)
    parser.add_argument(
        "--chances", default="0.05,0.1,0.2", help="thresholds of `forecast`, each without `freeze` and with it"
    )
    parser.add_argument("--trials", type=int, default=10, help="configurations that must have ended")
    parser.add_argument("--ways", default=",".join(OTHER_WAYS), help="other rules to set it against")
    args = parser.parse_args()

    ways = {"no rule": OTHER_WAYS["no rule"]}
    ways |= {name: OTHER_WAYS[name] for name in args.ways.split(",") if name}
    for chance in filter(None, args.chances.split(",")):
        rule = f"forecast={{chance={chance}, best={BEST}, trials={args.trials}}}"
        ways[f"forecast {chance}"] = f"{{diverged=false, {rule}}}"
        ways[f"forecast {chance} freeze"] = f"{{diverged=false, {rule}, freeze=true}}"
    print(f"{'':<20} {'saved':>6} {'pick is slower by':^22} {'best five lost':>14}, observed ones")
    without: list[Study] = []
    truths: Truths | None = None
    for name, stopping in ways.items():
        setup = _setup(args.source, args.sampler, stopping)
        truths = truths or Truths(setup)
        studies = [run(setup, seed, truths) for seed in range(args.repeats)]
        without = without or studies
        print(row(name, studies, without), flush=True)


def _setup(source: str | None, sampler: str, stopping: str) -> Setup:
    home = Home(Path())  # nothing is written there
    if source is None:
        overrides = [f"search.sampler={sampler}", "search.finalists=", f"stopping={stopping}"]
        return Setup(load_study(find_study("adamw_cosine"), overrides), POST5, home)
    study = load_study(find_study(source), [f"stopping={stopping}"])
    return Setup(study, find_curves(home, source), home, shuffled=True)


if __name__ == "__main__":
    main()
