"""The ledger of a study's trials: Optuna's study in persistent storage. It proposes trials, and remembers them."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Collection, Container, Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState

from resnet_core import code
from resnet_core.own_config import with_seed
from resnet_core.records import Outcome
from search_spaces import space
from search_spaces.errors import as_toml
from search_spaces.plugins import find_sampler, is_own_sampler
from search_spaces.spec import StudySpec
from search_spaces.study import differences, from_json, to_json
from search_spaces.tables import SEEDS, Finalists
from sweeps.errors import InputError, SweepError
from sweeps.ledger import attributes
from sweeps.ledger.forks import Fork, fork
from sweeps.ledger.imports import imported_trials
from sweeps.ledger.leases import Drivers, Transaction
from sweeps.ledger.optuna_internals import engine_of, is_finished, live_trial
from sweeps.ledger.outcomes import optuna_result, worst_objective
from sweeps.ledger.proposals import next_listed, next_repetition
from sweeps.ledger.retries import Retries
from sweeps.ledger.samplers import make_sampler
from sweeps.ledger.studies import begin_study, exclusive, find_study, ledger_storage, open_study, study_names
from sweeps.ledger.trials import OptunaTrials, result_of
from sweeps.study.finalists import Race, race_of
from sweeps.study.origin import Origin
from sweeps.study.outcomes import Result
from sweeps.study.trials import Assignment, Entry, Job, crashes

optuna.logging.set_verbosity(optuna.logging.ERROR)
optuna.logging.disable_default_handler()


class Ledger:
    """A study's trials in Optuna's storage. Several drivers may share them, see `sweeps.ledger.leases`.

    Args:
        study: Optuna's study.
        spec: the study's specification as it was launched.
        storage: the storage of Optuna's study; None for a study in memory.

    Attributes:
        spec: the study's current specification.
        drivers: the drivers of the study.
    """

    def __init__(self, study: optuna.Study, spec: StudySpec, storage: RDBStorage | None = None) -> None:
        self.spec = spec
        self.drivers = Drivers(storage, spec.name)
        self._study, self._storage = study, storage
        self._trials = OptunaTrials(study, spec.trainer)
        trials = self._trials.all()
        self._retries = Retries(trials)
        self._running: dict[int, optuna.Trial] = {}  # by number, of this process
        self._longest_horizon = space.longest_horizon(spec)
        self._known_to_sampler, self._sampler_shift = list(trials), 0
        self._has_sampler = False

    # Studies: create, open, change

    @classmethod
    def create(cls, uri: str, spec: StudySpec, *, sequential: bool = False) -> Ledger:
        """Return the ledger of a new study, or of an existing study with the same name and specification.

        A confirmation with additional seeds after its existing ones counts as the same study.

        Args:
            uri: URI of the database.
            spec: the study.
            sequential: whether a sequential test decides its number of seeds.

        Raises:
            InputError: there is a study of this name with another specification.
            SweepError: the database cannot be used.
        """
        storage = ledger_storage(uri)
        with exclusive(storage, spec.name) as connection:
            existing = find_study(storage, spec.name)
            if existing is None:
                attrs = {attributes.LENGTHENED: "sequential"} if sequential else {}
                return cls(begin_study(connection, storage, spec, attrs=attrs), spec, storage)
            kept = from_json(existing.user_attrs[attributes.SPEC])
            changed = differences(_with_more_seeds(kept, spec), spec)
            if changed:
                raise InputError(
                    f"study {spec.name!r} exists and asks something else:\n  "
                    + "\n  ".join(changed)
                    + f"\nLaunch the changed file under another --name, or continue the old one with "
                    f"`sweeps resume {spec.name}`."
                )
            more = len(spec.search.seeds or ()) > len(kept.search.seeds or ())
            if more and any(attributes.RESULT in trial.user_attrs for trial in existing.get_trials(deepcopy=False)):
                looked = not sequential or existing.user_attrs.get(attributes.LENGTHENED) == "looked"
                existing.set_user_attr(attributes.LENGTHENED, "looked" if looked else "sequential")
            existing.set_user_attr(attributes.SPEC, to_json(spec))  # resources and the number of trials may change
            return cls(existing, spec, storage)

    @classmethod
    def create_fork(cls, uri: str, spec: StudySpec, known: Fork) -> Ledger:
        """Return the ledger of a new study whose sampler knows trials of another study.

        Raises:
            InputError: there is a study of this name.
            SweepError: the database cannot be used.
        """
        storage = ledger_storage(uri)
        with exclusive(storage, spec.name) as connection:
            if find_study(storage, spec.name) is not None:
                raise InputError(
                    f"--fork {spec.name}: there is a study of this name; expected a new one. "
                    f"`sweeps resume {spec.name}` continues it."
                )
            return cls(begin_study(connection, storage, spec, known.trials), spec, storage)

    @classmethod
    def create_import(cls, uri: str, spec: StudySpec, origin: Origin, entries: Sequence[Entry]) -> Ledger:
        """Return the ledger of a study whose trials were run elsewhere; it replaces an earlier import of the study.

        Raises:
            SweepError: the database cannot be used.
        """
        storage = ledger_storage(uri)
        with exclusive(storage, spec.name) as connection:
            attrs = {attributes.IMPORTED: origin.to_dict()}
            return cls(begin_study(connection, storage, spec, imported_trials(entries), attrs), spec, storage)

    @classmethod
    def remove_import(cls, uri: str, name: str) -> None:
        """Delete an imported study from the ledger; nothing happens if no study has this name."""
        if name in study_names(uri) and cls.read(uri, name).origin is not None:
            optuna.delete_study(study_name=name, storage=ledger_storage(uri))

    @classmethod
    def preview(cls, spec: StudySpec) -> Ledger:
        """Return a ledger in memory, which shows the trials that a study would run and stores nothing."""
        return cls(optuna.create_study(), spec)

    @classmethod
    def open(cls, uri: str, name: str) -> Ledger:
        """Return the ledger of a study.

        Raises:
            UnknownStudyError: there is no study of this name; the message lists the existing ones.
            SweepError: the study existed here, but its ledger is missing; or the database cannot be used.
        """
        study, storage = open_study(uri, name)
        return cls(study, from_json(study.user_attrs[attributes.SPEC]), storage)

    @classmethod
    def read(cls, uri: str, name: str) -> Ledger:
        """Return the ledger of a study as it is now, to look at it: nothing is written.

        Raises:
            UnknownStudyError: as `open`.
            SweepError: as `open`.
        """
        study, storage = open_study(uri, name, to_read=True)
        return cls(study, from_json(study.user_attrs[attributes.SPEC]), storage)

    @property
    def origin(self) -> Origin | None:
        """Where the study was imported from; None where it was run here."""
        kept = self._study.user_attrs.get(attributes.IMPORTED)
        return None if kept is None else Origin(**kept)

    @property
    def lengthened(self) -> str:
        """How a confirmation's number of runs was decided; empty if fixed in advance; see `analysis.Study`."""
        return str(self._study.user_attrs.get(attributes.LENGTHENED, ""))

    def check_not_imported(self) -> None:
        """Refuse to train an imported study: nothing but the content of its file is known.

        Raises:
            InputError: the study was imported.
        """
        if self.origin is not None:
            raise InputError(
                f"study {self.spec.name!r} was imported from {self.origin.file}: its trials ran elsewhere, and can be "
                "looked at, not continued or repeated; write a study file that trains what they trained, and launch it "
                "under a name of its own"
            )

    def fork_for(self, spec: StudySpec) -> Fork:
        """Return the trials of this study that the sampler of a new study may learn from.

        Raises:
            InputError: the sampler can learn nothing from it; the message says why.
        """
        return fork(spec, self.spec, self._trials.last_of_each())

    def extend(self, trials: int) -> None:
        """Set how many trials the study has in all.

        Raises:
            InputError: the study file lists the trials, or more trials than ``trials`` have begun.
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
        begun = self._begun(self._trials.own())
        if trials < begun:
            raise InputError(
                f"--trials {trials}: {begun} trials of study {name!r} have begun or ended; "
                f"expected {begun} or more, or +N to add N to the {space.trial_count(spec)} asked for"
            )
        self._change_search(trials=trials)

    def race(self, finalists: Finalists) -> None:
        """End the search with the trials that have begun, and let the best configurations run again.

        Raises:
            InputError: no trial has ended without a crash, a listed trial has not begun, the seed is a parameter of the
                study's space, the trainer has no seed, or the study is a confirmation.
        """
        name, spec = self.spec.name, self.spec
        if spec.phase == "confirm":
            raise InputError(f"study {name!r} is a confirmation: it runs one configuration again as it is")
        if "seed" in spec.space:
            raise InputError(
                f"study {name!r} samples the seed, and finalists have seeds of their own: it cannot be raced"
            )
        if "seed" not in spec.trainer.fields:
            raise InputError(
                f"study {name!r}: {spec.trainer.owner} of {spec.trainer.name} has no field `seed`, so fresh seeds "
                "would repeat the same runs: it cannot be raced"
            )
        entries = self.entries()
        if not any(entry.result is not None and entry.result.outcome is not Outcome.CRASHED for entry in entries):
            why = crashes(name, entries)
            why = f" without a crash: {why}" if why else f" yet; see `sweeps status {name}`"
            raise InputError(f"study {name!r} has no trial that ended{why}")
        self.end_search()
        self._change_search(finalists=finalists)

    def end_search(self) -> None:
        """End the search with the trials that have begun.

        Raises:
            InputError: the study file lists the trials, and some have not begun.
        """
        trials = self._trials.own()
        left = self._search_left(trials)
        if left and not self.spec.is_sampled:
            raise InputError(
                f"study {self.spec.name!r} names its trials itself, and {left} of them have not begun; run them first: "
                f"`sweeps resume {self.spec.name}`"
            )
        if left:
            self.extend(self._begun(trials))

    def _change_search(self, **search: int | Finalists) -> None:
        """Change the study's ``[search]`` settings."""
        self.spec = self.spec.model_copy(update={"search": self.spec.search.model_copy(update=search)})
        self._study.set_user_attr(attributes.SPEC, to_json(self.spec))

    def _follow_extensions(self) -> None:
        """Read the requested numbers of trials and finalists again: another driver may have changed them."""
        if self._storage is None:
            return
        asked = from_json(self._study.user_attrs[attributes.SPEC]).search
        changed = {"trials": asked.trials, "finalists": asked.finalists}
        self.spec = self.spec.model_copy(update={"search": self.spec.search.model_copy(update=changed)})

    # Reading the trials

    def entries(self) -> list[Entry]:
        """Return all trials in the order of their numbers."""
        return self._trials.entries(self._trials.own())

    def span(self) -> timedelta | None:
        """Return the time from the start of the first trial to the end of the last; None before one has ended."""
        trials = self._trials.own()
        starts = [trial.datetime_start for trial in trials if trial.datetime_start is not None]
        ends = [trial.datetime_complete for trial in trials if trial.datetime_complete is not None]
        return max(ends) - min(starts) if starts and ends and self.origin is None else None

    def find(self, text: str) -> Entry:
        """Return the trial with this name, else with this number; if a run was retried, its last trial.

        Raises:
            InputError: there is no such trial; the message lists the existing names.
        """
        entries = self.entries()
        found = [entry for entry in entries if entry.job.name == text]
        found = found or [entry for entry in entries if str(entry.job.number) == text]
        if not found:
            names = ", ".join(entry.job.name for entry in entries) or "none"
            raise InputError(f"no trial {text!r} in study {self.spec.name!r}; there are: {names}")
        return found[-1]

    def remaining(self) -> int:
        """Return how many trials have yet to begin; with finalists, the largest possible number."""
        trials = self._trials.own()
        return self._left(trials, self._race(trials))

    def running_elsewhere(self) -> int:
        """Return how many trials other drivers run."""
        return self.drivers.running_elsewhere(map(self._trials.number, self._trials.own(TrialState.RUNNING)))

    def complete(self) -> bool:
        """Return whether no trial is running and none is left to begin."""
        return not self._trials.own(TrialState.RUNNING) and self.remaining() == 0

    def _race(self, trials: list[FrozenTrial]) -> Race | None:
        """Return the state of the finalists' race; None without finalists, and until all trials of the search began."""
        if self.spec.search.finalists is None or self._search_left(trials):
            return None
        return race_of(self.spec, self._trials.entries(trials))

    def _left(self, trials: list[FrozenTrial], race: Race | None) -> int:
        if race is not None:
            return race.runs_left
        search, finalists = self._search_left(trials), self.spec.search.finalists
        return search if finalists is None else search + finalists.top * finalists.seeds

    def _search_left(self, trials: list[FrozenTrial]) -> int:
        return max(0, space.trial_count(self.spec) - self._begun(trials))

    def _begun(self, trials: list[FrozenTrial]) -> int:
        """Return how many trials of the search run or have ended; a crashed trial and its retry count once.

        A trial that crashed in this launch is counted, although the next launch will try it again.
        """
        replaced = self._retries.replaced(trials)
        states = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)
        return sum(
            trial.state in states or (trial.state is TrialState.FAIL and trial.number not in replaced)
            for trial in trials
            if attributes.FINALIST not in trial.user_attrs
        )

    # Acting as a driver of the study

    @contextlib.contextmanager
    def driven_by(self, driver: str, home: Path, stop: Callable[[], None]) -> Iterator[None]:
        """Be a driver of the study during the block.

        Args:
            driver: name of the driver; it owns the trials that it began in an earlier process.
            home: its home folder.
            stop: called when a request to stop arrives through the ledger.

        Raises:
            SweepError: the database cannot be used.
        """
        assert self._storage is not None
        with exclusive(self._storage, self.spec.name) as connection:
            others = self.drivers.join(connection, driver, home)
        if others:
            # Drivers that start with equal numbers of trials must not sample the same trials.
            shift = int.from_bytes(hashlib.sha256(driver.encode()).digest()[:4])
            self._known_to_sampler, self._sampler_shift = self._trials.all(), shift
        try:
            with self.drivers.renewing(stop):
                yield
        finally:
            engine_of(self._storage).dispose()  # the last connection to end puts SQLite's log into the file

    def owns(self, number: int) -> bool:
        """Return whether this driver still owns a trial that it began: its lease may have expired meanwhile.

        Raises:
            SweepError: the database could not be used for a while.
        """
        return self.drivers.owns(number)

    def release(self, number: int) -> None:
        """Forget a trial that another driver has taken over."""
        self._running.pop(number, None)

    def claimable(self, numbers: Collection[int]) -> dict[int, str]:
        """Return which of these trials this driver may claim: its own, and those of drivers whose lease has expired.

        Each number maps to the home folder of the driver that ran the trial. The text is empty for this driver's own
        trials.
        """
        return self.drivers.in_transaction(
            lambda transaction: {n: transaction.home_of(n) for n in numbers if transaction.may_claim(n)}
        )

    def claim(self, number: int) -> bool:
        """Make this driver the owner of an ended trial; return False where another driver owns it now."""

        def claim(transaction: Transaction) -> bool:
            free = transaction.may_claim(number)
            if free:
                transaction.claim([number])
            return free

        return self.drivers.in_transaction(claim)

    # A trial from its start to its end

    def unfinished(self) -> list[Job]:
        """Return this driver's trials that were running when its last process ended, by number.

        Without drivers, these are all trials without a result.
        """
        return self.drivers.in_transaction(self._unfinished)

    def _unfinished(self, transaction: Transaction) -> list[Job]:
        for trial in self._trials.own(TrialState.RUNNING):
            if transaction.is_mine(self._trials.number(trial)):
                self._continue(trial)
        # It may write with Optuna, which cannot once the transaction has written.
        jobs = [self._describe(live) for live in self._running.values()]
        transaction.claim(self._running)
        return jobs

    def next_assignment(self, known: Container[int] = ()) -> Assignment:
        """Assign a trial to this driver: a new one if the study needs more trials, else that of an expired driver.

        Args:
            known: numbers of the trials whose results the driver knows.

        Raises:
            SweepError: the database could not be used for a while.
        """
        return self.drivers.in_transaction(lambda transaction: self._next_assignment(transaction, known))

    def _next_assignment(self, transaction: Transaction, known: Container[int]) -> Assignment:
        self._follow_extensions()
        number, trials = self._trials.number, self._trials.own()
        ended = [
            self._trials.entry(trial)
            for trial in trials
            if trial.state.is_finished()
            and (number(trial) not in known or attributes.CONTINUES in trial.user_attrs)
            and attributes.RESULT in trial.user_attrs
        ]
        running = {number(trial): trial for trial in trials if trial.state is TrialState.RUNNING}
        # These began in a transaction that was interrupted before it claimed the trial.
        unclaimed = [n for n in running if transaction.is_mine(n) and n not in self._running]
        orphaned = [n for n in running if transaction.is_orphaned(n)]
        without_result = [n for n in orphaned if attributes.RESULT not in running[n].user_attrs]
        race = self._race(trials)
        remaining = self._left(trials, race)
        elsewhere = sum(not transaction.is_mine(n) for n in running)
        if unclaimed:
            job = self._describe(self._continue(running[unclaimed[0]]))
            assignment = Assignment(job, remaining, elsewhere, ended)
        elif remaining and (new := self._ask(trials, race)) is not None:
            job = new
            # The result of a finalist may make another run necessary.
            assignment = Assignment(job, max(int(job.finalist), remaining - 1), elsewhere, ended)
        elif without_result:
            first = without_result[0]
            job, home = self._describe(self._continue(running[first])), transaction.home_of(first)
            assignment = Assignment(job, remaining, elsewhere - 1, ended, adopted=True, home=home)
        else:
            for n in orphaned:  # their results are stored, but Optuna was not told
                self._tell_written(running[n])
            return Assignment(None, remaining, elsewhere, ended)
        transaction.claim([job.number])
        return assignment

    def ask(self) -> Job:
        """Return a new trial: the retry of a crash in an earlier launch, a listed trial, or a sampled one."""
        self.drivers.check_file()
        trials = self._trials.own()
        job = self._ask(trials, self._race(trials))
        assert job is not None
        return job

    def _ask(self, trials: list[FrozenTrial], race: Race | None) -> Job | None:
        """Return a new trial; None where the next finalist depends on trials that still run."""
        proposal = next_listed(self.spec, trials, self._retries)
        if proposal is None and race is not None:
            proposal = next_repetition(race, self._trials, trials)
            if proposal is None:
                return None
        if proposal is not None:
            self._study.enqueue_trial(proposal.params, user_attrs=proposal.attrs)
        return self._ask_optuna()

    def thaw(self, number: int) -> Job | None:
        """Let a stopped trial of this driver go on; return None where this driver no longer owns it.

        If a killed process had already reopened the trial, the reopened trial is returned.

        Raises:
            SweepError: the database could not be used for a while.
        """
        return self.drivers.in_transaction(lambda transaction: self._thaw(transaction, number))

    def _thaw(self, transaction: Transaction, number: int) -> Job | None:
        trials = self._trials.last_of_each()
        ended = next((trial for trial in trials if self._trials.number(trial) == number), None)
        if ended is None or not transaction.is_mine(number) or attributes.RESULT not in ended.user_attrs:
            return None
        if not any(
            trial.state is TrialState.WAITING and trial.user_attrs.get(attributes.CONTINUES) == number
            for trial in self._trials.all()  # enqueued in a transaction that was interrupted
        ):
            result = result_of(ended)
            attrs = attributes.of_repetition(ended.user_attrs) | {
                attributes.CONTINUES: number,
                attributes.THAWED: [*ended.user_attrs.get(attributes.THAWED, []), result.epochs_run],
                attributes.WOULD_STOP: {
                    rule: epoch for rule, epoch in result.would_stop.items() if rule != result.stopped_by
                },
            }
            self._study.enqueue_trial(ended.params, user_attrs=attrs)
        job = self._ask_optuna()
        transaction.claim([job.number])
        return job

    def _need_sampler(self) -> None:
        """Make the study's sampler, if it is not there. Who only reads a study needs none, and imports none."""
        if not self._has_sampler:
            with self._telling_of_sampler():
                self._study.sampler = make_sampler(self.spec, self._known_to_sampler, self._sampler_shift)
            self._has_sampler = True

    def _ask_optuna(self) -> Job:
        """Return the first enqueued trial, else a sampled one."""
        self._need_sampler()
        with self._telling_of_sampler():
            trial = self._study.ask()
        job = self._describe(trial)
        self._running[job.number] = trial
        return job

    def _continue(self, trial: FrozenTrial) -> optuna.Trial:
        number = self._trials.number(trial)
        if number not in self._running:
            self._running[number] = live_trial(self._study, trial)
        return self._running[number]

    def _describe(self, trial: optuna.Trial) -> Job:
        """Return the trial's job. Missing parameters are sampled: a process may have been killed before it did that."""
        spec, attrs = self.spec, trial.user_attrs
        if attributes.CONFIG not in attrs:
            self._need_sampler()
            number = self._trials.number(trial)
            with self._telling_of_sampler():
                params = space.suggest(trial, spec)
                self._check_proposed(params)
            seed = attrs.get(attributes.SEED, (spec.search.seed + number) % SEEDS)
            config = space.trial_config(spec, params, seed=seed, run=attrs.get(attributes.RUN))
            if attributes.FINALIST in attrs:
                config = with_seed(config, seed)  # the trial's seed replaces one that the study file sets
            trial.set_user_attr(attributes.NAME, attrs.get(attributes.NAME, str(number)))
            trial.set_user_attr(attributes.CONFIG, config.to_dict())
        return self._trials.job(trial)

    @contextlib.contextmanager
    def _telling_of_sampler(self) -> Iterator[None]:
        """Convert an error of a sampler of the user's own, or of its settings or values, to a SweepError."""
        try:
            with code.not_exiting():
                yield
        except Exception as error:
            name, settings = self.spec.search.sampler, self.spec.search.sampler_options
            is_of_values = isinstance(error, ValueError | TypeError | AssertionError)
            if not (is_own_sampler(name) or settings) or not (code.is_users(error) or is_of_values):
                raise
            given = f" with {as_toml(dict(settings))}" if settings else ""
            raise SweepError(f"sampler {name}{given}: {code.describe(error)}") from error

    def _check_proposed(self, params: Mapping[str, Any]) -> None:
        """Check a sampler of the user's own: Optuna takes any number as the value of a range.

        Raises:
            ValueError: a value is none of its parameter's.
        """
        for name, value in params.items() if is_own_sampler(self.spec.search.sampler) else ():
            if not self.spec.space[name].contains(value):
                raise ValueError(f"it proposes {name} = {value}; expected {self.spec.space[name]}")

    def change_code(self, versions: Mapping[str, str]) -> None:
        """Save the versions of the study's code, where they have changed."""
        known = self.spec.code
        if known is None or known.versions == dict(versions):
            return
        code = known.model_copy(update={"versions": dict(versions)})
        self.spec = self.spec.model_copy(update={"code": code})
        self._study.set_user_attr(attributes.SPEC, to_json(self.spec))

    def save_would_stop(self, number: int, would_stop: Mapping[str, int]) -> None:
        """Save at which epochs rules would have stopped a running trial."""
        save = self._running[number].set_user_attr
        self.drivers.retry_while_busy(lambda: save(attributes.WOULD_STOP, dict(would_stop)))

    def load_would_stop(self, number: int) -> dict[str, int]:
        """Return the epochs that ``save_would_stop`` saved last for a running trial, here or in an earlier process."""
        return dict(self._running[number].user_attrs.get(attributes.WOULD_STOP, {}))

    def tell(self, number: int, result: Result) -> bool:
        """Save how a trial ended and tell Optuna; return False, and do nothing, where another driver owns the trial.

        Raises:
            SweepError: the database could not be used for a while.
        """
        done = self.drivers.in_transaction(lambda transaction: self._tell(transaction, number, result))
        if done:
            del self._running[number]
        return done

    def _tell(self, transaction: Transaction, number: int, result: Result) -> bool:
        self.drivers.check_file()
        if not transaction.is_mine(number):
            return False
        trial = self._running[number]
        if not is_finished(self._study, trial):  # it is finished if only the answer to a first try was lost
            # Optuna is told last: if the process is killed before, a later one finds the result and tells it.
            trial.set_user_attr(attributes.RESULT, result.to_dict())
            self._tell_optuna(trial, result)
        return True

    def tell_pending_results(self) -> None:
        """Tell Optuna the results that a killed process had stored but not told."""
        self.drivers.in_transaction(self._tell_pending_results)

    def _tell_pending_results(self, transaction: Transaction) -> None:
        for trial in self._trials.own(TrialState.RUNNING):
            if attributes.RESULT in trial.user_attrs and transaction.is_mine(self._trials.number(trial)):
                self._tell_written(trial)

    def _tell_written(self, trial: FrozenTrial) -> None:
        self._tell_optuna(live_trial(self._study, trial), result_of(trial))

    def _tell_optuna(self, trial: optuna.Trial, result: Result) -> None:
        self._need_sampler()
        horizon = self.spec.trainer.stored_config(trial.user_attrs[attributes.CONFIG]).horizon
        worst = 0.0
        if result.objective is None:
            known = [other for other in self._trials.own() if attributes.RESULT in other.user_attrs]
            worst = worst_objective(self.spec, (result_of(other).objective for other in known))
        ignores_pruned = find_sampler(self.spec.search.sampler).ignores_pruned
        how = optuna_result(result, horizon, ignores_pruned, worst)
        for step, value in how.intermediate_values.items():
            trial.report(value, step)
        with self._telling_of_sampler():
            self._study.tell(trial, how.value, how.state)


def _with_more_seeds(kept: StudySpec, spec: StudySpec) -> StudySpec:
    """Return the stored study; if ``spec`` is the same confirmation with additional seeds, with these seeds."""
    before, now = kept.search.seeds or [], spec.search.seeds or []
    if "confirm" not in (kept.phase, spec.phase) or now[: len(before)] != before:
        return kept
    return kept.model_copy(update={"search": kept.search.model_copy(update={"seeds": spec.search.seeds})})
