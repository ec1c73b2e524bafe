"""What people see while a study runs."""

import fcntl
import io
import os
import signal
import struct
import termios
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from functools import partial

import numpy as np
import pytest
from rich.console import Console

from resnet_core.config import TrialConfig
from resnet_core.records import Outcome
from search_spaces.spec import StudySpec
from sweeps.execution import live, streams
from sweeps.execution.live import LiveWatcher, PlainWatcher, watching
from sweeps.home import Home
from sweeps.ledger.ledger import Ledger
from sweeps.study.outcomes import Result
from sweeps.study.recovery import Recovered
from sweeps.study.run import StudyRun
from sweeps.study.trials import ActiveTrial, Job
from sweeps.tracking.runs import MlflowStudy
from sweeps.tracking.writer import Tracker
from tests.studies import CRASHED, MISSED, PRUNED, REACHED, SCHEDULE, epoch_records, sampled_study

CONFIG = TrialConfig(schedule=SCHEDULE)
SAMPLED = Job(3, "3", CONFIG, {"lr": 0.00123456, "warmup": 2, "optimizer": "adam"})
LISTED = Job(4, "baseline-s1", CONFIG, {})
spec = partial(sampled_study, horizon=4, trials=12)


# Plain lines


@pytest.fixture
def file() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def plain(file) -> PlainWatcher:
    return PlainWatcher(Console(file=file, width=40))


@pytest.fixture
def verbose(file) -> PlainWatcher:
    return PlainWatcher(Console(file=file, width=40), verbose=True)


@pytest.mark.parametrize(
    ("job", "control", "line"),
    [
        (SAMPLED, False, "trial 3: started: lr 0.001235, warmup 2, optimizer adam\n"),
        (SAMPLED, True, "trial 3: started (control: no rule may stop it): lr 0.001235, warmup 2, optimizer adam\n"),
        (
            replace(SAMPLED, thawed=(2, 3)),
            False,
            "trial 3: goes on after epoch 3: lr 0.001235, warmup 2, optimizer adam\n",
        ),
        (LISTED, False, f"trial baseline-s1: started: {CONFIG.schedule}\n"),
    ],
)
def test_a_start_is_a_line_with_what_is_trained(verbose, file, job, control, line):
    verbose.started(ActiveTrial(job, control))
    assert file.getvalue() == line


def test_an_epoch_is_a_line_with_its_figures(verbose, file):
    verbose.epoch(ActiveTrial(SAMPLED, False, records=epoch_records([0.5, 0.75])))
    assert file.getvalue() == (
        "trial 3: epoch 2/4 loss 0.2500 acc 0.8000 val_loss 0.5000 val_acc 0.7500 lr 0.001 1.5 s\n"
    )


@pytest.mark.parametrize(("again", "words"), [(True, "started again"), (False, "given up")])
def test_an_error_is_a_line_that_says_whether_the_trial_starts_again(plain, file, again, words):
    plain.failed(ActiveTrial(SAMPLED, False), "ValueError: [red] is no colour", again)
    assert file.getvalue() == f"trial 3: ValueError: [red] is no colour; {words}\n"


ENDS = [
    (REACHED, "reached at epoch 3, best val_acc 0.9312 at epoch 4"),
    (MISSED, "exhausted, best val_acc 0.8000 at epoch 4"),
    (Result(Outcome.EXHAUSTED, 4, 8.0), "exhausted"),
    (PRUNED, "pruned: too slow"),
    (Result(Outcome.DIVERGED, 2, stop_reason="the loss is nan"), "diverged: the loss is nan"),
    (CRASHED, "crashed: disk full"),
    (Result(Outcome.REACHED, 3, 2.5, 2, 2, 0.93, 2, stop_reason="held"), "reached at epoch 2: held"),
]


@pytest.mark.parametrize(("result", "words"), ENDS)
def test_an_end_is_a_line_with_outcome_reason_and_what_was_trained(plain, file, result, words):
    plain.ended(ActiveTrial(SAMPLED, control=False), result)
    assert file.getvalue() == f"trial 3: {words}; lr 0.001235, warmup 2, optimizer adam\n"


def test_every_outcome_has_words_and_a_colour():
    assert {result.outcome for result, _ in ENDS} == live._STYLES.keys() == set(Outcome)


def test_what_takes_time_before_the_first_trial_is_a_line(plain, file):
    plain.starting()
    assert file.getvalue() == "starting Ray …\n"


EVENTS = [
    (lambda watcher: watcher.stopping(), "stopping: running trials finish their epoch; Ctrl-C stops at once"),
    (lambda watcher: watcher.lost(SAMPLED), "trial 3: taken over by another driver"),
    (lambda watcher: watcher.waiting(2), "nothing left to run here; waiting for the trials of other drivers (2)"),
]


@pytest.mark.parametrize(("tell", "words"), EVENTS)
def test_an_event_of_the_launch_is_a_line(plain, file, tell, words):
    tell(plain)
    assert file.getvalue().startswith(words)
    assert file.getvalue().count("\n") == 1


def epochs(plain: PlainWatcher, *seconds: float) -> None:
    """Tell of as many epochs of a trial, of these lengths."""
    for number, length in enumerate(seconds, 1):
        plain.epoch(ActiveTrial(SAMPLED, False, records=epoch_records([0.5] * number, seconds=length)))


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    """The seconds that have passed, to be set."""
    now, begin = [0.0], time.monotonic()
    monkeypatch.setattr("sweeps.execution.live.time.monotonic", lambda: begin + now[0])
    return now


def test_a_trial_that_had_ended_and_goes_on_is_always_a_line(plain, file):
    plain.started(ActiveTrial(replace(SAMPLED, thawed=(3,)), False))
    assert file.getvalue().startswith("trial 3: goes on after epoch 3: ")


@pytest.mark.usefixtures("clock")
def test_starts_and_epochs_are_no_lines_unless_asked_for(plain, verbose, file):
    plain.started(ActiveTrial(SAMPLED, False))
    epochs(plain, 60, 60, 60)
    assert file.getvalue() == ""
    epochs(verbose, 60, 0.1, 0.1)
    assert file.getvalue().count("epoch") == 3


def test_quiet_is_an_error_at_most(file):
    with watching(Console(file=file), quiet=True, verbose=True) as watcher:
        watcher.starting()
        watcher.started(ActiveTrial(SAMPLED, False))
        watcher.epoch(ActiveTrial(SAMPLED, False, records=epoch_records([0.5])))
        watcher.ended(ActiveTrial(SAMPLED, False), REACHED)
        watcher.stopping()
        watcher.waiting(2)
        assert file.getvalue() == ""
        watcher.failed(ActiveTrial(SAMPLED, False), "disk full", again=True)
    assert file.getvalue() == "trial 3: disk full; started again\n"


def test_lines_are_printed_if_there_is_no_terminal(file):
    with watching(Console(file=file)) as watcher:
        assert isinstance(watcher, PlainWatcher)


def test_colours_that_are_forced_make_no_terminal_of_a_file(file, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    with watching(Console(file=file)) as watcher:
        assert isinstance(watcher, PlainWatcher)


@pytest.fixture
def terminal() -> Iterator[Callable[..., Console]]:
    """Open consoles on a terminal of so many columns."""
    opened = []

    def open_terminal(columns: int = 80) -> Console:
        reader, writer = os.openpty()
        fcntl.ioctl(writer, termios.TIOCSWINSZ, struct.pack("HHHH", 24 * bool(columns), columns, 0, 0))
        opened.append((reader, os.fdopen(writer, "w")))
        return Console(file=opened[-1][1])

    yield open_terminal
    for reader, file in opened:
        file.close()
        os.close(reader)


def test_on_a_terminal_the_table_is_drawn(terminal):
    with watching(terminal()) as watcher:
        assert isinstance(watcher, LiveWatcher)


def test_lines_are_printed_on_a_terminal_where_they_are_asked_for(terminal):
    with watching(terminal(), verbose=True) as watcher:
        assert isinstance(watcher, PlainWatcher)


def test_while_it_is_suspended_the_shell_has_its_cursor():
    reader, writer = os.openpty()
    waits, ends = os.pipe()
    process = os.fork()
    if process == 0:
        os.setpgid(0, 0)  # a process group of its own, as a shell starts it
        with watching(Console(file=os.fdopen(writer, "w"))):
            os.read(waits, 1)
        os._exit(0)

    def drawn(until: bytes) -> bytes:
        said, end = b"", time.monotonic() + 60
        while until not in said:  # it is drawn anew four times a second, also around these moments
            assert time.monotonic() < end, said
            said += os.read(reader, 10_000)
        return said

    show, hide = b"\x1b[?25h", b"\x1b[?25l"
    drawn(until=b"starting Ray")
    os.kill(process, signal.SIGTSTP)
    os.waitid(os.P_PID, process, os.WSTOPPED)
    assert hide not in drawn(until=show).rpartition(show)[2]
    os.kill(process, signal.SIGCONT)
    assert show not in drawn(until=hide)
    os.write(ends, b"\n")
    _, status = os.waitpid(process, 0)
    for number in (reader, writer, waits, ends):
        os.close(number)
    assert status == 0


@pytest.mark.parametrize("name", ["dumb", "unknown"])
def test_lines_are_printed_on_a_terminal_that_cannot_redraw(terminal, monkeypatch, name):
    monkeypatch.setenv("TERM", name)
    with watching(terminal()) as watcher:
        assert isinstance(watcher, PlainWatcher)


# The table


@pytest.fixture
def watch(store, tmp_path) -> Iterator[Callable[..., tuple[StudyRun, LiveWatcher]]]:
    """Run a study under the eyes of a watcher."""
    trackers = []

    def watch(study: StudySpec) -> tuple[StudyRun, LiveWatcher]:
        watcher = LiveWatcher()
        runs = MlflowStudy(f"sqlite:///{store.path}", tmp_path / "artifacts", study)
        trackers.append(Tracker(runs, Home(tmp_path).spool(study.name)))
        ledger = Ledger.preview(study)
        run = StudyRun(Home(tmp_path), ledger, trackers[-1], watcher, Recovered(remaining=ledger.remaining()))
        watcher.watch(run)
        return run, watcher

    yield watch
    for tracker in trackers:
        tracker.close("FINISHED")


def train(run: StudyRun, *val_accs: float, seconds: float = 1.5) -> int:
    """Begin a trial and show these epochs of it."""
    trial = run.next_trial()
    assert trial is not None
    run.place(trial.job.number, {"device": "cpu"})
    for record in epoch_records(val_accs, seconds=seconds):
        run.epoch(trial.job.number, record)
    return trial.job.number


def screen(watcher: LiveWatcher, width: int = 160, height: int = 24) -> list[str]:
    """The table as a terminal of this size shows it, line by line, its cells apart by one space."""
    console = Console(file=io.StringIO(), width=width, height=height, record=True)
    console.print(watcher)
    text = console.export_text().replace("│", " ").replace("┃", " ")
    return [" ".join(line.split()) for line in text.splitlines()]


def test_before_the_study_runs_it_says_what_is_started():
    assert screen(LiveWatcher()) == ["starting Ray …"]


def test_the_table_is_headed_by_the_study(watch):
    run, watcher = watch(spec())
    assert screen(watcher)[0] == run.spec.name
    assert "trial epoch val_acc curve outcome trains" in screen(watcher)


def test_a_trial_that_ends_no_epoch_for_long_is_pointed_out(watch, clock):
    run, watcher = watch(spec())
    train(run, 0.5)
    clock[0] = 59
    assert not any("no epoch for" in line for line in screen(watcher))
    clock[0] = 65
    assert any("running, no epoch for 1:05" in line for line in screen(watcher))


def test_running_trials_are_rows_with_how_far_they_are(watch):
    run, watcher = watch(spec())
    train(run, 0.5, 0.75)
    train(run)
    rates = [f"lr {run.active[number].job.params['lr']:.4g}" for number in (0, 1)]
    assert f"0 2/4 0.7500 ▁▅ running {rates[0]}" in screen(watcher)
    assert f"1 0/4 - starting {rates[1]}" in screen(watcher)


def test_a_running_trial_has_its_place_among_all_at_the_same_epoch(watch):
    run, watcher = watch(spec())
    train(run, 0.5, 0.6, 0.7, 0.8)  # has ended
    train(run, 0.4, 0.7)
    train(run, 0.6)
    places = {line.split()[0]: line.split("█")[-1].split("▁")[-1] for line in screen(watcher) if "/4" in line}
    assert "1st of 2 at epoch 2" in places["1"]  # 0.7, and 0.6 of the first at that epoch
    assert "1st of 3 at epoch 1" in places["2"]  # 0.6, and 0.5 and 0.4


def test_on_a_narrow_terminal_a_place_is_short(watch):
    run, watcher = watch(spec())
    train(run, 0.5, 0.6)
    train(run, 0.4)
    assert [" ".join(line.split()[-3:]) for line in screen(watcher, 40) if "1/4" in line] == ["2nd of 2"]


def test_of_a_loss_the_lowest_is_the_first(watch):
    run, watcher = watch(spec(objective={"metric": "val_loss", "goal": "min", "target": 0.1}))
    for loss in (0.5, 0.3, float("nan")):
        trial = run.next_trial()
        run.epoch(trial.job.number, replace(epoch_records([0.5])[0], val_loss=loss))
    rows = [line.split() for line in screen(watcher) if "/4" in line]
    assert [(row[0], " ".join(row[4:7])) for row in rows] == [("0", "2nd of 3"), ("1", "1st of 3")]


def test_a_curve_is_drawn_from_the_first_epoch_to_the_horizon_on_the_scale_of_all(watch):
    run, watcher = watch(spec())
    train(run, 0.1, 0.5, 0.93)
    train(run, 0.1, 0.91)
    drawn = [line.split()[3] for line in screen(watcher, 80) if "/4" in line]
    assert drawn == ["▁▄█", "▁▇"]


def test_a_terminal_without_blocks_is_shown_other_characters(watch):
    run, watcher = watch(spec())
    train(run, 0.1, 0.5, 0.93)
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, "latin-1", streams.ERRORS)
    Console(file=file, width=80, height=24).print(watcher)
    file.flush()
    assert "_-#" in raw.getvalue().decode("latin-1")


def test_to_draw_a_large_study_costs_little(watch):
    run, watcher = watch(spec(trials=2000))
    curve = tuple(0.5 for _ in range(200))
    run.results |= {number: Result(Outcome.EXHAUSTED, 200, 8.5, values=curve) for number in range(10, 2000)}
    for _ in range(8):
        train(run, 0.5, 0.6)
    screen(watcher)
    began = time.process_time()
    for _ in range(10):
        screen(watcher)
    assert time.process_time() - began < 1  # ten draws; four are made a second


def test_a_control_trial_is_marked(watch):
    run, watcher = watch(spec(stopping={"control": 0.999}))
    train(run, 0.5)
    assert any(line.startswith("0 1/4 0.5000 ▁ running (control) ") for line in screen(watcher))


def test_ended_trials_are_rows_with_their_outcome(watch):
    run, watcher = watch(spec())
    train(run, 0.5, 0.93, 0.94, 0.95)
    run.error(train(run), "disk full", again=False)
    text = screen(watcher)
    assert any(
        line.startswith("0 4 0.9500 ▁███ reached at epoch 2, best val_acc 0.9500 at epoch 4 lr ") for line in text
    )
    assert any(line.startswith("1 0 - crashed: disk full lr ") for line in text)


def test_a_line_of_the_log_says_now_and_then_how_the_study_stands(watch, file, clock):
    run, _ = watch(spec())
    plain = PlainWatcher(Console(file=file))
    plain.watch(run)
    train(run, 0.5, 0.93, 0.94, 0.95)
    clock[0] = 61
    train(run, 0.5)
    epochs(plain, 1.5, 1.5)
    (summary,) = [line for line in file.getvalue().splitlines() if "ended:" in line]
    moment, *parts = summary.split(" · ")
    assert datetime.fromisoformat(moment).utcoffset() is not None
    assert parts[:3] == ["ended: 1 reached", "running: 1", "to come: 10"]
    assert parts[3].startswith("best so far: trial 0, ")
    assert parts[4:] == ["elapsed 1:01", "left about 1:04", "trial 1 at epoch 1/4"]


def test_summaries_become_rare(watch, file, clock):
    run, _ = watch(spec())
    plain = PlainWatcher(Console(file=file))
    plain.watch(run)
    train(run, 0.5)
    told = []
    for minute in range(24 * 60):
        clock[0] = 60.0 * minute
        before = file.tell()
        epochs(plain, 1.5)
        told += [minute] if file.tell() > before else []
    assert told[:6] == [1, 2, 3, 5, 8, 12]
    assert set(np.diff(told[-10:])) == {60}
    assert len(told) < 40


def test_a_trial_is_one_line_on_a_narrow_terminal_too(watch):
    run, watcher = watch(spec())
    run.error(train(run), "a very long story " * 10, again=False)
    rows = screen(watcher, width=60)[4:]
    assert rows[0].startswith("0 0 - crashed: a ve")
    assert "…" in rows[0]
    assert set(rows[1]) <= set("└─┴┘")


@pytest.mark.parametrize(
    ("width", "headings"),
    [
        (39, "trial epoch val_acc"),
        (40, "trial epoch val_acc outcome"),
        (59, "trial epoch val_acc outcome"),
        (60, "trial epoch val_acc curve outcome"),
        (99, "trial epoch val_acc curve outcome"),
        (100, "trial epoch val_acc curve outcome trains"),
        (400, "trial epoch val_acc curve outcome trains"),
    ],
)
def test_a_narrow_terminal_is_shown_fewer_columns(watch, width, headings):
    run, watcher = watch(spec())
    train(run, 0.5, 0.93, 0.94, 0.95)
    train(run, 0.5)
    assert screen(watcher, width)[2] == headings


def test_a_terminal_that_tells_no_width_has_a_usual_one(terminal, monkeypatch):
    monkeypatch.setenv("COLUMNS", "0")
    console = terminal(columns=0)
    with watching(console):
        assert console.width == 80


def test_the_latest_trials_that_ended_stay(watch):
    run, watcher = watch(spec())
    for _ in range(10):
        run.error(train(run), "disk full", again=False)
    ended = [line.split()[0] for line in screen(watcher) if "crashed: disk full" in line]
    assert ended == ["2", "3", "4", "5", "6", "7", "8", "9"]


@pytest.mark.parametrize(
    ("height", "trials"),
    [
        (24, ["2", "3", "4", "5", "6", "7", "8", "9", "10", "11"]),
        (12, ["8", "9", "10", "11"]),
        (10, ["10", "11"]),
        (9, []),
        (8, []),
        (3, []),
    ],
)
def test_a_low_terminal_is_shown_fewer_trials_those_that_run_first(watch, height, trials):
    run, watcher = watch(spec())
    for _ in range(10):
        train(run, 0.5, 0.5, 0.5, 0.5)
    train(run, 0.5)
    train(run, 0.5)
    lines = screen(watcher, 80, height)
    assert [line.split()[0] for line in lines if line.split()[1:2] in (["4"], ["1/4"])] == trials
    assert lines[-3] == "ended: 10 exhausted · running: 2 · to come: 0"
    assert ("running, not shown: 2" in lines) == (trials == [])


def test_the_line_below_counts_trials(watch):
    run, watcher = watch(spec())
    assert "ended: none · running: 0 · to come: 12" in screen(watcher)
    train(run, 0.5, 0.93, 0.94, 0.95)
    train(run, 0.5, 0.5, 0.5, 0.5)
    train(run, 0.5)
    assert "ended: 1 reached, 1 exhausted · running: 1 · to come: 9" in screen(watcher)


def test_the_best_so_far_is_named(watch):
    run, watcher = watch(spec())
    train(run, 0.5, 0.5, 0.5, 0.5)
    assert any(line == "no trial at the target yet" for line in screen(watcher))
    train(run, 0.5, 0.5, 0.94, 0.95)
    train(run, 0.5, 0.93, 0.94, 0.95)
    assert any(line == "best so far: trial 2, reached the target at epoch 2" for line in screen(watcher))


def test_the_time_left_is_of_the_epochs_that_are_left(watch):
    run, watcher = watch(spec())
    assert screen(watcher)[-1].endswith("left ?")
    train(run, 0.5, 0.5, 0.5, 0.5, seconds=60)
    train(run, 0.5, 0.5, seconds=60)
    train(run, 0.5, 0.5, seconds=60)
    # 2 + 2 epochs of the running trials and 9 trials of 4 epochs, a minute each, two at once.
    assert screen(watcher)[-1].endswith("left about 20:00")


def test_an_error_is_shown_below(watch):
    run, watcher = watch(spec())
    run.error(train(run), "ValueError: [red] is no colour", again=True)
    assert screen(watcher)[-1] == "trial 0: ValueError: [red] is no colour; started again"


@pytest.mark.parametrize(("tell", "words"), EVENTS)
def test_an_event_of_the_launch_is_shown_below(watch, tell, words):
    _, watcher = watch(spec())
    tell(watcher)
    assert screen(watcher)[-1].startswith(words)


def test_a_listed_run_is_shown_with_its_schedule(watch):
    runs = [{"name": "baseline", "schedule": "[1e-3, 0] cos[1e-5, 4]"}]
    run, watcher = watch(spec(space={}, search={}, run=runs, train={}))
    train(run, 0.5)
    assert f"baseline 1/4 0.5000 ▁ running {run.active[0].job.config.schedule}" in screen(watcher)


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (61, "1:01"), (3661, "1:01:01")])
def test_times_are_hours_minutes_and_seconds(seconds, text):
    assert live._clock(seconds) == text
