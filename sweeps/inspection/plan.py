"""The plan of a study before its launch: its first trials, and the epochs, hours and kWh that it would take."""

from __future__ import annotations

import sys
import tempfile
import time
from contextlib import closing, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from resnet_core import code
from resnet_core.config import TrialConfig, epoch_sizes
from resnet_core.meter import GpuMeter
from resnet_core.network import build, trainable_parameters
from resnet_core.own_config import OwnConfig
from resnet_core.records import duration_text
from resnet_core.run import Run
from resnet_core.trainer import seconds_per_epoch
from search_spaces.errors import as_toml
from search_spaces.space import listed_runs, trial_config, trial_count
from search_spaces.spec import StudySpec
from search_spaces.trainers import SHIPPED, OwnTrainer
from sweeps.errors import InputError, SweepError
from sweeps.execution.cluster import Cluster, Node, slow_precision, visible_gpus
from sweeps.execution.machine import available_cores
from sweeps.execution.worker import own_epochs_of
from sweeps.home import Home
from sweeps.inspection.kept_networks import size_text
from sweeps.inspection.notes import study_notes
from sweeps.inspection.trials import draw_learning_rate
from sweeps.ledger.ledger import Ledger
from sweeps.simulation.curve_model import POST5
from sweeps.simulation.curves import CurveSource, RecordedCurves
from sweeps.simulation.setup import Setup
from sweeps.simulation.simulate import simulate
from sweeps.study.code import describe as describe_code
from sweeps.study.trials import Job

_STEPS = 3
_BYTES = 4  # of a parameter
_MEASURED_SECONDS = 10.0
_MOST_STEPS = 2000
_LONG_EPOCH = 60.0  # seconds; of a trainer with shorter epochs, the second one is timed


@dataclass(frozen=True)
class Plan:
    """The plan of a study.

    Attributes:
        spec: the study.
        trials: number of trials in its search.
        parameters: number of trainable parameters of the network of the first sampled trial; None for a trainer of
            somebody's own.
        samples: the first trials of the study.
        seconds_per_epoch: of the first sampled trial, timed over a few steps on this machine; or of an earlier study.
        slots: number of trials at the same time on this machine.
        device: the device that was timed, or the earlier study.
        watts: power of the GPU while it was timed; None if it was not read.
        share_saved: share of all epochs that the study's stopping rules save in a simulation; None without a
            simulation.
        misfit: why no trial fits on this machine, so that a launch is refused here; empty where one does.
    """

    spec: StudySpec
    trials: int
    parameters: int | None
    samples: list[Job]
    seconds_per_epoch: float
    slots: int
    device: str
    watts: float | None = None
    share_saved: float | None = None
    misfit: str = ""

    @property
    def finalists(self) -> int:
        """The largest number of finalists' runs that can follow the search."""
        race = self.spec.search.finalists
        return 0 if race is None else race.top * race.seeds

    @property
    def kept(self) -> int:
        """The largest number of networks that are kept."""
        trials = self.trials + self.finalists
        return trials if self.spec.keep.all else min(self.spec.keep.best, trials)

    @property
    def epochs(self) -> int:
        """Epochs of all trials and finalists if no rule stops any; for a space, estimated from the sampled trials."""
        if self.spec.space:
            horizons, trials = [job.config.horizon for job in self.samples], self.trials
        else:
            horizons = [trial_config(self.spec, {}, run=run.name).horizon for run in listed_runs(self.spec)]
            trials = len(horizons)
        return round((trials + self.finalists) * sum(horizons) / len(horizons))

    @property
    def hours(self) -> float:
        """Hours that the epochs take if all slots are always busy."""
        return self.epochs * self.seconds_per_epoch / min(self.slots, self.trials) / 3600

    @property
    def kilowatt_hours(self) -> float | None:
        """Energy of the epochs in kWh if each trial has a whole GPU; None if no GPU's power was read."""
        if self.watts is None:
            return None
        return self.epochs * self.seconds_per_epoch * self.watts / 3.6e6

    @property
    def stopped(self) -> dict[str, Any] | None:
        """Epochs, hours and energy with the study's stopping rules; None if the rules were not simulated."""
        if self.share_saved is None:
            return None
        left, energy = 1 - self.share_saved, self.kilowatt_hours
        return {
            "epochs": round(self.epochs * left),
            "hours": self.hours * left,
            "kilowatt_hours": None if energy is None else energy * left,
        }

    def to_dict(self) -> dict[str, Any]:
        """Return the values that ``plan --json`` prints."""
        return {
            "study": self.spec.name,
            "trainable_parameters": self.parameters,
            "code": {name: source.to_dict() for name, source in self.spec.sources.items()},
            "trials": [
                {"trial": job.name, "parameters": job.params, "config": job.config.to_dict()} for job in self.samples
            ],
            "trials_in_all": self.trials,
            "finalists_at_most": self.finalists,
            "epochs": self.epochs,
            "seconds_per_epoch": self.seconds_per_epoch,
            "trials_at_once": self.slots,
            "hours": self.hours,
            "kilowatt_hours": self.kilowatt_hours,
            "with_stopping": self.stopped,
            "device": self.device,
            "kept_networks": self.kept,
            "kept_bytes": None if self.parameters is None else self.kept * _BYTES * self.parameters,
        }


def plan(spec: StudySpec, count: int = 3, *, steps: int = _STEPS, data_dir: Path = Path("data")) -> Plan:
    """Return the plan of a study on this machine.

    Args:
        spec: the study, read from its file.
        count: number of sampled trials.
        steps: number of training steps to time; a trainer of somebody's own is timed as it offers, or over the first
            epoch of the first trial.
        data_dir: the folder for data.

    Raises:
        SweepError: the trainer fails.
    """
    planned = _untimed(spec, count)
    config, resources = planned.samples[0].config, spec.resources
    cuda = bool(resources.gpus_per_trial) and torch.cuda.is_available()
    device = "cuda" if cuda else "cpu"
    threads = torch.get_num_threads()
    used = min(resources.cpus_per_trial, available_cores())
    torch.set_num_threads(used)
    try:
        with GpuMeter(torch.device(device)) as meter:
            if isinstance(config, TrialConfig):
                seconds = seconds_per_epoch(config, device=device, steps=steps)
            else:
                seconds = _own_seconds(planned.samples[0], spec, device, data_dir)
    finally:
        torch.set_num_threads(threads)
    name = torch.cuda.get_device_name() if cuda else f"{used} CPU thread(s)"
    return replace(planned, seconds_per_epoch=seconds, device=name, watts=meter.power_watts)


def _own_seconds(job: Job, spec: StudySpec, device: str, data_dir: Path) -> float:
    """Return the seconds of an epoch that the trainer offers, else those of the first epoch of a trial."""
    trainer, config = spec.trainer, job.config
    assert isinstance(trainer, OwnTrainer)
    assert isinstance(config, OwnConfig)
    threads = spec.resources.cpus_per_trial
    about: dict[str, Any] = {"device": device, "threads": threads, "data_dir": data_dir, "name": job.name}
    try:
        with redirect_stdout(sys.stderr):  # what the trainer prints is no part of the plan
            offered = trainer.seconds_per_epoch(config, Run(**about))
        if offered is not None:
            return offered
        started = time.perf_counter()
        with (
            redirect_stdout(sys.stderr),
            tempfile.TemporaryDirectory() as folder,
            closing(own_epochs_of(trainer, config.to_dict(), checkpoint=Path(folder) / "plan.pt", **about)) as epochs,
        ):
            next(epochs, None)
            first = time.perf_counter() - started
            if first < _LONG_EPOCH and next(epochs, None) is not None:  # the first one waits for imports
                return time.perf_counter() - started - first
            return first
    except Exception as error:
        raise SweepError(f"trial {job.name} of the plan fails: {code.describe(error)}") from error


def measured_plan(spec: StudySpec, home: Home) -> Plan:
    """Return a plan timed over about ten seconds, with the savings of the study's rules on the model's curves.

    Raises:
        InputError: the model does not know the study's trainer.
    """
    if spec.trainer is not SHIPPED:
        raise InputError(
            "--measure: the model of published curves knows the trainer that ships alone; --like NAME takes the curves "
            "of an earlier study"
        )
    quick = plan(spec)
    config = quick.samples[0].config
    assert isinstance(config, TrialConfig)
    train, val = epoch_sizes(config)
    # Enough steps to make the time of building the network negligible in the measured power.
    step = quick.seconds_per_epoch * min(config.batch_size, train) / (train + val / 3)
    planned = plan(spec, steps=min(max(_STEPS, round(_MEASURED_SECONDS / step)), _MOST_STEPS))
    return replace(planned, share_saved=_share_saved(planned, POST5, home))


def plan_from_earlier(spec: StudySpec, earlier: RecordedCurves, home: Home) -> Plan:
    """Return a plan with the seconds per epoch of an earlier study, and the rules' savings on its curves."""
    planned = replace(
        _untimed(spec, 3), seconds_per_epoch=earlier.seconds_per_epoch, device=f"the machine of {earlier.study}"
    )
    return replace(planned, share_saved=_share_saved(planned, earlier, home))


def _share_saved(planned: Plan, source: CurveSource, home: Home) -> float:
    setup = Setup(planned.spec, source, home, planned.slots, seconds_per_epoch=planned.seconds_per_epoch)
    return simulate(
        replace(setup, shuffled=isinstance(source, RecordedCurves), seed=planned.spec.search.seed)
    ).share_saved


def _untimed(spec: StudySpec, count: int) -> Plan:
    ledger = Ledger.preview(spec)
    samples = [ledger.ask() for _ in range(min(count, trial_count(spec)))]
    resources = spec.resources
    if not torch.cuda.is_available():
        resources = resources.model_copy(update={"gpus_per_trial": 0.0})
    first, misfit = samples[0].config, ""
    try:
        slots = Cluster((Node(available_cores(), visible_gpus()),)).slots(resources)
    except InputError as error:
        slots, misfit = 1, str(error)
    return Plan(
        spec=spec,
        trials=trial_count(spec),
        parameters=trainable_parameters(build(first)) if isinstance(first, TrialConfig) else None,
        samples=samples,
        seconds_per_epoch=0.0,
        slots=slots,
        device="",
        misfit=misfit,
    )


def describe(planned: Plan) -> str:
    """Return the plan as text."""
    spec = planned.spec
    lines = [f"{spec.name}: {spec.description}" if spec.description else spec.name]
    config = planned.samples[0].config
    if isinstance(config, TrialConfig):
        lines.append(
            f"{config.model} on {config.data} ({config.split} split): {planned.parameters:,} trainable parameters"
        )
    lines += [*describe_code(spec), *study_notes(spec, planned.slots)]
    lines.append("")
    for job in planned.samples:
        asked = ", ".join(f"{k} = {v:.4g}" if isinstance(v, float) else f"{k} = {v}" for k, v in job.params.items())
        lines.append(f"trial {job.name}" + (f": {asked}" if asked else ""))
        if isinstance(job.config, OwnConfig):
            values = {name: value for name, value in job.config.to_dict().items() if name not in job.params}
            if values:
                lines.append("  " + ", ".join(f"{name} = {as_toml(value)}" for name, value in values.items()))
        else:
            lines.append(f"  {job.config.schedule}")
        lines.append("  " + draw_learning_rate(job.config))
    lines += ["", *_kept_lines(planned)]
    finalists = f" and at most {planned.finalists} runs of finalists" if planned.finalists else ""
    lines.append(
        f"{planned.trials} trials{finalists}, {planned.epochs:,} epochs if no rule stops any; one epoch takes about "
        f"{duration_text(planned.seconds_per_epoch)} on {planned.device}; {planned.slots} at once here: "
        f"about {duration_text(3600 * planned.hours)}{_energy(planned.kilowatt_hours)}"
    )
    if planned.misfit:
        lines.append(f"no trial fits on this machine: {planned.misfit}")
    slow = slow_precision(spec)
    if slow is not None:
        lines.append(slow)
    if planned.stopped is not None:
        lines.append(
            f"with its stopping rules, simulated: about {planned.stopped['epochs']:,} epochs, "
            f"{duration_text(3600 * planned.stopped['hours'])}{_energy(planned.stopped['kilowatt_hours'])}"
        )
    return "\n".join(lines)


def _kept_lines(planned: Plan) -> list[str]:
    """Return what will be kept of the trials' networks, and how large that is."""
    if not planned.kept:
        return []
    some = planned.kept < planned.trials + planned.finalists
    whose = ("the best " if some else "") + (f"{planned.kept} trials" if planned.kept > 1 else "trial")
    if planned.parameters is None:
        return [f"kept of {whose}: what the trainer gives to run.save_model"]
    one = _BYTES * planned.parameters
    return [f"kept of {whose}: the network, {planned.kept} x {size_text(one)} = {size_text(planned.kept * one)}"]


def _energy(kilowatt_hours: float | None) -> str:
    return "" if kilowatt_hours is None else f", {kilowatt_hours:.2g} kWh"
