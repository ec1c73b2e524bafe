"""Commands that run a study."""

from __future__ import annotations

import os
import re
import shlex
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

import sweeps
from resnet_core.uris import without_password
from sweeps.api import DATA, HOME, data_folder
from sweeps.cli.app import CRASHES, DONE, INTERRUPTED, command, print_message, print_result, stderr, terminal_width
from sweeps.cli.options import (
    LaunchOptions,
    NameArgument,
    NameOption,
    SetOption,
    Store,
    StudyArgument,
    TrialsOption,
)
from sweeps.errors import InputError, SweepError
from sweeps.execution import fork_server
from sweeps.home import Home

if TYPE_CHECKING:
    from analysis import Study
    from search_spaces.spec import StudySpec
    from sweeps.execution.launch import LaunchStatus

WIDTH = 80
"""Columns of what is printed where there is no terminal."""
_PLOTS = 10  # number of best trials whose curves are drawn; each takes a third of a second


@command()
def launch(
    study: StudyArgument,
    *,
    name: NameOption = "",
    trials: TrialsOption = None,
    changes: SetOption,
    fork: Annotated[
        str,
        typer.Option(
            "--fork", metavar="NEW", help="Run it as a new study of this name, whose sampler knows the trials so far."
        ),
    ] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before starting.")] = False,
    options: LaunchOptions,
) -> None:
    """Run a study to its end.

    If a study of this name has begun, it is continued, provided that the file still describes the same study.
    """
    from sweeps.inspection.notes import study_notes
    from sweeps.study.code import describe as describe_code

    fork_server.start(options.address)
    # Read once: the file may be a pipe.
    asked = sweeps.load_study(study, name=name, trials=trials, changes=changes)
    spec = sweeps.load_study(asked, name=fork)
    for line in describe_code(spec):
        options.tell(line)
    for warning in study_notes(spec, _at_once(spec, options.address)):
        print_message(warning)
    if not yes and sys.stdin.isatty() and sys.stderr.isatty():
        from search_spaces.space import trial_count

        more = " and their finalists" if spec.search.finalists else ""
        question = f"Start {spec.name}: {trial_count(spec)} trials{more}? `sweeps plan {study}` shows them. [Y/n] "
        try:
            answer = stderr.input(question, markup=False, emoji=False)
        except EOFError:  # Ctrl-D, or a terminal that was closed
            answer = "no"
        if answer.strip().lower() not in ("", "y", "yes"):
            raise typer.Exit(DONE)
        options.tell(f"starting {spec.name} …")  # the imports of a launch take seconds
    run_study(
        options,
        spec.name,
        lambda: sweeps.launch(asked, fork=fork, **options.to_arguments()),
    )


def _at_once(spec: StudySpec, address: str | None) -> int:
    """Return how many trials run at the same time; 1 where only Ray or torch, which start later, could tell."""
    from sweeps.execution.cluster import Node
    from sweeps.execution.machine import available_cores

    if address not in (None, "local") or spec.resources.gpus_per_trial:
        return 1
    return max(1, Node(available_cores()).slots(spec.resources))


@command()
def resume(
    name: NameArgument,
    *,
    trials: Annotated[
        str | None,
        typer.Option("--trials", metavar="[+]N", help="How many trials in all, or +N for N more than asked for."),
    ] = None,
    changed_code: Annotated[
        bool, typer.Option("--changed-code", help="Go on although code that the study file names has changed.")
    ] = False,
    options: LaunchOptions,
) -> None:
    """Continue a study that was interrupted or killed.

    Its trials continue after their last epoch.
    """
    if trials is not None and not re.fullmatch(r"\+?0*[1-9][0-9]{0,8}", trials, re.ASCII):
        raise InputError(f"--trials {trials}: expected how many in all, such as 200, or how many more, such as +50")
    asked: dict[str, Any] = {"more" if trials.startswith("+") else "trials": int(trials)} if trials else {}
    asked["changed_code"] = changed_code
    run_study(options, name, lambda: sweeps.resume(name, **asked, **options.to_arguments()))


@command()
def race(
    name: NameArgument,
    *,
    top: Annotated[
        int | None,
        typer.Option("--top", min=2, help="How many configurations.", show_default="as the study says, or 8"),
    ] = None,
    seeds: Annotated[
        int | None,
        typer.Option(
            "--seeds", min=1, help="How many fresh seeds each, at most.", show_default="as the study says, or 4"
        ),
    ] = None,
    options: LaunchOptions,
) -> None:
    """Run a study's best configurations again with fresh seeds.

    The search starts no more trials. A configuration is dropped when it has little chance to be the best; the race ends
    when it is clear which one is.
    """
    from search_spaces.tables import Finalists
    from sweeps.ledger.ledger import Ledger

    asked = Ledger.read(options.store.open().ledger_uri, name).spec.search.finalists or Finalists()
    changes = {key: value for key, value in (("top", top), ("seeds", seeds)) if value is not None}
    finalists = asked.model_copy(update=changes)
    run_study(options, name, lambda: options.open_launcher().race(name, finalists))


@command()
def stop(
    name: NameArgument,
    *,
    every: Annotated[bool, typer.Option("--all", help="Stop every driver of the study, not only this home's.")] = False,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until it has stopped.")] = True,
    store: Store,
) -> None:
    """Ask a running study to stop, as Ctrl-C does.

    Running trials finish their epoch. All trials are kept, and `resume` continues the study.
    """
    from sweeps.inspection.status import describe_summary, study_summary
    from sweeps.ledger.ledger import Ledger

    home = store.open()
    process = home.lock_holder(name)
    if process is not None and not every:
        asked = f"process {process} to stop"

        def runs() -> bool:
            return home.lock_holder(name) == process

    else:
        alive = Ledger.read(home.ledger_uri, name).drivers.live(home)
        drivers = ", ".join(driver.id for driver in alive)
        if not alive:
            raise SweepError(f"study {name!r} is not running; see `sweeps status {name}`")
        if not every:
            raise SweepError(f"study {name!r} is not run by this home but by {drivers}; --all stops every driver")
        ledger = Ledger.open(home.ledger_uri, name)
        ledger.drivers.request_stop()
        asked = f"{len(alive)} drivers to stop: {drivers}"

        def runs() -> bool:
            return bool(ledger.drivers.live(home))

    if process is not None:
        home.ask_to_stop(name)
    print_message(f"asked {asked}; running trials finish their epoch first")
    if wait:
        while runs():
            time.sleep(0.2)
        print_result(describe_summary(study_summary(home, name)))


def run_study(
    options: LaunchOptions,
    name: str,
    run: Callable[[], LaunchStatus],
    *,
    table: Callable[[Study], str] | None = None,
    verdict: Callable[[Study], str] | None = None,
) -> None:
    """Run a study, print its results, and exit with the exit code for the end of the launch.

    Args:
        options: the options of the command.
        name: the name of the study.
        run: launches the study.
        table: returns the table to print; None prints the end screen of a search, and all runs of a confirmation.
        verdict: returns the text to print below the table.
    """
    home = options.store.open()
    if not home.mlflow and os.environ.get("MLFLOW_TRACKING_URI"):
        options.tell("MLFLOW_TRACKING_URI is not used: the study is logged in its home folder; --mlflow names a server")
    end = run()
    from sweeps.execution.launch import LaunchStatus
    from sweeps.ledger.ledger import Ledger

    ledger = Ledger.read(home.ledger_uri, name)
    server = (without_password(home.mlflow) or "") if home.mlflow.startswith("http") else ""
    if ledger.spec.phase == "search" and table is None:
        from sweeps.inspection.end_screen import end_screen

        print_result(
            end_screen(
                home,
                ledger,
                terminal_width() or WIDTH,
                store=_as_text(options, "home", "mlflow", "ledger"),
                driver=_as_text(options, "home", "mlflow", "ledger", "data", "address"),
                server=server,
            )
        )
    else:
        study = options.store.results(name)
        print_result((table or _results)(study))
        if ledger.spec.phase == "confirm":
            print_result(confirmation_text(study))
        if verdict is not None:
            print_result(verdict(study))
        print_result(f"\nlook at it:  {server or 'sweeps ui' + _as_text(options, 'home', 'mlflow')}")
    if options.report and end is not LaunchStatus.INTERRUPTED:
        attach_report_to(home, options.store.results(name))
    if end is not LaunchStatus.FINISHED:
        why = "interrupted; continue" if end is LaunchStatus.INTERRUPTED else "some trials crashed; try them again"
        same = _as_text(options, "home", "mlflow", "ledger", "data", "address")
        print_result(f"{why} with:  sweeps resume {name}{same}")
        if end is LaunchStatus.CRASHED and ledger.spec.code is not None:
            print_result("after a change of the code, resume needs --changed-code")
    sys.stdout.flush()
    raise typer.Exit(
        {LaunchStatus.FINISHED: DONE, LaunchStatus.CRASHED: CRASHES, LaunchStatus.INTERRUPTED: INTERRUPTED}[end]
    )


def _as_text(options: LaunchOptions, *names: str) -> str:
    """Return the named options that differ from their defaults as text for a command line, without passwords."""
    home, data = options.store.open(), data_folder(options.data)
    values = {
        "home": "" if home.root == HOME.resolve() else home.root,
        "mlflow": without_password(home.mlflow),
        "ledger": without_password(home.ledger),
        "data": "" if data == DATA.resolve() else data,
        "address": options.address or "",
    }
    return "".join(f" --{name} {shlex.quote(str(values[name]))}" for name in names if values[name])


def _results(study: Study) -> str:
    """Return the table of a study, as wide as the terminal."""
    import analysis

    built = analysis.build_table(study)
    return analysis.render(built, "text", width=terminal_width(), notes=analysis.footnotes(study, built))


def confirmation_text(study: Study) -> str:
    """Return the results of a confirmation so far, in sentences."""
    import analysis

    try:
        return str(analysis.build_confirmation(study))
    except ValueError as error:  # no run has ended
        return str(error)


def attach_report_to(home: Home, study: Study) -> None:
    """Add the report to MLflow; if that fails, print a message only, since the study itself has ended well."""
    from sweeps.inspection.report import report_files
    from sweeps.tracking.report import attach_report

    try:
        attach_report(home.mlflow_uri, study, report_files(home, study), _PLOTS)
    except Exception as error:
        print_message(f"the report was not made: {error}; try again with `sweeps report {study.name} --attach`")
