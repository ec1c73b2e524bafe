"""A study in virtual time: its own sampler and stopping rules on curves that are known, with nothing trained.

The decisions are StudyRun's, which runs real studies. Only what surrounds it is made up: a clock, slots, and
trials whose epochs are read from a store or drawn from a model. The curve of a trial is known to its end whatever
the rules do, so every stop can be judged.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import Counter
from collections.abc import Callable, Collection, Container, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.curve_model import CurveModel
from resnet_core.config import TrialConfig
from resnet_core.records import EpochRecord, Outcome
from search_spaces.space import trial_count
from search_spaces.spec import Stopping
from search_spaces.study import StudySpec
from sweeps.errors import InputError
from sweeps.home import Home
from sweeps.ledger import Entry, Handout, Job, Ledger
from sweeps.outcomes import Result
from sweeps.stopping import modes
from sweeps.study_run import ActiveTrial, StudyRun, Trials

if TYPE_CHECKING:
    import pandas as pd

    from analysis.stopping_table import TrialHistory

Curves = Callable[[Job], Sequence[EpochRecord]]
"""The epochs of a job, 1, 2, … to its horizon."""

PUBLISHED_SECONDS = 22.0
"""An epoch of ResNet56v2 at batch 64 on an RTX 4060 Ti (machine-learning.anracom.com, post I, 2024-05-27)."""

_KEEP = 5


@dataclass(frozen=True)
class Replayed:
    """One simulated trial.

    Attributes:
        job: what it was.
        started: when it took its slot, in seconds of virtual time.
        epoch_ends: when each of the epochs it was trained ended, likewise.
        records: its whole curve, also behind the epoch at which it was stopped.
        result: how it ended.
    """

    job: Job
    started: float
    epoch_ends: Sequence[float]
    records: Sequence[EpochRecord]
    result: Result

    @property
    def ended(self) -> float:
        """When it gave its slot back."""
        return self.epoch_ends[-1]


def replay(run: StudyRun, curves: Curves, slots: int) -> list[Replayed]:
    """Run a study in virtual time and return its trials in the order they were placed.

    A free slot takes the next trial at once; every epoch of a trial is an event, and lasts the record's seconds.
    Events at the same time come in the order they were scheduled.

    Args:
        run: the study, none of it begun.
        curves: what each trial will show.
        slots: trials at once, 1 or more.

    Raises:
        ValueError: a curve is shorter than its trial's horizon.
    """
    clock, scheduled, free = 0.0, 0, slots
    events: list[tuple[float, int, int]] = []  # when, how many were scheduled before, whose epoch
    placed: dict[int, tuple[Job, float, list[float], Sequence[EpochRecord]]] = {}
    while True:
        while free and (trial := run.next_trial()) is not None:
            job, number = trial.job, trial.job.number
            records = curves(job)
            if len(records) < job.config.horizon:
                raise ValueError(f"trial {job.name}: {len(records)} epochs for a horizon of {job.config.horizon}")
            placed[number] = (job, clock, [], records)
            heapq.heappush(events, (clock + records[0].seconds, scheduled, number))
            free, scheduled = free - 1, scheduled + 1
        if not events:
            return [Replayed(*parts, run.results[number]) for number, parts in placed.items()]
        clock, _, number = heapq.heappop(events)
        _, _, ends, records = placed[number]
        ends.append(clock)
        if run.epoch(number, records[len(ends) - 1]):
            free += 1
        else:
            heapq.heappush(events, (clock + records[len(ends)].seconds, scheduled, number))
            scheduled += 1


@dataclass
class FixedTrials:
    """A list of trials instead of a ledger: handed out in its order, numbered from 0, remembered nowhere."""

    spec: StudySpec
    jobs: Sequence[Job]
    _asked: int = 0

    def entries(self) -> list[Entry]:
        """Return none: nothing ran before."""
        return []

    def unfinished(self) -> list[Job]:
        """Return none, likewise."""
        return []

    def to_run(self) -> int:
        """Return how many trials are left."""
        return len(self.jobs) - self._asked

    def elsewhere(self) -> int:
        """Return none: there are no other drivers."""
        return 0

    def take(self, known: Container[int] = ()) -> Handout:  # noqa: ARG002
        """Return the next trial, under its number in this study."""
        if not self.to_run():
            return Handout(None, 0)
        job = replace(self.jobs[self._asked], number=self._asked)
        self._asked += 1
        return Handout(job, self.to_run())

    def holds(self, number: int) -> bool:  # noqa: ARG002
        """Return that a trial is this driver's."""
        return True

    def drop(self, number: int) -> None:
        """Do nothing: no other driver takes a trial over."""

    def heirless(self, numbers: Collection[int]) -> dict[int, str]:
        """Return all: there is nobody else."""
        return dict.fromkeys(numbers, "")

    def inherit(self, number: int) -> bool:  # noqa: ARG002
        """Return that it is this driver's."""
        return True

    def note_stops(self, number: int, would_stop: Mapping[str, int]) -> None:
        """Do nothing: no process continues this one."""

    def noted_stops(self, number: int) -> dict[str, int]:  # noqa: ARG002
        """Return none, likewise."""
        return {}

    def tell(self, number: int, result: Result) -> bool:  # noqa: ARG002
        """Do nothing: no sampler learns."""
        return True


class _Unkept:
    """Keeps nothing, where a launch has MLflow."""

    def written(self) -> Mapping[int, tuple[str, frozenset[int]]]:
        return {}

    def refresh(self) -> Mapping[int, tuple[str, frozenset[int]]]:
        return {}

    def adopt(self, job: Job) -> frozenset[int]:  # noqa: ARG002
        return frozenset()

    def begin(self, job: Job) -> None: ...

    def place(self, job: Job, placement: dict[str, str]) -> None: ...

    def epoch(self, job: Job, record: EpochRecord) -> None: ...

    def end(self, job: Job, result: Result, then: Callable[[], None] | None = None) -> None: ...

    def pause(self, jobs: list[Job]) -> None: ...


class _Unwatched:
    """Shows nothing."""

    def started(self, trial: ActiveTrial) -> None: ...

    def epoch(self, trial: ActiveTrial) -> None: ...

    def failed(self, trial: ActiveTrial, error: str, again: bool) -> None: ...

    def ended(self, job: Job, result: Result) -> None: ...

    def stopping(self) -> None: ...

    def lost(self, job: Job) -> None: ...

    def waiting(self, trials: int) -> None: ...


def study_in_memory(home: Home, trials: Trials) -> StudyRun:
    """Return a study that decides as a launch does and leaves no trace."""
    return StudyRun(home, trials, _Unkept(), _Unwatched())


# Where curves come from


@dataclass(frozen=True)
class Recorded:
    """The trials of a study that ran, whose curves are known to their end.

    Attributes:
        study: its name.
        jobs: the trials, by number.
        curves: their epochs by name, as many as the horizon.
        left_out: trials that cannot serve as truth, by why.
    """

    study: str
    jobs: Sequence[Job]
    curves: Mapping[str, Sequence[EpochRecord]]
    left_out: Mapping[str, int]

    def curve(self, seconds: float | None = None) -> Curves:
        """Return the curves, with so many seconds an epoch instead of the recorded ones where given."""

        def curve(job: Job) -> Sequence[EpochRecord]:
            records = self.curves[job.name]
            return records if seconds is None else [replace(record, seconds=seconds) for record in records]

        return curve

    @property
    def seconds_per_epoch(self) -> float:
        """Median over all epochs."""
        return median(record.seconds for records in self.curves.values() for record in records)


def recorded(home: Home, name: str) -> Recorded:
    """Return the trials of a study of this home that ran to the end of their schedule.

    A diverged trial stays broken: its last epoch is repeated to its horizon. Pruned trials, and those that were
    ended at the target, are left out: nobody knows how they would have gone on.

    Raises:
        InputError: there is no such study, or none of its trials can be used.
    """
    from analysis import StoreError, load

    entries = Ledger.open(home.ledger_uri, name).entries()
    try:
        epochs = load(home.mlflow_uri, name).epochs
    except StoreError as error:
        raise InputError(str(error)) from error
    by_number = {number: group.drop(columns="number") for number, group in epochs.groupby("number")}
    jobs, curves, left_out = [], {}, Counter[str]()
    for entry in entries:
        job, result = entry.job, entry.result
        if result is None:
            left_out["running"] += 1
            continue
        rows = by_number.get(job.number)
        records = [] if rows is None else [_record(row) for row in rows.to_dict("records")]
        if result.outcome is Outcome.DIVERGED and records:
            missing = range(len(records) + 1, job.config.horizon + 1)
            records += [replace(records[-1], epoch=epoch) for epoch in missing]
        if result.outcome in (Outcome.PRUNED, Outcome.CRASHED):
            left_out[result.outcome.value] += 1
        elif [record.epoch for record in records] != list(range(1, job.config.horizon + 1)):
            left_out["ended early"] += 1
        else:
            jobs.append(job)
            curves[job.name] = records
    if not jobs:
        reasons = ", ".join(f"{count} {why}" for why, count in left_out.items()) or "it has no trial"
        raise InputError(f"--from {name}: no trial of it ran to the end of its schedule ({reasons})")
    return Recorded(name, jobs, curves, dict(left_out))


def _record(row: Mapping[Any, Any]) -> EpochRecord:
    values: dict[str, Any] = {str(key): value for key, value in row.items()}
    absent = {name: None for name in _OPTIONAL if math.isnan(values[name])}
    return EpochRecord(**values | absent)


_OPTIONAL = [f.name for f in fields(EpochRecord) if f.default is None]


def model_curves(model: CurveModel, seconds_per_epoch: float, seed: int) -> Curves:
    """Return curves drawn from a model; a trial's noise depends on its number and ``seed`` alone.

    The model tells validation accuracy only. The other figures are stand-ins that no rule takes for divergence.
    """

    def curve(job: Job) -> list[EpochRecord]:
        config = job.config
        noise = np.random.default_rng([seed, job.number])
        accs = model.draw(config.schedule, _mean_decay(config), noise, config.horizon).tolist()
        return [
            EpochRecord(epoch, 1 - acc, max(acc, 0.5), 1 - acc, acc, 0.0, 0.0, seconds_per_epoch, 0.0)
            for epoch, acc in enumerate(accs, start=1)
        ]

    return curve


def _mean_decay(config: TrialConfig) -> float:
    schedule = config.wd_schedule
    if schedule is None:
        return config.weight_decay
    return sum(schedule.value(epoch + 0.5) for epoch in range(config.horizon)) / config.horizon


def beyond_model(spec: StudySpec) -> list[str]:
    """Return what the study asks that the model, fitted to post V's runs, knows nothing about."""
    config = Ledger.preview(spec).ask().config
    known = {"model": "resnet56v2", "data": "cifar10", "optimizer": "adamw", "batch_size": 64, "shift": 0.07}
    found = [f"{name} = {getattr(config, name)}" for name, value in known.items() if getattr(config, name) != value]
    varied = {"model", "data", "optimizer", "batch_size", "shift"} & spec.space.keys()
    return [text for text in found if text.split(" ")[0] not in varied] + [
        f"{name} (varied)" for name in sorted(varied)
    ]


# A simulated study, several times


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

    @property
    def model_seconds(self) -> float:
        """Seconds per epoch on a model's curves."""
        return PUBLISHED_SECONDS if self.seconds_per_epoch is None else self.seconds_per_epoch

    def jobs(self, spec: StudySpec) -> Sequence[Job] | None:
        """Return all trials there are, in their own order; None where a sampler makes them up."""
        if isinstance(self.source, Recorded):
            return self.source.jobs
        if spec.space and spec.search.sampler != "grid":
            return None
        ledger = Ledger.preview(spec)
        return [ledger.ask() for _ in range(trial_count(spec))]

    def replay(self, seed: int, rules: bool) -> list[Replayed]:
        """Return the trials of one repeat, with the study's rules or with none."""
        search: dict[str, Any] = {"seed": seed}
        if self.trials is not None and self.spec.space:
            search["trials"] = self.trials
        spec = self.spec.model_copy(
            update={
                "search": self.spec.search.model_copy(update=search),
                "stopping": self.spec.stopping if rules else Stopping(diverged=False),
            }
        )
        trials: Trials
        if (jobs := self.jobs(spec)) is None:
            trials = Ledger.preview(spec)
        else:
            ordered = random.Random(f"order {seed}").sample(jobs, len(jobs)) if self.shuffled else jobs
            trials = FixedTrials(spec, ordered[: self.trials])
        if isinstance(self.source, Recorded):
            curves = self.source.curve(self.seconds_per_epoch)
        else:
            curves = model_curves(self.source, self.model_seconds, seed)
        return replay(study_in_memory(self.home, trials), curves, self.gpus * self.per_gpu)


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
        gpu_hours=sum(trial.ended - trial.started for trial in trials) / per_gpu / 3600,
        hours=max(trial.ended for trial in trials) / 3600,
        hours_to_best=None if first is None else first / 3600,
        best_epochs_to_target=fewest,
    )


def histories(trials: Sequence[Replayed]) -> list[TrialHistory]:
    """Return the trials as analysis.stopping_table takes them, each with its whole curve."""
    from analysis.stopping_table import TrialHistory

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
        notes: what a reader must know.
    """

    setup: Setup
    rules: Mapping[str, tuple[str, Mapping[str, Range]]]
    with_rules: Mapping[str, Range]
    without_rules: Mapping[str, Range]
    notes: list[str] = field(default_factory=list)

    @property
    def share_saved(self) -> float:
        """Share of all epochs that the rules saved, from the medians."""
        whole, left = self.without_rules["epochs"].median, self.with_rules["epochs"].median
        assert whole is not None
        assert left is not None
        return 1 - left / whole

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
            "notes": self.notes,
        }


def simulate(setup: Setup) -> Simulation:
    """Simulate a study, with its rules and with none, as often as asked.

    Raises:
        InputError: more trials are asked for than there are, or a space is to be shuffled.
    """
    _check(setup)
    from analysis.stopping_table import build_stopping

    tables, ruled, free = [], [], []
    for seed in range(setup.seed, setup.seed + setup.repeats):
        trials = setup.replay(seed, rules=True)
        tables.append(build_stopping(histories(trials), setup.spec.objective.target, _KEEP, modes(setup.spec)))
        ruled.append(course_of(trials, setup.per_gpu))
        free.append(course_of(setup.replay(seed, rules=False), setup.per_gpu))
    return Simulation(setup, _merged(tables), _spread(ruled), _spread(free), _notes(setup))


def _check(setup: Setup) -> None:
    jobs = setup.jobs(setup.spec)
    if jobs is None and setup.shuffled:
        raise InputError(
            "--order shuffled: a space has no list of trials to shuffle; "
            "use --order sampler with --set search.sampler=random, or --from NAME"
        )
    if jobs is not None and setup.trials is not None and setup.trials > len(jobs):
        raise InputError(f"--trials {setup.trials}: expected at most {len(jobs)}, since there are no more")


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
    parts.append(render(pd.DataFrame(studies), "text", notes=simulation.notes))
    return "\n".join(parts).rstrip("\n")
