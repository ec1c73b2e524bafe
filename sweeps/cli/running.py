"""Commands that run a study."""

from __future__ import annotations

import re
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from resnet_core.uris import without_password
from sweeps.cli.common import (
    CRASHES,
    DATA,
    DONE,
    HOME,
    INTERRUPTED,
    AddressOption,
    DataOption,
    DebugOption,
    HomeOption,
    LedgerOption,
    MlflowOption,
    NameArgument,
    NameOption,
    ReportOption,
    SetOption,
    StudyArgument,
    TrialsOption,
    app,
    open_home,
    read_study,
    stderr,
    stored,
)
from sweeps.errors import InputError, SweepError
from sweeps.home import Home

if TYPE_CHECKING:
    from analysis import Study
    from sweeps.execution.launch import End, Launch

_PLOTS = 10  # of the best trials; each takes a third of a second


@app.command()
def launch(
    study: StudyArgument,
    name: NameOption = "",
    trials: TrialsOption = None,
    changes: SetOption = [],  # noqa: B006  typer wants a list
    fork: Annotated[
        str,
        typer.Option(
            "--fork", metavar="NEW", help="Run it under this name; its sampler knows the study's trials so far."
        ),
    ] = "",
    address: AddressOption = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before starting.")] = False,
    home: HomeOption = HOME,
    mlflow: MlflowOption = "",
    ledger: LedgerOption = "",
    data: DataOption = DATA,
    report: ReportOption = True,
    debug: DebugOption = False,
) -> None:
    """Run a study to its end. One of this name that asks the same is continued."""
    spec = read_study(study, name, trials, changes)
    source = spec.name
    if fork:
        spec = read_study(study, fork, trials, changes)
    if not yes and sys.stdin.isatty() and stderr.is_terminal:
        from search_spaces.space import trial_count

        more = " and their finalists" if spec.search.finalists else ""
        question = f"Start {spec.name}: {trial_count(spec)} trials{more}? `sweeps plan {study}` shows them. [Y/n] "
        if stderr.input(question).strip().lower() not in ("", "y", "yes"):
            raise typer.Exit(DONE)
    run_study(
        *(open_home(home, mlflow, ledger), data, address, debug, spec.name),
        lambda launch: launch.fork(spec, source) if fork else launch.start(spec),
        report=report,
    )


@app.command()
def resume(
    name: NameArgument,
    trials: Annotated[
        str | None,
        typer.Option("--trials", metavar="[+]N", help="How many trials in all, or +N for N more than asked for."),
    ] = None,
    address: AddressOption = None,
    home: HomeOption = HOME,
    mlflow: MlflowOption = "",
    ledger: LedgerOption = "",
    data: DataOption = DATA,
    report: ReportOption = True,
    debug: DebugOption = False,
) -> None:
    """Continue a study that was interrupted or killed; trials go on from their last epoch."""
    if trials is not None and not re.fullmatch(r"\+?0*[1-9][0-9]{0,8}", trials, re.ASCII):
        raise InputError(f"--trials {trials}: expected how many in all, such as 200, or how many more, such as +50")
    count = int(trials or 0)
    change = {"more" if trials.startswith("+") else "trials": count} if trials else {}
    where = open_home(home, mlflow, ledger)
    run_study(where, data, address, debug, name, lambda launch: launch.resume(name, **change), report=report)


@app.command()
def race(
    name: NameArgument,
    top: Annotated[
        int | None, typer.Option("--top", min=2, help="So many configurations; as the study says, or 8.")
    ] = None,
    seeds: Annotated[
        int | None, typer.Option("--seeds", min=1, help="So many fresh seeds each at most; as the study says, or 4.")
    ] = None,
    address: AddressOption = None,
    home: HomeOption = HOME,
    mlflow: MlflowOption = "",
    ledger: LedgerOption = "",
    data: DataOption = DATA,
    report: ReportOption = True,
    debug: DebugOption = False,
) -> None:
    """Run a study's best configurations again with fresh seeds, until it is clear which is the best.

    The search ends with the trials that have begun. Whoever has little chance to be the best is dropped.
    """
    from search_spaces.tables import Finalists
    from sweeps.ledger.ledger import Ledger

    where = open_home(home, mlflow, ledger)
    asked = Ledger.open(where.ledger_uri, name).spec.search.finalists or Finalists()
    changes = {key: value for key, value in (("top", top), ("seeds", seeds)) if value is not None}
    finalists = asked.model_copy(update=changes)
    run_study(where, data, address, debug, name, lambda launch: launch.race(name, finalists), report=report)


@app.command()
def stop(
    name: NameArgument,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until it has stopped.")] = True,
    every: Annotated[bool, typer.Option("--all", help="Every driver of it, not only this home's.")] = False,
    home: HomeOption = HOME,
    ledger: LedgerOption = "",
) -> None:
    """Ask a running study to finish as Ctrl-C does: its trials are kept, and `resume` continues it."""
    where = open_home(home, ledger=ledger)
    process = where.holder(name)
    from sweeps.inspection import views
    from sweeps.ledger.ledger import Ledger

    if every:
        _stop_all(where, name, wait)
        return
    if process is None:
        alive = views.alive(where, name, Ledger.open(where.ledger_uri, name))  # a wrong name is told as such
        if alive:
            drivers = ", ".join(driver.id for driver in alive)
            raise SweepError(f"study {name!r} is not run by this home but by {drivers}; --all stops every driver")
        raise SweepError(f"study {name!r} is not running; see `sweeps status {name}`")
    where.ask_to_stop(name)
    stderr.print(
        f"asked process {process} to stop; running trials finish their epoch first", highlight=False, soft_wrap=True
    )
    if not wait:
        return
    while where.holder(name) == process:
        time.sleep(0.2)
    typer.echo(views.describe_summary(views.summary(where, name)))


def _stop_all(where: Home, name: str, wait: bool) -> None:
    """Ask every driver of a study to finish, and wait until they have."""
    from sweeps.inspection import views
    from sweeps.ledger.ledger import Ledger

    opened = Ledger.open(where.ledger_uri, name)
    alive = views.alive(where, name, opened)
    if not alive:
        raise SweepError(f"study {name!r} is not running; see `sweeps status {name}`")
    opened.drivers.request_stop()
    if where.holder(name) is not None:
        where.ask_to_stop(name)
    stderr.print(
        f"asked {len(alive)} drivers to stop: {', '.join(driver.id for driver in alive)}; running trials finish their "
        "epoch first",
        highlight=False,
        soft_wrap=True,
    )
    if not wait:
        return
    while views.alive(where, name, opened):
        time.sleep(0.5)
    typer.echo(views.describe_summary(views.summary(where, name)))


def run_study(
    where: Home,
    data: Path,
    address: str | None,
    debug: bool,
    name: str,
    started: Callable[[Launch], End],
    *,
    report: bool,
    table: Callable[[Study], str] | None = None,
    also: Callable[[Study], str] | None = None,
) -> None:
    """Run or continue a study, then print what came out: its table, or the one that is given, and what else is."""
    from sweeps.execution.launch import End, Launch
    from sweeps.ledger.ledger import Ledger

    end = started(Launch(where, data.resolve(), address, stderr, debug))
    ledger = Ledger.open(where.ledger_uri, name)
    study = stored(where, name)
    typer.echo(_results(study) if table is None else table(study))
    if ledger.spec.phase == "confirm":
        typer.echo(confirmation_text(study))
    if also is not None:
        typer.echo(also(study))
    sys.stdout.flush()
    if report and end is not End.INTERRUPTED:
        attach_report_to(where, study)
    if ledger.spec.phase == "search" and table is None:
        from sweeps.inspection import views
        from sweeps.inspection.standing import standing
        from sweeps.study.ranking import best_entry

        entry, stands = best_entry(ledger.spec, ledger.entries()), standing(where, ledger)
        if entry is not None and stands is not None:
            typer.echo("\n".join(["\nbest so far: " + views.describe_trial(entry), *stands.lines()]))
    option = "" if where.root == HOME.resolve() else f" --home {shlex.quote(str(where.root))}"
    option += f" --mlflow {without_password(where.mlflow)}" if where.mlflow else ""
    at = where.mlflow if where.mlflow.startswith("http") else f"sweeps ui{option}"
    typer.echo(f"\nlook at it:  {without_password(at)}")
    option += f" --ledger {without_password(where.ledger)}" if where.ledger else ""
    option += "" if data.resolve() == DATA.resolve() else f" --data {shlex.quote(str(data.resolve()))}"
    option += f" --address {address}" if address else ""
    if end is not End.DONE:
        again = {
            End.INTERRUPTED: "interrupted; continue with",
            End.CRASHES: "some trials crashed; try them again with",
        }
        typer.echo(f"{again[end]}:  sweeps resume {name}{option}")
    sys.stdout.flush()
    raise typer.Exit({End.DONE: DONE, End.CRASHES: CRASHES, End.INTERRUPTED: INTERRUPTED}[end])


def _results(study: Study) -> str:
    import analysis

    built = analysis.build_table(study)
    width = Console().width if sys.stdout.isatty() else None
    return analysis.render(built, "text", width=width, notes=analysis.footnotes(study, built))


def confirmation_text(study: Study) -> str:
    """Return what a confirmation found so far, in sentences."""
    import analysis

    try:
        return str(analysis.build_confirmation(study))
    except ValueError as error:  # no run has ended
        return str(error)


def attach_report_to(where: Home, study: Study) -> None:
    """Add the report to MLflow; the study has ended, whether that succeeds or not."""
    from sweeps.inspection.reporting import attach_report

    try:
        attach_report(where, study, _PLOTS)
    except Exception as error:
        stderr.print(
            f"the report was not made: {error}; try again with `sweeps report {study.name} --attach`",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
