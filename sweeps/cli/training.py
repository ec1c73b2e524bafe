"""Commands that train one run of a study in this process."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer

from resnet_core.config import TrialConfig
from resnet_core.own_config import Config
from resnet_core.records import EpochRecord
from search_spaces.spec import StudySpec
from sweeps.api import DATA, data_folder, load_study
from sweeps.cli.app import command, print_json, print_message, print_result, stderr
from sweeps.cli.options import DataOption, JsonOption, SetOption, StudyArgument, check_figure, choice, writing
from sweeps.errors import InputError, SweepError

DeviceOption = Annotated[str, typer.Option("--device", help="cpu or cuda.", show_default="cuda if there")]


@dataclass(frozen=True, kw_only=True)
class OneRun:
    """The options that select one run of a study."""

    study: StudyArgument
    run: Annotated[str, typer.Option("--run", help="Name of a listed run.", show_default="the first")] = ""
    changes: SetOption

    def load(self) -> tuple[StudySpec, Config]:
        """Return the study and the configuration of its first trial, or of the first trial of a listed run."""
        spec = load_study(self.study, changes=self.changes)
        if self.run:
            from search_spaces.space import trial_config

            return spec, trial_config(spec, {}, run=self.run)
        from sweeps.ledger.ledger import Ledger

        return spec, Ledger.preview(spec).ask().config


@dataclass(frozen=True, kw_only=True)
class Machine:
    """The options for training in this process: device, threads, folder of the images."""

    threads: Annotated[int | None, typer.Option("--threads", min=1, help="CPU threads.")] = None
    device: DeviceOption = ""
    data: DataOption = DATA

    def prepare(self, spec: StudySpec) -> str:
        """Set the number of CPU threads (default: the study's); return the device (default: a GPU if there is one)."""
        import torch

        from sweeps.execution.machine import available_cores

        wanted = self.threads or spec.resources.cpus_per_trial
        if wanted > available_cores():
            raise InputError(f"--threads {wanted}: there are {available_cores()} CPU cores")
        torch.set_num_threads(wanted)
        return device_of(self.device, torch.cuda.device_count())


def device_of(typed: str, gpus: int) -> str:
    """Return torch's device for what was typed after --device, on a machine with a number of GPUs.

    Raises:
        InputError: it is no device, or this machine has none of its number.
    """
    if not typed:
        return "cuda" if gpus else "cpu"
    found = re.fullmatch(r"cpu|cuda(?::([0-9]+))?", typed)
    if not found:
        raise InputError(f"--device {typed}: expected cpu or cuda")
    if typed != "cpu" and int(found[1] or 0) >= gpus:
        raise InputError(f"--device {typed}: torch finds {gpus or 'no'} GPUs here; use --device cpu")
    return typed


@command()
def train(
    one: OneRun,
    *,
    checkpoint: Annotated[
        Path | None,
        typer.Option("--checkpoint", help="Save after each epoch to this file, and continue from it."),
    ] = None,
    machine: Machine,
    as_json: JsonOption = False,
) -> None:
    """Train one run of a study in this process.

    Ray, the ledger and MLflow are not used.
    """
    spec, config = one.load()
    from resnet_core.records import METRICS, duration_text, metric_curve, metric_texts
    from sweeps.inspection.trials import draw_learning_rate

    device = machine.prepare(spec)
    print_message(f"{_described(spec, config)}\n{draw_learning_rate(config)}")
    records = []
    for record in _epochs(spec, config, machine, device, checkpoint):
        records.append(record)
        print_message(
            f"epoch {record.epoch}/{config.horizon} {' '.join(metric_texts(record.values()))} "
            f"{duration_text(record.seconds or 0.0)}"
        )
    if as_json:
        print_json(
            {
                "config": config.to_dict(),
                "epochs": [{"epoch": r.epoch, **dict.fromkeys(METRICS), **r.values()} for r in records],
            }
        )
        return
    sought = spec.objective
    values = metric_curve(records, sought.metric)
    crossing, top = sought.first_crossing(values), sought.best(values)
    reached = f"reached at epoch {crossing}" if crossing else f"not reached in {len(records)} epochs"
    shown = f"{sought.shown(top[1])} at epoch {top[0]}" if top else "none"
    print_result(f"{sought.target_text} {reached}; " * (sought.target is not None) + f"best {sought.metric} {shown}")


def _described(spec: StudySpec, config: Config) -> str:
    if isinstance(config, TrialConfig):
        return f"{config.model} on {config.data}: {config.schedule}"
    from sweeps.study.code import describe

    return "\n".join([*describe(spec), *filter(None, [config.schedule])])


def _epochs(
    spec: StudySpec, config: Config, machine: Machine, device: str, checkpoint: Path | None
) -> Iterator[EpochRecord]:
    data_dir = data_folder(machine.data)
    if isinstance(config, TrialConfig):
        from resnet_core.trainer import train as train_shipped

        yield from train_shipped(config, data_dir=data_dir, device=device, checkpoint=checkpoint)
        return
    from resnet_core import code
    from search_spaces.trainers import OwnTrainer
    from sweeps.execution.worker import own_epochs_of

    assert isinstance(spec.trainer, OwnTrainer)
    import torch

    about = {"device": device, "threads": torch.get_num_threads(), "data_dir": data_dir, "checkpoint": checkpoint}
    try:
        records = own_epochs_of(spec.trainer, config.to_dict(), metric=spec.objective.metric, **about)
        while True:
            with redirect_stdout(sys.stderr):  # what the trainer prints is no result of the command
                record = next(records, None)
            if record is None:
                return
            yield record
    except SweepError:
        raise
    except Exception as error:
        raise SweepError(code.describe(error)) from error


@command()
def lr_range(
    one: OneRun,
    *,
    low: Annotated[float, typer.Option("--from", help="Learning rate of the first step.")] = 1e-6,
    high: Annotated[float, typer.Option("--to", help="Learning rate it rises to.")] = 10.0,
    epochs: Annotated[int, typer.Option("--epochs", min=1, help="Epochs it takes to rise.")] = 2,
    shape: Annotated[str, choice("--shape", "exp", "lin", help="How it rises: ")] = "exp",
    plot: Annotated[
        Path | None, typer.Option("--plot", help="Draw loss and accuracy into this file (png, pdf, svg).")
    ] = None,
    machine: Machine,
    as_json: JsonOption = False,
) -> None:
    """Train at rising learning rates, and suggest bounds for a schedule.

    It trains the study's first trial, or the first of a listed run.
    """
    if not 0 < low < high < float("inf"):
        raise InputError(f"--from {low:g} --to {high:g}: expected two learning rates above 0, the second the higher")
    spec, first = one.load()
    from analysis.plots.lr_range import plot_lr_range
    from analysis.statistics.lr_range import RULES, suggest
    from sweeps.inspection.lr_range import range_test, with_rising_rate

    check_figure(plot)  # before any training
    if not isinstance(first, TrialConfig):
        raise InputError(f"{one.study}: expected the trainer that ships: only its steps can be looked at")
    config = with_rising_rate(first, low, high, epochs, shape)
    device = machine.prepare(spec)
    print_message(f"{config.model} on {config.data}: {config.schedule}")
    test = range_test(config, data_folder(machine.data), device, stderr)
    refused, bounds = None, None
    try:
        bounds = suggest(test.lrs, test.losses, test.accs, test.beta)
    except ValueError as error:
        refused = str(error)
    suggested = None if bounds is None else asdict(bounds)
    if as_json:
        shown = {"config": config.to_dict(), "stopped": test.stopped, "bounds": suggested, "refused": refused}
        print_json({**shown, "steps": [asdict(record) for record in test.records]})
    elif suggested is not None:
        for name, rate in suggested.items():
            print_result(f"{name.replace('_', ' '):<8}  {rate:<8.3g}  {RULES[name]}")
    if plot is not None:
        title = f"{spec.name}: {config.model}, batch {config.batch_size}, {config.optimizer}"
        series = (test.lrs, test.losses, test.accs, bounds)
        with writing("--plot", plot):
            plot_lr_range(*series, beta=test.beta, log=shape == "exp", title=title, path=plot)
        print_message(f"loss and accuracy drawn into {plot}")
    if refused is not None:
        raise SweepError(f"no bound can be told: {refused}")
