"""The ledger of a study's trials: Optuna's study in persistent storage. It proposes, and it remembers."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Collection, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
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
from search_spaces.study import Finalists, StudySpec, differences, from_json, to_json
from sweeps.errors import InputError, SweepError, UnknownStudyError, reason_of
from sweeps.home import Home
from sweeps.ledger.database import file_of, patiently, storage_of, turn
from sweeps.ledger.forks import FORKED, Fork, fork
from sweeps.ledger.leases import Driver, Seat, Turn, ask_to_stop, drivers_of, forget, make_tables, owners_of
from sweeps.ledger.samplers import SEEDS, listed, sampler
from sweeps.study.finalists import most_left, next_finalist
from sweeps.study.origin import Origin
from sweeps.study.outcomes import Result, told
from sweeps.study.trials import Entry, Job

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


@dataclass(frozen=True)
class Handout:
    """What a driver gets when it asks for a trial.

    Attributes:
        job: the trial; None where there is none for it now.
        to_run: how many more the study asks for.
        elsewhere: how many other drivers run; should one of them be gone, its trials will be handed out.
        ended: trials that ended elsewhere, as far as the driver did not know of them.
        adopted: the trial was another driver's that is gone.
        home: that driver's home folder.
    """

    job: Job | None
    to_run: int
    elsewhere: int
    ended: list[Entry] = field(default_factory=list)
    adopted: bool = False
    home: str = ""


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
        self._file = file_of(storage.url) if storage is not None else None
        self._inode = self._file.stat().st_ino if self._file is not None else None
        self._seat: Seat | None = None
        trials = study.get_trials(deepcopy=False)
        study.sampler = sampler(spec, trials)
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
        with _first_turn(storage, spec.name) as connection:
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
    def fork(cls, uri: str, spec: StudySpec, known: Fork) -> Ledger:
        """Return the ledger of a new study whose sampler knows trials of another one.

        Raises:
            InputError: there is a study of this name.
            SweepError: the database cannot be used.
        """
        storage = _storage(uri)
        with _first_turn(storage, spec.name) as connection:
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
        forget(connection, spec.name)
        return cls(study, spec, storage)

    @classmethod
    def imported(cls, uri: str, spec: StudySpec, origin: Origin, entries: Sequence[Entry]) -> Ledger:
        """Return the ledger of a study whose trials ended elsewhere, in the place of an earlier import of it.

        Nobody sees the study before all of it is there.

        Raises:
            SweepError: the database cannot be used.
        """
        storage = _storage(uri)
        with _first_turn(storage, spec.name) as connection:
            return cls._new(connection, storage, spec, _ended(entries), {_IMPORTED: origin.to_dict()})

    @classmethod
    def remove_import(cls, uri: str, name: str) -> None:
        """Take an imported study out of the ledger; nothing is done where there is none of this name."""
        if name in ledgers(uri) and cls.open(uri, name).origin is not None:
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
        file = file_of(uri)
        if file is not None and not file.exists() and (file.parent / "studies" / name).is_dir():
            raise SweepError(
                f"{file} is gone, and with it what study {name!r} asks and which trials it has; put it back, or launch "
                "the study under another --name. Its checkpoints and its epochs in MLflow are untouched"
            )
        storage = None if file is not None and not file.exists() else _storage(uri)
        study = None if storage is None else _study_in(storage, name)
        if study is None or _ASKED not in study.user_attrs:
            listed = ", ".join(ledgers(uri)) or "none"
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

    def check_ran_here(self) -> None:
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
        seat = Seat(self._storage, self.spec.name, driver, home)
        with _first_turn(self._storage, self.spec.name) as connection:
            others = [other for other in drivers_of(connection, self.spec.name) if other.id != driver]
            seat.take(connection)
        self._seat = seat
        if others:
            # Two drivers that begin with as many trials must not draw the same ones.
            shift = int.from_bytes(hashlib.sha256(driver.encode()).digest()[:4])
            self._study.sampler = sampler(self.spec, self._study.get_trials(deepcopy=False), shift)
        with seat.beating(stop):
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

    def stop_all(self) -> None:
        """Ask every driver of the study to finish."""
        assert self._storage is not None
        with self._storage.engine.begin() as connection:
            ask_to_stop(connection, self.spec.name)

    def known_to(self, spec: StudySpec) -> Fork:
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
        if left and (not self.spec.space or self.spec.search.sampler == "grid"):
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
        return self._in_turn(self._unfinished)

    def _unfinished(self, turn: Turn) -> list[Job]:
        for trial in self._trials(TrialState.RUNNING):
            if turn.is_mine(self._number(trial)):
                self._continue(trial)
        turn.claim(self._running)
        return [self._describe(live) for live in self._running.values()]

    def take(self, known: Container[int] = ()) -> Handout:
        """Take a trial over: a new one where the study asks for more, else one of a driver that is gone.

        Args:
            known: trials whose end the driver knows.

        Raises:
            SweepError: the database could not be used for a while.
        """
        return self._in_turn(lambda turn: self._take(turn, known))

    def _take(self, turn: Turn, known: Container[int]) -> Handout:
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
        lost = [n for n in running if turn.is_mine(n) and n not in self._running]
        gone = [n for n in running if turn.is_orphan(n) and "result" not in running[n].user_attrs]
        to_run = self._left(trials)
        elsewhere = sum(not turn.is_mine(n) for n in running)
        if lost:
            handout = Handout(self._describe(self._continue(running[lost[0]])), to_run, elsewhere, ended)
        elif to_run and (job := self._ask(trials)) is not None:
            # What a finalist shows may ask for another one.
            handout = Handout(job, max(int(job.finalist), to_run - 1), elsewhere, ended)
        elif gone:
            left_behind = self._describe(self._continue(running[gone[0]]))
            handout = Handout(left_behind, to_run, elsewhere - 1, ended, adopted=True, home=turn.home_of(gone[0]))
        else:
            for number in running:
                if turn.is_orphan(number):  # it had ended, but for its last line
                    live = optuna.Trial(self._study, running[number]._trial_id)
                    self._close(live, Result.from_dict(live.user_attrs["result"]))
            return Handout(None, to_run, elsewhere, ended)
        assert handout.job is not None
        turn.claim([handout.job.number])
        return handout

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
        return self._in_turn(lambda turn: self._thaw(turn, number))

    def _thaw(self, turn: Turn, number: int) -> Job | None:
        known = self._study.get_trials(deepcopy=False)
        ended = next((trial for trial in self._last_of_each(known) if self._number(trial) == number), None)
        if ended is None or not turn.is_mine(number) or "result" not in ended.user_attrs:
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
        turn.claim([job.number])
        return job

    def holds(self, number: int) -> bool:
        """Return whether a trial that this driver began is still its own: it may have been taken for gone.

        Raises:
            SweepError: nothing was heard of the database for a while.
        """
        return self._seat is None or self._seat.holds(number)

    def drop(self, number: int) -> None:
        """Let go of a trial that another driver has taken over."""
        self._running.pop(number, None)

    def heirless(self, numbers: Collection[int]) -> dict[int, str]:
        """Return which of these trials are this driver's to close in MLflow, with the home folder of who ran them.

        Its own, for which that is empty, nobody's, and those of drivers that are gone.
        """
        return self._in_turn(lambda turn: {n: turn.home_of(n) for n in numbers if turn.is_mine(n) or turn.is_orphan(n)})

    def inherit(self, number: int) -> bool:
        """Take over a trial that ended with a driver that is gone; return whether that was still to be done."""

        def inherit(turn: Turn) -> bool:
            free = turn.is_mine(number) or turn.is_orphan(number)
            if free:
                turn.claim([number])
            return free

        return self._in_turn(inherit)

    def gone(self) -> set[str]:
        """Return the other drivers of the study that are gone."""
        driver = None if self._seat is None else self._seat.driver
        return {other.id for other in self.drivers() if not other.alive and other.id != driver}

    def note_stops(self, number: int, would_stop: Mapping[str, int]) -> None:
        """Write down at which epochs rules said stop to a running trial that goes on."""
        self._patiently(lambda: self._running[number].set_user_attr(_STOPS, dict(would_stop)))

    def noted_stops(self, number: int) -> dict[str, int]:
        """Return what ``note_stops`` wrote down last for a running trial; it may have been an earlier process."""
        return dict(self._running[number].user_attrs.get(_STOPS, {}))

    def tell(self, number: int, result: Result) -> bool:
        """Write down how a trial ended; return False, and do nothing, where another driver has taken it over.

        What Optuna is told of it is `outcomes.told`'s to say.

        Raises:
            SweepError: the database could not be used for a while.
        """
        told = self._in_turn(lambda turn: self._tell(turn, number, result))
        if told:
            del self._running[number]
        return told

    def _tell(self, turn: Turn, number: int, result: Result) -> bool:
        self._check_there()
        if not turn.is_mine(number):
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

    def _patiently(self, do: Callable[[], _T]) -> _T:
        return do() if self._storage is None else patiently(do, self._storage.url, self.spec.name)

    def _in_turn(self, do: Callable[[Turn], _T]) -> _T:
        """Do something while no other driver changes the ledger; again from the start where that broke off."""
        storage, seat = self._storage, self._seat
        if storage is None or seat is None:
            return self._patiently(lambda: do(Turn()))

        def once() -> _T:
            self._check_there()
            with turn(storage, self.spec.name) as connection:
                seat.check(connection)
                owners, drivers = owners_of(connection, self.spec.name), drivers_of(connection, self.spec.name)
                return do(Turn(connection, seat, owners, {driver.id: driver for driver in drivers}))

        return self._patiently(once)

    def settle(self) -> None:
        """Close the trials whose result was written down by a process that was killed before it closed them."""
        self._in_turn(self._settle)

    def _settle(self, turn: Turn) -> None:
        for trial in self._trials(TrialState.RUNNING):
            if "result" in trial.user_attrs and turn.is_mine(self._number(trial)):
                live = optuna.Trial(self._study, trial._trial_id)
                self._close(live, Result.from_dict(trial.user_attrs["result"]))

    def _close(self, trial: optuna.Trial, result: Result) -> None:
        horizon = TrialConfig.from_dict(trial.user_attrs["config"]).horizon
        how = told(result, horizon, self.spec.search.sampler, self._longest)
        for step, value in how.reported.items():
            trial.report(value, step)
        self._study.tell(trial, how.value, how.state)

    def to_run(self) -> int:
        """Return how many trials the study still asks for, beside those that are running; with finalists at most."""
        return self._left(self._trials())

    def elsewhere(self) -> int:
        """Return how many trials other drivers run."""
        if self._seat is None:
            return 0
        owners, mine = self.owners(), (self._seat.driver, None)
        running = self._trials(TrialState.RUNNING)
        return sum(owners.get(self._number(trial)) not in mine for trial in running)

    def complete(self) -> bool:
        """Return whether nothing is left to run, begun or not."""
        return not self._trials(TrialState.RUNNING) and self.to_run() == 0

    def _left(self, trials: list[FrozenTrial]) -> int:
        search, race = self._search_left(trials), self.spec.search.finalists
        if race is None:
            return search
        return search + race.top * race.seeds if search else most_left(self.spec, self._entries(trials))

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
        for index, (params, attrs) in enumerate(listed(self.spec)):
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
        how = told(result, job.config.horizon, "", 0)  # no sampler will learn from it
        trials.append(
            optuna.trial.create_trial(
                state=how.state,
                value=how.value,
                params=job.params,
                distributions={name: spans[name] for name in job.params},
                user_attrs=attrs,
                intermediate_values=dict(how.reported),
            )
        )
    return trials


def _span(values: Sequence[Any]) -> BaseDistribution:
    if any(isinstance(value, bool | str) for value in values):
        return CategoricalDistribution(sorted(set(values), key=str))
    if all(isinstance(value, int) for value in values):
        return IntDistribution(min(values), max(values))
    return FloatDistribution(min(values), max(values))


def ledgers(uri: str) -> list[str]:
    """Return the names of the studies in a ledger; none where there is no file."""
    return list(_asked(uri))


def asked(uri: str) -> list[StudySpec]:
    """Return what the studies in a ledger ask, in the order of their names; none where there is no file."""
    return [from_json(text) for text in _asked(uri).values()]


def _asked(uri: str) -> dict[str, str]:
    file = file_of(uri)
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
    storage = storage_of(uri)
    make_tables(storage)
    return storage


@contextlib.contextmanager
def _first_turn(storage: optuna.storages.RDBStorage, study: str) -> Iterator[Connection]:
    """Hold a study's ledger before this process is a driver of it; a database that is away is not waited for."""
    try:
        with turn(storage, study) as connection:
            yield connection
    except DBAPIError as error:
        raise SweepError(
            f"the ledger {without_password(str(storage.url))} cannot be used: {reason_of(error)}"
        ) from error
