"""The contract suite of trainers: what a study relies on when it stops, continues and repeats a trial."""

from __future__ import annotations

import dataclasses
import math
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar

import pytest

from resnet_core.own_config import OwnConfig
from resnet_core.records import EpochRecord
from resnet_core.run import Run, own_epochs
from search_spaces.trainers import OwnTrainer, plain_values

_TIMES = frozenset({"seconds", "images_per_second"})  # differ from run to run


class TrainerContract:
    """Tests of a trainer. A subclass whose name begins with Test gives its function and a small configuration.

        class TestTrain(TrainerContract):
            trainer = staticmethod(mlp.train)
            config = mlp.Config(schedule=parse("[0.01, 0] lin[0, 3]"))

    Attributes:
        trainer: the trainer.
        config: a configuration of two epochs or more, the fewer the faster.
        metric: the metric that a study looks at.
        reproducible: whether the same configuration gives the same metrics again, also where it was stopped and
            continued; set it to False for a trainer that cannot.
        data_dir: the folder for data.
    """

    trainer: ClassVar[Callable[..., Any]]
    config: ClassVar[Any]
    metric: ClassVar[str] = "val_acc"
    reproducible: ClassVar[bool] = True
    data_dir: ClassVar[Path] = Path("data")

    @pytest.fixture
    def checkpoint(self, tmp_path: Path) -> Path:
        """The file of the trial's checkpoint."""
        return tmp_path / "checkpoint.pt"

    def test_a_study_file_can_give_its_configuration(self) -> None:
        made = self._own.instance(self._config)
        assert made == self.config

    def test_every_epoch_comes_once_with_the_metric(self) -> None:
        records = self._train()
        assert [record.epoch for record in records] == list(range(1, self._config.horizon + 1))
        assert all(record.get(self.metric) is not None for record in records)

    def test_metrics_keep_their_names(self) -> None:
        first, *others = self._train()
        assert all(record.values().keys() == first.values().keys() for record in others)

    def test_the_same_configuration_gives_the_same_metrics(self) -> None:
        self._only_if_reproducible()
        assert _metrics(self._train()) == _metrics(self._train())

    def test_a_stopped_trial_continues_behind_its_last_epoch(self, checkpoint: Path) -> None:
        whole = self._train()
        for stopped_after in range(1, self._config.horizon):
            path = checkpoint.with_stem(f"after-{stopped_after}")
            before = self._train(path, stopped_after)
            after = self._train(path)
            assert [record.epoch for record in after] == [record.epoch for record in whole]
            if self.reproducible:
                assert _metrics(after[:stopped_after]) == _metrics(before)
                assert _metrics(after) == _metrics(whole), f"stopped after epoch {stopped_after}"

    def test_a_finished_trial_trains_nothing_again(self, checkpoint: Path) -> None:
        whole = self._train(checkpoint)
        assert _metrics(self._train(checkpoint)) == _metrics(whole)

    def test_a_stopped_trial_leaves_no_thread(self) -> None:
        before = threading.active_count()
        self._train(epochs=1)
        assert threading.active_count() <= before

    def test_another_seed_gives_other_metrics(self) -> None:
        self._only_if_reproducible()
        if "seed" not in self._own.fields:
            pytest.skip("it has no field seed")
        other = dataclasses.replace(self.config, seed=self.config.seed + 1)
        assert _metrics(self._train(config=other)) != _metrics(self._train())

    @property
    def _own(self) -> OwnTrainer:
        return OwnTrainer(type(self).trainer.__name__, type(self).trainer)

    @property
    def _config(self) -> OwnConfig:
        return self._own.config(plain_values(self._own, self.config))

    def _train(
        self, checkpoint: Path | None = None, epochs: int | None = None, config: Any = None
    ) -> list[EpochRecord]:
        """Train as a study does; a trial is stopped after ``epochs`` epochs."""
        about = self._config
        given = self.config if config is None else config
        values = plain_values(self._own, given)
        run = Run(
            checkpoint=checkpoint, config=values, horizon=about.horizon, metric=self.metric, data_dir=self.data_dir
        )
        with closing(own_epochs(type(self).trainer, given, run)) as records:
            return [record for record, _ in zip(records, range(epochs or about.horizon), strict=False)]

    def _only_if_reproducible(self) -> None:
        if not self.reproducible:
            pytest.skip("it says that it is not reproducible")


def _metrics(records: list[EpochRecord]) -> list[dict[str, Any]]:
    """Return the metrics of records without times; NaN equals NaN."""
    return [
        {name: None if math.isnan(value) else value for name, value in record.values().items() if name not in _TIMES}
        for record in records
    ]
