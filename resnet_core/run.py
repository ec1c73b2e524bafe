"""A run of a trainer of somebody's own: what the trainer may ask, and how its metrics become epochs.

Such a trainer is a function of two parameters, its configuration and a `Run`. It is a generator that yields the metrics
of one epoch at a time, or a plain function that calls ``run.report`` after each epoch.
"""

from __future__ import annotations

import inspect
import logging
import math
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NoReturn

from resnet_core import checkpoint as checkpoints
from resnet_core import code
from resnet_core.network_file import About, NetworkWriter
from resnet_core.records import EpochRecord
from resnet_core.saved_state import check_storable, copied, restored, storable


class TrainerError(RuntimeError):
    """A trainer does not keep to the contract; the message says in which epoch, and what was expected."""


class TrialStopped(BaseException):
    """Raised by ``run.report`` where the trial is over: a stopping rule ended it, or the study stops.

    It is no Exception, so that ``except Exception`` in a trainer does not catch it.
    """


class Run:
    """What a trainer may ask of its trial. Without arguments: a run for a test, which keeps nothing.

    >>> def train(config, run):
    ...     for epoch in run.epochs(2):
    ...         yield {"val_acc": epoch / 10}
    >>> list(train(None, Run()))
    [{'val_acc': 0.1}, {'val_acc': 0.2}]

    Args:
        name: the trial's name.
        number: the trial's number in the study, from 0.
        device: torch's name of the device: ``cpu`` or ``cuda``.
        threads: CPU threads of the trial.
        data_dir: folder for data, the one of ``--data``.
        checkpoint: the file in which state and epochs are kept; None keeps nothing.
        network: writes what ``save_model`` is given; None where the study keeps no networks.
        config: the trial's configuration as plain values; a checkpoint of another one is refused.
        horizon: the number of epochs of the trial; None where any number is right.
        metric: the metric that every epoch must have; empty for none.
    """

    def __init__(
        self,
        name: str = "0",
        number: int = 0,
        *,
        device: str = "cpu",
        threads: int = 1,
        data_dir: Path = Path("data"),
        checkpoint: Path | None = None,
        network: NetworkWriter | None = None,
        config: Mapping[str, Any] | None = None,
        horizon: int | None = None,
        metric: str = "",
    ) -> None:
        self.name, self.number, self.device, self.threads, self.data_dir = name, number, device, threads, data_dir
        self._checkpoint, self._network, self._config = checkpoint, network, dict(config or {})
        self._model: dict[str, Any] | None = None  # tensors that wait for their epoch's metrics
        self._horizon, self._metric = horizon, metric
        self._records: list[EpochRecord] = []  # of all epochs so far
        self._kept, self._state = 0, None  # the epochs after which the state was saved, and the state
        self._has_file = False  # whether this run has seen its checkpoint's file
        self._pending: Any = None  # a state that waits for its epoch's metrics
        self._is_pending = False
        self._epoch = 0  # the epoch that run.epochs has begun
        self._is_followed = False  # whether own_epochs takes its metrics
        self._reporter: _Reporter | None = None
        self._yields = False
        self._restore()

    @property
    def folder(self) -> Path:
        """A folder for files of the trainer's own, such as a library's checkpoints; removed with the trial's state.

        Raises:
            TrainerError: the run keeps nothing.
        """
        if self._checkpoint is None:
            raise TrainerError("this run keeps nothing, so it has no folder: give Run a checkpoint")
        folder = checkpoints.files_of(self._checkpoint)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def load(self) -> Any:
        """Return what ``save`` kept last, on the CPU; None at the start of a trial."""
        return self._state

    def save(self, state: Any) -> None:
        """Keep the state of the training after the current epoch, for a trial that continues later.

        The state is written together with the metrics of the epoch, when they are yielded or reported: both are kept,
        or none. So save before that, and do not change the state in between. A loop over ``run.epochs`` may also save
        after it has reported; then the state is written at once.

        Args:
            state: tensors, numpy arrays, numbers, texts, bytes, None, and dicts, lists, tuples of these. Nothing else:
                reading it runs no code.

        Raises:
            TrainerError: something in the state is none of these.
            OSError: it cannot be written.
        """
        try:
            check_storable(state, "state")
        except TypeError as error:
            raise TrainerError(f"run.save: {error}") from None
        self._pending, self._is_pending = state, True
        if self._epoch and len(self._records) >= self._epoch:
            self._write()

    def save_model(self, tensors: Mapping[str, Any]) -> None:
        """Keep the network of the current epoch for after the study, whose ``[keep]`` says of which trials.

        The tensors are copied at once, and written together with the metrics of the epoch, when they are yielded or
        reported. So call it before that, in every epoch or in those whose network is worth it: the last one that was
        given is kept. Where the study keeps no networks, nothing happens.

        Args:
            tensors: tensors of torch or arrays of NumPy by name, such as a network's ``state_dict()``.

        Raises:
            TrainerError: something in it is neither, or it comes after the metrics of the last epoch.
            OSError: it cannot be written.
        """
        try:
            copies = copied(tensors)
        except TypeError as error:
            raise TrainerError(f"run.save_model: {error}") from None
        if self.is_finished:
            raise TrainerError("run.save_model: it came after the metrics of the last epoch: expected it before them")
        if self._network is None:
            return
        self._model = copies
        if self._epoch and len(self._records) >= self._epoch:
            self._write_model()

    def epochs(self, last: float | None = None) -> Iterator[int]:
        """Yield the number of each epoch to train: from 1, or behind the last one kept, to the last.

        Args:
            last: the last epoch, rounded up; None is that of the configuration.

        Raises:
            TrainerError: it is not the last epoch that the configuration says; or an epoch ended without metrics.
        """
        end = self._horizon if last is None else math.ceil(last)
        if end is None:
            raise TrainerError("run.epochs() without a number: this run has no configuration that says one")
        if self._horizon is not None and end != self._horizon:
            raise TrainerError(
                f"run.epochs({end}): expected {self._horizon}, the number of epochs that the configuration says "
                "(its field epochs, else the last epoch of its schedules)"
            )
        for epoch in range(self._kept + 1, end + 1):
            self._epoch = epoch
            yield epoch
            if self._is_followed and len(self._records) < epoch:
                raise TrainerError(f"epoch {epoch} ended without metrics: expected `yield` or run.report(...) in it")

    def report(self, metrics: Mapping[str, Any] | None = None, /, *, epoch: int | None = None, **more: Any) -> None:
        """Report the metrics of an epoch, from code that calls back instead of yielding.

        It returns when the next epoch may begin. After the last epoch it returns too, so that the trainer can end by
        itself; a report of one more epoch raises TrialStopped. A run that no study has started, such as ``Run()`` in a
        test, only checks the metrics.

        Args:
            metrics: numbers by name; further ones as keywords.
            epoch: number of the epoch, from 1; None is the next one. The number makes it possible to continue from a
                library's own checkpoint: an epoch that is known already is ignored. The library must save its
                checkpoint after the report.

        Raises:
            TrialStopped: the trial is over.
            TrainerError: the metrics are not as the contract says; or the trainer yields, and must not report too.

        >>> run = Run(horizon=2)
        >>> run.report(val_acc=0.5)
        >>> run.report({"loss": 0.4, "val_acc": 0.7}, epoch=2)
        >>> run.is_finished
        True
        """
        values: Any = metrics
        if metrics is None or (isinstance(metrics, Mapping) and (more or epoch is not None)):
            values = {**(metrics or {}), **more, **({} if epoch is None else {"epoch": epoch})}
        if self._reporter is not None:
            self._reporter.report(values)
        elif self._yields:
            raise TrainerError("run.report: this trainer yields its metrics, so it must not report them too")
        else:
            self._take(values, 0.0)

    # For the functions of this module.

    @property
    def is_finished(self) -> bool:
        """Whether the last epoch of the configuration is there."""
        return self._horizon is not None and len(self._records) >= self._horizon

    def _restore(self) -> None:
        state = None if self._checkpoint is None else checkpoints.load(self._checkpoint)
        if state is None:
            return
        if state.get("config") != self._config:
            raise checkpoints.CheckpointError(
                f"checkpoint {self._checkpoint} is of another run; delete it to start anew"
            )
        self._has_file = True
        self._kept, self._state = state["kept"], restored(state["state"])
        self._records = [EpochRecord.from_dict(record) for record in state["records"][: self._kept]]

    def _write(self, is_numbered: bool = False) -> None:
        """Write the records, with the state that was saved for them.

        Args:
            is_numbered: whether the trainer tells the numbers of its epochs, so that each is kept without a state.
        """
        if self._is_pending:
            self._state, self._kept = self._pending, len(self._records)
            self._pending, self._is_pending = None, False
        elif is_numbered:
            self._kept = len(self._records)
        elif self._kept:
            return  # the file has an older state, with its epochs
        if self._checkpoint is not None:
            records = [record.to_dict() for record in self._records]
            kept = {"config": self._config, "records": records, "kept": self._kept, "state": storable(self._state)}
            # Whoever has removed it has ended the trial: it must not come back.
            checkpoints.save(self._checkpoint, kept, replacing=self._has_file)
            self._has_file = True

    def _write_model(self) -> None:
        """Write the network that waits, if there is one, with the metrics of the last epoch."""
        model, self._model = self._model, None
        if model is None or self._network is None:
            return
        if self._has_file and self._checkpoint is not None and not self._checkpoint.exists():
            return  # whoever has removed it has ended the trial
        record = self._records[-1]
        self._network.write(model, About(record.epoch, self._config, weights="given", metrics=record.values()))

    def _close(self) -> None:
        """Remove what the trainer has written to its folder after the trial was ended and its checkpoint removed."""
        if self._checkpoint is not None and self._has_file and not self._checkpoint.exists():
            checkpoints.remove(self._checkpoint)

    def _take(self, metrics: Any, seconds: float) -> EpochRecord | None:
        """Return the next epoch with these metrics, which is kept; None for an epoch that is known already."""
        values = self._checked(metrics)
        said = values.pop("epoch", None)
        number = self._epoch or len(self._records) + 1
        if said is not None:
            number = _epoch_number(said)
            if number <= len(self._records) and not self._epoch:
                return None
        if number <= len(self._records):
            raise TrainerError(f"epoch {number} came twice: expected one set of metrics an epoch")
        if number != len(self._records) + 1:
            raise TrainerError(
                f"epoch {number} came after epoch {len(self._records)}: expected every epoch, in order; a library that "
                "continues from its own checkpoint must save it after run.report"
            )
        if self._horizon is not None and number > self._horizon:
            raise TrainerError(f"epoch {number} came after the last of {self._horizon}")
        if self._metric and values.get(self._metric) is None:
            names = ", ".join(name for name, value in values.items() if value is not None) or "none"
            raise TrainerError(
                f"epoch {number} has no {self._metric}: expected it among its metrics, since [objective] looks at it; "
                f"it has: {names}"
            )
        values.setdefault("seconds", seconds)
        try:
            record = EpochRecord.from_values(number, values)
        except ValueError as error:
            raise TrainerError(f"epoch {number}: {error}") from None
        self._records.append(record)
        self._write_model()  # ahead of the checkpoint: an epoch that is kept is not trained again
        self._write(is_numbered=said is not None and not self._epoch)
        return record

    def _checked(self, metrics: Any) -> dict[str, Any]:
        epoch = self._epoch or len(self._records) + 1
        if not isinstance(metrics, Mapping):
            said = f"{type(metrics).__name__} {metrics!r}"
            raise TrainerError(f'epoch {epoch}: {said:.100}: expected a dict of metrics, such as {{"val_acc": 0.9}}')
        for name, value in metrics.items():
            if not isinstance(name, str):
                raise TrainerError(f"epoch {epoch}: metric {name!r}: expected a name")
            if isinstance(value, str | bytes):
                raise TrainerError(f"epoch {epoch}: metric {name!r} = {value!r:.100}: expected a number")
        # A tensor that needs a gradient is no number by itself.
        return {name: value.detach() if hasattr(value, "detach") else value for name, value in metrics.items()}


def _epoch_number(value: Any) -> int:
    try:
        number = int(value)
        if number >= 1 and number == value and not isinstance(value, bool):
            return number
    except (TypeError, ValueError, OverflowError):
        pass
    raise TrainerError(f"epoch = {value!r:.100}: expected a whole number from 1; the first epoch is epoch 1")


_SECONDS_TO_END = 60.0
"""How long a trainer may go on after its trial was stopped."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Ended:
    """How a function that reports has ended: what it returned, or its error."""

    returned: Any
    error: BaseException | None


class _Reporter:
    """Runs a function that reports, in a thread of its own.

    The function and the reader of its epochs take turns: the function waits in ``report`` until the reader asks for the
    next epoch.
    """

    def __init__(self, function: Callable[[Any, Run], Any], config: Any, run: Run) -> None:
        self._function, self._config, self._run = function, config, run
        self._events: SimpleQueue[EpochRecord | _Ended] = SimpleQueue()
        self._go_on: SimpleQueue[bool] = SimpleQueue()
        self._is_over = False
        self._refused: TrainerError | None = None
        self._started = 0.0

    def _main(self) -> None:
        self._started = time.perf_counter()
        try:
            # A function that has caught the error of run.report, and went on, is wrong nevertheless.
            ended = _Ended(self._function(self._config, self._run), self._refused)
        except TrialStopped:
            ended = _Ended(None, self._refused)
        except BaseException as error:
            ended = _Ended(None, error)
        self._events.put(ended)

    def report(self, metrics: Any) -> None:
        """Hand over the metrics of an epoch; see `Run.report`."""
        if self._refused is not None:
            raise self._refused
        if self._is_over:
            raise TrialStopped
        try:
            record = self._run._take(metrics, time.perf_counter() - self._started)
        except TrainerError as error:
            self._refused = error
            raise
        if record is None:
            return
        self._is_over = self._run.is_finished
        self._events.put(record)
        if not self._go_on.get():
            raise TrialStopped
        self._started = time.perf_counter()

    def records(self) -> Generator[EpochRecord, None, Any]:
        """Yield the epochs that the function reports, and return what it returns. Closing the generator stops it."""
        thread = threading.Thread(target=self._main, name=f"trainer of {self._run.name}", daemon=True)
        thread.start()
        ended: _Ended | None = None
        try:
            while True:
                event = self._events.get()
                if isinstance(event, _Ended):
                    ended = event
                    break
                yield event
                if self._run.is_finished:
                    break
                self._go_on.put(True)
        finally:
            if ended is None:
                self._end(thread)
        if ended is None:
            return None
        if ended.error is not None:
            _raise(ended.error)
        return ended.returned

    def _end(self, thread: threading.Thread) -> None:
        """Let the function end by itself after its last epoch; stop it in any other."""
        self._is_over = True
        is_finished = self._run.is_finished
        self._go_on.put(is_finished)
        thread.join(None if is_finished else _SECONDS_TO_END)
        if thread.is_alive():
            raise TrainerError(
                f"the trainer of trial {self._run.name} still runs, {_SECONDS_TO_END:g} s after the trial was stopped: "
                "expected it to end when run.report raises TrialStopped"
            )
        while not isinstance(event := self._events.get(), _Ended):
            pass
        if event.error is not None:
            _warn_of(event.error, self._run)


def _warn_of(error: BaseException, run: Run) -> None:
    """Log an error of a trainer whose trial is over: all epochs that count are there."""
    when = "after its last epoch" if run.is_finished else "when it was stopped"
    _log.warning("the trainer of trial %s raised an error %s: %s", run.name, when, code.describe(error))


def _raise(error: BaseException) -> NoReturn:
    """Raise an error of a trainer: as a TrainerError if it is no Exception, unless it interrupts this process."""
    is_rays = isinstance(error, SystemExit) and vars(error)  # Ray marks the one that ends a worker, as at SIGTERM
    if isinstance(error, Exception | KeyboardInterrupt | GeneratorExit) or is_rays:
        raise error
    does = "ends the program" if isinstance(error, SystemExit) else "raises what is no Exception"
    raise TrainerError(f"the trainer {does}: {code.describe(error)}") from error


def own_epochs(function: Callable[[Any, Run], Any], config: Any, run: Run) -> Generator[EpochRecord]:
    """Yield the epochs of a trainer of somebody's own, as the trainer that ships yields its own.

    Epochs in the run's checkpoint come first; the trainer continues behind them. If it ends before its last epoch, so
    does the generator. Closing the generator ends the trainer.

    Args:
        function: the trainer: a generator function, or one that reports.
        config: the object it is given as its configuration.
        run: the run.

    Raises:
        TrainerError: the trainer does not keep to the contract.
    """
    yield from list(run._records)
    if run.is_finished:
        return
    run._is_followed = True
    try:
        if inspect.isgeneratorfunction(code.called(function)):
            yield from _yielded(function(config, run), run)
        else:
            known = len(run._records)
            run._reporter = _Reporter(function, config, run)
            returned = yield from run._reporter.records()
            if isinstance(returned, Iterator) and len(run._records) == known:  # the function has made a generator
                run._reporter = None
                yield from _yielded(returned, run)
    finally:
        run._close()
    if not run._records:
        raise TrainerError("the trainer ended without an epoch: expected `yield` or run.report(...) after each one")


def _yielded(source: Iterator[Any], run: Run) -> Generator[EpochRecord]:
    """Yield the epochs of a generator of metrics. It ends by itself after its last epoch; before that it is stopped."""
    run._yields = True
    is_over = False  # by an end or an error of its own
    try:
        while not run.is_finished:
            started = time.perf_counter()
            is_over = True
            try:
                metrics = next(source)
            except StopIteration:
                return
            except BaseException as error:
                _raise(error)
            is_over = False
            record = run._take(metrics, time.perf_counter() - started)
            if record is not None:
                yield record
    finally:
        if not is_over:
            _end(source, run)


def _end(source: Iterator[Any], run: Run) -> None:
    try:
        if run.is_finished:
            next(source, None)  # what stands behind its loop; a further yield is ignored
        if isinstance(source, Generator):
            source.close()
    except Exception as error:
        _warn_of(error, run)
