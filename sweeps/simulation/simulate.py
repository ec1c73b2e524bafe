"""Simulates a study several times: the effect of each stopping rule, and the totals with and without rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from statistics import median
from typing import TYPE_CHECKING, Any

from resnet_core.objective import DEFAULT, Objective
from resnet_core.records import metric_curve
from sweeps.errors import InputError
from sweeps.simulation.curve_model import CurveModel
from sweeps.simulation.curves import RecordedCurves, unknown_to_model
from sweeps.simulation.figures import Mean, PickSummary, Range, Totals, summarise_picks, totals_of
from sweeps.simulation.picks import METHODS
from sweeps.simulation.replay import SimulatedTrial
from sweeps.simulation.setup import Setup
from sweeps.study.stopping.rules import rule_modes

if TYPE_CHECKING:
    import pandas as pd

    from analysis.tables.stopping import TrialHistory

_BEST = 5  # trials with the fewest epochs to target; those of them that the rules stopped are counted
_RULE_FIGURES = ("stopped", "epochs_saved", "hours_saved", "judged", "false_stops", "best_lost")
_TOTALS = tuple(field.name for field in fields(Totals))


@dataclass(frozen=True)
class Simulation:
    """The result of a simulation.

    Attributes:
        setup: how the study was simulated.
        rules: by rule, its mode and a Range for each figure of build_stopping.
        with_rules: the totals of the study: a Range for each figure of Totals.
        without_rules: the totals without any rule. The curves are the same unless a sampler learns from the trials.
        picks: by method, the quality of its picks.
        notes: remarks for the reader, in sentences.
    """

    setup: Setup
    rules: Mapping[str, tuple[str, Mapping[str, Range]]]
    with_rules: Mapping[str, Range]
    without_rules: Mapping[str, Range]
    picks: Mapping[str, PickSummary] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def share_saved(self) -> float:
        """Share of the study's epochs that the rules saved, from the medians over the repeats."""
        _, row = self.rules.get("all rules", ("", {}))
        saved = (row["epochs_saved"].median if row else None) or 0.0
        spent = self.with_rules["epochs"].median
        assert spent is not None
        return saved / (saved + spent)

    def to_dict(self) -> dict[str, Any]:
        """Return the values that ``simulate --json`` prints."""

        def plain(figures: Mapping[str, Range]) -> dict[str, Any]:
            return {name: vars(figure) for name, figure in figures.items()}

        setup = self.setup
        return {
            "study": setup.spec.name,
            "gpus": setup.gpus,
            "per_gpu": setup.per_gpu,
            "order": "shuffled" if setup.shuffled else "sampler",
            "seed": setup.seed,
            "repeats": setup.repeats,
            "rules": [{"rule": rule, "mode": mode, **plain(row)} for rule, (mode, row) in self.rules.items()],
            "with_rules": plain(self.with_rules),
            "without_rules": plain(self.without_rules),
            "picks": {method: worth.to_dict() for method, worth in self.picks.items()},
            "notes": self.notes,
        }


def simulate(setup: Setup) -> Simulation:
    """Simulate a study with its rules and without any, once for each repeat.

    Raises:
        InputError: ``trials`` is larger than the number of trials; the trials of a space are to be shuffled; or
            ``against`` names an unknown method, or one that this study or source does not allow.
    """
    _check(setup)
    from analysis.tables.stopping import build_stopping

    sought = setup.spec.objective
    tables, ruled, free, picked = [], [], [], []
    for seed in range(setup.seed, setup.seed + setup.repeats):
        trials = setup.replay(seed, rules=True)
        histories = trial_histories(trials, sought)
        tables.append(build_stopping(histories, sought.target_score, _BEST, rule_modes(setup.spec)))
        ruled.append(totals_of(trials, _shared(setup)))
        free.append(totals_of(setup.replay(seed, rules=False), _shared(setup)))
        picked.append(setup.picks(seed, trials))
    return Simulation(
        setup, _merge_rules(tables), _ranges(ruled), _ranges(free), summarise_picks(picked), _notes(setup)
    )


def _check(setup: Setup) -> None:
    unknown = [method for method in setup.against if method not in METHODS]
    if unknown:
        raise InputError(f"--against {unknown[0]}: expected some of {', '.join(METHODS)}, with commas between them")
    if "first" in setup.against and (isinstance(setup.source, RecordedCurves) or not setup.spec.search.first):
        raise InputError("--against first: expected a study with search.first, on the model's curves")
    if setup.jobs(setup.spec) is None and setup.shuffled:
        raise InputError(
            "--order shuffled: a space has no list of trials to shuffle; "
            "use --order sampler with --set search.sampler=random, or --from NAME"
        )
    jobs = replace(setup, trials=None).ordered(setup.spec, setup.seed)
    if jobs is not None and setup.trials is not None and setup.trials > len(jobs):
        raise InputError(f"--trials {setup.trials}: expected at most {len(jobs)}, since there are no more")


def trial_histories(trials: Sequence[SimulatedTrial], objective: Objective = DEFAULT) -> list[TrialHistory]:
    """Convert simulated trials to the form that `analysis.build_stopping` takes, each with its whole curve."""
    from analysis.tables.stopping import TrialHistory

    return [
        TrialHistory(
            name=trial.job.name,
            scores=objective.scores(metric_curve(trial.records, objective.metric)),
            horizon=trial.job.config.horizon,
            seconds_per_epoch=median(record.seconds or 0.0 for record in trial.records),
            outcome=trial.result.outcome,
            stopped_by=trial.result.stopped_by,
            would_stop=trial.result.would_stop,
        )
        for trial in trials
    ]


def _merge_rules(tables: Sequence[pd.DataFrame]) -> dict[str, tuple[str, dict[str, Range]]]:
    """Return each rule's figures over the repeats; a rule that stopped nothing in a repeat counts as zero there."""
    rows = [{str(row["rule"]): row for row in table.to_dict("records")} for table in tables]
    names = dict.fromkeys(name for found in rows for name in found)
    ordered = sorted(names, key=lambda name: name == "all rules")
    merged = {}
    for name in ordered:
        modes = {str(found[name]["mode"]) for found in rows if name in found}
        values = {
            figure: Range.of([_number_or_none(found[name][figure]) if name in found else 0.0 for found in rows])
            for figure in _RULE_FIGURES
        }
        merged[name] = ("active" if "active" in modes else "shadow", values)
    return merged


def _number_or_none(value: Any) -> float | None:
    import pandas as pd

    return None if pd.isna(value) else float(value)


def _ranges(repeats: Sequence[Totals]) -> dict[str, Range]:
    return {name: Range.of([getattr(totals, name) for totals in repeats]) for name in _TOTALS}


def _notes(setup: Setup) -> list[str]:
    notes = [
        f"{setup.repeats} simulated {'study' if setup.repeats == 1 else 'studies'} {_places(setup)}. "
        "Median (lowest..highest).",
        f"false_stops: the trial reached the target later. best_lost: of the {_BEST} trials with the fewest epochs "
        "to target, those stopped before they got there.",
        "pick: the configuration named in the end. observed: epochs to target of the run it is named for. true_rmst, "
        "true_share: its restricted mean epochs to target and the share of its runs that reach it"
        + (", over 400 runs of the model" if isinstance(setup.source, CurveModel) else ", over its other recorded runs")
        + "; true_ert: epochs spent for each that does. Mean [95 % interval].",
    ]
    if setup.spec.objective.target is None:
        notes[1:] = [
            "pick: the configuration named in the end. true_best: mean of the best values of its runs. "
            "Mean [95 % interval]. Without a target, no trial is at it, and false_stops and best_lost are not known.",
        ]
    if isinstance(setup.source, RecordedCurves):
        left = ", ".join(f"{count} {why}" for why, count in setup.source.left_out.items()) or "none"
        notes.append(f"Curves: {len(setup.source.jobs)} trials of {setup.source.study}; left out: {left}.")
        return notes
    notes.append(
        "Curves: a model fitted to post V's runs, which knows the schedule and weight decay only: it serves to choose "
        "rules, not to predict results."
    )
    unknown = unknown_to_model(setup.spec)
    if unknown:
        notes.append(f"The model knows nothing of: {', '.join(unknown)}.")
    notes.append(f"One epoch counts {setup.model_seconds:g} s.")
    return notes


def _shared(setup: Setup) -> int:
    """Return how many trials share what their hours are counted of: a GPU, or a place for a trial without one."""
    return setup.per_gpu if setup.spec.resources.gpus_per_trial else 1


def _heading(figure: str, setup: Setup) -> str:
    """Return the heading of a figure for people: that of hours says time, since their cells have a unit."""
    if figure == "gpu_hours" and not setup.spec.resources.gpus_per_trial:
        return "trial_time"  # of all trials together
    return figure.replace("hours", "time")


def _places(setup: Setup) -> str:
    """Return in words where the trials run."""
    resources = setup.spec.resources
    if resources.gpus_per_trial:
        return f"on {setup.gpus} GPU{'s' * (setup.gpus > 1)} with {setup.per_gpu} trial(s) on each"
    cores = resources.cpus_per_trial
    return f"of {setup.gpus * setup.per_gpu} trials at once, each on {cores} core{'s' * (cores > 1)} and no GPU"


def _shown(mean: Mean | None) -> str:
    return "-" if mean is None else str(mean)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"


def describe(simulation: Simulation) -> str:
    """Return a simulation as text: a table of the rules, one of the totals, one of the picks, and notes."""
    import pandas as pd

    from analysis import render

    def texts(figures: Mapping[str, Range]) -> dict[str, str]:
        return {_heading(name, simulation.setup): figure.shown(name) for name, figure in figures.items()}

    rules = [{"rule": rule, "mode": mode, **texts(row)} for rule, (mode, row) in simulation.rules.items()]
    both = {"with its rules": simulation.with_rules, "with no rule": simulation.without_rules}
    studies = [{"study": name, **texts(totals)} for name, totals in both.items()]
    parts = [render(pd.DataFrame(rules), "text")] if rules else ["no rule stopped any trial\n"]
    parts.append(render(pd.DataFrame(studies), "text"))
    picks = [
        {
            "pick of": method,
            "observed": _shown(worth.observed),
            "true_rmst": _shown(worth.true_rmst),
            "true_share": _shown(worth.true_share),
            "true_ert": "-" if worth.true_ert is None else f"{worth.true_ert:.1f}",
            **({} if worth.true_best is None else {"true_best": _shown(worth.true_best)}),
            **{name: _percent(getattr(worth, name)) for name in ("better_than_random", "better_than_first")},
        }
        for method, worth in simulation.picks.items()
    ]
    parts.append(render(pd.DataFrame(picks), "text", notes=simulation.notes))
    return "\n".join(parts).rstrip("\n")
