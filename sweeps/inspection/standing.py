"""Where a study's best trial stands: whether it is confirmed, and whether it leads by more than noise."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from analysis.statistics.lead import Lead, lead
from resnet_core.config import epoch_sizes
from resnet_core.objective import interpolated_crossing
from search_spaces.spec import StudySpec
from sweeps.home import Home
from sweeps.ledger.confirmations import confirming
from sweeps.ledger.ledger import Ledger
from sweeps.study.ranking import Configuration, ranking
from sweeps.study.trials import Entry


@dataclass(frozen=True)
class Standing:
    """What is known of a study's best trial beside its own figures.

    Attributes:
        study: name of the study.
        phase: its phase.
        imported: whether it was imported, and nothing can confirm it here.
        confirmed_by: names of the studies that confirm the trial, with how many runs reached the target and how many
            ended.
        expected: epochs to target expected of the trial's configuration, a miss as the study's longest schedule, and
            the standard deviation of what is known of that; None while no run was repeated and there are few.
        again: how many runs with fresh seeds its configuration has in the race of finalists, and how many reached the
            target.
        raced: whether the race of the finalists is over.
        second: name of the best trial of any other configuration that reached the target; None where there is none.
        second_chance: probability that that configuration is better; None likewise.
        lead: over that one; None where there is none, or the best did not reach the target.
    """

    study: str
    phase: str
    confirmed_by: dict[str, tuple[int, int]]
    expected: tuple[float, float] | None
    again: tuple[int, int]
    raced: bool
    second: str | None
    second_chance: float | None
    lead: Lead | None
    imported: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        found = None
        if self.lead is not None:
            found = dataclasses.asdict(self.lead) | {"over": self.second, "within_noise": self.lead.within_noise}
            found["chance_of_the_other"] = self.second_chance
        confirmed = {name: {"reached": k, "runs": n} for name, (k, n) in self.confirmed_by.items()}
        runs, reached = self.again
        return {
            "expected": None if self.expected is None else dict(zip(("epochs", "sd"), self.expected, strict=True)),
            "winner": self.raced,
            "run_again": {"reached": reached, "runs": runs},
            "confirmed_by": confirmed,
            "lead": found,
        }

    def lines(self) -> list[str]:
        """Return it in sentences."""
        said = []
        if self.phase == "confirm":
            said.append("a run of a confirmation: all are of one configuration, and its fastest run is luck")
            return said
        for name, (reached, runs) in self.confirmed_by.items():
            said.append(f"confirmation {name}: {reached} of {runs} runs reached the target")
        if self.imported:
            said.append("imported: one run, exploratory; what it trained is known as far as its file says")
        else:
            said += self._worth()
        if self.lead is None:
            return said
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
            said.append(f"{behind}: whether by more than noise is not known without repeats of a configuration{rough}")
            return said
        within = "within noise" if self.lead.within_noise else "more than noise"
        said.append(
            f"{behind}: {within}; two runs of one configuration differ by up to {self.lead.noise:.2g} epochs in 95 of "
            f"100 cases (Student's t, {self.lead.degrees} degrees of freedom, from runs that differ in seed alone)"
        )
        return said

    def _worth(self) -> list[str]:
        """Say what is known of the configuration, and what would tell more."""
        runs, reached = self.again
        said = []
        if runs:
            place = "winner of the finalists" if self.raced else "ahead of the finalists so far, whose race goes on"
            said.append(f"{place}: of {runs} runs with fresh seeds {reached} reached the target")
            if self.raced and not self.confirmed_by:
                said[0] += f"; `sweeps confirm {self.study}` tells how surely, with seeds that chose nothing"
        elif not self.confirmed_by:
            said.append(
                f"no winner yet: one run may be luck; `sweeps race {self.study}` runs the best configurations "
                f"again with fresh seeds, `sweeps confirm {self.study}` this one"
            )
        if self.expected is not None:
            epochs, sd = self.expected
            said.append(f"expected of its configuration: {epochs:.1f} epochs, with a standard error of {sd:.1f}")
        return said


def standing(home: Home, ledger: Ledger) -> Standing | None:
    """Return where the best trial of a study stands; None where no trial has ended with a result."""
    spec, entries = ledger.spec, ledger.entries()
    ranked = ranking(spec, entries)
    first = ranked.best
    if first is None:
        return None
    best = first.runs[0]
    confirmations = confirming(home, spec.name, best) if spec.phase == "search" else []
    ended = {c.name: _ended(home, c.name) for c in confirmations}
    repeats: dict[object, list[float]] = {}
    for entry in [*entries, *(entry for runs in ended.values() for entry in runs)]:
        if _reached(entry):
            repeats.setdefault(_repeated(entry), []).append(_crossing(entry, spec.objective.target))
    other = next((one for one in ranked.configurations if one is not first), None)
    second = None if other is None else other.runs[0]
    again = [run for run in first.runs if run.job.finalist]
    return Standing(
        study=spec.name,
        phase=spec.phase,
        confirmed_by={name: (sum(map(_reached, runs)), len(runs)) for name, runs in ended.items()},
        expected=(first.expected, first.sd) if ranked.tells else None,
        again=(len(again), sum(map(_reached, again))),
        raced=bool(again) and ledger.complete(),
        second_chance=None if other is None else ranked.chance(other, first),
        second=second.job.name if second is not None and _reached(second) else None,
        lead=_lead(spec, first, other, list(repeats.values())),
        imported=ledger.origin is not None,
    )


def _lead(
    spec: StudySpec, first: Configuration, other: Configuration | None, repeats: list[list[float]]
) -> Lead | None:
    best = first.runs[0]
    if other is None or not _reached(best) or not _reached(other.runs[0]):
        return None
    assert best.result is not None
    return lead(
        first.objective,
        other.objective,
        best.result.val_accs,
        spec.objective.target,
        epoch_sizes(best.job.config)[1],
        repeats,
    )


def _ended(home: Home, name: str) -> list[Entry]:
    entries = Ledger.open(home.ledger_uri, name).entries()
    return [entry for entry in entries if entry.result is not None and entry.result.outcome != "crashed"]


def _repeated(entry: Entry) -> object:
    """What runs share that differ in their seed alone, whether the test images are looked at besides or not."""
    return dataclasses.replace(entry.job.config, seed=0, test=False)


def _reached(entry: Entry) -> bool:
    return entry.result is not None and entry.result.epochs_to_target is not None


def _crossing(entry: Entry, target: float) -> float:
    """Return the interpolated crossing of a trial that reached the target."""
    assert entry.result is not None
    crossing = interpolated_crossing(entry.result.val_accs, target)
    assert crossing is not None
    return crossing
