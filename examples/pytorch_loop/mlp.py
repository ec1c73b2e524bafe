"""Install: pip install resnet-sweeps. A plain PyTorch loop: a small network learns scikit-learn's digits."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

from sweeps import Run, Schedule


@dataclass(frozen=True)
class Config:
    """What a study may set."""

    schedule: Schedule  # the learning rate
    hidden: int = 64
    dropout: float = 0.0
    batch_size: int = 64
    seed: int = 0


def train(config: Config, run: Run) -> Iterator[dict[str, float]]:
    """Train one trial; yield the metrics of each epoch."""
    x, y = load_digits(return_X_y=True)
    parts = train_test_split(x / 16, y, test_size=0.25, random_state=0, stratify=y)
    x_train, x_val = (torch.tensor(part, dtype=torch.float32, device=run.device) for part in parts[:2])
    y_train, y_val = (torch.tensor(part, device=run.device) for part in parts[2:])

    torch.manual_seed(config.seed)
    model = nn.Sequential(
        nn.Linear(64, config.hidden), nn.ReLU(), nn.Dropout(config.dropout), nn.Linear(config.hidden, 10)
    ).to(run.device)
    optimizer = torch.optim.Adam(model.parameters())

    state = run.load()  # None at the start; after a kill, what run.save kept
    if state is not None:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])

    for epoch in run.epochs():  # from 1, or behind the last epoch that was kept
        torch.manual_seed(1000 * config.seed + epoch)  # so a continued trial draws as one that was never killed
        for group in optimizer.param_groups:
            group["lr"] = config.schedule.value(epoch - 1)

        model.train()
        total = 0.0
        for batch in torch.randperm(len(x_train)).split(config.batch_size):
            loss = nn.functional.cross_entropy(model(x_train[batch]), y_train[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(batch)

        model.eval()
        with torch.no_grad():
            outputs = model(x_val)
            val_loss = nn.functional.cross_entropy(outputs, y_val).item()
            val_acc = (outputs.argmax(1) == y_val).float().mean().item()

        run.save_model(model.state_dict())  # kept after the study, if the trial is among its best
        run.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()})
        yield {"loss": total / len(x_train), "val_loss": val_loss, "val_acc": val_acc}
