"""The command that makes a study of curves that were recorded elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from resnet_core.config import TRIAL_CONFIG_FIELDS
from search_spaces.errors import suggestion
from search_spaces.study import find_study, load_study, study_of
from search_spaces.tables import check_name
from sweeps.cli.options import (
    HOME,
    HomeOption,
    JsonOption,
    LedgerOption,
    MlflowOption,
    app,
    open_home,
    stderr,
    to_json,
)
from sweeps.errors import InputError

if TYPE_CHECKING:
    from search_spaces.spec import StudySpec


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="JSON lines, CSV, or a folder of TensorBoard's event files.")],
    name: Annotated[str, typer.Option("--name", help="Name of the study that it becomes.")],
    study: Annotated[
        str, typer.Option("--study", help="Study file whose [train] and [objective] hold for all trials.")
    ] = "",
    changes: Annotated[
        list[str],
        typer.Option("--set", metavar="KEY=VALUE", help="What holds for all trials, such as train.weight_decay=0.1."),
    ] = [],  # noqa: B006
    metric: Annotated[
        list[str],
        typer.Option("--metric", metavar="NAME=COLUMN", help="The column of a metric, of epoch or of trial."),
    ] = [],  # noqa: B006
    percent: Annotated[bool, typer.Option("--percent", help="Accuracies are in percent.")] = False,
    from_zero: Annotated[bool, typer.Option("--from-zero", help="Epochs count from 0.")] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Replace an earlier import of this name.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check the file and write nothing.")] = False,
    as_json: JsonOption = False,
    home: HomeOption = HOME,
    mlflow: MlflowOption = "",
    ledger: LedgerOption = "",
) -> None:
    """Make a study of curves that were recorded elsewhere; it is then read as any other."""
    from sweeps.importing.trials import Options
    from sweeps.importing.write import prepare, write

    where = open_home(home, mlflow, ledger)
    base = _base(study, check_name(name), changes)
    made = prepare(file, base, Options(_names(metric), percent, from_zero))
    new = not dry_run and write(where, made, replace=replace)
    done = "would be imported" if dry_run else "imported" if new else "there already, nothing was changed"
    if as_json:
        typer.echo(to_json({**made.to_dict(), "state": done}))
        return
    typer.echo("\n".join(made.lines()))
    stderr.print(
        f"{made.spec.name}: {done}: {len(made.trials)} trials from {made.origin.file}"
        + ("" if dry_run else f"; look at them with `sweeps table {made.spec.name}`"),
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


def _base(study: str, name: str, changes: list[str]) -> StudySpec:
    """Return a study with what holds for all trials."""
    from sweeps.importing.write import NO_SCHEDULE

    for change in changes:
        key = change.partition("=")[0].strip()
        if key in TRIAL_CONFIG_FIELDS:
            raise InputError(f"--set {change}: expected train.{change}")
        if key != "description" and not key.startswith(("train.", "objective.")):
            raise InputError(f"--set {change}: expected a key of [train] or [objective], or description")
    overrides = [*changes, f'name="{name}"']
    if study:
        return load_study(find_study(study), overrides)
    return study_of({"name": name, "train": {"schedule": NO_SCHEDULE}}, "options", overrides)


def _names(metric: list[str]) -> dict[str, str]:
    """Return the columns that --metric names, by the names they have here."""
    from resnet_core.records import METRICS

    known, names = ("trial", "epoch", *METRICS), {}
    for text in metric:
        name, equals, column = (part.strip() for part in text.partition("="))
        if not equals or not column:
            raise InputError(f"--metric {text}: expected NAME=COLUMN, such as val_acc=eval/accuracy")
        if name not in known:
            raise InputError(f"--metric {text}: unknown name; {suggestion(name, known)}")
        names[name] = column
    return names
