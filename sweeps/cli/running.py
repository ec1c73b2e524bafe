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
    LedgerOption,
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
    from sweeps.launch import End, Launch


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
        *(open_home(home, mlflow, ledger), data, address, debug, spec.name),
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
    ledger: LedgerOption = "",
    data: DataOption = DATA,
    debug: DebugOption = False,
) -> None:
    """Continue a study that was interrupted or killed; trials go on from their last epoch."""
    if trials is not None and not re.fullmatch(r"\+?0*[1-9][0-9]{0,8}", trials, re.ASCII):
        raise InputError(f"--trials {trials}: expected how many in all, such as 200, or how many more, such as +50")
    count = int(trials or 0)
    change = {"more" if trials.startswith("+") else "trials": count} if trials else {}
    _run(open_home(home, mlflow, ledger), data, address, debug, name, lambda launch: launch.resume(name, **change))


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
    from sweeps import views
    from sweeps.ledger import Ledger

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
    from sweeps import views
    from sweeps.ledger import Ledger

    opened = Ledger.open(where.ledger_uri, name)
    alive = views.alive(where, name, opened)
    if not alive:
        raise SweepError(f"study {name!r} is not running; see `sweeps status {name}`")
    opened.stop_all()
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


def _run(
    where: Home, data: Path, address: str | None, debug: bool, name: str, started: Callable[[Launch], End]
) -> None:
    """Run or continue a study, then print what came out."""
    import analysis
    from sweeps import views
    from sweeps.database import shown
    from sweeps.launch import End, Launch
    from sweeps.ledger import Ledger

    end = started(Launch(where, data.resolve(), address, stderr, debug))
    if where.mlflow_uri.startswith("sqlite"):
        study = stored(where, name)
        built = analysis.build_table(study)
        width = Console().width if sys.stdout.isatty() else None
        typer.echo(analysis.render(built, "text", width=width, notes=analysis.footnotes(study, built)))
    entry = views.best_entry(Ledger.open(where.ledger_uri, name).entries())
    if entry is not None:
        typer.echo("\nbest so far: " + views.describe_trial(entry))
    option = "" if where.root == HOME.resolve() else f" --home {where.root}"
    typer.echo(f"\nlook at it:  {shown(where.mlflow) if where.mlflow else 'sweeps ui' + option}")
    option += f" --mlflow {shown(where.mlflow)}" if where.mlflow else ""
    option += f" --ledger {shown(where.ledger)}" if where.ledger else ""
    if end is not End.DONE:
        again = {
            End.INTERRUPTED: "interrupted; continue with",
            End.CRASHES: "some trials crashed; try them again with",
        }
        typer.echo(f"{again[end]}:  sweeps resume {name}{option}")
    sys.stdout.flush()
    raise typer.Exit({End.DONE: DONE, End.CRASHES: CRASHES, End.INTERRUPTED: INTERRUPTED}[end])
