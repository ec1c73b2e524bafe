"""Ray Tune: places trials, keeps their actors, starts them again after errors."""

from __future__ import annotations

import gc
import logging
import os
import re
import shutil
import socket
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from resnet_core.records import EpochRecord
from sweeps.causes import cause_of, disk_full, is_disk_full, is_node_gone
from sweeps.errors import InputError, SweepError, reason_of
from sweeps.execution.cluster import Cluster, Node, available_cores
from sweeps.execution.interrupts import Interrupts
from sweeps.home import Home
from sweeps.study.run import StudyRun

# Read by Ray when it is imported.
_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",  # what it prints on stdout it prints at any verbosity
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    # Ray's own snapshot of the experiment is never restored from: the ledger is what a study resumes by.
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    # So many actors may be starting at once; trials are proposed for free slots only.
    "TUNE_MAX_PENDING_TRIALS_PG": "1024",
}
for _name, _value in _SETTINGS.items():
    os.environ.setdefault(_name, _value)

import ray  # noqa: E402
from ray import tune  # noqa: E402
from ray.tune.schedulers import TrialScheduler  # noqa: E402
from ray.tune.search import Searcher  # noqa: E402
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy  # noqa: E402

from sweeps.execution.shared_process import offer_processes  # noqa: E402
from sweeps.execution.trainable import SharedTrainable, TrialTrainable  # noqa: E402

_MOST_MOVES = 10  # times a launch moves a trial off a machine that is gone, beside its tries
_LOOK_SECONDS = 2.0  # between two looks at which nodes are there
_OWN = "local"  # the address by which Ray starts a cluster on this machine
_OBJECT_STORE_BYTES = 128 * 1024**2  # results are small; Ray's default is a third of the memory


@contextmanager
def cluster(address: str | None, *, debug: bool = False) -> Iterator[Cluster]:
    """Connect to the Ray cluster at ``address``, or start one on this machine, for as long as the block lasts.

    Raises:
        SweepError: there is no cluster at that address.
    """
    own = address in (None, _OWN)
    quiet: dict[str, Any] = {
        "log_to_driver": debug,
        "logging_level": logging.INFO if debug else logging.CRITICAL,
        "configure_logging": True,
    }
    if not debug:
        for name in ("ray", "ray.tune", "ray.data", "ray.train"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        if own:
            ray.init(
                address=_OWN,  # without it Ray would look at RAY_ADDRESS
                num_cpus=available_cores(),
                include_dashboard=False,
                object_store_memory=_OBJECT_STORE_BYTES,
                **quiet,
            )
        else:
            ray.init(address=address, **quiet)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        why = reason_of(error)
        if own:
            raise SweepError(f"Ray does not start on this machine: {why}") from error
        if address == "auto" and isinstance(error, ConnectionError):
            why = "none runs on this machine"
        elif "RAY_AUTH_MODE" not in os.environ:
            why += "; where Ray was started with a token, RAY_AUTH_MODE=token must be set here too"
        raise _unreached(str(address), why) from error
    try:
        yield _present()
    finally:
        if _own_node_is_gone():
            # To leave such a cluster ends this process on the spot, before it has said and written what it must:
            # What Ray started here is ended now; at its exit the process looks for it for a minute.
            node = ray._private.worker._global_node
            if own and node is not None:
                node.kill_all_processes(check_alive=False, allow_graceful=False)
        else:
            _leave()


def _leave() -> None:
    """Leave the cluster, with nothing of Ray's left to free.

    A reference that another thread's garbage collection frees while Ray's core shuts down ends this process on the
    spot, with MLflow's writer in the middle of its work.
    """
    gc.collect()
    gc.disable()
    try:
        ray.shutdown()
    finally:
        gc.enable()


def _present() -> Cluster:
    """Return the connected cluster's machines as they are now: they may join and leave at any time."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    return Cluster(tuple(Node(found.get("CPU", 0.0), found.get("GPU", 0.0)) for found in nodes))


def _own_node_is_gone() -> bool:
    """Return whether the part of Ray on this machine has died; without it this process waits for ever."""
    own = ray.get_runtime_context().get_node_id()
    nodes = ray.nodes()  # type: ignore[no-untyped-call]
    return not any(node["Alive"] for node in nodes if node["NodeID"] == own)


def check_address(address: str) -> None:
    """Find a cluster that is not there at once; Ray itself would try for minutes.

    Raises:
        InputError: it is no address.
        SweepError: nothing answers at that address.
    """
    if address in ("auto", _OWN):
        return  # Ray looks for a cluster on this machine, or starts one
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit() or "/" in host:
        raise InputError(f"{_named(address)}: expected HOST:PORT, such as head:6379, or auto")
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise _unreached(address, str(error)) from error


def _named(address: str) -> str:
    """Return how a message names a cluster: where the address comes from matters to who did not type it."""
    whose = " (RAY_ADDRESS)" if address == os.environ.get("RAY_ADDRESS") else ""
    return f"the Ray cluster at {address!r}{whose}"


def _unreached(address: str, why: str) -> SweepError:
    instead = "; --address local starts one on this machine" if address == os.environ.get("RAY_ADDRESS") else ""
    return SweepError(f"cannot reach {_named(address)}: {why}{instead}")


class _Unsaved:
    """Is left out of Ray's snapshots of an experiment, which are never restored from."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class _Proposals(_Unsaved, Searcher):
    """Hands out the study's trials, never more at once than fit."""

    def __init__(self, run: StudyRun, fixed: dict[str, Any], home: Home, stop: _Stop) -> None:
        super().__init__(metric=None, mode=None)
        self._run, self._fixed, self._home, self._stop = run, fixed, home, stop
        self._slots, self._look_at = 0, 0.0

    def suggest(self, trial_id: str) -> Any:  # noqa: ARG002
        # While nothing runs here, Ray asks for trials for minutes before it looks whether to stop.
        if self._run.exhausted or self._stop.asked:
            return str(Searcher.FINISHED)
        if len(self._run.active) >= self._at_once():
            return None
        trial = self._run.next_trial()
        if trial is None:
            return str(Searcher.FINISHED) if self._run.exhausted else None
        number = trial.job.number
        return {
            "number": number,
            "config": trial.job.config.to_dict(),
            "checkpoint": str(self._home.checkpoint(self._run.spec.name, number)),
            "log": str(self._home.trial_log(self._run.spec.name, number)),
            **self._fixed,
        }

    def _at_once(self) -> int:
        """Return how many trials fit on the nodes that are there now; none while those that fit one are away."""
        if time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + _LOOK_SECONDS
            self._slots = sum(node.slots(self._run.spec.resources) for node in _present().nodes)
        return self._slots

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Do nothing: the scheduler hears of ends."""

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: the ledger keeps what there is to keep."""

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing: the ledger keeps what there is to keep."""


class _Judge(_Unsaved, TrialScheduler):
    """Passes epochs on to the study and ends the trials that it ends."""

    def __init__(self, run: StudyRun, stop: _Stop) -> None:
        self._run, self._stop = run, stop

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:  # noqa: ARG002
        number = result["number"]
        record = _nested(result, "record/")
        if not record:
            self._run.place(number, _nested(result, "placement/"))
            over = False
        else:
            over = self._run.epoch(number, EpochRecord(**record))
        return str(TrialScheduler.STOP if over or self._stop.asked else TrialScheduler.CONTINUE)

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """Do nothing: Ray calls this for trials that it starts again too; the callback knows which is which."""

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None: ...

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None: ...

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None: ...

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        for trial in tune_controller.get_trials():
            if trial.status == "PENDING":
                return trial
        return None

    def debug_string(self) -> str:
        return "stopping rules of the study"


class _Watch(_Unsaved, tune.Callback):
    """Tells the study of errors, and whether Ray starts the trial again; notices what runs, and that Ray is gone."""

    def __init__(self, run: StudyRun, stop: _Stop) -> None:
        self._run, self._stop, self._look_at = run, stop, 0.0
        self._moves: Counter[int] = Counter()

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:  # noqa: ARG002
        error = _error_of(trial)
        number = trial.config["number"]
        # Machines come and go; that uses up none of a trial's tries. Not for ever: a trial that stalls its process
        # again and again looks the same from here.
        if is_node_gone(error) and self._moves[number] < _MOST_MOVES:
            self._moves[number] += 1
            trial.run_metadata.num_failures -= 1
        self._run.error(number, error, again=True)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:  # noqa: ARG002
        if _own_node_is_gone():
            self._halt()
        self._run.error(trial.config["number"], _error_of(trial), again=False)

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:  # noqa: ARG002
        self._stop.training = any(trial.status == "RUNNING" for trial in trials)
        if time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + _LOOK_SECONDS
            if _own_node_is_gone():
                self._halt()

    def _halt(self) -> None:
        self._run.halt(f"Ray's node on this machine is gone. Go on with `sweeps resume {self._run.spec.name}`")


class _Stop(_Unsaved, tune.Stopper):
    """Ends the experiment: at once where the study halts, after the epochs under way where it is asked to finish.

    Ray itself would give these epochs five seconds. A signal asks, or `sweeps stop`.
    """

    def __init__(self, run: StudyRun, home: Home, interrupts: Interrupts) -> None:
        self._run, self._home, self._interrupts = run, home, interrupts
        self.training = False
        """Whether Ray has trials under way."""
        self._asked = False

    @property
    def asked(self) -> bool:
        """Whether the study was asked to finish: no trial begins any more, and those that run end with their epoch."""
        if not self._asked and (self._interrupts.asked or self._home.asked_to_stop(self._run.spec.name)):
            # Whoever asked by a file may press Ctrl-C once to stop at once.
            self._asked = self._interrupts.asked = True
            self._run.stopping()
        return self._asked

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:  # noqa: ARG002
        return False

    def stop_all(self) -> bool:
        """Return whether to end; Ray asks several times a second."""
        return self._run.halted is not None or (self.asked and not self.training)


def run_trials(
    run: StudyRun,
    home: Home,
    *,
    data_dir: Path,
    interrupts: Interrupts,
    trainable: type[TrialTrainable] | None = None,
) -> bool:
    """Run the study's trials until none is left; return False where it was interrupted before.

    Args:
        run: the study.
        home: where things are.
        data_dir: folder of CIFAR-10.
        interrupts: whether the launch was asked to finish.
        trainable: what trains; a subclass may bring its own epochs. None is the one that the study asks for.

    Raises:
        SweepError: the study cannot go on, for want of space on the disk, say, or Ray Tune itself failed.
    """
    resources = run.spec.resources
    _share(home.checkpoint(run.spec.name, 0).parent)
    fixed = {
        "data_dir": str(data_dir),
        "threads": resources.cpus_per_trial,
        "gpus": resources.gpus_per_trial,
    }
    stop = _Stop(run, home, interrupts)
    if trainable is None:
        trainable = SharedTrainable if resources.shared_process else TrialTrainable
    processes = offer_processes() if resources.shared_process else None
    # Trials train nothing in Ray's own folder; it holds Tune's bookkeeping, which nothing reads afterwards.
    storage = home.study(run.spec.name) / "ray"
    tuner = tune.Tuner(
        tune.with_resources(trainable, {"cpu": resources.cpus_per_trial, "gpu": resources.gpus_per_trial}),
        tune_config=tune.TuneConfig(
            search_alg=_Proposals(run, fixed, home, stop),
            scheduler=_Judge(run, stop),
            num_samples=-1,
            reuse_actors=True,
            trial_dirname_creator=lambda trial: f"{trial.config['number']:05d}",
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(storage),
            stop=stop,
            callbacks=[_Watch(run, stop)],
            # The trainer saves by itself, after every epoch.
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
            failure_config=tune.FailureConfig(max_failures=run.spec.search.retries),
            verbose=0,
            log_to_file=False,
        ),
    )
    try:
        with interrupts.listening():  # once more: Ray takes SIGTERM for itself when it starts
            tuner.fit()
    except Exception as error:
        run.interrupt()
        said = f"{error}\n{''.join(traceback.format_exception(error))}"
        why = disk_full(home.root, run.spec.name) if is_disk_full(said) else cause_of(_ANSI.sub("", str(error)))
        raise SweepError(f"the study stopped: {run.halted or why}") from error
    finally:
        del processes
        shutil.rmtree(storage, ignore_errors=True)
    if run.halted is not None:
        run.interrupt()
        raise SweepError(f"the study stopped: {run.halted}")
    if run.complete:
        return True
    run.interrupt()
    if not stop.asked:
        # Where Ray loses the machine, Tune may end as if everything were done.
        raise SweepError(f"the study stopped: Ray ended before it. Go on with `sweeps resume {run.spec.name}`")
    return False


def _share(folder: Path) -> None:
    """Make a folder, and see that every node has it.

    Raises:
        SweepError: a node does not; the message names it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    look = ray.remote(num_cpus=0)(os.path.isdir)
    own = ray.get_runtime_context().get_node_id()
    asked = [
        (
            node["NodeManagerHostname"],
            look.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)).remote(
                str(folder)
            ),
        )
        for node in ray.nodes()  # type: ignore[no-untyped-call]
        if node["Alive"] and node["NodeID"] != own
    ]
    missing = []
    for host, answer in asked:
        with suppress(ray.exceptions.RayError):  # it left meanwhile
            missing += [] if ray.get(answer) else [host]
    if missing:
        raise SweepError(
            f"node {missing[0]} of the Ray cluster does not have {folder}: choose a --home on a file system that all "
            "nodes share, under the same path on each"
        )


def _nested(flat: dict[str, Any], prefix: str) -> dict[str, Any]:
    return {key.removeprefix(prefix): value for key, value in flat.items() if key.startswith(prefix)}


_ANSI = re.compile(r"\x1b\[[0-9;]*m")


def _error_of(trial: Any) -> str:
    """Return the text of a trial's last error, without colours."""
    # Ray writes it beside the trial at once; what trial.get_error() reads is a copy that is made later.
    written = Path(trial.local_path) / "error.txt"
    text = _ANSI.sub("", written.read_text() if written.exists() else "") or "unknown error"
    return text.rsplit("Failure # ", 1)[-1].strip()
