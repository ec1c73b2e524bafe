"""Ends a trial whose training has diverged."""

from __future__ import annotations

import math

from resnet_core.config import TrialConfig, dataset_info, epoch_sizes
from resnet_core.records import metric_curve
from sweeps.study.stopping.base import Progress, StoppingRule, StudyState

_PATIENCE = 3
_TIMES_CHANCE, _MOST_ABOVE = 1.2, 0.02  # a factor on the accuracy of guesses, and the most that it may add
_DEVIATIONS = 2.0  # the margin is at least so many standard deviations of the accuracy of guesses


def divergence(trial: Progress) -> str | None:
    """Return how a trial has diverged, in words; None where it has not.

    A trial has diverged if the loss or the study's metric of its last epoch is not finite. A trial of the trainer that
    ships whose study looks at the validation accuracy has also diverged if the training accuracy of each of its last
    three epochs is at chance, see `highest_chance`. These epochs count from the end of the warm-up, where the learning
    rate first takes its highest value. There, validation accuracy is not used: while batch norm's running statistics
    are still inexact, in the first epochs, it is at chance in healthy trials too.
    """
    last = trial.records[-1]
    if last.loss is not None and not math.isfinite(last.loss):
        return f"the loss is {last.loss} at epoch {last.epoch}"
    shipped = isinstance(trial.config, TrialConfig) and trial.objective.is_accuracy
    value = None if shipped else last.get(trial.objective.metric)
    if value is not None and not math.isfinite(value):
        return f"{trial.objective.metric} is {value} at epoch {last.epoch}"
    if not (isinstance(trial.config, TrialConfig) and shipped):
        return None  # nothing says what chance is
    warm = math.ceil(trial.config.lr_schedule.peak_epoch)
    settled = [record for record in trial.records if record.epoch > warm][-_PATIENCE:]
    chance = highest_chance(dataset_info(trial.config).classes, epoch_sizes(trial.config)[0])
    if len(settled) == _PATIENCE and all(acc < chance for acc in metric_curve(settled, "acc")):
        return f"training accuracy is at chance ({last.acc:.3f}) since epoch {settled[0].epoch}"
    return None


def highest_chance(classes: int, images: int) -> float:
    """Return the training accuracy below which a network does no better than guesses.

    That is 1/classes and a margin: a fifth of it, 0.02 at most, since 0.55 is above chance where there are two classes;
    but no less than two standard deviations of the share of so many images that guesses get right.

    Args:
        classes: number of classes.
        images: number of training images in an epoch.
    """
    chance = 1 / classes
    deviation = math.sqrt(chance * (1 - chance) / images)
    return max(min(_TIMES_CHANCE * chance, chance + _MOST_ABOVE), chance + _DEVIATIONS * deviation)


class Diverged(StoppingRule):
    """Ends a trial whose loss or metric is not finite, or whose training accuracy stays at chance after the warm-up."""

    name = "diverged"
    order = 0
    on_by_default = True

    def reason_to_stop(self, trial: Progress, study: StudyState) -> str | None:  # noqa: ARG002
        """Stop a trial that has diverged, see `divergence`."""
        broken = divergence(trial)
        return None if broken is None else f"stopped at epoch {trial.epoch}: {broken}"
