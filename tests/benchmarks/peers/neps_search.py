"""The job written for NePS: a folder that processes share, MLflow. Started again, it goes on."""

from __future__ import annotations

import logging
from multiprocessing import Process

import job
import mlflow
import neps

LOG, NAME = "sqlite:///mlflow.db", "digits"


class Space(neps.PipelineSpace):
    """What is searched."""

    lr = neps.Float(*job.LR, log=True)
    dropout = neps.Float(*job.DROPOUT)


def evaluate(pipeline_directory: str, lr: float, dropout: float) -> float:
    """Train one trial; return its smallest error on the validation images."""
    best = 1.0
    with mlflow.start_run():
        mlflow.log_params({"lr": lr, "dropout": dropout})
        for epoch, metrics, _ in job.epochs(str(pipeline_directory), lr=lr, dropout=dropout, seed=0):
            mlflow.log_metrics(metrics, step=epoch)
            best = min(best, 1.0 - metrics["val_acc"])
    return best


def work() -> None:
    """Run trials until there are enough."""
    mlflow.set_tracking_uri(LOG)
    mlflow.set_experiment(NAME)
    neps.run(evaluate, Space(), root_directory="neps", total_evaluations_to_spend=job.TRIALS)


def main() -> None:
    """Run the search in two processes."""
    logging.basicConfig(level=logging.INFO)
    mlflow.set_tracking_uri(LOG)
    mlflow.set_experiment(NAME)  # makes the tables
    workers = [Process(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


if __name__ == "__main__":
    main()
