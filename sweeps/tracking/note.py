"""The description of a launch's run in MLflow's UI: the study's description and its best trials, as Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from resnet_core import schema
from resnet_core.objective import Objective
from resnet_core.records import Outcome

_LONGEST = 7500  # MLflow takes 8000 characters
_ROWS = 20
_MOST_COLUMNS = 10


@dataclass
class _Trial:
    name: str
    params: Mapping[str, str]
    metrics: Mapping[str, float] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)


class Note:
    """The note of a study, built from the trials that are added to it.

    Args:
        description: the study's description.
        objective: what the study looks for.
        space: the study's sampled parameters, in order.
    """

    def __init__(self, description: str, objective: Objective, space: Mapping[str, Any] | None = None) -> None:
        self._description, self._objective, self._space = description, objective, space
        self._trials: dict[int, _Trial] = {}

    def __contains__(self, number: int) -> bool:
        return number in self._trials

    def begun(self, number: int, name: str, params: Mapping[str, str]) -> None:
        """Add a trial with its parameters."""
        self._trials[number] = _Trial(name, params)

    def ended(self, number: int, metrics: Mapping[str, float], tags: Mapping[str, str]) -> None:
        """Add the final metrics and tags of a trial that was added."""
        trial = self._trials[number]
        trial.metrics, trial.tags = metrics, tags

    def __str__(self) -> str:
        outcomes = Counter(
            trial.tags[schema.OUTCOME] for trial in self._trials.values() if schema.OUTCOME in trial.tags
        )
        blocks = [self._description[: _LONGEST // 2]]
        if outcomes:
            parts = ", ".join(f"{number} {outcome}" for outcome, number in outcomes.most_common())
            blocks += [f"**{sum(outcomes.values())} trials ended:** {parts}.", self._table()]
        text = "\n\n".join(block for block in blocks if block)
        return text if len(text) <= _LONGEST else text[: text.rfind("\n", 0, _LONGEST)]

    def _table(self) -> str:
        import pandas as pd

        from analysis.store.loader import parse_param
        from analysis.tables.columns import TRIAL, most_important, with_settings
        from analysis.tables.rendering import fold_constants, render
        from analysis.tables.trials import best_first, constant_settings, frame, setting_columns

        ended = {
            number: trial
            for number, trial in self._trials.items()
            if trial.tags.get(schema.OUTCOME, Outcome.CRASHED) != Outcome.CRASHED
        }
        texts = {text for trial in ended.values() for text in trial.params.values()}
        plain = {text: parse_param(text) for text in texts}
        params = {number: {name: plain[text] for name, text in t.params.items()} for number, t in ended.items()}
        settings, sampled = setting_columns(pd.DataFrame(list(params.values())), self._space)
        columns = [column for column in with_settings(settings, self._objective) if column.mlflow]
        rows = dict[int, dict[str, Any]]()
        for number, trial in ended.items():
            run = {"params": params[number], "metrics": trial.metrics, "tags": trial.tags}
            rows[number] = {TRIAL.name: trial.name}
            for column in columns:
                kind, _, name = column.mlflow.partition(".")
                rows[number][column.name] = run[kind].get(name)
        table = frame(rows, [TRIAL, *columns])
        table.attrs = {"sampled": sampled, "same": constant_settings(table, sampled)}
        table, same = fold_constants(table)
        shown = most_important([str(name) for name in table], sampled, _MOST_COLUMNS, self._objective)
        best = best_first(table, self._objective)
        notes = [f"Target: {self._objective.target_words}.", *same]
        if self._objective.target is not None:
            notes[0] += " >N: not by epoch N, the trial's last."
        hidden = [name for name in (column.name for column in settings) if name not in shown]
        if hidden:
            notes.append(f"Left out here: {', '.join(hidden)}.")
        if len(best) > _ROWS:
            notes.append(f"The best {_ROWS} of {len(best)}.")
        return render(best.head(_ROWS), "markdown", columns=shown, notes=notes)
