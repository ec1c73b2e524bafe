"""Runs as a whole: their records, their randomness, and how they go on after an interruption."""

import copy
import dataclasses
import json
import math
import subprocess
import sys
from collections.abc import Callable
from functools import lru_cache
from itertools import islice, product
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import resnet_core
from resnet_core import checkpoint as checkpoints
from resnet_core import trainer, training_run
from resnet_core.checkpoint import CheckpointError
from resnet_core.config import TrialConfig, epoch_sizes
from resnet_core.draws import draw
from resnet_core.graph import warm_up
from resnet_core.images import load, normalise
from resnet_core.network import build
from resnet_core.optimizer import Optimizer, StepValues, step_values
from resnet_core.records import EpochRecord
from tests.image_files import write

CPU = torch.device("cpu")
NOWHERE = Path("nowhere")
BATCH, REST, VAL = 12, 2, 12
TRAIN = 2 * BATCH + REST


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def _saved_after_every_epoch(monkeypatch):
    monkeypatch.setattr(checkpoints, "EPOCHS_BETWEEN", 1)


def small(**fields: object) -> TrialConfig:
    """Two steps and a part of one an epoch, with everything on that draws at random."""
    values = {
        **{"schedule": "[0.01, 0] lin[0.002, 4]", "model": "resnet11v2", "data": "digits", "image_size": 16},
        **{"train_limit": TRAIN, "val_limit": VAL, "batch_size": BATCH, "optimizer": "adam", "shift": 0.1},
    }
    return TrialConfig(**{**values, **fields})  # type: ignore[arg-type]


def run(config: TrialConfig, checkpoint: Path | None = None) -> list[EpochRecord]:
    return list(trainer.train(config, data_dir=NOWHERE, checkpoint=checkpoint))


def curve(records: list[EpochRecord]) -> list[EpochRecord]:
    """The records without what the clock says."""
    return [dataclasses.replace(r, seconds=0, images_per_second=0) for r in records]


@lru_cache(maxsize=8)
def uninterrupted(config: TrialConfig) -> list[EpochRecord]:
    return curve(run(config))


def interrupt(config: TrialConfig, checkpoint: Path, epochs: int) -> list[EpochRecord]:
    """Train for so many epochs and stop."""
    training = trainer.train(config, data_dir=NOWHERE, checkpoint=checkpoint)
    records = list(islice(training, epochs))
    training.close()
    return records


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.ckpt"


# The records


@pytest.mark.parametrize(("fields", "horizon"), [({}, 4), ({"epochs": 2}, 2), ({"epochs": 5}, 5)], ids=str)
def test_there_is_a_record_for_every_epoch_counted_from_one(fields, horizon):
    records = run(small(train_limit=20, val_limit=10, **fields))
    assert [record.epoch for record in records] == list(range(1, horizon + 1))


def test_lr_and_wd_lr_are_those_of_the_last_step_of_the_epoch():
    config = small(schedule="[0.01, 0] lin[0.004, 2]", weight_decay_schedule="[0.3, 0] lin[0, 2]")
    records = run(config)
    lrs = [config.lr_schedule.value(epoch + 2 / 3) for epoch in (0, 1)]
    decays = [config.wd_schedule.value(epoch + 2 / 3) for epoch in (0, 1)]
    assert [r.lr for r in records] == pytest.approx(lrs, rel=1e-12)
    assert [r.wd_lr for r in records] == pytest.approx(
        [lr * decay for lr, decay in zip(lrs, decays, strict=True)], rel=1e-12
    )


def test_the_clock_of_a_record_counts_training_images(monkeypatch):
    ticks = iter([10.0, 11.0, 13.0, 16.0])  # before all, before and after training, after all
    monkeypatch.setattr(training_run, "time", SimpleNamespace(perf_counter=lambda: next(ticks)))
    (record,) = run(small(epochs=1))
    assert record.seconds == 6
    assert record.images_per_second == TRAIN / 2


def test_loss_and_accuracy_are_means_over_images_and_the_last_batch_counts_by_its_size():
    # A learning rate of 0 keeps the network as it was built, so that its forward passes can be repeated.
    config = small(schedule="[0, 0] lin[0, 1]", shift=0.0, flip=False)
    (record,) = run(config)
    data, network = load(config, NOWHERE), build(config).train()
    losses, right = 0.0, 0
    for chosen in draw(config, 1, TRAIN).order.split(BATCH):
        labels = data.train_labels[chosen]
        logits = network(normalise(data.train_images[chosen], data.mean)).detach()
        losses += F.cross_entropy(logits, labels, reduction="sum").item()
        right += (logits.argmax(1) == labels).sum().item()
    assert record.loss == pytest.approx(losses / TRAIN, rel=1e-4)
    assert record.acc == right / TRAIN


def test_validation_is_on_images_as_they_are_with_the_network_in_eval_mode():
    config = small(schedule="[0, 0] lin[0, 1]")
    (record,) = run(config)
    held = training_run.TrainingRun(config, load(config, NOWHERE), CPU)
    held.train_epoch(1)
    data, network = load(config, NOWHERE), held._network.eval()
    with torch.no_grad():
        logits = network(normalise(data.val_images, data.mean))
    assert record.val_loss == pytest.approx(F.cross_entropy(logits, data.val_labels).item(), rel=1e-4)
    assert record.val_acc == (logits.argmax(1) == data.val_labels).sum().item() / VAL


def test_a_network_learns_the_digits():
    config = small(schedule="[0.01, 0] lin[1e-4, 3]", train_limit=400, batch_size=32, shift=0.0, flip=False)
    assert run(config)[-1].acc > 0.8


def test_a_run_that_blows_up_says_so_in_its_loss_and_goes_on():
    records = run(small(schedule="[1e30, 0] lin[1e30, 2]", optimizer="sgd"))
    assert len(records) == 2
    assert not math.isfinite(records[-1].loss)


# The steps


def test_every_image_is_trained_on_and_the_last_batch_is_what_is_left(monkeypatch):
    sizes = []
    monkeypatch.setattr(training_run, "shift_and_flip", lambda images, *_draws: sizes.append(len(images)) or images)
    run(small(epochs=2))
    assert sizes == [BATCH, BATCH, REST] * 2


def test_the_optimizer_is_told_learning_rate_decay_and_momentum_at_every_step(monkeypatch):
    told, plan = [], Optimizer.plan

    def record_plan(self: Optimizer, values: StepValues) -> torch.Tensor:
        told.extend(zip(values.lr, values.weight_decay, values.momentum, strict=True))
        return plan(self, values)

    monkeypatch.setattr(Optimizer, "plan", record_plan)
    config = small(epochs=2, weight_decay_schedule="[0.3, 0] cos[0, 2]", momentum_schedule="[0.9, 0] lin[0.8, 2]")
    run(config)
    schedules = (config.lr_schedule, config.wd_schedule, config.mom_schedule)
    places = [epoch + i / 3 for epoch in (0, 1) for i in range(3)]
    assert told == [tuple(schedule.value(at) for schedule in schedules) for at in places]


@pytest.mark.parametrize(
    ("fields", "moved", "mirrored"),
    [({}, True, True), ({"shift": 0.0}, False, True), ({"flip": False}, True, False)],
    ids=str,
)
def test_augmentation_is_given_what_the_config_turns_on(monkeypatch, fields, moved, mirrored):
    given = []
    monkeypatch.setattr(training_run, "shift_and_flip", lambda *args: given.append(args[1:]) or args[0])
    config = small(epochs=1, **fields)
    run(config)
    draws = draw(config, 1, TRAIN)
    for row, turned_on, expected in ((0, moved, draws.offsets), (1, mirrored, draws.mirrored)):
        seen = [args[row] for args in given]
        if turned_on:
            assert torch.equal(torch.cat(seen), expected)
        else:
            assert seen == [None, None, None]


def make_run(config: TrialConfig) -> Any:
    return training_run.TrainingRun(config, load(config, NOWHERE), CPU)


def test_batch_norm_goes_on_learning_after_a_validation():
    held = make_run(small())
    held.epoch(1)
    held.epoch(2)
    counts = {m.num_batches_tracked.item() for m in held._network.modules() if isinstance(m, nn.BatchNorm2d)}
    assert counts == {6}


def test_validation_changes_nothing_in_the_network():
    held = make_run(small())
    held.train_epoch(1)
    before = copy.deepcopy(held._network.state_dict())
    held._validate()
    assert all(torch.equal(value, before[name]) for name, value in held._network.state_dict().items())


@pytest.mark.parametrize("tested", [False, True], ids=["validation", "test"])
@pytest.mark.parametrize("fields", [{}, {"ema": 0.9}, {"bn_recalibration": 40}], ids=lambda fields: str(*fields))
def test_evaluation_keeps_nothing_for_a_backward_pass(tested, fields):
    """What it kept would be the activations of all images at once: more than any machine has."""
    held = make_run(of_a_test_run(**fields))
    network = held._network if held._average is None else held._average.network
    kept = []
    network.register_forward_hook(lambda _module, _inputs, logits: kept.append(logits.requires_grad))
    held._evaluate(*held._data.test) if tested else held._validate()
    assert kept
    assert not any(kept)


def test_validation_does_not_depend_on_its_batches(monkeypatch):
    held = make_run(small())
    held.train_epoch(1)
    whole = held._validate()
    monkeypatch.setattr(training_run, "EVALUATION_BATCH", {"cpu": 7})
    torch.testing.assert_close(held._validate(), whole, rtol=1e-6, atol=0)


def test_bf16_trains_near_to_fp32():
    (full,) = uninterrupted(small(epochs=1))
    (half,) = run(small(epochs=1, precision="bf16"))
    assert half.loss != full.loss  # it was in another precision
    assert half.loss == pytest.approx(full.loss, rel=0.05)


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_training_and_validation_are_in_the_precision_of_the_config(precision, dtype):
    held = make_run(small(precision=precision))
    seen = []
    for network in (held._working.network, held._network):  # what is trained, what is validated
        network.register_forward_hook(lambda _module, _inputs, logits: seen.append(logits.dtype))
    held.epoch(1)
    assert seen == [dtype] * 4  # three steps and a validation


def test_crop_and_cutout_get_their_rows_of_the_draws(monkeypatch):
    given: dict[str, list[torch.Tensor]] = {"crop": [], "cutout": []}
    for name, seen in given.items():
        monkeypatch.setattr(training_run, name, lambda images, places, _size, seen=seen: seen.append(places) or images)
    config = small(epochs=1, crop=2, cutout=4)
    run(config)
    draws = draw(config, 1, TRAIN)
    assert torch.equal(torch.cat(given["crop"]), draws.corners)
    assert torch.equal(torch.cat(given["cutout"]), draws.centres)


def test_training_with_crop_and_cutout_is_another_training():
    plain, changed = (uninterrupted(small(epochs=1, **fields)) for fields in ({}, {"crop": 2, "cutout": 4}))
    assert plain[0].loss != changed[0].loss


def test_the_average_is_what_is_validated_and_not_what_is_trained():
    plain, averaged = (uninterrupted(small(**fields)) for fields in ({}, {"ema": 0.9}))
    assert [record.loss for record in averaged] == [record.loss for record in plain]
    assert all(a.val_loss != b.val_loss for a, b in zip(averaged, plain, strict=True))


def test_the_average_of_a_short_memory_is_the_network():
    # A decay of next to nothing keeps next to nothing of what was before.
    plain, averaged = (uninterrupted(small(**fields)) for fields in ({}, {"ema": 1e-6}))
    pairs = zip(averaged, plain, strict=True)
    assert all(a.val_loss == pytest.approx(b.val_loss, rel=1e-3) for a, b in pairs)


def test_recalibration_changes_what_is_validated_and_nothing_else():
    plain, other = (uninterrupted(small(**fields)) for fields in ({}, {"bn_recalibration": 50}))
    assert [record.loss for record in other] == [record.loss for record in plain]
    assert all(a.val_loss != b.val_loss for a, b in zip(other, plain, strict=True))


def test_on_a_plateau_the_learning_rate_is_cut():
    # Without a step val_loss falls by nothing; with patience 0 every epoch after the first is one too many.
    config = small(schedule="[1e-12, 0] lin[1e-12, 4]", plateau_factor=0.1, plateau_patience=0, plateau_threshold=0.5)
    assert [record.lr for record in run(config)] == pytest.approx([1e-12, 1e-12, 1e-13, 1e-14])


def test_recording_a_step_leaves_no_trace():
    # What a CUDA graph's recording does ahead of the first step, on the CPU.
    warmed_up, plain = make_run(small(ema=0.9)), make_run(small(ema=0.9))
    values = step_values(small(), 1, 3)
    for held in (warmed_up, plain):
        held._coefficients.copy_(held._optimizer.plan(values))
    for size in (BATCH, REST):
        warm_up(warmed_up._take_step, size, warmed_up._state())
    pairs = list(zip(warmed_up._state(), plain._state(), strict=True))
    assert all(torch.equal(a, b) for a, b in pairs)


def test_every_tensor_that_a_step_changes_is_in_its_state():
    held = make_run(small(ema=0.9))
    held._coefficients.copy_(held._optimizer.plan(step_values(small(), 1, 3)))
    held._augment(0)
    known = {tensor.data_ptr() for tensor in held._state()}
    tensors = {name: value for name, value in vars(held).items() if isinstance(value, torch.Tensor)}
    before = {name: value.clone() for name, value in tensors.items()}
    held._take_step(BATCH)
    changed = {name for name, value in tensors.items() if not torch.equal(value, before[name])}
    assert changed == {"_counter", "_losses", "_outputs"}
    assert all(tensors[name].data_ptr() in known for name in changed)


def test_the_records_of_the_steps_are_the_parts_of_their_epoch():
    config = small(epochs=2)
    epochs = list(trainer.step_records(config, data_dir=NOWHERE))
    records = [record for epoch in epochs for record in epoch]
    assert [record.step for record in records] == [0, 1, 2, 3, 4, 5]
    assert [record.epoch for record in records] == pytest.approx([0, 1 / 3, 2 / 3, 1, 4 / 3, 5 / 3])
    assert [record.lr for record in records] == [config.lr_schedule.value(record.epoch) for record in records]
    for steps, whole in zip(epochs, uninterrupted(config), strict=True):
        mean = sum(record.loss * size for record, size in zip(steps, (BATCH, BATCH, REST), strict=True)) / TRAIN
        assert mean == pytest.approx(whole.loss)


# Randomness


# Many CPUs take seconds for a step in bf16.
@pytest.mark.parametrize("fields", [{}, {"split": "pooled"}, {"precision": "bf16", "epochs": 1}], ids=str)
def test_the_same_config_gives_the_same_curve_whatever_was_drawn_before(fields):
    config = small(**{"epochs": 2} | fields)
    torch.manual_seed(1)
    one = run(config)
    torch.manual_seed(2)
    assert curve(run(config)) == curve(one)


def test_another_seed_gives_another_curve():
    one, other = (uninterrupted(small(epochs=1, seed=seed)) for seed in (0, 1))
    assert one[0].loss != other[0].loss


def test_the_first_weights_are_those_of_the_seed():
    weights, expected = make_run(small(seed=3))._network.state_dict(), build(small(seed=3)).state_dict()
    assert all(torch.equal(weights[name], expected[name]) for name in expected)


# Interruption

OPTIMIZERS = [
    {"optimizer": "adam", "l2": 1e-4},
    {"optimizer": "adamw", "weight_decay_schedule": "[0.3, 0] lin[0, 4]"},
    {"optimizer": "sgd", "nesterov": True, "weight_decay": 0.01, "split": "pooled"},
    {"optimizer": "amsgrad", "ema": 0.9},
    {"optimizer": "nadam", "momentum_schedule": "[0.9, 0] lin[0.8, 4]"},
    {"optimizer": "padam", "plateau_factor": 0.5, "plateau_patience": 0, "plateau_threshold": 0.5},
    {"optimizer": "sgd", "bn_recalibration": 40, "crop": 2, "cutout": 4},
]


@pytest.mark.parametrize("epochs", [1, 2, 3])
@pytest.mark.parametrize("fields", OPTIMIZERS, ids=str)
def test_a_continued_run_is_the_uninterrupted_one_to_the_last_bit(path, fields, epochs):
    config = small(**fields)
    interrupt(config, path, epochs)
    assert curve(run(config, path)) == uninterrupted(config)


def test_a_run_interrupted_after_every_epoch_is_the_uninterrupted_one(path):
    config = small()
    for epochs in (1, 2, 3):
        interrupt(config, path, epochs)
    assert curve(run(config, path)) == uninterrupted(config)


def test_a_run_that_saves_every_third_epoch_is_the_uninterrupted_one(path, monkeypatch):
    config = small(epochs=5)
    monkeypatch.setattr(checkpoints, "EPOCHS_BETWEEN", 3)
    for epochs, saved in ((2, 0), (4, 3), (5, 5)):
        interrupt(config, path, epochs)
        assert len(checkpoints.load_records(path)) == saved
    assert curve(run(config, path)) == uninterrupted(config)


CONTINUE = """
import json, sys, torch
from pathlib import Path
from resnet_core.config import TrialConfig, epoch_sizes
from resnet_core.trainer import train
torch.set_num_threads(1)
config = TrialConfig.from_dict(json.loads(sys.argv[1]))
records = train(config, data_dir=Path("nowhere"), checkpoint=Path(sys.argv[2]))
print(json.dumps([record.to_dict() for record in records]))
"""


def test_a_run_continued_in_another_process_is_the_uninterrupted_one(path):
    config = small()
    interrupt(config, path, 2)
    command = [sys.executable, "-c", CONTINUE, json.dumps(config.to_dict()), str(path)]
    root = Path(resnet_core.__file__).parents[1]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    assert curve([EpochRecord(**record) for record in json.loads(done.stdout)]) == uninterrupted(config)


def test_the_epochs_of_a_checkpoint_come_again_as_they_were_recorded(path):
    config = small()
    first = interrupt(config, path, 2)
    assert interrupt(config, path, 2) == first  # seconds and all: nothing was trained again


def refuse(*_args: object) -> NoReturn:
    raise AssertionError("the images were asked for")


def test_a_finished_run_returns_its_records_without_loading_images(path, monkeypatch):
    config = small(epochs=2)
    first = run(config, path)
    monkeypatch.setattr(trainer, "load", refuse)
    assert run(config, path) == first


def test_what_a_checkpoint_remembers_comes_before_the_images_are_loaded(path, monkeypatch):
    config = small(epochs=2)
    first = interrupt(config, path, 1)
    monkeypatch.setattr(trainer, "load", refuse)
    assert interrupt(config, path, 1) == first


@pytest.mark.parametrize("epochs", [1, 2])
def test_a_record_is_in_the_checkpoint_when_it_is_yielded(path, epochs):
    assert interrupt(small(), path, epochs) == checkpoints.load_records(path)
    assert len(checkpoints.load_records(path)) == epochs


def test_a_checkpoint_that_is_not_there_remembers_nothing(path):
    assert checkpoints.load_records(path) == []


def test_without_a_checkpoint_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run(small(epochs=1))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("fields", [{"seed": 1}, {"shift": 0.2}, {"epochs": 3}, {"seed": 1, "batch_size": 16}], ids=str)
def test_a_checkpoint_of_another_run_is_refused_naming_what_differs(path, fields):
    interrupt(small(), path, 1)
    with pytest.raises(CheckpointError) as caught:
        run(small(**fields), path)
    assert str(path) in str(caught.value)
    named = str(caught.value).partition("(")[2].partition(" differ)")[0]
    assert set(named.split(", ")) == fields.keys()


def rewrite(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    state = checkpoints.load(path)
    assert state is not None
    change(state)
    checkpoints.save(path, state)


def test_a_checkpoint_older_than_a_field_takes_its_default(path):
    config = small()
    interrupt(config, path, 1)
    rewrite(path, lambda state: state["config"].pop("precision"))
    assert curve(run(config, path)) == uninterrupted(config)


def test_a_checkpoint_with_a_field_unknown_here_is_refused_naming_it(path):
    interrupt(small(), path, 1)
    rewrite(path, lambda state: state["config"].update(lookahead=5))
    with pytest.raises(CheckpointError, match="lookahead"):
        run(small(), path)


def test_a_run_with_a_damaged_checkpoint_goes_on_from_the_one_before_it(path):
    config = small()
    interrupt(config, path, 2)
    path.write_bytes(path.read_bytes()[:1000])
    assert curve(run(config, path)) == uninterrupted(config)


def test_a_checkpoint_that_cannot_be_written_stops_the_run(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        run(small(epochs=1), tmp_path / "file" / "run.ckpt")


# The test set


def of_a_test_run(**fields: object) -> TrialConfig:
    return small(**{"split": "held-out", "epochs": 2, "test": True, **fields})


def test_each_epoch_has_the_test_set():
    records = run(of_a_test_run())
    assert [record.test_acc is None for record in records] == [False, False]
    assert [record.test_loss is None for record in records] == [False, False]


def test_a_run_that_does_not_test_has_nothing_of_the_test_set():
    assert [(r.test_loss, r.test_acc) for r in run(of_a_test_run(test=False))] == [(None, None)] * 2


def test_the_test_set_is_evaluated_with_the_weights_of_the_epoch(tmp_path):
    path = tmp_path / "run.ckpt"
    config = of_a_test_run()
    last = run(config, path)[-1]
    network = build(config).to(memory_format=torch.channels_last)
    network.load_state_dict(checkpoints.load(path)["network"])
    data = load(config, NOWHERE)
    with torch.no_grad():
        logits = network.eval()(normalise(data.test_images, data.mean))
    assert last.test_acc == pytest.approx((logits.argmax(1) == data.test_labels).float().mean().item())
    assert last.test_loss == pytest.approx(F.cross_entropy(logits, data.test_labels).item(), rel=1e-5)


@pytest.mark.parametrize("protocol", [{}, {"ema": 0.9}, {"bn_recalibration": 40}], ids=lambda fields: str(*fields))
def test_the_curve_is_the_same_with_and_without_the_test_set(protocol):
    without = [dataclasses.replace(r, test_loss=None, test_acc=None) for r in curve(run(of_a_test_run(**protocol)))]
    assert without == curve(run(of_a_test_run(test=False, **protocol)))


@pytest.mark.parametrize("protocol", [{}, {"ema": 0.9}, {"bn_recalibration": 40}], ids=lambda fields: str(*fields))
def test_the_final_weights_are_the_same_with_and_without_the_test_set(protocol, tmp_path):
    for test in (True, False):
        run(of_a_test_run(test=test, **protocol), tmp_path / f"{test}.ckpt")
    tested, untested = (checkpoints.load(tmp_path / f"{test}.ckpt")["network"] for test in (True, False))
    assert all(torch.equal(tested[name], untested[name]) for name in tested)


@pytest.mark.parametrize("protocol", [{"ema": 0.9}, {"bn_recalibration": 40}], ids=lambda fields: str(*fields))
def test_the_test_set_is_evaluated_as_the_validation_set_is(protocol, monkeypatch):
    """With the validation images in the test set's place both figures are the same."""

    def twice(config: TrialConfig, data_dir: Path) -> Any:
        data = load(config, data_dir)
        return dataclasses.replace(data, test_images=data.val_images, test_labels=data.val_labels)

    monkeypatch.setattr(trainer, "load", twice)
    last = run(of_a_test_run(**protocol))[-1]
    assert (last.test_loss, last.test_acc) == (last.val_loss, last.val_acc)


def test_a_run_that_has_ended_does_not_evaluate_the_test_set_again(tmp_path, monkeypatch):
    path = tmp_path / "run.ckpt"
    first = run(of_a_test_run(), path)
    monkeypatch.setattr(trainer, "load", refuse)
    assert run(of_a_test_run(), path) == first


def test_a_continued_run_has_the_test_set_of_the_epochs_before_it_too(tmp_path):
    path = tmp_path / "run.ckpt"
    interrupt(of_a_test_run(), path, 1)
    assert curve(run(of_a_test_run(), path)) == curve(run(of_a_test_run()))


def test_a_checkpoint_from_before_there_was_a_test_set_still_loads(tmp_path):
    path = tmp_path / "run.ckpt"
    interrupt(small(epochs=2), path, 1)
    state = checkpoints.load(path)
    del state["config"]["test"]
    assert not {"test_loss", "test_acc"} & {name for record in state["records"] for name in record}
    checkpoints.save(path, state)
    assert curve(run(small(epochs=2), path)) == curve(run(small(epochs=2)))


# Sizes and cost


@pytest.mark.parametrize("split", ["official", "pooled", "held-out"])
@pytest.mark.parametrize(("train_limit", "val_limit"), [*product((None, 100), (None, 50)), (5000, 5000)])
def test_epoch_sizes_are_those_of_the_images_of_digits(split, train_limit, val_limit):
    config = small(split=split, train_limit=train_limit, val_limit=val_limit)
    data = load(config, NOWHERE)
    assert epoch_sizes(config) == (len(data.train_labels), len(data.val_labels))


@pytest.mark.parametrize(
    ("split", "limit", "sizes"),
    [
        ("official", None, (50_000, 10_000)),
        ("pooled", None, (50_000, 10_000)),
        ("held-out", None, (45_000, 5_000)),
        ("held-out", 7_000, (7_000, 5_000)),
    ],
)
def test_epoch_sizes_of_cifar10_are_known_without_its_images(split, limit, sizes):
    config = TrialConfig("[1, 0] lin[0, 1]", split=split, train_limit=limit, val_limit=limit)
    assert epoch_sizes(config) == sizes


def test_the_seconds_of_an_epoch_are_extrapolated_from_a_few_steps(monkeypatch):
    ticks = iter([100.0, 112.0])
    monkeypatch.setattr(trainer, "time", SimpleNamespace(perf_counter=lambda: next(ticks)))
    monkeypatch.setattr(trainer, "load", refuse)
    seconds = trainer.seconds_per_epoch(small(train_limit=640, val_limit=300), steps=3)
    assert seconds == pytest.approx(12 / (3 * BATCH) * (640 + 300 / 3))


def test_the_seconds_of_an_epoch_count_the_test_images(monkeypatch):
    ticks = iter([100.0, 112.0])
    monkeypatch.setattr(trainer, "time", SimpleNamespace(perf_counter=lambda: next(ticks)))
    config = small(split="held-out", test=True, train_limit=640, val_limit=100)
    assert trainer.seconds_per_epoch(config, steps=3) == pytest.approx(12 / (3 * BATCH) * (640 + (100 + 359) / 3))


# Top-5 accuracy


def test_a_hundred_classes_have_a_top_5_accuracy(tmp_path, monkeypatch):
    write("cifar100", tmp_path, monkeypatch, per_class=2, tests_per_class=1)
    values = {"data": "cifar100", "model": "resnet11v2", "image_size": 16, "batch_size": 50}
    config = TrialConfig("[0.01, 0] lin[0.001, 1]", split="held-out", test=True, **values)
    (record,) = trainer.train(config, data_dir=tmp_path, checkpoint=tmp_path / "trial.pt")
    network = build(config)
    network.load_state_dict(checkpoints.load(tmp_path / "trial.pt")["network"])
    data = load(config, tmp_path)
    with torch.inference_mode():
        logits = network.eval()(normalise(data.val_images, data.mean))
    ranks = (logits > logits.gather(1, data.val_labels[:, None])).sum(1)
    assert record.val_top5_acc == (ranks < 5).float().mean().item()
    assert record.val_acc <= record.val_top5_acc
    assert record.test_acc <= record.test_top5_acc


def test_ten_classes_have_no_top_5_accuracy():
    assert {(record.val_top5_acc, record.test_top5_acc) for record in run(of_a_test_run())} == {(None, None)}
