"""A simulated study, several times over: what each of its stopping rules did, and what the study came to."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from statistics import fmean, median, stdev
from typing import TYPE_CHECKING, Any

from resnet_core.config import TrialConfig
from search_spaces.space import trial_count
from search_spaces.spec import StudySpec
from search_spaces.stopping import Stopping
from sweeps.errors import InputError
from sweeps.home import Home
from sweeps.ledger.ledger import Ledger
from sweeps.simulation.curve_model import CurveModel
from sweeps.simulation.curves import Recorded, beyond_model, model_curves
from sweeps.simulation.picks import (
    METHODS,
    Pick,
    one_of_each,
    pick_of_first,
    pick_of_optuna,
    pick_of_random,
    pick_of_study,
)
from sweeps.simulation.replay import Curves, FixedTrials, Replayed, replay, study_in_memory
from sweeps.study.ranking import configuration_of
from sweeps.study.stopping.rules import modes
from sweeps.study.trials import Job

if TYPE_CHECKING:
    import pandas as pd

    from analysis.tables.stopping import TrialHistory

PUBLISHED_SECONDS = 22.0
"""An epoch of ResNet56v2 at batch 64 on an RTX 4060 Ti (machine-learning.anracom.com, post I, 2024-05-27)."""

_KEEP = 5


@dataclass(frozen=True)
class Setup:
    """How a study is simulated.

    Attributes:
        spec: the study.
        source: recorded trials, or a model.
        gpus: GPUs there are.
        per_gpu: trials at once on each.
        shuffled: hand the trials out in random order, instead of the sampler's or their own.
        trials: how many; None is as many as the study, or the record, has.
        seed: of the first repeat: order, sampler and noise; each further repeat has the next.
        repeats: how often.
        seconds_per_epoch: of one trial beside the others on its GPU; None takes what was recorded, and on a model
            PUBLISHED_SECONDS.
        home: where things are; nothing is written there.
        epochs: no trial begins that these would not be enough for, whatever ``trials`` says; None is no bound.
        against: other ways to search, out of picks.METHODS, that are given as many epochs.
    """

    spec: StudySpec
    source: Recorded | CurveModel
    home: Home
    gpus: int = 4
    per_gpu: int = 1
    shuffled: bool = False
    trials: int | None = None
    seed: int = 0
    repeats: int = 1
    seconds_per_epoch: float | None = None
    epochs: int | None = None
    against: Sequence[str] = ()

    @property
    def model_seconds(self) -> float:
        """Seconds per epoch on a model's curves."""
        return PUBLISHED_SECONDS if self.seconds_per_epoch is None else self.seconds_per_epoch

    def jobs(self, spec: StudySpec) -> Sequence[Job] | None:
        """Return all trials there are, in their own order; None where a sampler makes them up."""
        if isinstance(self.source, Recorded):
            return self.source.jobs
        if spec.proposes:
            return None
        ledger = Ledger.preview(spec)
        return [ledger.ask() for _ in range(trial_count(spec))]

    def replay(
        self, seed: int, rules: bool, *, sampler: str | None = None, epochs: int | None = None
    ) -> list[Replayed]:
        """Return the trials of one repeat.

        Args:
            seed: of order, sampler and noise.
            rules: stop trials by the study's rules, or by none.
            sampler: in the place of the study's, and without its finalists.
            epochs: in the place of ``epochs``.
        """
        epochs = self.epochs if epochs is None else epochs
        search: dict[str, Any] = {"seed": seed}
        if self.spec.space:
            if self.trials is not None:
                search["trials"] = self.trials
            if epochs is not None and self.spec.proposes:
                search["trials"] = epochs  # more than there can be
            if sampler is not None:
                search |= {"sampler": sampler, "finalists": None}
        spec = self.spec.model_copy(
            update={
                "search": self.spec.search.model_copy(update=search),
                "stopping": self.spec.stopping if rules else Stopping(rules={}),
            }
        )
        jobs = self.ordered(spec, seed)
        trials: Ledger | FixedTrials
        trials = Ledger.preview(spec) if jobs is None else FixedTrials(*self._with_others(spec, jobs))
        run = study_in_memory(self.home, trials)
        bound = math.inf if epochs is None else epochs
        race = trials.spec.search.finalists if epochs is not None else None
        finalists = race.top * race.seeds if race is not None else 0
        return replay(run, self.curves(seed), self.gpus * self.per_gpu, bound, finalists, trials.end_search)

    def _with_others(
        self, spec: StudySpec, jobs: Sequence[Job]
    ) -> tuple[StudySpec, Sequence[Job], Mapping[TrialConfig, Sequence[Job]]]:
        """Return a study, its trials, and the recorded runs that its finalists can take.

        Of a configuration's runs that the search does not see, they get half: the others tell what it is truly worth.
        """
        if spec.search.finalists is None or not isinstance(self.source, Recorded):
            return spec, jobs, {}
        searched = {job.name for job in jobs}
        others = {
            configuration_of(runs[0].config): [job for job in runs if job.name not in searched][: (len(runs) - 1) // 2]
            for runs in self.source.configurations
        }
        seeds = min(spec.search.finalists.seeds, *map(len, others.values()))
        race = spec.search.finalists.model_copy(update={"seeds": seeds}) if seeds else None
        return spec.model_copy(update={"search": spec.search.model_copy(update={"finalists": race})}), jobs, others

    def ordered(self, spec: StudySpec, seed: int) -> Sequence[Job] | None:
        """Return the trials there are in the order of one repeat; None where a sampler makes them up.

        Where several recorded runs are of one configuration, a shuffled repeat of a study that samples a space sees one
        of each: a search does not repeat itself.
        """
        jobs = self.jobs(spec)
        if jobs is None or not self.shuffled:
            return None if jobs is None else jobs[: self.trials]
        if isinstance(self.source, Recorded) and self.spec.space:
            return one_of_each(self.source, seed)[: self.trials]
        return random.Random(f"order {seed}").sample(jobs, len(jobs))[: self.trials]

    def curves(self, seed: int) -> Curves:
        """Return what the trials of one repeat show."""
        if isinstance(self.source, Recorded):
            return self.source.curve(self.seconds_per_epoch)
        return model_curves(self.source, self.model_seconds, seed)

    def picks(self, seed: int, trials: Sequence[Replayed]) -> dict[str, Pick | None]:
        """Return by method what it picks in one repeat: the study, and each that it is set against.

        Args:
            seed: of the repeat.
            trials: the study's in it, whose epochs the others get, unless ``epochs`` says how many all get.
        """
        spec, source = self.spec, self.source
        spent = sum(trial.result.epochs_run for trial in trials) if self.epochs is None else self.epochs
        found = {"study": pick_of_study(trials, source, spec)}
        for method in self.against:
            if method == "first":
                assert isinstance(source, CurveModel)
                found[method] = pick_of_first(trials, source, spec)
            elif method == "random":
                others = self.replay(seed, rules=False, sampler="random", epochs=spent)
                found[method] = pick_of_random(others, source, spec)
            else:
                jobs, slots = self.ordered(spec, seed), self.gpus * self.per_gpu
                found[method] = pick_of_optuna(method, spec, jobs, self.curves(seed), source, slots, spent, seed)
        return found


@dataclass(frozen=True)
class Course:
    """What a simulated study came to.

    Attributes:
        trials: how many it ran.
        reached: trials that reached the target.
        epochs: that were trained.
        gpu_hours: that trials held their share of a GPU.
        hours: from the first trial's start to the last one's end.
        hours_to_best: from the first start to the first moment at which the study's fewest epochs to target were
            known; None where no trial reached it.
        best_epochs_to_target: those; None likewise.
    """

    trials: int
    reached: int
    epochs: int
    gpu_hours: float
    hours: float
    hours_to_best: float | None
    best_epochs_to_target: int | None


def course_of(trials: Sequence[Replayed], per_gpu: int) -> Course:
    """Return what the trials of a simulated study came to; ``per_gpu`` of them shared a GPU."""
    crossings = [
        (epochs, trial.epoch_ends[epochs - 1])
        for trial in trials
        if (epochs := trial.result.epochs_to_target) is not None
    ]
    fewest, first = min(crossings, default=(None, None))
    return Course(
        trials=len(trials),
        reached=len(crossings),
        epochs=sum(trial.result.epochs_run for trial in trials),
        gpu_hours=math.fsum(trial.seconds for trial in trials) / per_gpu / 3600,
        hours=max(trial.ended for trial in trials) / 3600,
        hours_to_best=None if first is None else first / 3600,
        best_epochs_to_target=fewest,
    )


def histories(trials: Sequence[Replayed]) -> list[TrialHistory]:
    """Return the trials as analysis.tables.stopping takes them, each with its whole curve."""
    from analysis.tables.stopping import TrialHistory

    return [
        TrialHistory(
            name=trial.job.name,
            val_accs=[record.val_acc for record in trial.records],
            horizon=trial.job.config.horizon,
            seconds_per_epoch=median(record.seconds for record in trial.records),
            outcome=trial.result.outcome,
            stopped_by=trial.result.stopped_by,
            would_stop=trial.result.would_stop,
        )
        for trial in trials
    ]


@dataclass(frozen=True)
class Range:
    """A figure over the repeats: its median, lowest and highest; None where no repeat has it."""

    median: float | None
    low: float | None
    high: float | None

    @classmethod
    def of(cls, values: Sequence[float | None]) -> Range:
        """Return the range of the values that are there."""
        known = [value for value in values if value is not None and not math.isnan(value)]
        return cls(median(known), min(known), max(known)) if known else cls(None, None, None)

    def __str__(self) -> str:
        if self.median is None or self.low is None or self.high is None:
            return "-"
        if self.low == self.high:
            return _short(self.median)
        return f"{_short(self.median)} ({_short(self.low)}..{_short(self.high)})"


def _short(value: float) -> str:
    return f"{value:.0f}" if value == round(value) or abs(value) >= 100 else f"{value:.3g}"


@dataclass(frozen=True)
class Worth:
    """What the picks of one method are truly worth, over the repeats.

    Attributes:
        picks: repeats in which it had a configuration to name.
        observed: mean epochs to target of the runs that they were named for, those that missed left out.
        true_rmst: mean restricted mean epochs to target of the picks.
        true_share: mean share of the picks' runs that reach the target.
        true_ert: median of the epochs that the picks spend for a run that reaches it; infinite where half never do.
        better_than_random: share of the repeats in which its restricted mean is lower than that of random's pick, ties
            counting half; None of random itself, and where that was not simulated.
        better_than_first: the same beside the settings that the study begins with.
    """

    picks: int
    observed: Estimate | None
    true_rmst: Estimate | None
    true_share: Estimate | None
    true_ert: float | None
    better_than_random: float | None
    better_than_first: float | None

    @classmethod
    def of(cls, found: Sequence[Pick | None], repeats: Sequence[Mapping[str, Pick | None]], method: str) -> Worth:
        """Return the worth of a method's picks, one for each repeat."""
        known = [pick for pick in found if pick is not None]
        seen = [float(pick.observed) for pick in known if pick.observed is not None]

        def better_than(other: str) -> float | None:
            against = [pick for repeat in repeats if (pick := repeat.get(other)) is not None]
            if method == other or not len(known) == len(against) == len(repeats):
                return None
            pairs = [(mine.truth.rmst, it.truth.rmst) for mine, it in zip(known, against, strict=True)]
            return fmean((mine < it) + (mine == it) / 2 for mine, it in pairs)

        return cls(
            picks=len(known),
            observed=_mean(seen),
            true_rmst=_mean([pick.truth.rmst for pick in known]),
            true_share=_mean([pick.truth.share for pick in known], highest=1.0),
            true_ert=median(pick.truth.ert for pick in known) if known else None,
            better_than_random=better_than("random"),
            better_than_first=better_than("first"),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values; of an Estimate, ``value``, ``low`` and ``high``."""
        ert = self.true_ert
        return {**asdict(self), "true_ert": None if ert is None or math.isinf(ert) else ert}


@dataclass(frozen=True)
class Estimate:
    """A mean over the repeats with its 95 % interval by Student's t, which a single repeat does not have."""

    value: float
    low: float | None
    high: float | None

    def __str__(self) -> str:
        return f"{self.value:.2f}" if self.low is None else f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


def _mean(values: Sequence[float], highest: float = math.inf) -> Estimate | None:
    from scipy.special import stdtrit

    if not values:
        return None
    mean, count = fmean(values), len(values)
    if count == 1:
        return Estimate(mean, None, None)
    half = float(stdtrit(count - 1, 0.975)) * stdev(values) / math.sqrt(count)
    return Estimate(mean, max(0.0, mean - half), min(highest, mean + half))


_FIGURES = ("stopped", "epochs_saved", "hours_saved", "judged", "false_stops", "best_lost")
_COURSE = ("trials", "reached", "epochs", "gpu_hours", "hours", "hours_to_best", "best_epochs_to_target")


@dataclass(frozen=True)
class Simulation:
    """A study, simulated.

    Attributes:
        setup: how.
        rules: what each rule did: mode, then a Range for each figure of build_stopping, by rule.
        with_rules: what the study came to, a Range for each figure of Course.
        without_rules: the same with no rule at all, on the same curves where no sampler learns.
        picks: by method, what it picked: a Worth.
        notes: what a reader must know.
    """

    setup: Setup
    rules: Mapping[str, tuple[str, Mapping[str, Range]]]
    with_rules: Mapping[str, Range]
    without_rules: Mapping[str, Range]
    picks: Mapping[str, Worth] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def share_saved(self) -> float:
        """Share of the epochs of its own trials' schedules that the rules saved, from the medians."""
        _, row = self.rules.get("all rules", ("", {}))
        saved = (row["epochs_saved"].median if row else None) or 0.0
        spent = self.with_rules["epochs"].median
        assert spent is not None
        return saved / (saved + spent)

    def to_dict(self) -> dict[str, Any]:
        """Return what ``simulate --json`` prints."""

        def plain(figures: Mapping[str, Range]) -> dict[str, Any]:
            return {name: vars(figure) for name, figure in figures.items()}

        setup = self.setup
        return {
            "study": setup.spec.name,
            "gpus": setup.gpus,
            "per_gpu": setup.per_gpu,
            "order": "shuffled" if setup.shuffled else "sampler",
            "seed": setup.seed,
            "repeats": setup.repeats,
            "rules": [{"rule": rule, "mode": mode, **plain(row)} for rule, (mode, row) in self.rules.items()],
            "with_rules": plain(self.with_rules),
            "without_rules": plain(self.without_rules),
            "picks": {method: worth.to_dict() for method, worth in self.picks.items()},
            "notes": self.notes,
        }


def simulate(setup: Setup) -> Simulation:
    """Simulate a study, with its rules and with none, as often as asked.

    Raises:
        InputError: more trials are asked for than there are, or a space is to be shuffled.
    """
    _check(setup)
    from analysis.tables.stopping import build_stopping

    tables, ruled, free, picked = [], [], [], []
    for seed in range(setup.seed, setup.seed + setup.repeats):
        trials = setup.replay(seed, rules=True)
        tables.append(build_stopping(histories(trials), setup.spec.objective.target, _KEEP, modes(setup.spec)))
        ruled.append(course_of(trials, setup.per_gpu))
        free.append(course_of(setup.replay(seed, rules=False), setup.per_gpu))
        picked.append(setup.picks(seed, trials))
    return Simulation(setup, _merged(tables), _spread(ruled), _spread(free), worths(picked), _notes(setup))


def _check(setup: Setup) -> None:
    unknown = [method for method in setup.against if method not in METHODS]
    if unknown:
        raise InputError(f"--against {unknown[0]}: expected some of {', '.join(METHODS)}, with commas between them")
    if "first" in setup.against and (isinstance(setup.source, Recorded) or not setup.spec.search.first):
        raise InputError("--against first: expected a study with search.first, on the model's curves")
    if setup.jobs(setup.spec) is None and setup.shuffled:
        raise InputError(
            "--order shuffled: a space has no list of trials to shuffle; "
            "use --order sampler with --set search.sampler=random, or --from NAME"
        )
    jobs = replace(setup, trials=None).ordered(setup.spec, setup.seed)
    if jobs is not None and setup.trials is not None and setup.trials > len(jobs):
        raise InputError(f"--trials {setup.trials}: expected at most {len(jobs)}, since there are no more")


def worths(picked: Sequence[Mapping[str, Pick | None]]) -> dict[str, Worth]:
    """Return by method what its picks of all repeats are worth.

    Args:
        picked: of each repeat, a pick by method; None where it had none to name.
    """
    return {method: Worth.of([found[method] for found in picked], picked, method) for method in picked[0]}


def _merged(tables: Sequence[pd.DataFrame]) -> dict[str, tuple[str, dict[str, Range]]]:
    """Return the rows of all repeats, by rule; a rule that stopped nothing in a repeat counts as zero there."""
    rows = [{str(row["rule"]): row for row in table.to_dict("records")} for table in tables]
    names = dict.fromkeys(name for found in rows for name in found)
    ordered = sorted(names, key=lambda name: name == "all rules")
    merged = {}
    for name in ordered:
        modes = {str(found[name]["mode"]) for found in rows if name in found}
        values = {
            figure: Range.of([_number(found[name][figure]) if name in found else 0.0 for found in rows])
            for figure in _FIGURES
        }
        merged[name] = ("active" if "active" in modes else "shadow", values)
    return merged


def _number(value: Any) -> float | None:
    import pandas as pd

    return None if pd.isna(value) else float(value)


def _spread(courses: Sequence[Course]) -> dict[str, Range]:
    return {name: Range.of([getattr(course, name) for course in courses]) for name in _COURSE}


def _notes(setup: Setup) -> list[str]:
    notes = [
        f"{setup.repeats} simulated {'study' if setup.repeats == 1 else 'studies'} on {setup.gpus} GPUs with "
        f"{setup.per_gpu} trial(s) on each. Median (lowest..highest).",
        f"false_stops: the trial reached the target later. best_lost: of the {_KEEP} trials with the fewest epochs "
        "to target, those stopped before they got there.",
        "pick: the configuration named in the end. observed: epochs to target of the run it is named for. true_rmst, "
        "true_share: its restricted mean epochs to target and the share of its runs that reach it"
        + (", over 400 runs of the model" if isinstance(setup.source, CurveModel) else ", over its other recorded runs")
        + "; true_ert: epochs spent for each that does. Mean [95 % interval].",
    ]
    if isinstance(setup.source, Recorded):
        left = ", ".join(f"{count} {why}" for why, count in setup.source.left_out.items()) or "none"
        notes.append(f"Curves: {len(setup.source.jobs)} trials of {setup.source.study}; left out: {left}.")
        return notes
    notes.append(
        "Curves: a model fitted to post V's runs, which knows the schedule and weight decay only: it serves to choose "
        "rules, not to predict results."
    )
    unknown = beyond_model(setup.spec)
    if unknown:
        notes.append(f"The model knows nothing of: {', '.join(unknown)}.")
    notes.append(f"One epoch counts {setup.model_seconds:g} s.")
    return notes


def _shown(estimate: Estimate | None) -> str:
    return "-" if estimate is None else str(estimate)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"


def describe(simulation: Simulation) -> str:
    """Return a simulation as text: what each rule did, what the study came to, what to know."""
    import pandas as pd

    from analysis import render

    rules = [
        {"rule": rule, "mode": mode, **{name: str(figure) for name, figure in row.items()}}
        for rule, (mode, row) in simulation.rules.items()
    ]
    courses = {"with its rules": simulation.with_rules, "with no rule": simulation.without_rules}
    columns = ("trials", "reached", "epochs", "gpu_hours", "hours", "hours_to_best", "best_epochs_to_target")
    studies = [{"study": name, **{c: str(course[c]) for c in columns}} for name, course in courses.items()]
    parts = [render(pd.DataFrame(rules), "text")] if rules else ["no rule stopped any trial\n"]
    parts.append(render(pd.DataFrame(studies), "text"))
    picks = [
        {
            "pick of": method,
            "observed": _shown(worth.observed),
            "true_rmst": _shown(worth.true_rmst),
            "true_share": _shown(worth.true_share),
            "true_ert": "-" if worth.true_ert is None else f"{worth.true_ert:.1f}",
            **{name: _percent(getattr(worth, name)) for name in ("better_than_random", "better_than_first")},
        }
        for method, worth in simulation.picks.items()
    ]
    parts.append(render(pd.DataFrame(picks), "text", notes=simulation.notes))
    return "\n".join(parts).rstrip("\n")
