"""Ray Tune: places trials, keeps their actors, starts them again after errors."""

from __future__ import annotations

import gc
import logging
import math
import os
import re
import resource
import shutil
import signal
import socket
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, wait
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from resnet_core.code import Source
from resnet_core.paths import PathError, expanded
from resnet_core.records import EpochRecord
from search_spaces.trainers import SHIPPED
from sweeps import environment
from sweeps.errors import InputError, SweepError, cause_of, disk_full_message, is_disk_full, is_node_gone, reason_of
from sweeps.execution import ray_internals
from sweeps.execution.cluster import Cluster, Node
from sweeps.execution.interrupts import Interrupts, kept_from_children
from sweeps.execution.machine import available_cores
from sweeps.execution.trainable import TrialTrainable
from sweeps.execution.worker import code_to_dict
from sweeps.home import Home
from sweeps.study.code import copy_of
from sweeps.study.run import StudyRun
from sweeps.study.trials import Job

_MOST_MOVES = 10  # most moves of a trial from lost machines in one launch; such a move is not counted as a retry
_CHECK_SECONDS = 2.0  # between two checks of the cluster's nodes
_HELD_SECONDS = 5.0  # between two looks at the trials, after which this process must have been held
_POLL_SECONDS = 0.2  # between two checks of the processes of a Ray that was started here
_NODE_GONE = "Ray's node on this machine is gone. Go on with `sweeps resume {}`"
_LOCAL = "local"  # the address by which Ray starts a cluster on this machine
_LAST_PORT = 65535
_TEMPORARY = "/tmp"
# The path of a socket has 107 bytes at most; the longest of Ray's ends like this.
_MOST_BYTES = 107 - len("/ray/session_2026-01-01_00-00-00_000000_1234567/sockets/plasma_store")
_LEAST_BYTES = 4 * 1024**2  # of room for Ray's files
_OBJECT_STORE_BYTES = 128 * 1024**2  # results are small; Ray's default is a third of the memory


@contextmanager
def ray_cluster(
    address: str | None, *, debug: bool = False, ahead: ray_internals.Ahead | None = None
) -> Iterator[Cluster]:
    """Connect to the Ray cluster at ``address``, or start one on this machine, for the duration of the block.

    Args:
        address: HOST:PORT, ``ray://HOST:PORT`` or ``auto``; ``local`` or None starts a cluster.
        debug: let Ray log.
        ahead: the workers to start ahead of the first trial, where Ray is started here.

    Raises:
        SweepError: there is no cluster at that address.
    """
    own, folder, ahead = address in (None, _LOCAL), "", ahead or ray_internals.Ahead()
    environment.for_ray(own=own)
    settings: dict[str, Any] = {
        "log_to_driver": debug,
        "logging_level": logging.INFO if debug else logging.CRITICAL,
        "configure_logging": True,
    }
    if not str(address).startswith("ray://"):  # its server has a path of its own
        settings["job_config"] = ray_internals.job_config()
    if not debug:
        ray_internals.silence()
    try:
        with ray_internals.without_signal_handler():
            if own:
                folder = check_start()
                with kept_from_children(), ray_internals.lean_processes(ahead, log=debug), ray_internals.on_loopback():
                    ray.init(
                        address=_LOCAL,  # otherwise Ray would use RAY_ADDRESS
                        _temp_dir=folder,
                        num_cpus=available_cores(),
                        include_dashboard=False,
                        object_store_memory=_OBJECT_STORE_BYTES,
                        _system_config=ahead.settings(),
                        **settings,
                    )
            else:
                ray.init(address=address, **settings)
    except SweepError:
        raise
    except Exception as error:  # Ray raises many kinds, also this one
        why = reason_of(error)
        if own:
            names = ", ".join(environment.system_of_ray())
            condition = f", with {names} in the environment" if names else ""
            raise SweepError(
                f"Ray does not start on this machine{condition}: {why.rstrip('.')}; what its processes wrote is in "
                f"{folder}/{ray_internals.LOGS}"
            ) from error
        if address == "auto" and isinstance(error, ConnectionError):
            why = "none runs on this machine"
        elif "RAY_AUTH_MODE" not in os.environ:
            why += "; where Ray was started with a token, RAY_AUTH_MODE=token must be set here too"
        raise _unreached(str(address), why) from error
    with ray_internals.off_stdout(shown=debug):
        try:
            yield _current_cluster()
        finally:
            if not _local_node_died():
                _shut_down()
            elif own:
                # ray.shutdown would end this process immediately, before it has written its data.
                ray_internals.kill_started_processes()


def check_start() -> str:
    """Check what Ray needs to start on this machine, and return the folder for its files.

    Raises:
        SweepError: something is missing.
    """
    _check_loopback()
    _check_file_size()
    return _folder_of_ray()


def _check_file_size() -> None:
    """Check that the file of Ray's objects may be as large as it is. Ray itself would wait for half a minute.

    Raises:
        InputError: it may not.
    """
    most, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    if most != resource.RLIM_INFINITY and most < _OBJECT_STORE_BYTES:
        raise InputError(
            f"Ray does not start on this machine: files are limited to {most} bytes, and Ray needs one of "
            f"{_OBJECT_STORE_BYTES}; raise the limit (`ulimit -f unlimited`)"
        )


def _folder_of_ray() -> str:
    """Return the folder for the files of a Ray that is started on this machine.

    Raises:
        InputError: nothing can be written there, or RAY_TMPDIR is no folder for Ray.
    """
    if named := os.environ.get("RAY_TMPDIR"):
        try:
            return _usable_by_ray(expanded(named))
        except (InputError, PathError) as error:
            raise InputError(f"RAY_TMPDIR = {named}: {error}; name another folder in RAY_TMPDIR") from error
    chosen = os.environ.get("TMPDIR")
    if chosen and Path(chosen).is_dir():
        with suppress(InputError):  # nobody chose it for Ray
            return _usable_by_ray(Path(chosen))
    try:
        return _usable_by_ray(Path(_TEMPORARY))
    except InputError as error:
        raise InputError(f"{_TEMPORARY}: {error}; name another folder in RAY_TMPDIR") from error


def _usable_by_ray(folder: Path) -> str:
    """Return the folder for Ray's files in a folder.

    Raises:
        InputError: it cannot be used; the message does not name it.
    """
    folder = folder.absolute()
    length = len(os.fsencode(folder))
    if length > _MOST_BYTES:
        raise InputError(
            f"a path of {length} bytes; expected {_MOST_BYTES} at most, since the names of Ray's sockets begin with it"
        )
    if not str(folder).isascii():
        raise InputError("Ray needs a path of ASCII characters alone")
    files = folder / "ray"
    try:
        files.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=files) as probe:
            probe.write(bytes(_LEAST_BYTES))  # on a full disk, Ray would wait for files that it cannot write
    except OSError as error:
        raise InputError(f"Ray cannot write its files there: {error.strerror}") from error
    return str(files)


def _check_loopback() -> None:
    """Check that processes of this machine can connect to each other. Ray itself would try for minutes.

    Raises:
        SweepError: they cannot.
    """
    try:
        with socket.create_server(("127.0.0.1", 0)) as server:
            socket.create_connection(server.getsockname(), timeout=10).close()
    except OSError as error:
        raise SweepError(
            f"Ray does not start on this machine: its processes cannot connect to each other at 127.0.0.1: "
            f"{error.strerror or error}; check the loopback interface (`ip link set lo up`) and the firewall"
        ) from error


def _shut_down() -> None:
    """Free all Ray objects, then leave the cluster.

    If the garbage collector of another thread frees a Ray object while Ray shuts down, this process ends immediately,
    and MLflow's writer loses its work.
    """
    gc.collect()
    gc.disable()
    try:
        ray.shutdown()
    finally:
        gc.enable()


def _current_cluster() -> Cluster:
    """Return the machines in the connected cluster now; machines may join and leave at any time."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    return Cluster(tuple(Node(found.get("CPU", 0.0), found.get("GPU", 0.0)) for found in nodes))


def _local_node_died() -> bool:
    """Return whether Ray's node on this machine has died; this process would then wait for ever."""
    if ray_internals.is_own():
        return ray_internals.own_ray_died()
    own = ray.get_runtime_context().get_node_id()
    nodes = ray.nodes()  # type: ignore[no-untyped-call]
    return not any(node["Alive"] for node in nodes if node["NodeID"] == own)


def check_address(address: str) -> None:
    """Check that something answers at an address. Ray itself would try for minutes.

    Raises:
        InputError: the text is not an address.
        SweepError: nothing answers at that address.
    """
    if address in ("auto", _LOCAL):
        return  # Ray finds a cluster on this machine, or starts one
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > _LAST_PORT or re.search(r"[/\s]", host):
        raise InputError(f"{_named(address)}: expected HOST:PORT, such as head:6379, or auto{_instead(address)}")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except UnicodeError as error:
        raise _unreached(address, "there can be no host of this name") from error
    except OSError as error:
        raise _unreached(address, str(error)) from error


def _named(address: str) -> str:
    """Return a cluster's name for messages; it includes the source of an address that the user did not type."""
    return f"the Ray cluster at {address!r}{' (RAY_ADDRESS)' if _is_of_environment(address) else ''}"


def _unreached(address: str, why: str) -> SweepError:
    return SweepError(f"cannot reach {_named(address)}: {why}{_instead(address)}")


def _instead(address: str) -> str:
    return "; --address local starts one on this machine" if _is_of_environment(address) else ""


def _is_of_environment(address: str) -> bool:
    return address == os.environ.get("RAY_ADDRESS", "").strip()


class _NotSaved:
    """Base class of objects without state in Ray's snapshots of an experiment: no snapshot is ever restored."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class _StudySearcher(_NotSaved, Searcher):
    """Proposes the study's next trial to Ray, but no more trials than fit on the nodes at the same time."""

    def __init__(self, run: StudyRun, fixed: dict[str, Any], home: Home, stop: _StudyStopper) -> None:
        super().__init__(metric=None, mode=None)
        self._run, self._fixed, self._home, self._stop = run, fixed, home, stop
        self._slots, self._check_at = 0, 0.0

    def suggest(self, trial_id: str) -> Any:  # noqa: ARG002
        # While no trial runs, Ray asks the searcher for minutes before it asks the stopper.
        if self._run.exhausted or self._stop.requested:
            return str(Searcher.FINISHED)
        if len(self._run.active) >= self._total_slots():
            return None
        trial = self._run.next_trial()
        if trial is None:
            return str(Searcher.FINISHED) if self._run.exhausted else None
        number = trial.job.number
        return {
            "number": number,
            "name": trial.job.name,
            "config": trial.job.config.to_dict(),
            "checkpoint": str(self._home.checkpoint(self._run.spec.name, number)),
            "network": self._network(trial.job),
            "log": str(self._home.trial_log(self._run.spec.name, number)),
            **self._fixed,
        }

    def _network(self, job: Job) -> dict[str, Any] | None:
        """Return where a trial writes its network, and what it says there; None where the study keeps none."""
        spec = self._run.spec
        if not spec.keep.any:
            return None
        return {
            "path": str(self._home.network(spec.name, job.number)),
            "about": {
                "study": spec.name,
                "trial": job.name,
                "trainer": self._fixed["trainer"],
                "metric": spec.objective.metric,
                "target": spec.objective.target,
            },
        }

    def _total_slots(self) -> int:
        """Return how many trials fit on the current nodes."""
        if time.monotonic() >= self._check_at:
            # No machine joins a Ray that was started here.
            self._check_at = math.inf if ray_internals.is_own() else time.monotonic() + _CHECK_SECONDS
            self._slots = sum(node.slots(self._run.spec.resources) for node in _current_cluster().nodes)
        return self._slots

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Do nothing: the scheduler gets the results."""

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: the ledger keeps the trials."""

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing: the ledger keeps the trials."""


class _StudyScheduler(_NotSaved, TrialScheduler):
    """Passes each epoch to the study, and stops the trials that the study stops."""

    def __init__(self, run: StudyRun, stop: _StudyStopper, timeouts: _EpochTimeouts) -> None:
        self._run, self._stop, self._timeouts = run, stop, timeouts

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:  # noqa: ARG002
        number = result["number"]
        self._timeouts.heard(number, result)
        record = ray_internals.unflattened(result, "record")
        if result.get("ended"):
            self._run.ended(number)
            over = True
        elif not record:
            if not self._stop.requested:  # otherwise the trial ends here, before its first epoch
                self._run.place(number, ray_internals.unflattened(result, "placement"))
            over = False
        else:
            over = self._run.epoch(number, EpochRecord.from_dict(record))
        if over:
            self._timeouts.forget(number)
        return str(TrialScheduler.STOP if over or self._stop.requested else TrialScheduler.CONTINUE)

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """Do nothing: Ray calls this also when it restarts the trial; _StudyCallback distinguishes the cases."""

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None: ...

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None: ...

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None: ...

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        return None if self._stop.requested else ray_internals.pending_trial(tune_controller)

    def debug_string(self) -> str:
        return "stopping rules of the study"


class _StudyCallback(_NotSaved, tune.Callback):
    """Reports errors and restarts of trials to the study, and halts it when Ray's node on this machine dies."""

    def __init__(self, run: StudyRun, stop: _StudyStopper, timeouts: _EpochTimeouts) -> None:
        self._run, self._stop, self._timeouts, self._check_at = run, stop, timeouts, 0.0
        self._moves: Counter[int] = Counter()

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:  # noqa: ARG002
        number = trial.config["number"]
        error = self._timeouts.error_of(number) or ray_internals.last_error(trial)
        # A lost machine does not count as a retry of the trial. There is a limit because a trial that repeatedly makes
        # its own process unreachable causes the same error.
        if is_node_gone(error) and self._moves[number] < _MOST_MOVES:
            self._moves[number] += 1
            ray_internals.forgive_failure(trial)
        self._run.error(number, error, again=True)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:  # noqa: ARG002
        if _local_node_died():
            self._halt()
        number = trial.config["number"]
        error = self._timeouts.error_of(number) or ray_internals.last_error(trial)
        self._run.error(number, error, again=False)

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:  # noqa: ARG002
        self._stop.training = any(map(ray_internals.is_running, trials))
        self._timeouts.check()
        if time.monotonic() >= self._check_at:
            self._check_at = time.monotonic() + _CHECK_SECONDS
            if _local_node_died():
                self._halt()

    def _halt(self) -> None:
        self._run.halt(_NODE_GONE.format(self._run.spec.name))


class _EpochTimeouts:
    """Kills the process of a trial whose epoch takes longer than ``resources.epoch_timeout``.

    Ray then starts the trial again, or gives it up, as after any other death of its process. Time in which this
    process was held itself, by Ctrl-Z or by a database that was away, does not count.

    Args:
        limit: the seconds; None sets no limit.
    """

    def __init__(self, limit: float | None) -> None:
        self._limit = limit
        self._processes: dict[int, tuple[str, int]] = {}  # by number of a trial: its node's id, and its process
        self._heard: dict[int, float] = {}  # when each running trial began or ended its last epoch
        self._killed: set[int] = set()
        self._checked = math.inf  # when `check` was called last

    def heard(self, number: int, result: Mapping[str, Any]) -> None:
        """Note that a trial has begun, or has ended an epoch."""
        if "process" in result:
            self._processes[number] = (result["node_id"], result["process"])
        self._heard[number] = time.monotonic()

    def forget(self, number: int) -> None:
        """Note that a trial is over."""
        self._heard.pop(number, None)

    def check(self) -> None:
        """Kill the processes of trials that are over the limit."""
        if self._limit is None:
            return
        now = time.monotonic()
        held, self._checked = now - self._checked, now
        if held > _HELD_SECONDS:
            self._heard = {number: since + held for number, since in self._heard.items()}
        for number, since in list(self._heard.items()):
            if now - since > self._limit and number in self._processes:
                self.forget(number)
                self._killed.add(number)
                node, process = self._processes.pop(number)
                kill = ray.remote(num_cpus=0)(_kill)
                # On the trial's node, which need not be this machine.
                kill.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(process)

    def error_of(self, number: int) -> str | None:
        """Return the error of a trial whose process was killed here; None for any other trial."""
        self.forget(number)
        if number not in self._killed:
            return None
        self._killed.remove(number)
        return f"no epoch ended within {self._limit:g} s (resources.epoch_timeout)"


def _kill(process: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)


class _StudyStopper(_NotSaved, tune.Stopper):
    """Ends the experiment: at once if the study halts; after the current epochs at a signal or `sweeps stop`.

    Ray's own handling of a signal would leave these epochs only five seconds.
    """

    def __init__(self, run: StudyRun, home: Home, interrupts: Interrupts) -> None:
        self._run, self._home, self._interrupts = run, home, interrupts
        self.training = False
        """Whether trials are running."""
        self._requested = False

    @property
    def requested(self) -> bool:
        """Whether the study was asked to stop. Then no new trial begins, and running trials end after their epoch."""
        if not self._requested and (self._interrupts.stop_requested or self._home.asked_to_stop(self._run.spec.name)):
            # After `sweeps stop`, a single Ctrl-C stops at once.
            self._requested = self._interrupts.stop_requested = True
            self._run.stopping()
        return self._requested

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:  # noqa: ARG002
        return False

    def stop_all(self) -> bool:
        """Return whether to end the experiment; Ray calls this several times a second."""
        return self._run.halted is not None or (self.requested and not self.training)


def run_trials(
    run: StudyRun,
    home: Home,
    *,
    data_dir: Path,
    interrupts: Interrupts,
    sources: Mapping[str, Source] | None = None,
    trainable: type[TrialTrainable] | None = None,
) -> bool:
    """Run the study's trials until none is left, on the cluster that ray_cluster has connected to.

    Args:
        run: the study.
        home: the home folder.
        data_dir: folder of the data set.
        interrupts: the signals that may ask the study to stop.
        sources: the code that the study file names, by name.
        trainable: the class that trains a trial; None selects it by the study file.

    Returns:
        False if the study was asked to stop before its last trial ended.

    Raises:
        SweepError: the study cannot go on, because the disk is full for example, or Ray Tune failed.
    """
    resources = run.spec.resources
    _make_on_all_nodes(home.checkpoint(run.spec.name, 0).parent)
    trainer = run.spec.trainer
    fixed: dict[str, Any] = {
        "trainer": None if trainer is SHIPPED else trainer.name,
        "metric": run.spec.objective.metric,
        "code": [code_to_dict(source, copy_of(home, run.spec.name, source)) for source in (sources or {}).values()],
        "data_dir": str(data_dir),
        "threads": resources.cpus_per_trial,
        "gpus": resources.gpus_per_trial,
    }
    stop, timeouts = _StudyStopper(run, home, interrupts), _EpochTimeouts(resources.epoch_timeout)
    pool = None
    if resources.shared_process:
        from sweeps.execution.shared_process import start_pool
        from sweeps.execution.shared_trainable import SharedTrainable

        trainable, pool = trainable or SharedTrainable, start_pool()
    trainable = trainable or TrialTrainable
    # The folder of Ray Tune's own files; they are not read afterwards.
    storage = home.study(run.spec.name) / "ray"
    tuner = tune.Tuner(
        tune.with_resources(trainable, {"cpu": resources.cpus_per_trial, "gpu": resources.gpus_per_trial}),
        tune_config=tune.TuneConfig(
            search_alg=_StudySearcher(run, fixed, home, stop),
            scheduler=_StudyScheduler(run, stop, timeouts),
            num_samples=-1,
            reuse_actors=True,
            trial_dirname_creator=lambda trial: f"{trial.config['number']:05d}",
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(storage),
            stop=stop,
            callbacks=[_StudyCallback(run, stop, timeouts)],
            # The trainer saves its own checkpoint after every epoch.
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
            failure_config=tune.FailureConfig(max_failures=run.spec.search.retries),
            verbose=0,
            log_to_file=False,
        ),
    )
    if ray_internals.is_own():
        ray_internals.take_started_workers()
    try:
        _fit(tuner, run)
    except Exception as error:
        run.interrupt()
        said = f"{error}\n{''.join(traceback.format_exception(error))}"
        why = cause_of(ray_internals.without_colours(str(error)))
        if is_disk_full(said):
            why = disk_full_message(home.root, run.spec.name)
        raise SweepError(f"the study stopped: {run.halted or why}") from error
    finally:
        del pool  # ends the shared processes
        shutil.rmtree(storage, ignore_errors=True)
    if run.halted is not None:
        run.interrupt()
        raise SweepError(f"the study stopped: {run.halted}")
    if run.complete:
        return True
    run.interrupt()
    if not stop.requested:
        # When Ray loses this machine, Tune may end as if all trials were done.
        raise SweepError(f"the study stopped: Ray ended before it. Go on with `sweeps resume {run.spec.name}`")
    return False


def _fit(tuner: tune.Tuner, run: StudyRun) -> None:
    """Run Ray Tune in another thread, and halt the study if a Ray that was started here dies.

    Ray Tune asks Ray in many places. If it has died, each question waits for a minute, and then ends this process. In
    the main thread Ray Tune would also install its own handlers of signals.
    """
    over: Future[None] = Future()

    def fit() -> None:
        try:
            tuner.fit()
            over.set_result(None)
        except BaseException as error:
            over.set_exception(error)

    threading.Thread(target=fit, name="ray-tune", daemon=True).start()
    while not wait([over], _POLL_SECONDS).done:
        if ray_internals.own_ray_died():
            run.halt(_NODE_GONE.format(run.spec.name))
            return
    over.result()


def _make_on_all_nodes(folder: Path) -> None:
    """Create a folder, and check that every node can reach it.

    Raises:
        SweepError: a node cannot reach the folder; the message names the node.
    """
    folder.mkdir(parents=True, exist_ok=True)
    is_dir = ray.remote(num_cpus=0)(os.path.isdir)
    own = ray.get_runtime_context().get_node_id()
    answers = [
        (
            node["NodeManagerHostname"],
            is_dir.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)).remote(
                str(folder)
            ),
        )
        for node in ray.nodes()  # type: ignore[no-untyped-call]
        if node["Alive"] and node["NodeID"] != own
    ]
    missing = []
    for host, answer in answers:
        with suppress(ray.exceptions.RayError):  # the node has left meanwhile
            missing += [] if ray.get(answer) else [host]
    if missing:
        raise SweepError(
            f"node {missing[0]} of the Ray cluster does not have {folder}: choose a --home on a file system that all "
            "nodes share, under the same path on each"
        )
