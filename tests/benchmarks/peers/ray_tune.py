"""The job written for stock Ray Tune: OptunaSearch, ASHA, MLflow's callback. Started again, it goes on."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import job
import torch
from ray import tune
from ray.air.integrations.mlflow import MLflowLoggerCallback
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search import ConcurrencyLimiter
from ray.tune.search.optuna import OptunaSearch

FOLDER, NAME = Path.cwd() / "ray_results", "digits"


def train(config: dict[str, Any]) -> None:
    """Train one trial."""
    state = None
    checkpoint = tune.get_checkpoint()
    if checkpoint:
        with checkpoint.as_directory() as folder:
            state = torch.load(Path(folder) / "state.pt", weights_only=True)
    name = tune.get_context().get_trial_id()
    for _, metrics, kept in job.epochs(name, **config, seed=0, state=state):
        with tempfile.TemporaryDirectory() as folder:
            torch.save(kept, Path(folder) / "state.pt")
            tune.report(metrics, checkpoint=tune.Checkpoint.from_directory(folder))


def main() -> None:
    """Run the experiment, or go on with it."""
    path = FOLDER / NAME
    trainable = tune.with_resources(train, {"cpu": 1})
    if tune.Tuner.can_restore(path):
        tuner = tune.Tuner.restore(str(path), trainable=trainable, resume_errored=True)
    else:
        tuner = tune.Tuner(
            trainable,
            param_space={"lr": tune.loguniform(*job.LR), "dropout": tune.uniform(*job.DROPOUT)},
            tune_config=tune.TuneConfig(
                metric="val_acc",
                mode="max",
                num_samples=job.TRIALS,
                search_alg=ConcurrencyLimiter(OptunaSearch(seed=0), max_concurrent=2),
                scheduler=ASHAScheduler(max_t=job.EPOCHS, grace_period=max(1, job.EPOCHS // 3)),
            ),
            run_config=tune.RunConfig(
                name=NAME,
                storage_path=str(FOLDER),
                callbacks=[MLflowLoggerCallback(tracking_uri="sqlite:///mlflow.db", experiment_name=NAME)],
            ),
        )
    best = tuner.fit().get_best_result()
    print(best.metrics["val_acc"], best.config)


if __name__ == "__main__":
    main()
