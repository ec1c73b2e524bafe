"""Commands that show studies, trials, and the machine on which they run."""

from __future__ import annotations

import contextlib
import os
import sys
import time
import webbrowser
from math import isnan
from typing import Annotated, Any

import typer

from resnet_core.uris import without_password
from sweeps.api import DATA, data_folder
from sweeps.cli.app import FAILED, command, print_json, print_message, print_result
from sweeps.cli.options import AddressOption, DataOption, JsonOption, NameArgument, Store, complete_name
from sweeps.errors import InputError, SweepError
from sweeps.execution.streams import has_reader
from sweeps.home import Home

BrowserOption = Annotated[
    bool, typer.Option("--open/--no-open", help="Open a browser, if this terminal has a display.")
]
_NICE = 10  # beside trials that train on all cores it gets a tenth of one


@command()
def status(
    name: Annotated[str, typer.Argument(help="Name of a study; all without one.", autocompletion=complete_name)] = "",
    *,
    watch: Annotated[bool, typer.Option("--watch", help="Show it again every two seconds until it ends.")] = False,
    store: Store,
    as_json: JsonOption = False,
) -> None:
    """Show how far a study is, or all studies.

    It works from any terminal, while the study runs and after it.
    """
    from sweeps.inspection.status import running_trials, study_summaries, study_summary

    home = store.open()
    while True:
        rows = [study_summary(home, name)] if name else study_summaries(home)
        for row in rows:
            row["running"] = running_trials(home, row["study"])
        if as_json:
            print_json(rows[0] if name else rows)
        else:
            print_result("\n".join(_status_lines(rows)) or f"no study in {_place(home)}")
        if not watch or all(row["state"] != "running" for row in rows) or not has_reader():
            return
        time.sleep(2)


@command()
def ls(*, store: Store, as_json: JsonOption = False) -> None:
    """List the studies."""
    from sweeps.inspection.status import describe_summary, study_summaries

    home = store.open()
    rows = study_summaries(home)
    if as_json:
        print_json(rows)
        return
    for row in rows:
        print_result(describe_summary(row))
    if not rows:
        print_result(f"no study in {_place(home)}")


@command()
def best(
    name: NameArgument,
    *,
    as_toml: Annotated[
        bool, typer.Option("--toml", help="Print a study file of its configuration, to run, change or confirm it.")
    ] = False,
    store: Store,
    as_json: JsonOption = False,
) -> None:
    """Show the trial with the fewest epochs to target.

    The command also says whether the trial is confirmed, and whether its lead is larger than the noise.
    """
    if as_toml and as_json:
        raise InputError("--toml: expected without --json: a study file is TOML")
    from sweeps.inspection.best import best_trial
    from sweeps.inspection.best_file import best_study_file
    from sweeps.ledger.ledger import Ledger
    from sweeps.study.trials import crashes

    home = store.open()
    ledger = Ledger.read(home.ledger_uri, name)
    found = best_trial(home, ledger)
    if found is None:
        crashed = crashes(name, ledger.entries())
        why = f": {crashed}" if crashed else f" yet; see `sweeps status {name}`"
        raise SweepError(f"study {name!r} has no trial that ended with a result{why}")
    if as_json:
        print_json(found.to_dict())
    else:
        print_result(best_study_file(home, ledger, found) if as_toml else found.describe())


@command()
def show(
    name: NameArgument,
    trial: Annotated[str, typer.Argument(help="Name or number of a trial.")],
    *,
    log: Annotated[bool, typer.Option("--log", help="Show what its worker printed and logged.")] = False,
    store: Store,
    as_json: JsonOption = False,
) -> None:
    """Show one trial: its settings, epochs, outcome and errors."""
    from resnet_core.records import metric_texts
    from sweeps.inspection.kept_networks import kept
    from sweeps.inspection.trials import describe_trial, failed_tries, printed_output, trial_to_dict
    from sweeps.ledger.ledger import Ledger

    home = store.open()
    opened = Ledger.read(home.ledger_uri, name)
    entry = opened.find(trial)
    number = entry.job.number
    network = next((str(one.path) for one in kept(home, opened) if one.trial == entry.job.name), None)
    epochs = _epochs(store, name, number)
    tries = failed_tries(home, opened, entry)
    error = next((row["error"] for row in reversed(tries) if row["number"] == number), None)
    if as_json:
        shown = {
            **trial_to_dict(entry, opened.spec.objective),
            "network": network,
            "epochs": epochs,
            "error": error,
            "failed_tries": tries,
        }
        print_json({**shown, "log": printed_output(home, opened, entry)} if log else shown)
        return
    if log:
        sys.stdout.write(printed_output(home, opened, entry))
        return
    print_result(describe_trial(entry, opened.spec.objective))
    measured = {key for row in epochs for key, value in row.items() if not isnan(value)} - {"epoch"}
    for row in epochs:
        values = {key: value for key, value in row.items() if key in measured}
        print_result("  ".join([f"  epoch {row['epoch']:>3}", *metric_texts(values)]))
    if tries:
        print_result("failed tries:")
    for row in tries:
        print_result(f"  {row['time']}  number {row['number']}: {row['summary']}")
    if error is not None:
        print_result(f"last error:\n{error}")
    if network is not None:
        print_result(f"network: {network} (`sweeps model {name} {entry.job.name}` copies it)")
    if home.trial_log(name, number).exists():
        print_result(f"log: {home.trial_log(name, number)} (--log shows it)")


@command()
def ui(
    name: Annotated[
        str, typer.Argument(help="Name of the study to open; the newest without one.", autocompletion=complete_name)
    ] = "",
    *,
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Port on 127.0.0.1.")] = 5000,
    browser: BrowserOption = True,
    store: Store,
) -> None:
    """Start MLflow's UI on the studies, at http://127.0.0.1:5000, and show a study's trials side by side."""
    import analysis
    from sweeps.inspection.ui import UiServer

    home = store.open()
    if home.mlflow.startswith("http"):
        raise InputError(f"a server has its UI at its own address: open {without_password(home.mlflow)}")
    if not home.mlflow and not home.own_mlflow_db.exists():
        raise InputError(f"no study in {home.root} yet; launch one, or name its folder with --home")
    try:
        names = analysis.studies(home.mlflow_uri)["name"].tolist()
    except analysis.StoreError as error:
        raise InputError(str(error)) from error
    if name and name not in names:
        raise InputError(f"no study {name!r}; the studies are: {', '.join(sorted(names)) or 'none yet'}")
    with UiServer(home, port) as server:
        server.wait_until_ready()
        print_message(f"MLflow's UI: {server.address} (Ctrl-C ends it)")
        shown = server.address
        if name or names:
            shown = server.charts(name or names[0])
            print_message(f"study {name or names[0]}: {shown}")
        if browser:
            _open(shown)
        server.wait()


@command()
def watch(
    name: NameArgument,
    *,
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Port on 127.0.0.1; 0 takes one that is free.")
    ] = 5001,
    browser: BrowserOption = True,
    store: Store,
    debug: Annotated[bool, typer.Option("--debug", help="Log every request, and show tracebacks.")] = False,
) -> None:
    """Show a running study as a page in a browser, at http://127.0.0.1:5001, renewed while its epochs come.

    It shows which trials run, which were stopped and why, the curves so far, and the time left. It only reads, so the
    study may run on another machine whose store can be reached (--mlflow, --ledger). The page can be opened from this
    machine alone; from another one through a tunnel: ssh -L 5001:127.0.0.1:5001 HOST
    """
    from sweeps.inspection.local_server import end_as_by_ctrl_c
    from sweeps.inspection.watch import WatchServer, watch_pages

    end_as_by_ctrl_c()
    with contextlib.suppress(OSError):
        os.nice(_NICE)
    server = WatchServer(watch_pages(store.open(), name), port, debug=debug)
    print_result(server.address)
    print_message("Ctrl-C ends it")
    if browser:
        _open(server.address)
    server.serve_until_interrupted()


def _open(address: str) -> None:
    """Open a browser, if this terminal has a display."""
    if sys.stderr.isatty() and (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        webbrowser.open(address)


@command()
def doctor(
    *,
    address: AddressOption = None,
    store: Store,
    data: DataOption = DATA,
    as_json: JsonOption = False,
) -> None:
    """Check whether a sweep can run on this machine.

    A store, a ledger and a cluster on other machines are connected to. The exit code is 1 where something is missing.
    """
    import dataclasses

    from sweeps.inspection.doctor import examine

    checks = examine(store.open(), data_folder(data), address)
    if as_json:
        print_json([dataclasses.asdict(check) for check in checks])
    else:
        for check in checks:
            mark = {True: "ok", False: "NO", None: ""}[check.ok]
            print_result(f"{mark:>2}  {check.name:<13} {check.found}")
    if any(check.ok is False for check in checks):
        raise typer.Exit(FAILED)


def _place(home: Home) -> str:
    return without_password(home.ledger) if home.ledger else str(home.root)


def _epochs(store: Store, name: str, number: int) -> list[dict[str, Any]]:
    """Return a trial's epochs from MLflow's store; an empty list if it has none yet."""
    try:
        epochs = store.results(name).epochs
    except InputError as error:
        home = store.open()
        if home.mlflow or home.own_mlflow_db.exists():  # the home's is not there before the first epoch
            print_message(f"no epochs: {error}")
        return []
    rows = epochs[epochs["number"] == number].drop(columns="number").to_dict("records")
    return [{str(key): value for key, value in row.items()} for row in rows]


def _status_lines(rows: list[dict[str, Any]]) -> list[str]:
    from resnet_core.records import metric_text
    from sweeps.inspection.status import describe_summary

    lines = []
    for row in rows:
        lines.append(describe_summary(row))
        for trial in row["running"]:
            metric = row["metric"]
            shown = "-" if trial[metric] is None else metric_text(metric, trial[metric])
            lines.append(f"  trial {trial['trial']}: epoch {trial['epoch']}/{trial['horizon']}, {metric} {shown}")
    return lines
