"""What a study would do, before it does it: parameters, sampled trials, epochs, time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from resnet_core.models import build, trainable_parameters
from resnet_core.trainer import seconds_per_epoch
from search_spaces.space import trial_count
from search_spaces.study import StudySpec
from sweeps.drawing import draw_rates
from sweeps.ledger import Job, Ledger
from sweeps.placement import available_cores


@dataclass(frozen=True)
class Plan:
    """What a study would do.

    Attributes:
        spec: the study.
        trials: how many trials it has.
        parameters: trainable parameters of the first sampled trial's network.
        samples: the trials it would start with.
        seconds_per_epoch: of the first of them, timed on this machine over a few steps.
        slots: trials at once on this machine.
        device: what was timed.
    """

    spec: StudySpec
    trials: int
    parameters: int
    samples: list[Job]
    seconds_per_epoch: float
    slots: int
    device: str

    @property
    def epochs(self) -> int:
        """Epochs of all trials when no rule stops any; estimated from the sampled ones."""
        horizons = [job.config.horizon for job in self.samples]
        return round(self.trials * sum(horizons) / len(horizons))

    @property
    def hours(self) -> float:
        """Wall time of them, with all slots busy."""
        return self.epochs * self.seconds_per_epoch / min(self.slots, self.trials) / 3600

    def to_dict(self) -> dict[str, Any]:
        """Return what ``plan --json`` prints."""
        return {
            "study": self.spec.name,
            "trainable_parameters": self.parameters,
            "trials": [
                {"trial": job.name, "parameters": job.params, "config": job.config.to_dict()} for job in self.samples
            ],
            "trials_in_all": self.trials,
            "epochs": self.epochs,
            "seconds_per_epoch": self.seconds_per_epoch,
            "trials_at_once": self.slots,
            "hours": self.hours,
            "device": self.device,
        }


def plan(spec: StudySpec, count: int = 3) -> Plan:
    """Return what ``spec`` would do on this machine; times a few training steps, and starts nothing."""
    ledger = Ledger.preview(spec)
    samples = [ledger.ask() for _ in range(min(count, trial_count(spec)))]
    config = samples[0].config
    resources = spec.resources
    cuda = bool(resources.gpus_per_trial) and torch.cuda.is_available()
    threads = torch.get_num_threads()
    torch.set_num_threads(min(resources.cpus_per_trial, available_cores()))
    try:
        seconds = seconds_per_epoch(config, device="cuda" if cuda else "cpu")
    finally:
        torch.set_num_threads(threads)
    slots = max(1, available_cores() // resources.cpus_per_trial)
    if cuda:
        slots = min(slots, max(1, int(torch.cuda.device_count() / resources.gpus_per_trial)))
    return Plan(
        spec=spec,
        trials=trial_count(spec),
        parameters=trainable_parameters(build(config)),
        samples=samples,
        seconds_per_epoch=seconds,
        slots=slots,
        device=torch.cuda.get_device_name() if cuda else f"{resources.cpus_per_trial} CPU thread(s)",
    )


def describe(planned: Plan) -> str:
    """Return the plan as text for people."""
    spec = planned.spec
    lines = [f"{spec.name}: {spec.description}" if spec.description else spec.name]
    config = planned.samples[0].config
    lines.append(f"{config.model} on {config.data} ({config.split} split): {planned.parameters:,} trainable parameters")
    lines.append("")
    for job in planned.samples:
        asked = ", ".join(f"{k} = {v:.4g}" if isinstance(v, float) else f"{k} = {v}" for k, v in job.params.items())
        lines.append(f"trial {job.name}" + (f": {asked}" if asked else ""))
        lines.append(f"  {job.config.schedule}")
        lines.append("  " + draw_rates(job.config))
    lines.append("")
    lines.append(
        f"{planned.trials} trials, {planned.epochs:,} epochs if no rule stops any; one epoch takes about "
        f"{planned.seconds_per_epoch:,.1f} s on {planned.device}; {planned.slots} at once here: "
        f"about {_duration(planned.hours)}"
    )
    return "\n".join(lines)


def _duration(hours: float) -> str:
    if hours < 1:
        return f"{hours * 60:.0f} minutes" if hours * 60 >= 1 else "a minute"
    return f"{hours:.1f} hours" if hours < 48 else f"{hours / 24:.1f} days"
