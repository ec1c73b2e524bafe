"""What the sampler learns from trials that were stopped or diverged, by the way they are told.

    python -m tests.benchmarks.sampler

Trials are made: a formula gives each a curve of validation accuracies, with a region in which training diverges and
a band beside it that looks good early and ends low, as high learning rates do. The sampler, the ledger and the rules
are the real ones. All ways of telling see the same seeds; every trial is stopped by the same rules.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace

from optuna.trial import TrialState

from resnet_core.config import TrialConfig
from resnet_core.objective import interpolated_crossing
from resnet_core.records import EpochRecord, Outcome
from search_spaces.spec import StudySpec
from sweeps.ledger.ledger import Ledger
from sweeps.study.outcomes import Result, Stop, make_result
from sweeps.study.stopping.base import Curve, Progress, StudyState
from sweeps.study.stopping.rules import rules_of
from sweeps.study.trials import Job

LONGEST = 32
NOISE = 0.0027  # 10,000 images, at 0.92
STOPPING = {"cap": {"best": 3, "slack": 1.1}, "asha": {"reduction": 3, "after": 0.3}}
STUDY = {
    "name": "made",
    "train": {"schedule": "[0.5*lr, 0] lin[lr, +warmup] lin[lr, +plateau] cos[0.01*lr, +decay]"},
    "space": {
        "lr": {"low": 1e-4, "high": 1e-1, "log": True},
        "weight_decay": {"low": 0.01, "high": 1.0, "log": True},
        "shift": {"low": 0.0, "high": 0.2},
        "warmup": {"low": 1, "high": 6, "int": True},
        "plateau": {"low": 1, "high": 12, "int": True},
        "decay": {"low": 4, "high": 14, "int": True},
    },
}
Tell = Callable[[Ledger, Job, Result], None]


def ours(ledger: Ledger, job: Job, result: Result) -> None:
    """Tell the ledger as a sweep does: PRUNED at the share of the schedule; diverged ones PRUNED without a value."""
    ledger.tell(job.number, result)


def complete(ledger: Ledger, job: Job, result: Result) -> None:
    """Tell COMPLETE with the value at the early stop; a diverged trial as one that never learned anything."""
    value = 2.0 * LONGEST if result.objective is None else result.objective
    ledger.tell(job.number, replace(result, outcome=Outcome.EXHAUSTED, objective=value))


def fail(ledger: Ledger, job: Job, result: Result) -> None:
    """Tell FAIL for what was stopped or diverged, which TPE passes over."""
    lost = result.outcome in (Outcome.PRUNED, Outcome.DIVERGED)
    ledger.tell(job.number, replace(result, outcome=Outcome.CRASHED) if lost else result)


def fail_diverged(ledger: Ledger, job: Job, result: Result) -> None:
    """Tell as we do, but FAIL for what diverged."""
    ledger.tell(job.number, replace(result, outcome=Outcome.CRASHED) if result.outcome is Outcome.DIVERGED else result)


def complete_pruned(ledger: Ledger, job: Job, result: Result) -> None:
    """Tell as we do, but COMPLETE with the early value for what a rule stopped."""
    stopped = result.outcome is Outcome.PRUNED
    ledger.tell(job.number, replace(result, outcome=Outcome.EXHAUSTED) if stopped else result)


def same_step(ledger: Ledger, job: Job, result: Result) -> None:
    """Tell as we do, but report the value of whatever was stopped at the same step: its value alone ranks it."""
    if result.outcome is not Outcome.PRUNED:
        ledger.tell(job.number, result)
        return
    trial = ledger._running.pop(job.number)
    trial.report(result.objective, step=1)
    ledger._study.tell(trial, state=TrialState.PRUNED)


WAYS: dict[str, Tell] = {
    "ours": ours,
    "COMPLETE with the early value": complete,
    "FAIL": fail,
    "ours, diverged as FAIL": fail_diverged,
    "ours, stopped as COMPLETE": complete_pruned,
    "ours, stopped at one step": same_step,
}


def made_curve(config: TrialConfig, draw: random.Random) -> list[float] | None:
    """Return the validation accuracies of a config, with noise from ``draw``; None where it diverges."""
    high = math.log10(config.lr_alpha / 2e-3)  # 0 is best
    decay = math.log10(config.weight_decay / 0.15)
    if high + 0.35 * decay > 0.9:
        return None
    warmup, plateau_end, horizon = (knot.epoch for knot in config.lr_schedule.knots[1:])
    level = 0.955 - 0.06 * high**2 - 0.03 * decay**2 - 1.5 * (config.shift - 0.07) ** 2
    level -= 0.004 * (warmup - 3) ** 2 / 9 + 0.03 * math.exp(-(plateau_end + 0.5 * (horizon - plateau_end)) / 4)
    val_accs = []
    for epoch in range(1, int(horizon) + 1):
        # High rates learn faster at first and stay noisy until they are annealed.
        annealed = max(0.0, (epoch - plateau_end) / (horizon - plateau_end))
        learned = 1 - math.exp(-epoch / (3.5 * 10 ** (-0.3 * high)))
        swing = (0.12 * 10 ** (0.5 * high)) * (1 - annealed)
        val_accs.append(max(0.1, min(1.0, level * learned - swing * draw.random() + draw.gauss(0, 0.002))))
    return val_accs


def run(seed: int, trials: int, tell: Tell, sampler: str, target: float) -> list[float]:
    """Run a study and return, after each trial, the fewest epochs to target found so far (the longest if none).

    Epochs to target are read off the curves, not off what was told.
    """
    tables = {
        "objective": {"target": target},
        "search": {"trials": trials, "sampler": sampler, "seed": seed},
        "stopping": STOPPING,
    }
    spec = StudySpec.model_validate(STUDY | tables)
    ledger, rules, curves = Ledger.preview(spec), rules_of(spec), list[Curve]()
    found, best = list[float](), 2.0 * LONGEST
    for _ in range(trials):
        job = ledger.ask()
        made = made_curve(job.config, random.Random(f"{seed} {job.number}"))
        reached = (curve.epochs_to_target(target) for curve in curves)
        study = StudyState(target, 2, sorted(epoch for epoch in reached if epoch is not None), curves)
        records, stop = list[EpochRecord](), None
        for epoch in range(1, job.config.horizon + 1):
            val_acc, loss = (0.1, math.nan) if made is None else (made[epoch - 1], 0.5)
            records.append(EpochRecord(epoch, loss, 0.8, 0.5, val_acc, 1e-3, 1e-4, 1.0, 1e3))
            trial = Progress(job.config, records)
            if epoch < job.config.horizon:
                reasons = ((rule.name, rule.reason_to_stop(trial, study)) for rule in rules)
                stop = next((Stop(name, reason) for name, reason in reasons if reason), None)
            if stop is not None:
                break
        result = make_result(trial, longest_horizon=LONGEST, noise=NOISE, stop=stop)
        curves.append(Curve(trial.scores, job.config.horizon, result.outcome))
        crossing = None if made is None else interpolated_crossing(trial.scores, target)
        best = min(best, best if crossing is None else crossing)
        found.append(best)
        tell(ledger, job, result)
    return found


def compare(seeds: int, trials: int, sampler: str, target: float) -> None:
    """Print the medians over seeds of the best found, and how often our way is better, at three points."""
    found = {name: [run(seed, trials, tell, sampler, target) for seed in range(seeds)] for name, tell in WAYS.items()}
    print(f"{sampler}, target {target:g}, {seeds} seeds: median epochs to target of the best found (lower is better)")
    points = [point for point in (trials // 4, trials // 2, trials) if point]
    for name, runs in found.items():
        shown = ", ".join(f"{_at(runs, point):.2f} after {point}" for point in points)
        against = ", ".join(_against(found["ours"], runs, point) for point in points)
        print(f"  {name:<30} {shown}" + ("" if name == "ours" else f"; ours better:equal:worse {against}"), flush=True)


def _at(runs: Sequence[Sequence[float]], point: int) -> float:
    return statistics.median(run[point - 1] for run in runs)


def _against(ours: Sequence[Sequence[float]], theirs: Sequence[Sequence[float]], point: int) -> str:
    pairs = [(a[point - 1], b[point - 1]) for a, b in zip(ours, theirs, strict=True)]
    better, worse = sum(a < b for a, b in pairs), sum(a > b for a, b in pairs)
    return f"{better}:{len(pairs) - better - worse}:{worse}"


def main() -> None:
    """Compare the ways of telling."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=40)
    parser.add_argument("--trials", type=int, default=64)
    parser.add_argument("--sampler", default="tpe")
    # Of trials at random, one in six reaches the lower target, one in fifty the higher.
    parser.add_argument("--targets", type=float, nargs="+", default=[0.92, 0.945])
    arguments = parser.parse_args()
    for target in arguments.targets:
        compare(arguments.seeds, arguments.trials, arguments.sampler, target)


if __name__ == "__main__":
    main()
