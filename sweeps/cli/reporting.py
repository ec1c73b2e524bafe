"""Commands that hand a study on: as a report, or to another tool."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sweeps.cli.common import HOME, HomeOption, LedgerOption, MlflowOption, NameArgument, app, open_home, stderr, stored
from sweeps.errors import InputError


@app.command()
def report(
    name: NameArgument,
    out: Annotated[Path | None, typer.Option("--out", help="The file.", show_default="NAME.html")] = None,
    attach: Annotated[
        bool, typer.Option("--attach", help="Add it to the study in MLflow, and every trial's curves to its run.")
    ] = False,
    home: HomeOption = HOME,
    mlflow: MlflowOption = "",
    ledger: LedgerOption = "",
) -> None:
    """Write a study's report: one HTML file with its question, result, curves, costs, and how to repeat it."""
    where = open_home(home, mlflow, ledger)
    study = stored(where, name)
    from sweeps import reporting

    path = out or Path(f"{name}.html")
    if path.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"--out {path}: expected a name that ends in .html")
    try:
        path.write_text(reporting.html(where, study), encoding="utf-8")
    except OSError as error:
        raise InputError(f"--out {path}: {error.strerror}") from error
    typer.echo(path)
    if attach:
        plots = reporting.attach_report(where, study)
        stderr.print(f"the report, and the curves of {plots} trials, are in MLflow", highlight=False)


@app.command()
def export(
    name: NameArgument,
    tensorboard: Annotated[Path, typer.Option("--tensorboard", help="Folder for TensorBoard's event files.")],
    home: HomeOption = HOME,
    mlflow: MlflowOption = "",
) -> None:
    """Write a study's curves for another tool: TensorBoard, with a folder a trial."""
    study = stored(open_home(home, mlflow), name)
    from sweeps.tensorboard import write_events

    try:
        trials = write_events(study, tensorboard)
    except ModuleNotFoundError as error:
        raise InputError(f"--tensorboard: {error.name} is not installed; pip install tensorboard") from error
    except OSError as error:
        raise InputError(f"--tensorboard {tensorboard}: {error.strerror or error}") from error
    stderr.print(f"curves of {trials} trials written; look at them with", highlight=False)
    typer.echo(f"tensorboard --logdir {tensorboard}")
