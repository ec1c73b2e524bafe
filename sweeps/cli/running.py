"""Commands that run a study."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

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
    MlflowOption,
    NameArgument,
    NameOption,
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
    from sweeps.launch import End, Launch

ReportOption = Annotated[
    bool,
    typer.Option("--report/--no-report", envvar="SWEEPS_REPORT", help="At the end, add the report to MLflow."),
]
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

        question = f"Start {spec.name}: {trial_count(spec)} trials? `sweeps plan {study}` shows them. [Y/n] "
        if stderr.input(question).strip().lower() not in ("", "y", "yes"):
            raise typer.Exit(DONE)
    _run(
        *(open_home(home, mlflow), data, address, debug, report, spec.name),
        lambda launch: launch.fork(spec, source) if fork else launch.start(spec),
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
    data: DataOption = DATA,
    report: ReportOption = True,
    debug: DebugOption = False,
) -> None:
    """Continue a study that was interrupted or killed; trials go on from their last epoch."""
    if trials is not None and not re.fullmatch(r"\+?0*[1-9][0-9]{0,8}", trials, re.ASCII):
        raise InputError(f"--trials {trials}: expected how many in all, such as 200, or how many more, such as +50")
    count = int(trials or 0)
    change = {"more" if trials.startswith("+") else "trials": count} if trials else {}
    _run(open_home(home, mlflow), data, address, debug, report, name, lambda launch: launch.resume(name, **change))


@app.command()
def stop(
    name: NameArgument,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until it has stopped.")] = True,
    home: HomeOption = HOME,
) -> None:
    """Ask a running study to finish as Ctrl-C does: its trials are kept, and `resume` continues it."""
    where = open_home(home)
    process = where.holder(name)
    from sweeps import views
    from sweeps.ledger import Ledger

    if process is None:
        Ledger.open(where.optuna_db, name)  # a wrong name is told as such
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


def _run(
    where: Home,
    data: Path,
    address: str | None,
    debug: bool,
    report: bool,
    name: str,
    started: Callable[[Launch], End],
) -> None:
    """Run or continue a study, then print what came out."""
    import analysis
    from sweeps import views
    from sweeps.launch import End, Launch
    from sweeps.ledger import Ledger

    end = started(Launch(where, data.resolve(), address, stderr, debug))
    if where.mlflow_uri.startswith("sqlite"):
        study = stored(where, name)
        built = analysis.build_table(study)
        width = Console().width if sys.stdout.isatty() else None
        typer.echo(analysis.render(built, "text", width=width, notes=analysis.footnotes(study, built)))
        sys.stdout.flush()
        if report and end is not End.INTERRUPTED:
            _attach_report(where, study)
    entry = views.best_entry(Ledger.open(where.optuna_db, name).entries())
    if entry is not None:
        typer.echo("\nbest so far: " + views.describe_trial(entry))
    option = "" if where.root == HOME.resolve() else f" --home {where.root}"
    typer.echo(f"\nlook at it:  {where.mlflow if where.mlflow else 'sweeps ui' + option}")
    option += f" --mlflow {where.mlflow}" if where.mlflow else ""
    if end is not End.DONE:
        again = {
            End.INTERRUPTED: "interrupted; continue with",
            End.CRASHES: "some trials crashed; try them again with",
        }
        typer.echo(f"{again[end]}:  sweeps resume {name}{option}")
    sys.stdout.flush()
    raise typer.Exit({End.DONE: DONE, End.CRASHES: CRASHES, End.INTERRUPTED: INTERRUPTED}[end])


def _attach_report(where: Home, study: Study) -> None:
    """Add the report to MLflow; the study has ended, whether that succeeds or not."""
    from sweeps.reporting import attach_report

    try:
        attach_report(where, study, _PLOTS)
    except Exception as error:
        stderr.print(
            f"the report was not made: {error}; try again with `sweeps report {study.name} --attach`",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
