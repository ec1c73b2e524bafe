"""What stands on a launch's run in MLflow for people: its question and its best trials, as Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

_LONGEST = 7500  # MLflow takes 8000 characters
_ROWS = 20
_SETTINGS = ("weight_decay", "shift", "lr_alpha")
_COLUMNS: dict[str, Any] = {
    "trial": "object",
    "epochs_to_target": "Int64",
    "val_acc_best": "float64",
    "epoch_best": "Int64",
    **dict.fromkeys(_SETTINGS, "float64"),
    "epochs_run": "Int64",
    "outcome": "object",
}


class Note:
    """The note of a study; its text is what was told of the trials so far.

    Args:
        description: the study's.
        target: validation accuracy to reach.
    """

    def __init__(self, description: str, target: float) -> None:
        self._description, self._target = description, target
        self._trials: dict[int, dict[str, Any]] = {}

    def begun(self, number: int, name: str, params: Mapping[str, str]) -> None:
        """Take in a trial and its parameters."""
        settings = {key: float(params[key]) for key in _SETTINGS if key in params}
        self._trials[number] = {"trial": name, "outcome": None, **settings}

    def ended(self, number: int, metrics: Mapping[str, float], tags: Mapping[str, str]) -> None:
        """Take in how a trial that has begun ended."""
        self._trials[number] |= {
            "epochs_to_target": metrics.get("epochs_to_target"),
            "val_acc_best": metrics.get("best_val_acc"),
            "epoch_best": metrics.get("best_epoch"),
            "epochs_run": metrics.get("epochs_run"),
            "outcome": tags.get("outcome"),
        }

    def __str__(self) -> str:
        outcomes = Counter(trial["outcome"] for trial in self._trials.values() if trial["outcome"])
        blocks = [self._description[: _LONGEST // 2]]
        if outcomes:
            parts = ", ".join(f"{number} {outcome}" for outcome, number in outcomes.most_common())
            blocks += [f"**{sum(outcomes.values())} trials ended:** {parts}.", self._table()]
        text = "\n\n".join(block for block in blocks if block)
        return text if len(text) <= _LONGEST else text[: text.rfind("\n", 0, _LONGEST)]

    def _table(self) -> str:
        import pandas as pd

        from analysis import render

        ended = [trial for trial in self._trials.values() if trial["outcome"] not in (None, "crashed")]
        table = pd.DataFrame(ended, columns=list(_COLUMNS)).astype(_COLUMNS)
        best = table.sort_values(["epochs_to_target", "val_acc_best"], ascending=[True, False], kind="stable").head(
            _ROWS
        )
        notes = [f"Target: validation accuracy {self._target:g}. >N: not by epoch N, the trial's last."]
        if len(table) > len(best):
            notes.append(f"The best {len(best)} of {len(table)}.")
        return render(best, "markdown", notes=notes)
