"""The ledger of a study's trials: Optuna's study in persistent storage. It proposes, and it remembers."""

from __future__ import annotations

import itertools
import random
import sqlite3
import warnings
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import event

from resnet_core.config import TrialConfig
from resnet_core.records import Outcome
from search_spaces import space
from search_spaces.study import StudySpec, differences, from_json, to_json
from sweeps.errors import InputError, SweepError
from sweeps.fork import FORKED, Fork, fork
from sweeps.home import check_database
from sweeps.outcomes import OPTUNA_STATE, Result

optuna.logging.set_verbosity(optuna.logging.ERROR)
optuna.logging.disable_default_handler()


_ASKED = "study"  # the study's attribute that holds what it asks
_STOPS = "would_stop"  # a running trial's attribute; an ended one has it in its result
_SEEDS = 2**32
_CMAES_NEEDS = 10  # it starts from the best tenth


@dataclass(frozen=True)
class Job:
    """One trial to run.

    Attributes:
        number: its number in the study, from 0; Optuna's, but for the trials that a fork knows.
        name: the listed run's name, or the number.
        config: what it trains.
        params: what was sampled, by parameter name; empty for a listed run.
    """

    number: int
    name: str
    config: TrialConfig
    params: dict[str, Any]


@dataclass(frozen=True)
class Entry:
    """What the ledger knows of one trial: its job, and its result once it has ended."""

    job: Job
    result: Result | None


class Ledger:
    """A study's trials in Optuna's storage. One process writes at a time; the home's lock sees to it.

    A forked study begins in Optuna with the trials that it knows of another one. They are the sampler's alone:
    no method counts or returns them, and the study's own are numbered from 0 behind them.

    Args:
        study: Optuna's study.
        spec: the study as it was launched.
        db: the storage's file; None where there is none.
    """

    def __init__(self, study: optuna.Study, spec: StudySpec, db: Path | None = None) -> None:
        self._study, self.spec = study, spec
        self._db = db
        self._inode = db.stat().st_ino if db is not None else None
        trials = study.get_trials(deepcopy=False)
        study.sampler = _sampler(spec, trials)
        self._known = sum(FORKED in trial.user_attrs for trial in trials)
        self._queue: deque[tuple[dict[str, Any], dict[str, Any]]] | None = None
        self._running: dict[int, optuna.Trial] = {}

    @classmethod
    def create(cls, db: Path, spec: StudySpec) -> Ledger:
        """Return the ledger of a new study, or of one of this name that asks the same.

        A confirmation asks the same when it has further seeds behind those that it had.

        Raises:
            InputError: there is a study of this name that asks something else.
        """
        storage = _storage(db)
        existing = _study_in(storage, spec.name)
        if existing is not None and _ASKED in existing.user_attrs:
            kept = from_json(existing.user_attrs[_ASKED])
            changed = differences(_with_more_seeds(kept, spec), spec)
            if changed:
                raise InputError(
                    f"study {spec.name!r} exists and asks something else:\n  "
                    + "\n  ".join(changed)
                    + f"\nLaunch the changed file under another --name, or continue the old one with "
                    f"`sweeps resume {spec.name}`."
                )
            existing.set_user_attr(_ASKED, to_json(spec))  # resources and the number of trials may change
            return cls(existing, spec, db)
        return cls._new(storage, db, spec, [])

    @classmethod
    def fork(cls, db: Path, spec: StudySpec, known: Fork) -> Ledger:
        """Return the ledger of a new study whose sampler knows trials of another one.

        Raises:
            InputError: there is a study of this name.
        """
        storage = _storage(db)
        existing = _study_in(storage, spec.name)
        if existing is not None and _ASKED in existing.user_attrs:
            raise InputError(
                f"--fork {spec.name}: there is a study of this name; expected a new one. "
                f"`sweeps resume {spec.name}` continues it."
            )
        return cls._new(storage, db, spec, known.trials)

    @classmethod
    def _new(cls, storage: optuna.storages.RDBStorage, db: Path, spec: StudySpec, known: list[FrozenTrial]) -> Ledger:
        # A process killed before the last of these lines leaves a study that asks nothing yet.
        if _study_in(storage, spec.name) is not None:
            optuna.delete_study(study_name=spec.name, storage=storage)
        study = optuna.create_study(storage=storage, study_name=spec.name, direction="minimize")
        study.add_trials(known)
        study.set_user_attr(_ASKED, to_json(spec))
        return cls(study, spec, db)

    @classmethod
    def preview(cls, spec: StudySpec) -> Ledger:
        """Return a ledger in memory: what a study would ask, with nothing kept."""
        return cls(optuna.create_study(), spec)

    @classmethod
    def open(cls, db: Path, name: str) -> Ledger:
        """Return the ledger of a study.

        Raises:
            InputError: there is none of this name; the message lists those there are.
            SweepError: the study was here, and its ledger is gone.
        """
        if not db.exists() and (db.parent / "studies" / name).is_dir():
            raise SweepError(
                f"{db} is gone, and with it what study {name!r} asks and which trials it has; put it back, or launch "
                "the study under another --name. Its checkpoints and its epochs in MLflow are untouched"
            )
        known = ledgers(db)
        if name not in known:
            listed = ", ".join(known) or "none"
            raise InputError(f"no study {name!r} in {db.parent}; known: {listed}. See `sweeps ls`, or --home.")
        study = _study_in(_storage(db), name)
        assert study is not None
        return cls(study, from_json(study.user_attrs[_ASKED]), db)

    def known_to(self, spec: StudySpec) -> Fork:
        """Return what the sampler of a new study may know of this one.

        Raises:
            InputError: nothing.
        """
        return fork(spec, self.spec, self._study.get_trials(deepcopy=False))

    def extend(self, trials: int) -> None:
        """Set how many trials the study has in all.

        Raises:
            InputError: the study names its trials itself, or more of them than that have begun.
        """
        name, spec = self.spec.name, self.spec
        if not spec.space or spec.search.sampler == "grid":
            if spec.phase == "confirm":
                raise InputError(
                    f"--trials: study {name!r} is a confirmation, which is made longer with more seeds: "
                    f"`sweeps confirm STUDY --as {name} --seeds N`"
                )
            named = "the points of its grid" if spec.space else "the runs that its file lists"
            raise InputError(
                f"--trials: the trials of study {name!r} are {named}, and there are no others to add; "
                "launch a study with more of them under another name"
            )
        if trials < self._begun():
            raise InputError(
                f"--trials {trials}: {self._begun()} trials of study {name!r} have begun or ended; "
                f"expected {self._begun()} or more, or +N to add N to the {space.trial_count(spec)} asked for"
            )
        self.spec = spec.model_copy(update={"search": spec.search.model_copy(update={"trials": trials})})
        self._study.set_user_attr(_ASKED, to_json(self.spec))

    def entries(self) -> list[Entry]:
        """Return all trials by number."""
        return [
            Entry(
                self._job(trial),
                Result.from_dict(trial.user_attrs["result"]) if "result" in trial.user_attrs else None,
            )
            for trial in self._trials()
            if "config" in trial.user_attrs
        ]

    def unfinished(self) -> list[Job]:
        """Return the trials that were running when the last process ended, by number, to be continued."""
        jobs = []
        for trial in self._trials(TrialState.RUNNING):
            live = optuna.Trial(self._study, trial._trial_id)
            jobs.append(self._describe(live))
            self._running[jobs[-1].number] = live
        return jobs

    def ask(self) -> Job:
        """Return the next trial: one that crashed in an earlier launch, one the study lists, or a sampled one."""
        self._check_there()
        if self._queue is None:
            self._queue = self._listed_and_crashed()
        if self._queue:
            params, attrs = self._queue.popleft()
            self._study.enqueue_trial(params, user_attrs=attrs)
        trial = self._study.ask()
        job = self._describe(trial)
        self._running[job.number] = trial
        return job

    def note_stops(self, number: int, would_stop: Mapping[str, int]) -> None:
        """Write down at which epochs rules said stop to a running trial that goes on."""
        self._running[number].set_user_attr(_STOPS, dict(would_stop))

    def noted_stops(self, number: int) -> dict[str, int]:
        """Return what ``note_stops`` wrote down last for a running trial; it may have been an earlier process."""
        return dict(self._running[number].user_attrs.get(_STOPS, {}))

    def tell(self, number: int, result: Result) -> None:
        """Write down how a trial ended.

        The sampler sees COMPLETE trials with their objective; PRUNED ones with theirs at the step, in
        percent of their own schedule, they came to; diverged ones as PRUNED without a value, which is
        worse than any; crashed ones not at all.
        """
        self._check_there()
        trial = self._running.pop(number)
        trial.set_user_attr("result", result.to_dict())
        self._close(trial, result)

    def _check_there(self) -> None:
        """Notice that the file was deleted or exchanged: SQLite would go on writing to what nobody will read.

        Raises:
            SweepError: it was.
        """
        if self._db is not None and (not self._db.exists() or self._db.stat().st_ino != self._inode):
            raise SweepError(
                f"the ledger {self._db} was deleted or exchanged while the study ran; put it back, then go on with "
                f"`sweeps resume {self.spec.name}`"
            )

    def settle(self) -> None:
        """Close the trials whose result was written down by a process that was killed before it closed them."""
        for trial in self._trials(TrialState.RUNNING):
            if "result" in trial.user_attrs:
                live = optuna.Trial(self._study, trial._trial_id)
                self._close(live, Result.from_dict(trial.user_attrs["result"]))

    def _close(self, trial: optuna.Trial, result: Result) -> None:
        state = OPTUNA_STATE[result.outcome]
        if result.outcome is Outcome.PRUNED:
            assert result.objective is not None
            horizon = TrialConfig.from_dict(trial.user_attrs["config"]).horizon
            trial.report(result.objective, step=round(100 * result.epochs_run / horizon))
        self._study.tell(trial, result.objective if state is TrialState.COMPLETE else None, state)

    def to_run(self) -> int:
        """Return how many trials the study still asks for, beside those that are running."""
        return max(0, space.trial_count(self.spec) - self._begun())

    def complete(self) -> bool:
        """Return whether nothing is left to run, begun or not."""
        return not self._trials(TrialState.RUNNING) and self.to_run() == 0

    def _trials(self, *states: TrialState) -> list[FrozenTrial]:
        """Return the study's own trials by number, of some states alone if any are given."""
        trials = self._study.get_trials(deepcopy=False, states=states or None)
        return [trial for trial in trials if FORKED not in trial.user_attrs]

    def _begun(self) -> int:
        """Return how many trials run or have ended; one that crashed is tried again, and counts once."""
        return len(self._trials(TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING))

    def _number(self, trial: FrozenTrial | optuna.Trial) -> int:
        return trial.number - self._known

    def _job(self, trial: FrozenTrial) -> Job:
        attrs = trial.user_attrs
        return Job(self._number(trial), attrs["name"], TrialConfig.from_dict(attrs["config"]), dict(trial.params))

    def _describe(self, trial: optuna.Trial) -> Job:
        """Return the trial's job, sampling what it lacks: a process may have been killed in between."""
        spec, attrs = self.spec, trial.user_attrs
        if "config" not in attrs:
            params = space.suggest(trial, spec)
            seed = attrs.get("seed", (spec.search.seed + self._number(trial)) % _SEEDS)
            config = space.trial_config(spec, params, seed=seed, run=attrs.get("run"))
            trial.set_user_attr("name", attrs.get("name", str(self._number(trial))))
            trial.set_user_attr("config", config.to_dict())
        return self._job(trial._get_latest_trial())

    def _listed_and_crashed(self) -> deque[tuple[dict[str, Any], dict[str, Any]]]:
        """Return what is to be tried before the sampler is asked, as (parameters, user attributes)."""
        trials = self._trials()
        wanted = _listed(self.spec)
        started = {trial.user_attrs["listed"] for trial in trials if "listed" in trial.user_attrs}
        retried = {trial.user_attrs["retry_of"] for trial in trials if "retry_of" in trial.user_attrs}
        queue = deque(
            (trial.params, _kept(trial.user_attrs) | {"retry_of": trial.number})
            for trial in trials
            if trial.state is TrialState.FAIL and trial.number not in retried
        )
        queue.extend(
            (params, attrs | {"listed": index}) for index, (params, attrs) in enumerate(wanted) if index not in started
        )
        return queue


def ledgers(db: Path) -> list[str]:
    """Return the names of the studies in a ledger file; none where there is no file."""
    if not db.exists():
        return []
    summaries = optuna.get_all_study_summaries(_storage(db))
    return sorted(summary.study_name for summary in summaries if _ASKED in summary.user_attrs)


def _listed(spec: StudySpec) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Return the trials that the study file itself names: listed runs, grid points, or its first trials."""
    if not spec.space:
        return [({}, {"run": run.name, "seed": run.seed, "name": run.trial_name}) for run in space.listed_runs(spec)]
    first: list[Mapping[str, Any]] = list(spec.search.first)
    if spec.search.sampler == "grid":
        axes = space.grid(spec)
        points = [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]
        # Shuffled, so that a grid cut short by `trials` is spread over the space.
        random.Random(spec.search.seed).shuffle(points)
        # A first trial stands for a point that agrees with it.
        for wanted in reversed(first):
            chosen = next(point for point in points if wanted.items() <= point.items())
            points.remove(chosen)
            points.insert(0, chosen)
        first = list(points)
    return [(dict(params), {}) for params in first[: space.trial_count(spec)]]


def _with_more_seeds(kept: StudySpec, spec: StudySpec) -> StudySpec:
    """Return a study as it was kept, with the seeds of a confirmation that has more behind those that it had."""
    before, now = kept.search.seeds or [], spec.search.seeds or []
    if "confirm" not in (kept.phase, spec.phase) or now[: len(before)] != before:
        return kept
    return kept.model_copy(update={"search": kept.search.model_copy(update={"seeds": spec.search.seeds})})


def _kept(attrs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes that a new try of a crashed trial takes over: it repeats the run, seed and all."""
    kept = {key: attrs[key] for key in ("run", "name", "listed") if key in attrs}
    return kept | {"seed": attrs["config"]["seed"]} if "config" in attrs else kept


def _sampler(spec: StudySpec, trials: list[FrozenTrial]) -> optuna.samplers.BaseSampler:
    """Return the study's sampler; ``trials`` are those it has, and those it knows of another study."""
    # A continued study must not draw again what it drew at its start.
    seed = (spec.search.seed + len(trials)) % _SEEDS
    name = spec.search.sampler
    if name == "tpe":
        return optuna.samplers.TPESampler(multivariate=True, constant_liar=True, seed=seed)
    if name == "gp":
        return optuna.samplers.GPSampler(seed=seed)
    if name == "cmaes":
        # The only one that has to be told which trials are another study's: ten or more, and numbers alone.
        known = [_numbers(t) for t in trials if FORKED in t.user_attrs and t.state is TrialState.COMPLETE]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            return optuna.samplers.CmaEsSampler(seed=seed, source_trials=known if len(known) >= _CMAES_NEEDS else None)
    return optuna.samplers.RandomSampler(seed=seed)  # a grid is listed, so nothing is left to sample


def _numbers(trial: FrozenTrial) -> FrozenTrial:
    """Return a trial without its choices."""
    kinds = {n: d for n, d in trial.distributions.items() if not isinstance(d, CategoricalDistribution)}
    params = {name: trial.params[name] for name in kinds}
    return optuna.trial.create_trial(value=trial.value, params=params, distributions=kinds)


def _study_in(storage: optuna.storages.BaseStorage, name: str) -> optuna.Study | None:
    try:
        return optuna.load_study(storage=storage, study_name=name)
    except KeyError:
        return None


def _storage(db: Path) -> optuna.storages.RDBStorage:
    check_database(db)
    db.parent.mkdir(parents=True, exist_ok=True)
    storage = optuna.storages.RDBStorage(f"sqlite:///{db}", engine_kwargs={"connect_args": {"timeout": 60}})
    # With a write-ahead log, commits wait for no disk and readers for no writer; a killed process loses
    # nothing that it committed.
    event.listen(storage.engine, "connect", _write_ahead)
    storage.engine.dispose()
    return storage


def _write_ahead(connection: sqlite3.Connection, _record: object) -> None:
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
