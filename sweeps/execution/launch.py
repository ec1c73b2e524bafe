"""One launch of a study, from start to end: the only module that knows the ledger, MLflow's writer and Ray."""

from __future__ import annotations

import contextlib
import enum
import functools
import multiprocessing
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

import analysis
from resnet_core.code import Source
from resnet_core.data import DATASETS
from resnet_core.paths import sqlite_path
from search_spaces.space import shipped_values, trial_count
from search_spaces.spec import StudySpec
from search_spaces.tables import Finalists
from sweeps import environment
from sweeps.errors import SweepError, disk_full_message, is_disk_full
from sweeps.execution import fork_server
from sweeps.execution.cluster import Cluster, Node, slow_precision, visible_gpus
from sweeps.execution.interrupts import Interrupts
from sweeps.execution.live import LiveWatcher, QuietWatcher, watching
from sweeps.execution.machine import available_cores
from sweeps.execution.placement import check_address, ray_cluster, run_trials
from sweeps.execution.ray_internals import Ahead
from sweeps.execution.trainable import TrialTrainable
from sweeps.home import Home, check_database, check_new_database
from sweeps.ledger.database import sqlite_file
from sweeps.ledger.ledger import Ledger
from sweeps.ledger.studies import study_names
from sweeps.study.checkpoints import Checkpoints
from sweeps.study.code import copy_of, find, keep
from sweeps.study.networks import Networks, kept_networks
from sweeps.study.recovery import recover, write_missing_ends
from sweeps.study.run import StudyRun
from sweeps.tracking.models import add_models
from sweeps.tracking.runs import MlflowStudy
from sweeps.tracking.writer import Tracker


class LaunchStatus(enum.Enum):
    """How a launch ended."""

    FINISHED = "finished"
    """Every trial has ended, and none crashed."""
    CRASHED = "crashed"
    """Every trial has ended, and some crashed; `sweeps resume` retries those."""
    INTERRUPTED = "interrupted"
    """The launch was asked to stop; `sweeps resume` continues the study."""


@dataclass(frozen=True)
class Launch:
    """Launches studies.

    Attributes:
        home: the home folder.
        data_dir: folder of the data set.
        address: address of a running Ray cluster; None starts one on this machine.
        console: the console that shows the progress: stderr.
        debug: let Ray and MLflow log.
        quiet: show errors only.
        verbose: show every epoch as a line.
        trainable: the class that trains a trial; None selects it by the study file.
    """

    home: Home
    data_dir: Path
    address: str | None
    console: Console
    debug: bool = False
    quiet: bool = False
    verbose: bool = False
    trainable: type[TrialTrainable] | None = None

    def start(self, spec: StudySpec, *, sequential: bool = False) -> LaunchStatus:
        """Run a new study, or continue an existing study with the same name and specification.

        Args:
            spec: the study.
            sequential: whether a sequential test decides its number of seeds.

        Raises:
            SweepError: the study cannot be run; InputError if the user can correct the cause.
            DataError: the images are not available.
        """
        if spec.name in study_names(self.home.ledger_uri):
            Ledger.read(self.home.ledger_uri, spec.name).check_not_imported()
        slots = self._check(spec)
        self._check_ledger(spec.name)
        with self._disk(spec.name), self.home.lock(spec.name):
            sources = self._sources(spec)
            return self._run(Ledger.create(self.home.ledger_uri, spec, sequential=sequential), sources, slots)

    def fork(self, spec: StudySpec, source: str) -> LaunchStatus:
        """Run a new study whose sampler starts with the ended trials of another study.

        Raises:
            SweepError: the study cannot be run; InputError if the user can correct the cause.
            DataError: the images are not available.
        """
        # First, so that a refused study leaves no folder.
        known = Ledger.read(self.home.ledger_uri, source).fork_for(spec)
        slots = self._check(spec)
        with self._disk(spec.name), self.home.lock(spec.name):
            sources = self._sources(spec)
            ledger = Ledger.create_fork(self.home.ledger_uri, spec, known)
            if not self.quiet:
                self.console.print(str(known), markup=False, highlight=False, soft_wrap=True)
            return self._run(ledger, sources, slots)

    def resume(
        self, name: str, *, trials: int | None = None, more: int = 0, changed_code: bool = False
    ) -> LaunchStatus:
        """Continue a study of the ledger.

        Args:
            name: the study's name.
            trials: the new total number of trials; None keeps it.
            more: how many trials to add.
            changed_code: go on although code that the study file names has changed since.

        Raises:
            SweepError: the study cannot be run; InputError if the user can correct the cause.
            DataError: the images are not available.
        """

        def longer(ledger: Ledger) -> None:
            if trials is not None or more:
                ledger.extend((trials or trial_count(ledger.spec)) + more)

        return self._continue(name, longer, changed_code)

    def race(self, name: str, finalists: Finalists) -> LaunchStatus:
        """Run a study's best configurations again, after the trials that have begun.

        Raises:
            SweepError: the study cannot be run; InputError if the user can correct the cause.
            DataError: the images are not available.
        """
        return self._continue(name, lambda ledger: ledger.race(finalists))

    def _continue(self, name: str, change: Callable[[Ledger], None], changed_code: bool = False) -> LaunchStatus:
        """Change a study of the ledger, and run its remaining trials."""
        # First, so that a wrong name leaves no folder.
        found = Ledger.read(self.home.ledger_uri, name)
        found.check_not_imported()
        sources = find(self.home, found.spec, accept_changes=changed_code)
        fork_server.import_for(sources.values())
        slots = self._check(found.spec)
        with self._disk(name), self.home.lock(name):
            ledger = Ledger.open(self.home.ledger_uri, name)
            keep(self.home, ledger.spec, sources)
            ledger.change_code({name: source.version for name, source in sources.items()})
            change(ledger)
            return self._run(ledger, sources, slots)

    def _check(self, spec: StudySpec) -> int:
        """Check before the start for problems that would make every trial fail; return how many run at once here."""
        slots = 0
        with contextlib.ExitStack() as stack:
            stack.enter_context(environment.safe_path())
            # torch is imported only in a process that ends here. It is started when it is first needed.
            spawn = multiprocessing.get_context("spawn")
            torch_process = functools.cache(lambda: stack.enter_context(ProcessPoolExecutor(1, spawn)))
            if self.address in (None, "local"):
                if (note := slow_precision(spec)) is not None:
                    self.console.print(note, markup=False, highlight=False, soft_wrap=True)
                gpus = torch_process().submit(visible_gpus).result() if spec.resources.gpus_per_trial else 0
                slots = Cluster((Node(available_cores(), gpus),)).slots(spec.resources)
            else:
                check_address(self.address)
            for db in (self.home.own_mlflow_db, sqlite_file(self.home.ledger_uri)):
                if db is not None:
                    check_database(db)
            if self.home.mlflow and (file := sqlite_path(self.home.mlflow)) is not None:
                check_new_database(file)
            for name in sorted(shipped_values(spec, "data")):
                if name in DATASETS and DATASETS[name].download is not None:
                    torch_process().submit(DATASETS[name].ensure_available, self.data_dir).result()
        return slots

    def _check_ledger(self, name: str) -> None:
        """Refuse to create a ledger where one is missing.

        Raises:
            SweepError: MLflow has trials of the study, but the ledger's file is missing.
        """
        db, mlflow_db = sqlite_file(self.home.ledger_uri), self.home.own_mlflow_db
        if db is None or db.exists():
            return
        known = False
        with contextlib.suppress(analysis.StoreError):
            known = mlflow_db.exists() and name in set(analysis.studies(mlflow_db)["name"])
        if known or db.with_name(f"{db.name}-wal").exists():
            raise SweepError(
                f"the ledger {db} is gone, and there are trials that it knew; put it back, then go on with "
                f"`sweeps resume {name}`, or choose another folder with --home"
            )

    @contextlib.contextmanager
    def _disk(self, name: str) -> Iterator[None]:
        """Convert any error that a full disk causes in the block to a SweepError that names the cause."""
        try:
            yield
        except SweepError:
            raise
        except Exception as error:
            if is_disk_full("".join(traceback.format_exception(error))):
                raise SweepError(f"the study stopped: {disk_full_message(self.home.root, name)}") from error
            raise

    def _sources(self, spec: StudySpec) -> dict[str, Source]:
        """Return the code that a new study names; it is copied to the study's folder."""
        sources = spec.sources or find(self.home, spec)
        keep(self.home, spec, sources)
        return sources

    def _run(self, ledger: Ledger, sources: dict[str, Source], slots: int) -> LaunchStatus:
        home, name = self.home, ledger.spec.name
        interrupts, driver = Interrupts(name), home.ensure_driver_name(name)
        with interrupts.listening(), ledger.driven_by(driver, home.root, lambda: home.ask_to_stop(name)):
            ledger.tell_pending_results()
            # MLflow creates its tables in a separate thread while Ray starts.
            runs = MlflowStudy(home.mlflow_uri, home.artifacts, ledger.spec, driver, lengthened=ledger.lengthened)
            tracker = Tracker(runs, home.spool(name), ledger.owns, Checkpoints(home, name).records)
            try:
                with watching(self.console, quiet=self.quiet, verbose=self.verbose) as watcher:
                    end = self._run_trials(ledger, tracker, watcher, interrupts, sources, slots)
            except BaseException:
                with contextlib.suppress(SweepError):
                    tracker.close("SCHEDULED")
                raise
            over = end is not LaunchStatus.INTERRUPTED
            tracker.close("FINISHED" if over else "SCHEDULED", ledger.drivers.expired() if over else ())
        if over and ledger.spec.keep.mlflow:
            self._add_models(ledger.spec, sources)
        return end

    def _add_models(self, spec: StudySpec, sources: dict[str, Source]) -> None:
        """Add the kept networks to MLflow; if that fails, a message says so, since the study itself has ended well."""
        names = shipped_values(spec, "model")
        folders = [copy_of(self.home, spec.name, source) for name, source in sources.items() if name in names]
        try:
            kept = kept_networks(self.home, spec.name)
            added = add_models(self.home.mlflow_uri, spec.name, kept, folders[0] if folders else None)
            said = f"networks added to MLflow as models: {added}" if added else ""
        except SweepError as error:
            said = f"the kept networks were not added to MLflow: {error}; `sweeps resume {spec.name}` tries it again"
        if said and not self.quiet:
            self.console.print(said, markup=False, highlight=False, soft_wrap=True)

    def _run_trials(
        self,
        ledger: Ledger,
        tracker: Tracker,
        watcher: QuietWatcher | LiveWatcher,
        interrupts: Interrupts,
        sources: dict[str, Source],
        slots: int,
    ) -> LaunchStatus:
        home, networks = self.home, Networks(self.home, ledger.spec)
        if ledger.complete():
            # Nothing is left to run, but trials that ended in a killed launch may be missing from MLflow.
            run = StudyRun(home, ledger, tracker, watcher, recover(home, ledger, tracker), networks)
            if run.exhausted:
                run.remove_frozen()
                return LaunchStatus.FINISHED
        watcher.starting()
        with ray_cluster(self.address, debug=self.debug, ahead=self._ahead(ledger.spec, slots)) as cluster:
            cluster.slots(ledger.spec.resources)  # raises if no trial fits
            run = StudyRun(home, ledger, tracker, watcher, recover(home, ledger, tracker), networks)
            watcher.watch(run)
            # If a stop was requested while Ray started, no trial begins.
            if interrupts.stop_requested or home.asked_to_stop(ledger.spec.name):
                return LaunchStatus.INTERRUPTED
            trainable, data_dir = self.trainable, self.data_dir
            if not run_trials(
                run, home, data_dir=data_dir, interrupts=interrupts, sources=sources, trainable=trainable
            ):
                return LaunchStatus.INTERRUPTED
            run.remove_frozen()
            if ledger.drivers.expired():
                written, checkpoints = tracker.refresh(), Checkpoints(home, ledger.spec.name)
                write_missing_ends(checkpoints, ledger, tracker, ledger.entries(), written)
        return LaunchStatus.CRASHED if run.crashed else LaunchStatus.FINISHED

    def _ahead(self, spec: StudySpec, slots: int) -> Ahead:
        """Return the workers that start before the first trial is proposed: as many as will train at once."""
        # The trials of a shared process have torch there alone, and the process chooses its GPU before torch is loaded.
        module = "" if spec.resources.shared_process else fork_server.TRAINER_PROCESS
        if not module or spec.resources.cpus_per_trial != 1:  # libraries have been loaded for one thread there
            fork_server.stop()
        server = fork_server.current()
        if server is not None:  # its forks begin at once
            return Ahead(0, spec.resources.cpus_per_trial, socket=server.socket)
        return Ahead(min(slots, trial_count(spec)), spec.resources.cpus_per_trial, module)
