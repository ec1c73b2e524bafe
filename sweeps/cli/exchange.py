"""Commands that hand a study on: as a report, or to another tool."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sweeps.cli.options import (
    HOME,
    HomeOption,
    LedgerOption,
    MlflowOption,
    NameArgument,
    app,
    open_home,
    stderr,
    stored,
)
from sweeps.errors import InputError
from sweeps.home import Home


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
    from sweeps.inspection import reporting

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
    tensorboard: Annotated[
        Path | None, typer.Option("--tensorboard", help="Folder for TensorBoard's event files.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="File for a recording, which `simulate --from` reads: NAME.jsonl.gz.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file of --out.")] = False,
    home: HomeOption = HOME,
    mlflow: MlflowOption = "",
    ledger: LedgerOption = "",
) -> None:
    """Write a study's curves: a recording to simulate on, or for TensorBoard, with a folder a trial."""
    if tensorboard is None and out is None:
        raise InputError("expected --out FILE.jsonl.gz, --tensorboard FOLDER, or both")
    if force and out is None:
        raise InputError("--force: expected with --out; what --tensorboard wrote is replaced without it")
    where = open_home(home, mlflow, ledger)
    if out is not None:
        _write_recording(where, name, out, force)
    if tensorboard is not None:
        _write_events(where, name, tensorboard)


def _write_recording(home: Home, name: str, out: Path, force: bool) -> None:
    from sweeps.simulation import recordings

    if not out.name.endswith(recordings.SUFFIX):
        raise InputError(f"--out {out}: expected a name that ends in {recordings.SUFFIX}")
    if out.exists() and not force:
        raise InputError(f"--out {out}: it is there; --force replaces it")
    recording = recordings.of_study(home, name)
    try:
        recordings.write(recording, out)
    except OSError as error:
        raise InputError(f"--out {out}: {error.strerror or error}") from error
    left = f"; {recording.running} that run are not in it" if recording.running else ""
    stderr.print(f"{len(recording.trials)} trials recorded{left}; simulate on them with", highlight=False)
    typer.echo(f"sweeps simulate STUDY --from {out}")


def _write_events(home: Home, name: str, folder: Path) -> None:
    study = stored(home, name)
    from sweeps.tracking.tensorboard import write_events

    try:
        trials = write_events(study, folder)
    except ModuleNotFoundError as error:
        raise InputError(f"--tensorboard: {error.name} is not installed; pip install tensorboard") from error
    except OSError as error:
        raise InputError(f"--tensorboard {folder}: {error.strerror or error}") from error
    stderr.print(f"curves of {trials} trials written; look at them with", highlight=False)
    typer.echo(f"tensorboard --logdir {folder}")
