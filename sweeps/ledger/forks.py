"""What the sampler of a new study may know of an older one: its ended trials that the new study would train alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from resnet_core.config import TrialConfig
from search_spaces.parameters import Choices, Parameter, Value
from search_spaces.space import distributions, longest_horizon, trial_config
from search_spaces.spec import StudySpec
from sweeps.errors import InputError
from sweeps.ledger.outcomes import OptunaResult, optuna_result
from sweeps.study.outcomes import Result

FORKED = "forked_from"
"""The attribute of a trial that is known from another study: that study's name, and the trial's in it."""


@dataclass(frozen=True)
class Fork:
    """What a new study takes over from an older one.

    Attributes:
        source: name of the older study.
        trials: its trials as the new study's sampler is to know them.
        left_out: how many of its trials are not taken, by the reason.
    """

    source: str
    trials: list[FrozenTrial]
    left_out: dict[str, int]

    def __str__(self) -> str:
        there = len(self.trials) + sum(self.left_out.values())
        return f"the sampler knows {len(self.trials)} of the {there} trials of {self.source!r}{_told(self.left_out)}"


def fork(spec: StudySpec, source: StudySpec, trials: Iterable[FrozenTrial]) -> Fork:
    """Return what a new study may know of another one.

    A trial is taken over where the new study, given its parameters, trains the same configuration but for the
    seed: then its objective means the same in both. A parameter that only the new study samples has the value
    that the field of this name had in the trial.

    Args:
        spec: the new study.
        source: the older study.
        trials: the older study's in Optuna.

    Raises:
        InputError: the objectives are not comparable, the new study samples nothing, or no trial can be taken.
    """
    refused = f"study {source.name!r} cannot be forked into {spec.name!r}: "
    if not spec.is_sampled:
        kind = "is a grid" if spec.space else "lists its runs"
        raise InputError(f"{refused}the new one {kind}, and no sampler is there to learn; launch it without --fork")
    compared = {
        "objective.target": (source.objective.target, spec.objective.target),
        "epochs of the longest schedule": (longest_horizon(source), longest_horizon(spec)),
    }
    differ = [f"\n  {name}: {old:g} -> {new:g}" for name, (old, new) in compared.items() if old != new]
    if differ:
        raise InputError(
            f"{refused}what is minimised means another thing there{''.join(differ)}\n"
            "Keep these as they were, or launch the study without --fork."
        )
    taken: list[FrozenTrial] = []
    left_out: Counter[str] = Counter()
    for trial in trials:
        known = _translated(trial, spec, source.name)
        if isinstance(known, str):
            left_out[known] += 1
        else:
            taken.append(known)
    found = Fork(source.name, taken, dict(left_out.most_common()))
    if not taken:
        raise InputError(f"{refused}none of its trials can be taken over{_told(left_out) or '; it has none'}")
    return found


def _told(left_out: dict[str, int]) -> str:
    reasons = "".join(f"\n  {count} left out: {reason}" for reason, count in left_out.items())
    return f":{reasons}" if reasons else ""


def _translated(trial: FrozenTrial, spec: StudySpec, source: str) -> FrozenTrial | str:
    """Return a trial as the new study's, or why it is none."""
    if trial.state is TrialState.FAIL:
        return "crashed"
    if trial.state not in (TrialState.COMPLETE, TrialState.PRUNED) or "config" not in trial.user_attrs:
        return "not ended"
    config = TrialConfig.from_dict(trial.user_attrs["config"])
    fields = config.to_dict()
    params: dict[str, Value] = {}
    for name, parameter in spec.space.items():
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
    if "result" in trial.user_attrs:  # what the older study's sampler was told may be no use to the new one's
        result = Result.from_dict(trial.user_attrs["result"])
        how = optuna_result(result, config.horizon, spec.search.sampler, longest_horizon(spec))
    return optuna.trial.create_trial(
        state=how.state,
        value=next(iter(how.intermediate_values.values()), how.value),  # as Optuna keeps a pruned trial's last report
        params=params,
        distributions=distributions(spec),
        user_attrs={
            FORKED: trial.user_attrs.get(FORKED, {"study": source, "trial": trial.user_attrs["name"]}),
            **{key: trial.user_attrs[key] for key in ("name", "config", "result") if key in trial.user_attrs},
        },
        intermediate_values=dict(how.intermediate_values),
    )


def _suggested(parameter: Parameter, value: Any) -> Value:
    """Return a value that a parameter contains in the type that Optuna suggests it in."""
    if isinstance(parameter, Choices):
        return next(choice for choice in parameter.values() if Choices(choices=[choice]).contains(value))
    return int(value) if parameter.whole else float(value)
