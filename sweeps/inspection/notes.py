"""What a person should know of a study before it starts: what it asks for in vain."""

from __future__ import annotations

from collections.abc import Iterator

from search_spaces.space import idle_parameters, longest_horizon, trial_count
from search_spaces.spec import StudySpec
from sweeps.ledger.samplers import sampler_notes
from sweeps.study.stopping.rules import is_control, rules_of


def study_notes(spec: StudySpec, at_once: int = 1) -> list[str]:
    """Return these notes in sentences; code of the user's own is imported.

    Args:
        spec: the study.
        at_once: how many trials run at the same time; 1 where that is not known.

    Raises:
        CodeError: a sampler or a rule of the user's own cannot be used.
    """
    return [*idle_parameters(spec), *_idle_first(spec), *sampler_notes(spec, at_once), *_idle_stopping(spec)]


def _idle_first(spec: StudySpec) -> Iterator[str]:
    first, trials = len(spec.search.first), spec.search.trials
    if trials is not None and first > trials:
        yield f"search.first has {first} trials, and the study {trials}: the last {first - trials} are not tried"


def _idle_stopping(spec: StudySpec) -> Iterator[str]:
    trials, longest, sustained = trial_count(spec), longest_horizon(spec), spec.objective.sustained
    for rule in rules_of(spec):
        if why := rule.why_idle(trials, longest, has_space=bool(spec.space)):
            yield f"stopping.{rule.name} can end none of the {trials} trials: {why}"
    if spec.objective.target is not None and sustained > longest:
        yield f"objective.sustained = {sustained}, and the longest trial has {longest} epochs: no target is sustained"
    share = spec.stopping.control
    if share and spec.stopping.rules and not any(is_control(spec, number) for number in range(trials)):
        yield f"stopping.control = {share:g}: none of the {trials} trials is a control; ask for a larger share"
