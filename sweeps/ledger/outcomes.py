"""Maps the outcome of a trial to Optuna's state and to the value that the sampler learns from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from optuna.trial import TrialState

from resnet_core.records import Outcome
from sweeps.study.outcomes import Result

OPTUNA_STATE = {
    Outcome.REACHED: TrialState.COMPLETE,
    Outcome.EXHAUSTED: TrialState.COMPLETE,
    Outcome.PRUNED: TrialState.PRUNED,
    Outcome.DIVERGED: TrialState.PRUNED,
    Outcome.CRASHED: TrialState.FAIL,
}


@dataclass(frozen=True)
class OptunaResult:
    """The arguments of ``optuna.Study.tell`` at the end of a trial.

    Attributes:
        state: the state of the trial.
        value: the value that the sampler minimises; None where the state needs no value.
        intermediate_values: by step, the objective of a trial that a rule stopped. The step is the percentage of its
            schedule that it had trained.
    """

    state: TrialState
    value: float | None = None
    intermediate_values: Mapping[int, float] = field(default_factory=dict)


def optuna_result(result: Result, horizon: int, ignores_pruned: bool, longest_horizon: int) -> OptunaResult:
    """Return how a trial is reported to Optuna, so that the study's sampler learns from every trial that trained.

    A trial that ended by itself is COMPLETE with its objective. A trial that a rule stopped is PRUNED, with its
    objective as the intermediate value of its last step. A trial that diverged is PRUNED without a value, which ranks
    behind every other trial. Some samplers use only COMPLETE trials: for them, stopped and diverged trials are COMPLETE
    too, and a diverged trial gets the objective of a trial that learned nothing. A trial that crashed is FAIL, and the
    sampler learns nothing from it.

    Args:
        result: how the trial ended.
        horizon: epochs of its schedule.
        ignores_pruned: whether the study's sampler uses only COMPLETE trials.
        longest_horizon: epochs of the study's longest schedule.
    """
    state, value = OPTUNA_STATE[result.outcome], result.objective
    if state is TrialState.PRUNED and ignores_pruned:
        return OptunaResult(TrialState.COMPLETE, 2.0 * longest_horizon if value is None else value)
    if state is TrialState.PRUNED and value is not None:
        return OptunaResult(state, intermediate_values={round(100 * result.epochs_run / horizon): value})
    return OptunaResult(state, value if state is TrialState.COMPLETE else None)
