"""The progress of studies and their running trials, for people and for --json."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from resnet_core.objective import Objective
from resnet_core.records import Outcome
from resnet_core.schema import best_metric
from search_spaces.space import trial_count
from sweeps.home import Home
from sweeps.inspection.kept_networks import kept, kept_to_dict, size_text
from sweeps.ledger.ledger import Ledger
from sweeps.ledger.studies import study_specs
from sweeps.study.ranking import best_entry
from sweeps.study.trials import Entry, crashes

_MOST_KEPT = 10  # names of trials in a line


def study_summaries(home: Home) -> list[dict[str, Any]]:
    """Return `study_summary` of every study in the ledger of ``home`` that can be read; a warning names the others."""
    return [study_summary(home, spec.name) for spec in study_specs(home.ledger_uri)]


def study_summary(home: Home, name: str) -> dict[str, Any]:
    """Return the progress of a study: its state, its drivers, counts of its trials by outcome, its best trial.

    The state is ``running``, ``complete``, ``interrupted``, or ``crashed``: every trial has ended, and some crashed,
    which the next launch tries again. ``crashes`` says why trials crashed, in a sentence; None where none did.
    ``waiting`` is the number of entries for MLflow in the spool: it could not be written, or refused them.

    Raises:
        InputError: there is no such study.
    """
    return summarize(home, Ledger.read(home.ledger_uri, name))


def summarize(home: Home, ledger: Ledger) -> dict[str, Any]:
    """Return the `study_summary` of the study in a ledger that was read."""
    name, entries = ledger.spec.name, ledger.entries()
    outcomes = {outcome.value: 0 for outcome in Outcome}
    for entry in entries:
        if entry.result is not None:
            outcomes[entry.result.outcome.value] += 1
    top, sought = best_entry(ledger.spec, entries), ledger.spec.objective
    process = home.lock_holder(name)
    begun = sum(entry.result is None for entry in entries)
    drivers = ledger.drivers.live(home)
    state = "running" if process is not None or drivers else _state(ledger, entries)
    return {
        "study": name,
        "description": ledger.spec.description,
        "state": state,
        "imported_from": None if ledger.origin is None else ledger.origin.file,
        "process": process,
        "drivers": [{"driver": d.id, "host": d.host, "process": d.process, "home": d.home} for d in drivers],
        "trials": trial_count(ledger.spec),
        "finalists": sum(entry.job.finalist for entry in entries),
        "begun": begun,
        **outcomes,
        "crashes": crashes(name, entries),
        "waiting": _waiting(home.spool(name)),
        "kept": kept_to_dict(kept(home, ledger)),
        "metric": sought.metric,
        "goal": sought.goal,
        "target": sought.target,
        "best_trial": None if top is None else top.job.name,
        "best_epochs_to_target": None if top is None or top.result is None else top.result.epochs_to_target,
        best_metric(sought.metric): None if top is None or top.result is None else top.result.best_value,
    }


def _waiting(spool: Path) -> int:
    try:
        return spool.read_bytes().count(b"\n")
    except FileNotFoundError:
        return 0


def _kept_text(kept: dict[str, Any]) -> str:
    trials, more = kept["trials"][:_MOST_KEPT], len(kept["trials"]) - _MOST_KEPT
    shown = ", ".join(trials) + (f" and {more} more" if more > 0 else "")
    return f"of {'trials' if len(trials) > 1 else 'trial'} {shown} ({size_text(kept['bytes'])})"


def _state(ledger: Ledger, entries: list[Entry]) -> str:
    """Return the state of a study that nobody runs."""
    if ledger.complete():
        return "complete"
    ended = {entry.job.name for entry in entries if not entry.job.finalist and entry.result is not None}
    begun = any(entry.result is None for entry in entries)
    all_ended = not begun and len(ended) >= trial_count(ledger.spec)
    return "crashed" if all_ended and crashes(ledger.spec.name, entries) else "interrupted"


def describe_summary(row: dict[str, Any]) -> str:
    """Return a `study_summary` as two lines of text, and others where trials crashed or MLflow lacks something."""
    ended, best = ended_text(row), "best: " * (row["best_trial"] is not None) + best_text(row)
    drivers = [driver["driver"] for driver in row["drivers"]]
    # A single driver of this home needs no name.
    named = len(drivers) > 1 or (drivers and not row["process"])
    who = f" by {', '.join(drivers)}" if named else f" by process {row['process']}" if row["process"] else ""
    if row["crashes"] is not None:
        best += f"\n  {row['crashes']}"
    if row["waiting"]:
        lacks = f"\n  entries that wait for MLflow: {row['waiting']}"
        best += lacks if row["state"] == "running" else f"{lacks}; `sweeps resume {row['study']}` writes them"
    if row["kept"]["trials"]:
        best += f"\n  networks kept: {_kept_text(row['kept'])}"
    if row["imported_from"] is not None:
        return (
            f"{row['study']}: imported from {row['imported_from']} · {row['trials']} trials · ended: {ended}\n  {best}"
        )
    state = "ended, some trials crashed" if row["state"] == "crashed" else row["state"]
    finalists = f" and {row['finalists']} runs of finalists" if row["finalists"] else ""
    return (
        f"{row['study']}: {state}{who} · {row['trials']} trials asked for{finalists} · ended: {ended} · "
        f"begun: {row['begun']}\n  {best}"
    )


def ended_text(row: dict[str, Any]) -> str:
    """Return how the ended trials of a `study_summary` ended, as text: ``3 reached, 1 pruned``."""
    return ", ".join(f"{row[o.value]} {o.value}" for o in Outcome if row[o.value]) or "none"


def best_text(row: dict[str, Any]) -> str:
    """Return the best trial of a `study_summary` as text."""
    if row["best_trial"] is None:
        return "no result yet"
    sought = Objective(row["metric"], row["goal"], row["target"])
    value = row[best_metric(sought.metric)]
    best = f"trial {row['best_trial']}, "
    if row["best_epochs_to_target"] is not None:
        return best + f"reached the target {sought.target_text} at epoch {row['best_epochs_to_target']}"
    best += f"best {sought.metric} {'none' if value is None else sought.shown(value)}"
    if sought.target is not None:
        best += f", {'below' if sought.goal == 'max' else 'above'} the target {sought.target:g}"
    return best


def running_trials(home: Home, name: str) -> list[dict[str, Any]]:
    """Return the trials of a study that have begun but not ended, with the last epoch in their checkpoints.

    The checkpoints of another driver's trials are read from that driver's home folder. If this machine cannot reach
    that folder, the trial is shown at epoch 0.
    """
    rows = []
    ledger = Ledger.read(home.ledger_uri, name)
    metric = ledger.spec.objective.metric
    owners, own = ledger.drivers.owners(), home.driver(name)
    homes = {driver.id: Home(Path(driver.home)) for driver in ledger.drivers.all() if driver.id != own}
    for entry in ledger.entries():
        if entry.result is None:
            owner = owners.get(entry.job.number, "")
            records = homes.get(owner, home).checkpoint_records(name, entry.job.number)
            rows.append(
                {
                    "trial": entry.job.name,
                    "driver": owner or None,
                    "epoch": len(records),
                    "horizon": entry.job.config.horizon,
                    metric: records[-1].get(metric) if records else None,
                    "schedule": entry.job.config.schedule,
                }
            )
    return rows
