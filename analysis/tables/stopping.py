"""The savings and the costs of stopping rules: one row per rule."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.store.loader import Study
from analysis.tables.trials import split_notes, trial_curves
from resnet_core import objective as ett
from resnet_core.records import Outcome

ALL_RULES = "all rules"
METRICS = ("val_acc", "seconds")
"""The metrics of each epoch that histories need; see analysis.store.loader.load."""

_COUNTS = ("stopped", "epochs_saved", "judged", "false_stops", "best_lost")
_COLUMNS = ("rule", "mode", "stopped", "epochs_saved", "hours_saved", "judged", "false_stops", "best_lost")


@dataclass(frozen=True)
class TrialHistory:
    """The data of an ended trial for the table of stopping rules.

    Attributes:
        name: name of the trial.
        scores: scores of epochs 1, 2, …, see `resnet_core.objective.Objective`; NaN where not known; shape (epochs,).
        horizon: epochs of its schedule.
        seconds_per_epoch: wall time per epoch.
        outcome: how it ended.
        stopped_by: name of the rule that ended it; None if no rule did.
        would_stop: by rule, the first epoch at which it said stop, whether or not that ended the trial.
    """

    name: str
    scores: Sequence[float]
    horizon: int
    seconds_per_epoch: float
    outcome: Outcome
    stopped_by: str | None
    would_stop: Mapping[str, int]


@dataclass(frozen=True)
class _Stop:
    """The epoch at which a rule said that a trial should stop."""

    trial: TrialHistory
    epoch: int
    ended: bool
    """Whether the rule ended the trial there; if not, it was in shadow, or the trial is a control."""
    crossing: int | None

    @property
    def judged(self) -> bool:
        """Whether the trial's further course is known: it ran to its end or to the target, or it is simulated."""
        if len(self.trial.scores) >= self.trial.horizon:
            return True
        ran_on = self.trial.stopped_by is None or self.trial.outcome is Outcome.DIVERGED
        return not self.ended and (ran_on or self.crossing is not None)

    @property
    def too_early(self) -> bool:
        """Whether the trial reached the target after the stop."""
        return self.crossing is not None and self.crossing > self.epoch


def build_stopping(
    trials: Sequence[TrialHistory], target: float | None, keep: int = 5, modes: Mapping[str, str] | None = None
) -> pd.DataFrame:
    """Return what each stopping rule saved, and its known errors: one row per rule, and one for all together.

    `stopped` counts the trials that a rule ended; for a rule in shadow, those it would have ended. `epochs_saved` is
    the rest of their schedules, `hours_saved` the time of these epochs. `judged` counts the stops after which the trial
    continued to its end or to the target, because it is a control or the rule is in shadow. `false_stops` counts those
    of them in which it reached the target after the stop. `best_lost` counts the best `keep` trials by epochs_to_target
    that the rule would have ended before the target. The last row treats all active rules as one rule, which says stop
    as soon as any of them does.

    Args:
        trials: ended trials, in the order of their numbers; crashed ones are ignored.
        target: score to reach; None without a target.
        keep: number of trials that count as the best, from 1; of equal trials, the earlier ones.
        modes: ``active`` or ``shadow`` by rule: the rows and their order. The default is the rules that said stop to a
            trial; a rule that ended no trial counts as in shadow.

    Returns:
        Columns rule, mode, stopped, epochs_saved, hours_saved, judged, false_stops, best_lost. Counts are Int64;
        false_stops is missing if nothing was judged, best_lost if no trial reached the target.

    Raises:
        ValueError: `keep` is below 1.
    """
    if keep < 1:
        raise ValueError(f"keep = {keep}: expected 1 or more")
    trials = [trial for trial in trials if trial.outcome is not Outcome.CRASHED]
    modes = _modes_seen(trials) if modes is None else modes
    crossings = [_crossing(trial, target) for trial in trials]
    order = sorted((epoch, i) for i, epoch in enumerate(crossings) if epoch is not None)
    best = {i for _, i in order[:keep]}

    active = [rule for rule, mode in modes.items() if mode == "active"]
    asked = [*((rule, mode, [rule]) for rule, mode in modes.items()), (ALL_RULES, "active", active)]
    rows = []
    for name, mode, rules in asked:
        stops = {i: stop for i, trial in enumerate(trials) if (stop := _stop(trial, rules, crossings[i]))}
        counted = [stop for stop in stops.values() if stop.ended or mode == "shadow"]
        saved = [(stop.trial.horizon - stop.epoch, stop.trial.seconds_per_epoch) for stop in counted]
        judged = [stop for stop in stops.values() if stop.judged]
        rows.append(
            {
                "rule": name,
                "mode": mode,
                "stopped": len(counted),
                "epochs_saved": sum(epochs for epochs, _ in saved),
                "hours_saved": sum(epochs * seconds for epochs, seconds in saved) / 3600,
                "judged": len(judged),
                "false_stops": sum(stop.too_early for stop in judged) if judged else None,
                "best_lost": sum(i in best and stop.too_early for i, stop in stops.items()) if best else None,
            }
        )
    return pd.DataFrame(rows, columns=list(_COLUMNS)).astype(dict.fromkeys(_COUNTS, "Int64"))


def _modes_seen(trials: Sequence[TrialHistory]) -> dict[str, str]:
    seen = dict.fromkeys(rule for trial in trials for rule in (*trial.would_stop, trial.stopped_by) if rule)
    ended = {trial.stopped_by for trial in trials}
    return {rule: "active" if rule in ended else "shadow" for rule in seen}


def _stop(trial: TrialHistory, rules: Sequence[str], crossing: int | None) -> _Stop | None:
    """Return where the first of some rules said stop to a trial."""
    if trial.stopped_by is not None and trial.stopped_by in rules:
        epoch = trial.would_stop.get(trial.stopped_by, len(trial.scores))
        return _Stop(trial, epoch, True, crossing)
    epochs = [trial.would_stop[rule] for rule in rules if rule in trial.would_stop]
    return _Stop(trial, min(epochs), False, crossing) if epochs else None


def histories(study: Study) -> list[TrialHistory]:
    """Return the trials of a study that ended and did not crash, by number."""
    return list(_histories(study))


def _histories(study: Study) -> Iterator[TrialHistory]:
    for _, trial, curve in trial_curves(study):
        if trial["outcome"] is not None:
            yield TrialHistory(
                name=trial["trial"],
                scores=study.objective.scores(curve[study.metric].tolist()),
                horizon=int(trial["horizon"]),
                seconds_per_epoch=_mean(curve["seconds"]),
                outcome=Outcome(trial["outcome"]),
                stopped_by=_text(trial.get("stopped_by")),
                would_stop=dict(json.loads(_text(trial.get("would_stop")) or "{}")),
            )


def _crossing(trial: TrialHistory, target: float | None) -> int | None:
    if target is None or trial.outcome is Outcome.DIVERGED:
        return None
    return ett.first_crossing(trial.scores, target)


def _mean(values: NDArray[np.float64]) -> float:
    """Return the mean of the values that are not NaN; 0 if all are."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else 0.0


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None  # pandas has NaN for a text that is missing


def stopping_footnotes(study: Study, trials: Sequence[TrialHistory], table: pd.DataFrame, keep: int = 5) -> list[str]:
    """Return the sentences a reader of the table of rules needs: what is counted, and what is known.

    Args:
        study: what `load` returned.
        trials: its `histories`.
        table: what `build_stopping` made of them.
        keep: as given to `build_stopping`.
    """
    sought = study.objective
    reached = sum(_crossing(trial, sought.target_score) is not None for trial in trials)
    stopped = sum(trial.stopped_by is not None for trial in trials)
    shadow = table.loc[table["mode"] == "shadow", "rule"].tolist()
    notes = [
        *split_notes(study),
        f"{len(trials)} trials ended"
        + (f", {reached} of them at {sought.target_text}" if sought.target is not None else "")
        + f"; rules ended {stopped}.",
        "epochs_saved, time_saved: what was left of the schedules of the trials in stopped.",
    ]
    if shadow:
        notes.append(f"In shadow, stopping nothing: {', '.join(shadow)}; stopped counts what they would have ended.")
    judged = int(table.loc[table["rule"] != ALL_RULES, "judged"].sum())
    if judged:
        notes.append(
            f"judged: stops whose trial ran on all the same ({judged} of all rules), as a control or in shadow; "
            "false_stops: those that reached the target later. Of the other stops it is not known."
        )
    else:
        notes.append(
            "What stopping cost is not known: no trial that was told to stop ran on. `control` and `shadow` in the "
            "study file let some."
        )
    if reached:
        notes.append(
            f"best_lost: of the best {min(keep, reached)} trials that reached the target, those a rule would have "
            "ended before; a trial that a rule did end is not known to be one."
        )
    return notes
