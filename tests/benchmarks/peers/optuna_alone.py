"""The job written for Optuna alone: two processes, SQLite, a pruner, MLflow. Started again, it goes on."""

from __future__ import annotations

import logging
from multiprocessing import Process

import job
import mlflow
import optuna
from optuna.study import MaxTrialsCallback
from optuna.trial import TrialState

STORAGE, NAME, LOG = "sqlite:///optuna.db", "digits", "sqlite:///mlflow.db"
ENDED = (TrialState.COMPLETE, TrialState.PRUNED)


def objective(trial: optuna.Trial) -> float:
    """Train one trial; return its best validation accuracy."""
    params = {
        "lr": trial.suggest_float("lr", *job.LR, log=True),
        "dropout": trial.suggest_float("dropout", *job.DROPOUT),
    }
    best = 0.0
    with mlflow.start_run(run_name=f"trial-{trial.number}"):
        mlflow.log_params(params)
        for epoch, metrics, _ in job.epochs(f"{trial.number}", **params, seed=0):
            mlflow.log_metrics(metrics, step=epoch)
            best = max(best, metrics["val_acc"])
            trial.report(metrics["val_acc"], epoch)
            if trial.should_prune():
                raise optuna.TrialPruned
    return best


def open_study() -> optuna.Study:
    """Return the study, new or begun."""
    return optuna.create_study(
        storage=STORAGE,
        study_name=NAME,
        load_if_exists=True,
        direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=0),
        pruner=optuna.pruners.MedianPruner(n_warmup_steps=job.EPOCHS // 3),
    )


def work() -> None:
    """Run trials until there are enough."""
    mlflow.set_tracking_uri(LOG)
    mlflow.set_experiment(NAME)
    open_study().optimize(objective, callbacks=[MaxTrialsCallback(job.TRIALS, states=ENDED)])


def main() -> None:
    """Run the study in two processes."""
    mlflow.set_tracking_uri(LOG)
    mlflow.set_experiment(NAME)  # makes the tables
    study = open_study()
    for trial in study.get_trials(states=[TrialState.RUNNING]):  # of a run that was killed
        study.tell(trial.number, state=TrialState.FAIL)
        study.enqueue_trial(trial.params)
    workers = [Process(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    print(study.trials_dataframe(attrs=("number", "value", "params", "state")).to_string())
    print(study.best_trial.number, study.best_value, study.best_params)


if __name__ == "__main__":
    logging.getLogger("alembic").setLevel(logging.WARNING)
    main()
