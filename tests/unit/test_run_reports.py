"""Trainers that report their epochs instead of yielding them."""

import signal
import threading
import time
from contextlib import closing, suppress
from pathlib import Path

import numpy as np
import pytest
import torch

from resnet_core import checkpoint, code, run
from resnet_core.run import Run, TrainerError, TrialStopped, own_epochs


def epochs_of(trainer, run=None):
    """Return the number and the accuracy of each epoch."""
    return [(record.epoch, record.val_acc) for record in own_epochs(trainer, None, run or Run(horizon=4))]


def reporting(config, run):
    for epoch in range(1, 5):
        run.report(val_acc=epoch / 10)


def kept(tmp_path, **more):
    return Run(checkpoint=tmp_path / "trial.pt", horizon=4, **more)


@pytest.fixture(autouse=True)
def no_thread_is_left():
    before = threading.active_count()
    yield
    assert threading.active_count() == before


def test_each_report_is_an_epoch():
    assert epochs_of(reporting) == [(1, 0.1), (2, 0.2), (3, 0.3), (4, 0.4)]


def test_the_next_epoch_waits_until_it_is_asked_for():
    begun = []

    def trainer(config, run):
        for epoch in range(1, 5):
            begun.append(epoch)
            run.report(val_acc=0.0)

    with closing(own_epochs(trainer, None, Run(horizon=4))) as epochs:
        next(epochs)
        next(epochs)
        assert begun == [1, 2]


def test_metrics_come_as_a_dict_and_as_keywords():
    def trainer(config, run):
        run.report({"val_acc": np.float32(0.5), "val_loss": torch.tensor(2.0)}, perplexity=7)

    (record,) = own_epochs(trainer, None, Run(horizon=1))
    values = record.values()
    assert values.pop("seconds") >= 0
    assert values == {"val_acc": 0.5, "val_loss": 2.0, "perplexity": 7.0}


def test_seconds_are_those_of_the_epoch_alone(monkeypatch):
    clock = iter(range(100, 200))
    monkeypatch.setattr(run.time, "perf_counter", lambda: next(clock))
    # The clock is read when an epoch begins and when it is reported, so every epoch takes one second.
    assert [record.seconds for record in own_epochs(reporting, None, Run(horizon=4))] == [1, 1, 1, 1]


def test_a_trainer_that_returns_early_ends_the_trial():
    assert epochs_of(lambda config, run: run.report(val_acc=0.5)) == [(1, 0.5)]


def test_a_trainer_that_never_reports():
    with pytest.raises(TrainerError, match=r"ended without an epoch: expected `yield` or run.report"):
        epochs_of(lambda config, run: None)


def test_an_epoch_of_run_epochs_without_a_report():
    def trainer(config, run):
        for epoch in run.epochs():
            if epoch != 2:
                run.report(val_acc=0.0)

    with pytest.raises(TrainerError, match=r"epoch 2 ended without metrics"):
        epochs_of(trainer)


def test_a_function_may_return_a_generator():
    def generator(run):
        for epoch in run.epochs():
            yield {"val_acc": epoch / 10}

    assert epochs_of(lambda config, run: generator(run)) == [(1, 0.1), (2, 0.2), (3, 0.3), (4, 0.4)]


def test_a_generator_must_not_report():
    def generator(config, run):
        run.report(val_acc=0.1)
        yield {"val_acc": 0.1}

    for trainer in (generator, lambda config, run: generator(config, run)):
        with pytest.raises(TrainerError, match="this trainer yields its metrics"):
            epochs_of(trainer)


def test_a_run_of_a_test_takes_reports():
    run = Run(horizon=4)
    reporting(None, run)
    assert run.is_finished


# Errors


def failing(config, run):
    run.report(val_acc=0.1)
    raise ValueError("no such layer")


def test_an_error_keeps_its_file_and_line():
    with pytest.raises(ValueError, match="no such layer") as caught:
        epochs_of(failing)
    line = failing.__code__.co_firstlineno + 2
    assert code.describe(caught.value) == f"{Path(__file__)}, line {line}: ValueError: no such layer"


def test_epochs_before_an_error_are_there():
    epochs = own_epochs(failing, None, Run(horizon=4))
    assert next(epochs).val_acc == 0.1
    with pytest.raises(ValueError, match="no such layer"):
        next(epochs)


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        ({}, "epoch 1 has no val_acc: expected it among its metrics"),
        ({"val_acc": "high"}, "metric 'val_acc' = 'high': expected a number"),
        ({"val_acc": 0.5, "epoch": 0}, "epoch = 0: expected a whole number from 1"),
        ({"val_acc": 0.5, "epoch": 1.5}, "epoch = 1.5: expected a whole number from 1"),
        ({"val_acc": 0.5, "epoch": 3}, "epoch 3 came after epoch 0: expected every epoch, in order"),
        (0.5, "float 0.5: expected a dict of metrics"),
    ],
)
def test_a_wrong_report_is_an_error_where_it_was_made(metrics, message):
    def trainer(config, run):
        run.report(metrics)

    with pytest.raises(TrainerError, match=message) as caught:
        epochs_of(trainer, Run(horizon=4, metric="val_acc"))
    assert any(frame.name == "trainer" for frame in caught.traceback)


def test_a_wrong_report_is_an_error_even_where_it_is_caught():
    def trainer(config, run):
        for _ in range(4):
            with suppress(Exception):
                run.report(val_acc="high")

    with pytest.raises(TrainerError, match="'high': expected a number"):
        epochs_of(trainer)


def test_sys_exit_ends_the_trial_and_not_the_process():
    def trainer(config, run):
        run.report(val_acc=0.1)
        raise SystemExit(3)

    with pytest.raises(TrainerError, match=r"ends the program: .*test_run_reports.py, line \d+: SystemExit: 3"):
        epochs_of(trainer)


def test_an_error_after_the_last_epoch_is_a_warning(caplog):
    def trainer(config, run):
        reporting(config, run)
        raise ValueError("no space for the plot")

    assert len(epochs_of(trainer)) == 4
    assert "raised an error after its last epoch" in caplog.text
    assert "no space for the plot" in caplog.text


# The end of a trial


def test_a_stop_raises_trial_stopped_in_report():
    seen = []

    def trainer(config, run):
        try:
            reporting(config, run)
        except Exception:
            seen.append("Exception")
        finally:
            seen.append("finally")

    epochs = own_epochs(trainer, None, Run(horizon=4))
    next(epochs)
    epochs.close()
    assert seen == ["finally"]


def test_a_stopped_trainer_that_goes_on_is_stopped_at_its_next_report():
    reports = []

    def trainer(config, run):
        for epoch in range(1, 5):
            try:
                run.report(val_acc=0.0)
            except TrialStopped:
                reports.append(epoch)

    epochs = own_epochs(trainer, None, Run(horizon=10))
    next(epochs)
    epochs.close()
    assert reports == [1, 2, 3, 4]


def test_a_stopped_trainer_that_does_not_end_is_an_error(monkeypatch):
    monkeypatch.setattr(run, "_SECONDS_TO_END", 0.1)
    end = threading.Event()

    def trainer(config, run):
        try:
            reporting(config, run)
        except TrialStopped:
            end.wait(30)

    epochs = own_epochs(trainer, None, Run(horizon=4))
    next(epochs)
    with pytest.raises(TrainerError, match=r"trainer of trial 0 still runs, 0.1 s after the trial was stopped"):
        epochs.close()
    end.set()
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and thread.name.startswith("trainer of"):
            thread.join()


def test_an_error_in_the_clean_up_of_a_stopped_trainer_is_a_warning(caplog):
    def trainer(config, run):
        try:
            reporting(config, run)
        finally:
            raise OSError("no such folder")

    epochs = own_epochs(trainer, None, Run(horizon=4))
    next(epochs)
    epochs.close()
    assert "raised an error when it was stopped" in caplog.text


def test_a_trainer_ends_by_itself_after_its_last_epoch():
    seen = []

    def trainer(config, run):
        reporting(config, run)
        seen.append("saved")

    epochs = own_epochs(trainer, None, Run(horizon=4))
    for _ in range(4):
        next(epochs)
    epochs.close()
    assert seen == ["saved"]


def test_reports_after_the_last_epoch_end_the_trainer():
    seen = []

    def trainer(config, run):
        for epoch in range(1, 100):
            run.report(val_acc=0.1)
            seen.append(epoch)

    assert len(epochs_of(trainer)) == 4
    assert seen == [1, 2, 3, 4]


@pytest.fixture
def interruptible():
    """SIGINT raises KeyboardInterrupt, also where a shell has started the tests in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_while_the_trainer_trains_stops_it():
    seen = []

    def trainer(config, run):
        run.report(val_acc=0.1)
        try:
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
            time.sleep(0.2)
            run.report(val_acc=0.2)
            run.report(val_acc=0.3)
        except TrialStopped:
            seen.append("stopped")
            raise

    with pytest.raises(KeyboardInterrupt):
        epochs_of(trainer)
    assert seen == ["stopped"]


def test_the_trainer_has_the_threads_of_the_trial():
    before = torch.get_num_threads()
    seen = []
    try:
        torch.set_num_threads(1)
        epochs_of(lambda config, run: (seen.append(torch.get_num_threads()), run.report(val_acc=0.0)))
    finally:
        torch.set_num_threads(before)
    assert seen == [1]


# Killed, and continued


def saving(config, run):
    total = run.load() or 0
    for epoch in run.epochs():
        total += epoch
        run.save(total)
        run.report(val_acc=total / 100)


def saving_without_run_epochs(config, run):
    total, done = run.load() or (0, 0)
    for epoch in range(done + 1, 5):
        total += epoch
        run.save((total, epoch))
        run.report(val_acc=total / 100)


def with_checkpoint_of_its_own(config, run):
    file = run.folder / "own.txt"
    total, done = map(int, file.read_text().split()) if file.exists() else (0, 0)
    for epoch in range(done + 1, 5):
        total += epoch
        run.report(val_acc=total / 100, epoch=epoch)
        file.write_text(f"{total} {epoch}")


@pytest.mark.parametrize("trainer", [saving, saving_without_run_epochs, with_checkpoint_of_its_own])
@pytest.mark.parametrize("epochs_before", [1, 2, 3, 4])
def test_a_killed_trial_continues_with_every_epoch_once(tmp_path, trainer, epochs_before):
    first = own_epochs(trainer, None, kept(tmp_path))
    for _ in range(epochs_before):
        next(first)
    first.close()
    assert epochs_of(trainer, kept(tmp_path)) == [(1, 0.01), (2, 0.03), (3, 0.06), (4, 0.1)]


def saving_behind_its_report(config, run):
    for epoch in run.epochs(4):
        run.report(val_acc=0.1)
        run.save(epoch)


def writing_when_stopped(config, run):
    try:
        for epoch in range(1, 5):
            run.report(val_acc=0.1, epoch=epoch)
            (run.folder / "own.txt").write_text("4")
    finally:
        (run.folder / "last.txt").write_text("4")


@pytest.mark.parametrize("trainer", [saving_behind_its_report, with_checkpoint_of_its_own, writing_when_stopped])
@pytest.mark.parametrize("epochs", [1, 4])
def test_nothing_is_left_of_a_trial_that_was_over_before_its_trainer_ended(tmp_path, trainer, epochs):
    with closing(own_epochs(trainer, None, kept(tmp_path))) as source:
        for _ in range(epochs):
            next(source)
        checkpoint.remove(tmp_path / "trial.pt")
    assert list(tmp_path.iterdir()) == []


def test_files_are_kept_where_no_epoch_was_reported_yet(tmp_path):
    def trainer(config, run):
        (run.folder / "own.txt").write_text("1")
        raise ValueError("out of memory")

    with pytest.raises(ValueError, match="out of memory"):
        epochs_of(trainer, kept(tmp_path))
    assert (tmp_path / "trial.files" / "own.txt").exists()


@pytest.mark.parametrize("trainer", [saving, saving_without_run_epochs])
def test_a_kill_between_save_and_report_trains_the_epoch_again(tmp_path, trainer):
    class Killed(KeyboardInterrupt):
        pass

    class KilledRun(Run):
        def report(self, *metrics, **more):
            if self._records:
                raise Killed
            super().report(*metrics, **more)

    with pytest.raises(Killed):
        list(own_epochs(trainer, None, KilledRun(checkpoint=tmp_path / "trial.pt", horizon=4)))
    assert epochs_of(trainer, kept(tmp_path)) == [(1, 0.01), (2, 0.03), (3, 0.06), (4, 0.1)]


def test_a_library_repeats_epochs_after_its_last_checkpoint(tmp_path):
    def trainer(config, run):
        for epoch in range(1, 5):  # as a library does whose checkpoint is gone
            run.report(val_acc=epoch / 10, epoch=epoch)

    first = own_epochs(trainer, None, kept(tmp_path))
    next(first)
    next(first)
    first.close()
    run = kept(tmp_path)
    assert [record.epoch for record in run._records] == [1, 2]
    assert epochs_of(trainer, run) == [(1, 0.1), (2, 0.2), (3, 0.3), (4, 0.4)]


def test_a_library_that_saves_before_its_report_gets_an_error(tmp_path):
    def trainer(config, run):
        run.report(val_acc=0.1, epoch=3)

    with pytest.raises(TrainerError, match=r"must save it after run.report"):
        epochs_of(trainer, kept(tmp_path))


def test_a_trainer_that_keeps_nothing_starts_again(tmp_path):
    first = own_epochs(reporting, None, kept(tmp_path))
    next(first)
    next(first)
    first.close()
    assert epochs_of(reporting, kept(tmp_path)) == [(1, 0.1), (2, 0.2), (3, 0.3), (4, 0.4)]
