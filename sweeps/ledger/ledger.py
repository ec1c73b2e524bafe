"""The ledger of a study's trials: Optuna's study in persistent storage. It proposes, and it remembers."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Collection, Container, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from resnet_core.config import TrialConfig
from resnet_core.uris import without_password
from search_spaces import space
from search_spaces.spec import StudySpec
from search_spaces.study import differences, from_json, to_json
from search_spaces.tables import SEEDS, Finalists
from sweeps.errors import InputError, SweepError, UnknownStudyError, reason_of
from sweeps.home import Home
from sweeps.ledger.database import exclusive_transaction, open_storage, retry_while_busy, sqlite_file
from sweeps.ledger.forks import FORKED, Fork, fork
from sweeps.ledger.leases import (
    Driver,
    Lease,
    Transaction,
    create_tables,
    delete_drivers,
    drivers_of,
    owners_of,
    request_stop,
)
from sweeps.ledger.outcomes import optuna_result
from sweeps.ledger.samplers import make_sampler
from sweeps.study.finalists import max_runs_left, next_finalist
from sweeps.study.origin import Origin
from sweeps.study.outcomes import Result
from sweeps.study.trials import Assignment, Entry, Job

optuna.logging.set_verbosity(optuna.logging.ERROR)
optuna.logging.disable_default_handler()


_ASKED = "study"  # the study's attribute that holds what it asks
_IMPORTED = "imported"  # the study's attribute that says where it comes from, if it was not run here
_LENGTHENED = "lengthened"  # the study's attribute that says how the number of runs of a confirmation came about
_FINALIST = "finalist"  # a trial's attribute: it runs a configuration again with a fresh seed
_CONTINUES = "continues"  # a trial's attribute: the number of the trial that ended, and goes on in this one
_THAWED = "thawed"  # its other attribute: the epochs after which it had ended
_STOPS = "would_stop"  # a running trial's attribute; an ended one has it in its result
_T = TypeVar("_T")


class Ledger:
    """A study's trials in Optuna's storage, shared by the drivers of the study, who take turns.

    A forked study begins in Optuna with the trials that it knows of another one. They are the sampler's alone:
    no method counts or returns them, and the study's own are numbered from 0 behind them.

    A trial that ended and was thawed goes on in another one of Optuna's, under its own number. The sampler knows of
    both; no method counts or returns the one that ended.

    Args:
        study: Optuna's study.
        spec: the study as it was launched.
        storage: where it is; None where it is in memory.
    """

    def __init__(self, study: optuna.Study, spec: StudySpec, storage: optuna.storages.RDBStorage | None = None) -> None:
        self._study, self.spec = study, spec
        self._storage = storage
        self._file = sqlite_file(storage.url) if storage is not None else None
        self._inode = self._file.stat().st_ino if self._file is not None else None
        self._lease: Lease | None = None
        trials = study.get_trials(deepcopy=False)
        study.sampler = make_sampler(spec, trials)
        self._known = sum(FORKED in trial.user_attrs for trial in trials)
        # These are tried again; what crashes from now on is the next launch's.
        self._crashed = {trial.number for trial in trials if trial.state is TrialState.FAIL}
        self._running: dict[int, optuna.Trial] = {}
        self._longest = space.longest_horizon(spec)

    @classmethod
    def create(cls, uri: str, spec: StudySpec, *, sequential: bool = False) -> Ledger:
        """Return the ledger of a new study, or of one of this name that asks the same.

        A confirmation asks the same when it has further seeds behind those that it had.

        Args:
            uri: the database's.
            spec: the study.
            sequential: whether a sequential test decides how many seeds it has.

        Raises:
            InputError: there is a study of this name that asks something else.
            SweepError: the database cannot be used.
        """
        storage = _storage(uri)
        with _exclusive(storage, spec.name) as connection:
            existing = _study_in(storage, spec.name)
            if existing is None or _ASKED not in existing.user_attrs:
                attrs = {_LENGTHENED: "sequential"} if sequential else {}
                return cls._new(connection, storage, spec, [], attrs)
            kept = from_json(existing.user_attrs[_ASKED])
            changed = differences(_with_more_seeds(kept, spec), spec)
            if changed:
                raise InputError(
                    f"study {spec.name!r} exists and asks something else:\n  "
                    + "\n  ".join(changed)
                    + f"\nLaunch the changed file under another --name, or continue the old one with "
                    f"`sweeps resume {spec.name}`."
                )
            more = len(spec.search.seeds or ()) > len(kept.search.seeds or ())
            if more and any("result" in trial.user_attrs for trial in existing.get_trials(deepcopy=False)):
                looked = not sequential or existing.user_attrs.get(_LENGTHENED) == "looked"
                existing.set_user_attr(_LENGTHENED, "looked" if looked else "sequential")
            existing.set_user_attr(_ASKED, to_json(spec))  # resources and the number of trials may change
            return cls(existing, spec, storage)

    @classmethod
    def create_fork(cls, uri: str, spec: StudySpec, known: Fork) -> Ledger:
        """Return the ledger of a new study whose sampler knows trials of another one.

        Raises:
            InputError: there is a study of this name.
            SweepError: the database cannot be used.
        """
        storage = _storage(uri)
        with _exclusive(storage, spec.name) as connection:
            existing = _study_in(storage, spec.name)
            if existing is not None and _ASKED in existing.user_attrs:
                raise InputError(
                    f"--fork {spec.name}: there is a study of this name; expected a new one. "
                    f"`sweeps resume {spec.name}` continues it."
                )
            return cls._new(connection, storage, spec, known.trials)

    @classmethod
    def _new(
        cls,
        connection: Connection,
        storage: optuna.storages.RDBStorage,
        spec: StudySpec,
        known: list[FrozenTrial],
        attrs: Mapping[str, Any] | None = None,
    ) -> Ledger:
        # A process killed before the last of these lines leaves a study that asks nothing yet.
        if _study_in(storage, spec.name) is not None:
            optuna.delete_study(study_name=spec.name, storage=storage)
        study = optuna.create_study(storage=storage, study_name=spec.name, direction="minimize")
        study.add_trials(known)
        for name, value in (attrs or {}).items():
            study.set_user_attr(name, value)
        study.set_user_attr(_ASKED, to_json(spec))
        delete_drivers(connection, spec.name)
        return cls(study, spec, storage)

    @classmethod
    def create_import(cls, uri: str, spec: StudySpec, origin: Origin, entries: Sequence[Entry]) -> Ledger:
        """Return the ledger of a study whose trials ended elsewhere, in the place of an earlier import of it.

        Nobody sees the study before all of it is there.

        Raises:
            SweepError: the database cannot be used.
        """
        storage = _storage(uri)
        with _exclusive(storage, spec.name) as connection:
            return cls._new(connection, storage, spec, _ended(entries), {_IMPORTED: origin.to_dict()})

    @classmethod
    def remove_import(cls, uri: str, name: str) -> None:
        """Take an imported study out of the ledger; nothing is done where there is none of this name."""
        if name in study_names(uri) and cls.open(uri, name).origin is not None:
            optuna.delete_study(study_name=name, storage=_storage(uri))

    @classmethod
    def preview(cls, spec: StudySpec) -> Ledger:
        """Return a ledger in memory: what a study would ask, with nothing kept."""
        return cls(optuna.create_study(), spec)

    @classmethod
    def open(cls, uri: str, name: str) -> Ledger:
        """Return the ledger of a study.

        Raises:
            UnknownStudyError: there is none of this name; the message lists those there are.
            SweepError: the study was here, and its ledger is gone; or the database cannot be used.
        """
        file = sqlite_file(uri)
        if file is not None and not file.exists() and (file.parent / "studies" / name).is_dir():
            raise SweepError(
                f"{file} is gone, and with it what study {name!r} asks and which trials it has; put it back, or launch "
                "the study under another --name. Its checkpoints and its epochs in MLflow are untouched"
            )
        storage = None if file is not None and not file.exists() else _storage(uri)
        study = None if storage is None else _study_in(storage, name)
        if study is None or _ASKED not in study.user_attrs:
            listed = ", ".join(study_names(uri)) or "none"
            place = file.parent if file is not None else without_password(uri)
            raise UnknownStudyError(
                f"no study {name!r} in {place}; known: {listed}. See `sweeps ls`, --home or --ledger."
            )
        return cls(study, from_json(study.user_attrs[_ASKED]), storage)

    @property
    def origin(self) -> Origin | None:
        """Where the study comes from if it was imported; None of one that was run here."""
        kept = self._study.user_attrs.get(_IMPORTED)
        return None if kept is None else Origin(**kept)

    @property
    def lengthened(self) -> str:
        """How a confirmation's number of runs came about: fixed in advance where empty; see `analysis.Study`."""
        return str(self._study.user_attrs.get(_LENGTHENED, ""))

    def check_not_imported(self) -> None:
        """Refuse to train anything of a study that was imported: what is known of it is what its file says.

        Raises:
            InputError: it was.
        """
        if self.origin is not None:
            raise InputError(
                f"study {self.spec.name!r} was imported from {self.origin.file}: its trials ran elsewhere, and can be "
                "looked at, not continued or repeated; write a study file that trains what they trained, and launch it "
                "under a name of its own"
            )

    @contextlib.contextmanager
    def driven_by(self, driver: str, home: Path, stop: Callable[[], None]) -> Iterator[None]:
        """Be a driver of the study for as long as the block lasts.

        Args:
            driver: the driver's name; trials that it began in an earlier process are its own.
            home: its home folder.
            stop: called when it is asked to stop through the ledger.

        Raises:
            SweepError: the database cannot be used.
        """
        assert self._storage is not None
        lease = Lease(self._storage, self.spec.name, driver, home)
        with _exclusive(self._storage, self.spec.name) as connection:
            others = [other for other in drivers_of(connection, self.spec.name) if other.id != driver]
            lease.acquire(connection)
        self._lease = lease
        if others:
            # Two drivers that begin with as many trials must not draw the same ones.
            shift = int.from_bytes(hashlib.sha256(driver.encode()).digest()[:4])
            self._study.sampler = make_sampler(self.spec, self._study.get_trials(deepcopy=False), shift)
        with lease.renewing(stop):
            yield

    def drivers(self) -> list[Driver]:
        """Return the drivers that the study has or had; none of a study that was never driven."""
        if self._storage is None:
            return []
        with self._storage.engine.connect() as connection:
            return drivers_of(connection, self.spec.name)

    def live_drivers(self, home: Home) -> list[Driver]:
        """Return the drivers that are alive; for this home's own driver, the home's lock says so at once."""
        own, held = home.driver(self.spec.name), home.holder(self.spec.name) is not None
        return [driver for driver in self.drivers() if (held if driver.id == own else driver.alive)]

    def owners(self) -> dict[int, str]:
        """Return by number which driver runs, or ran, a trial."""
        if self._storage is None:
            return {}
        with self._storage.engine.connect() as connection:
            return owners_of(connection, self.spec.name)

    def request_stop(self) -> None:
        """Ask every driver of the study to finish."""
        assert self._storage is not None
        with self._storage.engine.begin() as connection:
            request_stop(connection, self.spec.name)

    def fork_for(self, spec: StudySpec) -> Fork:
        """Return what the sampler of a new study may know of this one.

        Raises:
            InputError: the sampler can learn nothing from it; the message says why.
        """
        return fork(spec, self.spec, self._last_of_each(self._study.get_trials(deepcopy=False)))

    def extend(self, trials: int) -> None:
        """Set how many trials the study has in all.

        Raises:
            InputError: the study names its trials itself, or more of them than that have begun.
        """
        name, spec = self.spec.name, self.spec
        if not spec.is_sampled:
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
        begun = self._begun(self._trials())
        if trials < begun:
            raise InputError(
                f"--trials {trials}: {begun} trials of study {name!r} have begun or ended; "
                f"expected {begun} or more, or +N to add N to the {space.trial_count(spec)} asked for"
            )
        self.spec = spec.model_copy(update={"search": spec.search.model_copy(update={"trials": trials})})
        self._study.set_user_attr(_ASKED, to_json(self.spec))

    def race(self, finalists: Finalists) -> None:
        """Have the best configurations run again, and the search end with the trials that have begun.

        Raises:
            InputError: no trial has ended, trials that the study names itself have not begun, it has the seed in its
                space, or it is a confirmation.
        """
        name, spec = self.spec.name, self.spec
        if spec.phase == "confirm":
            raise InputError(f"study {name!r} is a confirmation: it runs one configuration again as it is")
        if "seed" in spec.space:
            raise InputError(
                f"study {name!r} samples the seed, and finalists have seeds of their own: it cannot be raced"
            )
        if not any(entry.result is not None for entry in self.entries()):
            raise InputError(f"study {name!r} has no trial that ended yet; see `sweeps status {name}`")
        self.end_search()
        search = self.spec.search.model_copy(update={"finalists": finalists})
        self.spec = self.spec.model_copy(update={"search": search})
        self._study.set_user_attr(_ASKED, to_json(self.spec))

    def end_search(self) -> None:
        """Ask for no more trials of the search than have begun.

        Raises:
            InputError: the study names its trials itself, and some have not begun.
        """
        trials = self._trials()
        left = self._search_left(trials)
        if left and not self.spec.is_sampled:
            raise InputError(
                f"study {self.spec.name!r} names its trials itself, and {left} of them have not begun; run them first: "
                f"`sweeps resume {self.spec.name}`"
            )
        if left:
            self.extend(self._begun(trials))

    def entries(self) -> list[Entry]:
        """Return all trials by number."""
        return self._entries(self._trials())

    def find(self, text: str) -> Entry:
        """Return the trial with this name, else with this number; of several tries of one run, the last.

        Raises:
            InputError: there is no such trial; the message lists the names there are.
        """
        entries = self.entries()
        found = [entry for entry in entries if entry.job.name == text]
        found = found or [entry for entry in entries if str(entry.job.number) == text]
        if not found:
            names = ", ".join(entry.job.name for entry in entries) or "none"
            raise InputError(f"no trial {text!r} in study {self.spec.name!r}; there are: {names}")
        return found[-1]

    def _entries(self, trials: list[FrozenTrial]) -> list[Entry]:
        return [self._entry(trial) for trial in trials if "config" in trial.user_attrs]

    def unfinished(self) -> list[Job]:
        """Return the driver's trials that were running when its last process ended, by number, to be continued.

        Without drivers, or of nobody, they are all whose end nobody wrote down.
        """
        return self._in_transaction(self._unfinished)

    def _unfinished(self, transaction: Transaction) -> list[Job]:
        for trial in self._trials(TrialState.RUNNING):
            if transaction.is_mine(self._number(trial)):
                self._continue(trial)
        transaction.claim(self._running)
        return [self._describe(live) for live in self._running.values()]

    def next_assignment(self, known: Container[int] = ()) -> Assignment:
        """Take a trial over: a new one where the study asks for more, else one of a driver that is gone.

        Args:
            known: trials whose end the driver knows.

        Raises:
            SweepError: the database could not be used for a while.
        """
        return self._in_transaction(lambda transaction: self._next_assignment(transaction, known))

    def _next_assignment(self, transaction: Transaction, known: Container[int]) -> Assignment:
        self._follow_extensions()
        trials = self._trials()
        ended = [
            self._entry(trial)
            for trial in trials
            if trial.state.is_finished()
            and (self._number(trial) not in known or _CONTINUES in trial.user_attrs)
            and "result" in trial.user_attrs
        ]
        running = {self._number(trial): trial for trial in trials if trial.state is TrialState.RUNNING}
        # Asked for in a turn that broke off, and known to nobody.
        lost = [n for n in running if transaction.is_mine(n) and n not in self._running]
        gone = [n for n in running if transaction.is_orphaned(n) and "result" not in running[n].user_attrs]
        remaining = self._left(trials)
        elsewhere = sum(not transaction.is_mine(n) for n in running)
        if lost:
            assignment = Assignment(self._describe(self._continue(running[lost[0]])), remaining, elsewhere, ended)
        elif remaining and (job := self._ask(trials)) is not None:
            # What a finalist shows may ask for another one.
            assignment = Assignment(job, max(int(job.finalist), remaining - 1), elsewhere, ended)
        elif gone:
            left_behind = self._describe(self._continue(running[gone[0]]))
            assignment = Assignment(
                left_behind, remaining, elsewhere - 1, ended, adopted=True, home=transaction.home_of(gone[0])
            )
        else:
            for number in running:
                if transaction.is_orphaned(number):  # it had ended, but for its last line
                    live = optuna.Trial(self._study, running[number]._trial_id)
                    self._close(live, Result.from_dict(live.user_attrs["result"]))
            return Assignment(None, remaining, elsewhere, ended)
        assert assignment.job is not None
        transaction.claim([assignment.job.number])
        return assignment

    def _continue(self, trial: FrozenTrial) -> optuna.Trial:
        number = self._number(trial)
        if number not in self._running:
            self._running[number] = optuna.Trial(self._study, trial._trial_id)
        return self._running[number]

    def ask(self) -> Job:
        """Return a new trial: one that crashed in an earlier launch, one the study lists, or a sampled one."""
        self._check_there()
        job = self._ask(self._trials())
        assert job is not None
        return job

    def _ask(self, trials: list[FrozenTrial]) -> Job | None:
        """Return a new trial; None where what is to be run next depends on what runs."""
        wanted = self._next_listed(trials)
        if wanted is None and self.spec.search.finalists is not None and not self._search_left(trials):
            wanted = self._next_finalist(trials)
            if wanted is None:
                return None
        if wanted is not None:
            params, attrs = wanted
            self._study.enqueue_trial(params, user_attrs=attrs)
        trial = self._study.ask()
        job = self._describe(trial)
        self._running[job.number] = trial
        return job

    def thaw(self, number: int) -> Job | None:
        """Have a trial of this driver's that ended go on; None where there is no such trial.

        Where an earlier one is still to be handed out, since a process was killed, that one is returned.

        Raises:
            SweepError: the database could not be used for a while.
        """
        return self._in_transaction(lambda transaction: self._thaw(transaction, number))

    def _thaw(self, transaction: Transaction, number: int) -> Job | None:
        known = self._study.get_trials(deepcopy=False)
        ended = next((trial for trial in self._last_of_each(known) if self._number(trial) == number), None)
        if ended is None or not transaction.is_mine(number) or "result" not in ended.user_attrs:
            return None
        waits = TrialState.WAITING  # asked for in a turn that broke off
        if not any(trial.state is waits and trial.user_attrs.get(_CONTINUES) == number for trial in known):
            result = Result.from_dict(ended.user_attrs["result"])
            attrs = _kept(ended.user_attrs) | {
                _CONTINUES: number,
                _THAWED: [*ended.user_attrs.get(_THAWED, []), result.epochs_run],
                _STOPS: {rule: epoch for rule, epoch in result.would_stop.items() if rule != result.stopped_by},
            }
            self._study.enqueue_trial(ended.params, user_attrs=attrs)
        trial = self._study.ask()
        job = self._describe(trial)
        self._running[job.number] = trial
        transaction.claim([job.number])
        return job

    def owns(self, number: int) -> bool:
        """Return whether a trial that this driver began is still its own: it may have been taken for gone.

        Raises:
            SweepError: nothing was heard of the database for a while.
        """
        return self._lease is None or self._lease.owns(number)

    def release(self, number: int) -> None:
        """Let go of a trial that another driver has taken over."""
        self._running.pop(number, None)

    def claimable(self, numbers: Collection[int]) -> dict[int, str]:
        """Return which of these trials are this driver's to close in MLflow, with the home folder of who ran them.

        Its own, for which that is empty, nobody's, and those of drivers that are gone.
        """
        return self._in_transaction(
            lambda transaction: {
                n: transaction.home_of(n) for n in numbers if transaction.is_mine(n) or transaction.is_orphaned(n)
            }
        )

    def claim(self, number: int) -> bool:
        """Take over a trial that ended with a driver that is gone; return whether that was still to be done."""

        def claim(transaction: Transaction) -> bool:
            free = transaction.is_mine(number) or transaction.is_orphaned(number)
            if free:
                transaction.claim([number])
            return free

        return self._in_transaction(claim)

    def expired_drivers(self) -> set[str]:
        """Return the other drivers of the study that are gone."""
        driver = None if self._lease is None else self._lease.driver
        return {other.id for other in self.drivers() if not other.alive and other.id != driver}

    def save_would_stop(self, number: int, would_stop: Mapping[str, int]) -> None:
        """Write down at which epochs rules said stop to a running trial that goes on."""
        self._retry_while_busy(lambda: self._running[number].set_user_attr(_STOPS, dict(would_stop)))

    def load_would_stop(self, number: int) -> dict[str, int]:
        """Return what ``save_would_stop`` wrote down last for a running trial; it may have been an earlier process."""
        return dict(self._running[number].user_attrs.get(_STOPS, {}))

    def tell(self, number: int, result: Result) -> bool:
        """Write down how a trial ended; return False, and do nothing, where another driver has taken it over.

        What Optuna is told of it is `optuna_result`'s to say.

        Raises:
            SweepError: the database could not be used for a while.
        """
        told = self._in_transaction(lambda transaction: self._tell(transaction, number, result))
        if told:
            del self._running[number]
        return told

    def _tell(self, transaction: Transaction, number: int, result: Result) -> bool:
        self._check_there()
        if not transaction.is_mine(number):
            return False
        trial = self._running[number]
        known = self._study._storage.get_trial(trial._trial_id)
        if not known.state.is_finished():  # as it is where the answer to a first try was lost
            trial.set_user_attr("result", result.to_dict())
            self._close(trial, result)
        return True

    def _check_there(self) -> None:
        """Notice that the file was deleted or exchanged: SQLite would go on writing to what nobody will read.

        Raises:
            SweepError: it was.
        """
        file = self._file
        if file is not None and (not file.exists() or file.stat().st_ino != self._inode):
            raise SweepError(
                f"the ledger {file} was deleted or exchanged while the study ran; put it back, then go on with "
                f"`sweeps resume {self.spec.name}`"
            )

    def _retry_while_busy(self, do: Callable[[], _T]) -> _T:
        return do() if self._storage is None else retry_while_busy(do, self._storage.url, self.spec.name)

    def _in_transaction(self, do: Callable[[Transaction], _T]) -> _T:
        """Do something while no other driver changes the ledger; again from the start where that broke off."""
        storage, lease = self._storage, self._lease
        if storage is None or lease is None:
            return self._retry_while_busy(lambda: do(Transaction()))

        def once() -> _T:
            self._check_there()
            with exclusive_transaction(storage, self.spec.name) as connection:
                lease.check(connection)
                owners, drivers = owners_of(connection, self.spec.name), drivers_of(connection, self.spec.name)
                return do(Transaction(connection, lease, owners, {driver.id: driver for driver in drivers}))

        return self._retry_while_busy(once)

    def tell_pending_results(self) -> None:
        """Close the trials whose result was written down by a process that was killed before it closed them."""
        self._in_transaction(self._tell_pending_results)

    def _tell_pending_results(self, transaction: Transaction) -> None:
        for trial in self._trials(TrialState.RUNNING):
            if "result" in trial.user_attrs and transaction.is_mine(self._number(trial)):
                live = optuna.Trial(self._study, trial._trial_id)
                self._close(live, Result.from_dict(trial.user_attrs["result"]))

    def _close(self, trial: optuna.Trial, result: Result) -> None:
        horizon = TrialConfig.from_dict(trial.user_attrs["config"]).horizon
        how = optuna_result(result, horizon, self.spec.search.sampler, self._longest)
        for step, value in how.intermediate_values.items():
            trial.report(value, step)
        self._study.tell(trial, how.value, how.state)

    def remaining(self) -> int:
        """Return how many trials the study still asks for, beside those that are running; with finalists at most."""
        return self._left(self._trials())

    def running_elsewhere(self) -> int:
        """Return how many trials other drivers run."""
        if self._lease is None:
            return 0
        owners, mine = self.owners(), (self._lease.driver, None)
        running = self._trials(TrialState.RUNNING)
        return sum(owners.get(self._number(trial)) not in mine for trial in running)

    def complete(self) -> bool:
        """Return whether nothing is left to run, begun or not."""
        return not self._trials(TrialState.RUNNING) and self.remaining() == 0

    def _left(self, trials: list[FrozenTrial]) -> int:
        search, race = self._search_left(trials), self.spec.search.finalists
        if race is None:
            return search
        return search + race.top * race.seeds if search else max_runs_left(self.spec, self._entries(trials))

    def _search_left(self, trials: list[FrozenTrial]) -> int:
        return max(0, space.trial_count(self.spec) - self._begun(trials))

    def _trials(self, *states: TrialState) -> list[FrozenTrial]:
        """Return the study's own trials by number, of some states alone if any are given."""
        trials = self._last_of_each(self._study.get_trials(deepcopy=False))
        return [t for t in trials if FORKED not in t.user_attrs and (not states or t.state in states)]

    def _last_of_each(self, trials: list[FrozenTrial]) -> list[FrozenTrial]:
        """Return trials by number, without those that go on in a later one."""
        begun = [trial for trial in trials if trial.state is not TrialState.WAITING]
        last = {self._number(trial): trial for trial in begun}
        waiting = [t for t in trials if t.state is TrialState.WAITING and _CONTINUES not in t.user_attrs]
        return [*(last[number] for number in sorted(last)), *waiting]

    def _begun(self, trials: list[FrozenTrial]) -> int:
        """Return how many trials of the search run or have ended; one that crashed is tried again, and counts once.

        That is a later launch's to do where it crashed in this one, which counts it meanwhile.
        """
        retried = _retried(trials)
        states = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)
        return sum(
            trial.state in states or (trial.state is TrialState.FAIL and trial.number not in self._crashed | retried)
            for trial in trials
            if _FINALIST not in trial.user_attrs
        )

    def _follow_extensions(self) -> None:
        """Take over how many trials and finalists the study asks for, which another driver may have changed."""
        if self._storage is None:
            return
        asked = from_json(self._study.user_attrs[_ASKED]).search
        changed = {"trials": asked.trials, "finalists": asked.finalists}
        self.spec = self.spec.model_copy(update={"search": self.spec.search.model_copy(update=changed)})

    def _number(self, trial: FrozenTrial | optuna.Trial) -> int:
        return int(trial.user_attrs.get(_CONTINUES, trial.number - self._known))

    def _job(self, trial: FrozenTrial) -> Job:
        attrs = trial.user_attrs
        config = TrialConfig.from_dict(attrs["config"])
        thawed = tuple(attrs.get(_THAWED, ()))
        return Job(self._number(trial), attrs["name"], config, dict(trial.params), _FINALIST in attrs, thawed)

    def _describe(self, trial: optuna.Trial) -> Job:
        """Return the trial's job, sampling what it lacks: a process may have been killed in between."""
        spec, attrs = self.spec, trial.user_attrs
        if "config" not in attrs:
            params = space.suggest(trial, spec)
            seed = attrs.get("seed", (spec.search.seed + self._number(trial)) % SEEDS)
            config = space.trial_config(spec, params, seed=seed, run=attrs.get("run"))
            if _FINALIST in attrs:
                config = replace(config, seed=seed)  # whatever the study file says
            trial.set_user_attr("name", attrs.get("name", str(self._number(trial))))
            trial.set_user_attr("config", config.to_dict())
        return self._job(trial._get_latest_trial())

    def _entry(self, trial: FrozenTrial) -> Entry:
        told = trial.user_attrs.get("result")
        return Entry(self._job(trial), None if told is None else Result.from_dict(told))

    def _next_listed(self, trials: list[FrozenTrial]) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """Return what is to be tried before the sampler is asked, as parameters and user attributes."""
        retried = _retried(trials)
        for trial in trials:
            if trial.number in self._crashed - retried:
                return trial.params, _kept(trial.user_attrs) | {"retry_of": trial.number}
        started = {trial.user_attrs["listed"] for trial in trials if "listed" in trial.user_attrs}
        for index, (params, attrs) in enumerate(space.listed_trials(self.spec)):
            if index not in started:
                return params, attrs | {"listed": index}
        return None

    def _next_finalist(self, trials: list[FrozenTrial]) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """Return the same of the best configuration that is to be run again."""
        entries = self._entries(trials)
        found = next_finalist(self.spec, entries)
        if found is None:
            return None
        entry, seed = found
        source = next(trial for trial in trials if self._number(trial) == entry.job.number)
        attrs = {"run": source.user_attrs["run"]} if "run" in source.user_attrs else {}
        return source.params, attrs | {"name": f"{entry.job.name}-s{seed}", "seed": seed, _FINALIST: True}


def _ended(entries: Sequence[Entry]) -> list[FrozenTrial]:
    """Return trials that have ended as Optuna's; parameters are of the ranges in which they were seen."""
    values: dict[str, list[Any]] = {}
    for entry in entries:
        for name, value in entry.job.params.items():
            values.setdefault(name, []).append(value)
    spans = {name: _span(seen) for name, seen in values.items()}
    trials = []
    for entry in entries:
        job, result = entry.job, entry.result
        assert result is not None
        attrs = {"name": job.name, "listed": job.number, "config": job.config.to_dict(), "result": result.to_dict()}
        how = optuna_result(result, job.config.horizon, "", 0)  # no sampler will learn from it
        trials.append(
            optuna.trial.create_trial(
                state=how.state,
                value=how.value,
                params=job.params,
                distributions={name: spans[name] for name in job.params},
                user_attrs=attrs,
                intermediate_values=dict(how.intermediate_values),
            )
        )
    return trials


def _span(values: Sequence[Any]) -> BaseDistribution:
    if any(isinstance(value, bool | str) for value in values):
        return CategoricalDistribution(sorted(set(values), key=str))
    if all(isinstance(value, int) for value in values):
        return IntDistribution(min(values), max(values))
    return FloatDistribution(min(values), max(values))


def study_names(uri: str) -> list[str]:
    """Return the names of the studies in a ledger; none where there is no file."""
    return list(_stored_specs(uri))


def study_specs(uri: str) -> list[StudySpec]:
    """Return what the studies in a ledger ask, in the order of their names; none where there is no file."""
    return [from_json(text) for text in _stored_specs(uri).values()]


def _stored_specs(uri: str) -> dict[str, str]:
    file = sqlite_file(uri)
    if file is not None and not file.exists():
        return {}
    kept = {study.study_name: study.user_attrs for study in _storage(uri).get_all_studies()}
    return {name: kept[name][_ASKED] for name in sorted(kept) if _ASKED in kept[name]}


def _retried(trials: list[FrozenTrial]) -> set[int]:
    """Return the numbers in Optuna of the crashed trials that were tried again."""
    return {trial.user_attrs["retry_of"] for trial in trials if "retry_of" in trial.user_attrs}


def _with_more_seeds(kept: StudySpec, spec: StudySpec) -> StudySpec:
    """Return a study as it was kept, with the seeds of a confirmation that has more behind those that it had."""
    before, now = kept.search.seeds or [], spec.search.seeds or []
    if "confirm" not in (kept.phase, spec.phase) or now[: len(before)] != before:
        return kept
    return kept.model_copy(update={"search": kept.search.model_copy(update={"seeds": spec.search.seeds})})


def _kept(attrs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes that a new try of a crashed trial takes over: it repeats the run, seed and all."""
    kept = {key: attrs[key] for key in ("run", "name", "listed", "retry_of", _FINALIST) if key in attrs}
    return kept | {"seed": attrs["config"]["seed"]} if "config" in attrs else kept


def _study_in(storage: optuna.storages.BaseStorage, name: str) -> optuna.Study | None:
    try:
        return optuna.load_study(storage=storage, study_name=name)
    except KeyError:
        return None


def _storage(uri: str) -> optuna.storages.RDBStorage:
    storage = open_storage(uri)
    create_tables(storage)
    return storage


@contextlib.contextmanager
def _exclusive(storage: optuna.storages.RDBStorage, study: str) -> Iterator[Connection]:
    """Hold a study's ledger before this process is a driver of it; a database that is away is not waited for."""
    try:
        with exclusive_transaction(storage, study) as connection:
            yield connection
    except DBAPIError as error:
        raise SweepError(
            f"the ledger {without_password(str(storage.url))} cannot be used: {reason_of(error)}"
        ) from error
