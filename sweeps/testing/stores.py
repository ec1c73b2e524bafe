"""The contract suite of the backends of analysis.store.

    class TestSqlite(StoreContract):
        backend = "sqlite"

        @pytest.fixture(scope="class")
        @classmethod
        def uri(cls, tmp_path_factory):
            return f"sqlite:///{tmp_path_factory.mktemp('store') / 'mlflow.db'}"

The suite writes studies to the empty store with MLflow's client, and reads them with `analysis`.
"""

from __future__ import annotations

import json
import math
import os
from typing import Any, ClassVar

import pandas as pd
import pytest

from analysis.store.backends import BACKENDS
from analysis.store.loader import StoreError, Study, load, studies
from resnet_core import schema
from resnet_core.records import METRICS

_SCHEDULE = "[1e-3, 0] lin[1.2e-3, 2] cos[1e-5, 6]"
_DIGITS = 97.123456789012345
_LONG = "".join(f"{i}," for i in range(3_000))  # more than one parameter can hold
_RULES = {"cap": "active", "diverged": "shadow"}
_SPACE = {"lr": {"low": 1e-4, "high": 1e-2, "log": True, "int": False}}


class StoreContract:
    """The suite; a subclass sets ``backend`` and has a fixture ``uri`` of scope ``class``.

    ``uri`` is the URI with which a user reads a store that is empty at first. If MLflow's client writes to the same
    store by another URI, the subclass overrides ``tracking_uri``.
    """

    backend: ClassVar[str]
    """The name of the backend's module in analysis.store.backends."""

    @pytest.fixture(scope="class")
    @classmethod
    def tracking_uri(cls, uri: str) -> str:
        """The URI with which MLflow's client writes to the same store."""
        return uri

    @pytest.fixture(scope="class")
    @classmethod
    def run_ids(cls, tracking_uri: str) -> dict[int, str]:
        """Write all studies; return the ids of the runs to be read, by the number of the trial."""
        return write_studies(tracking_uri)

    @pytest.fixture(scope="class")
    @classmethod
    def study(cls, uri: str, run_ids: dict[int, str]) -> Study:  # noqa: ARG003  they are written first
        """The study ``made``, as read from the store."""
        return load(uri, "made")

    @pytest.fixture(scope="class")
    @classmethod
    def renamed(cls, uri: str, run_ids: dict[int, str]) -> Study:  # noqa: ARG003  they are written first
        """The study ``renamed``, whose experiment has another name."""
        return load(uri, "renamed")

    def test_the_uri_begins_with_a_prefix_of_the_backend(self, uri: str) -> None:
        assert uri.startswith(BACKENDS[self.backend].prefixes)

    def test_the_usage_begins_with_the_prefixes(self) -> None:
        backend = BACKENDS[self.backend]
        assert [usage for prefix in backend.prefixes for usage in backend.usage if usage.startswith(prefix)] != []

    def test_the_launch_says_what_was_asked(self, study: Study) -> None:
        assert (study.name, study.description) == ("made", "Grüße, 'quoted' % {braces}")
        assert (study.target, study.sustained, study.phase) == (0.92, 2, "search")
        assert (study.stopping_rules, study.space) == (_RULES, _SPACE)

    def test_the_environment_is_that_of_launch_and_trials(self, study: Study) -> None:
        assert study.environment == {"python": "3.11", "device": "cpu", "node": "here, there"}

    def test_a_trial_is_a_row_in_the_order_of_numbers(self, study: Study, run_ids: dict[int, str]) -> None:
        assert study.trials["number"].tolist() == [0, 1, 2, 3]
        assert study.trials["trial"].tolist() == ["trial-0", "trial-1", "trial-2", "trial-3"]
        assert study.trials["run_id"].tolist() == [run_ids[number] for number in range(4)]

    def test_trials_have_how_they_ended(self, study: Study) -> None:
        found = study.trials[["status", *schema.END]].to_numpy().tolist()
        assert found == [
            ["FINISHED", "reached", None, None, '{"cap": 2}'],
            ["KILLED", "pruned", "stopped at epoch 3: too slow", "cap", None],
            ["FAILED", "crashed", "out of memory", None, None],
            ["RUNNING", None, None, None, None],
        ]

    def test_times_are_utc_and_missing_while_running(self, study: Study) -> None:
        ends = study.trials["end_time"]
        assert study.trials["start_time"][0] == pd.Timestamp(2_000, unit="ms", tz="UTC")
        assert ends[0] == pd.Timestamp(2_100, unit="ms", tz="UTC")
        assert ends.isna().tolist() == [False, False, False, True]

    def test_parameters_have_the_types_that_they_had(self, study: Study) -> None:
        wanted = {"weight_decay": 0.18, "batch_size": 64, "nesterov": True, "val_limit": None}
        found = {name: study.trials[name].tolist()[0] for name in wanted}
        assert found == wanted
        assert type(found["batch_size"]) is int
        assert study.trials["schedule"].tolist() == [_SCHEDULE] * 4

    def test_a_parameter_of_any_length_is_whole(self, renamed: Study) -> None:
        assert renamed.trials["notes"].tolist() == [_LONG]
        assert [name for name in renamed.trials if str(name).startswith("notes/")] == []

    def test_a_study_is_found_whatever_its_experiment_is_called(self, uri: str, renamed: Study) -> None:
        assert renamed.epochs["val_acc"].tolist() == [0.2]
        names = studies(uri)["name"].tolist()
        assert "renamed" in names
        assert "my experiment" not in names

    def test_a_deleted_run_that_was_restored_is_there(self, renamed: Study) -> None:
        assert renamed.trials["number"].tolist() == [0]

    def test_trials_whose_runs_were_deleted_are_named(self, study: Study, renamed: Study) -> None:
        assert (study.deleted, renamed.deleted) == (("trial-4",), ())

    def test_a_sampled_parameter_keeps_its_prefix(self, study: Study) -> None:
        assert study.trials[f"{schema.SAMPLED}lr"].tolist() == [1e-3] * 4

    def test_a_parameter_that_some_trials_lack_is_missing_there(self, study: Study) -> None:
        assert study.trials["shift"].isna().tolist() == [True, False, True, True]

    def test_an_epoch_is_a_row_in_the_order_of_trials_and_epochs(self, study: Study) -> None:
        found = study.epochs[["number", "epoch"]].to_numpy().tolist()
        assert found == [[0, 1], [0, 2], [0, 3], [0, 7], [1, 1], [1, 2], [1, 3], [3, 1]]

    def test_values_keep_all_their_digits(self, study: Study) -> None:
        assert self._value(study, 0, 2, "power_watts") == _DIGITS

    def test_a_value_that_was_not_logged_is_missing(self, study: Study) -> None:
        assert math.isnan(self._value(study, 0, 7, "val_acc"))
        assert self._value(study, 0, 7, "acc") == 0.25

    def test_values_that_are_not_finite_come_back(self, study: Study) -> None:
        found = [self._value(study, 1, epoch, "val_loss") for epoch in (1, 2, 3)]
        assert [repr(value) for value in found] == ["nan", "inf", "-inf"]

    def test_of_several_values_for_an_epoch_the_latest_counts_and_of_one_time_the_largest(self, study: Study) -> None:
        assert self._value(study, 1, 1, "loss") == 0.3

    def test_of_two_runs_of_a_trial_the_one_that_started_last_counts(self, study: Study) -> None:
        assert self._value(study, 3, 1, "val_acc") == 0.45

    def test_metrics_that_were_not_asked_for_have_no_column(self, uri: str, study: Study) -> None:
        found = load(uri, study.name, ("val_loss",)).epochs
        assert found.columns.tolist() == ["number", "epoch", "val_loss"]
        assert found["epoch"].tolist() == [1, 2, 3]

    def test_a_metric_of_ones_own_has_a_column_behind_those_of_the_trainer_that_ships(self, study: Study) -> None:
        assert study.epochs.columns.tolist() == ["number", "epoch", *METRICS, "eval/f1"]
        assert self._value(study, 3, 1, "eval/f1") == 0.75

    def test_a_metric_that_nobody_logged_has_no_rows(self, uri: str, study: Study) -> None:
        assert load(uri, study.name, ("no_such_metric",)).epochs.empty

    @pytest.mark.usefixtures("study")
    def test_a_study_without_trials_has_empty_frames(self, uri: str) -> None:
        found = load(uri, "empty")
        assert (len(found.trials), len(found.epochs), found.split) == (0, 0, None)

    def test_studies_are_listed_newest_first_without_deleted_ones(self, uri: str, study: Study) -> None:
        found = studies(uri)
        assert found["name"].tolist() == ["renamed", "empty", "another", study.name]
        counts = found[["trials", "reached", "pruned", "crashed", "running"]].to_numpy().tolist()
        assert counts == [[1, 0, 0, 0, 1], [0, 0, 0, 0, 0], [1, 0, 0, 0, 1], [4, 1, 1, 1, 1]]
        assert found["created"].iloc[-1] == pd.Timestamp(1_000, unit="ms", tz="UTC")

    @pytest.mark.usefixtures("study")
    def test_an_unknown_study_is_named_with_the_known_ones(self, uri: str) -> None:
        with pytest.raises(StoreError, match=r"no study 'mad'; its studies: another, empty, made, renamed$"):
            load(uri, "mad")

    @pytest.mark.usefixtures("study")
    @pytest.mark.parametrize("name", ["gone", "hidden"])
    def test_a_deleted_study_is_said_to_be_deleted(self, uri: str, name: str) -> None:
        with pytest.raises(StoreError, match=rf"study '{name}' was deleted in MLflow; .*`sweeps resume {name}`$"):
            load(uri, name)

    @staticmethod
    def _value(study: Study, number: int, epoch: int, metric: str) -> float:
        found = study.epochs[(study.epochs["number"] == number) & (study.epochs["epoch"] == epoch)]
        (value,) = found[metric].tolist()
        return float(value)


def write_studies(tracking_uri: str) -> dict[int, str]:
    """Write the studies of the suite, with non-finite values, values logged twice, gaps and deleted runs.

    Returns:
        The ids of the runs to be read from the study ``made``, by the number of the trial.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri)
    made = _Experiment(client, "made", 1_000)
    first = made.trial(0, weight_decay=0.18)
    made.epochs(first, [0.5, 0.93, 0.91])
    client.log_metric(first, "power_watts", _DIGITS, 9_000, 2)
    client.log_metric(first, "acc", 0.25, 9_000, 7)  # after a gap
    made.end(first, "FINISHED", {schema.OUTCOME: "reached", schema.WOULD_STOP: '{"cap": 2}'})
    second = made.trial(1, shift=0.07)
    made.epochs(second, [0.5, 0.6])
    for epoch, value in enumerate([math.nan, math.inf, -math.inf], start=1):
        client.log_metric(second, "val_loss", value, 9_000, epoch)
    for value, time in ((0.3, 9_000), (0.2, 9_000), (0.9, 8_000)):
        client.log_metric(second, "loss", value, time, 1)
    why = {schema.STOP_REASON: "stopped at epoch 3: too slow", schema.STOPPED_BY: "cap"}
    made.end(second, "KILLED", {schema.OUTCOME: "pruned", **why})
    third = made.trial(2)
    made.end(third, "FAILED", {schema.OUTCOME: "crashed", schema.STOP_REASON: "out of memory"})
    fourth = made.trial(3, start=3_000, node="there")
    made.epochs(fourth, [0.45])
    client.log_metric(fourth, "eval/f1", 0.75, 2_001, 1)
    client.log_metric(fourth, schema.FINAL_METRICS[0], 2.5, 2_002, 1)  # no metric of an epoch
    made.epochs(made.trial(3), [0.4])  # started earlier
    deleted = made.trial(4)
    made.epochs(deleted, [0.99])
    client.delete_run(deleted)
    client.delete_run(made.trial(2))  # the other run of the trial is there
    client.create_run(made.id, 4_000, {}, run_name="of somebody else")
    another = _Experiment(client, "another", 5_000)
    another.epochs(another.trial(0), [0.1])
    _Experiment(client, "empty", 6_000)
    renamed = _Experiment(client, "renamed", 6_500)
    restored = renamed.trial(0, notes=_LONG)
    renamed.epochs(restored, [0.2])
    client.delete_run(restored)
    client.restore_run(restored)
    client.rename_experiment(renamed.id, "my experiment")
    client.delete_experiment(_Experiment(client, "gone", 7_000).id)
    client.delete_run(_Experiment(client, "hidden", 7_500).launch)
    client.create_experiment("no study")
    return {0: first, 1: second, 2: third, 3: fourth}


class _Experiment:
    """A study in MLflow: an experiment with the run of a launch."""

    def __init__(self, client: Any, name: str, start: int) -> None:
        self._client = client
        self.id: str = client.create_experiment(name, tags={schema.STUDY: name})
        tags = {
            schema.KIND: schema.LAUNCH,
            schema.DESCRIPTION: "Grüße, 'quoted' % {braces}",
            schema.TARGET: "0.92",
            schema.SUSTAINED: "2",
            schema.STOPPING_RULES: json.dumps(_RULES),
            schema.SPACE: json.dumps(_SPACE),
            schema.PHASE: "search",
            "python": "3.11",
        }
        self.launch: str = client.create_run(self.id, start, tags, run_name=name).info.run_id

    def trial(self, number: int, start: int = 2_000, node: str = "here", **params: object) -> str:
        """Begin the run of a trial; return its id."""
        from mlflow.entities import Param

        tags = {
            schema.KIND: schema.TRIAL,
            schema.TRIAL_NUMBER: str(number),
            schema.PARENT_RUN: self.launch,
            schema.DEVICE: "cpu",
            schema.NODE: node,
        }
        run_id: str = self._client.create_run(self.id, start, tags, run_name=f"trial-{number}").info.run_id
        config = {"batch_size": 64, "nesterov": True, "val_limit": None, "schedule": _SCHEDULE, "split": "official"}
        given = {**config, f"{schema.SAMPLED}lr": 1e-3, **params}
        parts = schema.in_parts({name: str(value) for name, value in given.items()})
        self._client.log_batch(run_id, params=[Param(*part) for part in parts.items()])
        return run_id

    def epochs(self, run_id: str, val_accs: list[float]) -> None:
        """Log epochs with these validation accuracies."""
        from mlflow.entities import Metric

        for epoch, val_acc in enumerate(val_accs, start=1):
            values = {"loss": 2.0 / epoch, "acc": 0.1 * epoch, "val_acc": val_acc}
            metrics = [Metric(name, value, 2_000 + epoch, epoch) for name, value in values.items()]
            self._client.log_batch(run_id, metrics)

    def end(self, run_id: str, status: str, tags: dict[str, str]) -> None:
        """End the run of a trial."""
        from mlflow.entities import RunTag

        self._client.log_batch(run_id, tags=[RunTag(name, value) for name, value in tags.items()])
        self._client.set_terminated(run_id, status, end_time=2_100)
