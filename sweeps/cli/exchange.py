"""Commands that exchange studies with other tools and people: reports, recordings, curves from elsewhere."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from resnet_core.config import TRIAL_CONFIG_FIELDS
from resnet_core.paths import check_target, write_whole
from resnet_core.records import metric_text
from search_spaces.errors import suggestion
from search_spaces.study import parse_study
from search_spaces.tables import check_name
from sweeps.api import load_study
from sweeps.cli.app import command, print_json, print_message, print_result
from sweeps.cli.options import JsonOption, NameArgument, Store, writing
from sweeps.errors import InputError, SweepError
from sweeps.home import Home

if TYPE_CHECKING:
    from analysis import Study
    from search_spaces.spec import StudySpec


@command()
def report(
    name: NameArgument,
    *,
    out: Annotated[Path | None, typer.Option("--out", help="File to write.", show_default="NAME.html")] = None,
    attach: Annotated[
        bool, typer.Option("--attach", help="Add it to the study in MLflow, and every trial's curves to its run.")
    ] = False,
    store: Store,
) -> None:
    """Write a study's report, one HTML file.

    The report contains the study's question, its result, curves and costs, and how to repeat it.
    """
    home, study = store.open(), store.results(name)
    from sweeps.inspection.report import build_report, report_files

    path = out or Path(f"{name}.html")
    if path.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"--out {path}: expected a name that ends in .html")
    with writing("--out", path):
        check_target(path)
    built = build_report(home, study).encode()
    with writing("--out", path):
        write_whole(path, built)
    print_result(path)
    if attach:
        from sweeps.tracking.report import attach_report

        plots = attach_report(home.mlflow_uri, study, report_files(home, study))
        print_message(f"the report, and the curves of {plots} trials, are in MLflow")


@command()
def model(
    name: NameArgument,
    trial: Annotated[str, typer.Argument(help="Name or number of a trial.")],
    *,
    out: Annotated[
        Path | None, typer.Option("--out", help="File to write.", show_default="NAME-TRIAL.safetensors")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file of --out.")] = False,
    store: Store,
    as_json: JsonOption = False,
) -> None:
    """Write the network of a trial to a file, if the study has kept it.

    `sweeps status NAME` lists what is kept. From Python, `resnet_core.load_model(FILE)` reads it, ready to predict.
    """
    from resnet_core.network_file import SUFFIX, NetworkFileError, read_about
    from sweeps.inspection.kept_networks import find_kept, size_text
    from sweeps.ledger.ledger import Ledger

    home = store.open()
    found = find_kept(home, Ledger.read(home.ledger_uri, name), trial)
    path = out or Path(f"{name}-{found.trial}{SUFFIX}")
    if path.suffix != SUFFIX:
        raise InputError(f"--out {path}: expected a name that ends in {SUFFIX}")
    if path.exists() and not force:
        raise InputError(f"--out {path}: it is there; --force replaces it")
    with writing("--out", path):
        check_target(path)
    try:
        about, content = read_about(found.path), found.path.read_bytes()
    except (NetworkFileError, OSError) as error:
        raise SweepError(f"the network of trial {found.trial} cannot be read: {error}") from error
    with writing("--out", path):
        write_whole(path, content)
    if as_json:
        print_json({"file": str(path), "bytes": len(content), **asdict(about)})
        return
    value = "" if about.metric not in about.metrics else f", {about.metric} {metric_text(about.metric, about.value)}"
    print_message(f"trial {found.trial} of {name}, after epoch {about.epoch}{value}; {size_text(len(content))}")
    print_result(path)


@command()
def export(
    name: NameArgument,
    *,
    tensorboard: Annotated[
        Path | None, typer.Option("--tensorboard", help="Folder for TensorBoard's event files.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="File for a recording, which `simulate --from` reads: NAME.jsonl.gz.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file of --out.")] = False,
    store: Store,
) -> None:
    """Write a study's curves to a file or for TensorBoard.

    --out writes a recording, whose curves `simulate` can use; --tensorboard writes a folder for each trial.
    """
    if tensorboard is None and out is None:
        raise InputError("expected --out FILE.jsonl.gz, --tensorboard FOLDER, or both")
    if force and out is None:
        raise InputError("--force: expected with --out; what --tensorboard wrote is replaced without it")
    if out is not None:
        _write_recording(store.open(), name, out, force)
    if tensorboard is not None:
        _write_events(store.results(name), tensorboard)


def _write_recording(home: Home, name: str, out: Path, force: bool) -> None:
    from sweeps.simulation import recordings

    if not out.name.endswith(recordings.SUFFIX):
        raise InputError(f"--out {out}: expected a name that ends in {recordings.SUFFIX}")
    if out.exists() and not force:
        raise InputError(f"--out {out}: it is there; --force replaces it")
    with writing("--out", out):
        check_target(out)
    recording = recordings.of_study(home, name)
    with writing("--out", out):
        recordings.write(recording, out)
    left = f"; {recording.running} that run are not in it" if recording.running else ""
    print_message(f"{len(recording.trials)} trials recorded{left}; simulate on them with")
    print_result(f"sweeps simulate STUDY --from {out}")


def _write_events(study: Study, folder: Path) -> None:
    from sweeps.tracking.tensorboard import write_events

    try:
        trials = write_events(study, folder)
    except ModuleNotFoundError as error:
        raise InputError(f"--tensorboard: {error.name} is not installed; pip install tensorboard") from error
    except OSError as error:
        raise InputError(f"--tensorboard {folder}: {error.strerror or error}") from error
    print_message(f"curves of {trials} trials written; look at them with")
    print_result(f"tensorboard --logdir {folder}")


@command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="JSON lines, CSV, or a folder of TensorBoard's event files.")],
    *,
    name: Annotated[str, typer.Option("--name", help="Name of the study to make.")],
    study: Annotated[
        str, typer.Option("--study", help="Study file with the [train] and [objective] of all trials.")
    ] = "",
    changes: Annotated[
        list[str],
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="A setting of all trials, such as train.weight_decay=0.1.",
            default_factory=list,
            show_default=False,
        ),
    ],
    metric: Annotated[
        list[str],
        typer.Option(
            "--metric",
            metavar="NAME=COLUMN",
            help="Column that holds a metric, the epoch or the trial.",
            default_factory=list,
            show_default=False,
        ),
    ],
    percent: Annotated[bool, typer.Option("--percent", help="Accuracies are in percent.")] = False,
    from_zero: Annotated[bool, typer.Option("--from-zero", help="Epochs count from 0.")] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Replace an earlier import of this name.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check the file and write nothing.")] = False,
    store: Store,
    as_json: JsonOption = False,
) -> None:
    """Make a study from curves that were recorded elsewhere.

    All commands that read studies can read it; it cannot be launched.
    """
    from sweeps.importing.trials import Options
    from sweeps.importing.write import prepare, write

    home = store.open()
    base = _base(study, check_name(name), changes)
    made = prepare(file, base, Options(_names(metric, base.objective.metric), percent, from_zero))
    new = not dry_run and write(home, made, replace=replace)
    done = "would be imported" if dry_run else "imported" if new else "there already, nothing was changed"
    if as_json:
        print_json({**made.to_dict(), "state": done})
        return
    print_result("\n".join(made.lines()))
    look = "" if dry_run else f"; look at them with `sweeps table {made.spec.name}`"
    print_message(f"{made.spec.name}: {done}: {len(made.trials)} trials from {made.origin.file}{look}")


def _base(study: str, name: str, changes: list[str]) -> StudySpec:
    """Return a study with the settings that all trials share."""
    from sweeps.importing.write import NO_SCHEDULE

    for change in changes:
        key = change.partition("=")[0].strip()
        if key in TRIAL_CONFIG_FIELDS:
            raise InputError(f"--set {change}: expected train.{change}")
        if key != "description" and not key.startswith(("train.", "objective.")):
            raise InputError(f"--set {change}: expected a key of [train] or [objective], or description")
    if study:
        return load_study(study, name=name, changes=changes)
    return parse_study({"name": name, "train": {"schedule": NO_SCHEDULE}}, "options", changes)


def _names(metric: list[str], sought: str) -> dict[str, str]:
    """Return the columns that --metric names, by the names of the metrics; ``sought`` is the study's metric."""
    from resnet_core.records import METRICS

    known, names = dict.fromkeys(["trial", "epoch", *METRICS, sought]), {}
    for text in metric:
        name, equals, column = (part.strip() for part in text.partition("="))
        if not equals or not column:
            raise InputError(f"--metric {text}: expected NAME=COLUMN, such as val_acc=eval/accuracy")
        if name not in known:
            raise InputError(f"--metric {text}: unknown name; {suggestion(name, known)}")
        names[name] = column
    return names
