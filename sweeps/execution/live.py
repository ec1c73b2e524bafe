"""The display of a running study on stderr: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

from rich.console import Console, ConsoleOptions, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from resnet_core.objective import Objective
from resnet_core.records import Outcome, duration_text, metric_curve, metric_texts
from sweeps.execution.curves import Scale, ordinal, place, spark_line
from sweeps.study.outcomes import Result, describe_result
from sweeps.study.run import StudyRun
from sweeps.study.time_left import time_left
from sweeps.study.trials import ActiveTrial, Job

_STYLES = {
    Outcome.REACHED: "green",
    Outcome.EXHAUSTED: "yellow",
    Outcome.PRUNED: "cyan",
    Outcome.DIVERGED: "magenta",
    Outcome.CRASHED: "red",
}
_SHOWN_ENDED = 8
_FROM_WIDTH = {"curve": 60, "outcome": 40, "trains": 100}  # columns of a terminal that shows this column of the table
_CURVE_WIDTHS = {140: 40, 100: 24, 0: 12}  # by columns of a terminal: most characters of a curve
_FRAME = 5  # lines of the table that are no trial
_WIDTH = 80  # where a terminal does not tell its own
_SILENT, _TIMES_LONGER = 60.0, 5.0  # seconds, and multiples of the longest epoch, before a silent trial is pointed out
_FIRST_SUMMARY, _LAST_SUMMARY = 60.0, 3600.0  # seconds before the first summary in a log file, and before a late one
_NAMED = 4  # running trials that a summary names
_SHOW_CURSOR, _HIDE_CURSOR = b"\x1b[?25h", b"\x1b[?25l"
_STARTING = "starting Ray …"
_LOST = "taken over by another driver, which had not heard of this one for too long"
_WAITING = "nothing left to run here; waiting for the trials of other drivers ({}), should one of them be gone"
_STOPPING = "stopping: running trials finish their epoch; Ctrl-C stops at once, and loses that epoch"


class _Watcher:
    """What every display knows: the study, and how fast it is."""

    def __init__(self) -> None:
        self._run: StudyRun | None = None
        self._started = time.monotonic()
        self._seconds = 0.0
        self._epochs = 0

    def watch(self, run: StudyRun) -> None:
        """Show this study."""
        self._run = run

    def epoch(self, trial: ActiveTrial) -> None:
        """Add the epoch's seconds to the estimate of the time left."""
        self._seconds += trial.records[-1].seconds or 0.0
        self._epochs += 1

    def _summary(self, run: StudyRun) -> tuple[str, str, str]:
        """Return how the study stands: what has ended, the best trial, and the time."""
        counts = dict.fromkeys(Outcome, 0)
        for result in list(run.results.values()):
            counts[result.outcome] += 1
        ended = ", ".join(f"{n} {outcome.value}" for outcome, n in counts.items() if n) or "none"
        sought, leader = run.spec.objective, run.leader
        best = "no result yet" if sought.target is None else "no trial at the target yet"
        if leader is not None:
            reached = f"reached the target at epoch {leader.rank}"
            best = f"best so far: trial {leader.name}, "
            best += _best(leader.value, sought) if sought.target is None else reached
        return (
            f"ended: {ended} · running: {len(run.active)} · to come: {run.remaining}",
            best,
            f"elapsed {_clock(time.monotonic() - self._started)} · left {self._left(run)}",
        )

    def _left(self, run: StudyRun) -> str:
        found = time_left(
            [(len(trial.records), trial.job.config.horizon) for trial in list(run.active.values())],
            [result.epochs_run for result in list(run.results.values())],
            run.remaining,
            self._seconds / self._epochs if self._epochs else math.nan,
        )
        return "?" if found is None else f"about {_clock(found.seconds)}"


class QuietWatcher(_Watcher):
    """Prints a line for every error of a trial, and nothing else."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def starting(self) -> None:
        """Do nothing."""

    def started(self, trial: ActiveTrial) -> None:
        """Do nothing."""

    def failed(self, trial: ActiveTrial, error: str, again: bool) -> None:
        """Print the error."""
        self._say(f"trial {trial.job.name}: {error}; " + ("started again" if again else "given up"))

    def ended(self, trial: ActiveTrial, result: Result) -> None:
        """Do nothing."""

    def stopping(self) -> None:
        """Do nothing."""

    def lost(self, job: Job) -> None:
        """Print that another driver runs the trial now."""
        self._say(f"trial {job.name}: {_LOST}")

    def waiting(self, trials: int) -> None:
        """Do nothing."""

    def _say(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)


class PlainWatcher(QuietWatcher):
    """Prints lines for a log file: how every trial ended, errors, and now and then how the study stands.

    The first summary comes after a minute, each further one when half as much time again has passed, and an hour later
    at most.

    Args:
        console: where to print.
        verbose: print every start and every epoch, too.
    """

    def __init__(self, console: Console, *, verbose: bool = False) -> None:
        super().__init__(console)
        self._verbose = verbose
        self._summary_at = self._started + _FIRST_SUMMARY

    def starting(self) -> None:
        """Print what takes its time before the first trial starts."""
        self._say(_STARTING)

    def started(self, trial: ActiveTrial) -> None:
        """Print the trial's parameters, or its schedule; unless all is printed, only of one that goes on again."""
        if not (self._verbose or trial.job.thawed):
            return
        control = " (control: no rule may stop it)" if trial.control else ""
        begins = f"goes on after epoch {trial.job.thawed[-1]}" if trial.job.thawed else "started"
        self._say(f"trial {trial.job.name}: {begins}{control}: {_settings(trial.job)}")

    def epoch(self, trial: ActiveTrial) -> None:
        """Print the epoch's metrics where all is printed; then, now and then, a summary."""
        super().epoch(trial)
        now, record = time.monotonic(), trial.records[-1]
        if self._verbose:
            self._say(
                f"trial {trial.job.name}: epoch {record.epoch}/{trial.job.config.horizon} "
                f"{' '.join(metric_texts(record.values()))} {duration_text(record.seconds or 0.0)}"
            )
        if self._run is not None and now >= self._summary_at:
            self._summary_at = now + min(max((now - self._started) / 2, _FIRST_SUMMARY), _LAST_SUMMARY)
            time_of_day = datetime.now(UTC).astimezone().isoformat(timespec="seconds")
            self._say(" · ".join([time_of_day, *self._summary(self._run), *_how_far(self._run)]))

    def ended(self, trial: ActiveTrial, result: Result) -> None:
        """Print the outcome, and what was trained."""
        self._say(f"trial {trial.job.name}: {describe_result(result, trial.objective)}; {_settings(trial.job)}")

    def stopping(self) -> None:
        """Print what the launch waits for."""
        self._say(_STOPPING)

    def waiting(self, trials: int) -> None:
        """Print what the launch waits for."""
        self._say(_WAITING.format(trials))


class LiveWatcher(_Watcher):
    """Draws a live table: running trials, those that ended last, the best so far, the time left."""

    def __init__(self) -> None:
        super().__init__()
        self._ended: deque[tuple[Job, Result]] = deque(maxlen=_SHOWN_ENDED)
        self._messages: deque[str] = deque(maxlen=3)
        self._heard: dict[int, float] = {}  # by number of a trial: when it started or ended its last epoch

    def starting(self) -> None:
        """Do nothing: until it knows the study, the display says what starts."""

    def started(self, trial: ActiveTrial) -> None:
        """Note the time; the table shows the trial."""
        self._heard[trial.job.number] = time.monotonic()

    def epoch(self, trial: ActiveTrial) -> None:
        """Note the time, and the epoch's seconds."""
        super().epoch(trial)
        self._heard[trial.job.number] = time.monotonic()

    def failed(self, trial: ActiveTrial, error: str, again: bool) -> None:
        """Show the error below the table."""
        self._messages.append(f"trial {trial.job.name}: {error}; " + ("started again" if again else "given up"))

    def ended(self, trial: ActiveTrial, result: Result) -> None:
        """Move the trial to the ended trials in the table."""
        self._ended.append((trial.job, result))

    def stopping(self) -> None:
        """Show below the table what the launch waits for."""
        self._messages.append(_STOPPING)

    def lost(self, job: Job) -> None:
        """Show below the table that another driver runs the trial now."""
        self._messages.append(f"trial {job.name}: {_LOST}")

    def waiting(self, trials: int) -> None:
        """Show below the table what the launch waits for."""
        self._messages.append(_WAITING.format(trials))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        """Yield the table as it is now; a narrow terminal is shown fewer columns of it, a low one fewer trials."""
        run = self._run
        if run is None:
            yield Text(_STARTING)
            return
        below = [*map(Text, self._summary(run)), *(Text(line, style="red") for line in self._messages)]
        room = options.max_height - _FRAME - sum(len(text.wrap(console, options.max_width)) for text in below)
        running = list(run.active.values())
        shown = running if len(running) <= room else running[: max(room - 1, 0)]
        if len(shown) < len(running):
            below.insert(0, Text(f"running, not shown: {len(running) - len(shown)}"))
        if room > 0:
            free = room - len(running)
            yield self._table(run, list(self._ended)[-free:] if free > 0 else [], shown, options.max_width)
        yield from below

    def _table(self, run: StudyRun, ended: list[tuple[Job, Result]], running: list[ActiveTrial], width: int) -> Table:
        table = Table(title=run.spec.name, title_justify="left", expand=True)
        sought = run.spec.objective
        for heading in ("trial", "epoch", sought.metric):
            table.add_column(heading, justify="right", no_wrap=True)
        more = [heading for heading, least in _FROM_WIDTH.items() if width >= least]
        for heading in more:
            ratio = None if heading == "curve" else 1
            table.add_column(heading, no_wrap=True, overflow="ellipsis", ratio=ratio)
        curves = {job.number: sought.scores(result.values) for job, result in ended}
        curves |= {trial.job.number: trial.progress.scores for trial in running}
        scale = Scale.of(curves.values(), sought.target_score)
        most = next(size for least, size in _CURVE_WIDTHS.items() if width >= least)

        def add(job: Job, length: str, value: float | None, state: Text) -> None:
            cells = {
                "curve": Text(spark_line(curves[job.number], job.config.horizon, most, scale)),
                "outcome": state,
                "trains": Text(_settings(job)),
            }
            shown = "-" if value is None else sought.shown(value)
            table.add_row(Text(job.name), length, shown, *(cells[heading] for heading in more))

        for job, result in ended:
            ending = Text(describe_result(result, sought), style=_STYLES[result.outcome])
            add(job, str(result.epochs_run), result.best_value, ending)
        for trial in running:
            scores = curves[trial.job.number]
            state = _place(run, trial, scores, width) if scores else "starting"
            state += self._silence(trial)
            state += " (control)" if trial.control else ""
            value = sought.score(scores[-1]) if scores else None
            add(trial.job, f"{len(scores)}/{trial.job.config.horizon}", value, Text(state))
        return table

    def _silence(self, trial: ActiveTrial) -> str:
        """Return since when a trial has ended no epoch, where that is far longer than its longest epoch."""
        longest = max((record.seconds or 0.0 for record in trial.records), default=math.inf)
        silent = time.monotonic() - self._heard.get(trial.job.number, math.inf)
        return f", no epoch for {_clock(silent)}" if silent > max(_SILENT, _TIMES_LONGER * longest) else ""


@contextmanager
def watching(console: Console, *, quiet: bool = False, verbose: bool = False) -> Iterator[QuietWatcher | LiveWatcher]:
    """Show a study during the block: as a live table on a terminal that can redraw, else as lines.

    Args:
        console: where to show it.
        quiet: show errors of trials only.
        verbose: print a line for every epoch, on a terminal too.
    """
    # FORCE_COLOR makes a terminal of any file to rich, but a file cannot be drawn on again.
    redraws = console.file.isatty() and not console.is_dumb_terminal
    if quiet:
        yield QuietWatcher(console)
    elif verbose or not redraws:
        yield PlainWatcher(console, verbose=verbose)
    else:
        watcher = LiveWatcher()
        if not console.width:  # COLUMNS=0
            console.width = _WIDTH
        with (
            _cursor_while_suspended(console.file.fileno()),
            Live(watcher, console=console, refresh_per_second=4, transient=True),
        ):
            yield watcher


@contextmanager
def _cursor_while_suspended(terminal: int) -> Iterator[None]:
    """Give the shell its cursor back at Ctrl-Z, which a live display has hidden; `fg` hides it again."""
    in_main = threading.current_thread() is threading.main_thread()
    if not in_main or signal.getsignal(signal.SIGTSTP) is not signal.SIG_DFL:
        yield
        return

    def suspend(number: int, _frame: object) -> None:
        # No method of rich: its locks may be taken.
        os.write(terminal, _SHOW_CURSOR)
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)  # this process stops here
        signal.signal(number, suspend)
        os.write(terminal, _HIDE_CURSOR)

    signal.signal(signal.SIGTSTP, suspend)
    try:
        yield
    finally:
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)


def _place(run: StudyRun, trial: ActiveTrial, scores: Sequence[float], width: int) -> str:
    """Return a running trial's place among all trials that have trained as many epochs."""
    epochs, sought = len(scores), run.spec.objective
    others = [result.values[epochs - 1] for result in list(run.results.values()) if len(result.values) >= epochs]
    others += [
        metric_curve(other.records[epochs - 1 : epochs], sought.metric)[0]
        for other in list(run.active.values())
        if other is not trial and len(other.records) >= epochs
    ]
    own, count = place(scores[-1], sought.scores(others))
    if not others:
        return "running"
    return f"{ordinal(own)} of {count}" + (f" at epoch {epochs}" if width >= _WIDTH else "")


def _how_far(run: StudyRun) -> list[str]:
    """Return how far the running trials are; nothing where they are many."""
    running = list(run.active.values())
    far = [f"trial {trial.job.name} at epoch {len(trial.records)}/{trial.job.config.horizon}" for trial in running]
    return [", ".join(far)] if 0 < len(far) <= _NAMED else []


def _settings(job: Job) -> str:
    if not job.params:
        return job.config.schedule or f"{job.config.horizon} epochs"
    return ", ".join(f"{name} {_short(value)}" for name, value in job.params.items())


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _best(value: float | None, sought: Objective) -> str:
    return f"{sought.metric} {'none' if value is None else sought.shown(value)}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
