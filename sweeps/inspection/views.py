"""What the command line prints of studies that are in the ledger, as text and as plain values for --json."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from resnet_core.records import Outcome
from search_spaces.space import trial_count
from sweeps.errors import InputError
from sweeps.home import Home
from sweeps.inspection.drawing import draw_rates
from sweeps.ledger.leases import Driver
from sweeps.ledger.ledger import Ledger
from sweeps.ledger.studies import study_names
from sweeps.study.ranking import best_entry
from sweeps.study.trials import Entry
from sweeps.trial_log import failures, read_log


def list_studies(home: Home) -> list[dict[str, Any]]:
    """Return a summary of every study under ``home``."""
    return [summary(home, name) for name in study_names(home.ledger_uri)]


def summary(home: Home, name: str) -> dict[str, Any]:
    """Return where a study stands.

    Raises:
        InputError: there is no such study.
    """
    ledger = Ledger.open(home.ledger_uri, name)
    entries = ledger.entries()
    outcomes = {outcome.value: 0 for outcome in Outcome}
    for entry in entries:
        if entry.result is not None:
            outcomes[entry.result.outcome.value] += 1
    top = best_entry(ledger.spec, entries)
    process = home.holder(name)
    begun = sum(entry.result is None for entry in entries)
    drivers = alive(home, name, ledger)
    state = "running" if process is not None or drivers else "complete" if ledger.complete() else "interrupted"
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
        "target": ledger.spec.objective.target,
        "best_trial": None if top is None else top.job.name,
        "best_epochs_to_target": None if top is None or top.result is None else top.result.epochs_to_target,
        "best_val_acc": None if top is None or top.result is None else top.result.best_val_acc,
    }


def alive(home: Home, name: str, ledger: Ledger) -> list[Driver]:
    """Return the drivers of a study that are alive; of this home's own, its lock tells at once."""
    own = home.driver(name)
    held = home.holder(name) is not None
    return [driver for driver in ledger.drivers.all() if (held if driver.id == own else driver.alive)]


def running(home: Home, name: str) -> list[dict[str, Any]]:
    """Return the trials of a study that have begun and not ended, with the last epoch their checkpoints hold.

    Those of another driver are seen where its home folder is.
    """
    rows = []
    ledger = Ledger.open(home.ledger_uri, name)
    owners, own = ledger.drivers.owners(), home.driver(name)
    homes = {driver.id: Home(Path(driver.home)) for driver in ledger.drivers.all() if driver.id != own}
    for entry in ledger.entries():
        if entry.result is None:
            owner = owners.get(entry.job.number, "")
            records = homes.get(owner, home).recorded(name, entry.job.number)
            rows.append(
                {
                    "trial": entry.job.name,
                    "driver": owner or None,
                    "epoch": len(records),
                    "horizon": entry.job.config.horizon,
                    "val_acc": records[-1].val_acc if records else None,
                    "schedule": entry.job.config.schedule,
                }
            )
    return rows


def trial_view(entry: Entry) -> dict[str, Any]:
    """Return one trial as plain values."""
    return {
        "trial": entry.job.name,
        "number": entry.job.number,
        "parameters": entry.job.params,
        "thawed": list(entry.job.thawed),
        "config": entry.job.config.to_dict(),
        "result": None if entry.result is None else entry.result.to_dict(),
    }


def find_trial(ledger: Ledger, text: str) -> Entry:
    """Return the trial called ``text``, by name or number; of several tries of one run, the last.

    Raises:
        InputError: there is none; the message lists those there are.
    """
    entries = ledger.entries()
    found = [entry for entry in entries if entry.job.name == text]
    found = found or [entry for entry in entries if str(entry.job.number) == text]
    if not found:
        names = ", ".join(entry.job.name for entry in entries) or "none"
        raise InputError(f"no trial {text!r} in study {ledger.spec.name!r}; there are: {names}")
    return found[-1]


def failed_tries(home: Home, ledger: Ledger, entry: Entry) -> list[dict[str, Any]]:
    """Return every error that a trial met, oldest first, in this try of its run and in those before it."""
    return [
        {"number": number, **asdict(failure), "summary": failure.summary}
        for number in _tries(ledger, entry)
        for failure in failures(home.error_log(ledger.spec.name, number))
    ]


def logged(home: Home, ledger: Ledger, entry: Entry) -> str:
    """Return what a trial printed and logged, in this try of its run and in those before it."""
    return "".join(read_log(home.trial_log(ledger.spec.name, number)) for number in _tries(ledger, entry))


def _tries(ledger: Ledger, entry: Entry) -> list[int]:
    """Return the numbers under which a trial's run was tried; a crashed one is tried again under a new one."""
    return [other.job.number for other in ledger.entries() if other.job.name == entry.job.name]


def describe_trial(entry: Entry) -> str:
    """Return one trial as text: what it trained, how it ended."""
    job, result = entry.job, entry.result
    lines = [f"trial {job.name} (number {job.number})"]
    lines += [f"  {name} = {value!r}" for name, value in job.params.items()]
    lines += [f"  schedule: {job.config.schedule}", f"  {draw_rates(job.config)}"]
    lines += [f"  ended after epoch {epoch}, and went on later" for epoch in job.thawed]
    if result is None:
        lines.append("  has not ended")
        return "\n".join(lines)
    lines.append(f"  outcome: {result.outcome.value}")
    left_out = {"outcome", "would_stop", "val_accs"} | (set() if result.epochs_saved else {"epochs_saved"})
    for name, value in result.to_dict().items():
        if name not in left_out and value is not None:
            lines.append(f"  {name}: {value:.4f}" if isinstance(value, float) else f"  {name}: {value}")
    others = {rule: epoch for rule, epoch in result.would_stop.items() if rule != result.stopped_by}
    lines += [f"  {rule} said stop at epoch {epoch}, and was not let" for rule, epoch in others.items()]
    return "\n".join(lines)


def describe_summary(row: dict[str, Any]) -> str:
    """Return where a study stands, in two lines."""
    ended = ", ".join(f"{row[o.value]} {o.value}" for o in Outcome if row[o.value]) or "none"
    drivers = [driver["driver"] for driver in row["drivers"]]
    # One driver, of this home, needs no name.
    named = len(drivers) > 1 or (drivers and not row["process"])
    who = f" by {', '.join(drivers)}" if named else f" by process {row['process']}" if row["process"] else ""
    best = "no result yet"
    if row["best_trial"] is not None:
        best = f"best: trial {row['best_trial']}, "
        best += (
            f"{row['target']:g} at epoch {row['best_epochs_to_target']}"
            if row["best_epochs_to_target"] is not None
            else f"best val_acc {row['best_val_acc']:.4f}, below the target {row['target']:g}"
        )
    if row["imported_from"] is not None:
        return (
            f"{row['study']}: imported from {row['imported_from']} · {row['trials']} trials · ended: {ended}\n  {best}"
        )
    finalists = f" and {row['finalists']} runs of finalists" if row["finalists"] else ""
    return (
        f"{row['study']}: {row['state']}{who} · {row['trials']} trials asked for{finalists} · ended: {ended} · "
        f"begun: {row['begun']}\n  {best}"
    )
