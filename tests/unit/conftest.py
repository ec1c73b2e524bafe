"""Fixtures of the unit tests: stores, studies of analysis, study files."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
import pytest

from analysis.store.loader import Study
from resnet_core.config import TrialConfig
from tests.postgres import postgres
from tests.study_files import load

__all__ = ["load", "postgres"]

SCHEDULE = "[1e-3, 0] lin[1.2e-3, 2] cos[1e-5, 6]"
NAN, INF = float("nan"), float("inf")
_CURVES = ("val_accs", "losses", "seconds", "power_watts", "gpu_util_percent")


class StoreWriter:
    """Writes to MLflow what the orchestrator writes."""

    def __init__(self, path: Path | str) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        from mlflow import MlflowClient

        self.path = path
        self.client = MlflowClient(path if isinstance(path, str) else f"sqlite:///{path}")

    def launch(self, study: str, start: int = 1_000, target: str = "0.92", description: str = "", **more: str) -> str:
        found = self.client.get_experiment_by_name(study)
        experiment = found.experiment_id if found else self.client.create_experiment(study)
        tags = {
            "sweeps.kind": "launch",
            "mlflow.note.content": description,
            "target": target,
            "sustained": "2",
            "study_hash": "c0ffee",
            "code_version": "0.1.0",
            **more,
        }
        return self.client.create_run(experiment, start, tags, run_name=study).info.run_id

    def trial(
        self,
        launch: str,
        number: int | str,
        val_accs: Sequence[float] = (),
        outcome: str | None = None,
        stop_reason: str | None = None,
        start: int = 2_000,
        **config: object,
    ) -> str:
        from mlflow.entities import Metric, Param, RunTag

        experiment = self.client.get_run(launch).info.experiment_id
        tags = {
            "sweeps.kind": "trial",
            "sweeps.trial": str(number),
            "mlflow.parentRunId": launch,
            "seed": "0",
            "device": "cpu",
            "study_hash": "c0ffee",
            "code_version": "0.1.0",
        }
        run_id = self.client.create_run(experiment, start, tags, run_name=f"trial-{number}").info.run_id
        values = TrialConfig(**{"schedule": SCHEDULE} | config)
        params = values.to_dict() | {
            "lr_alpha": values.lr_alpha,
            "horizon": values.horizon,
            "space.lr": values.lr_alpha,
        }
        self.client.log_batch(run_id, params=[Param(key, str(value)) for key, value in params.items()])
        for epoch, val_acc in enumerate(val_accs, start=1):
            record = {
                **{"loss": 2.0 / epoch, "acc": 0.1 * epoch, "val_loss": 2.5 / epoch, "val_acc": val_acc},
                **{"lr": 1e-3, "wd_lr": 1e-4, "seconds": 1.5, "images_per_second": 40_000.0},
            }
            metrics = [Metric(key, value, start + epoch, epoch) for key, value in record.items()]
            self.client.log_batch(run_id, metrics)
        if outcome:
            final = [Metric("best_val_acc", max(val_accs, default=0.0), start + 99, 0)]
            ends = {"outcome": outcome} | ({"stop_reason": stop_reason} if stop_reason else {})
            self.client.log_batch(run_id, final, tags=[RunTag(key, value) for key, value in ends.items()])
            status = {"pruned": "KILLED", "diverged": "FAILED", "crashed": "FAILED"}.get(outcome, "FINISHED")
            self.client.set_terminated(run_id, status, end_time=start + 100)
        return run_id

    def metric(self, run_id: str, key: str, value: float, epoch: int, timestamp: int) -> None:
        self.client.log_metric(run_id, key, value, timestamp, epoch)


@pytest.fixture(scope="session")
def store(tmp_path_factory) -> StoreWriter:
    """One MLflow store for the whole session, since making one takes seconds; each test names its study."""
    return StoreWriter(tmp_path_factory.mktemp("store") / "mlflow.db")


@pytest.fixture
def make_study() -> Callable[..., Study]:
    """Make a Study in memory, without a store, from trials given by keyword arguments."""

    def make(*trials: dict, target: float = 0.92, sustained: int = 2, split: str | None = "official") -> Study:
        rows, epochs = [], []
        for number, given in enumerate(trials):
            val_accs = given.get("val_accs", [])
            rows.append(
                {
                    **{"number": number, "trial": f"trial-{number}", "outcome": None, "stop_reason": None},
                    **{"shift": 0.07, "l2": 0.0, "weight_decay": 0.18, "lr_alpha": 0.0012, "horizon": 6},
                    **{"schedule": SCHEDULE, "split": split, "data": "cifar10", "val_limit": None, "batch_size": 64},
                    **{key: value for key, value in given.items() if key not in _CURVES},
                }
            )
            losses = given.get("losses") or [2.0 / (i + 1) for i in range(len(val_accs))]
            epochs += [
                {
                    **{
                        "number": rows[-1]["number"],
                        "epoch": i + 1,
                        "loss": losses[i],
                        "val_loss": 2 * losses[i],
                    },
                    **{"acc": 0.1 * (i + 1), "val_acc": val_acc, "seconds": given.get("seconds", [10.0] * 99)[i]},
                    **{name: given.get(name, [None] * 99)[i] for name in ("power_watts", "gpu_util_percent")},
                }
                for i, val_acc in enumerate(val_accs)
            ]
        columns = ["number", "epoch", "loss", "acc", "val_loss", "val_acc"]
        columns += ["seconds", "power_watts", "gpu_util_percent"]
        frame = pd.DataFrame(
            rows, columns=None if rows else ["number", "trial", "outcome", "stop_reason", "split", "data"]
        )
        for column in ("outcome", "stop_reason"):
            frame[column] = frame[column].astype(object).where(frame[column].notna(), None)
        return Study(
            name="made",
            description="",
            target=target,
            sustained=sustained,
            split=split,
            trials=frame,
            epochs=pd.DataFrame(epochs, columns=columns).astype(dict.fromkeys(columns[2:], "float64")),
        )

    return make
