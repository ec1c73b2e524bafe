"""The names of a study's tags, parameters and metrics in MLflow's store, for the writer and the readers.

A study is an experiment. A run of kind LAUNCH is one driver's part in it, and the parent of the runs of kind TRIAL.
Tags and parameters are text; a parameter is the ``str`` of its value. The names never change, so that stores of earlier
versions can be read.

Two groups of names are not here, because they are fields of classes: the parameters of a trial are all fields of
resnet_core.config.TrialConfig, and the metrics of an epoch are those of its resnet_core.records.EpochRecord, each
logged with the epoch as MLflow's step.
"""

from __future__ import annotations

from collections.abc import Mapping

# Tag of an experiment.

STUDY = "sweeps.study"
"""The study's name: the experiment is the study's whatever people call it. In older stores its name is the study's."""

# Tags of every run.

KIND = "sweeps.kind"
"""LAUNCH or TRIAL."""

LAUNCH, TRIAL = "launch", "trial"

STUDY_HASH = "study_hash"
"""The hash of the study's identity: search_spaces.study.study_hash."""

CODE_VERSION = "code_version"
"""This package's version, and its commit where it runs from a git checkout; not there for an imported study."""

# Tags of a launch.

DRIVER = "sweeps.driver"
"""The name of the driver in the study; not there in stores from before a study could have several."""

DESCRIPTION = "description"
"""The study's description; older stores have it as NOTE."""

NOTE = "mlflow.note.content"
"""The description and the best trials as Markdown, for MLflow's pages."""

METRIC, GOAL = "metric", "goal"
"""The metric that counts, and ``max`` or ``min``; not there for val_acc that should rise."""

TARGET = "target"
"""The value of the metric to reach; not there in a study without a target."""

SUSTAINED = "sustained"
"""How many epochs in a row at the target or better count as sustained."""

LONGEST_HORIZON = "longest_horizon"
"""The number of epochs of the longest schedule that the study allows."""

STOPPING_RULES = "stopping_rules"
"""JSON: ``active`` or ``shadow`` by rule."""

PHASE = "phase"
"""``search`` or ``confirm``."""

CONFIRMS = "confirms"
"""What a confirmation confirms, as ``STUDY trial NAME``; only there in a confirmation."""

LENGTHENED = "lengthened"
"""How a confirmation's number of runs was decided, if it was not fixed in advance: ``looked`` or ``sequential``."""

SPACE = "space"
"""JSON: the range or the choices of every sampled parameter, by name. Not there where that is too long for a tag."""

IMPORTED = "sweeps.imported"
"""The name of the file that the study was imported from; only there in an imported study, like the next two."""

IMPORTED_SHA256 = "sweeps.imported_sha256"
"""The SHA-256 of that file, in hexadecimal digits."""

IMPORTED_DIGEST = "sweeps.imported_digest"
"""The SHA-256 of the study that was made from the file, in hexadecimal digits."""

PACKAGES = ("torch", "torchvision", "ray", "optuna", "mlflow")
"""Packages that results depend on; the tag of each holds its version."""

VERSIONS = ("python", *PACKAGES)
"""What the study ran with last; not there for an imported study."""

# Tags of a trial.

PARENT_RUN = "mlflow.parentRunId"
"""The id of the launch's run; MLflow's pages show the trials below it."""

TRIAL_NUMBER = "sweeps.trial"
"""The number of the trial in the study, from 0."""

SEED = "seed"
"""The seed of the trial's configuration; a parameter too."""

FINALIST = "finalist"
"""``true`` for a trial that runs a configuration again with a fresh seed."""

THAWED = "thawed"
"""The epochs after which a stopping rule had ended the trial before it went on, separated by commas."""

DEVICE, GPUS, GPU_IDS, THREADS, NODE = "device", "gpus", "gpu_ids", "threads", "node"

PLACE = (DEVICE, GPUS, GPU_IDS, THREADS, NODE)
"""Where the trial runs: the device's name, the number of GPUs or the share of one that the trial holds, the numbers of
these GPUs, the CPU threads, and the name of the host."""

OUTCOME = "outcome"
"""How the trial ended: a value of resnet_core.records.Outcome. Not there while it runs, like the next three."""

STOP_REASON = "stop_reason"
"""Why it did not train to the end of its schedule, in a sentence."""

STOPPED_BY = "stopped_by"
"""The key of the stopping rule that ended it."""

WOULD_STOP = "would_stop"
"""JSON: by rule, the first epoch at which it would have stopped the trial; rules in shadow included."""

END = (OUTCOME, STOP_REASON, STOPPED_BY, WOULD_STOP)
"""The tags that say how a trial ended."""

# Parameters of a trial, besides the fields of TrialConfig.

LR_ALPHA = "lr_alpha"
"""The highest learning rate of the schedule."""

HORIZON = "horizon"
"""The number of epochs of the schedule."""

DERIVED_PARAMS = (LR_ALPHA, HORIZON)
"""Parameters that follow from the configuration."""

SAMPLED = "space."
"""The prefix of a sampled parameter's name: ``space.warmup`` holds the value that Optuna gave ``warmup``."""

LONGEST_PARAM = 6000
"""How many characters of a parameter MLflow keeps. What is left of a longer one is in the parameters ``NAME/2``,
``NAME/3`` and so on; see `in_parts`."""

# Metrics of a trial, besides the fields of EpochRecord.

FINAL_METRICS = (
    "objective",
    "epochs_to_target",
    "epochs_to_target_sustained",
    "best_val_acc",
    "best_epoch",
    "epochs_run",
    "epochs_saved",
    "final_loss",
    "final_val_loss",
)
"""Metrics of a trial at its end, to sort by: fields of sweeps.study.outcomes.Result; fields without a value are left
out. The step is the last epoch. The name of the best value has the study's metric in it, see `best_metric`."""


def is_launch(tags: Mapping[str, str]) -> bool:
    """Return whether a run with these tags is of a launch; one tag is enough, since people can change tags."""
    return tags.get(KIND) == LAUNCH or SUSTAINED in tags


def is_trial(tags: Mapping[str, str]) -> bool:
    """Return whether a run with these tags is of a trial; its number is enough, since people can remove tags."""
    return tags.get(KIND) == TRIAL or (KIND not in tags and TRIAL_NUMBER in tags)


def best_metric(metric: str) -> str:
    """Return the name under which the best value of a study's metric is logged at a trial's end."""
    return f"best_{metric}"


def in_parts(params: Mapping[str, str]) -> dict[str, str]:
    """Return parameters as MLflow can keep them: one that is longer than LONGEST_PARAM becomes several."""
    parts = {}
    for name, value in params.items():
        for part, first in enumerate(range(0, max(1, len(value)), LONGEST_PARAM), start=1):
            parts[name if part == 1 else f"{name}/{part}"] = value[first : first + LONGEST_PARAM]
    return parts


def whole(params: Mapping[str, str]) -> dict[str, str]:
    """Return the parameters that `in_parts` was given, from those that it returned.

    >>> whole(in_parts({"schedule": 7000 * "x"})) == {"schedule": 7000 * "x"}
    True
    """
    values = dict(params)
    for name in params:
        part = 2
        while (more := values.pop(f"{name}/{part}", None)) is not None:
            values[name] += more
            part += 1
    return values
