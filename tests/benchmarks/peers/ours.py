"""The job as a trainer of ours."""

from collections.abc import Iterator
from dataclasses import dataclass

import job

from sweeps import Run


@dataclass(frozen=True)
class Config:
    """What a study may set."""

    lr: float
    dropout: float
    epochs: int = job.EPOCHS
    seed: int = 0


def train(config: Config, run: Run) -> Iterator[dict[str, float]]:
    """Train one trial; yield the metrics of each epoch."""
    done = job.epochs(run.name, lr=config.lr, dropout=config.dropout, seed=config.seed, state=run.load())
    for _, metrics, state in done:
        run.save(state)
        yield metrics
