"""A run of a trainer of somebody's own: its epochs, its state, and what is wrong with its metrics."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from resnet_core import checkpoint
from resnet_core.network_file import NetworkWriter, read_about
from resnet_core.run import Run, TrainerError, own_epochs

Trainer = Callable[[Any, Run], Iterator[dict[str, Any]]]
CONFIG = {"epochs": 5}


def counting(config: Any, run: Run) -> Iterator[dict[str, Any]]:
    """Count its epochs in its state."""
    state = run.load() or {"count": 0, "trained": []}
    for epoch in run.epochs():
        state = {"count": state["count"] + 1, "trained": [*state["trained"], epoch]}
        run.save(state)
        yield {"val_acc": state["count"] / 10}


def make_run(path: Path | None = None, horizon: int | None = 5, **more: Any) -> Run:
    return Run(checkpoint=path, config=CONFIG, horizon=horizon, **more)


def val_accs(trainer: Trainer, run: Run, epochs: int | None = None) -> list[float | None]:
    """Return the val_acc of each epoch; after ``epochs`` of them the trial is stopped."""
    found, records = [], own_epochs(trainer, None, run)
    for record in records:
        found.append(record.val_acc)
        if len(found) == epochs:
            break
    records.close()
    return found


def message(trainer: Trainer, **more: Any) -> str:
    with pytest.raises(TrainerError) as raised:
        list(own_epochs(trainer, None, make_run(**more)))
    return str(raised.value)


def yielding(*metrics: Any) -> Trainer:
    def trainer(config: Any, run: Run) -> Iterator[Any]:
        yield from metrics

    return trainer


def test_each_yield_is_an_epoch() -> None:
    records = list(own_epochs(counting, None, make_run()))
    assert [(record.epoch, record.val_acc) for record in records] == [(n, n / 10) for n in range(1, 6)]


def test_metrics_of_any_name_are_kept_and_the_wall_time_is_added() -> None:
    (record,) = own_epochs(yielding({"loss": 1, "auc": np.float32(0.5), "f1": torch.tensor(0.25)}), None, Run())
    assert record.loss == 1.0
    assert record.metrics == {"auc": 0.5, "f1": 0.25}
    assert record.seconds is not None
    assert record.seconds >= 0


def test_seconds_of_the_trainer_are_its_own() -> None:
    (record,) = own_epochs(yielding({"seconds": 7.0}), None, Run())
    assert record.seconds == 7.0


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_is_not_finite_is_a_measurement(value: float) -> None:
    (record,) = own_epochs(yielding({"loss": value}), None, Run())
    assert repr(record.loss) == repr(value)


@pytest.mark.parametrize("killed_after", [1, 2, 4])
def test_a_stopped_run_continues_behind_its_last_epoch(tmp_path: Path, killed_after: int) -> None:
    path = tmp_path / "c.pt"
    first = val_accs(counting, make_run(path), killed_after)
    again = val_accs(counting, make_run(path))
    assert first == again[:killed_after]
    assert again == [0.1, 0.2, 0.3, 0.4, 0.5]
    assert make_run(path).load() == {"count": 5, "trained": [1, 2, 3, 4, 5]}


def test_a_finished_run_trains_nothing_again(tmp_path: Path) -> None:
    val_accs(counting, make_run(tmp_path / "c.pt"))

    def never(config: Any, run: Run) -> Iterator[dict[str, Any]]:
        raise AssertionError
        yield {}

    assert val_accs(never, make_run(tmp_path / "c.pt")) == [0.1, 0.2, 0.3, 0.4, 0.5]


def test_a_trainer_that_saves_now_and_then_trains_the_epochs_since_again(tmp_path: Path) -> None:
    trained = []

    def trainer(config: Any, run: Run) -> Iterator[dict[str, Any]]:
        for epoch in run.epochs():
            trained.append(epoch)
            if epoch == 2:
                run.save({"epoch": epoch})
            yield {"val_acc": epoch / 10}

    val_accs(trainer, make_run(tmp_path / "c.pt"), 4)
    trained.clear()
    assert val_accs(trainer, make_run(tmp_path / "c.pt")) == [0.1, 0.2, 0.3, 0.4, 0.5]
    assert trained == [3, 4, 5]


def test_a_trainer_that_saves_nothing_begins_again_and_its_epochs_are_kept(tmp_path: Path) -> None:
    def trainer(config: Any, run: Run) -> Iterator[dict[str, Any]]:
        for epoch in run.epochs():
            yield {"val_acc": epoch / 10}

    val_accs(trainer, make_run(tmp_path / "c.pt"), 3)
    assert [record.val_acc for record in checkpoint.load_records(tmp_path / "c.pt")] == [0.1, 0.2, 0.3]
    assert val_accs(trainer, make_run(tmp_path / "c.pt")) == [0.1, 0.2, 0.3, 0.4, 0.5]


def test_a_state_saved_after_the_yield_belongs_to_that_epoch(tmp_path: Path) -> None:
    def trainer(config: Any, run: Run) -> Iterator[dict[str, Any]]:
        for epoch in run.epochs():
            yield {"val_acc": epoch / 10}
            run.save({"epoch": epoch})

    val_accs(trainer, make_run(tmp_path / "c.pt"), 3)  # the code behind the third yield does not run
    assert make_run(tmp_path / "c.pt").load() == {"epoch": 2}


def test_a_state_without_its_metrics_is_not_kept(tmp_path: Path) -> None:
    def trainer(config: Any, run: Run) -> Iterator[dict[str, Any]]:
        for epoch in run.epochs():
            run.save({"epoch": epoch})
            if epoch == 3:
                raise OSError("killed between save and yield")
            yield {"val_acc": epoch / 10}

    with pytest.raises(OSError, match="between"):
        val_accs(trainer, make_run(tmp_path / "c.pt"))
    assert make_run(tmp_path / "c.pt").load() == {"epoch": 2}


STATES: dict[str, Any] = {
    "tensors": {"w": torch.arange(6.0).view(2, 3)},
    "arrays": {"w": np.arange(4, dtype=np.int32), "b": np.float64(0.5)},
    "plain": {"n": 1, "x": 0.5, "on": True, "name": "a", "none": None, 3: "key"},
    "bytes": b"\x00\xffbooster",
    "nested": {"a": [1, (2, {"b": torch.tensor([1, 2])})]},
}


def described(state: Any) -> Any:
    """Return a state with tensors and arrays as types and lists of their values, to be compared."""
    if isinstance(state, dict):
        return {key: described(value) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(map(described, state))
    if isinstance(state, torch.Tensor):
        return ("tensor", state.dtype, state.tolist())
    if isinstance(state, np.ndarray | np.generic):
        return ("array", state.dtype, state.tolist())
    return state


@pytest.mark.parametrize("state", STATES.values(), ids=STATES)
def test_a_state_comes_back_as_it_was(tmp_path: Path, state: Any) -> None:
    def trainer(config: Any, run: Run) -> Iterator[dict[str, Any]]:
        for _ in run.epochs():
            run.save(state)
            yield {"val_acc": 0.5}

    val_accs(trainer, make_run(tmp_path / "c.pt"), 1)
    assert described(make_run(tmp_path / "c.pt").load()) == described(state)


class Pickled:
    """Something that only pickle could keep."""


@pytest.mark.parametrize(
    ("state", "place"),
    [
        (Pickled(), "state"),
        ({"model": [0, Pickled()]}, "state['model'][1]"),
        ({"names": np.array(["a"])}, "state['names']"),
        ({("a", 1): 0}, "state: the key ('a', 1)"),
    ],
)
def test_a_state_that_only_pickle_could_keep_is_refused(tmp_path: Path, state: Any, place: str) -> None:
    def trainer(config: Any, run: Run) -> Iterator[dict[str, Any]]:
        run.save(state)
        yield {"val_acc": 0.5}

    assert f"run.save: {place}" in message(trainer, path=tmp_path / "c.pt")


def test_a_checkpoint_of_another_configuration_is_refused(tmp_path: Path) -> None:
    val_accs(counting, make_run(tmp_path / "c.pt"), 1)
    with pytest.raises(checkpoint.CheckpointError, match="another run"):
        Run(checkpoint=tmp_path / "c.pt", config={"epochs": 6}, horizon=6)


def test_the_folder_of_a_run_is_removed_with_its_checkpoint(tmp_path: Path) -> None:
    run = make_run(tmp_path / "c.pt")
    (run.folder / "model.ckpt").write_text("weights")
    val_accs(counting, run, 1)
    checkpoint.remove(tmp_path / "c.pt")
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_keeps_nothing_has_no_folder() -> None:
    with pytest.raises(TrainerError, match="keeps nothing"):
        _ = Run().folder


@pytest.mark.parametrize(
    ("metrics", "said"),
    [
        ([], "ended without an epoch"),
        ([0.5], "epoch 1: float 0.5: expected a dict of metrics"),
        ([None], "epoch 1: NoneType None: expected a dict"),
        ([{"val_acc": 0.5}, {"val_acc": "0.9"}], "epoch 2: metric 'val_acc' = '0.9': expected a number"),
        ([{"val_acc": None, "loss": [1, 2]}], "epoch 1: metric 'loss' = [1, 2]: expected a number"),
        ([{"val_acc": 0.5, 7: 1.0}], "epoch 1: metric 7"),
        ([{"val_acc": 0.5, "a\nb": 1.0}], "epoch 1: metric 'a\\nb': expected a letter"),
        ([{"val_acc": np.bool_(True)}], "epoch 1: metric 'val_acc' = np.True_: expected a number"),
        ([{"val_acc": torch.tensor(True)}], "epoch 1: metric 'val_acc' = tensor(True): expected a number"),
        ([{"val_acc": 10**400}], "epoch 1: metric 'val_acc' = 1000"),
        ([{"val_acc": 0.5, "objective": 1.0}], "epoch 1: metric 'objective': expected another name"),
        ([{"val_acc": 0.5, "epoch": 1}, {"val_acc": 0.5, "epoch": 3}], "epoch 3 came after epoch 1"),
    ],
)
def test_metrics_that_break_the_contract_are_named_with_their_epoch(metrics: list[Any], said: str) -> None:
    def trainer(config: Any, run: Run) -> Iterator[Any]:
        yield from metrics

    assert said in message(trainer)


def test_metrics_after_the_last_epoch_are_told() -> None:
    run = make_run(horizon=1)
    assert run._take({"val_acc": 0.5}, 0.0) is not None
    with pytest.raises(TrainerError, match="epoch 2 came after the last of 1"):
        run._take({"val_acc": 0.5}, 0.0)


def test_the_metric_of_the_objective_must_be_there() -> None:
    said = message(yielding({"loss": 1.0, "acc": 0.5}), metric="val_acc")
    assert "epoch 1 has no val_acc" in said
    assert "it has: loss, acc" in said


def test_the_metric_of_the_objective_must_be_measured() -> None:
    assert "epoch 1 has no val_acc" in message(yielding({"loss": 1.0, "val_acc": None}), metric="val_acc")


def test_two_yields_in_one_epoch_are_told() -> None:
    def trainer(config: Any, run: Run) -> Iterator[dict[str, Any]]:
        for _ in run.epochs():
            yield {"val_acc": 0.5}
            yield {"val_acc": 0.6}

    assert "epoch 1 came twice" in message(trainer)


def test_another_number_of_epochs_than_the_configuration_says_is_told() -> None:
    def trainer(config: Any, run: Run) -> Iterator[dict[str, Any]]:
        for _ in run.epochs(4):
            yield {"val_acc": 0.5}

    assert "run.epochs(4): expected 5" in message(trainer)


def test_a_fraction_of_an_epoch_counts_as_one() -> None:
    assert list(Run(horizon=5).epochs(4.2)) == [1, 2, 3, 4, 5]


def test_an_epoch_without_a_yield_is_told() -> None:
    def trainer(config: Any, run: Run) -> Iterator[dict[str, Any]]:
        for epoch in run.epochs():
            if epoch != 2:
                yield {"val_acc": 0.5}

    assert "epoch 2 ended without metrics" in message(trainer)


def test_a_trainer_that_ends_early_ends_its_epochs() -> None:
    assert val_accs(yielding({"val_acc": 0.1}, {"val_acc": 0.2}), make_run()) == [0.1, 0.2]


def test_closing_the_epochs_closes_the_trainer() -> None:
    closed = []

    def trainer(config: Any, run: Run) -> Iterator[dict[str, Any]]:
        try:
            for _ in run.epochs():
                yield {"val_acc": 0.5}
        finally:
            closed.append(True)

    assert len(val_accs(trainer, make_run(), 2)) == 2
    assert closed == [True]


def test_what_stands_behind_the_loop_runs_after_the_last_epoch() -> None:
    done = []

    def trainer(config: Any, run: Run) -> Iterator[dict[str, Any]]:
        for _ in run.epochs():
            yield {"val_acc": 0.5}
        done.append("end")

    assert len(val_accs(trainer, make_run(), 5)) == 5
    assert done == ["end"]


def test_a_yield_after_the_last_epoch_is_ignored() -> None:
    assert len(val_accs(yielding(*[{"val_acc": 0.5}] * 9), make_run())) == 5


@pytest.mark.parametrize(("epochs", "when"), [(5, "after its last epoch"), (2, "when it was stopped")])
def test_an_error_in_the_clean_up_is_a_warning(epochs: int, when: str, caplog: pytest.LogCaptureFixture) -> None:
    def trainer(config: Any, run: Run) -> Iterator[dict[str, Any]]:
        try:
            for _ in run.epochs():
                yield {"val_acc": 0.5}
        finally:
            raise OSError("no such folder")

    assert len(val_accs(trainer, make_run(), epochs)) == epochs
    assert f"raised an error {when}" in caplog.text


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (SystemExit(3), "the trainer ends the program: "),
        (asyncio.CancelledError("x"), "the trainer raises what is no Exception: "),
    ],
)
def test_an_error_that_is_no_exception_is_told_with_file_and_line(error: BaseException, said: str) -> None:
    def trainer(config: Any, run: Run) -> Iterator[dict[str, Any]]:
        yield {"val_acc": 0.5}
        raise error

    assert message(trainer).startswith(f"{said}{__file__}, line ")


def test_an_interrupt_and_the_end_of_a_worker_of_ray_end_the_process() -> None:
    ended = SystemExit(1)
    ended.ray_terminate_msg = "The process receives a SIGTERM."  # type: ignore[attr-defined]
    for error in (KeyboardInterrupt(), ended):

        def trainer(config: Any, run: Run, error: BaseException = error) -> Iterator[dict[str, Any]]:
            yield {"val_acc": 0.5}
            raise error

        with pytest.raises(type(error)) as raised:
            list(own_epochs(trainer, None, make_run()))
        assert raised.value is error


def test_a_decorator_may_report_what_a_generator_yields() -> None:
    def generator(config: Any, run: Run) -> Iterator[dict[str, Any]]:
        for epoch in run.epochs():
            yield {"val_acc": epoch / 10}

    @functools.wraps(generator)
    def trainer(config: Any, run: Run) -> None:
        for metrics in generator(config, run):
            run.report(metrics)

    records = own_epochs(trainer, None, make_run())
    assert [record.val_acc for record in records] == [0.1, 0.2, 0.3, 0.4, 0.5]


def test_a_trainer_that_yields_must_not_report() -> None:
    def trainer(config: Any, run: Run) -> Iterator[dict[str, Any]]:
        run.report({"val_acc": 0.5})
        yield {"val_acc": 0.5}

    assert "this trainer yields its metrics" in message(trainer)


def test_a_trainer_is_tested_with_a_run_alone() -> None:
    @dataclasses.dataclass(frozen=True)
    class Config:
        epochs: int = 3

    def train(config: Config, run: Run) -> Iterator[dict[str, Any]]:
        for epoch in run.epochs(config.epochs):
            yield {"val_acc": epoch / 10}

    assert list(train(Config(), Run())) == [{"val_acc": 0.1}, {"val_acc": 0.2}, {"val_acc": 0.3}]


def test_a_tensor_that_needs_a_gradient_is_a_number() -> None:
    (record,) = own_epochs(yielding({"loss": torch.tensor(0.5, requires_grad=True)}), None, Run())
    assert record.loss == 0.5


def kept_in(path: Path) -> tuple[int, float, np.ndarray[Any, Any]]:
    """Return the epoch of a network, the metric that it says, and its tensor w."""
    about = read_about(path)
    return about.epoch, about.value, load_file(path)["w"]


def saving(*epochs: int) -> Trainer:
    """Return a trainer that gives its network in these epochs, and changes it in place afterwards."""

    def trainer(config: Any, run: Run) -> Iterator[dict[str, Any]]:
        w = np.zeros(2, np.float32)
        for epoch in run.epochs():
            w += 1
            if epoch in epochs:
                run.save_model({"w": w})
            w += 0.5
            yield {"val_acc": epoch / 10}

    return trainer


def test_a_network_is_written_with_its_epochs_metrics(tmp_path: Path) -> None:
    path = tmp_path / "0.safetensors"
    writer = NetworkWriter(path, {"study": "s", "trial": "a", "trainer": "m:t"})
    seen = []
    for record in own_epochs(saving(2, 4), None, make_run(tmp_path / "0.pt", network=writer)):
        seen.append(kept_in(path)[:2] if path.exists() else None)
        assert record.epoch == len(seen)
    assert seen == [None, (2, 0.2), (2, 0.2), (4, 0.4), (4, 0.4)]
    np.testing.assert_array_equal(kept_in(path)[2], [5.5, 5.5])
    about = read_about(path)
    assert (about.study, about.trial, about.trainer, about.config) == ("s", "a", "m:t", CONFIG)


def test_torchs_tensors_and_views_of_them_are_kept(tmp_path: Path) -> None:
    def trainer(config: Any, run: Run) -> Iterator[dict[str, Any]]:
        network = torch.nn.Linear(2, 2)
        run.save_model({**network.state_dict(), "w": network.weight.T, "n": np.arange(3)})
        yield {"val_acc": 0.5}

    path = tmp_path / "0.safetensors"
    list(own_epochs(trainer, None, make_run(horizon=1, network=NetworkWriter(path))))
    assert {name: value.shape for name, value in load_file(path).items()} == {
        "weight": (2, 2), "bias": (2,), "w": (2, 2), "n": (3,),
    }  # fmt: skip


def test_a_run_whose_study_keeps_no_networks_writes_none(tmp_path: Path) -> None:
    assert len(val_accs(saving(1, 2), make_run(tmp_path / "0.pt"))) == 5
    assert not list(tmp_path.glob("*.safetensors*"))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([1, 2], "list: expected a dict"),
        ({"w": [1.0]}, "w is a builtins.list"),
        ({1: np.zeros(1)}, "the name 1 is no text"),
        ({"w": np.array(["a"])}, "w is a numpy.ndarray"),
    ],
)
def test_what_is_no_network_is_refused(given: Any, said: str) -> None:
    def trainer(config: Any, run: Run) -> Iterator[dict[str, Any]]:
        run.save_model(given)
        yield {"val_acc": 0.5}

    assert f"run.save_model: {said}" in message(trainer)


def test_a_network_after_the_last_epochs_metrics_is_too_late(caplog: pytest.LogCaptureFixture) -> None:
    def trainer(config: Any, run: Run) -> Iterator[dict[str, Any]]:
        for _ in run.epochs():
            yield {"val_acc": 0.5}
        run.save_model({"w": np.zeros(1)})

    assert len(val_accs(trainer, make_run())) == 5
    assert "after the metrics of the last epoch" in caplog.text


def test_a_trainer_that_reports_keeps_its_network_too(tmp_path: Path) -> None:
    def trainer(config: Any, run: Run) -> None:
        for epoch in run.epochs():
            run.report(val_acc=epoch / 10)
            if epoch == 3:
                run.save_model({"w": np.full(1, epoch)})  # after its report, and within its epoch

    path = tmp_path / "0.safetensors"
    run = make_run(tmp_path / "0.pt", network=NetworkWriter(path))
    assert len(val_accs(trainer, run, epochs=4)) == 4  # type: ignore[arg-type]
    assert kept_in(path)[:2] == (3, 0.3)


def test_a_trial_that_was_ended_does_not_write_its_network_again(tmp_path: Path) -> None:
    path, file = tmp_path / "0.safetensors", tmp_path / "0.pt"
    epochs = own_epochs(saving(1, 2, 3), None, make_run(file, network=NetworkWriter(path)))
    next(epochs)
    for ended in (path, file):
        ended.unlink()
    next(epochs)
    assert not path.exists()
