"""The ledger of a study's trials: Optuna's study in persistent storage. It proposes, and it remembers."""

from __future__ import annotations

import itertools
import random
import sqlite3
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import event

from resnet_core.config import TrialConfig
from resnet_core.records import Outcome
from search_spaces import space
from search_spaces.study import StudySpec, differences, from_json, to_json
from sweeps.errors import InputError, SweepError
from sweeps.outcomes import OPTUNA_STATE, Result

optuna.logging.set_verbosity(optuna.logging.ERROR)
optuna.logging.disable_default_handler()


_ASKED = "study"  # the study's attribute that holds what it asks
_STOPS = "would_stop"  # a running trial's attribute; an ended one has it in its result
_SEEDS = 2**32


@dataclass(frozen=True)
class Job:
    """One trial to run.

    Attributes:
        number: its number in the study, from 0; Optuna's.
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

    Args:
        study: Optuna's study.
        spec: the study as it was launched.
        db: the storage's file; None where there is none.
    """

    def __init__(self, study: optuna.Study, spec: StudySpec, db: Path | None = None) -> None:
        self._study, self.spec = study, spec
        self._db = db
        self._inode = db.stat().st_ino if db is not None else None
        self._queue: deque[tuple[dict[str, Any], dict[str, Any]]] | None = None
        self._running: dict[int, optuna.Trial] = {}

    @classmethod
    def create(cls, db: Path, spec: StudySpec) -> Ledger:
        """Return the ledger of a new study, or of one of this name that asks the same.

        Raises:
            InputError: there is a study of this name that asks something else.
        """
        storage = _storage(db)
        existing = _study_in(storage, spec.name)
        if existing is not None and _ASKED in existing.user_attrs:
            kept = from_json(existing.user_attrs[_ASKED])
            changed = differences(kept, spec)
            if changed:
                raise InputError(
                    f"study {spec.name!r} exists and asks something else:\n  "
                    + "\n  ".join(changed)
                    + f"\nLaunch the changed file under another --name, or continue the old one with "
                    f"`sweeps resume {spec.name}`."
                )
            existing.set_user_attr(_ASKED, to_json(spec))  # resources and the number of trials may change
            existing.sampler = _sampler(spec, len(existing.get_trials(deepcopy=False)))
            return cls(existing, spec, db)
        # A process killed between these two lines leaves a study that asks nothing yet.
        study = existing or optuna.create_study(storage=storage, study_name=spec.name, direction="minimize")
        study.set_user_attr(_ASKED, to_json(spec))
        study.sampler = _sampler(spec, 0)
        return cls(study, spec, db)

    @classmethod
    def preview(cls, spec: StudySpec) -> Ledger:
        """Return a ledger in memory: what a study would ask, with nothing kept."""
        return cls(optuna.create_study(sampler=_sampler(spec, 0)), spec)

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
        spec = from_json(study.user_attrs[_ASKED])
        study.sampler = _sampler(spec, len(study.get_trials(deepcopy=False)))
        return cls(study, spec, db)

    def entries(self) -> list[Entry]:
        """Return all trials by number."""
        trials = self._study.get_trials(deepcopy=False)
        return [
            Entry(
                _job(trial),
                Result.from_dict(trial.user_attrs["result"]) if "result" in trial.user_attrs else None,
            )
            for trial in trials
            if "config" in trial.user_attrs
        ]

    def unfinished(self) -> list[Job]:
        """Return the trials that were running when the last process ended, by number, to be continued."""
        jobs = []
        for trial in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            live = optuna.Trial(self._study, trial._trial_id)
            self._running[trial.number] = live
            jobs.append(self._describe(live))
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
        self._running[trial.number] = trial
        return self._describe(trial)

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
        for trial in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
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
        ended = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)
        done = len(self._study.get_trials(deepcopy=False, states=ended))
        return max(0, space.trial_count(self.spec) - done)

    def complete(self) -> bool:
        """Return whether nothing is left to run, begun or not."""
        running = self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        return not running and self.to_run() == 0

    def _describe(self, trial: optuna.Trial) -> Job:
        """Return the trial's job, sampling what it lacks: a process may have been killed in between."""
        spec, attrs = self.spec, trial.user_attrs
        if "config" not in attrs:
            params = space.suggest(trial, spec)
            seed = attrs.get("seed", (spec.search.seed + trial.number) % _SEEDS)
            config = space.trial_config(spec, params, seed=seed, run=attrs.get("run"))
            trial.set_user_attr("name", attrs.get("name", str(trial.number)))
            trial.set_user_attr("config", config.to_dict())
        return _job(trial._get_latest_trial())

    def _listed_and_crashed(self) -> deque[tuple[dict[str, Any], dict[str, Any]]]:
        """Return what is to be tried before the sampler is asked, as (parameters, user attributes)."""
        trials = self._study.get_trials(deepcopy=False)
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


def _kept(attrs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes that a new try of a crashed trial takes over: it repeats the run, seed and all."""
    kept = {key: attrs[key] for key in ("run", "name", "listed") if key in attrs}
    return kept | {"seed": attrs["config"]["seed"]} if "config" in attrs else kept


def _job(trial: FrozenTrial) -> Job:
    attrs = trial.user_attrs
    return Job(trial.number, attrs["name"], TrialConfig.from_dict(attrs["config"]), dict(trial.params))


def _sampler(spec: StudySpec, trials_before: int) -> optuna.samplers.BaseSampler:
    # A continued study must not draw again what it drew at its start.
    seed = (spec.search.seed + trials_before) % _SEEDS
    name = spec.search.sampler
    if name == "tpe":
        return optuna.samplers.TPESampler(multivariate=True, constant_liar=True, seed=seed)
    if name == "gp":
        return optuna.samplers.GPSampler(seed=seed)
    if name == "cmaes":
        return optuna.samplers.CmaEsSampler(seed=seed)
    return optuna.samplers.RandomSampler(seed=seed)  # a grid is listed, so nothing is left to sample


def _study_in(storage: optuna.storages.BaseStorage, name: str) -> optuna.Study | None:
    try:
        return optuna.load_study(storage=storage, study_name=name)
    except KeyError:
        return None


def _storage(db: Path) -> optuna.storages.RDBStorage:
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
