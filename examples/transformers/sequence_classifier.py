"""Install: pip install resnet-sweeps transformers accelerate. A tiny BERT learns made sequences with HF's Trainer."""

from dataclasses import dataclass

import numpy as np
import torch
import transformers

from sweeps import Run


@dataclass(frozen=True)
class Config:
    """What a study may set."""

    epochs: int = 6
    learning_rate: float = 1e-3
    layers: int = 1
    dropout: float = 0.1
    seed: int = 0


class Report(transformers.TrainerCallback):
    """Reports what Trainer has evaluated; Trainer saves its checkpoint after that."""

    def __init__(self, run: Run) -> None:
        self.run = run

    def on_evaluate(self, args, state, control, metrics, **_):
        values = {"val_loss": metrics["eval_loss"], "val_acc": metrics["eval_accuracy"]}
        self.run.report(values, loss=state.log_history[-2]["loss"], epoch=round(state.epoch))


def sequences(count: int, seed: int) -> list[dict[str, torch.Tensor]]:
    """Make sequences of 16 tokens; the label tells whether token 1 comes before token 2."""
    generator = np.random.default_rng(seed)
    tokens = generator.integers(3, 30, (count, 16))
    places = np.array([generator.choice(16, 2, replace=False) for _ in range(count)])
    tokens[np.arange(count), places[:, 0]], tokens[np.arange(count), places[:, 1]] = 1, 2
    labels = places[:, 0] < places[:, 1]
    return [{"input_ids": torch.tensor(x), "labels": int(y)} for x, y in zip(tokens, labels, strict=True)]


def train(config: Config, run: Run) -> None:
    """Train one trial."""
    transformers.utils.logging.disable_progress_bar()
    transformers.set_seed(config.seed)
    sizes = {"hidden_size": 32, "num_hidden_layers": config.layers, "num_attention_heads": 4, "intermediate_size": 64}
    model = transformers.BertForSequenceClassification(
        transformers.BertConfig(vocab_size=30, hidden_dropout_prob=config.dropout, **sizes)
    )
    arguments = transformers.TrainingArguments(
        output_dir=str(run.folder),
        num_train_epochs=config.epochs,
        learning_rate=config.learning_rate,
        per_device_train_batch_size=16,
        per_device_eval_batch_size=256,
        eval_strategy="epoch",
        save_strategy="epoch",
        logging_strategy="epoch",
        save_total_limit=2,
        seed=config.seed,
        use_cpu=run.device == "cpu",
        disable_tqdm=True,
        report_to="none",
    )
    trainer = transformers.Trainer(
        model,
        arguments,
        train_dataset=sequences(1000, seed=1),
        eval_dataset=sequences(300, seed=2),
        compute_metrics=lambda said: {"accuracy": (said.predictions.argmax(1) == said.label_ids).mean()},
        callbacks=[Report(run)],
    )
    trainer.remove_callback(transformers.PrinterCallback)
    # After a kill, the newest checkpoint that is whole: Trainer writes this file last.
    last = run.folder.glob("checkpoint-*/trainer_state.json")
    whole = sorted((file for file in last if file.read_text().endswith("}\n")), key=lambda file: file.stat().st_mtime)
    trainer.train(resume_from_checkpoint=str(whole[-1].parent) if whole else None)
