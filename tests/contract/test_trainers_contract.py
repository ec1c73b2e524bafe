"""The contract of trainers holds for one that yields and for one that reports; and fails where a trainer breaks it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pytest
import torch

from resnet_core.run import Run
from resnet_core.schedule import Schedule, parse
from sweeps.testing.trainers import TrainerContract


@dataclass(frozen=True)
class Config:
    schedule: Schedule
    features: int = 4
    seed: int = 0


def regression(config: Config, run: Run) -> Iterator[dict[str, float]]:
    """Fit a line to points with noise, by gradient descent."""
    torch.manual_seed(config.seed)
    x = torch.randn(64, config.features)
    y = x.sum(1) + 0.1 * torch.randn(64)
    state = run.load() or {"weights": torch.zeros(config.features)}
    weights = state["weights"]
    for epoch in run.epochs(config.schedule.last_epoch):
        error = x @ weights - y
        weights = weights - config.schedule.value(epoch - 1) * x.T @ error / len(y)
        run.save({"weights": weights})
        yield {"val_loss": error.square().mean().item(), "val_acc": (error.abs() < 0.5).float().mean().item()}


def reporting(config: Config, run: Run) -> None:
    """Do the same, and call back."""
    torch.manual_seed(config.seed)
    x = torch.randn(64, config.features)
    y = x.sum(1) + 0.1 * torch.randn(64)
    weights = (run.load() or {"weights": torch.zeros(config.features)})["weights"]
    for epoch in run.epochs():
        error = x @ weights - y
        weights = weights - config.schedule.value(epoch - 1) * x.T @ error / len(y)
        run.save({"weights": weights})
        run.report(val_acc=(error.abs() < 0.5).float().mean().item())


def forgetful(config: Config, run: Run) -> Iterator[dict[str, float]]:
    """Continue, but with weights that were never saved."""
    torch.manual_seed(config.seed)
    weight = torch.randn(())
    run.load()
    for _ in run.epochs():
        weight = weight * 0.9
        run.save({"nothing": 0})
        yield {"val_acc": weight.item()}


SMALL = Config(parse("[0.3, 0] lin[0.1, 4]"))


class TestRegression(TrainerContract):
    trainer = staticmethod(regression)
    config: ClassVar[Any] = SMALL


class TestReporting(TrainerContract):
    trainer = staticmethod(reporting)
    config: ClassVar[Any] = SMALL


class Forgetful(TrainerContract):
    trainer = staticmethod(forgetful)
    config: ClassVar[Any] = replace(SMALL, features=1)


def test_a_trainer_that_saves_too_little_fails(tmp_path):
    with pytest.raises(AssertionError, match="stopped after epoch 1"):
        Forgetful().test_a_stopped_trial_continues_behind_its_last_epoch(tmp_path / "checkpoint.pt")
