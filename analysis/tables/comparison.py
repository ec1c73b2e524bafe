"""Compares configurations: which reaches the target more often or faster, or has better values; with intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from analysis.statistics.differences import (
    Comparison,
    compare,
    compare_independent,
    holm,
    independent_means,
    paired_means,
)
from analysis.statistics.estimates import mean_value, restricted_mean
from analysis.statistics.intervals import Estimate
from analysis.store.loader import Study
from analysis.tables.summary import configurations, ended_runs
from analysis.tables.trials import is_setting, trial_curves, why_crashed
from resnet_core.objective import Objective
from resnet_core.schema import best_metric

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
        objective: what the runs are compared by.
        settings: fields of the configuration, without the seed.
        seeds: seeds of the runs; shape (runs,).
        epochs: epochs to target, math.inf for a miss; shape (runs,).
        horizon: epochs that every run could have taken.
        cut_short: number of runs that ended without reaching the target before the end of their schedule; they count as
            misses.
        in_a_row: number of epochs in a row at the target or better that count as sustained.
        sustained: first epoch of the first such row of epochs, math.inf if there is none; shape (runs,).
        unknown: number of runs that ended at the target before it was known whether they sustain it; they count as not
            sustained.
        best: best value of each run; NaN where it has none; shape (runs,).
        values: values of the metric, one row per epoch, one column per run; NaN where a run had ended.
    """

    label: str
    study: str
    phase: str
    objective: Objective
    settings: dict[str, Any]
    seeds: tuple[int, ...]
    epochs: tuple[float, ...]
    horizon: int
    cut_short: int
    in_a_row: int
    sustained: tuple[float, ...]
    unknown: int
    best: tuple[float, ...]
    values: pd.DataFrame = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values; curves are left out."""
        sought = self.objective
        left_out = {"values", "objective"} if sought.target is None else {"values", "objective", "best"}
        plain = {name: value for name, value in vars(self).items() if name not in left_out}
        return {**plain, "metric": sought.metric, "target": sought.target}

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
        arms = {name: arm.to_dict() for name, arm in (("a", self.a), ("b", self.b))}
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
        reached = f"reached {arm.objective.target_text} in {arm.reached} of {len(arm.epochs)} runs"
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


@dataclass(frozen=True)
class ValueComparison:
    """Two configurations compared by the best values of their runs, in a study without a target.

    Attributes:
        a: the first configuration.
        b: the second one.
        pairs: seeds of the runs that were compared in pairs; empty if the configurations share too few.
        difference: mean best value of A minus that of B, in the unit of the metric.
        p: p-value of equal means.
        p_holm: the same, adjusted for the number of p-values.
        p_values: number of p-values that were adjusted together.
        notes: sentences that explain the figures to a reader.
        names: names of the two in the text.
    """

    a: ConfigurationRuns
    b: ConfigurationRuns
    pairs: tuple[int, ...]
    difference: Estimate
    p: float
    p_holm: float
    p_values: int
    notes: tuple[str, ...]
    names: tuple[str, str] = ("A", "B")

    def to_dict(self) -> dict[str, Any]:
        """Return plain values; curves are left out."""
        arms = {name: arm.to_dict() for name, arm in (("a", self.a), ("b", self.b))}
        figures = {name: getattr(self, name) for name in ("p", "p_holm", "p_values")}
        difference = asdict(self.difference)
        return {
            **arms,
            "paired_seeds": list(self.pairs),
            "difference": difference,
            **figures,
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        a, b = self.names
        sought = self.a.objective
        lines = [
            f"{name}: {arm.label}: {_count(len(arm.best), 'run')}, mean of the best {sought.metric} "
            f"{mean_value(arm.best)}"
            for name, arm in zip(self.names, (self.a, self.b), strict=True)
        ]
        lines += [f"   {setting}" for setting in setting_differences(self.a, self.b)]
        how = f"{len(self.pairs)} pairs of runs that share a seed" if self.pairs else "independent runs"
        lines.append(f"{a} minus {b} ({how}): {self.difference}")
        verdict = "the means are not told apart"
        if self.p_holm <= 1 - self.difference.confidence:
            a_is_better = (self.difference.value > 0) == (sought.goal == "max")
            verdict = f"{a if a_is_better else b} is better"
        lines.append(
            f"verdict: {verdict} (p = {self.p_holm:.2g}); by Holm, for the {self.p_values} p-values looked at together"
        )
        lines.append(f"brackets: {self.difference.confidence:.0%} confidence intervals, one by one")
        return "\n".join([*lines, *self.notes])


def configuration_runs(study: Study, trial: str = "", target: float | None = None) -> ConfigurationRuns:
    """Return the ended runs of one configuration of a study.

    Args:
        study: what `load` returned.
        trial: name of a trial of the configuration; not needed if the study has one configuration.
        target: value to reach; the default is the study's own.

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
        runs = study.trials[study.trials["number"].map(groups) == wanted]
        why = why_crashed(replace(study, trials=runs))
        raise ValueError(
            f"study {study.name!r}, {wanted}: {why}"
            if why
            else f"study {study.name!r}: no run of {wanted} has ended yet"
        )
    first = trials.loc[found.index[0]]
    sought, values = study.aimed(target), {n: c[study.metric].tolist() for n, _, c in trial_curves(study)}
    reaching = [(number, bool(reached)) for number, reached in found["reached"].items()]
    sustained = [sought.sustained_crossing(values[n]) if reached else None for n, reached in reaching]
    unknown = [n for n, reached in reaching if reached and not sought.sustained_is_known(values[n])]
    return ConfigurationRuns(
        label=f"{study.name}: {study.confirms or wanted}",
        study=study.name,
        phase=study.phase,
        objective=sought,
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
        best=tuple(found[best_metric(sought.metric)].tolist()),
        values=pd.DataFrame(
            {n: pd.Series(values[n], range(1, len(values[n]) + 1), dtype="float64") for n in found.index if n in values}
        ),
    )


def compare_configurations(
    arms: Sequence[ConfigurationRuns], *, mix: bool = False, confidence: float = 0.95
) -> list[ConfigurationComparison] | list[ValueComparison]:
    """Compare each configuration with the first.

    Without a target, the means of the runs' best values are compared: in pairs by Student's t, or as independent by
    Welch's t. Each comparison then has one p-value. The rest of this text is about configurations with a target.

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
        ValueError: there are fewer than two, or their metrics, goals or targets differ.
    """
    if len(arms) < 2:
        raise ValueError(f"{len(arms)} configurations: expected two or more")
    for other in arms[1:]:
        _check_comparable(arms[0], other, mix)
    if arms[0].objective.target is None:
        return _compared_by_value(arms, confidence)
    made = [_compared(arms[0], other, confidence) for other in arms[1:]]
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
) -> ConfigurationComparison | ValueComparison:
    """Compare two configurations; see `compare_configurations`."""
    return compare_configurations([a, b], mix=mix, confidence=confidence)[0]


def _check_comparable(a: ConfigurationRuns, b: ConfigurationRuns, mix: bool) -> None:
    if a.phase != b.phase and not mix:
        raise PhaseError(
            f"{a.label} is a {_PHASES[a.phase]} and {b.label} a {_PHASES[b.phase]}: a search's runs were chosen for "
            "being fast, or stopped for being slow"
        )
    of_a, of_b = a.objective, b.objective
    if (of_a.metric, of_a.goal) != (of_b.metric, of_b.goal):
        raise ValueError(f"{a.label} looks at {of_a.metric} ({of_a.goal}) and {b.label} at {of_b.metric} ({of_b.goal})")
    if of_a.target != of_b.target:
        raise ValueError(f"{a.label} aims at {_aim(of_a)} and {b.label} at {_aim(of_b)}: name one target for both")


def _aim(objective: Objective) -> str:
    return "none" if objective.target is None else f"{objective.target:g}"


def _shared_seeds(a: ConfigurationRuns, b: ConfigurationRuns) -> tuple[int, ...]:
    """Return the seeds that two configurations share, if these are at least half of those of the one with fewer."""
    shared = tuple(sorted(set(a.seeds) & set(b.seeds)))
    return () if 2 * len(shared) < min(len(set(a.seeds)), len(set(b.seeds))) else shared


def _compared_by_value(arms: Sequence[ConfigurationRuns], confidence: float) -> list[ValueComparison]:
    a, made = arms[0], []
    for b in arms[1:]:
        shared = _shared_seeds(a, b)
        if shared:
            of_a, of_b = (dict(zip(arm.seeds, arm.best, strict=True)) for arm in (a, b))
            difference, p = paired_means([of_a[seed] for seed in shared], [of_b[seed] for seed in shared], confidence)
        else:
            difference, p = independent_means(a.best, b.best, confidence)
        notes = tuple(_notes(a, b, min(a.horizon, b.horizon), shared))
        made.append(ValueComparison(a, b, shared, difference, p, p, 1, notes))
    adjusted = holm([found.p for found in made])
    return [
        replace(found, p_holm=p, p_values=len(made), names=("A", _letter(place + 1)))
        for place, (found, p) in enumerate(zip(made, adjusted, strict=True))
    ]


def _compared(a: ConfigurationRuns, b: ConfigurationRuns, confidence: float) -> ConfigurationComparison:
    budget = min(a.horizon, b.horizon)
    shared = _shared_seeds(a, b)

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
            meaning = "count as misses" if arm.objective.target is not None else "count with what they had by then"
            notes.append(f"{arm.cut_short} runs of {arm.label} were stopped early and {meaning}.")
    if a.horizon != b.horizon and a.objective.target is not None:
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
