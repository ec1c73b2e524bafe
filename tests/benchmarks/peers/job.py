"""What every peer trains: a multi-layer perceptron on scikit-learn's digits, one thread a trial.

Each epoch is noted, with its times, in the file that JOB_EVENTS names: `python -m tests.benchmarks.peers` reads it.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

TRIALS = int(os.environ.get("JOB_TRIALS", "14"))
EPOCHS = int(os.environ.get("JOB_EPOCHS", "12"))
LR = (1e-4, 1e-2)
DROPOUT = (0.0, 0.5)


def epochs(
    name: str, *, lr: float, dropout: float, seed: int, state: dict[str, Any] | None = None
) -> Iterator[tuple[int, dict[str, float], dict[str, Any]]]:
    """Train one trial; yield after each epoch its number from 1, its metrics, and the state to continue from.

    Args:
        name: the trial's name, for the notes.
        lr: learning rate of Adam.
        dropout: share of hidden units that are left out in a training step.
        seed: seed of the weights and of the batches.
        state: the state that an earlier process yielded; training continues after its epoch.
    """
    torch.set_num_threads(1)
    x, y = load_digits(return_X_y=True)
    parts = train_test_split(x / 16, y, test_size=0.25, random_state=0, stratify=y)
    x_train, x_val = (torch.tensor(part, dtype=torch.float32) for part in parts[:2])
    y_train, y_val = (torch.tensor(part) for part in parts[2:])

    torch.manual_seed(seed)
    hidden = nn.Linear(64, 512), nn.ReLU(), nn.Dropout(dropout), nn.Linear(512, 512), nn.ReLU()
    model = nn.Sequential(*hidden, nn.Linear(512, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    begun = 0
    if state is not None:
        begun = state["epoch"]
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])

    for epoch in range(begun + 1, EPOCHS + 1):
        started, cpu = time.time(), time.process_time()
        torch.manual_seed(1000 * seed + epoch)
        model.train()
        for batch in torch.randperm(len(x_train)).split(32):
            loss = nn.functional.cross_entropy(model(x_train[batch]), y_train[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            outputs = model(x_val)
            val_loss = nn.functional.cross_entropy(outputs, y_val).item()
            val_acc = (outputs.argmax(1) == y_val).float().mean().item()
        ended = time.time()
        _note(
            {"trial": name, "epoch": epoch, "ended": ended, "wall": ended - started, "cpu": time.process_time() - cpu}
        )
        metrics = {"loss": loss.item(), "val_loss": val_loss, "val_acc": val_acc}
        yield epoch, metrics, {"epoch": epoch, "model": model.state_dict(), "optimizer": optimizer.state_dict()}


def _note(event: dict[str, Any]) -> None:
    with Path(os.environ["JOB_EVENTS"]).open("a", encoding="utf-8") as file:
        file.write(json.dumps(event) + "\n")
