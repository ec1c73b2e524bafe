"""Install: pip install resnet-sweeps lightning. A LightningModule learns digits, trained by Lightning's Trainer."""

from dataclasses import dataclass

import lightning as L
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

from sweeps import Run, Schedule


@dataclass(frozen=True)
class Config:
    """What a study may set."""

    schedule: Schedule  # the learning rate
    hidden: int = 64
    seed: int = 0


class Classifier(L.LightningModule):
    """A network with one hidden layer."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.model = nn.Sequential(nn.Linear(64, config.hidden), nn.ReLU(), nn.Linear(config.hidden, 10))

    def training_step(self, batch, _):
        loss = nn.functional.cross_entropy(self.model(batch[0]), batch[1])
        self.log("loss", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch, _):
        outputs = self.model(batch[0])
        self.log("val_loss", nn.functional.cross_entropy(outputs, batch[1]))
        self.log("val_acc", (outputs.argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), lr=1.0)
        return [optimizer], [torch.optim.lr_scheduler.LambdaLR(optimizer, self.config.schedule.value)]


class Report(L.Callback):
    """Reports the metrics that the module has logged, and saves Lightning's checkpoint after that."""

    def __init__(self, run: Run) -> None:
        self.run, self.file = run, run.folder / "last.ckpt"

    def on_train_epoch_end(self, trainer, module):
        self.run.report(trainer.callback_metrics, epoch=trainer.current_epoch + 1)
        new = self.file.with_suffix(".new")  # a kill leaves the old file or the new one
        trainer.save_checkpoint(new, weights_only=False)  # the optimizer's state, too
        new.replace(self.file)


def train(config: Config, run: Run) -> None:
    """Train one trial."""
    L.seed_everything(config.seed, verbose=False)
    x, y = load_digits(return_X_y=True)
    data = TensorDataset(torch.tensor(x / 16, dtype=torch.float32), torch.tensor(y))
    train_data, val_data = random_split(data, [0.75, 0.25], torch.Generator().manual_seed(0))
    report = Report(run)
    L.Trainer(
        max_epochs=int(config.schedule.last_epoch),
        accelerator=run.device,
        devices=1,
        callbacks=[report],
        enable_checkpointing=False,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    ).fit(
        Classifier(config),
        DataLoader(train_data, 64, shuffle=True),
        DataLoader(val_data, 512),
        ckpt_path=report.file if report.file.exists() else None,  # after a kill, the last epoch
        weights_only=True,  # reading a checkpoint runs no code
    )
