"""The machines that trials run on, and how many trials fit on them."""

from __future__ import annotations

from dataclasses import dataclass

from search_spaces.space import shipped_values
from search_spaces.spec import StudySpec
from search_spaces.tables import Resources
from sweeps.errors import InputError
from sweeps.execution.machine import has_bf16


@dataclass(frozen=True)
class Node:
    """A machine of the cluster.

    Attributes:
        cpus: number of CPU cores.
        gpus: number of GPUs.
    """

    cpus: float
    gpus: float = 0.0

    def slots(self, resources: Resources) -> int:
        """Return how many trials fit on the machine at the same time; 0 if none does."""
        slots = int(self.cpus // resources.cpus_per_trial)
        share = resources.gpus_per_trial
        if not share:
            return slots
        # A trial takes its share from a single GPU: with a share of 0.4, two trials fit on each GPU.
        return min(slots, int(self.gpus) * int(1 / share + 1e-9))


@dataclass(frozen=True)
class Cluster:
    """The machines that Ray may use.

    Attributes:
        nodes: the machines; a trial runs on one of them.
    """

    nodes: tuple[Node, ...]

    def slots(self, resources: Resources) -> int:
        """Return how many trials fit on the cluster at the same time.

        Raises:
            InputError: no trial fits; the message names the resource that is missing.
        """
        slots = sum(node.slots(resources) for node in self.nodes)
        if slots:
            return slots
        cpus = max((node.cpus for node in self.nodes), default=0.0)
        gpus = max((node.gpus for node in self.nodes), default=0.0)
        there = "there are" if len(self.nodes) == 1 else "no node has more than"
        if resources.cpus_per_trial > cpus:
            raise InputError(
                f"resources.cpus_per_trial = {resources.cpus_per_trial}: {there} {cpus:g} CPU cores; "
                f"use --set resources.cpus_per_trial={max(1, int(cpus))} or fewer"
            )
        if resources.gpus_per_trial > gpus:
            raise InputError(
                f"resources.gpus_per_trial = {resources.gpus_per_trial:g}: {there} {gpus:g} GPUs; "
                "use --set resources.gpus_per_trial=0 to run on CPU cores"
            )
        raise InputError(
            f"resources: no node has {resources.cpus_per_trial} CPU cores and {resources.gpus_per_trial:g} GPUs "
            "at once; ask for less of one of them with --set"
        )


def slow_precision(spec: StudySpec) -> str | None:
    """Return a sentence where trials on this machine's CPU would take far longer than they need; else None."""
    if spec.resources.gpus_per_trial or "bf16" not in shipped_values(spec, "precision") or has_bf16() is not False:
        return None
    return (
        'train.precision = "bf16" takes several times as long as fp32 on this processor, which does not have it; '
        "use --set train.precision=fp32"
    )


def visible_gpus() -> int:
    """Return how many GPUs torch finds. This imports torch, which takes seconds and hundreds of megabytes."""
    import torch

    return torch.cuda.device_count()
