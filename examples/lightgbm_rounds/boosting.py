"""Install: pip install resnet-sweeps lightgbm. Gradient boosting with LightGBM: an epoch is one boosting round."""

from dataclasses import dataclass

import lightgbm as lgb
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from sweeps import Run


@dataclass(frozen=True)
class Config:
    """What a study may set."""

    epochs: int = 30  # boosting rounds
    learning_rate: float = 0.1
    num_leaves: int = 31
    feature_fraction: float = 1.0
    seed: int = 0


def train(config: Config, run: Run) -> None:
    """Train one trial; report the metrics of each round from a callback of LightGBM."""
    x, y = load_digits(return_X_y=True)
    x_train, x_val, y_train, y_val = train_test_split(x, y, test_size=0.25, random_state=0, stratify=y)
    file = run.folder / "model.txt"

    def report(env: lgb.callback.CallbackEnv) -> None:
        values = {f"{data}_{metric}": value for data, metric, value, _ in env.evaluation_result_list}
        run.report(
            loss=values["training_multi_logloss"],
            val_logloss=values["val_multi_logloss"],
            val_acc=1 - values["val_multi_error"],
            epoch=env.iteration + 1,
        )
        # After the report, so that the model never knows a round that the study does not.
        env.model.save_model(file.with_suffix(".new"))
        file.with_suffix(".new").replace(file)

    before = lgb.Booster(model_file=file) if file.exists() else None  # after a kill, the rounds so far
    data = lgb.Dataset(x_train, y_train)
    lgb.train(
        {
            "objective": "multiclass",
            "num_class": 10,
            "metric": ["multi_logloss", "multi_error"],
            "learning_rate": config.learning_rate,
            "num_leaves": config.num_leaves,
            "feature_fraction": config.feature_fraction,
            "seed": config.seed,
            "num_threads": run.threads,
            "verbose": -1,
        },
        data,
        num_boost_round=config.epochs - (before.current_iteration() if before else 0),
        valid_sets=[data, data.create_valid(x_val, y_val)],
        valid_names=["training", "val"],
        init_model=before,
        callbacks=[report],
    )
