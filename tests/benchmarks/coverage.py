"""How often each interval of analysis.statistics holds the truth, and what pruning does to the estimates.

    python -m tests.benchmarks.coverage

Runs are made: each reaches with a given chance, at an epoch drawn from a known distribution, else it misses. So the
true share, median, restricted mean and expected running time are known, and the differences of two configurations, in
pairs and as independent runs: of two of a kind, and from one that reaches less often by 0.2 and two epochs later
(unlike). Beside ours stand the usual intervals: the percentile and the BCa bootstrap of the restricted mean.
"""

from __future__ import annotations

import argparse
import math
import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.statistics.differences import compare, compare_independent
from analysis.statistics.estimates import expected_running_time, median_epochs, restricted_mean, share_reached
from analysis.statistics.intervals import Estimate

Floats = NDArray[np.float64]

BUDGET = 30
CLAIMED = 0.95
# Chances of the epochs of those that reach: around 20 as the published runs are, with a long tail, and at two places,
# half of them at each or one in five at the later one.
EPOCHS = np.arange(1, BUDGET + 1)
_BELL = np.exp(-(((EPOCHS - 20) / 1.5) ** 2) / 2)
_TAIL = np.where(EPOCHS >= 16, 0.75 ** (EPOCHS - 16), 0.0)
_EARLY, _LATE = (np.exp(-((EPOCHS - at) ** 2) / 2) for at in (16, 24))
SHAPES = {
    "bell": _BELL / _BELL.sum(),
    "tail": _TAIL / _TAIL.sum(),
    "two": (_EARLY + _LATE) / (_EARLY + _LATE).sum(),
    "uneven": (4 * _EARLY + _LATE) / (4 * _EARLY + _LATE).sum(),
}


@dataclass(frozen=True)
class World:
    """What is true of a configuration.

    Attributes:
        share: chance of a run to reach.
        shape: name of the distribution of the epochs of those that do.
        later: by so many epochs later, up to the budget.
    """

    share: float
    shape: str = "bell"
    later: int = 0

    def draw(self, runs: int, random: np.random.Generator) -> Floats:
        """Return epochs to target of some runs, math.inf for a miss."""
        epochs = random.choice(self.epochs, runs, p=SHAPES[self.shape]).astype(np.float64)
        return np.where(random.random(runs) < self.share, epochs, math.inf)

    @property
    def epochs(self) -> NDArray[np.int64]:
        """Epochs that those may have which reach."""
        return np.minimum(EPOCHS + self.later, BUDGET)

    @property
    def mean_reached(self) -> float:
        """Mean epochs of the runs that reach."""
        return float(self.epochs @ SHAPES[self.shape])

    @property
    def median(self) -> float:
        """The first epoch by which half of all runs have reached."""
        by = self.share * np.cumsum(SHAPES[self.shape])
        return float(self.epochs[np.argmax(by >= 0.5 - 1e-12)]) if by[-1] >= 0.5 - 1e-12 else math.inf

    @property
    def restricted_mean(self) -> float:
        """Mean of epochs to target, at most the budget."""
        return self.share * self.mean_reached + (1 - self.share) * BUDGET

    @property
    def running_time(self) -> float:
        """Mean epochs spent for each run that reaches."""
        return self.mean_reached + (1 - self.share) / self.share * BUDGET if self.share else math.inf

    @property
    def compared(self) -> float:
        """Mean of epochs to target, a miss being the budget + 1."""
        return self.restricted_mean + 1 - self.share


def spent(epochs: Floats) -> Floats:
    """Return the epochs a run spends: up to the target, or all of the budget."""
    return np.minimum(epochs, BUDGET)


def percentile(epochs: Floats, random: np.random.Generator) -> tuple[float, float]:
    """Return the usual bootstrap interval of the restricted mean."""
    draws = random.choice(spent(epochs), (1000, len(epochs))).mean(axis=1)
    low, high = np.quantile(draws, (0.025, 0.975))
    return float(low), float(high)


def bca(epochs: Floats, random: np.random.Generator) -> tuple[float, float]:
    """Return Efron's bias-corrected and accelerated interval of the restricted mean; NaN where all runs agree."""
    from scipy.stats import bootstrap

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        made = bootstrap((spent(epochs),), np.mean, n_resamples=1000, method="BCa", random_state=random)
    return float(made.confidence_interval.low), float(made.confidence_interval.high)


def coverage(world: World, runs: int, repeats: int, seed: int = 0, usual: bool = True) -> dict[str, float]:
    """Return, by interval, the share of repeats in which it holds the truth; NaN where there was none to hold it."""
    random = np.random.default_rng([seed, runs, round(1000 * world.share)])
    worse = World(max(world.share - 0.2, 0.0), world.shape, later=2)
    held: dict[str, list[bool]] = {}
    for _ in range(repeats):
        a, hit = (epochs := world.draw(runs, random)).tolist(), np.isfinite(epochs)
        found: list[tuple[str, Estimate | None, float]] = [
            ("share", share_reached(int(hit.sum()), runs), world.share),
            ("median", median_epochs(a), world.median),
            ("restricted mean", restricted_mean(a, BUDGET), world.restricted_mean),
            (
                "running time",
                expected_running_time(spent(epochs).tolist(), hit.tolist(), budget=BUDGET),
                world.running_time,
            ),
        ]
        for other, name in ((world, ""), (worse, "unlike ")):
            b = other.draw(runs, random).tolist()
            for made, how in ((compare(a, b, BUDGET), ""), (compare_independent(a, b, BUDGET), " (i)")):
                found += [
                    (f"{name}shares{how}", made.share, world.share - other.share),
                    (f"{name}time{how}", made.time, world.mean_reached - other.mean_reached),
                    (f"{name}difference{how}", made.difference, world.compared - other.compared),
                ]
                if other is world:
                    found.append((f"faster{how}", made.probability_faster, 0.5))
        if usual:
            found.append(
                ("percentile", Estimate(math.nan, *percentile(epochs, random), CLAIMED), world.restricted_mean)
            )
            found.append(("BCa", Estimate(math.nan, *bca(epochs, random), CLAIMED), world.restricted_mean))
        for name, interval, truth in found:
            cases = held.setdefault(name, [])
            if interval is not None:
                cases.append(interval.low - 1e-9 <= truth <= interval.high + 1e-9)
    return {name: float(np.mean(cases)) if cases else math.nan for name, cases in held.items()}


def errors(world: World, runs: int, repeats: int, seed: int = 0) -> dict[str, tuple[float, float]]:
    """Return bias and root mean square error of share and restricted mean, and of the log of the running time.

    The running time of a sample in which none reached is infinite; such samples are left out of its figures.
    """
    random = np.random.default_rng([seed, runs])
    off: dict[str, list[float]] = {"share": [], "restricted mean": [], "log running time": []}
    for _ in range(repeats):
        epochs = world.draw(runs, random)
        reached = int(np.isfinite(epochs).sum())
        off["share"].append(reached / runs - world.share)
        off["restricted mean"].append(float(spent(epochs).mean()) - world.restricted_mean)
        if reached:
            off["log running time"].append(math.log(float(spent(epochs).sum()) / reached / world.running_time))
    return {
        name: (float(np.mean(values)), math.sqrt(float(np.mean(np.square(values))))) for name, values in off.items()
    }


def pruned(epochs: Floats, at: float, random: np.random.Generator) -> tuple[Floats, NDArray[np.bool_]]:
    """Return what is known of runs that a rule ends at an epoch, and which it ended.

    As rules do, it sees which runs are slow: it ends 80 % of those that would miss and 30 % of those that would not.
    """
    cut = (epochs > at) & (random.random(len(epochs)) < np.where(np.isinf(epochs), 0.8, 0.3))
    return np.where(cut, math.inf, epochs), cut


def flattery(world: World, runs: int, at: float, repeats: int, seed: int = 0) -> dict[str, tuple[float, float, float]]:
    """Return, by estimate, its mean without pruning, with it, and as pruned runs taken for censored or left out.

    Raises:
        AssertionError: in a repeat, an estimate of ours is better with pruning than without.
    """
    random = np.random.default_rng(seed)
    rows: dict[str, list[tuple[float, float, float]]] = {"share": [], "restricted mean": [], "running time": []}
    for _ in range(repeats):
        epochs = world.draw(runs, random)
        known, cut = pruned(epochs, at, random)
        hit, seen = np.isfinite(epochs), np.isfinite(known)
        if not seen.any():
            continue
        share = (hit.mean(), seen.mean(), _censored(known, cut, at))
        assert share[1] <= share[0]
        mean = (spent(epochs).mean(), spent(known).mean(), spent(known[~cut]).mean())
        assert mean[1] >= mean[0]
        early = np.where(cut, at, spent(known))
        time = (spent(epochs).sum() / hit.sum(), spent(known).sum() / seen.sum(), early.sum() / seen.sum())
        assert time[1] >= time[0]
        for name, row in (("share", share), ("restricted mean", mean), ("running time", time)):
            rows[name].append(tuple(map(float, row)))
    return {name: tuple(np.mean(found, axis=0).tolist()) for name, found in rows.items()}


def _censored(known: Floats, cut: NDArray[np.bool_], at: float) -> float:
    """The chance to reach by Kaplan and Meier with pruned runs taken for ordinary censoring."""
    from scipy.stats import CensoredData, ecdf

    times = np.where(cut, at, np.minimum(known, BUDGET + 1))
    events = np.isfinite(known)
    curve = ecdf(CensoredData(uncensored=times[events], right=times[~events])).cdf
    return float(curve.evaluate(BUDGET))


def main() -> None:
    """Print coverage, errors and what pruning does."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=2000)
    parser.add_argument("--runs", type=int, nargs="+", default=[3, 5, 10, 30])
    parser.add_argument("--shares", type=float, nargs="+", default=[0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.95, 1.0])
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--no-usual", action="store_true", help="leave the usual bootstraps out, which take long")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    error = math.sqrt(CLAIMED * (1 - CLAIMED) / arguments.repeats)
    print(f"Share of {arguments.repeats} repeats whose {CLAIMED:.0%} interval holds the truth (± {error:.3f}).")
    print("(i): as independent runs. percentile, BCa: the usual bootstraps of the restricted mean, for comparison.")
    for shape in arguments.shapes:
        for runs in arguments.runs:
            lowest: dict[str, tuple[float, float]] = {}
            for share in arguments.shares:
                found = coverage(World(share, shape), runs, arguments.repeats, arguments.seed, not arguments.no_usual)
                cells = "; ".join(f"{name} {value:.3f}" for name, value in found.items())
                print(f"{shape} {runs} runs, {share:g} reach: {cells}", flush=True)
                for name, value in found.items():
                    if not math.isnan(value):
                        lowest[name] = min(lowest.get(name, (1.0, 0.0)), (value, share))
            cells = "; ".join(f"{name} {value:.3f} at {share:g}" for name, (value, share) in lowest.items())
            print(f"{shape} {runs} runs, LOWEST: {cells}", flush=True)
    print("\nBias and root mean square error at a share of 0.7: they shrink with the runs.")
    for runs in (*arguments.runs, 300):
        off = errors(World(0.7), runs, arguments.repeats, arguments.seed)
        print(f"{runs:>5}  " + "  ".join(f"{name} {bias:+.4f} {rms:.4f}" for name, (bias, rms) in off.items()))
    print(
        "\nA rule ends 80 % of the runs that would miss and 30 % of the others at epoch 20. Means without it; with it,"
    )
    print("as counted here; with pruned runs taken for censored (share), left out (restricted mean), as cheap as they")
    print("were (running time).")
    for name, row in flattery(World(0.7), 30, 20, arguments.repeats, arguments.seed).items():
        print(f"{name:<16}" + "".join(f"{value:>10.3f}" for value in row))


if __name__ == "__main__":
    main()
