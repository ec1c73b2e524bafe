"""Install: pip install resnet-sweeps scikit-learn. A linear model learns digits by scikit-learn's partial_fit."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import SGDClassifier
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split

from sweeps import Run, Schedule


@dataclass(frozen=True)
class Config:
    """What a study may set."""

    schedule: Schedule  # the learning rate
    alpha: float = 1e-4
    penalty: Literal["l2", "l1", "elasticnet"] = "l2"
    seed: int = 0


def train(config: Config, run: Run) -> Iterator[dict[str, float]]:
    """Train one trial; an epoch is one call of partial_fit."""
    x, y = load_digits(return_X_y=True)
    x_train, x_val, y_train, y_val = train_test_split(x / 16, y, test_size=0.25, random_state=0, stratify=y)
    model = SGDClassifier(loss="log_loss", learning_rate="constant", alpha=config.alpha, penalty=config.penalty)

    state = run.load()  # None at the start; after a kill, what run.save kept
    if state is not None:
        model.coef_, model.intercept_, model.t_ = state["coef"], state["intercept"], state["t"]

    for epoch in run.epochs():  # from 1, or behind the last epoch that was kept
        model.set_params(eta0=config.schedule.value(epoch - 1), random_state=1000 * config.seed + epoch)
        model.partial_fit(x_train, y_train, classes=np.arange(10))

        run.save({"coef": model.coef_, "intercept": model.intercept_, "t": model.t_})
        yield {
            "loss": log_loss(y_train, model.predict_proba(x_train)),
            "val_loss": log_loss(y_val, model.predict_proba(x_val)),
            "val_acc": model.score(x_val, y_val),
        }
