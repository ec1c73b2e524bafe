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
    """Reports the metrics of each epoch; Keras counts epochs from 0."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        self.run = run

    def on_epoch_end(self, epoch, logs=None):
        self.run.report(logs, epoch=epoch + 1)


def train(config: Config, run: Run) -> None:
    """Train one trial."""
    x, y = load_digits(return_X_y=True)
    x_train, x_val, y_train, y_val = train_test_split(x / 16, y, test_size=0.25, random_state=0, stratify=y)
    keras.utils.set_random_seed(config.seed)
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
    model.fit(
        x_train,
        y_train,
        batch_size=config.batch_size,
        epochs=int(config.schedule.last_epoch),
        validation_data=(x_val, y_val),
        verbose=0,
        callbacks=[
            keras.callbacks.LearningRateScheduler(lambda epoch, _: config.schedule.value(epoch)),
            Report(run),
            # After Report, so that it saves an epoch that has been reported. After a kill, fit continues there.
            keras.callbacks.BackupAndRestore(run.folder / "backup", double_checkpoint=True),
        ],
    )
