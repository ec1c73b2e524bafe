"""The best trial of a study: whether it is confirmed, and whether it leads by more than noise."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from analysis.statistics.lead import Lead, lead
from resnet_core.config import TrialConfig
from resnet_core.objective import DEFAULT, Objective
from search_spaces.spec import StudySpec
from sweeps.home import Home
from sweeps.inspection.trials import describe_trial, trial_to_dict
from sweeps.ledger.confirmations import confirming
from sweeps.ledger.ledger import Ledger
from sweeps.study.ranking import Configuration, Ranking, configuration_of, ranking, validation_images
from sweeps.study.trials import Entry


@dataclass(frozen=True)
class BestTrial:
    """The best trial of a study, and the evidence about its configuration.

    Attributes:
        entry: the trial: the best run of the best configuration.
        study: name of the study.
        phase: phase of the study.
        confirmed_by: names of the studies that confirm the trial, each with the number of its runs that reached the
            target and the number that ended.
        expected: expected epochs to target of the configuration and their standard error; a run that misses counts as
            the study's longest schedule. Without a target, the expected best value. None while
            no configuration has two runs and there are few trials.
        reruns: number of runs with fresh seeds that the configuration has in the race of the finalists, and the number
            of them that reached the target.
        raced: whether the race of the finalists is over.
        second: name of the best trial of the second-best configuration; None if there is no other configuration, or
            that trial missed the target.
        second_chance: probability that the second-best configuration is the better one; None if there is no second.
        lead: the lead of the best trial over the second; None unless both reached the target.
        imported: whether the study was imported; then the trial cannot be confirmed here.
        objective: what the study looks for.
    """

    entry: Entry
    study: str
    phase: str
    confirmed_by: dict[str, tuple[int, int]]
    expected: tuple[float, float] | None
    reruns: tuple[int, int]
    raced: bool
    second: str | None
    second_chance: float | None
    lead: Lead | None
    imported: bool = False
    objective: Objective = DEFAULT

    def to_dict(self) -> dict[str, Any]:
        """Return the values that ``best --json`` prints: the trial, and the evidence about it."""
        found = None
        if self.lead is not None:
            found = dataclasses.asdict(self.lead) | {"over": self.second, "within_noise": self.lead.within_noise}
            found["chance_of_the_other"] = self.second_chance
        confirmed = {name: {"reached": k, "runs": n} for name, (k, n) in self.confirmed_by.items()}
        runs, reached = self.reruns
        unit = "epochs" if self.objective.target is not None else self.objective.metric
        return {
            **trial_to_dict(self.entry, self.objective),
            "expected": None if self.expected is None else dict(zip((unit, "sd"), self.expected, strict=True)),
            "winner": self.raced,
            "run_again": {"reached": reached, "runs": runs},
            "confirmed_by": confirmed,
            "lead": found,
        }

    def describe(self) -> str:
        """Return the trial as text, followed by the evidence about it."""
        return "\n".join([describe_trial(self.entry, self.objective), *self.sentences()])

    def sentences(self) -> list[str]:
        """Return the evidence about the trial beside its own figures, in sentences."""
        return [*self.evidence(), *self._second_best()]

    def evidence(self) -> list[str]:
        """Return how sure it is what the configuration does, in sentences."""
        said = []
        if self.phase == "confirm":
            best = "fastest" if self.objective.target is not None else "best"
            said.append(f"a run of a confirmation: all are of one configuration, and its {best} run is luck")
            return said
        for name, (reached, runs) in self.confirmed_by.items():
            said.append(f"confirmation {name}: {self._runs(runs, reached)}")
        if self.imported:
            said.append("imported: one run, exploratory; what it trained is known as far as its file says")
        else:
            said += self._confidence()
        return said

    def _second_best(self) -> list[str]:
        if self.phase == "confirm" or self.second is None:
            return []
        if self.lead is None:
            return [f"second best: trial {self.second}, with a chance of {self.second_chance:.0%} to be better"]
        place = "behind" if self.lead.epochs >= 0 else "ahead by its own runs, but not by those around it"
        behind = (
            f"second best: trial {self.second}, {abs(self.lead.epochs):.2g} epochs {place}, with a chance of "
            f"{self.second_chance:.0%} to be better"
        )
        if self.lead.noise is None:
            rough = ""
            if self.lead.rough < float("inf"):
                rough = (
                    f"; roughly, other validation images would move the gap by up to {self.lead.rough:.2g} epochs, but "
                    "both were validated on the same ones, and what seeds add is not in it"
                )
            return [f"{behind}: whether by more than noise is not known without repeats of a configuration{rough}"]
        within = "within noise" if self.lead.within_noise else "more than noise"
        return [
            f"{behind}: {within}; two runs of one configuration differ by up to {self.lead.noise:.2g} epochs in 95 of "
            f"100 cases (Student's t, {self.lead.degrees} degrees of freedom, from runs that differ in seed alone)"
        ]

    def _confidence(self) -> list[str]:
        """Return the evidence about the configuration, and the command that would add to it."""
        runs, reached = self.reruns
        said = []
        if runs:
            place = "winner of the finalists" if self.raced else "ahead of the finalists so far, whose race goes on"
            said.append(f"{place}: {self._runs(runs, reached, ' with fresh seeds')}")
            if self.raced and not self.confirmed_by:
                said[0] += f"; `sweeps confirm {self.study}` tells how surely, with seeds that chose nothing"
        elif not self.confirmed_by:
            said.append(
                f"no winner yet: one run may be luck; `sweeps race {self.study}` runs the best configurations "
                f"again with fresh seeds, `sweeps confirm {self.study}` this one"
            )
        if self.expected is not None:
            value, sd = self.expected
            what = f"{value:.1f} epochs, with a standard error of {sd:.1f}"
            if self.objective.target is None:
                what = f"{self.objective.metric} {self.objective.shown(value)}, with a standard error of {sd:.2g}"
            said.append(f"expected of its configuration: {what}")
        return said

    def _runs(self, runs: int, reached: int, which: str = "") -> str:
        if self.objective.target is None:
            return f"{runs} runs{which}"
        if which:
            return f"of {runs} runs{which} {reached} reached the target"
        return f"{reached} of {runs} runs reached the target"


def best_trial(home: Home, ledger: Ledger) -> BestTrial | None:
    """Return the best trial of a study; None if no trial has ended with a result."""
    entries = ledger.entries()
    return best_of(home, ledger, entries, ranking(ledger.spec, entries))


def best_of(home: Home, ledger: Ledger, entries: Sequence[Entry], ranked: Ranking) -> BestTrial | None:
    """Return the best trial of a study whose trials were read and ranked already."""
    spec, first = ledger.spec, ranked.best
    if first is None:
        return None
    best, sought = first.runs[0], spec.objective
    # Without a target, the number that is minimised is a score with its sign turned.
    expected = first.expected if sought.target is not None else sought.score(0.0 - first.expected)
    confirmations = confirming(home, spec.name, best) if spec.phase == "search" else []
    ended = {c.name: _ended(home, c.name) for c in confirmations}
    repeats: dict[object, list[float]] = {}
    for entry in [*entries, *(entry for runs in ended.values() for entry in runs)]:
        if _reached(entry):
            repeats.setdefault(_without_seed(entry), []).append(_crossing(entry, sought))
    other = next((one for one in ranked.configurations if one is not first), None)
    second = None if other is None else other.runs[0]
    reruns = [run for run in first.runs if run.job.finalist]
    return BestTrial(
        entry=best,
        study=spec.name,
        phase=spec.phase,
        confirmed_by={name: (sum(map(_reached, runs)), len(runs)) for name, runs in ended.items()},
        expected=(expected, first.sd) if ranked.has_enough_data else None,
        reruns=(len(reruns), sum(map(_reached, reruns))),
        raced=bool(reruns) and ledger.complete(),
        second_chance=None if other is None else ranked.chance(other, first),
        second=second.job.name if second is not None and (sought.target is None or _reached(second)) else None,
        lead=_lead(spec, first, other, list(repeats.values())),
        imported=ledger.origin is not None,
        objective=sought,
    )


def _lead(
    spec: StudySpec, first: Configuration, other: Configuration | None, repeats: list[list[float]]
) -> Lead | None:
    best = first.runs[0]
    if other is None or not _reached(best) or not _reached(other.runs[0]):
        return None
    assert best.result is not None
    images, sought = validation_images(best.job.config), spec.objective
    if images is None or not sought.is_accuracy or sought.target is None:
        return None
    return lead(
        first.objective,
        other.objective,
        best.result.values,
        sought.target,
        images,
        repeats,
    )


def _ended(home: Home, name: str) -> list[Entry]:
    entries = Ledger.read(home.ledger_uri, name).entries()
    return [entry for entry in entries if entry.result is not None and entry.result.outcome != "crashed"]


def _without_seed(entry: Entry) -> object:
    """Return the configuration that repeats of a run share; whether a confirmation uses the test images is ignored."""
    config = configuration_of(entry.job.config)
    return dataclasses.replace(config, test=False) if isinstance(config, TrialConfig) else config


def _reached(entry: Entry) -> bool:
    return entry.result is not None and entry.result.epochs_to_target is not None


def _crossing(entry: Entry, objective: Objective) -> float:
    """Return the interpolated crossing of a trial that reached the target."""
    assert entry.result is not None
    crossing = objective.interpolated_crossing(entry.result.values)
    assert crossing is not None
    return crossing
