"""Compares configurations: which reaches the target more often or faster, with confidence intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from analysis.statistics.differences import Comparison, compare, compare_independent, holm
from analysis.statistics.estimates import restricted_mean
from analysis.store.loader import Study
from analysis.tables.summary import configurations, ended_runs
from analysis.tables.trials import is_setting, trial_curves
from resnet_core.objective import sustained_crossing, sustained_is_known

# Settings that determine the images and the weights of a validation. If they differ, accuracies are not comparable.
_PROTOCOL = ("data", "split", "train_limit", "val_limit", "ema", "bn_recalibration")


class PhaseError(ValueError):
    """A search and a confirmation cannot be compared: the runs of a search were chosen by their results."""


@dataclass(frozen=True)
class ConfigurationRuns:
    """The ended runs of one configuration.

    Attributes:
        label: text for people: the study, and the name of the configuration.
        study: name of the study.
        phase: ``search`` or ``confirm``.
        target: validation accuracy to reach.
        settings: fields of the configuration, without the seed.
        seeds: seeds of the runs; shape (runs,).
        epochs: epochs to target, math.inf for a miss; shape (runs,).
        horizon: epochs that every run could have taken.
        cut_short: number of runs that ended below the target before the end of their schedule; they count as misses.
        in_a_row: number of epochs in a row at or above the target that count as sustained.
        sustained: first epoch of the first such row of epochs, math.inf if there is none; shape (runs,).
        unknown: number of runs that ended at the target before it was known whether they sustain it; they count as not
            sustained.
        val_accs: validation accuracy, one row per epoch, one column per run; NaN where a run had ended.
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
    in_a_row: int
    sustained: tuple[float, ...]
    unknown: int
    val_accs: pd.DataFrame = field(repr=False)

    @property
    def reached(self) -> int:
        """The number of runs that reached the target."""
        return sum(math.isfinite(value) for value in self.epochs)


@dataclass(frozen=True)
class ConfigurationComparison:
    """Two configurations compared.

    Attributes:
        a: the first configuration.
        b: the second one.
        budget: epochs up to which they are compared: the shorter horizon.
        pairs: seeds of the runs that were compared in pairs; empty if the configurations share too few.
        result: comparison of first crossings; its ``pairs`` is 0 if the runs were compared as independent.
        sustained: comparison of sustained crossings.
        share_p_holm: p-value of equal shares, adjusted for the number of p-values.
        time_p_holm: p-value of equal times given that both reached, adjusted likewise.
        p_values: number of p-values that were adjusted together.
        notes: sentences that explain the figures to a reader.
        names: names of the two in the text.
    """

    a: ConfigurationRuns
    b: ConfigurationRuns
    budget: int
    pairs: tuple[int, ...]
    result: Comparison
    sustained: Comparison
    share_p_holm: float
    time_p_holm: float
    p_values: int
    notes: tuple[str, ...]
    names: tuple[str, str] = ("A", "B")

    def to_dict(self) -> dict[str, Any]:
        """Return plain values; curves are left out."""
        arms = {
            name: {k: v for k, v in vars(arm).items() if k != "val_accs"}
            for name, arm in (("a", self.a), ("b", self.b))
        }
        result = {"budget": self.budget, "paired_seeds": list(self.pairs), **asdict(self.result)}
        holms = {name: getattr(self, name) for name in ("share_p_holm", "time_p_holm", "p_values")}
        return {**arms, **result, "sustained": asdict(self.sustained), **holms, "notes": list(self.notes)}

    def __str__(self) -> str:
        a, b = self.names
        lines = [line for name, arm in zip(self.names, (self.a, self.b), strict=True) for line in self._arm(name, arm)]
        lines += [f"   {setting}" for setting in setting_differences(self.a, self.b)]
        how = f"{len(self.pairs)} pairs of runs that share a seed" if self.pairs else "independent runs"
        lines.append(f"{a} minus {b}, up to epoch {self.budget} ({how}):")
        lines += self._figures(self.result)
        lines.append(f"   probability that {a} is faster, ties counting half: {self.result.probability_faster}")
        if self.a.in_a_row == self.b.in_a_row:
            lines.append(f"{a} minus {b}, of crossings sustained for {_epochs(self.a.in_a_row)}:")
        else:
            lines.append(f"{a} minus {b}, of crossings sustained for {self.a.in_a_row} and {self.b.in_a_row} epochs:")
        lines += self._figures(self.sustained)
        lines += [self._verdict, f"brackets: {self.result.difference.confidence:.0%} confidence intervals, one by one"]
        return "\n".join([*lines, *self.notes])

    def _arm(self, name: str, arm: ConfigurationRuns) -> list[str]:
        mean, held = restricted_mean(arm.epochs, self.budget), restricted_mean(arm.sustained, self.budget)
        count = sum(math.isfinite(value) for value in arm.sustained)
        reached = f"reached {arm.target:g} in {arm.reached} of {len(arm.epochs)} runs"
        unknown = f"; of {arm.unknown} not known, they ended at it" if arm.unknown else ""
        return [
            f"{name}: {arm.label}: {reached}, restricted mean {mean} epochs",
            f"   sustained for {_epochs(arm.in_a_row)}: in {count}{unknown}, restricted mean {held} epochs",
        ]

    def _figures(self, found: Comparison) -> list[str]:
        what = f"{_count(found.both, 'pair')}" if self.pairs else f"{_count(found.both, 'run')} of each at least"
        time = "   time given that both reached: not known, none did"
        if found.time is not None:
            time = f"   time given that both reached: {found.time} epochs ({what})"
        return [
            f"   share that reaches: {found.share}",
            time,
            f"   both in one, a miss counting as {self.budget + 1} epochs: {found.difference} epochs",
        ]

    @property
    def _verdict(self) -> str:
        (a, b), most = self.names, 1 - self.result.difference.confidence
        share = "the shares are not told apart"
        if self.share_p_holm <= most:
            share = f"{a if self.result.share.value > 0 else b} reaches more often"
        time = "the times given that both reached are not told apart"
        if self.time_p_holm <= most and self.result.time is not None:
            time = f"{a if self.result.time.value < 0 else b} is faster where both reach"
        return (
            f"verdict: {share} (p = {self.share_p_holm:.2g}); {time} (p = {self.time_p_holm:.2g}); by Holm, "
            f"for the {self.p_values} p-values looked at together"
        )


def configuration_runs(study: Study, trial: str = "", target: float | None = None) -> ConfigurationRuns:
    """Return the ended runs of one configuration of a study.

    Args:
        study: what `load` returned.
        trial: name of a trial of the configuration; not needed if the study has one configuration.
        target: validation accuracy to reach; the default is the study's own.

    Raises:
        ValueError: there is no such trial, the study has several configurations and none is named, or no run of it
            has ended.
    """
    found = ended_runs(study, target)
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
    target, accs = float(found.attrs["target"]), {n: c["val_acc"].tolist() for n, _, c in trial_curves(study)}
    reaching = [(number, bool(reached)) for number, reached in found["reached"].items()]
    sustained = [sustained_crossing(accs[n], target, study.sustained) if reached else None for n, reached in reaching]
    unknown = [n for n, reached in reaching if reached and not sustained_is_known(accs[n], target, study.sustained)]
    return ConfigurationRuns(
        label=f"{study.name}: {study.confirms or wanted}",
        study=study.name,
        phase=study.phase,
        target=target,
        settings={
            str(name): _plain(first[name]) for name in trials.columns if is_setting(str(name)) and name != "test"
        },
        seeds=_seeds(trials.loc[found.index]),
        epochs=tuple(found["epochs_to_target"].tolist()),
        horizon=int(found["horizon"].max()),
        cut_short=int(found["cut_short"].sum()),
        in_a_row=study.sustained,
        sustained=tuple(math.inf if epoch is None else float(epoch) for epoch in sustained),
        unknown=len(unknown),
        val_accs=pd.DataFrame(
            {n: pd.Series(accs[n], range(1, len(accs[n]) + 1), dtype="float64") for n in found.index if n in accs}
        ),
    )


def compare_configurations(
    arms: Sequence[ConfigurationRuns], *, mix: bool = False, confidence: float = 0.95
) -> list[ConfigurationComparison]:
    """Compare each configuration with the first.

    They are compared up to the shorter of the two horizons, within which both are fully observed. They are compared in
    pairs (`compare`) if they share at least half of the seeds of the one with fewer runs, else as independent
    (`compare_independent`). Each comparison has two p-values, of the shares and of the times given that both reached;
    all are adjusted together (`holm`).

    Args:
        arms: two configurations or more; the first is A of every comparison.
        mix: whether a search may be compared with a confirmation.
        confidence: confidence of the intervals, in (0, 1). The level of the verdicts is 1 - confidence.

    Raises:
        PhaseError: one is from a search, another from a confirmation.
        ValueError: there are fewer than two, or their targets differ.
    """
    if len(arms) < 2:
        raise ValueError(f"{len(arms)} configurations: expected two or more")
    made = [_compared(arms[0], other, mix, confidence) for other in arms[1:]]
    adjusted = holm([p for found in made for p in (found.result.share_p, found.result.time_p)])
    return [
        replace(
            found,
            share_p_holm=adjusted[2 * place],
            time_p_holm=adjusted[2 * place + 1],
            p_values=len(adjusted),
            names=("A", _letter(place + 1)),
        )
        for place, found in enumerate(made)
    ]


def compare_two(
    a: ConfigurationRuns, b: ConfigurationRuns, *, mix: bool = False, confidence: float = 0.95
) -> ConfigurationComparison:
    """Compare two configurations; see `compare_configurations`."""
    return compare_configurations([a, b], mix=mix, confidence=confidence)[0]


def _compared(a: ConfigurationRuns, b: ConfigurationRuns, mix: bool, confidence: float) -> ConfigurationComparison:
    if a.phase != b.phase and not mix:
        raise PhaseError(
            f"{a.label} is a {_PHASES[a.phase]} and {b.label} a {_PHASES[b.phase]}: a search's runs were chosen for "
            "being fast, or stopped for being slow"
        )
    if a.target != b.target:
        raise ValueError(f"{a.label} aims at {a.target:g} and {b.label} at {b.target:g}: name one target for both")
    budget = min(a.horizon, b.horizon)
    shared = tuple(sorted(set(a.seeds) & set(b.seeds)))
    if 2 * len(shared) < min(len(set(a.seeds)), len(set(b.seeds))):
        shared = ()

    def made(of_a: Sequence[float], of_b: Sequence[float]) -> Comparison:
        if not shared:
            return compare_independent(of_a, of_b, budget, confidence)
        by_seed = [dict(zip(arm.seeds, of, strict=True)) for arm, of in ((a, of_a), (b, of_b))]
        pairs = [[epochs[seed] for seed in shared] for epochs in by_seed]
        return compare(pairs[0], pairs[1], budget, confidence)

    first, sustained = made(a.epochs, b.epochs), made(a.sustained, b.sustained)
    notes = tuple(_notes(a, b, budget, shared))
    return ConfigurationComparison(a, b, budget, shared, first, sustained, first.share_p, first.time_p, 2, notes)


_PHASES = {"search": "search", "confirm": "confirmation"}


def setting_differences(a: ConfigurationRuns, b: ConfigurationRuns) -> list[str]:
    """Return the settings in which two configurations differ, as ``name: A's -> B's``."""
    names = dict.fromkeys([*a.settings, *b.settings])
    pairs = {name: (a.settings.get(name), b.settings.get(name)) for name in names}
    return [f"{name}: {x} -> {y}" for name, (x, y) in pairs.items() if x != y]


def _notes(a: ConfigurationRuns, b: ConfigurationRuns, budget: int, shared: tuple[int, ...]) -> list[str]:
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
    protocol = [line for line in setting_differences(a, b) if line.split(":")[0] in _PROTOCOL]
    if protocol:
        notes.append(f"Not validated alike: {', '.join(protocol)}.")
    return notes


def _letter(place: int) -> str:
    return chr(ord("A") + place) if place < 26 else f"arm {place + 1}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' if number != 1 else ''}"


def _epochs(in_a_row: int) -> str:
    return f"{_count(in_a_row, 'epoch')} in a row"


def _seeds(trials: pd.DataFrame) -> tuple[int, ...]:
    """Return the seeds of trials; no seeds if one is not known, as in some imported studies."""
    if "seed" not in trials or trials["seed"].isna().any():
        return ()
    return tuple(int(seed) for seed in trials["seed"])


def _plain(value: Any) -> Any:
    value = None if pd.isna(value) else value
    return value.item() if isinstance(value, np.generic) else value


def _listed(names: pd.Series[Any], most: int = 20) -> str:
    shown = [str(name) for name in names[:most]]
    return (", ".join(shown) or "none yet") + (", …" if len(names) > most else "")
