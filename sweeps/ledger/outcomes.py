"""Maps the outcome of a trial to Optuna's state and to the value that the sampler learns from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from optuna.trial import TrialState

from resnet_core.records import Outcome
from search_spaces.space import longest_horizon
from search_spaces.spec import StudySpec
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


def optuna_result(result: Result, horizon: int, ignores_pruned: bool, worst: float) -> OptunaResult:
    """Return how a trial is reported to Optuna, so that the study's sampler learns from every trial that trained.

    A trial that ended by itself is COMPLETE with its objective. A trial that a rule stopped is PRUNED, with its
    objective as the intermediate value of its last step. A trial that diverged is PRUNED without a value, which ranks
    behind every other trial. Some samplers use only COMPLETE trials: for them, stopped and diverged trials are COMPLETE
    too, and a diverged trial gets ``worst``. A trial that crashed is FAIL, and the
    sampler learns nothing from it.

    Args:
        result: how the trial ended.
        horizon: epochs of its schedule.
        ignores_pruned: whether the study's sampler uses only COMPLETE trials.
        worst: the objective of a trial that learned nothing, see `worst_objective`.
    """
    state, value = OPTUNA_STATE[result.outcome], result.objective
    if state is TrialState.PRUNED and ignores_pruned:
        return OptunaResult(TrialState.COMPLETE, worst if value is None else value)
    if state is TrialState.PRUNED and value is not None:
        return OptunaResult(state, intermediate_values={round(100 * result.epochs_run / horizon): value})
    return OptunaResult(state, value if state is TrialState.COMPLETE else None)


def worst_objective(spec: StudySpec, objectives: Iterable[float | None]) -> float:
    """Return the objective that a diverged trial gets where the sampler needs a number.

    With a target it is that of a trial that learned nothing: twice the longest schedule. Without one it is the worst of
    the study's trials so far.

    Args:
        spec: the study.
        objectives: of its trials that have ended; None where a trial has none.
    """
    if spec.objective.target is not None:
        return 2.0 * longest_horizon(spec)
    return max((value for value in objectives if value is not None), default=0.0)
