"""A study's own trials in Optuna's storage: their numbers, jobs and results."""

from __future__ import annotations

from collections.abc import Sequence

import optuna
from optuna.trial import FrozenTrial, TrialState

from search_spaces.trainers import Trainer
from sweeps.ledger import attributes
from sweeps.study.outcomes import Result
from sweeps.study.trials import Entry, Job


class OptunaTrials:
    """The trials of a study in Optuna's storage.

    Two kinds of trials in the storage are not the study's own:

    - A forked study begins with copies of another study's trials. Only the sampler uses them. The study's own trials
      come after them and are numbered from 0.
    - If a stopped trial goes on, a new trial of Optuna continues it under the first trial's number. Only the last of
      these trials counts.

    Args:
        study: Optuna's study.
        trainer: the study's trainer.
    """

    def __init__(self, study: optuna.Study, trainer: Trainer) -> None:
        self._study, self._trainer = study, trainer
        self._forked = sum(attributes.FORKED in trial.user_attrs for trial in self.all())

    def all(self) -> list[FrozenTrial]:
        """Return all trials in the storage, in Optuna's order."""
        return self._study.get_trials(deepcopy=False)

    def own(self, *states: TrialState) -> list[FrozenTrial]:
        """Return the study's own trials, ordered by number; if states are given, only those in these states."""
        trials = self.last_of_each()
        return [t for t in trials if attributes.FORKED not in t.user_attrs and (not states or t.state in states)]

    def last_of_each(self) -> list[FrozenTrial]:
        """Return the trials ordered by number, copies included, without trials that a later one continues."""
        trials = self.all()
        begun = [trial for trial in trials if trial.state is not TrialState.WAITING]
        last = {self.number(trial): trial for trial in begun}
        waiting = [t for t in trials if t.state is TrialState.WAITING and attributes.CONTINUES not in t.user_attrs]
        return [*(last[number] for number in sorted(last)), *waiting]

    def number(self, trial: FrozenTrial | optuna.Trial) -> int:
        """Return a trial's number in the study; negative for a copy."""
        return int(trial.user_attrs.get(attributes.CONTINUES, trial.number - self._forked))

    def job(self, trial: FrozenTrial | optuna.Trial) -> Job:
        """Return a trial's job; the trial must have its configuration."""
        attrs = trial.user_attrs
        return Job(
            self.number(trial),
            attrs[attributes.NAME],
            self._trainer.stored_config(attrs[attributes.CONFIG]),
            dict(trial.params),
            attributes.FINALIST in attrs,
            tuple(attrs.get(attributes.THAWED, ())),
        )

    def entry(self, trial: FrozenTrial) -> Entry:
        """Return a trial's job and, once it has ended, its result."""
        return Entry(self.job(trial), result_of(trial) if attributes.RESULT in trial.user_attrs else None)

    def entries(self, trials: Sequence[FrozenTrial]) -> list[Entry]:
        """Return the entries of trials; a trial that a killed process left without a configuration is left out."""
        return [self.entry(trial) for trial in trials if attributes.CONFIG in trial.user_attrs]


def result_of(trial: FrozenTrial | optuna.Trial) -> Result:
    """Return the stored result of a trial."""
    return Result.from_dict(trial.user_attrs[attributes.RESULT])
