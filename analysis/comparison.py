"""Two configurations beside each other: which reaches the target faster, by how much, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from analysis.statistics import Comparison, Estimate, compare, restricted_mean, wilson
from analysis.store import Study
from analysis.summary import configurations, is_setting, runs
from analysis.table import curves

# What says which images are validated on, and with which weights: where it differs, accuracies mean different things.
_PROTOCOL = ("data", "split", "train_limit", "val_limit", "ema", "bn_recalibration")


class PhaseError(ValueError):
    """A search and a confirmation were to be compared, of which one chose its runs and the other did not."""


@dataclass(frozen=True)
class Arm:
    """The ended runs of one configuration.

    Attributes:
        label: for people: the study, and the trial that named the configuration.
        study: name of the study.
        phase: ``search`` or ``confirm``.
        target: validation accuracy to reach.
        settings: fields of the configuration, but for the seed.
        seeds: of the runs, shape (runs,).
        epochs: epochs to target, math.inf for a miss; shape (runs,).
        horizon: epochs that every run could have taken.
        cut_short: how many runs were ended below the target ahead of their schedule's end; they count as misses.
        val_accs: validation accuracy, one row an epoch, one column a run; NaN where a run had ended.
    """

    label: str
    study: str
    phase: str
    target: float
    settings: dict[str, Any]
    seeds: tuple[int, ...]
    epochs: tuple[float, ...]
    horizon: int
    cut_short: int
    val_accs: pd.DataFrame = field(repr=False)

    @property
    def reached(self) -> int:
        """How many runs reached the target."""
        return sum(math.isfinite(value) for value in self.epochs)


@dataclass(frozen=True)
class Contrast:
    """Two configurations compared.

    Attributes:
        a: the one.
        b: the other.
        budget: epochs up to which they are compared: the shorter horizon.
        pairs: seeds that were compared run by run; empty where the arms share too few.
        result: difference and probability; its ``pairs`` is 0 where the arms were compared as independent.
        notes: what a reader must know beside the figures.
    """

    a: Arm
    b: Arm
    budget: int
    pairs: tuple[int, ...]
    result: Comparison
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values; curves are left out."""
        arms = {name: {k: v for k, v in vars(arm).items() if k != "val_accs"} for name, arm in self._arms.items()}
        result = {"budget": self.budget, "paired_seeds": list(self.pairs), **asdict(self.result)}
        return {**arms, **result, "notes": list(self.notes)}

    @property
    def _arms(self) -> dict[str, Arm]:
        return {"a": self.a, "b": self.b}

    def __str__(self) -> str:
        lines = []
        for name, arm in self._arms.items():
            mean = restricted_mean(arm.epochs, self.budget)
            reached = f"reached {arm.target:g} in {arm.reached} of {len(arm.epochs)} runs"
            lines.append(f"{name.upper()}: {arm.label}: {reached}, restricted mean {mean} epochs")
        lines += [f"   {setting}" for setting in differences(self.a, self.b)]
        result = self.result
        how = f"{len(self.pairs)} pairs of runs that share a seed" if self.pairs else "independent runs"
        lines.append(f"A minus B, restricted means up to epoch {self.budget}: {result.difference} epochs ({how})")
        lines.append(f"probability that A is faster, ties counting half: {result.probability_faster}")
        lines.append(f"brackets: {result.difference.confidence:.0%} confidence intervals")
        return "\n".join([*lines, *self.notes])


def arm(study: Study, trial: str = "", target: float | None = None) -> Arm:
    """Return the ended runs of one configuration of a study.

    Args:
        study: what `load` returned.
        trial: name of a trial of the configuration; may be left out where the study has one configuration.
        target: validation accuracy to reach; the study's own unless given.

    Raises:
        ValueError: there is no such trial, the study has several configurations and none is named, or no run of it
            has ended.
    """
    found = runs(study, target)
    groups = configurations(study)["configuration"]
    trials = study.trials.set_index("number")
    if trial:
        known = trials.index[trials["trial"] == trial]
        if known.empty:
            raise ValueError(f"study {study.name!r} has no trial {trial!r}; its trials: {_listed(trials['trial'])}")
        wanted = groups[known[-1]]
    elif groups.nunique() != 1:
        raise ValueError(
            f"study {study.name!r} has {groups.nunique()} configurations: name one by a trial of it, as in "
            f"{study.name}:TRIAL; its trials: {_listed(trials['trial'])}"
        )
    else:
        wanted = groups.iloc[0]
    found = found[found["configuration"] == wanted]
    if found.empty:
        raise ValueError(f"study {study.name!r}: no run of {wanted} has ended yet")
    first = trials.loc[found.index[0]]
    return Arm(
        label=f"{study.name}: {study.confirms or wanted}",
        study=study.name,
        phase=study.phase,
        target=float(found.attrs["target"]),
        settings={
            str(name): _plain(first[name]) for name in trials.columns if is_setting(str(name)) and name != "test"
        },
        seeds=_seeds(trials.loc[found.index]),
        epochs=tuple(found["epochs_to_target"].tolist()),
        horizon=int(found["horizon"].max()),
        cut_short=int(found["cut_short"].sum()),
        val_accs=pd.DataFrame(
            {n: pd.Series(c["val_acc"]).rename(lambda i: i + 1) for n, _, c in curves(study) if n in found.index}
        ),
    )


def contrast(a: Arm, b: Arm, *, mix: bool = False, confidence: float = 0.95) -> Contrast:
    """Compare two configurations.

    Up to the shorter of the two horizons, where both are fully observed. Runs are compared in pairs where the arms
    share at least half of the seeds of the smaller one; else as independent: the difference's interval is then that
    of Zou and Donner (Statistics in Medicine 27, 2008) from the two restricted means', the probability is Mann and
    Whitney's share of pairs of runs that A wins, with Wilson's interval for as many runs as the smaller arm has,
    which is never too narrow (Birnbaum and Klose, Ann. Math. Statist. 28, 1957).

    Args:
        a: the one configuration.
        b: the other.
        mix: whether a search may be compared with a confirmation.
        confidence: of the intervals, in (0, 1).

    Raises:
        PhaseError: one is of a search, the other of a confirmation.
        ValueError: their targets differ.
    """
    if a.phase != b.phase and not mix:
        raise PhaseError(
            f"{a.label} is a {_PHASES[a.phase]} and {b.label} a {_PHASES[b.phase]}: a search's runs were chosen for "
            "being fast, or stopped for being slow"
        )
    if a.target != b.target:
        raise ValueError(f"{a.label} aims at {a.target:g} and {b.label} at {b.target:g}: name one target for both")
    budget = min(a.horizon, b.horizon)
    by_seed = [dict(zip(arm.seeds, arm.epochs, strict=bool(arm.seeds))) for arm in (a, b)]
    shared = tuple(sorted(by_seed[0].keys() & by_seed[1].keys()))
    if shared and 2 * len(shared) >= min(map(len, by_seed)):
        of_a, of_b = ([epochs[seed] for seed in shared] for epochs in by_seed)
        result = compare(of_a, of_b, budget, confidence)
    else:
        result, shared = compare_independent(a.epochs, b.epochs, budget, confidence), ()
    return Contrast(a, b, budget, shared, result, tuple(_notes(a, b, budget, shared)))


_PHASES = {"search": "search", "confirm": "confirmation"}


def compare_independent(a: Sequence[float], b: Sequence[float], budget: float, confidence: float = 0.95) -> Comparison:
    """Compare the epochs to target of runs that share no seeds; see `contrast`.

    Args:
        a: epochs to target of A, math.inf for a miss; shape (runs of A,).
        b: those of B; shape (runs of B,).
        budget: epochs, above 0; above it is a miss.
        confidence: of both intervals, in (0, 1).

    Raises:
        ValueError: A or B has no run, or budget or confidence is out of bounds.
    """
    of_a, of_b = (restricted_mean(epochs, budget, confidence) for epochs in (a, b))
    gap = of_a.value - of_b.value
    difference = Estimate(
        gap,
        gap - math.hypot(of_a.value - of_a.low, of_b.high - of_b.value),
        gap + math.hypot(of_a.high - of_a.value, of_b.value - of_b.low),
        confidence,
    )
    times_a, times_b = (np.where(np.asarray(epochs) <= budget, epochs, np.inf) for epochs in (a, b))
    wins = times_a[:, None] < times_b
    ties = times_a[:, None] == times_b
    share, runs = float(np.mean(wins + ties / 2)), min(len(a), len(b))
    return Comparison(0, difference, wilson(share * runs, runs, confidence))


def differences(a: Arm, b: Arm) -> list[str]:
    """Return the settings in which two configurations differ, as ``name: A's -> B's``."""
    names = dict.fromkeys([*a.settings, *b.settings])
    pairs = {name: (a.settings.get(name), b.settings.get(name)) for name in names}
    return [f"{name}: {x} -> {y}" for name, (x, y) in pairs.items() if x != y]


def _notes(a: Arm, b: Arm, budget: int, shared: tuple[int, ...]) -> list[str]:
    notes = []
    if a.phase != b.phase:
        notes.append("A search beside a confirmation: the search's runs were chosen, so this is no fair comparison.")
    elif a.phase == "search":
        notes.append("Both are of searches, exploratory: `sweeps confirm` repeats a configuration with fresh seeds.")
    if not shared:
        notes.append("They share too few seeds to be paired, and are compared as independent runs.")
    for arm in (a, b):
        left = len(arm.epochs) - len(shared)
        if shared and left:
            notes.append(f"{left} runs of {arm.label} have no partner of the same seed and are left out of A minus B.")
        if arm.cut_short:
            notes.append(f"{arm.cut_short} runs of {arm.label} were stopped early and count as misses.")
    if a.horizon != b.horizon:
        notes.append(
            f"Their schedules end at epochs {a.horizon} and {b.horizon}: compared up to {budget}, later is a miss."
        )
    protocol = [line for line in differences(a, b) if line.split(":")[0] in _PROTOCOL]
    if protocol:
        notes.append(f"Not validated alike: {', '.join(protocol)}.")
    return notes


def _seeds(trials: pd.DataFrame) -> tuple[int, ...]:
    """The seeds of trials; none where that of one is not known, as it may be in a study that was imported."""
    if "seed" not in trials or trials["seed"].isna().any():
        return ()
    return tuple(int(seed) for seed in trials["seed"])


def _plain(value: Any) -> Any:
    value = None if pd.isna(value) else value
    return value.item() if isinstance(value, np.generic) else value


def _listed(names: pd.Series[Any], most: int = 20) -> str:
    shown = [str(name) for name in names[:most]]
    return (", ".join(shown) or "none yet") + (", …" if len(names) > most else "")
