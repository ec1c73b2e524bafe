"""New trials that do not come from the sampler: retries of crashed trials, listed trials, finalists."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from optuna.trial import FrozenTrial

from search_spaces import space
from search_spaces.spec import StudySpec
from sweeps.ledger import attributes
from sweeps.ledger.retries import Retries
from sweeps.ledger.trials import OptunaTrials
from sweeps.study.finalists import Race


@dataclass(frozen=True)
class Proposal:
    """A trial to be enqueued in Optuna's study.

    Attributes:
        params: its parameters; the sampler draws those that are missing.
        attrs: its user attributes.
    """

    params: dict[str, Any]
    attrs: dict[str, Any]


def next_listed(spec: StudySpec, trials: Sequence[FrozenTrial], retries: Retries) -> Proposal | None:
    """Return the next retry of a crashed trial, else the next trial that the study file lists.

    Args:
        spec: the study.
        trials: the study's own trials.
        retries: the study's crashed trials.
    """
    crashed = retries.next(trials)
    if crashed is not None:
        attrs = attributes.of_repetition(crashed.user_attrs) | {attributes.RETRY_OF: crashed.number}
        return Proposal(crashed.params, attrs)
    begun = {trial.user_attrs[attributes.LISTED] for trial in trials if attributes.LISTED in trial.user_attrs}
    for index, (params, attrs) in enumerate(space.listed_trials(spec)):
        if index not in begun:
            return Proposal(params, attrs | {attributes.LISTED: index})
    return None


def next_repetition(race: Race, known: OptunaTrials, trials: Sequence[FrozenTrial]) -> Proposal | None:
    """Return the next run of a finalist; None where no run is due now.

    Args:
        race: the state of the finalists' race.
        known: the study's trials in Optuna.
        trials: the study's own trials.
    """
    if race.next is None:
        return None
    entry, seed = race.next
    source = next(trial for trial in trials if known.number(trial) == entry.job.number)
    attrs = {name: value for name, value in source.user_attrs.items() if name == attributes.RUN}
    named = {attributes.NAME: f"{entry.job.name}-s{seed}", attributes.SEED: seed, attributes.FINALIST: True}
    return Proposal(source.params, attrs | named)
