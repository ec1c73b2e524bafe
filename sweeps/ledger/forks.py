"""Forks: a new study whose sampler learns from those trials of an older study that are comparable."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from search_spaces.conditions import in_order, is_asked
from search_spaces.parameters import Choices, Parameter, Value
from search_spaces.plugins import find_sampler
from search_spaces.space import distributions, longest_horizon, trial_config
from search_spaces.spec import StudySpec
from sweeps.errors import InputError
from sweeps.ledger import attributes
from sweeps.ledger.outcomes import OptunaResult, optuna_result, worst_objective
from sweeps.ledger.trials import result_of

_COPIED = (attributes.FORKED, attributes.NAME, attributes.CONFIG, attributes.RESULT)  # attributes of a copy


@dataclass(frozen=True)
class Fork:
    """The trials that a new study takes over from an older study.

    Attributes:
        source: name of the older study.
        trials: copies of its trials for the new study's sampler.
        left_out: by reason, the number of its trials that are left out.
    """

    source: str
    trials: list[FrozenTrial]
    left_out: dict[str, int]

    def __str__(self) -> str:
        there = len(self.trials) + sum(self.left_out.values())
        return f"the sampler knows {len(self.trials)} of the {there} trials of {self.source!r}{_reasons(self.left_out)}"


def fork(spec: StudySpec, source: StudySpec, trials: Iterable[FrozenTrial]) -> Fork:
    """Return the trials that a new study takes over from an older study.

    A trial is copied if the new study would train the same configuration, apart from the seed, with the trial's
    parameters. Then the objective means the same in both studies. If only the new study samples a parameter, the copy
    takes the parameter's value from the configuration's field of the same name.

    Args:
        spec: the new study.
        source: the older study.
        trials: trials of the older study in Optuna.

    Raises:
        InputError: the objectives are not comparable, the new study samples nothing, or no trial can be taken.
    """
    refused = f"study {source.name!r} cannot be forked into {spec.name!r}: "
    if not spec.is_sampled:
        kind = "is a grid" if spec.space else "lists its runs"
        raise InputError(f"{refused}the new one {kind}, and no sampler is there to learn; launch it without --fork")
    compared = {
        "objective.target": (_aim(source), _aim(spec)),
        "epochs of the longest schedule": (longest_horizon(source), longest_horizon(spec)),
    }
    differ = [f"\n  {name}: {old} -> {new}" for name, (old, new) in compared.items() if old != new]
    if differ:
        raise InputError(
            f"{refused}what is minimised means another thing there{''.join(differ)}\n"
            "Keep these as they were, or launch the study without --fork."
        )
    told = [trial for trial in trials if attributes.RESULT in trial.user_attrs]
    worst = worst_objective(spec, (result_of(trial).objective for trial in told))
    taken: list[FrozenTrial] = []
    left_out: Counter[str] = Counter()
    for trial in trials:
        known = _copied(trial, spec, source.name, worst)
        if isinstance(known, str):
            left_out[known] += 1
        else:
            taken.append(known)
    found = Fork(source.name, taken, dict(left_out.most_common()))
    if not taken:
        raise InputError(f"{refused}none of its trials can be taken over{_reasons(left_out) or '; it has none'}")
    return found


def _aim(spec: StudySpec) -> str:
    sought = spec.objective
    return f"{sought.target:g}" if sought.is_accuracy and sought.target is not None else sought.target_words


def _reasons(left_out: dict[str, int]) -> str:
    reasons = "".join(f"\n  {count} left out: {reason}" for reason, count in left_out.items())
    return f":{reasons}" if reasons else ""


def _copied(trial: FrozenTrial, spec: StudySpec, source: str, worst: float) -> FrozenTrial | str:
    """Return the copy of a trial for the new study, or the reason why it is left out."""
    if trial.state is TrialState.FAIL:
        return "crashed"
    if trial.state not in (TrialState.COMPLETE, TrialState.PRUNED) or attributes.CONFIG not in trial.user_attrs:
        return "not ended"
    config = spec.trainer.stored_config(trial.user_attrs[attributes.CONFIG])
    fields = config.to_dict()
    params: dict[str, Value] = {}
    for name in in_order(spec.space):
        parameter = spec.space[name]
        if not is_asked(parameter, params):
            continue
        if name not in trial.params and name not in fields:
            return f"{name} was no parameter of it"
        value = trial.params.get(name, fields.get(name))
        if not parameter.contains(value):
            return f"{name} was not {parameter}"
        params[name] = _suggested(parameter, value)
    again = trial_config(spec, params, seed=config.seed).to_dict()
    changed = [name for name, value in fields.items() if name != "seed" and again[name] != value]
    if changed:
        return f"it trained with another {', another '.join(changed)}"
    how = OptunaResult(trial.state, trial.value, trial.intermediate_values)
    if attributes.RESULT in trial.user_attrs:  # another sampler may need another state or value
        ignores_pruned = find_sampler(spec.search.sampler).ignores_pruned
        how = optuna_result(result_of(trial), config.horizon, ignores_pruned, worst)
    return optuna.trial.create_trial(
        state=how.state,
        value=next(iter(how.intermediate_values.values()), how.value),  # as Optuna does for a pruned trial
        params=params,
        distributions={name: one for name, one in distributions(spec).items() if name in params},
        user_attrs={attributes.FORKED: {"study": source, "trial": trial.user_attrs[attributes.NAME]}}
        | {key: trial.user_attrs[key] for key in _COPIED if key in trial.user_attrs},
        intermediate_values=dict(how.intermediate_values),
    )


def _suggested(parameter: Parameter, value: Any) -> Value:
    """Return a parameter's value in the type that Optuna's suggestions have."""
    if isinstance(parameter, Choices):
        return next(choice for choice in parameter.values() if Choices(choices=[choice]).contains(value))
    return int(value) if parameter.whole else float(value)
