"""The thread that writes a study to MLflow: everything in order, and only once.

No decision of a running sweep depends on MLflow, and training never waits for it. While the store cannot be written,
the entries wait on disk, in order. sweeps.tracking.runs applies an entry to the store.
"""

from __future__ import annotations

import json
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Container, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, TypeGuard

from resnet_core import schema
from resnet_core.records import EpochRecord, Outcome
from sweeps.errors import SweepError, reason_of
from sweeps.study.outcomes import Result
from sweeps.study.protocols import WrittenRun
from sweeps.study.trials import Job
from sweeps.tracking.runs import LogEntry, MlflowStudy, tag_text, timestamp
from sweeps.tracking.spool import Spool

_log = logging.getLogger(__name__)
_TRIES = 6  # if a caller waits for the store; the pauses between the tries are 0.5, 1, 2, 4 and 8 s
_LONGEST_WAIT = 30.0  # seconds between two tries while the study runs
_NOTE_SECONDS = 5.0  # between two writings of the note
_FIRST_EPOCH_SECONDS = 10.0  # longest wait for the first epoch before a new store is made
_EPOCHS_SECONDS = 0.05  # time that an epoch waits for others, to be written with them
_MOST_EPOCHS = 50  # of a trial in one request: an MLflow server accepts 1,000 values
MLFLOW_STATUS = {
    Outcome.REACHED: "FINISHED",
    Outcome.EXHAUSTED: "FINISHED",
    Outcome.PRUNED: "KILLED",
    Outcome.DIVERGED: "FAILED",
    Outcome.CRASHED: "FAILED",
}
"""MLflow's status of a run for each outcome of its trial."""


@dataclass(frozen=True)
class _Question:
    """A question to the thread. It is answered once all items ahead of it in the queue are in the store."""

    ask: Callable[[], Any]
    answer: Future[Any]


_Item: TypeAlias = tuple[LogEntry, Callable[[], None] | None] | _Question | None
"""An item for the thread: an entry with a function to call once it is in the store, a question, or None to end it."""


class Tracker:
    """Writes one study to MLflow in a thread. Only ``written``, ``refresh``, ``adopt`` and ``close`` wait for it.

    When a write fails, this entry and all later ones wait in the spool. This process writes them, in order, when the
    store can be written again; else the next process does. What the store refuses although it is there is set aside:
    it stays in the spool for the next process, and the entries after it are written.

    Args:
        runs: the study in MLflow; from now on only the thread may use it.
        spool: the file in which entries wait while the store cannot be written.
        owns: returns whether this driver still runs the trial with a number; entries of other trials are dropped.
        kept: returns the epochs in a trial's checkpoint, to begin a run again that was removed from MLflow.
    """

    def __init__(
        self,
        runs: MlflowStudy,
        spool: Path,
        owns: Callable[[int], bool] = lambda number: True,
        kept: Callable[[int], Sequence[EpochRecord]] = lambda number: (),
    ) -> None:
        self._runs, self._owns, self._kept = runs, owns, kept
        self._note_at = 0.0
        self._queue: queue.SimpleQueue[_Item] = queue.SimpleQueue()
        self._spool = Spool(spool)
        # Entries that wait for the store, each with a function to call once it is there; the first _spooled on disk.
        self._waiting: deque[tuple[LogEntry, Callable[[], None] | None]] = deque((e, None) for e in self._spool.read())
        self._spooled = len(self._waiting)
        self._refused: list[LogEntry] = []
        self._behind = True  # the study is not opened yet
        self._nothing_written = runs.in_new_file and not self._waiting
        self._failures, self._retry_at = 0, 0.0
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._write, name="mlflow-writer", daemon=True)
        self._thread.start()

    def written(self) -> dict[int, WrittenRun]:
        """Return, by trial number, the status of the trial's run and, unless it has ended, its written epochs.

        A new store has none, and is not waited for: it is made after the first epoch.

        Raises:
            SweepError: the store could not be used for 15 seconds.
        """
        if self._nothing_written:
            return {}
        known: dict[int, WrittenRun] = self._ask(self._runs.written)
        return known

    def refresh(self) -> dict[int, WrittenRun]:
        """Read the store again, since other drivers write to it too, and return the same as ``written``.

        Raises:
            SweepError: as ``written``.
        """
        self._ask(self._runs.refresh)
        return self.written()

    def adopt(self, job: Job) -> frozenset[int]:
        """Continue the run of a trial that another driver began; return the run's written epochs.

        Raises:
            SweepError: as ``written``.
        """
        epochs: frozenset[int] = self._ask(lambda: self._runs.adopt(job.number))
        return epochs

    def status_of(self, outcome: Outcome) -> str:
        """Return the status of a run whose trial ended with this outcome."""
        return MLFLOW_STATUS[outcome]

    def begin(self, job: Job) -> None:
        """Begin the trial's run, or continue it."""
        self._put(begin_entry(job, self._runs.tags))

    def place(self, job: Job, placement: dict[str, str]) -> None:
        """Tag the trial's run with its placement: device, GPUs, node."""
        self._put({"do": "place", "trial": job.number, "tags": placement})

    def epoch(self, job: Job, record: EpochRecord) -> None:
        """Write the metrics of one epoch; epochs that follow within a short time go into the same request."""
        self._put(epochs_entry(job, [record.to_dict()]))

    def end(self, job: Job, result: Result, then: Callable[[], None] | None = None) -> None:
        """Write how the trial ended and close its run; ``then`` is called once both are in the store."""
        self._put(end_entry(job, result, self._runs.metric), then)

    def pause(self, jobs: list[Job]) -> None:
        """Give the runs of interrupted trials the status SCHEDULED: they are continued later."""
        for job in jobs:
            self._put({"do": "pause", "trial": job.number})

    def close(self, status: str, expired: Collection[str] = ()) -> None:
        """Close the parent run with an MLflow status and wait until everything is written.

        Args:
            status: MLflow's status for the parent run.
            expired: names of drivers whose leases have expired; parent runs that they left open become KILLED.

        Raises:
            SweepError: some entries could not be written; they wait in the spool for `sweeps resume`.
        """
        try:
            self._ask(lambda: self._runs.close(status, expired))
        except SweepError as error:
            raise SweepError(
                f"{error}. Nothing is lost: `sweeps resume {self._runs.study}` writes what is missing"
                + (f"; it waits in {self._spool.path}." if self._spooled else ".")
            ) from error
        else:
            if self._refused:
                trials = ", ".join(str(number) for number in sorted({entry["trial"] for entry in self._refused}))
                raise SweepError(
                    f"MLflow ({self._runs.shown}) refused what belongs to the trials with the numbers {trials}; all "
                    f"else is written. It is kept in {self._spool.path} until `sweeps resume {self._runs.study}`"
                )
        finally:
            self._queue.put(None)
            self._thread.join()

    def _put(self, entry: LogEntry, then: Callable[[], None] | None = None) -> None:
        self._nothing_written = False
        self._queue.put((entry, then))

    def _ask(self, ask: Callable[[], Any]) -> Any:
        self._nothing_written = False
        question = _Question(ask, Future())
        self._queue.put(question)
        return question.answer.result()

    # The methods below run in the thread.

    def _write(self) -> None:
        ahead: deque[_Item] = deque()  # items that were taken from the queue and come next
        if self._nothing_written:
            self._await_first_epoch(ahead)
        while True:
            if self._behind and time.monotonic() >= self._retry_at:
                self._catch_up()
            elif self._runs.note_changed and time.monotonic() >= self._note_at:
                self._runs.write_note()
                self._note_at = time.monotonic() + _NOTE_SECONDS
            try:
                item = ahead.popleft() if ahead else self._queue.get(timeout=self._wait())
            except queue.Empty:
                continue
            if item is None:
                return
            if isinstance(item, _Question):
                self._answer(item)
            elif _is_epochs(item):
                for entry in self._gathered(item[0], ahead):
                    self._take(entry, None)
            else:
                self._take(*item)

    def _await_first_epoch(self, ahead: deque[_Item]) -> None:
        """Wait until an epoch is to be written, 10 s at most after the first item; put the items into ``ahead``.

        Importing MLflow takes seconds of computing. The first trials need them to begin.
        """
        ahead.append(self._queue.get())
        until = time.monotonic() + _FIRST_EPOCH_SECONDS
        with suppress(queue.Empty):
            while isinstance(item := ahead[-1], tuple) and not _is_epochs(item):
                ahead.append(self._queue.get(timeout=_seconds_until(until)))

    def _gathered(self, first: LogEntry, ahead: deque[_Item]) -> list[LogEntry]:
        """Return these epochs and those that follow directly, as one entry per trial; other items go to ``ahead``."""
        if not ahead and self._queue.empty():
            time.sleep(_EPOCHS_SECONDS)
        with suppress(queue.Empty):
            while True:
                ahead.append(self._queue.get_nowait())
        epochs = {first["trial"]: list(first["epochs"])}
        while ahead and _is_epochs(item := ahead[0]):
            of_trial = epochs.setdefault(item[0]["trial"], [])
            if len(of_trial) == _MOST_EPOCHS:
                break
            of_trial.extend(item[0]["epochs"])
            ahead.popleft()
        return [{"do": "epochs", "trial": trial, "epochs": of_trial} for trial, of_trial in epochs.items()]

    def _wait(self) -> float | None:
        """Return the seconds until there is work even without a new item; None for never."""
        if self._behind:
            return _seconds_until(self._retry_at)
        return _seconds_until(self._note_at) if self._runs.note_changed else None

    def _take(self, entry: LogEntry, then: Callable[[], None] | None) -> None:
        """Write an entry, or append it to the waiting ones."""
        if not self._behind:
            try:
                self._apply(entry, then)
                return
            except Exception as error:
                self._fall_behind(error)
        self._waiting.append((entry, then))
        # This includes entries that could not be saved earlier: the spool must have no gap.
        if self._save([entry for entry, _ in list(self._waiting)[self._spooled :]]):
            self._spooled = len(self._waiting)

    def _save(self, entries: Sequence[LogEntry]) -> bool:
        """Append entries to the spool; return whether they are there."""
        try:
            self._spool.append(entries)
        except OSError as error:
            _log.error("%s cannot be written (%s): what MLflow lacks waits in memory alone", self._spool.path, error)
            return False
        return True

    def _answer(self, question: _Question) -> None:
        """Write the waiting entries, retry for a while if that fails, and answer."""
        for attempt in range(_TRIES):
            if attempt:
                time.sleep(_pause(attempt - 1))
            if self._behind:
                self._catch_up()
            if not self._behind:
                try:
                    question.answer.set_result(self._repaired(question.ask, self._runs.open))
                    return
                except Exception as error:
                    self._fall_behind(error)
            if isinstance(self._failure, SweepError):
                break  # waiting does not help
        assert self._failure is not None
        question.answer.set_exception(
            SweepError(f"MLflow ({self._runs.shown}) cannot be used: {self._runs.reason_of(self._failure)}")
        )

    def _catch_up(self) -> None:
        """Read the store, since it may hold entries that it did not confirm; then write the waiting entries."""
        try:
            self._runs.open()
            while self._waiting:
                self._apply(*self._waiting[0])
                self._waiting.popleft()
                self._spooled = max(0, self._spooled - 1)
            self._spool.clear()
            if self._refused:
                self._spool.append(self._refused)
        except Exception as error:
            self._fall_behind(error)
            return
        if self._failures:
            _log.warning("MLflow (%s) is written again, and has what waited", self._runs.shown)
        self._behind, self._failures, self._failure = False, 0, None

    def _fall_behind(self, error: Exception) -> None:
        if self._failure is None:
            _log.warning(
                "MLflow (%s) cannot be written: %s. What it lacks waits in %s, and is written when it can be.",
                self._runs.shown,
                reason_of(error),
                self._spool.path,
            )
        self._retry_at = time.monotonic() + _pause(self._failures)
        self._behind, self._failure = True, error
        self._failures += 1

    def _apply(self, entry: LogEntry, then: Callable[[], None] | None) -> None:
        number = entry["trial"]
        if not self._owns(number):
            return  # another driver has taken the trial over and writes its entries
        try:
            self._repaired(lambda: self._runs.apply(entry), lambda: self._repair(entry))
        except Exception as error:
            if not self._runs.refuses(error):
                raise
            self._set_aside(entry, error)
            return
        if then is not None and not self._has_refused(number):  # else the checkpoint is still needed
            then()

    def _has_refused(self, number: int) -> bool:
        return any(entry["trial"] == number for entry in self._refused)

    def _repaired(self, write: Callable[[], Any], repair: Callable[[], None]) -> Any:
        """Write; if the store refuses that, repair what somebody may have deleted in it, and write again."""
        try:
            return write()
        except Exception as error:
            if not self._runs.refuses(error):
                raise
        repair()
        return write()

    def _repair(self, entry: LogEntry) -> None:
        number = entry["trial"]
        if self._has_refused(number):
            return
        self._runs.repair(number)
        # Not an epoch more than this process has been told: a later one was not judged.
        until = entry["epochs"][0]["epoch"] if entry["do"] == "epochs" else entry.get("step", 0) + 1
        lacking = [record.to_dict() for record in self._kept(number) if record.epoch < until]
        for first in range(0, len(lacking), _MOST_EPOCHS):
            self._runs.apply(_epochs_of(number, lacking[first : first + _MOST_EPOCHS]))

    def _set_aside(self, entry: LogEntry, error: Exception) -> None:
        if not self._has_refused(entry["trial"]):
            _log.warning(
                "MLflow (%s) refuses what belongs to trial %d: %s. It is left out and kept in %s; the rest is written.",
                *(self._runs.shown, entry["trial"], reason_of(error), self._spool.path),
            )
        self._refused.append(entry)
        if not self._behind:
            self._save([entry])


def _by_name(fields: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield fields by name, and the options in a table by a dotted name, such as ``model_options.width``."""
    for name, value in fields.items():
        if isinstance(value, dict):
            yield from ((f"{name}.{option}", of_option) for option, of_option in value.items())
        else:
            yield name, value


def begin_entry(job: Job, tags: Mapping[str, str], known: Container[str] | None = None) -> LogEntry:
    """Return the entry that begins a trial's run.

    Args:
        job: the trial.
        tags: the tags of every run of the study.
        known: names of the configuration's fields to write, since an import does not know all; None writes all.
    """
    config = job.config
    fields = config.to_dict()
    known = fields if known is None else known
    params = {
        **dict(_by_name({name: value for name, value in fields.items() if name in known})),
        **({} if config.lr_alpha is None else {schema.LR_ALPHA: config.lr_alpha}),
        schema.HORIZON: config.horizon,
        **{f"{schema.SAMPLED}{name}": value for name, value in job.params.items()},
    }
    about = {schema.SEED: str(config.seed)} if "seed" in known and config.seed is not None else {}
    if job.finalist:
        about[schema.FINALIST] = "true"
    if job.thawed:
        about[schema.THAWED] = ",".join(map(str, job.thawed))
    return {
        "do": "begin",
        "trial": job.number,
        "name": job.name,
        "tags": {schema.KIND: schema.TRIAL, schema.TRIAL_NUMBER: str(job.number), **about, **tags},
        "params": {name: str(value) for name, value in params.items()},
    }


def epochs_entry(job: Job, epochs: Sequence[Mapping[str, float]]) -> LogEntry:
    """Return the entry that writes epochs of a trial; each epoch holds its metrics, and its number under ``epoch``."""
    return _epochs_of(job.number, epochs)


def _epochs_of(number: int, epochs: Sequence[Mapping[str, float]]) -> LogEntry:
    now = timestamp()
    written = []
    for values in epochs:
        metrics = dict(values)
        written.append({"epoch": metrics.pop("epoch"), "metrics": metrics, "now": now})
    return {"do": "epochs", "trial": number, "epochs": written}


_BEST = "best_val_acc"  # among schema.FINAL_METRICS


def end_entry(job: Job, result: Result, metric: str) -> LogEntry:
    """Return the entry that ends a trial's run; ``metric`` is the metric of the study."""
    values = {name: getattr(result, "best_value" if name == _BEST else name) for name in schema.FINAL_METRICS}
    values[schema.best_metric(metric)] = values.pop(_BEST)
    tags = {schema.OUTCOME: result.outcome.value}
    if result.stopped_by:
        tags[schema.STOPPED_BY] = result.stopped_by
    if result.stop_reason:
        tags[schema.STOP_REASON] = tag_text(result.stop_reason)
    if result.would_stop:
        tags[schema.WOULD_STOP] = json.dumps(dict(result.would_stop))
    return {
        "do": "end",
        "trial": job.number,
        "status": MLFLOW_STATUS[result.outcome],
        "metrics": {name: float(value) for name, value in values.items() if value is not None},
        "tags": tags,
        "step": result.epochs_run,
        "now": timestamp(),
    }


def _pause(failures: int) -> float:
    """Return the seconds to wait before the next try, after ``failures`` earlier failures in a row."""
    return min(0.5 * 2.0 ** min(failures, 16), _LONGEST_WAIT)


def _seconds_until(moment: float) -> float:
    return max(0.0, moment - time.monotonic())


def _is_epochs(item: _Item) -> TypeGuard[tuple[LogEntry, Callable[[], None] | None]]:
    return isinstance(item, tuple) and item[0]["do"] == "epochs"
