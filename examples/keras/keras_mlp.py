"""Install: pip install resnet-sweeps keras. A Keras model learns digits, with torch as Keras's backend."""

import os
from dataclasses import dataclass

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from sweeps import Run, Schedule


@dataclass(frozen=True)
class Config:
    """What a study may set."""

    schedule: Schedule  # the learning rate
    hidden: int = 64
    dropout: float = 0.0
    batch_size: int = 64
    seed: int = 0


class Report(keras.callbacks.Callback):
    """Saves the state of each epoch and reports its metrics: both are kept, or none."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        self.run = run

    def on_epoch_end(self, epoch, logs=None):
        values = [variable.numpy() for variable in variables(self.model)]
        self.run.save({"epochs": epoch + 1, "values": values})  # Keras counts epochs from 0
        self.run.report(logs)


def variables(model: keras.Model) -> list:
    """Return the weights, the random states of dropout, and the optimizer's state."""
    model.optimizer.build(model.trainable_variables)
    return [variable for part in (*model.layers, model.optimizer) for variable in part.variables]


def train(config: Config, run: Run) -> None:
    """Train one trial."""
    x, y = load_digits(return_X_y=True)
    x_train, x_val, y_train, y_val = train_test_split(x / 16, y, test_size=0.25, random_state=0, stratify=y)
    kept = run.load()  # after a kill, the state after the last epoch
    done = kept["epochs"] if kept else 0
    keras.utils.set_random_seed(config.seed + done)
    model = keras.Sequential(
        [
            keras.Input((64,)),
            keras.layers.Dense(config.hidden, activation="relu"),
            keras.layers.Dropout(config.dropout),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    accuracy = keras.metrics.SparseCategoricalAccuracy(name="acc")
    model.compile(keras.optimizers.Adam(), "sparse_categorical_crossentropy", metrics=[accuracy])
    if kept:
        for variable, value in zip(variables(model), kept["values"], strict=True):
            variable.assign(value)
    model.fit(
        x_train,
        y_train,
        batch_size=config.batch_size,
        initial_epoch=done,
        epochs=int(config.schedule.last_epoch),
        validation_data=(x_val, y_val),
        verbose=0,
        callbacks=[
            keras.callbacks.LearningRateScheduler(lambda epoch, _: config.schedule.value(epoch)),
            Report(run),
        ],
    )
